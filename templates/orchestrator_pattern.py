"""Use when a main workflow dispatches sub-workflows: it starts them, watches, sends messages and collects results.

Each text is a task for a child, which counts its words; a last child, the review, waits for the results of the others.
What to change first: `Task`, the two children, and what the review is told.
"""

from dbos import DBOS

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

from durable_workflows import Outcome, map_runs

# On both sides of the message. A topic belongs to one run, so other files may use the same name.
RESULTS = "results"
REVIEW_SECONDS = 24 * 3600.0  # the longest that the review waits for them


class Task(TypedDict):
    """What one child does."""

    name: str
    text: str


class Result(TypedDict):
    """What came of a task: `words` or `error`; `workflow_id` is the run to inspect."""

    name: str
    workflow_id: str | None
    words: int | None
    error: str | None


class Report(TypedDict):
    """The results in the order of the tasks, the names of the failed tasks, and the review."""

    results: list[Result]
    failed: list[str]
    review: str


# Samples, so that the file runs without arguments. The last task fails; the other tasks and this workflow survive it.
SAMPLE: list[Task] = [
    {"name": "proverb", "text": "Many hands make light work."},
    {"name": "rule", "text": "Nothing recorded is lost, and nothing is done twice without need."},
    {"name": "empty", "text": ""},
]


@DBOS.workflow()
def orchestrator_pattern(tasks: list[Task] | None = None) -> Report:
    """Give each task to a child workflow, survive those that fail, and have another child review the results."""
    tasks = SAMPLE if tasks is None else tasks
    review = DBOS.start_workflow(orchestrator_pattern_review, len(tasks))
    # A run for each task. The call publishes its progress, and returns when the last run has ended, whichever failed.
    # After a crash it finds the runs that it has started. Add `concurrency=5` to have only five at a time.
    outcomes = map_runs(orchestrator_pattern_task, tasks)
    results = [result(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True)]
    DBOS.send(review.workflow_id, results, RESULTS)
    failed = [one["name"] for one in results if one["error"] is not None]
    return {"results": results, "failed": failed, "review": review.get_result()}


def result(task: Task, outcome: Outcome[int]) -> Result:
    """Return what came of a task; that its run failed or was cancelled is also a result."""
    error = None if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
    run = outcome.workflow_id
    return {"name": task["name"], "workflow_id": run, "words": outcome.output, "error": error}


@DBOS.workflow()
def orchestrator_pattern_task(task: Task) -> int:
    """Do one task. It may have many steps, and children of its own."""
    return count_words(task["text"])


@DBOS.step()
def count_words(text: str) -> int:
    """The place for real work. A step runs at least once, so its work must be safe to repeat."""
    if not text.strip():
        raise ValueError("there is no text to count")
    return len(text.split())


@DBOS.workflow()
def orchestrator_pattern_review(expected: int) -> str:
    """Review the results when the main workflow sends them; work that needs no results can be done before."""
    results: list[Result] | None = DBOS.recv(RESULTS, timeout_seconds=REVIEW_SECONDS)
    if results is None:
        raise TimeoutError("The main workflow sent no results.")
    counted = {one["name"]: one["words"] for one in results if one["words"]}
    longest = max(counted, key=lambda name: counted[name] or 0, default="none")
    return f"{len(counted)} of {expected} tasks succeeded; the longest text is {longest}."

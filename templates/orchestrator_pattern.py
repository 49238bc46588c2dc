"""Use when a main workflow dispatches sub-workflows: it starts them, watches, sends messages and collects results.

Each text is a task for a child, which counts its words; a last child, the review, waits for the results of the others.
What to change first: `Task`, the two children, and what the review is told.
"""

from dbos import DBOS, SetWorkflowID, WorkflowHandle

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

# On both sides of the message. A topic belongs to one run, so other files may use the same name.
RESULTS = "results"
REVIEW_SECONDS = 24 * 3600.0  # the longest that the review waits for them


class Task(TypedDict):
    """What one child does; the name is part of the child's id."""

    name: str
    text: str


class Outcome(TypedDict):
    """The outcome of a child: `words` or `error`; `workflow_id` is the run to inspect."""

    name: str
    workflow_id: str
    words: int | None
    error: str | None


class Report(TypedDict):
    """The outcomes in the order of the tasks, the names of the failed tasks, and the review."""

    outcomes: list[Outcome]
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
    # The ids are made from our own id. After a crash the same starts are repeated, and find the existing children.
    with SetWorkflowID(f"{DBOS.workflow_id}-review"):
        review = DBOS.start_workflow(orchestrator_pattern_review, len(tasks))
    handles: list[WorkflowHandle[int]] = []
    for number, task in enumerate(tasks):
        with SetWorkflowID(f"{DBOS.workflow_id}-{number}-{task['name']}"):
            handles.append(DBOS.start_workflow(orchestrator_pattern_task, task))
    watch(handles)
    outcomes = [collect(task["name"], handle) for task, handle in zip(tasks, handles, strict=True)]
    DBOS.send(review.workflow_id, outcomes, RESULTS)
    failed = [outcome["name"] for outcome in outcomes if outcome["error"] is not None]
    return {"outcomes": outcomes, "failed": failed, "review": review.get_result()}


def watch(handles: list[WorkflowHandle[int]]) -> None:
    """Wait until all children have ended, and publish the progress each time that one ends."""
    running = list(handles)
    while running:
        DBOS.set_event("progress", {"running": [handle.workflow_id for handle in running]})
        # The first child to end depends on time. DBOS records which one it was, so a replay takes the same path.
        ended = DBOS.wait_first(running)
        running = [handle for handle in running if handle.workflow_id != ended.workflow_id]
    DBOS.set_event("progress", {"running": []})


def collect(name: str, handle: WorkflowHandle[int]) -> Outcome:
    """Return the outcome of a child; its failure or cancellation is also an outcome."""
    outcome: Outcome = {
        "name": name,
        "workflow_id": handle.workflow_id,
        "words": None,
        "error": None,
    }
    try:
        return {**outcome, "words": handle.get_result()}
    except Exception as error:  # noqa: BLE001 - whatever a child fails with is its result
        return {**outcome, "error": f"{type(error).__name__}: {error}"}


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
    outcomes: list[Outcome] | None = DBOS.recv(RESULTS, timeout_seconds=REVIEW_SECONDS)
    if outcomes is None:
        raise TimeoutError("The main workflow sent no results.")
    counted = {outcome["name"]: outcome["words"] for outcome in outcomes if outcome["words"]}
    longest = max(counted, key=lambda name: counted[name] or 0, default="none")
    return f"{len(counted)} of {expected} tasks succeeded; the longest text is {longest}."

"""One registered workflow over a list of arguments, as one durable workflow."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired, cast

from dbos import DBOS, StepOptions, WorkflowHandleAsync, WorkflowStatus
from pydantic import Field, JsonValue

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
# DBOS itself needs typing_extensions, so it is there wherever a workflow runs.
from typing_extensions import TypedDict

from durable_workflows import authoring

_MOST_ITEMS = 10_000
_MOST_AT_ONCE = 500
_LOOK_SECONDS = 0.2
_SHOWN_PROBLEMS = 3
# The outputs in the result share this, and so do the messages of errors, so the result stays below 3 MB.
_RESULT_CHARACTERS = 400_000
_LEAST_CHARACTERS = 100
_MOST_CHARACTERS = 100_000
_PROGRESS_PARTS = 100

# With retries, since DBOS gives up on queries that take long on a busy database.
_COLLECT: StepOptions = {"name": "collect", "retries_allowed": True}

Arguments = authoring.Arguments
Status = Literal[
    "SUCCESS", "NOT_OK", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "NOT_STARTED"
]


class Result(authoring.Returned):
    """The outcome of an item. A long `output` is replaced by its beginning and its length."""

    status: Status
    workflow_id: NotRequired[str]


class Ended(TypedDict):
    """A run that has ended; with `error`, unless it succeeded."""

    result: Result
    error: NotRequired[authoring.Problem]


class Failure(TypedDict):
    """An item whose run did not succeed. `index` counts from 0."""

    index: int
    workflow_id: str
    status: Status
    error: authoring.Problem


class Report(TypedDict):
    """The result of the workflow."""

    ok: bool
    succeeded: int
    failed: int
    not_started: int
    failures: list[Failure]
    results: list[Result]


# --- The arguments


Name = Annotated[
    str, Field(description="The name of the workflow to run, as workflow_catalog shows it.")
]
Items = Annotated[
    list[Arguments],
    Field(
        max_length=_MOST_ITEMS,
        description='One run for each item. An item is the arguments of its run, for example {"path": "a.txt"}.',
    ),
]
Common = Annotated[
    Arguments | None,
    Field(description="Arguments that all runs get. Those of an item go before them."),
]
Concurrency = Annotated[
    int, Field(ge=1, le=_MOST_AT_ONCE, description="How many runs may be under way at once.")
]
Timeout = Annotated[
    float | None,
    Field(gt=0, description="A run that takes longer is cancelled. Default: no limit."),
]
StopOnFailure = Annotated[
    bool,
    Field(
        description="Start no more runs once one has failed; those under way go on to their ends."
    ),
]


@DBOS.workflow(name="fan_out")
async def fan_out(
    workflow: Name,
    items: Items,
    common: Common = None,
    concurrency: Concurrency = 10,
    timeout_seconds: Timeout = None,
    stop_on_failure: StopOnFailure = False,
) -> Report:
    """Run one workflow for each item of a list, some at a time: for the same work on many files, ids, questions.

    Returns:
        `{ok, succeeded, failed, not_started, failures, results}`. A failed run is a result, not an error of
        this workflow, which ends as SUCCESS with `ok` false; the other runs continue.
        - `failures`: for each run that did not succeed `index` (of its item, from 0), `workflow_id`,
          `status`, and `error` with `name` (its class) and `message`.
        - `results`: for each item, in order, `status`, `workflow_id` and, if it returned, `output`.
          Outputs share 400,000 characters, with at least 100 for each. `output_start` and `output_characters`
          (the whole length) replace a longer output, which is complete in its own run (`inspect`).
        - `status` is the status of the run, or "NOT_OK": the run returned an object with `ok` false, as
          run_commands does when a command failed. That is a failure too. "NOT_STARTED": see `stop_on_failure`.

    Raises:
        UnknownWorkflow, InvalidArguments: before anything has started; the message names the items.

    Each item has a run of its own, with the workflow_id `<this run's>-<index>`, on the same version of the
    code. To cancel all runs, cancel this one with `children=true`; to continue, resume it with
    `children=true`. The event `progress` has `{total, succeeded, failed, running}`.

    Current runs take no place in the queue "workflows", so fan_outs inside fan_outs cannot block each
    other. `concurrency` limits them; nested, the limits multiply.

    On a crash: started runs continue by themselves and are not started again.
    """
    function = _registered(workflow)
    common = common or {}
    given: dict[str, JsonValue] = {"workflow": workflow, "concurrency": concurrency}
    given |= {"common": common, "timeout_seconds": timeout_seconds}
    await DBOS.run_step_async({"name": "check_items"}, _check, function, given, items)
    work = _Work(len(items))
    while work.running or work.waiting:
        while work.waiting and len(work.running) < concurrency:
            index = work.waiting.popleft()
            workflow_id = f"{DBOS.workflow_id}-{index}"
            args = common | items[index]
            handle = await authoring.start_child(
                workflow, function, workflow_id, args, timeout_seconds=timeout_seconds
            )
            work.running[handle.workflow_id] = (index, handle)
        await _collect(work)
        if stop_on_failure and work.failures:
            work.waiting.clear()
    return work.report()


class _Work:
    """The state of the runs. It follows only from the arguments and recorded steps."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.waiting = deque(range(total))
        self.running: dict[str, tuple[int, WorkflowHandleAsync[Any]]] = {}
        self.results: list[Result] = [{"status": "NOT_STARTED"} for _ in range(total)]
        self.failures: list[Failure] = []
        self._told = 0

    @property
    def share(self) -> int:
        """The number of characters of an output, and of an error, that go into the result."""
        share = _RESULT_CHARACTERS // max(self.total, 1)
        return min(max(share, _LEAST_CHARACTERS), _MOST_CHARACTERS)

    def note(self, workflow_id: str, ended: Ended) -> None:
        """Note the outcome of a run."""
        index, _ = self.running.pop(workflow_id)
        self.results[index] = ended["result"]
        if "error" in ended:
            failure: Failure = {
                "index": index,
                "workflow_id": workflow_id,
                "status": ended["result"]["status"],
                "error": ended["error"],
            }
            self.failures.append(failure)

    def has_news(self) -> bool:
        """Whether another hundredth is done, or all. The event is set only then, not for each run."""
        done = self.total - len(self.waiting) - len(self.running)
        part = done * _PROGRESS_PARTS // self.total
        told, self._told = self._told, part
        return part > told

    def progress(self) -> dict[str, int]:
        counts = Counter(result["status"] for result in self.results)
        return {
            "total": self.total,
            "succeeded": counts["SUCCESS"],
            "failed": len(self.failures),
            "running": len(self.running),
        }

    def report(self) -> Report:
        counts = Counter(result["status"] for result in self.results)
        return {
            "ok": counts["SUCCESS"] == self.total,
            "succeeded": counts["SUCCESS"],
            "failed": len(self.failures),
            "not_started": counts["NOT_STARTED"],
            "failures": sorted(self.failures, key=lambda failure: failure["index"]),
            "results": self.results,
        }


async def _collect(work: _Work) -> None:
    """Wait until at least one run has ended, and note all ended runs."""
    handles = [handle for _, handle in work.running.values()]
    await DBOS.wait_first_async(handles, polling_interval_sec=_LOOK_SECONDS)
    workflow_ids = list(work.running)
    ended = await DBOS.run_step_async(_COLLECT, _ended, workflow_ids, work.share)
    for workflow_id, one in ended.items():
        work.note(workflow_id, one)
    if work.has_news():
        await DBOS.set_event_async("progress", work.progress())


# --- Starting runs by name


def _registered(workflow: str) -> Callable[..., Any]:
    """The function of that name. The same version of the code has the same names, so a replay finds it too."""
    known = authoring.registered_workflows()
    if workflow not in known:
        guess = authoring.did_you_mean(workflow, known)
        raise authoring.UnknownWorkflow(f"There is no workflow {workflow!r}.{guess}")
    return known[workflow]


def _check(
    function: Callable[..., Any], given: Mapping[str, JsonValue], items: list[Arguments]
) -> None:
    """Raise InvalidArguments if an argument of this workflow or of a run does not fit; otherwise set up the queue."""
    authoring.argument_check("fan_out", fan_out)({**given, "items": list(items)})
    check = authoring.argument_check(str(given["workflow"]), function)
    common = given["common"]
    assert isinstance(common, dict)
    problems = [
        f"items[{index}]: {problem}"
        for index, item in enumerate(items)
        if (problem := _misfit(check, common | item)) is not None
    ]
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        rest = f" (and {more} more items)" if more > 0 else ""
        raise authoring.InvalidArguments(" ".join(problems[:_SHOWN_PROBLEMS]) + rest)
    authoring.register_child_queue()


def _misfit(check: Callable[[Arguments], None], args: Arguments) -> str | None:
    try:
        check(args)
    except authoring.InvalidArguments as problem:
        return problem.message
    return None


# --- The outcomes of runs


def _ended(workflow_ids: list[str], share: int) -> dict[str, Ended]:
    """The outcomes of the runs that have ended."""
    return {run.workflow_id: _outcome(run, share) for run in authoring.ended_children(workflow_ids)}


def _outcome(run: WorkflowStatus, share: int) -> Ended:
    status, problem = _judged(run, share)
    result: Result = {
        "status": status,
        "workflow_id": run.workflow_id,
        **authoring.returned(run, share),
    }
    return {"result": result, "error": problem} if problem else {"result": result}


def _judged(run: WorkflowStatus, share: int) -> tuple[Status, authoring.Problem | None]:
    """The status of an item, from the end of its run and the returned value."""
    if run.status != "SUCCESS":
        return cast(Status, run.status), authoring.problem_of(run, share)
    not_ok = authoring.not_ok(run, share)
    return ("NOT_OK" if not_ok else "SUCCESS"), not_ok

"""Many child runs at once: one workflow over a list, or several different workflows, with limits and what failures are tolerated.

The runs wait in a queue without a limit, and the caller starts no more than may run at once. So a caller holds no place that its runs need, and
calls inside of runs that were started so cannot block each other.
"""

import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NotRequired, TypeVar, Unpack, cast, overload

from dbos import WorkflowStatus
from pydantic import JsonValue

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

from durable_workflows.authoring.acts import (
    Acts,
    Cancel,
    Start,
    Step,
    Tell,
    WaitForEnd,
    play,
    play_async,
)
from durable_workflows.authoring.children import ended_children, register_child_queue
from durable_workflows.authoring.outcomes import NamedOutcomes, Outcome, Outcomes, OutcomeStatus
from durable_workflows.errors import InvalidArguments
from durable_workflows.seam import dbos_calls
from durable_workflows.settings import MAX_PAYLOAD_BYTES

I = TypeVar("I")  # noqa: E741 - an item
T = TypeVar("T")
_AT_ONCE = 100  # runs under way, unless the caller says how many
_PROGRESS_PARTS = 100
_ROUNDING = 1e-9  # 29 % of 100 are a little more than 29, as a float

Code = Coroutine[Any, Any, T]
Found = Outcomes[Any]
FoundByName = NamedOutcomes[Any]
OneFound = Outcome[Any]
Handles = dict[str, Any]  # of child runs, by their ids
Started = tuple[Callable[..., object], *tuple[Any, ...]]


class Collected(TypedDict):
    """What a run ended with, as it is recorded; `error` is a text that DBOS makes of an error."""

    workflow_id: str
    status: OutcomeStatus
    output: NotRequired[JsonValue]
    error: NotRequired[str]


class Limits(TypedDict, total=False):
    """How many runs are under way at once, and what failures are tolerated: see `map_runs`."""

    concurrency: int | None
    min_successful: int | None
    tolerated_failures: int | None
    tolerated_percentage: float | None
    stop_early: bool


@overload
def map_runs(
    workflow: Callable[[I], Code[T]],
    items: Iterable[I],
    **limits: Unpack[Limits],
) -> Outcomes[T]: ...
@overload
def map_runs(
    workflow: Callable[[I], T],
    items: Iterable[I],
    **limits: Unpack[Limits],
) -> Outcomes[T]: ...
def map_runs(
    workflow: Callable[..., object],
    items: Iterable[object],
    **limits: Unpack[Limits],
) -> Found:
    """Run `workflow` once for each item, as a child of this run, and return what came of each, in the order of the items.

    At most `concurrency` of them are under way at once (default: 100); the limit is this call's own. Without a policy all runs go on to their
    ends, whatever fails: see `Outcomes.ok` and `Outcomes.outputs`. A policy says when that is pointless:

    - `min_successful`: so many runs must succeed.
    - `tolerated_failures`, `tolerated_percentage`: so many runs, or percent of them, may fail.

    As soon as more runs have failed than that allows, those under way are cancelled, no more are started, and `RunsFailed` is raised. With
    `stop_early` the same happens once enough have succeeded, and the call returns: `min_successful`, or as many as must succeed.

    The event `progress` of this run has `{total, succeeded, failed, running}`. A replay starts nothing twice, and takes the same path whichever
    run ends first. Call it in the body of a workflow.

    Raises:
        RunsFailed: more runs failed than the policy allows.
        InvalidArguments: a limit is not possible, or `workflow` is not a workflow.
        UsageError: the caller is not in the body of a workflow.
    """
    calls = [Start(workflow, (item,)) for item in items]
    return Outcomes(play("map_runs", _run_all(calls, **limits)))


@overload
async def map_runs_async(
    workflow: Callable[[I], Code[T]],
    items: Iterable[I],
    **limits: Unpack[Limits],
) -> Outcomes[T]: ...
@overload
async def map_runs_async(
    workflow: Callable[[I], T],
    items: Iterable[I],
    **limits: Unpack[Limits],
) -> Outcomes[T]: ...
async def map_runs_async(
    workflow: Callable[..., object],
    items: Iterable[object],
    **limits: Unpack[Limits],
) -> Found:
    """`map_runs` for async workflows."""
    calls = [Start(workflow, (item,)) for item in items]
    return Outcomes(await play_async("map_runs_async", _run_all(calls, **limits)))


def gather_runs(
    runs: Mapping[str, Started],
    **limits: Unpack[Limits],
) -> FoundByName:
    """Run several workflows at once, as children of this run, and return what came of each by its name.

    `runs` has for each name a workflow and its arguments: `{"app": (build, "app"), "docs": (render, "docs", True)}`. All else is as in `map_runs`.
    """
    calls = [Start(workflow, tuple(args)) for workflow, *args in runs.values()]
    outcomes = play("gather_runs", _run_all(calls, **limits))
    return NamedOutcomes(dict(zip(runs, outcomes, strict=True)))


async def gather_runs_async(
    runs: Mapping[str, Started],
    **limits: Unpack[Limits],
) -> FoundByName:
    """`gather_runs` for async workflows."""
    calls = [Start(workflow, tuple(args)) for workflow, *args in runs.values()]
    outcomes = await play_async("gather_runs_async", _run_all(calls, **limits))
    return NamedOutcomes(dict(zip(runs, outcomes, strict=True)))


@dataclass(frozen=True)
class Policy:
    """How many runs may be under way, how many must succeed, how many may fail, and whether to stop once enough have succeeded."""

    concurrency: int | None = None
    min_successful: int | None = None
    tolerated_failures: int | None = None
    tolerated_percentage: float | None = None
    stop_early: bool = False

    def check(self) -> None:
        """Raise InvalidArguments for a policy that no runs can meet, or that says nothing."""
        given = (self.min_successful, self.tolerated_failures, self.tolerated_percentage)
        if any(one is not None and one < 0 for one in given):
            raise InvalidArguments("A number of runs cannot be negative.", hint=_POLICY_HINT)
        if self.tolerated_percentage is not None and self.tolerated_percentage > 100:
            raise InvalidArguments("`tolerated_percentage` is more than 100.", hint=_POLICY_HINT)
        if self.stop_early and given == (None, None, None):
            raise InvalidArguments(
                "`stop_early` is set, and nothing says when enough runs have succeeded.",
                hint="Give `min_successful`, `tolerated_failures` or `tolerated_percentage` too.",
            )

    def allowed(self, total: int) -> int:
        """How many of `total` runs may fail; below 0: more must succeed than there are."""
        allowed = [total]
        if self.min_successful is not None:
            allowed.append(total - self.min_successful)
        if self.tolerated_failures is not None:
            allowed.append(self.tolerated_failures)
        if self.tolerated_percentage is not None:
            allowed.append(math.floor(total * self.tolerated_percentage / 100 + _ROUNDING))
        return min(allowed)

    def enough(self, total: int) -> int | None:
        """How many successes end the call; None: it goes on to the last run."""
        if not self.stop_early:
            return None
        if self.min_successful is not None:
            return self.min_successful
        return total - self.allowed(total)


_POLICY_HINT = "Give a `min_successful` and `tolerated_failures` of at least 0, and a `tolerated_percentage` between 0 and 100."


@dataclass
class _Work:
    """How far the runs are. It follows only from the arguments and recorded steps."""

    calls: Sequence[Start]
    at_once: int
    allowed: int
    enough: int | None
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    handles: Handles = field(default_factory=Handles)  # of the current runs
    places: dict[str, int] = field(default_factory=dict[str, int])  # of the current runs
    outcomes: list[OneFound] = field(default_factory=list[OneFound])
    _told: int = 0

    def __post_init__(self) -> None:
        self.outcomes = [OneFound(None, "NOT_STARTED") for _ in self.calls]

    @property
    def has_failed(self) -> bool:
        """Whether more runs have failed than may."""
        return self.failed > self.allowed

    @property
    def is_decided(self) -> bool:
        """Whether no further run can change the outcome of the call."""
        return self.has_failed or (self.enough is not None and self.succeeded >= self.enough)

    @property
    def may_start(self) -> bool:
        """Whether the next run can be started."""
        room = len(self.handles) < self.at_once
        return room and self.started < len(self.calls) and not self.is_decided

    def begin(self, handle: Any) -> None:
        """Note that the next run has been started."""
        self.handles[handle.workflow_id] = handle
        self.places[handle.workflow_id] = self.started
        self.started += 1

    def end(self, collected: Iterable[Collected], *, stopping: bool = False) -> None:
        """Note runs that have ended. While stopping, a cancelled run was stopped, and has not failed."""
        for one in collected:
            run, status = one["workflow_id"], one["status"]
            del self.handles[run]
            stopped = stopping and status == "CANCELLED"
            error = dbos_calls.error_of(one["error"]) if "error" in one and not stopped else None
            outcome = OneFound(run, "STOPPED" if stopped else status, one.get("output"), error)
            self.outcomes[self.places.pop(run)] = outcome
            self.succeeded += outcome.ok
            self.failed += outcome.failed

    def has_news(self) -> bool:
        """Whether another hundredth of the runs has ended: the progress is not told for each of them."""
        ended = self.started - len(self.handles)
        part = ended * _PROGRESS_PARTS // len(self.calls)
        told, self._told = self._told, part
        return part > told

    def progress(self) -> JsonValue:
        return {
            "total": len(self.calls),
            "succeeded": self.succeeded,
            "failed": self.failed,
            "running": len(self.handles),
        }


def _run_all(calls: Sequence[Start], **limits: Unpack[Limits]) -> Acts[list[OneFound]]:
    """Run all of them; see `map_runs`."""
    policy = Policy(**limits)
    _check(calls, policy)
    at_once = _AT_ONCE if policy.concurrency is None else policy.concurrency
    work = _Work(calls, at_once, policy.allowed(len(calls)), policy.enough(len(calls)))
    if work.may_start:
        yield Step("child_queue", register_child_queue)
    while work.may_start or (work.handles and not work.is_decided):
        while work.may_start:
            work.begin((yield calls[work.started]))
        yield WaitForEnd(list(work.handles.values()))
        work.end((yield _collect(work)))
        if work.has_news():
            yield Tell(work.progress())
    # What is decided stays decided, whatever those end with that are stopped now.
    has_failed = work.has_failed
    if work.handles:
        yield from _stop(work)
    if has_failed:
        Outcomes(work.outcomes).fail()
    return work.outcomes


def _stop(work: _Work) -> Acts[None]:
    """Cancel the current runs, and note how each of them ended: some may have ended before."""
    yield Cancel(list(work.handles))
    while work.handles:
        yield WaitForEnd(list(work.handles.values()))
        work.end((yield _collect(work)), stopping=True)
    yield Tell(work.progress())


def _check(calls: Sequence[Start], policy: Policy) -> None:
    """Raise InvalidArguments before anything has started."""
    if policy.concurrency is not None and policy.concurrency < 1:
        raise InvalidArguments(
            "`concurrency` is less than 1.",
            hint="Give how many runs may be under way at once, or leave it out.",
        )
    for call in calls:
        if not dbos_calls.is_workflow(call.workflow):
            name = getattr(call.workflow, "__qualname__", repr(call.workflow))
            raise InvalidArguments(
                f"{name} is not a workflow.",
                hint="Pass a function with @DBOS.workflow(). For a step, write a workflow that calls it.",
            )
    policy.check()


def _collect(work: _Work) -> Step:
    # With retries, since DBOS gives up on queries that take long on a busy database.
    return Step("collect_runs", partial(_ended, list(work.handles)), retries=True)


def _ended(workflow_ids: Sequence[str]) -> list[Collected]:
    """The runs that have ended, as many as fit into one recorded value, and at least one of them."""
    collected: list[Collected] = []
    room = MAX_PAYLOAD_BYTES
    for run in ended_children(workflow_ids):
        one = _collected(run)
        room -= len(dbos_calls.recorded_text(one))
        if room < 0 and collected:
            break
        collected.append(one)
    return collected


def _collected(run: WorkflowStatus) -> Collected:
    status = cast("OutcomeStatus", run.status)
    one: Collected = {"workflow_id": run.workflow_id, "status": status}
    if status == "SUCCESS":
        return {**one, "output": run.output}
    return {**one, "error": dbos_calls.error_text(dbos_calls.why_ended(run))}

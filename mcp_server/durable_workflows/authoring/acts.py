"""What the helpers for authors do in a run, in one order for sync and for async workflows.

A helper is a generator: it yields what it wants done, and gets what came of it. Everything that it yields is recorded, and it decides by
nothing else; so it takes the same path on a replay.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from dbos import DBOS, WorkflowHandle, WorkflowHandleAsync
from pydantic import JsonValue

from durable_workflows.authoring.asking import Question
from durable_workflows.authoring.children import QUEUE
from durable_workflows.errors import UsageError
from durable_workflows.seam import dbos_calls
from durable_workflows.settings import FOREVER_SECONDS

T = TypeVar("T")
_MOMENT_SECONDS = 0.1
_LOOK_SECONDS = 0.2  # in addition to the worker's own news of runs that have ended


class Act(Protocol):
    """An operation that DBOS records, in both forms."""

    def run(self) -> object: ...

    async def run_async(self) -> object: ...


Acts = Generator[Act, Any, T]


def play(helper: str, acts: Acts[T]) -> T:
    """Do what the generator yields, and return what it returns.

    Raises:
        UsageError: the caller is not in the body of a workflow; `helper` is the name of what it called.
    """
    check_in_body(helper)
    came: object = None
    while True:
        try:
            act = acts.send(came)
        except StopIteration as end:
            return end.value
        came = act.run()


async def play_async(helper: str, acts: Acts[T]) -> T:
    """`play` for async workflows."""
    check_in_body(helper)
    came: object = None
    while True:
        try:
            act = acts.send(came)
        except StopIteration as end:
            return end.value
        came = await act.run_async()


def check_in_body(helper: str) -> str:
    """The id of the run in the body of whose workflow `helper` was called.

    Raises:
        UsageError: the caller is not in the body of a workflow.
    """
    run = dbos_calls.current_run()
    if run is None or run[1] is not None:
        raise UsageError(
            f"{helper} was called outside of a workflow's body.",
            hint="Call it in the workflow function itself, not in a step and not at the top of the file.",
        )
    return run[0]


@dataclass(frozen=True)
class Start:
    """Start a child run; what comes is its handle."""

    workflow: Callable[..., Any]
    args: tuple[object, ...]

    def run(self) -> object:
        return DBOS.enqueue_workflow(QUEUE, self.workflow, *self.args)

    async def run_async(self) -> object:
        return await DBOS.enqueue_workflow_async(QUEUE, self.workflow, *self.args)


@dataclass(frozen=True)
class WaitForEnd:
    """Wait until one of these runs has ended."""

    handles: Sequence[Any]

    def run(self) -> object:
        handles = cast("list[WorkflowHandle[Any]]", self.handles)
        return DBOS.wait_first(handles, polling_interval_sec=_LOOK_SECONDS)

    async def run_async(self) -> object:
        handles = cast("list[WorkflowHandleAsync[Any]]", self.handles)
        return await DBOS.wait_first_async(handles, polling_interval_sec=_LOOK_SECONDS)


@dataclass(frozen=True)
class Cancel:
    """Cancel these runs and all that they have started."""

    workflow_ids: list[str]

    def run(self) -> object:
        return DBOS.cancel_workflows(self.workflow_ids, cancel_children=True)

    async def run_async(self) -> object:
        return await DBOS.cancel_workflows_async(self.workflow_ids, cancel_children=True)


@dataclass(frozen=True)
class Tell:
    """Set the event `progress` of the run."""

    value: JsonValue

    def run(self) -> object:
        return DBOS.set_event("progress", self.value)

    async def run_async(self) -> object:
        return await DBOS.set_event_async("progress", self.value)


@dataclass(frozen=True)
class Sleep:
    """Wait that many seconds, durably."""

    seconds: float

    def run(self) -> object:
        return DBOS.sleep(self.seconds)

    async def run_async(self) -> object:
        return await DBOS.sleep_async(self.seconds)


@dataclass(frozen=True)
class Step:
    """Run a function as a step of that name; what comes is its result."""

    name: str
    function: Callable[[], object]
    retries: bool = False

    def run(self) -> object:
        options = {"name": self.name, "retries_allowed": self.retries}
        return DBOS.run_step(cast("Any", options), self.function)

    async def run_async(self) -> object:
        options = {"name": self.name, "retries_allowed": self.retries}
        return await DBOS.run_step_async(cast("Any", options), self.function)


@dataclass(frozen=True)
class Look(Step):
    """A step that asks the database, which must not keep other async runs waiting."""

    async def run_async(self) -> object:
        async def look() -> object:
            return await asyncio.to_thread(self.function)

        return await DBOS.run_step_async({"name": self.name}, look)


@dataclass(frozen=True)
class Receive:
    """Wait for a message on a topic, until that time in seconds since 1970 (None: without a limit)."""

    topic: str
    question: Question
    until: float | None

    def run(self) -> object:
        with self.question.shown():
            return DBOS.recv(self.topic, timeout_seconds=self._seconds())

    async def run_async(self) -> object:
        with self.question.shown():
            return await DBOS.recv_async(self.topic, timeout_seconds=self._seconds())

    def _seconds(self) -> float:
        """Never less than a moment: the clock of the database may be behind."""
        left = FOREVER_SECONDS if self.until is None else self.until - time.time()
        return max(left, _MOMENT_SECONDS)


@dataclass(frozen=True)
class Call:
    """Call a function that DBOS records by itself: a step or a workflow."""

    function: Callable[[], object]

    def run(self) -> object:
        return self.function()

    async def run_async(self) -> object:
        came = self.function()
        return await cast("Awaitable[object]", came) if inspect.isawaitable(came) else came


def named(function: Callable[..., object], instead: str) -> str:
    """The name of an author's function; `instead` for one without a name."""
    name = getattr(function, "__name__", instead)
    return instead if name == "<lambda>" else name


def recorded(function: Callable[[], object], name: str) -> Act:
    """The call of an author's function as DBOS records it: a step as it is, any other function as a step of that name."""
    return Call(function) if dbos_calls.is_recorded(function) else Step(name, function)

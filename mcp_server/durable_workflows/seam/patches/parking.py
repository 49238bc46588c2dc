# pyright: reportPrivateUsage=false
"""Parks runs that wait for long: the row says what the run waits for, and an exception ends its body. Later another body replays it.

A body is parked as a whole, when all of it waits. An exception, `Parked`, ends its code; from then on nothing of it is recorded,
whatever it does. In doubt a body stays in memory.
"""

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from dbos import _context as dbos_context
from dbos import _dbos as dbos_module
from dbos._utils import GlobalParams, LoopAwareEvent

from durable_workflows import fitting
from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.patches import bodies
from durable_workflows.seam.patches.bodies import Body, Condition, State, Task, Wait
from durable_workflows.settings import NEVER_PARKS

Asked = Callable[[str], Sequence[dict[str, object]]]

_SHORT_SECONDS = 0.3  # how long a wait lasts before it is parked while places are short
_SHORT = 0.7  # of the places
_SECONDS_PER_STEP = (
    0.001  # for each recorded step a run waits longer in memory: ten times what its replay takes
)
_FAR_SECONDS = 60.0  # a shorter wait stays in memory
_FAR_WHEN_SHORT = 10.0
_AGAIN_SECONDS = 15.0  # until another look at a body that could not be parked
_BUSY_SECONDS = 1.0
_LOOP_SECONDS = 5.0  # how long to wait for a loop that is blocked by the author's code
_LEAVING_SECONDS = 5.0  # how long to wait for code that catches everything
_AT_ONCE = 500
# The waits of `asyncio` that are only for tasks.
_WAITS_FOR_TASKS = ("_wait", "TaskGroup.__aexit__")
_PARK = "SELECT workflow_id, verdict FROM {own}.park(%(rows)s::json)"

logger = logging.getLogger(__name__)


class Parked(BaseException):
    """Ends the code of a run that is parked. Workflow code must let it pass."""


class Parking:
    """Parks the bodies of this process, as `parkable_waits` reports them. `keep_parking` is the work of a thread."""

    def __init__(
        self,
        schema: str,
        places: int,
        after_seconds: float,
        asked: Asked,
        left: Callable[[], object],
    ) -> None:
        """`asked` gives the open questions of a run, as rows of `note_waits`. `left` is called when the code of a parked run has ended.

        After that the run may be claimed here again. 0 seconds: no run is parked.
        """
        self._statement = _PARK.replace("{own}", statements.quoted(schema))
        self._places = places
        self._after_seconds = after_seconds
        self._asked = asked
        self._left = left
        self._changed = threading.Condition()
        self._looks: dict[Body, float] = {}  # when to look at a body, by the monotonic clock
        self._sleeps_until = float("inf")  # the thread that looks
        self._leaving: dict[str, float] = {}  # since when the code of a parked run is ending

    def keep_parking(self) -> None:
        """Park bodies that have waited long enough, forever."""
        while True:
            with self._changed:
                while (seconds := self._until_next_look()) > 0:
                    self._changed.wait(None if seconds == float("inf") else seconds)
                now = time.monotonic()
                due = [body for body, at in self._looks.items() if at <= now][:_AT_ONCE]
                for body in due:
                    self._looks[body] = now + _AGAIN_SECONDS
            if chosen := self._choose(due):
                self._park(chosen)

    def leaving(self) -> list[str]:
        """The parked runs whose code is still ending, though not for long."""
        with self._changed:
            late = time.monotonic() - _LEAVING_SECONDS
            return [run for run, since in self._leaving.items() if since > late]

    # Waits

    @contextmanager
    def waiting(self, conditions: Sequence[Condition], body: Body | None) -> Generator["Waiting"]:
        """Surrounds a wait in the code of a body, which begins with `Waiting.begin`. None: it is in no body that could be parked."""
        waiting = Waiting(self, body, conditions)
        try:
            yield waiting
        finally:
            waiting.drop()

    def add(self, body: Body, wait: Wait) -> None:
        """A wait of the body begins."""
        with self._changed:
            body.waits.add(wait)
            if self._after_seconds:
                steps = body.context.function_id * _SECONDS_PER_STEP
                seconds = _SHORT_SECONDS if self._is_short() else self._after_seconds + steps
                self._look_at(body, time.monotonic() + seconds)

    def remove(self, body: Body, wait: Wait) -> None:
        """A wait of the body is over."""
        with self._changed:
            body.waits.discard(wait)
            if not body.waits:
                self._looks.pop(body, None)

    def state_of(self, body: Body, leaving: Wait | None = None) -> State:
        """The state of a body; an active body leaves that wait."""
        with self._changed:
            if leaving is not None and body.state is State.ACTIVE:
                self.remove(body, leaving)
            return body.state

    # Deciding

    def _look_at(self, body: Body, at: float) -> None:
        """Wake the thread only for a look that is due before its next look. For most waits it is not."""
        self._looks[body] = at
        if at < self._sleeps_until:
            self._changed.notify_all()

    def _until_next_look(self) -> float:
        self._sleeps_until = min(self._looks.values(), default=float("inf"))
        return self._sleeps_until - time.monotonic()

    def _is_short(self) -> bool:
        return len(dbos_calls.instance()._active_workflows_set._m) > _SHORT * self._places

    def _choose(self, due: Iterable[Body]) -> list[Body]:
        """The bodies that may be parked; they are PARKING now.

        An async body is checked in its loop, where none of its code runs meanwhile.
        """
        chosen: list[Body] = []
        looks: list[_Look] = []
        for body in due:
            if body.loop is None:
                chosen += self._try(body)
            else:
                looks.append(_Look())
                body.loop.call_soon_threadsafe(self._look, body, looks[-1])
        deadline = time.monotonic() + _LOOP_SECONDS
        for look in looks:
            look.done.wait(max(deadline - time.monotonic(), 0.0))
            with self._changed:
                chosen += look.found
                look.is_late = True
        return chosen

    def _look(self, body: Body, look: "_Look") -> None:
        with self._changed:
            if not look.is_late:
                look.found += self._try(body)
        look.done.set()

    def _try(self, body: Body) -> list[Body]:
        with self._changed:
            if not self._may_park(body):
                return []
            body.state = State.PARKING
            body.decided.clear()
            return [body]

    def _may_park(self, body: Body) -> bool:
        if body.state is not State.ACTIVE or body.steps or not body.waits:
            return False
        if body.context.owner_xid is None or _never_parks(body.name):
            return False
        deadlines = [wait.deadline for wait in body.waits if wait.deadline is not None]
        if (own := body.context.workflow_deadline_epoch_ms) is not None:
            deadlines.append(own / 1000)
        far = _FAR_WHEN_SHORT if self._is_short() else _FAR_SECONDS
        if min(deadlines, default=float("inf")) - time.time() < far:
            return False
        if body.loop is None:
            return len(body.waits) == 1 and next(iter(body.waits)).thread == body.thread
        return _only_waits(body, body.loop)

    # Parking

    def _park(self, chosen: Sequence[Body]) -> None:
        try:
            entries = fitting.json_text([self._entry(body) for body in chosen])
            values = {"rows": entries}
            rows = statements.certainly(dbos_calls.system_database(), self._statement, values)
            verdicts = {row[0]: row[1] for row in rows}
        except Exception:
            logger.exception("Runs that wait were not parked.")
            verdicts = dict[str, str]()
        with self._changed:
            for body in chosen:
                self._decide(body, verdicts.get(body.workflow_id, "busy"))

    def _entry(self, body: Body) -> dict[str, object]:
        conditions = {condition for wait in body.waits for condition in wait.conditions}
        deadlines = [wait.deadline for wait in body.waits if wait.deadline is not None]
        return {
            "run_id": body.workflow_id,
            "owner": body.context.owner_xid,
            "version": GlobalParams.app_version,
            "muted_below": min(wait.muted_below for wait in body.waits),
            "due": min(deadlines, default=None),
            "waits_for": [condition._asdict() for condition in conditions],
            "asked": list(self._asked(body.workflow_id)),
        }

    def _decide(self, body: Body, verdict: str) -> None:
        if verdict in ("parked", "lost"):  # it has another execution, or will have one
            body.state = State.PARKED
            self._looks.pop(body, None)
            self._leaving[body.workflow_id] = time.monotonic()
        else:
            body.state = State.ACTIVE
        if verdict == "busy":
            self._looks[body] = time.monotonic() + _BUSY_SECONDS
        body.decided.set()
        if verdict != "busy":
            for wait in body.waits:
                wait.event.set()

    # Reports about bodies

    def operation_begins(self, body: Body, *, is_step: bool) -> None:
        """A step of a body begins, or an operation that dbos counts as a step.

        Raises:
            Parked: it may not begin, since the run is parked.
        """
        while True:
            with self._changed:
                refuse(body.workflow_id)
                if body.state is State.ACTIVE:
                    body.steps += is_step
                    return
            body.decided.wait()

    def step_ended(self, body: Body) -> None:
        """A reported step has ended."""
        self._count_step(body, -1)

    @contextmanager
    def aside(self, body: Body | None) -> Generator[None]:
        """Surrounds a wait inside a step: the step does not keep its body from being parked."""
        self._count_step(body, -1)
        try:
            yield
        finally:
            self._count_step(body, 1)

    def _count_step(self, body: Body | None, more: int) -> None:
        with self._changed:
            if body is not None:
                body.steps += more

    def left(self, body: Body) -> None:
        """The code of a body has ended."""
        with self._changed:
            self._looks.pop(body, None)
        if body.state is State.PARKED:
            self.has_left(body.workflow_id)

    def has_left(self, workflow_id: str) -> None:
        """The code of a parked run has ended. If it was called like a function, its caller may continue."""
        with self._changed:
            self._leaving.pop(workflow_id, None)
        self._left()


@dataclass
class _Look:
    """A look at a body in its loop."""

    done: threading.Event = field(default_factory=threading.Event)
    found: list[Body] = field(default_factory=list[Body])
    is_late: bool = False  # its outcome is no longer awaited


class Waiting:
    """A wait of a body, in which the body may be parked. Without a body nothing happens."""

    def __init__(
        self, parking: Parking, body: Body | None, conditions: Sequence[Condition]
    ) -> None:
        self._parking = parking
        self._body = body
        self._conditions = conditions
        self._thread, self._task = threading.get_ident(), bodies.current_task()
        self._wait: Wait | None = None

    def begin(
        self, event: LoopAwareEvent, deadline: float | None, *, muted_below: int | None = None
    ) -> None:
        """Begin the wait. `event` wakes it; by default the next operation of the body is its next step."""
        body = self._body
        if body is None:
            return
        if muted_below is None:  # a caller of a workflow already has the number of its next step
            muted_below = body.context.function_id + (body is bodies.current())
        self._wait = Wait(self._conditions, event, deadline, muted_below, self._thread, self._task)
        self._parking.add(body, self._wait)

    def check(self) -> None:
        """Return if the body continues, when that is decided.

        Raises:
            Parked: it does not continue.
        """
        self._until_decided(None)

    def end(self) -> None:
        """As `check`; the body continues, and waits no longer."""
        self._until_decided(self._wait)
        self._wait = None

    async def check_async(self) -> None:
        """As `check`."""
        await self._until_decided_async(None)

    async def end_async(self) -> None:
        """As `end`."""
        await self._until_decided_async(self._wait)
        self._wait = None

    def drop(self) -> None:
        """End the wait, whatever the reason."""
        if self._body is not None and self._wait is not None:
            self._parking.remove(self._body, self._wait)

    def _until_decided(self, leaving: Wait | None) -> None:
        body = self._body
        while body is not None and self._is_undecided(body, leaving):
            body.decided.wait()

    async def _until_decided_async(self, leaving: Wait | None) -> None:
        body = self._body
        while body is not None and self._is_undecided(body, leaving):
            await body.decided.wait_async(_AGAIN_SECONDS)

    def _is_undecided(self, body: Body, leaving: Wait | None) -> bool:
        state = self._parking.state_of(body, leaving)
        if state is State.PARKED:
            raise Parked(body.workflow_id)
        return state is State.PARKING


def refuse(workflow_id: str) -> None:
    """Call this before any operation of a body of the run.

    Raises:
        Parked: it is parked.
    """
    body = bodies.of_run(workflow_id)
    if body is not None and body.state is State.PARKED:
        raise Parked(workflow_id)


def waiting_body(target: str | None = None) -> Body | None:
    """The body that waits if the caller waits; None: none that could be parked.

    A body that is called like a function waits for its own end, `target`, in place of its caller.
    """
    context, body = dbos_context.get_local_dbos_context(), bodies.current()
    if context is None or body is None or bodies.IN_STEP.get():
        return None
    if context.workflow_id != body.workflow_id:
        return None
    return body.outer if body.workflow_id == target else body


def parked_in(error: BaseException) -> Parked | None:
    """The `Parked` that an error is, or that a group of errors contains."""
    if isinstance(error, Parked):
        return error
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((found for part in parts if (found := parked_in(part))), None)
    return None


def _never_parks(name: str) -> bool:
    function = dbos_module._get_or_create_dbos_registry().workflow_info_map.get(name)
    return function is not None and hasattr(inspect.unwrap(function), NEVER_PARKS)


def _only_waits(body: Body, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether all of an async body waits.

    Call it in the body's loop. A body with a timer of its own does not count: the timer would be lost.
    """
    timers: Iterable[asyncio.TimerHandle] | None = getattr(loop, "_scheduled", None)
    if timers is None or loop.get_task_factory() is not bodies.made_task:
        return False
    waiting = {wait.task for wait in body.waits}
    tasks = [task for task in body.tasks if not task.done()]
    return all(task in waiting or _awaits_tasks(task, body.tasks) for task in tasks) and not any(
        _is_own_timer(timer, body) for timer in timers
    )


def _awaits_tasks(task: Task, tasks: set[Task]) -> bool:
    """Whether the task awaits only tasks of this set."""
    future: object = getattr(task, "_fut_waiter", None)
    if isinstance(future, asyncio.Task):
        return future in tasks
    parts: Sequence[asyncio.Future[Any]] | None = getattr(future, "_children", None)
    if parts is not None:  # of asyncio.gather
        return all(part.done() or part in tasks for part in parts)
    code: object = task.get_coro()
    while inspect.iscoroutine(code) and inspect.iscoroutine(code.cr_await):
        code = code.cr_await
    return (
        future is not None
        and inspect.iscoroutine(code)
        and code.cr_code.co_qualname in _WAITS_FOR_TASKS
    )


def _is_own_timer(timer: asyncio.TimerHandle, body: Body) -> bool:
    callback: object = getattr(timer, "_callback", None)
    if timer.cancelled() or getattr(callback, "__func__", callback) is LoopAwareEvent._resolve:
        return False
    context: Any = getattr(timer, "_context", None)
    return context is not None and bodies.current_in(context) is body

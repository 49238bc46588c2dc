# pyright: reportPrivateUsage=false
"""A run that waits for long is parked: its row says what it waits for, and its body is left. When that is there, another body replays it.

A body is parked as a whole, when all of it waits. Its code is left by an exception, `Parked`; from then on nothing of it is recorded,
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
from dbos._sys_db import SystemDatabase, db_retry
from dbos._utils import GlobalParams, LoopAwareEvent

from durable_workflows import fitting
from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.patches import bodies
from durable_workflows.seam.patches.bodies import Body, Condition, State, Task, Wait
from durable_workflows.settings import NEVER_PARKS

Asked = Callable[[str], Sequence[dict[str, object]]]

_SHORT_SECONDS = 0.3  # how long a wait lasts before it is parked, while places are short
_SHORT = 0.7  # of the places
_FAR_SECONDS = 60.0  # a wait that ends sooner stays in memory
_FAR_WHEN_SHORT = 10.0
_AGAIN_SECONDS = 15.0  # until a body is looked at again that could not be parked
_BUSY_SECONDS = 1.0
_LOOP_SECONDS = 5.0  # for which a loop that is blocked by somebody's code is waited for
_LEAVING_SECONDS = 5.0  # code that catches everything is not waited for longer
_AT_ONCE = 500
# What `asyncio` waits in for tasks alone.
_WAITS_FOR_TASKS = ("_wait", "TaskGroup.__aexit__")
_PARK = "SELECT workflow_id, verdict FROM {own}.park(%(rows)s::json)"

logger = logging.getLogger(__name__)


class Parked(BaseException):
    """Leaves the code of a run that is parked. Workflow code must let it pass."""


class Parking:
    """Parks the bodies of this process, of which `parkable_waits` tells it. `keep_parking` is a thread's work."""

    def __init__(
        self,
        schema: str,
        places: int,
        after_seconds: float,
        asked: Asked,
        left: Callable[[], object],
    ) -> None:
        """`asked` gives what a run asks now, as rows of `note_waits`; `left` is called when the code of a parked run has been left: it may be claimed here again. 0 seconds: nothing is parked."""
        self._statement = _PARK.replace("{own}", statements.quoted(schema))
        self._places = places
        self._after_seconds = after_seconds
        self._asked = asked
        self._left = left
        self._changed = threading.Condition()
        self._looks: dict[Body, float] = {}  # when to look at a body, by the monotonic clock
        self._sleeps_until = float("inf")  # the thread that looks
        self._leaving: dict[str, float] = {}  # since when the code of a parked run is being left

    def keep_parking(self) -> None:
        """Park bodies when they have waited for long enough, for ever."""
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
        """The parked runs whose code is still being left, though not for long."""
        with self._changed:
            late = time.monotonic() - _LEAVING_SECONDS
            return [run for run, since in self._leaving.items() if since > late]

    # Waits

    @contextmanager
    def waiting(self, conditions: Sequence[Condition], body: Body | None) -> Generator["Waiting"]:
        """Around a wait in the code of a body, which begins with `Waiting.begin`. None: of no body that could be parked."""
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
                seconds = _SHORT_SECONDS if self._is_short() else self._after_seconds
                self._look_at(body, time.monotonic() + seconds)

    def remove(self, body: Body, wait: Wait) -> None:
        """A wait of the body is over."""
        with self._changed:
            body.waits.discard(wait)
            if not body.waits:
                self._looks.pop(body, None)

    def state_of(self, body: Body, leaving: Wait | None = None) -> State:
        """The state of a body; if it is active, it leaves that wait."""
        with self._changed:
            if leaving is not None and body.state is State.ACTIVE:
                self.remove(body, leaving)
            return body.state

    # Deciding

    def _look_at(self, body: Body, at: float) -> None:
        """Wake the thread only for a look that is due before its next one: for most waits it is not."""
        self._looks[body] = at
        if at < self._sleeps_until:
            self._changed.notify_all()

    def _until_next_look(self) -> float:
        self._sleeps_until = min(self._looks.values(), default=float("inf"))
        return self._sleeps_until - time.monotonic()

    def _is_short(self) -> bool:
        return len(dbos_calls.instance()._active_workflows_set._m) > _SHORT * self._places

    def _choose(self, due: Iterable[Body]) -> list[Body]:
        """Those that may be parked; they are PARKING now. Those that are async are looked at in their loop, where nothing of them runs meanwhile."""
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
            verdicts = dict(_ask(dbos_calls.system_database(), self._statement, entries))
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

    # Told of bodies

    def operation_begins(self, body: Body, *, is_step: bool) -> None:
        """A step of a body begins, or what is one to dbos.

        Raises:
            Parked: it may not, since the run is parked.
        """
        while True:
            with self._changed:
                refuse(body.workflow_id)
                if body.state is State.ACTIVE:
                    body.steps += is_step
                    return
            body.decided.wait()

    def step_ended(self, body: Body) -> None:
        """A step has ended of which it was told."""
        with self._changed:
            body.steps -= 1

    def left(self, body: Body) -> None:
        """The code of a body has been left."""
        with self._changed:
            self._looks.pop(body, None)
        if body.state is State.PARKED:
            self.has_left(body.workflow_id)

    def has_left(self, workflow_id: str) -> None:
        """The code of a parked run has been left; its caller's, if it was called like a function, may go on."""
        with self._changed:
            self._leaving.pop(workflow_id, None)
        self._left()


@dataclass
class _Look:
    """A look at a body in its loop."""

    done: threading.Event = field(default_factory=threading.Event)
    found: list[Body] = field(default_factory=list[Body])
    is_late: bool = False  # its outcome is no longer waited for


class Waiting:
    """A wait of a body, which may be parked in it; without a body nothing of it is."""

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
        """The wait begins. `event` wakes it; by default what the body does next is its next step."""
        body = self._body
        if body is None:
            return
        if muted_below is None:  # a caller of a workflow has the number of its next step already
            muted_below = body.context.function_id + (body is bodies.current())
        self._wait = Wait(self._conditions, event, deadline, muted_below, self._thread, self._task)
        self._parking.add(body, self._wait)

    def check(self) -> None:
        """Return if the body goes on, once that is decided.

        Raises:
            Parked: it does not.
        """
        self._until_decided(None)

    def end(self) -> None:
        """As `check`; it goes on, and waits no longer."""
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
        """It waits no longer, however that came."""
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
    """To be called before anything that a body of the run does.

    Raises:
        Parked: it is parked.
    """
    body = bodies.of_run(workflow_id)
    if body is not None and body.state is State.PARKED:
        raise Parked(workflow_id)


def waiting_body(target: str | None = None) -> Body | None:
    """The body that waits if the caller does. One that is called like a function waits for its own end, `target`, in place of its caller. None: none that could be parked."""
    context, body = dbos_context.get_local_dbos_context(), bodies.current()
    if context is None or body is None or bodies.IN_STEP.get():
        return None
    if context.workflow_id != body.workflow_id:
        return None
    return body.outer if body.workflow_id == target else body


def parked_in(error: BaseException) -> Parked | None:
    """The `Parked` that an error is, or a group of errors has."""
    if isinstance(error, Parked):
        return error
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((found for part in parts if (found := parked_in(part))), None)
    return None


@db_retry()
def _ask(database: SystemDatabase, statement: str, rows: str) -> Sequence[tuple[str, str]]:
    return [(row[0], row[1]) for row in statements.run(database, statement, {"rows": rows})]


def _never_parks(name: str) -> bool:
    function = dbos_module._get_or_create_dbos_registry().workflow_info_map.get(name)
    return function is not None and hasattr(inspect.unwrap(function), NEVER_PARKS)


def _only_waits(body: Body, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether all of an async body waits, to be asked in its loop. Not a body with a timer of its own, which would be lost."""
    timers: Iterable[asyncio.TimerHandle] | None = getattr(loop, "_scheduled", None)
    if timers is None or loop.get_task_factory() is not bodies.made_task:
        return False
    waiting = {wait.task for wait in body.waits}
    tasks = [task for task in body.tasks if not task.done()]
    return all(task in waiting or _awaits_tasks(task, body.tasks) for task in tasks) and not any(
        _is_own_timer(timer, body) for timer in timers
    )


def _awaits_tasks(task: Task, tasks: set[Task]) -> bool:
    """Whether the task awaits tasks of these alone."""
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

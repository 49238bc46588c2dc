# pyright: reportPrivateUsage=false
"""Reports dbos's waits to `parking`, and stops operations of a parked body. `executions` reports sleeps, and waits for the ends of runs."""

import functools
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol, TypeVar, cast

from dbos import DBOS
from dbos import _context as dbos_context
from dbos import _core as dbos_core
from dbos._outcome import DeferredResult
from dbos._sys_db import (
    EventSetupResult,
    GetEventWorkflowContext,
    SystemDatabase,
    WorkflowStatusInternal,
    _dbos_null_topic,
)

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches import bodies
from durable_workflows.seam.patches.bodies import Condition
from durable_workflows.seam.patches.parking import (
    Parked,
    Parking,
    Waiting,
    refuse,
    waiting_body,
)
from durable_workflows.seam.patches.replacing import replace

T = TypeVar("T")


def install(parking: Parking) -> None:
    """Change dbos for this process. Call it once, before `DBOS.launch()`, and after `messages.take_answers_of_people`."""
    bodies.install(parking.left)
    _refuse_parked(parking)
    _refuse_outcomes()
    _follow_messages(parking)
    _follow_events(parking)
    _pass_on_children(parking)


# Operations that a parked body must not do


def _refuse_parked(parking: Parking) -> None:
    """Let no operation of a parked body begin."""
    scope, context = dbos_context.EnterDBOSStepCtx, dbos_context.DBOSContext
    enter, leave = scope.__enter__, scope.__exit__
    snapshot, child = context.snapshot_step_ctx, context.create_start_workflow_child

    def entered(self: dbos_context.EnterDBOSStepCtx) -> dbos_context.DBOSContext:
        body = bodies.of_run(self.use_ctx.workflow_id)
        if body is not None:
            parking.operation_begins(body, is_step=dbos_calls.is_step(self))
        return enter(self)

    def left(self: dbos_context.EnterDBOSStepCtx, *raised: *dbos_calls.Raised) -> Literal[False]:
        body = bodies.of_run(self.use_ctx.workflow_id)
        if body is not None and dbos_calls.is_step(self):
            parking.step_ended(body)
        return leave(self, *raised)

    def snapshotted(
        self: dbos_context.DBOSContext, *given: Any, **named: Any
    ) -> dbos_context.DBOSContext:
        refuse(self.workflow_id)
        return snapshot(self, *given, **named)

    def started(current: dbos_context.DBOSContext | None) -> dbos_context.DBOSContext:
        if current is not None:
            refuse(current.workflow_id)
        return child(current)

    replace(scope, __enter__=entered, __exit__=left)
    replace(
        context, snapshot_step_ctx=snapshotted, create_start_workflow_child=staticmethod(started)
    )


def _refuse_outcomes() -> None:
    """Refuse an outcome of a body that continued in spite of `Parked`."""

    def refusing(record: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(record)
        def recorded(self: SystemDatabase, *given: Any, **named: Any) -> T:
            context = dbos_context.get_local_dbos_context()
            if context is not None and context.workflow_id:
                refuse(context.workflow_id)
            return record(self, *given, **named)

        return recorded

    replace(
        SystemDatabase,
        update_workflow_outcome=refusing(SystemDatabase.update_workflow_outcome),
        record_get_result=refusing(SystemDatabase.record_get_result),
    )


# Waits for messages and events


class _Waits:
    """The waits of one kind. dbos has a function each to set a wait up, to wait, and to take what has come."""

    def __init__(self, parking: Parking, name: str) -> None:
        self._parking = parking
        self._now: ContextVar[Waiting | None] = ContextVar(name, default=None)

    @contextmanager
    def around(self, condition: Condition) -> Generator[None]:
        """Surrounds all three."""
        with self._parking.waiting([condition], waiting_body()) as waiting:
            token = self._now.set(waiting)
            try:
                yield
            finally:
                self._now.reset(token)

    def begin(self, found: EventSetupResult, step: int) -> EventSetupResult:
        """Set up the wait of this step, unless its result is recorded."""
        if found[0] is True:
            return found
        if (waiting := self._now.get()) is not None:
            waiting.begin(found[1], time.time() + found[2], muted_below=step)
        return found

    def ending(self, take: Callable[..., object]) -> Callable[..., object]:
        """Takes what has come, and ends the wait before."""

        def taken(self_: SystemDatabase, *given: Any) -> object:
            if (waiting := self._now.get()) is not None:
                waiting.end()
            return take(self_, *given)

        return taken


def _follow_messages(parking: Parking) -> None:
    receive, receive_async = SystemDatabase.recv, SystemDatabase.recv_async
    setup, waits = SystemDatabase.recv_setup, _Waits(parking, "receive")

    def condition(run: str, topic: str | None) -> Condition:
        return Condition("message", run, _dbos_null_topic if topic is None else topic)

    def received(
        self: SystemDatabase, run: str, step: int, timer: int, topic: str | None, seconds: float
    ) -> object:
        with waits.around(condition(run, topic)):
            return receive(self, run, step, timer, topic, seconds)

    async def received_async(
        self: SystemDatabase, run: str, step: int, timer: int, topic: str | None, seconds: float
    ) -> object:
        with waits.around(condition(run, topic)):
            return await receive_async(self, run, step, timer, topic, seconds)

    def set_up(self: SystemDatabase, run: str, step: int, *rest: Any) -> EventSetupResult:
        return waits.begin(setup(self, run, step, *rest), step)

    replace(
        SystemDatabase,
        recv=received,
        recv_async=received_async,
        recv_setup=set_up,
        recv_consume=waits.ending(SystemDatabase.recv_consume),
    )


def _follow_events(parking: Parking) -> None:
    get, get_async = SystemDatabase.get_event, SystemDatabase.get_event_async
    setup, waits = SystemDatabase.get_event_setup, _Waits(parking, "get_event")

    def got(self: SystemDatabase, target: str, key: str, *rest: Any) -> object:
        with waits.around(Condition("event", target, key)):
            return get(self, target, key, *rest)

    async def got_async(self: SystemDatabase, target: str, key: str, *rest: Any) -> object:
        with waits.around(Condition("event", target, key)):
            return await get_async(self, target, key, *rest)

    def set_up(
        self: SystemDatabase,
        target: str,
        key: str,
        seconds: float = 60,
        caller: GetEventWorkflowContext | None = None,
    ) -> EventSetupResult:
        found = setup(self, target, key, seconds, caller)
        return found if caller is None else waits.begin(found, caller["function_id"])

    replace(
        SystemDatabase,
        get_event=got,
        get_event_async=got_async,
        get_event_setup=set_up,
        get_event_consume=waits.ending(SystemDatabase.get_event_consume),
    )


# Children


class _Persist(Protocol):
    def __call__(self, function: Callable[[], object], /) -> object: ...


def _pass_on_children(parking: Parking) -> None:
    """A child that is called like a function is in its caller's code. When the child is parked, its caller waits for its end."""
    make = dbos_core._get_wf_invoke_func

    def made(
        dbos: DBOS, status: WorkflowStatusInternal, release: Callable[[], None] | None = None
    ) -> _Persist:
        if release is not None:  # a body of its own
            return make(dbos, status, release)
        persist = cast("_Persist", make(dbos, status))
        run = status["workflow_uuid"]

        def persisted(function: Callable[[], object]) -> object:
            try:
                return persist(function)
            except Parked as parked:
                if parked.args != (run,):
                    raise
            parking.has_left(run)
            database, seconds = dbos._sys_db, dbos_core.DEFAULT_POLLING_INTERVAL
            return DeferredResult[object](
                lambda: database.await_workflow_result(run, seconds, fail_if_missing=True),
                lambda: database.await_workflow_result_async(run, seconds, fail_if_missing=True),
            )

        return persisted

    replace(dbos_core, _get_wf_invoke_func=made)

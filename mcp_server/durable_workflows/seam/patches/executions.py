# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""The executions of runs in this process, when runs are cancelled and resumed.

To dbos a cancelled run is a row, which its execution notices at its next call. Here its waits end at once, so that code that awaits it
continues, and the result of its current step is kept. When the run is resumed, the new execution begins only after that step has
returned, and no further step of the old execution begins. So no step runs twice at a time in one process. dbos decides what is written.
"""

import asyncio
import concurrent.futures
import functools
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Concatenate, Literal, ParamSpec, TypeVar

from dbos import DBOS
from dbos import _context as dbos_context
from dbos import _core as dbos_core
from dbos import _dbos as dbos_module
from dbos import _outcome as dbos_outcome
from dbos import _queue as dbos_queue
from dbos._error import DBOSWorkflowConflictIDError
from dbos._outcome import NoResult
from dbos._sys_db import (
    EventSetupResult,
    GetEventWorkflowContext,
    KeySignal,
    OperationResultInternal,
    SystemDatabase,
    WorkflowStatusInternal,
    db_retry,
)
from dbos._utils import GlobalParams, LoopAwareEvent

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches.bodies import IN_STEP, Body, Condition
from durable_workflows.seam.patches.parking import Parked, Parking, Waiting, waiting_body
from durable_workflows.seam.patches.replacing import replace

_REMEMBERED = 10_000  # the last runs that were begun or cancelled
_LONG_SECONDS = 3600.0  # of a wait that is woken before
_WAITER = "waiting_run"  # an attribute of the event on which a `get_event` waits
_TOKEN = "in_step"  # an attribute of the scope of a step: the previous value of `IN_STEP`
P = ParamSpec("P")
T = TypeVar("T")
Record = Callable[Concatenate[SystemDatabase, OperationResultInternal, P], None]
Run = tuple[str, str | None]  # its id, and the token of one execution of it
logger = logging.getLogger(__name__)


class Executions:
    """The executions of this process. `install` makes dbos report them, once, before `DBOS.launch()`."""

    def __init__(self, parking: Parking) -> None:
        self._parking = parking
        self._changed = threading.Condition()
        self._steps: Counter[str] = Counter()  # in flight, by run
        self._newest: OrderedDict[str, str] = OrderedDict()  # newest token, by run
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._watches: dict[str, set[LoopAwareEvent]] = {}

    def install(self) -> None:
        """Change dbos for this process."""
        _count_steps(self)
        _begin_after_old_steps(self)
        keeping = _keeping_results(SystemDatabase.record_operation_result)
        replace(SystemDatabase, record_operation_result=keeping)
        _wake_sleeps(self)
        _wake_retries(self)
        _wake_messages(self)
        _wake_result_waits(self)
        _wake_handles(self)

    # Reported by dbos

    def step_begins(self, run: Run) -> None:
        """Count a step; refuse a step of an execution that has been replaced."""
        with self._changed:
            if self._is_replaced(run):
                raise DBOSWorkflowConflictIDError(run[0])
            self._steps[run[0]] += 1

    def step_ended(self, workflow_id: str) -> None:
        """The step has returned, and its result is recorded if possible."""
        with self._changed:
            self._steps[workflow_id] -= 1
            if not self._steps[workflow_id]:
                del self._steps[workflow_id]
                self._changed.notify_all()

    def replace(self, workflow_id: str, token: str) -> bool:
        """Allow no further step of other executions of the run; return whether one is still in flight."""
        with self._changed:
            _remember(self._newest, workflow_id, token)
            self._cancelled.pop(workflow_id, None)
            return bool(self._steps[workflow_id])

    def wait_for_steps(self, workflow_id: str) -> None:
        """Return when no step of the run is in flight."""
        with self._changed:
            self._changed.wait_for(lambda: not self._steps[workflow_id])

    # Cancelled runs

    def end_cancelled(self, workflow_ids: Iterable[str] = ()) -> None:
        """End the waits of cancelled runs in this process, and the waits for their results.

        It also looks at runs that wait here without being named: a hint may have been lost.
        """
        with self._changed:
            runs = {*workflow_ids, *self._watches, *(run for run, _ in _waits_in_dbos())}
            begun = {run: self._newest.get(run) for run in runs}
        database = dbos_calls.system_database()
        cancelled = database.get_cancelled_workflow_ids(list(runs)) if runs else ()
        events: list[LoopAwareEvent | KeySignal] = []
        with self._changed:
            for run in cancelled:
                if self._newest.get(run) == begun[run]:  # otherwise it has been resumed since
                    _remember(self._cancelled, run, None)
                    events += [
                        *self._watches.get(run, ()),
                        *(event for waiter, event in _waits_in_dbos() if waiter == run),
                    ]
        for event in events:
            event.set()

    def is_over(self, run: Run) -> bool:
        """Whether the run is cancelled, or this execution of it has been replaced."""
        with self._changed:
            return run[0] in self._cancelled or self._is_replaced(run)

    def is_cancelled(self, workflow_id: str) -> bool:
        """Whether the run was recently cancelled, and has not begun again in this process."""
        return workflow_id in self._cancelled

    def _is_replaced(self, run: Run) -> bool:
        return self._newest.get(run[0], run[1]) != run[1]

    @contextmanager
    def watch(
        self, *others: str, in_step: bool = False, any_of: Iterable[str] = ()
    ) -> Generator["Watch"]:
        """Surrounds a wait of the caller's run, and wakes it when that run or one of the others is cancelled.

        A wait in a step is a part of the step, and continues, unless `in_step`. A run may be parked while it waits for the end of another
        run, or of
        any one of several runs, or sleeps.
        """
        own = _current_run(in_steps=in_step)
        body = waiting_body(others[0] if others else None)
        if own is not None and own[0] in others:  # an execution that waits for its replacement
            own = None
        conditions = [Condition("end", run) for run in (*others, *any_of)]
        with (
            self._parking.waiting(conditions, body) as waiting,
            self._watched(own, others, waiting) as watch,
        ):
            yield watch

    @contextmanager
    def watch_step(self, body: Body | None) -> Generator["Watch"]:
        """As `watch`, for a sleep in a step of the body, which may be parked meanwhile."""
        own = _current_run(in_steps=True)
        with self._parking.waiting((), body) as waiting, self._watched(own, (), waiting) as watch:
            yield watch

    @contextmanager
    def _watched(
        self, own: Run | None, others: Sequence[str], waiting: Waiting
    ) -> Generator["Watch"]:
        watch = Watch(self, own, waiting)
        runs = {*others, *([own[0]] if own else [])}
        self._add(runs, watch.event)
        if own is not None and self.is_over(own):
            watch.event.set()
        try:
            yield watch
        finally:
            self._remove(runs, watch.event)

    def _add(self, runs: Iterable[str], event: LoopAwareEvent) -> None:
        with self._changed:
            for run in runs:
                self._watches.setdefault(run, set()).add(event)

    def _remove(self, runs: Iterable[str], event: LoopAwareEvent) -> None:
        with self._changed:
            for run in runs:
                events = self._watches[run]
                events.discard(event)
                if not events:
                    del self._watches[run]


class Watch:
    """A wait that ends with its run."""

    def __init__(self, executions: Executions, own: Run | None, waiting: Waiting) -> None:
        self.event = LoopAwareEvent()
        self._executions = executions
        self._own = own
        self._waiting = waiting

    def wait(self, seconds: float) -> None:
        """Wait that long, or until woken.

        Raises:
            DBOSWorkflowConflictIDError: the run is over; this execution of it must stop.
            Parked: the run is parked.
        """
        self.event.wait(seconds)
        self._waiting.check()
        self._heard()

    async def wait_async(self, seconds: float) -> None:
        """As `wait`."""
        await self.event.wait_async(seconds)
        await self._waiting.check_async()
        self._heard()

    def sleep(self, seconds: float, step: int | None = None) -> None:
        """As `wait`, for the whole time; `step` is the number of a `DBOS.sleep`, in which a run may be parked."""
        end = time.monotonic() + seconds
        self._begin_sleep(seconds, step)
        while (left := end - time.monotonic()) > 0:
            self.wait(min(left, _LONG_SECONDS))
        self.end()

    async def sleep_async(self, seconds: float, step: int | None = None) -> None:
        """As `sleep`."""
        end = time.monotonic() + seconds
        self._begin_sleep(seconds, step)
        while (left := end - time.monotonic()) > 0:
            await self.wait_async(min(left, _LONG_SECONDS))
        await self.end_async()

    def until_found(self, look: Callable[[], T | NoResult], seconds: float) -> T:
        """The result of a look, repeated after that many seconds and whenever woken."""
        self.begin()
        while isinstance(found := look(), NoResult):
            self.wait(seconds)
        self.end()
        return found

    async def until_found_async(self, look: Callable[[], T | NoResult], seconds: float) -> T:
        """As `until_found`."""
        self.begin()
        while isinstance(found := await asyncio.to_thread(look), NoResult):
            await self.wait_async(seconds)
        await self.end_async()
        return found

    def begin(self) -> None:
        """From here on the run waits for other runs, and may be parked."""
        self._waiting.begin(self.event, None)

    def end(self) -> None:
        """The wait of the run is over.

        Raises:
            Parked: the run is parked all the same.
        """
        self._waiting.end()

    async def end_async(self) -> None:
        """As `end`."""
        await self._waiting.end_async()

    def _begin_sleep(self, seconds: float, step: int | None) -> None:
        if step is not None:
            self._waiting.begin(self.event, time.time() + seconds, muted_below=step)

    def _heard(self) -> None:
        self.event.clear()
        if self._own is not None and self._executions.is_over(self._own):
            raise DBOSWorkflowConflictIDError(self._own[0])


def _remember(known: OrderedDict[str, T], workflow_id: str, value: T) -> None:
    known[workflow_id] = value
    known.move_to_end(workflow_id)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)


def _current_run(*, in_steps: bool = False) -> Run | None:
    context = dbos_context.get_local_dbos_context()
    if context is None or not context.is_within_workflow() or (IN_STEP.get() and not in_steps):
        return None
    return context.workflow_id, context.owner_xid


def _waits_in_dbos() -> Iterator[tuple[str, LoopAwareEvent | KeySignal]]:
    """The runs that wait in a receive or a `get_event`, and their conditions."""
    database = dbos_calls.system_database()
    for _key, (waiter, *_rest), event in database.notifications_map.snapshot():
        yield waiter, event
    for _key, _components, signal in database.workflow_events_map.snapshot():
        with signal._lock:
            events = list(signal._waiters)
        for event in events:
            if waiter := getattr(event, _WAITER, None):
                yield waiter, event


# --- Steps


def _count_steps(executions: Executions) -> None:
    scope = dbos_context.EnterDBOSStepCtx
    enter, leave = scope.__enter__, scope.__exit__

    def entered(self: dbos_context.EnterDBOSStepCtx) -> dbos_context.DBOSContext:
        if not dbos_calls.is_step(self):
            return enter(self)
        executions.step_begins((self.use_ctx.workflow_id, self.use_ctx.owner_xid))
        try:
            context = enter(self)
        except BaseException:
            executions.step_ended(self.use_ctx.workflow_id)
            raise
        setattr(self, _TOKEN, IN_STEP.set(True))
        return context

    def left(self: dbos_context.EnterDBOSStepCtx, *raised: *dbos_calls.Raised) -> Literal[False]:
        if not dbos_calls.is_step(self):
            return leave(self, *raised)
        IN_STEP.reset(getattr(self, _TOKEN))
        try:
            return leave(self, *raised)
        finally:
            executions.step_ended(self.use_ctx.workflow_id)

    replace(scope, __enter__=entered, __exit__=left)


def _begin_after_old_steps(executions: Executions) -> None:
    """Delay the start of a run from a queue until no step of an old execution of it is in flight here."""
    execute = dbos_queue.execute_dequeued_workflow

    def begin(dbos: DBOS, status: WorkflowStatusInternal, token: str) -> None:
        workflow_id = status["workflow_uuid"]
        executions.wait_for_steps(workflow_id)
        try:
            if dbos._sys_db.get_workflow_owner(workflow_id) == token:
                execute(dbos, status, token)
        except Exception:
            logger.exception("%s cannot be executed.", workflow_id)  # as dbos's queues do

    def executed(dbos: DBOS, status: WorkflowStatusInternal, token: str) -> object:
        if not executions.replace(status["workflow_uuid"], token):
            return execute(dbos, status, token)
        # Not in this thread, which belongs to a queue.
        threading.Thread(target=begin, args=(dbos, status, token), daemon=True).start()
        return None

    replace(dbos_queue, execute_dequeued_workflow=executed)


def _keeping_results(record: Record[P]) -> Record[P]:
    """Record the result of a step whose run was cancelled meanwhile, unless the run has begun again without it."""

    def recorded(
        self: SystemDatabase, result: OperationResultInternal, *rest: P.args, **named: P.kwargs
    ) -> None:
        try:
            record(self, result, *rest, **named)
        except DBOSWorkflowConflictIDError:
            if not result["function_name"].startswith("DBOS.") and not result["child_workflow_id"]:
                _record_late(self, result)
            raise

    return recorded


def _record_late(database: SystemDatabase, result: OperationResultInternal) -> None:
    """Record it if the run is cancelled or queued, or if this process has taken it up again.

    In that case the new execution has not begun, since it waits for this very step. A run that was rewound to this step or an earlier one
    shall do it again; and so shall one that was made since, with the id of another.
    """

    @db_retry(sys_db=database)
    def record() -> None:
        runs, workflow_id = database.tables.workflow_status, result["workflow_uuid"]
        values = {**result, "completed_at_epoch_ms": int(time.time() * 1000)}
        values["application_name"] = database.app_name
        values["retention_timestamp"] = database._now_ms_sql()
        steps = database.dialect.insert(database.tables.operation_outputs)
        with database.engine.begin() as connection:
            # Locked until the end, so that no process begins the run meanwhile.
            run = connection.execute(
                runs.select()
                .with_only_columns(
                    runs.c.status, runs.c.executor_id, runs.c.created_at, runs.c.attributes
                )
                .where(*database._wf(runs, workflow_id))
                .with_for_update(key_share=True)
            ).one_or_none()
            if run and _may_keep(result, *run):
                connection.execute(steps.values(**values).on_conflict_do_nothing())

    record()


def _may_keep(
    result: OperationResultInternal,
    status: str,
    executor: str,
    created_at: int,
    attributes: Mapping[str, Sequence[int]] | None,
) -> bool:
    """Whether a run in this state gets the late result of a step."""
    goes_on = status in ("CANCELLED", "ENQUEUED") or (
        status == "PENDING" and executor == GlobalParams.executor_id
    )
    rewinds = (attributes or {}).get("rewound", ())
    is_again = any(to_step <= result["function_id"] for to_step in rewinds)
    return goes_on and not is_again and (result["started_at_epoch_ms"] or 0) >= created_at


# --- Waits


def _wake_sleeps(executions: Executions) -> None:
    def sleep(_class: type[DBOS], seconds: float) -> None:
        dbos_module.check_async("sleep")
        if seconds <= 0:
            return
        context = dbos_context.snapshot_step_context()
        with executions.watch() as watch:
            left = dbos_core.record_sleep(dbos_calls.instance(), context, seconds)
            watch.sleep(left, context.function_id if context else None)

    async def sleep_async(own: type[DBOS], seconds: float) -> None:
        if seconds <= 0:
            return
        context = dbos_context.snapshot_step_context()
        await own._configure_asyncio_thread_pool()
        instance = dbos_calls.instance()
        with executions.watch() as watch:
            left = await asyncio.to_thread(dbos_core.record_sleep, instance, context, seconds)
            await watch.sleep_async(left, context.function_id if context else None)

    replace(DBOS, sleep=classmethod(sleep), sleep_async=classmethod(sleep_async))


def _wake_retries(executions: Executions) -> None:
    """Wake waits between two attempts of a step: nothing is in flight then."""

    def pause(seconds: float) -> None:
        with executions.watch(in_step=True) as watch:
            watch.sleep(seconds)

    async def pause_async(seconds: float) -> None:
        with executions.watch(in_step=True) as watch:
            await watch.sleep_async(seconds)

    replace(
        dbos_outcome,
        time=SimpleNamespace(**{**vars(time), "sleep": pause}),
        asyncio=SimpleNamespace(**{**vars(asyncio), "sleep": pause_async}),
    )


def _wake_messages(executions: Executions) -> None:
    """Note the run that waits in a `get_event`: dbos's own map has only the run whose event it is.

    Let no wait begin that nothing would end.
    """
    get = SystemDatabase.get_event_setup

    def receiving(receive: Callable[P, T]) -> Callable[P, T]:
        def received(*where: P.args, **named: P.kwargs) -> T:
            own = _current_run()
            if own is not None and executions.is_over(own):
                raise DBOSWorkflowConflictIDError(own[0])
            return receive(*where, **named)

        return received

    def got(
        self: SystemDatabase,
        target: str,
        key: str,
        seconds: float = 60,
        caller: GetEventWorkflowContext | None = None,
    ) -> EventSetupResult:
        own = _current_run()
        found = get(self, target, key, seconds, caller)
        if not found[0] and caller is not None and own is not None:
            setattr(found[1], _WAITER, own[0])
            if executions.is_over(own):
                found[1].set()
        return found

    replace(SystemDatabase, recv_setup=receiving(SystemDatabase.recv_setup), get_event_setup=got)


def _wake_result_waits(executions: Executions) -> None:
    def result(
        self: SystemDatabase,
        workflow_id: str,
        polling_interval: float,
        *,
        fail_if_missing: bool = False,
    ) -> object:
        look = functools.partial(
            self.check_workflow_result, workflow_id, fail_if_missing=fail_if_missing
        )
        with executions.watch(workflow_id) as watch:
            return watch.until_found(look, polling_interval)

    async def result_async(
        self: SystemDatabase,
        workflow_id: str,
        polling_interval: float,
        *,
        fail_if_missing: bool = False,
    ) -> object:
        look = functools.partial(
            self.check_workflow_result, workflow_id, fail_if_missing=fail_if_missing
        )
        with executions.watch(workflow_id) as watch:
            return await watch.until_found_async(look, polling_interval)

    def first(self: SystemDatabase, workflow_ids: list[str], polling_interval: float) -> str:
        look = functools.partial(self.check_first_workflow_id, workflow_ids)
        with executions.watch(any_of=workflow_ids) as watch:
            return watch.until_found(look, polling_interval)

    async def first_async(
        self: SystemDatabase, workflow_ids: list[str], polling_interval: float
    ) -> str:
        look = functools.partial(self.check_first_workflow_id, workflow_ids)
        with executions.watch(any_of=workflow_ids) as watch:
            return await watch.until_found_async(look, polling_interval)

    replace(
        SystemDatabase,
        await_workflow_result=result,
        await_workflow_result_async=result_async,
        await_first_workflow_id=first,
        await_first_workflow_id_async=first_async,
    )


def _wake_handles(executions: Executions) -> None:
    """Await a child in this process by its future, which ends with its execution. A cancelled child may be in a long step."""
    get = dbos_core.WorkflowHandleFuture[object]._get_result
    get_async = dbos_core.WorkflowHandleAsyncTask[object]._get_result

    def awaited(self: dbos_core.WorkflowHandleFuture[object], seconds: float) -> object:
        future = self.future
        with executions.watch(self.workflow_id) as watch:
            future.add_done_callback(lambda _: watch.event.set())
            watch.begin()
            while not future.done() and not executions.is_cancelled(self.workflow_id):
                watch.wait(_LONG_SECONDS)
            watch.end()
        if future.done() and not _is_parked(future):
            return get(self, seconds)
        handle = dbos_core.WorkflowHandlePolling[object](
            self.workflow_id, self.dbos, self.shard_key
        )
        return handle._get_result(seconds)

    async def awaited_async(
        self: dbos_core.WorkflowHandleAsyncTask[object], seconds: float
    ) -> object:
        future = self.task
        with executions.watch(self.workflow_id) as watch:
            future.add_done_callback(lambda _: watch.event.set())
            watch.begin()
            while not future.done() and not executions.is_cancelled(self.workflow_id):
                await watch.wait_async(_LONG_SECONDS)
            await watch.end_async()
        if future.done() and not _is_parked(future):
            return await get_async(self, seconds)
        handle = dbos_core.WorkflowHandleAsyncPolling[object](
            self.workflow_id, self.dbos, self.shard_key
        )
        return await handle._get_result(seconds)

    replace(dbos_core.WorkflowHandleFuture, _get_result=awaited)
    replace(dbos_core.WorkflowHandleAsyncTask, _get_result=awaited_async)


def _is_parked(future: concurrent.futures.Future[object] | asyncio.Future[object]) -> bool:
    """Whether the execution ended because its run was parked: the outcome is still to come."""
    return not future.cancelled() and isinstance(future.exception(), Parked)

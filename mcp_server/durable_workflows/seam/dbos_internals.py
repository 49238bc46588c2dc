# pyright: reportPrivateUsage=false
"""The private parts of dbos 3.4 that this project relies upon: each is touched here and nowhere else.

Every function changes dbos for the whole process and is called once, before `DBOS.launch()`.
`tests/test_dbos_internals.py` fails when dbos renames or reshapes any of it. The version range in pyproject.toml is narrow for the
same reason.
"""

import asyncio
import functools
import inspect
import logging
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import date
from decimal import Decimal
from types import MethodType
from typing import Any, NoReturn, Protocol, cast

import sqlalchemy
import sqlalchemy.exc
from dbos import DBOSClient, EnqueueOptions, SetWorkflowID
from dbos import _context as dbos_context
from dbos import _core as dbos_core
from dbos import _dbos as dbos_module
from dbos import _error as dbos_error
from dbos import _logger as dbos_logger_module
from dbos import _outcome as dbos_outcome
from dbos import _queue as dbos_queue
from dbos._enqueue_options import build_enqueue_status
from dbos._registrations import DBOSFuncType, get_func_info
from dbos._serialization import (
    DBOSPortableJSON,
    DBOSPortableJSONSerializer,
    DefaultSerializer,
    deserialize_value,
    serialize_exception,
)
from dbos._sys_db import SystemDatabase, _dbos_null_topic, db_retry
from dbos._sys_db_postgres import PostgresSystemDatabase
from dbos._utils import INTERNAL_QUEUE_NAME
from sqlalchemy import event as sqlalchemy_event

from durable_workflows import fitting
from durable_workflows.database.addresses import is_own
from durable_workflows.database.alone import ConnectionAlone
from durable_workflows.database.texts import AnyText
from durable_workflows.errors import PeopleOnly
from durable_workflows.settings import PERSON

logger = logging.getLogger(__name__)
Recover = Callable[[str, str], None]  # a run, and the executor that had it
OnException = Callable[[int, BaseException], float]
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# As dbos has them, however often they are replaced.
_serialize = DBOSPortableJSONSerializer.serialize
_create_engine = PostgresSystemDatabase._create_engine
_invoke_step = dbos_core.invoke_step
# Takes a connection of dbos, a run and a step; returns a person's answer at that step, or None if there is none yet.
FindAnswer = Callable[[Any, str, int], tuple[Any] | None]
Args = tuple[Any, ...]
Named = dict[str, Any]
_TEMPORARY = "<temp>."  # the prefix of the workflows that dbos makes of steps
_RECV = "DBOS.recv"  # the name of its steps
_IN_RECEIVE: ContextVar[bool] = ContextVar("in_receive", default=False)


class Observer(Protocol):
    """Is told what the runs of this process do, in their own threads; must be quick and must not raise."""

    def step_began(self, workflow_id: str, step: int, name: str) -> None:
        """A step was entered; its recorded result, if there is one, is about to be returned instead."""
        ...

    def step_attempted(self, workflow_id: str, step: int, attempt: int, attempts: int) -> None:
        """An attempt (from 1) of a step with retries begins."""
        ...

    def step_failed(self, workflow_id: str, step: int, error: str, seconds: float) -> None:
        """An attempt has failed; the next one begins in so many seconds."""
        ...

    def step_ended(self, workflow_id: str, step: int) -> None:
        """A step was left; its outcome is recorded."""
        ...

    def waits(self, workflow_id: str, step: int, topic: str) -> AbstractContextManager[None]:
        """Around a `DBOS.recv`."""
        ...


class Signature(Protocol):
    """Says of a workflow's arguments, given by place and by name, what is recorded of them and what the workflow gets."""

    def recorded(self, args: Args, named: Named) -> tuple[Args, Named]:
        """What is recorded, plain JSON where the signature knows how."""
        ...

    def converted(self, args: Args, named: Named) -> tuple[Args, Named]:
        """What the workflow gets, in the first run as on each replay."""
        ...


class _NotAnswered(Exception):
    """What woke a wait was no message for it, and its time is not over."""


def refuse_pickle() -> None:
    """Never unpickle what a database holds: a crafted row would run its code in whoever reads it."""

    def refuse(cls: DefaultSerializer, serialized_data: str) -> NoReturn:
        raise TypeError("The row is in Python's pickle format, which is not read for safety.")

    DefaultSerializer.deserialize = refuse


def record_any_text() -> None:
    """Record lone surrogates, as file names have them that are not UTF-8, as JSON's escapes: Postgres takes no text that has them as such.

    They come back as they were. What is not JSON is said with its place. In names, topics, keys and ids such characters are replaced.
    """

    def escaped(self: DBOSPortableJSONSerializer, value: Any) -> str:
        try:
            text = _serialize(self, value)
        except TypeError as error:
            raise TypeError(f"{error}{_place_of_misfit(value)}") from None
        return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

    DBOSPortableJSONSerializer.serialize = escaped
    _take_any_text()
    _name_steps_as_recorded()


def _take_any_text() -> None:
    @functools.wraps(_create_engine)
    def created(self: PostgresSystemDatabase, url: str, options: dict[str, Any]) -> Any:
        engine = _create_engine(self, url, options)
        sqlalchemy_event.listen(engine, "connect", _register_any_text)
        return engine

    scope: Any = PostgresSystemDatabase
    scope._create_engine = created


def _register_any_text(connection: Any, _record: object) -> None:
    connection.adapters.register_dumper(str, AnyText)


def _name_steps_as_recorded() -> None:
    """A replay compares the name of each step with the recorded one."""

    @functools.wraps(_invoke_step)
    def invoked(*given: Any, step_name: str, **options: Any) -> Any:
        return _invoke_step(*given, step_name=fitting.text(step_name), **options)

    replace_in_dbos(_invoke_step, invoked)


def _place_of_misfit(value: Any) -> str:
    run = current_run()
    step = f"in the result of step {run[1]}, " if run and run[1] is not None else ""
    return f": {step}{next(_misfits(value, 'value'), 'value')}"


def _misfits(value: Any, place: str) -> Iterator[str]:
    """The places of what dbos does not take for JSON, in the order in which it looks."""
    if isinstance(value, Mapping):
        for key, one in cast("Mapping[Any, Any]", value).items():
            if not isinstance(key, str):
                yield f"{place} has the key {key!r}, which is not a string"
            yield from _misfits(one, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple | set):
        for number, one in enumerate(cast("Iterable[Any]", value)):
            yield from _misfits(one, f"{place}[{number}]")
    elif not isinstance(value, str | int | float | date | Decimal | None):
        yield f"{place} is of {type(value).__name__}"


def replace_in_dbos(function: Any, replacement: Any) -> None:
    """Put the replacement wherever a module of dbos has the function: they import it by its name."""
    for name, module in list(sys.modules.items()):
        if name.startswith("dbos.") and getattr(module, function.__name__, None) is function:
            setattr(module, function.__name__, replacement)


def fail_at_whatever_is_raised(stopping: Callable[[], bool]) -> None:
    """Make a run fail whatever its code raises, as with any error. DBOS lets pass by what is no `Exception`: the run would be recovered, and raise it, again and again.

    While this worker is `stopping`, all pass by as they are: the run is left for recovery.
    """

    def guarded(function: Callable[[], Any]) -> Callable[[], Any]:
        def called() -> Any:
            try:
                return function()
            except Exception:
                raise
            except BaseException as error:
                if stopping():
                    raise
                raise _for_dbos(error)  # noqa: B904 - it has its cause

        return called

    def guarded_async(function: Callable[[], Any]) -> Callable[[], Any]:
        async def called() -> Any:
            try:
                return await function()
            except Exception:
                raise
            except BaseException as error:
                if stopping() or await _is_passed_on(error, function):
                    raise
                raise _for_dbos(error)  # noqa: B904 - it has its cause

        return called

    _guard(dbos_outcome.Immediate, guarded)
    _guard(dbos_outcome.Pending, guarded_async)
    _guard_threads()


def _guard(outcome: Any, guarded: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
    make = outcome.__init__

    def made(self: Any, function: Callable[[], Any]) -> None:
        composed = getattr(function, "__module__", "") == dbos_outcome.__name__
        make(self, function if composed else guarded(function))

    outcome.__init__ = made


def _guard_threads() -> None:
    """Below Python 3.12 a StopIteration that leaves a thread is never heard of, and its run never ends."""
    run = dbos_core.run_step_async

    def without_stop(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except StopIteration as error:
                raise _failure(error)  # noqa: B904 - it has its cause

        return called

    async def guarded(dbos: Any, context: Any, function: Callable[..., Any], *rest: Any) -> Any:
        asynchronous = inspect.iscoroutinefunction(function)
        return await run(dbos, context, function if asynchronous else without_stop(function), *rest)

    replace_in_dbos(run, guarded)


def _for_dbos(error: BaseException) -> BaseException:
    """What is raised instead: dbos's own keep their meaning, also in a group."""
    return _own(error) or _failure(error)


def _own(error: BaseException) -> BaseException | None:
    if isinstance(error, dbos_error.DBOSBaseException):
        return error
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((own for part in parts if (own := _own(part))), None)
    return None


def _failure(error: BaseException) -> RuntimeError:
    text = f"The code raised {type(error).__name__}{f': {error}' if str(error) else '.'}"
    if isinstance(error, SystemExit):
        text = f"The code called sys.exit({error.code!r})."
    failure = RuntimeError(text)
    failure.__cause__ = error
    return failure


async def _is_passed_on(error: BaseException, function: Callable[[], Any]) -> bool:
    """Whether it is a CancelledError and not the code's own doing: the task around it was cancelled, as by `asyncio.wait_for`, and somebody awaits that.

    A run that ends this way has failed, and dbos would not record it.
    """
    task = asyncio.current_task()
    if not isinstance(error, asyncio.CancelledError) or task is None or not task.cancelling():
        return False
    if task in instance()._workflow_tasks:  # the whole run: no other task awaits it
        return False
    context = dbos_context.get_local_dbos_context()
    if getattr(function, "__module__", "") == dbos_core.__name__ and context is not None:
        await asyncio.to_thread(_record_cancelled, context.workflow_id)
    return True


def _record_cancelled(workflow_id: str) -> None:
    database = system_database()
    error = RuntimeError("The task of this run was cancelled by the code that awaited it.")
    recorded, _ = serialize_exception(error, None, database.serializer)
    database.update_workflow_outcome(workflow_id, "ERROR", error=recorded)


def convert_arguments(signature: Callable[[Callable[..., Any]], Signature]) -> None:
    """Give all workflows that are registered from now on their arguments as their signatures say, except those with a `validate_args` of their own."""
    module: Any = dbos_module
    decorate = module.decorate_workflow

    def decorated(*given: Any, **named: Any) -> Any:
        decorator = decorate(*given, **named)
        if named.get("validate_args") is not None:
            return decorator

        def converting(function: Callable[..., Any]) -> Any:
            return decorator(_converting(function, signature(function)))

        return converting

    module.decorate_workflow = decorated
    _record_converted()


def _converting(function: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        args, named = signature.converted(args, named)
        return function(*args, **named)

    @functools.wraps(function)
    async def call_async(*args: Any, **named: Any) -> Any:
        args, named = signature.converted(args, named)
        return await function(*args, **named)

    converting: Any = call_async if inspect.iscoroutinefunction(function) else call
    converting.durable_signature = signature
    return converting


def _record_converted() -> None:
    """Record arguments that Python code gives, be it objects or JSON, as the signature of the workflow says."""
    started, enqueued = dbos_core._assemble_workflow_status, dbos_core._build_enqueue_with_options

    def start(dbos: Any, context: Any, *, inputs: Any, wf_name: str, **named: Any) -> Any:
        signature = _signature(dbos, wf_name)
        if signature is not None:
            args, kwargs = signature.recorded(inputs["args"], inputs["kwargs"])
            inputs = {"args": args, "kwargs": kwargs}
        return started(dbos, context, inputs=inputs, wf_name=wf_name, **named)

    def enqueue(dbos: Any, context: Any, options: EnqueueOptions, args: Args, named: Named) -> Any:
        signature = _signature(dbos, options["workflow_name"])
        if signature is not None:
            skipped = (None,) * _is_method(dbos, options["workflow_name"])
            args, named = signature.recorded((*skipped, *args), named)
            args = args[len(skipped) :]
        return enqueued(dbos, context, options, args, named)

    dbos_core._assemble_workflow_status = start
    dbos_core._build_enqueue_with_options = enqueue


def _signature(dbos: Any, name: str) -> Signature | None:
    """The signature by which a registered workflow gets its arguments."""
    return getattr(dbos._registry.workflow_info_map.get(name), "durable_signature", None)


def _is_method(dbos: Any, name: str) -> bool:
    """Whether the workflow's first parameter is its class or instance, which a call by name does not give."""
    found = get_func_info(dbos._registry.workflow_info_map[name])
    return found is not None and found.func_type in (DBOSFuncType.Class, DBOSFuncType.Instance)


def before_ends(call: Callable[[str], None]) -> None:
    """Call with the run's id before the outcome of a run is recorded, in the thread that records it."""
    scope: Any = SystemDatabase
    record = scope.update_workflow_outcome

    def recorded(self: SystemDatabase, workflow_id: str, *rest: Any, **named: Any) -> bool:
        call(workflow_id)
        return record(self, workflow_id, *rest, **named)

    scope.update_workflow_outcome = recorded


def retry_queues() -> None:
    """Let registering a queue outlast a database that is away for a moment, as all else does that workflow code calls."""
    scope: Any = SystemDatabase
    for name in ("upsert_queue", "get_queue"):
        setattr(scope, name, db_retry()(getattr(scope, name)))


def connect_alone() -> None:
    """Let the connections that dbos makes to the embedded database have nothing from libpq's environment."""
    if not sqlalchemy_event.contains(sqlalchemy.Engine, "do_connect", _connect_alone):
        sqlalchemy_event.listen(sqlalchemy.Engine, "do_connect", _connect_alone)


def _connect_alone(
    _dialect: object, _record: object, arguments: list[Any], parameters: dict[str, Any]
) -> ConnectionAlone | None:
    """The connection, or None: SQLAlchemy makes it, of engines that are not ours."""
    return ConnectionAlone.connect(*arguments, **parameters) if is_own(parameters) else None


def share_one_backend() -> None:
    """Give up the lock of the background jobs, which keeps a transaction open at all times.

    PGlite has one backend: whoever holds a transaction open keeps all others waiting. The jobs are idempotent, and
    CockroachDB is served by dbos in the same way.
    """
    PostgresSystemDatabase.background_job_lock = SystemDatabase.background_job_lock


def take_answers_of_people(find: FindAnswer) -> None:
    """Have waits on a topic for people end with what `find` finds and with nothing else, and let no code of this process send to one.

    A message on such a topic only wakes the wait. The answer is recorded as that of any `DBOS.recv`: a replay needs no further step.
    A wait on another topic, too, goes on if it was woken and no message is there. To be called before `observe`.
    """
    scope: Any = SystemDatabase
    consume = scope.recv_consume

    def consumed(
        self: SystemDatabase, workflow_uuid: str, function_id: int, topic: str | None, start: int
    ) -> Any:
        if not (topic or "").startswith(PERSON):
            return _in_receive(consume, self, workflow_uuid, function_id, topic, start)
        found, skipped = _read_answer(self, find, workflow_uuid, function_id, topic, start)
        if found is not None:
            return found[0]
        for message in skipped:
            logger.warning(
                "A message for %r was skipped: it did not come from a person (%s).", topic, message
            )
        if skipped or self.record_sleep(workflow_uuid, function_id + 1, 0.0) > 0:
            raise _NotAnswered
        return consume(self, workflow_uuid, function_id, topic, start)  # the time-out

    scope.recv_consume = db_retry()(consumed)
    _receive_for_the_whole_time(scope)
    _wait_on(scope)
    _refuse_messages_to_people(scope)


def claim_only(executor_id: str | None, schema: str) -> None:
    """Take runs from queues that are set apart for this executor and no others; None: those that are set apart for nobody.

    `schema` has the table `suspects`, which says who is set apart. A run keeps its place in its queue meanwhile.
    """
    suspects = sqlalchemy.table(
        "suspects",
        sqlalchemy.column("workflow_id"),
        sqlalchemy.column("executor_id"),
        schema=schema,
    )
    whose = suspects.c.executor_id
    apart = whose == executor_id if executor_id else whose.is_not(None)

    def gate(self: Any, queue_name: str, partition_key: str | None) -> list[Any]:
        run = self.tables.workflow_status.c.workflow_uuid
        found = sqlalchemy.exists().where(suspects.c.workflow_id == run, apart)
        return [found if executor_id else ~found]

    scope: Any = SystemDatabase
    scope._claim_gate = gate
    sweep = scope.start_queued_partitioned_workflows

    def swept(self: Any, queue: Any, *rest: Any, **named: Any) -> list[str]:
        """The sweep over all partitions asks no gate."""
        with self.engine.connect() as connection:
            some = connection.execute(
                sqlalchemy.select(sqlalchemy.exists().where(whose.is_not(None)))
            ).scalar()
        if executor_id or some:
            return _partition_by_partition(self, queue, *rest, **named)
        return sweep(self, queue, *rest, **named)

    scope.start_queued_partitioned_workflows = swept


def _partition_by_partition(
    system_database: Any,
    queue: Any,
    executor_id: str,
    app_version: str,
    max_tasks: int = sys.maxsize,
    **named: Any,
) -> list[str]:
    claimed: list[str] = []
    for key in system_database.get_queue_partitions(queue.name):
        if len(claimed) >= max_tasks:
            break
        running = max((queue._worker_concurrency or 0) - max_tasks + len(claimed), 0)
        try:
            found, _ = system_database.start_queued_workflows(
                queue, executor_id, app_version, key, running, **named
            )
        except sqlalchemy.exc.DBAPIError as error:  # others have it now; what was claimed must run
            logger.info("Partition %s of queue %s is busy: %s", key, queue.name, error.orig)
            continue
        claimed += found
    return claimed


def recover_without_counting(suspects: Collection[str], condemned: Collection[str]) -> Recover:
    """Let the recovery of a run be no attempt of it: DBOS counts each, whoever ended the worker, and dead-letters a run that has too many.

    Those that are `condemned` are dead-lettered at once. Those that are `suspects` are left to the function returned, which takes one of them up, and
    counts it.
    """
    scope: Any = SystemDatabase
    counting = scope.reenqueue_for_recovery
    left = set(suspects)

    def recovered(self: Any, workflow_id: str, executor_ids: list[str], queue: str) -> bool:
        if workflow_id in condemned:
            self.dead_letter_workflows([workflow_id], min_recovery_attempts=0)
        if workflow_id in left or workflow_id in condemned:
            return False
        return _reenqueue(self, workflow_id, executor_ids, queue)

    def recover_suspect(workflow_id: str, executor_id: str) -> None:
        left.discard(workflow_id)
        counting(system_database(), workflow_id, [executor_id], INTERNAL_QUEUE_NAME)

    scope.reenqueue_for_recovery = recovered
    return recover_suspect


@db_retry()
def _reenqueue(system_database: Any, workflow_id: str, executor_ids: list[str], queue: str) -> bool:
    """What `SystemDatabase.reenqueue_for_recovery` does, with the attempt given back that DBOS counts when the run is taken up."""
    run = system_database.tables.workflow_status
    mine = (run.c.workflow_uuid == workflow_id, run.c.executor_id.in_(executor_ids))
    with system_database.engine.begin() as connection:
        done = connection.execute(
            sqlalchemy.update(run)
            .where(*mine, run.c.status == "PENDING")
            .values(
                status="ENQUEUED",
                owner_xid=None,
                started_at_epoch_ms=None,
                updated_at=system_database._now_ms_sql(),
                queue_name=sqlalchemy.func.coalesce(run.c.queue_name, queue),
                recovery_attempts=sqlalchemy.func.greatest(run.c.recovery_attempts - 1, 0),
            )
        )
    return done.rowcount > 0


def observe(observer: Observer) -> None:
    """Tell `observer` of every step and every `DBOS.recv` of this process."""
    _observe_steps(observer)
    _observe_waits(observer)


def registered_workflows() -> Mapping[str, Callable[..., Any]]:
    """The functions registered as workflows so far, by name, without dbos's wrapping; methods bound, if it is known to what."""
    registry = dbos_module._get_or_create_dbos_registry()
    return {
        name: _bound(inspect.unwrap(function), _owners(function) or {})
        for name, function in registry.workflow_info_map.items()
        if not name.startswith(_TEMPORARY)
    }


def before_registering(call: Callable[[str], None]) -> None:
    """Call with the name of a workflow before it is registered; what is raised keeps it from being registered."""
    scope: Any = dbos_module.DBOSRegistry
    register = scope.register_wf_function

    def registering(self: Any, name: str, function: Callable[..., Any]) -> None:
        if not name.startswith(_TEMPORARY):
            call(name)
        register(self, name, function)

    scope.register_wf_function = registering


def unregister(names: Iterable[str]) -> None:
    """Forget workflows of files that turned out not to load."""
    for name in names:
        dbos_module._get_or_create_dbos_registry().workflow_info_map.pop(name, None)


def why_not_startable(name: str) -> str | None:
    """Why a start by name alone cannot run a registered workflow; None if it can."""
    function = dbos_module._get_or_create_dbos_registry().workflow_info_map[name]
    owners = _owners(function)
    if owners is None:
        first = next(iter(inspect.signature(function).parameters), "")
        undecorated = first in ("self", "cls") and "." in function.__qualname__
        return "It is a method, and its class has no `@DBOS.dbos_class()`." if undecorated else None
    if not owners:
        return "It is a method, and no object of its class, a `DBOSConfiguredInstance`, is made at import."
    names = ", ".join(map(str, owners))
    several = f"It is a method, and its class has several objects ({names}): a start cannot say which one is meant."
    return several if len(owners) > 1 else None


def run_methods_by_name() -> None:
    """Run a workflow that is a method, and was started by its name alone, on its class, or on the one object that the class has."""
    module: Any = dbos_queue
    execute = module.execute_dequeued_workflow

    def executed(dbos: Any, status: Any, owner_xid: str) -> Any:
        function = dbos._registry.workflow_info_map.get(status["name"])
        info = get_func_info(function) if function and status["class_name"] is None else None
        owners = _owners(function) if info else None
        if info and info.class_info and owners and len(owners) == 1:
            status["class_name"] = info.class_info.registered_name
            (status["config_name"],) = owners
        return execute(dbos, status, owner_xid)

    module.execute_dequeued_workflow = executed


def current_run() -> tuple[str, int | None] | None:
    """The run in whose code the caller is, and the step, or None for the workflow's own code; None outside of runs."""
    context = dbos_context.get_local_dbos_context()
    if context is None or not context.is_within_workflow():
        return None
    return context.workflow_id, context.curr_step_function_id if context.is_step() else None


def database_password() -> str | None:
    """The password with which DBOS is connected in this process; None without one."""
    return system_database().engine.url.password


def next_step() -> int:
    """The number that the next step of the workflow gets in whose code the caller is.

    Raises:
        DBOSException: the caller is in no workflow.
    """
    context = dbos_context.get_local_dbos_context()
    if context is None or not context.is_workflow():
        raise dbos_error.DBOSException("This must be called from within a workflow.")
    return context.function_id + 1


def left_of_wait(step: int) -> float:
    """The seconds until the time-out of the `DBOS.recv` that was this step of the run in whose code the caller is; 0 when it has passed."""
    run = current_run()
    assert run is not None
    return max(system_database().record_sleep(run[0], step + 1, 0.0), 0.0)  # recorded by then


def has_received(step: int) -> bool:
    """Whether the `DBOS.recv` that was this step of the run in whose code the caller is has ended with a message, which may be `null`."""
    run = current_run()
    assert run is not None
    database = system_database()
    with database.engine.begin() as connection:
        return _has_read(database, connection, run[0], step)


def recover(executor_ids: list[str]) -> None:
    """Put the unfinished runs that these executors had of this process's version back into their queues. Repeating it does no harm."""
    dbos_module.DBOS._recover_pending_workflows(executor_ids)


def log_to(handler: logging.Handler) -> None:
    """Give the handler what dbos logs, and its logger's records to nobody else."""
    logger = dbos_logger_module.dbos_logger
    logger.handlers.clear()
    logger.addHandler(handler)


def active_runs(queue: str) -> int:
    """How many runs of the queue are under way in this process."""
    return instance()._active_workflows_set.count_for_queue(queue)


def queued(
    client: DBOSClient, options: EnqueueOptions, arguments: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The row of a run in a queue, and its inputs, as `client.enqueue` would write them; for arguments of any name, also those that its own parameters have."""
    _, status = build_enqueue_status(options, client._serializer, (), dict(arguments))
    return {**status, "application_name": client._sys_db.app_name}


def once(client: DBOSClient, workflow_id: str, make: Callable[[], object]) -> None:
    """Have `make` make the run of that id, unless it is there already."""
    if client._sys_db.get_workflow_status(workflow_id) is None:
        with SetWorkflowID(workflow_id):
            make()


def listener() -> object:
    """The connection by which DBOS hears in this process what runs wait for: another object after each reconnection."""
    database: Any = system_database()
    return database.notification_conn


def look_again() -> None:
    """Have what runs wait for in this process be looked up; those for which nothing is there go on waiting.

    DBOS does so itself a minute after a notification was missed.
    """
    database: Any = system_database()  # its hints are wider than what it does
    with database._listener_thread_lock:  # held until the listener hears
        pass
    for _key, (workflow_id, topic, *_rest), event in database.notifications_map.snapshot():
        database.recv_check(workflow_id, topic, event)
    for _key, (workflow_id, name, *_rest), event in database.workflow_events_map.snapshot():
        database.get_event_check(workflow_id, name, event)
    for _key, _components, event in database.streams_map.snapshot():
        event.set()  # its reader reads again and waits again


def instance() -> dbos_module.DBOS:
    """The one DBOS of this process."""
    return dbos_module._get_dbos_instance()


def _bound(function: Callable[..., Any], owners: Mapping[str | None, object]) -> Callable[..., Any]:
    (owner,) = owners.values() if len(owners) == 1 else (None,)
    return function if owner is None else MethodType(function, owner)


def _owners(function: Callable[..., Any]) -> dict[str | None, object] | None:
    """What a method may be bound to: objects by their names in dbos, or its class, without one. None for what is no method."""
    info = get_func_info(function)
    if info is None or info.class_info is None:
        return None
    registry = dbos_module._get_or_create_dbos_registry()
    name = info.class_info.registered_name
    if info.func_type is DBOSFuncType.Class:
        return {None: registry.class_info_map.get(name)}
    if info.func_type is DBOSFuncType.Instance:
        objects = registry.instance_info_map.items()
        return {key.partition("/")[2]: one for key, one in objects if key.startswith(f"{name}/")}
    return None


def system_database() -> SystemDatabase:
    """DBOS's access to its tables in this process."""
    return instance()._sys_db


def _read_answer(
    database: Any, find: FindAnswer, workflow_id: str, step: int, topic: str | None, start: int
) -> tuple[tuple[Any] | None, list[str]]:
    """Record the person's answer, if there is one; and the ids of the messages that were read without one.

    The messages are read first: an answer is noted before its message is sent, so that it is found when that is there.
    """
    messages = database.tables.notifications
    with database.engine.begin() as connection:
        recorded = database._check_operation_execution_txn(
            workflow_id, step, _RECV, conn=connection
        )
        if recorded is not None:  # an attempt that lost its connection had committed
            value = deserialize_value(
                recorded["output"], recorded["serialization"], database.serializer
            )
            return (value,), []
        read = connection.execute(
            sqlalchemy.update(messages)
            .where(
                *database._wf(messages, workflow_id, "destination_uuid"),
                messages.c.topic == topic,
                messages.c.consumed.is_(False),
            )
            .values(consumed=True, consumed_by_function_id=step)
            .returning(messages.c.message_uuid)
        ).all()
        found = find(connection.connection.driver_connection, workflow_id, step)
        if found is not None:
            outcome = {
                "workflow_uuid": workflow_id,
                "function_id": step,
                "function_name": _RECV,
                "started_at_epoch_ms": start,
                "output": DBOSPortableJSON.serialize(found[0]),
                "serialization": DBOSPortableJSON.name(),
                "error": None,
                "child_workflow_id": None,
            }
            now = int(time.time() * 1000)
            database._record_operation_result_txn(outcome, now, conn=connection)
        return found, [row[0] for row in read]


def _in_receive(consume: Callable[..., Any], *where: Any) -> Any:
    mark = _IN_RECEIVE.set(True)
    try:
        return consume(*where)
    finally:
        _IN_RECEIVE.reset(mark)


def _receive_for_the_whole_time(scope: Any) -> None:
    """Have a receive wait on that was woken although no message is there. DBOS records a time-out then.

    So it goes when the notification of a message comes after that was received, and the run receives on that topic again.
    """
    record = scope._record_operation_result_txn

    def recorded(self: Any, result: Any, completed_at: int, conn: Any, **named: Any) -> None:
        is_nothing = _IN_RECEIVE.get() and result["output"] == DBOSPortableJSON.serialize(None)
        if is_nothing and _is_early(self, result["workflow_uuid"], result["function_id"], conn):
            raise _NotAnswered
        record(self, result, completed_at, conn, **named)

    scope._record_operation_result_txn = recorded


def _has_read(database: Any, connection: Any, workflow_id: str, step: int) -> bool:
    """Whether the receive at this step has read a message."""
    messages = database.tables.notifications
    read = sqlalchemy.select(messages.c.message_uuid).where(
        *database._wf(messages, workflow_id, "destination_uuid"),
        messages.c.consumed_by_function_id == step,
    )
    return connection.execute(read).first() is not None


def _is_early(database: Any, workflow_id: str, step: int, connection: Any) -> bool:
    """Whether the receive at this step has read no message, and its time is not over."""
    if _has_read(database, connection, workflow_id, step):  # a message that is null
        return False
    steps = database.tables.operation_outputs
    end = sqlalchemy.select(steps.c.output).where(
        *database._wf(steps, workflow_id), steps.c.function_id == step + 1
    )
    wakes_at = connection.execute(end).scalar_one_or_none()
    return wakes_at is not None and float(wakes_at) > time.time()


def _wait_on(scope: Any) -> None:
    """Let a wait go on after it was woken by something else: its deadline is recorded."""
    recv, recv_async = scope.recv, scope.recv_async

    def answered(self: SystemDatabase, *where: Any) -> Any:
        while True:
            try:
                return recv(self, *where)
            except _NotAnswered:
                continue

    async def answered_async(self: SystemDatabase, *where: Any) -> Any:
        while True:
            try:
                return await recv_async(self, *where)
            except _NotAnswered:
                continue

    scope.recv, scope.recv_async = answered, answered_async


def _refuse_messages_to_people(scope: Any) -> None:
    send = scope._send_bulk_txn

    def sent(self: Any, messages: Any, conn: Any, **about: Any) -> Any:
        topics = [one.topic for one in messages if (one.topic or "").startswith(PERSON)]
        if not topics:
            return send(self, messages, conn, **about)
        if about["workflow_id"] is not None:
            step = about["workflow_id"], about["function_id"], about["function_name"]
            recorded = self._check_operation_execution_txn(*step, conn=conn)
            if recorded is not None:  # by a release that let it pass; its wait skips the message
                return recorded
        raise PeopleOnly(
            f"Workflow code cannot send to the topic {topics[0]!r}: only people answer there.",
            hint="Ask the person with `ask_human`; for a message between runs, use another topic and `receive`.",
        )

    scope._send_bulk_txn = sent


def _observe_steps(observer: Observer) -> None:
    scope: Any = dbos_context.EnterDBOSStepCtx
    enter, leave = scope.__enter__, scope.__exit__

    def entered(self: Any) -> dbos_context.DBOSContext:
        context = enter(self)
        if is_step(self):
            name = self.attributes["name"]
            observer.step_began(context.workflow_id, context.function_id, name)
        return context

    def left(self: Any, *error: Any) -> Any:
        result = leave(self, *error)
        if is_step(self):
            observer.step_ended(self.use_ctx.workflow_id, self.use_ctx.function_id)
        return result

    scope.__enter__, scope.__exit__ = entered, left
    _observe_attempts(observer)


def _observe_attempts(observer: Observer) -> None:
    scope: Any = dbos_context.EnterDBOSStepRetry
    enter = scope.__enter__

    def entered(self: Any) -> None:
        enter(self)
        context = dbos_context.get_local_dbos_context()
        if context is not None:
            attempt, attempts = self.current_attempt + 1, self.max_attempts
            observer.step_attempted(context.workflow_id, context.function_id, attempt, attempts)

    scope.__enter__ = entered
    for outcome in (dbos_outcome.Immediate, dbos_outcome.Pending):
        _observe_failed_attempts(outcome, observer)


def _observe_failed_attempts(outcome: Any, observer: Observer) -> None:
    retry = outcome.retry

    def observed(self: Any, attempts: int, on_exception: OnException, *more: Any) -> Any:
        def noted(attempt: int, error: BaseException) -> float:
            seconds = on_exception(attempt, error)
            context = dbos_context.get_local_dbos_context()
            if context is not None:
                said = f"{type(error).__name__}: {error}"
                observer.step_failed(context.workflow_id, context.function_id, said, seconds)
            return seconds

        return retry(self, attempts, noted, *more)

    outcome.retry = observed


def is_step(scope: Any) -> bool:
    """Whether a scope that dbos enters is a step of the author's: it enters the same kind for its own recv, sleep and so on."""
    return scope.attributes.get("operationType") == "step"


def _observe_waits(observer: Observer) -> None:
    scope: Any = SystemDatabase
    recv, recv_async = scope.recv, scope.recv_async

    def observed(self: SystemDatabase, workflow_uuid: str, function_id: int, *rest: Any) -> Any:
        with observer.waits(workflow_uuid, function_id, _topic(rest)):
            return recv(self, workflow_uuid, function_id, *rest)

    async def observed_async(
        self: SystemDatabase, workflow_uuid: str, function_id: int, *rest: Any
    ) -> Any:
        with observer.waits(workflow_uuid, function_id, _topic(rest)):
            return await recv_async(self, workflow_uuid, function_id, *rest)

    scope.recv, scope.recv_async = observed, observed_async


def _topic(rest: tuple[Any, ...]) -> str:
    """The topic among `recv`'s arguments: (timeout_function_id, topic, timeout_seconds)."""
    return rest[1] or _dbos_null_topic

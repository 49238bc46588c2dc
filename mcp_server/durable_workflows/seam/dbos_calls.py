# pyright: reportPrivateUsage=false
"""Calls of private parts of dbos 3.4: registered workflows, the run in whose code the caller is, queues, recovery.

They leave dbos as it is; the code that changes it is in `patches/`.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MethodType, TracebackType
from typing import cast

import sqlalchemy
from dbos import WorkflowStatus
from dbos import _context as dbos_context
from dbos import _dbos as dbos_module
from dbos import _error as dbos_error
from dbos import _serialization as dbos_serialization
from dbos._registrations import DBOSFuncType, get_func_info
from dbos._serialization import DBOSPortableJSON
from dbos._sys_db import SystemDatabase
from dbos._sys_db_postgres import PostgresSystemDatabase
from dbos._utils import LoopAwareEvent
from sqlalchemy.orm import Session

from durable_workflows.errors import UsageError

# The arguments of a scope's `__exit__`.
Raised = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
TEMPORARY = "<temp>."  # the prefix of the workflows that dbos makes from steps


def current_run() -> tuple[str, int | None] | None:
    """The run in whose code the caller is, and the step, or None for the workflow's own code. None outside of runs."""
    context = dbos_context.get_local_dbos_context()
    if context is None or not context.is_within_workflow():
        return None
    return context.workflow_id, context.curr_step_function_id if context.is_step() else None


def current_step() -> tuple[str, int] | None:
    """The run in whose code the caller is, and the step; None outside of steps."""
    run = current_run()
    return None if run is None or run[1] is None else (run[0], run[1])


def is_recorded(function: Callable[..., object]) -> bool:
    """Whether DBOS records each call of the function: it is a step or a workflow, or a `functools.partial` of one."""
    while isinstance(function, functools.partial):
        function = function.func
    return hasattr(function, "dbos_function_name")


def is_workflow(function: Callable[..., object]) -> bool:
    """Whether the function is a registered workflow."""
    name = getattr(function, "dbos_function_name", None)
    return name in dbos_module._get_or_create_dbos_registry().workflow_info_map


def why_ended(run: WorkflowStatus) -> Exception:
    """What `get_result` raises for a run that ended without success."""
    if run.status == "CANCELLED":
        return dbos_error.DBOSAwaitedWorkflowCancelledError(run.workflow_id)
    if run.status == "ERROR":
        error = cast("object", run.error)  # a text, if it cannot be read
        return error if isinstance(error, Exception) else RuntimeError(str(error))
    return dbos_error.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(run.workflow_id)


def recorded_text(value: object) -> str:
    """A value as DBOS records it."""
    return system_database().serializer.serialize(value)


def error_text(error: Exception) -> str:
    """An error as DBOS records it."""
    database = system_database()
    return dbos_serialization.serialize_exception(
        error, DBOSPortableJSON.name(), database.serializer
    )[0]


def error_of(text: str) -> Exception:
    """The error that `error_text` made a text of, as DBOS rebuilds recorded errors."""
    database = system_database()
    return dbos_serialization.deserialize_exception(
        text, DBOSPortableJSON.name(), database.serializer
    )


def refuse_in_step(step: str) -> None:
    """Refuse a step that was called from another step: dbos would call it as a plain function, without a record of its own. `step` names it.

    Raises:
        UsageError: the caller is in a step.
    """
    if current_step() is not None:
        raise UsageError(
            f"{step} was called from another step.", hint="Call it from the body of the workflow."
        )


def owner_of(workflow_id: str) -> str | None:
    """The token of this process's execution of the run in whose code the caller is."""
    return dbos_context.current_owner_xid(workflow_id)


def database_password() -> str | None:
    """The password with which DBOS is connected in this process; None without one."""
    return system_database().engine.url.password


def next_step() -> int:
    """The number of the next step of the workflow in whose code the caller is.

    Raises:
        DBOSException: the caller is not in a workflow.
    """
    context = dbos_context.get_local_dbos_context()
    if context is None or not context.is_workflow():
        raise dbos_error.DBOSException("This must be called from within a workflow.")
    return context.function_id + 1


def left_of_wait(step: int) -> float:
    """The seconds until the timeout of the `DBOS.recv` that was this step of the run in whose code the caller is; 0 when it has passed."""
    run = current_run()
    assert run is not None
    return max(system_database().record_sleep(run[0], step + 1, 0.0), 0.0)  # recorded by then


def has_received(step: int) -> bool:
    """Whether the `DBOS.recv` that was this step of the caller's run has ended with a message, which may be `null`."""
    run = current_run()
    assert run is not None
    database = system_database()
    with database.engine.begin() as connection:
        return has_read(database, connection, run[0], step)


def has_read(
    database: SystemDatabase,
    connection: sqlalchemy.Connection | Session,
    workflow_id: str,
    step: int,
) -> bool:
    """Whether the receive at this step has read a message."""
    messages = database.tables.notifications
    read = sqlalchemy.select(messages.c.message_uuid).where(
        *database._wf(messages, workflow_id, "destination_uuid"),
        messages.c.consumed_by_function_id == step,
    )
    return connection.execute(read).first() is not None


def recover(executor_ids: list[str]) -> None:
    """Put the unfinished runs that these executors had, of this process's version, back into their queues. It is safe to repeat."""
    dbos_module.DBOS._recover_pending_workflows(executor_ids)


def listener() -> object:
    """The connection on which DBOS in this process listens for what runs wait for; each reconnection makes a new object."""
    database = system_database()
    assert isinstance(database, PostgresSystemDatabase)
    return database.notification_conn


def look_again() -> None:
    """Make DBOS look up everything that runs of this process wait for. Runs for which nothing has come keep waiting.

    DBOS does so by itself a minute after it missed a notification.
    """
    # Type hints of its maps and checks name two kinds of events, but it only calls `set`.
    database = system_database()
    with database._listener_thread_lock:  # held until the listener hears
        pass
    for _key, (workflow_id, topic, *_rest), event in database.notifications_map.snapshot():
        database.recv_check(workflow_id, topic, cast("LoopAwareEvent", event))
    for _key, (workflow_id, name, *_rest), event in database.workflow_events_map.snapshot():
        database.get_event_check(workflow_id, name, cast("LoopAwareEvent", event))
    for _key, _components, event in database.streams_map.snapshot():
        event.set()  # the reader of the event reads again and waits again


def instance() -> dbos_module.DBOS:
    """The one DBOS of this process."""
    return dbos_module._get_dbos_instance()


def system_database() -> SystemDatabase:
    """DBOS's access to its tables in this process."""
    return instance()._sys_db


def is_step(scope: dbos_context.EnterDBOSStepCtx) -> bool:
    """Whether a scope that dbos enters is a step of the author: dbos enters the same kind for its own recv, sleep and so on."""
    return scope.attributes.get("operationType") == "step"


def registered_workflows() -> Mapping[str, Callable[..., object]]:
    """The functions registered as workflows so far, by name, without dbos's wrapping. Methods are bound if their object is known."""
    registry = dbos_module._get_or_create_dbos_registry()
    return {
        name: _bound(inspect.unwrap(function), owners_of(function) or {})
        for name, function in registry.workflow_info_map.items()
        if not name.startswith(TEMPORARY)
    }


def unregister(names: Iterable[str]) -> None:
    """Forget the workflows of files that failed to load."""
    for name in names:
        dbos_module._get_or_create_dbos_registry().workflow_info_map.pop(name, None)


def why_not_startable(name: str) -> str | None:
    """The reason why a start by name alone cannot run a registered workflow; None if it can."""
    function = dbos_module._get_or_create_dbos_registry().workflow_info_map[name]
    owners = owners_of(function)
    if owners is None:
        first = next(iter(inspect.signature(function).parameters), "")
        undecorated = first in ("self", "cls") and "." in function.__qualname__
        return "It is a method, and its class has no `@DBOS.dbos_class()`." if undecorated else None
    if not owners:
        return "It is a method, and no object of its class, a `DBOSConfiguredInstance`, is made at import."
    names = ", ".join(map(str, owners))
    several = f"It is a method, and its class has several objects ({names}): a start cannot say which one is meant."
    return several if len(owners) > 1 else None


def owners_of(function: Callable[..., object]) -> dict[str | None, object] | None:
    """The possible owners of a method: objects by their names in dbos, or its class, without a name.

    None for a function that is not a method.
    """
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


def _bound(
    function: Callable[..., object], owners: Mapping[str | None, object]
) -> Callable[..., object]:
    (owner,) = owners.values() if len(owners) == 1 else (None,)
    return function if owner is None else MethodType(function, owner)

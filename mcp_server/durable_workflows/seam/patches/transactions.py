# pyright: reportPrivateUsage=false
"""dbos's data sources, whose steps are transactions of the author: what they need where all clients share one session, and JSON in place of pickle.

dbos asks on a second connection, while the transaction is open, whether this execution still has the run. On the embedded database no other
connection gets a turn until the transaction ends, so neither would. Our data sources (`seam/datasources.py`) ask in the transaction itself, and
leave the answer here. What else would ask for a second connection there is refused at once.
"""

import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Protocol

import sqlalchemy
from dbos import _core as dbos_core
from dbos import _datasource as dbos_datasource
from dbos._serialization import Serializer
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from durable_workflows.database.alone import AsyncConnectionAlone, ConnectionAlone
from durable_workflows.errors import UsageError
from durable_workflows.seam.patches.replacing import replace, replace_in_dbos

Code = Coroutine[Any, Any, Any]
Body = Callable[..., Code]

_IDLE = "25P03"  # idle_in_transaction_session_timeout; the front cuts a connection with it


class Elsewhere(Protocol):
    """Another event loop."""

    async def run(self, coroutine: Code) -> object:
        """What the coroutine returns there, or raises."""
        ...


# Whether the run belongs to this execution, as its open transaction has seen it; None: no transaction has asked.
owned: ContextVar[bool | None] = ContextVar("owned", default=None)
# Where the body of the step that is about to begin runs; None: on its caller's loop.
elsewhere: ContextVar[Elsewhere | None] = ContextVar("elsewhere", default=None)
_begun: ContextVar[Session | None] = ContextVar("begun", default=None)


def install(serializer: Serializer, *, one_session: bool) -> None:
    """Change dbos for this process. Call it once, before workflow files are imported. A data source without a serializer gets this one."""
    replace(
        dbos_datasource,
        DBOSDefaultSerializer=serializer,
        _still_owns=_asking_the_transaction_first(dbos_datasource._still_owns),
    )
    replace_in_dbos(dbos_core.run_step_async, _running_elsewhere(dbos_core.run_step_async))
    if one_session:
        again = _unless_idle(dbos_datasource._is_retriable_db_error)
        replace(dbos_datasource, _is_retriable_db_error=again)
        sqlalchemy_event.listen(Session, "after_begin", _note_begun)
        sqlalchemy_event.listen(sqlalchemy.Pool, "checkout", _refuse_second)


def _asking_the_transaction_first(ask: Callable[[str, str | None], bool]) -> Callable[..., bool]:
    @functools.wraps(ask)
    def still_owns(workflow_id: str, owner_xid: str | None = None) -> bool:
        seen = owned.get()
        return ask(workflow_id, owner_xid) if seen is None else seen

    return still_owns


def _running_elsewhere(run: Body) -> Body:
    @functools.wraps(run)
    async def run_step_async(
        dbos: object, context: object, function: Body, *given: object
    ) -> object:
        loop = elsewhere.get()
        if loop is None:
            return await run(dbos, context, function, *given)
        elsewhere.set(None)  # the caller's context has it for this step only

        @functools.wraps(function)
        async def there(*args: object, **kwargs: object) -> object:
            return await loop.run(function(*args, **kwargs))

        return await run(dbos, context, there, *given)

    return run_step_async


def _unless_idle(is_retriable: Callable[..., bool]) -> Callable[..., bool]:
    """A transaction that was cut because it stood idle would stand idle again, and all others would wait for it each time."""

    @functools.wraps(is_retriable)
    def is_worth_another(error: Exception, *given: object) -> bool:
        idle = isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _IDLE
        return not idle and is_retriable(error, *given)

    return is_worth_another


def _note_begun(
    session: Session, _transaction: SessionTransaction, connection: sqlalchemy.Connection
) -> None:
    if _is_embedded(connection.connection):
        _begun.set(session)


def _refuse_second(
    _connection: object, record: sqlalchemy.PoolProxiedConnection, _proxy: object
) -> None:
    session = _begun.get()
    if session is not None and session.in_transaction() and _is_embedded(record):
        raise UsageError(
            "A transaction on the embedded database is open, and something in it asked for another connection, which would wait for its end.",
            hint="In a transactional step use only its sql_session(). Call DBOS, other steps and idempotency_key() before it or after it.",
        )


def _is_embedded(record: sqlalchemy.PoolProxiedConnection) -> bool:
    return isinstance(record.driver_connection, ConnectionAlone | AsyncConnectionAlone)

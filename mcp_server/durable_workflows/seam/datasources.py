# pyright: reportPrivateUsage=false
"""Data sources of dbos on the database that has the project's runs: a step's effect there and its record are one transaction."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy
from dbos import _context as dbos_context
from dbos import _dbos as dbos_module
from dbos._datasource import DatasourceOptions
from dbos._datasource_postgres import PostgresAsyncDatasource, PostgresSyncDatasource
from dbos._serialization import Serializer
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from durable_workflows.database.addresses import own_url
from durable_workflows.errors import UsageError
from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.offers import Offer
from durable_workflows.seam.patches import transactions
from durable_workflows.settings import FOREVER_SECONDS, Database

# Connections of each of the two; a transaction holds one to its end. Who finds none waits.
_POOL = 2
# No name of the project's own: what an author's SQL leaves in the embedded database's session is cleared away before others have their turn.
_NAME = "workflow code"
# The checkpoints are in the same database as the runs: one statement sees the owner and deletes.
_DELETE = """
WITH owned AS (
    SELECT 1 FROM {schema}.workflow_status
    WHERE workflow_uuid = %(run)s AND (%(owner)s::text IS NULL OR owner_xid = %(owner)s) FOR NO KEY UPDATE
), deleted AS (
    DELETE FROM {schema}.datasource_outputs
    WHERE workflow_id = %(run)s AND step_id >= %(step)s AND EXISTS (SELECT FROM owned)
)
SELECT 1 FROM owned
"""


class ProjectDatasource(PostgresSyncDatasource):
    """For sync functions."""

    def run_tx_step(
        self,
        ds_options: DatasourceOptions | None,
        func: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """As dbos's.

        Raises:
            UsageError: it was called in a step.
        """
        dbos_calls.refuse_in_step(f"The transactional step {func.__qualname__}")
        return super().run_tx_step(ds_options, func, *args, **kwargs)

    def _record_result(
        self,
        conn: sqlalchemy.Connection | Session,
        workflow_id: str,
        step_id: int,
        output: str | None,
        error: str | None,
        serialization: str | None,
    ) -> None:
        transactions.owned.set(None)
        super()._record_result(conn, workflow_id, step_id, output, error, serialization)
        if (owner := dbos_context.current_owner_xid(workflow_id)) is not None:
            found = conn.execute(_owner_of(workflow_id)).scalar()
            transactions.owned.set(found == owner)

    def _delete_checkpoints(self, workflow_id: str, start_step: int) -> None:
        _delete(workflow_id, start_step, None)

    def _delete_checkpoints_if_owner(self, workflow_id: str, owner_xid: str) -> bool:
        return _delete(workflow_id, 1, owner_xid)


class ProjectDatasourceAsync(PostgresAsyncDatasource):
    """For async functions, which run on an event loop of its own: on another, sync code could wait for their transaction and keep it from its end."""

    _loop: "_Loop"

    async def run_tx_step_async(
        self,
        ds_options: DatasourceOptions | None,
        func: transactions.Body,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """As dbos's.

        Raises:
            UsageError: it was called in a step.
        """
        dbos_calls.refuse_in_step(f"The transactional step {func.__qualname__}")
        step = super().run_tx_step_async(ds_options, func, *args, **kwargs)
        if dbos_calls.current_run() is None:
            return await self._loop.run(step)
        token = transactions.elsewhere.set(self._loop)
        try:
            return await step
        finally:
            transactions.elsewhere.reset(token)

    async def _record_result(
        self,
        conn: AsyncConnection | AsyncSession,
        workflow_id: str,
        step_id: int,
        output: str | None,
        error: str | None,
        serialization: str | None,
    ) -> None:
        transactions.owned.set(None)
        await super()._record_result(conn, workflow_id, step_id, output, error, serialization)
        if (owner := dbos_context.current_owner_xid(workflow_id)) is not None:
            found = (await conn.execute(_owner_of(workflow_id))).scalar()
            transactions.owned.set(found == owner)

    async def _delete_checkpoints(self, workflow_id: str, start_step: int) -> None:
        await asyncio.to_thread(_delete, workflow_id, start_step, None)

    async def _delete_checkpoints_if_owner(self, workflow_id: str, owner_xid: str) -> bool:
        return await asyncio.to_thread(_delete, workflow_id, 1, owner_xid)


class _Loop:
    """An event loop in a thread of its own, which begins when it is first used and lasts as long as the process."""

    @functools.cached_property
    def _running(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="transactions", daemon=True).start()
        return loop

    async def run(self, coroutine: transactions.Code) -> object:
        """See `transactions.Elsewhere`. It has the caller's context variables."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._running))


class Datasources:
    """The data sources of a project, each made when it is first wanted."""

    def __init__(self, database: Database, serializer: Serializer) -> None:
        self._database = database
        self._url = sqlalchemy.make_url(own_url(database)).set(drivername="postgresql+psycopg")
        self._about: dict[str, Any] = {
            # As in a log; the engine has the address.
            "database_url": self._url.render_as_string(hide_password=True),
            "engine_kwargs": {},
            "schema": database.dbos_schema,
            "serializer": serializer,
        }
        self._engine: dict[str, Any] = {
            "pool_size": _POOL,
            "max_overflow": 0,
            "pool_timeout": FOREVER_SECONDS,
            "connect_args": {"application_name": _NAME},
        }

    @functools.cached_property
    def sync(self) -> ProjectDatasource:
        """The one for sync functions."""
        _refuse_late()
        engine = sqlalchemy.create_engine(self._url, **self._engine)
        return ProjectDatasource(engine=engine, **self._about)

    @functools.cached_property
    def asynchronous(self) -> ProjectDatasourceAsync:
        """The one for async functions."""
        _refuse_late()
        engine = create_async_engine(self._url, **self._engine)
        made = ProjectDatasourceAsync(engine=engine, **self._about)
        made._loop = _Loop()
        return made


def _refuse_late() -> None:
    launched = dbos_module._get_or_create_dbos_registry().dbos
    if launched is not None and launched._launched:
        raise UsageError(
            "A data source was first asked for while workflows run.",
            hint="Write `datasource = project_datasource()` at the top of the workflow file.",
        )


def _owner_of(workflow_id: str) -> sqlalchemy.Select[Any]:
    """The lock lasts until the transaction ends: no other process can take over the run in between."""
    names = ("workflow_uuid", "owner_xid")
    columns = [sqlalchemy.column(name, sqlalchemy.Text) for name in names]
    schema = dbos_calls.system_database().schema
    runs = sqlalchemy.table("workflow_status", *columns, schema=schema)
    of_run = sqlalchemy.select(runs.c.owner_xid).where(runs.c.workflow_uuid == workflow_id)
    return of_run.with_for_update(key_share=True)


def _delete(workflow_id: str, first_step: int, owner: str | None) -> bool:
    """Delete the checkpoints of a run from that step on, if it belongs to that execution (None: to any). Return whether it did."""
    values = {"run": workflow_id, "step": first_step, "owner": owner}
    return bool(statements.run(dbos_calls.system_database(), _DELETE, values))


offer: Offer[Datasources] = Offer("A step that is a transaction")

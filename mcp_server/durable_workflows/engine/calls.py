"""Calls into dbos, whose client blocks: in threads, within a time, with errors of ours."""

import logging
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import sqlalchemy.exc
from dbos import DBOSClient, DBOSPortableJSONSerializer

from durable_workflows.database import tables
from durable_workflows.database.addresses import own_url
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import DatabaseSilent, DatabaseUnavailable, InvalidArguments
from durable_workflows.seam.patches import connections, values
from durable_workflows.settings import APPLICATION

NOT_KNOWN = "The database has not answered for half a minute. It is not known whether this was done; it may still happen."
_THREADS = 8

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Calls:
    """A client of dbos on the database of `rows`. Close it after use (`close`)."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._limiter = anyio.CapacityLimiter(_THREADS)  # never the threads that stdio uses
        values.refuse_pickle()
        connections.connect_alone()
        values.record_any_text()
        self.client = DBOSClient(
            system_database_url=own_url(rows.database),
            dbos_system_schema=rows.database.dbos_schema,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            system_database_pool_size=_THREADS,
            retry_connection_errors=False,
            lazy=True,
        )

    def close(self) -> None:
        """Close all connections; a call that has been given up closes its own when it returns."""
        self.client.destroy()

    async def certainly(self, function: Callable[[], T]) -> T:
        """Call into dbos, and again if the database was lost meanwhile: it is not known then whether it was done.

        `function` may be repeated without doing anything twice.
        """
        try:
            return await self.limited(function)
        except DatabaseSilent:
            raise
        except DatabaseUnavailable:
            await self._rows.heads([])  # has the patience for a restart
            return await self.limited(function)

    async def limited(self, function: Callable[[], T]) -> T:
        """Call into dbos, and give up after a time; the call itself goes on then."""
        try:
            with anyio.fail_after(self._rows.limit_seconds):
                return await self.in_thread(function)
        except TimeoutError as error:
            raise DatabaseSilent(NOT_KNOWN) from error

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call into dbos, whose client blocks; its errors become ours."""
        try:
            return await anyio.to_thread.run_sync(
                function, limiter=self._limiter, abandon_on_cancel=True
            )
        except (
            sqlalchemy.exc.DataError
        ) as error:  # a text with NUL in it, a number beyond all bounds
            raise InvalidArguments(
                f"The database rejected this: {error.orig}. Nothing was done.",
                hint="Correct that argument and call again.",
            ) from error
        except sqlalchemy.exc.DBAPIError as error:
            logger.warning("dbos could not use the database: %s", error.orig)
            raise tables.unavailable(error.orig, self._rows.explain) from error

"""Hints that runs have changed: LISTEN, with a look from time to time in case a hint was lost."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import anyio
import psycopg

from durable_workflows.database import tables
from durable_workflows.errors import DatabaseUnavailable
from durable_workflows.settings import Database

_RECHECK_SECONDS = 5.0
_AGAIN_SECONDS = 0.2
_OFTEN_SECONDS = 0.5  # ends of steps are not announced


class Changes:
    """The hints that concern some runs, or with None all runs."""

    def __init__(
        self, connection: tables.Connection | None, workflow_ids: Iterable[str] | None
    ) -> None:
        """Without a connection nothing is heard, and the caller shall look often."""
        self._connection = connection
        self._workflow_ids = None if workflow_ids is None else frozenset(workflow_ids)

    async def listen(self) -> None:
        """Begin to listen; changes from now on are heard.

        Raises:
            DatabaseUnavailable: the connection was lost.
        """
        if self._connection is None:
            return
        database = self._connection.database
        try:
            for channel in (database.runs_channel, database.activity_channel):
                await tables.listen(self._connection, channel)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable() from error

    async def next(self, seconds: float, *, often: bool = False) -> None:
        """Return when one of the runs may have changed, after `seconds` at the latest.

        Raises:
            DatabaseUnavailable: the connection was lost.
        """
        is_deaf = self._connection is None
        timeout = min(seconds, _OFTEN_SECONDS if often or is_deaf else _RECHECK_SECONDS)
        if self._connection is None:
            await anyio.sleep(timeout)
            return
        try:
            async with aclosing(tables.heard(self._connection, timeout)) as payloads:
                async for payload in payloads:
                    if (
                        self._workflow_ids is None
                        or payload.rpartition("\t")[2] in self._workflow_ids
                    ):
                        return
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable() from error


@asynccontextmanager
async def changes(
    database: Database,
    workflow_ids: Iterable[str] | None,
    listeners: anyio.CapacityLimiter | None = None,
) -> AsyncGenerator[Changes]:
    """Listen for changes of these runs, or of all runs, on a separate connection, if one of `listeners` is free and the server has one.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    async with AsyncExitStack() as stack:
        connection = None
        if _is_free(listeners, stack):
            try:
                connection = await stack.enter_async_context(
                    await tables.connect(database, role="wait")
                )
            except psycopg.OperationalError as error:
                if not tables.is_crowded(error):
                    await anyio.sleep(_AGAIN_SECONDS)  # the waiting caller tries again
                    raise DatabaseUnavailable() from error
        hints = Changes(connection, workflow_ids)
        await hints.listen()
        yield hints


def _is_free(listeners: anyio.CapacityLimiter | None, stack: AsyncExitStack) -> bool:
    """Whether one of `listeners` is free; then it is taken until the end of `stack`. A task may take several."""
    if listeners is None:
        return True
    place = object()
    try:
        listeners.acquire_on_behalf_of_nowait(place)
    except anyio.WouldBlock:
        return False
    stack.callback(listeners.release_on_behalf_of, place)
    return True

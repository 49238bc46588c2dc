"""In short what is shown of runs, to see whether it has changed: one connection and two small statements a look, for all who want to know it in this process."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import psycopg

from durable_workflows.database import tables
from durable_workflows.errors import DatabaseUnavailable
from durable_workflows.models import Connection
from durable_workflows.settings import APPLICATION

_LOOK_SECONDS = 5.0
_MOVING = (
    "PENDING",
    "ENQUEUED",
)  # a step of such a run may end at any moment, which nothing announces


@dataclass(frozen=True)
class Marks:
    """What is shown, as far as it was asked for. Where two marks differ, something has changed."""

    runs: Mapping[str, str]  # by workflow_id; a run that is not there has none
    moving: bool  # whether one of the runs may change without a hint
    listed: str | None  # which runs are the newest
    states: str | None  # how these stand


class Looker:
    """Looks at runs, and hears when it may be worth while to look again."""

    def __init__(self, connection: tables.Connection) -> None:
        self._connection = connection
        self._hinted = False
        connection.add_notify_handler(self._hint)

    async def look(self, workflow_ids: Collection[str], *, newest: int) -> Marks:
        """The marks of these runs, and of the list of so many newest ones.

        Raises:
            DatabaseUnavailable: the connection was lost, or the database has a problem.
        """
        self._hinted = False
        try:
            # To cut off a statement costs the connection, and a warning.
            with anyio.move_on_after(_LOOK_SECONDS, shield=True):
                return await self._marks(list(workflow_ids), newest)
        except psycopg.Error as error:
            raise DatabaseUnavailable(str(error)) from error
        raise DatabaseUnavailable()

    async def hint(self) -> None:
        """Return when anything was announced since the last look began, or the connection was lost. It may be cancelled."""
        if not self._hinted:
            # Not by psycopg: a wait of its own that is cancelled leaves the connection unusable. What there is to read, the next look reads.
            with suppress(psycopg.Error, OSError):
                await anyio.wait_readable(self._connection.fileno())

    def _hint(self, _notice: psycopg.Notify) -> None:
        self._hinted = True

    async def _marks(self, workflow_ids: list[str], newest: int) -> Marks:
        rows: list[tables.Row] = []
        lists: tables.Row = {"runs": None, "states": None}
        if workflow_ids:
            rows = await tables.fetch(self._connection, "run_marks", workflow_ids=workflow_ids)
        if newest:
            [lists] = await tables.fetch(
                self._connection, "list_marks", application=APPLICATION, count=newest
            )
        return Marks(
            runs={row["workflow_id"]: row["mark"] for row in rows},
            moving=any(row["status"] in _MOVING for row in rows),
            listed=lists["runs"],
            states=lists["states"],
        )


@asynccontextmanager
async def looker(connection: Connection) -> AsyncGenerator[Looker]:
    """Look at the runs in this database, on a connection of its own.

    Raises:
        DatabaseUnavailable: the database does not answer, or DBOS's tables are not there yet.
    """
    try:
        async with await tables.connect(connection.database, role="subscriptions") as opened:
            await _listen(opened)
            yield Looker(opened)
    except psycopg.Error as error:
        raise DatabaseUnavailable(str(error)) from error


async def _listen(connection: tables.Connection) -> None:
    if not (await tables.fetch(connection, "has_dbos_tables"))[0]["there"]:
        raise DatabaseUnavailable("The database is still being set up.")
    for channel in (connection.database.runs_channel, connection.database.activity_channel):
        await tables.listen(connection, channel)

"""In short what is shown of runs, to see whether it has changed: one connection and a few small statements a look, for all who want to know it in this process."""

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
_SOON_SECONDS = 10.0  # by the next look, twice as long as it may be away


@dataclass(frozen=True)
class Marks:
    """What is shown, as far as it was asked for. Where two marks differ, something has changed."""

    runs: Mapping[str, str]  # by workflow_id; a run that is not there has none
    moving: bool  # whether one of the runs may change without a hint, before long
    listed: str | None  # which runs are the newest
    states: str | None  # how these stand
    waits: str | None  # what all runs wait for


@dataclass(frozen=True)
class Wanted:
    """What is looked at: runs, the list of so many newest ones (0: no list), and what all runs wait for. With `whole` also the log of each run, and the numbers of all runs."""

    workflow_ids: Collection[str]
    newest: int
    waits: bool
    whole: bool


class Looker:
    """Looks at runs, and hears when it may be worth while to look again."""

    def __init__(self, connection: tables.Connection) -> None:
        self._connection = connection
        self._hinted = False
        connection.add_notify_handler(self._hint)

    async def look(self, wanted: Wanted) -> Marks:
        """The marks of what is wanted.

        Raises:
            DatabaseUnavailable: the connection was lost, or the database has a problem.
        """
        self._hinted = False
        try:
            # To cut off a statement costs the connection, and a warning.
            with anyio.move_on_after(_LOOK_SECONDS, shield=True):
                return await self._marks(wanted)
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

    async def _marks(self, wanted: Wanted) -> Marks:
        rows = await self._runs(wanted) if wanted.workflow_ids else []
        lists = await self._lists(wanted) if wanted.newest else {"runs": None, "states": None}
        waits = await self._fetch("wait_marks") if wanted.waits else [{"waits": None}]
        return Marks(
            runs={row["workflow_id"]: row["mark"] for row in rows},
            moving=any(row["moving"] for row in rows),
            listed=lists["runs"],
            states=lists["states"],
            waits=waits[0]["waits"],
        )

    async def _runs(self, wanted: Wanted) -> list[tables.Row]:
        ids = list(wanted.workflow_ids)
        rows = await self._fetch("run_marks", workflow_ids=ids, soon=_SOON_SECONDS)
        if not wanted.whole:
            return rows
        lines = {
            row["workflow_id"]: row["line"]
            for row in await self._fetch("log_marks", workflow_ids=ids)
        }
        return [{**row, "mark": f"{row['mark']} {lines.get(row['workflow_id'])}"} for row in rows]

    async def _lists(self, wanted: Wanted) -> tables.Row:
        [lists] = await self._fetch("list_marks", application=APPLICATION, count=wanted.newest)
        if not wanted.whole:
            return lists
        counts = await self._fetch("count_runs", application=APPLICATION)
        return {**lists, "states": f"{lists['states']} {counts}"}

    async def _fetch(self, name: str, **values: object) -> list[tables.Row]:
        return await tables.fetch(self._connection, name, **values)


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

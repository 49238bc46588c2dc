"""Fingerprints of runs, to detect change: one connection and a few small statements per look, for all readers in this process."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import anyio
import psycopg

from durable_workflows.database import tables
from durable_workflows.errors import DatabaseUnavailable
from durable_workflows.models import Connection
from durable_workflows.settings import APPLICATION

_LOOK_SECONDS = 5.0
_SOON_SECONDS = 10.0  # until the next look, twice as long as it may be away


@dataclass(frozen=True)
class Marks:
    """Fingerprints of the wanted parts. If two marks differ, something has changed."""

    runs: Mapping[str, str]  # by workflow_id; a missing run has none
    moving: bool  # whether one of the runs may soon change without a hint
    listed: str | None  # the newest runs
    states: str | None  # their states
    waits: str | None  # the waits of all runs


@dataclass(frozen=True)
class Wanted:
    """What to look at: runs, the list of the newest runs (0: no list), and the waits of all runs.

    With `whole`, also the log of each run, and the numbers of all runs.
    """

    workflow_ids: Collection[str]
    newest: int
    waits: bool
    whole: bool


class Looker:
    """Looks at runs, and hears when another look may be worthwhile."""

    def __init__(self, connection: tables.Connection) -> None:
        self._connection = connection
        self._hinted = False
        connection.add_notify_handler(self._hint)

    async def look(self, wanted: Wanted) -> Marks:
        """The marks of the wanted parts.

        Raises:
            DatabaseUnavailable: the connection was lost, or the database has a problem.
        """
        self._hinted = False
        try:
            # Cutting off a statement would cost the connection, and a warning.
            with anyio.move_on_after(_LOOK_SECONDS, shield=True):
                return await look(partial(tables.fetch, self._connection), wanted)
        except psycopg.Error as error:
            raise DatabaseUnavailable(str(error)) from error
        raise DatabaseUnavailable()

    async def hint(self) -> None:
        """Return when anything was announced since the last look began, or when the connection was lost. It may be cancelled."""
        if not self._hinted:
            # Not by psycopg: cancelling its own wait leaves the connection unusable. The next look reads what has arrived.
            with suppress(psycopg.Error, OSError):
                await anyio.wait_readable(self._connection.fileno())

    def _hint(self, _notice: psycopg.Notify) -> None:
        self._hinted = True


async def look(fetch: tables.Fetch, wanted: Wanted) -> Marks:
    """The marks of what is wanted, as `fetch` brings them; its errors."""
    rows = await _runs(fetch, wanted) if wanted.workflow_ids else []
    lists = await _lists(fetch, wanted) if wanted.newest else {"runs": None, "states": None}
    waits = await fetch("wait_marks") if wanted.waits else [{"waits": None}]
    return Marks(
        runs={row["workflow_id"]: row["mark"] for row in rows},
        moving=any(row["moving"] for row in rows),
        listed=lists["runs"],
        states=lists["states"],
        waits=waits[0]["waits"],
    )


async def _runs(fetch: tables.Fetch, wanted: Wanted) -> list[tables.Row]:
    ids = list(wanted.workflow_ids)
    rows = await fetch("run_marks", workflow_ids=ids, soon=_SOON_SECONDS)
    if not wanted.whole:
        return rows
    found = await fetch("log_marks", workflow_ids=ids)
    lines = {row["workflow_id"]: row["line"] for row in found}
    return [{**row, "mark": f"{row['mark']} {lines.get(row['workflow_id'])}"} for row in rows]


async def _lists(fetch: tables.Fetch, wanted: Wanted) -> tables.Row:
    [lists] = await fetch("list_marks", application=APPLICATION, count=wanted.newest)
    if not wanted.whole:
        return lists
    counts = await fetch("count_runs", application=APPLICATION)
    return {**lists, "states": f"{lists['states']} {counts}"}


@asynccontextmanager
async def looker(connection: Connection) -> AsyncGenerator[Looker]:
    """Look at the runs in this database, on a separate connection.

    Raises:
        DatabaseUnavailable: the database does not answer, or DBOS's tables do not exist yet.
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

"""Moves a project's embedded database to an external Postgres: all rows, including unfinished runs, which continue there.

If the move is killed, either the project is as it was and the target has none of its runs, or the target has all of them. From just before
the end of the move, the embedded database can no longer be started (`state.note_move`), so that no run continues in both.
"""

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio.to_thread

from durable_workflows.database import copying, tables
from durable_workflows.errors import DatabaseUnavailable, ProjectMoved, UsageError
from durable_workflows.models import UNFINISHED
from durable_workflows.pglite import server
from durable_workflows.pglite.pristine import make_tables
from durable_workflows.processes import lifecycle
from durable_workflows.settings import APPLICATION, Database, Settings
from durable_workflows.system import places, processes, state

_UNCONFIRMED = " (unless that was interrupted: run `durable-workflows move` again)"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Moved:
    """The contents of the target now. `rows` is 0 if an earlier call copied them."""

    target: str
    runs: int
    unfinished: int
    rows: int


async def move(settings: Settings, url: str, progress: Progress = lifecycle.no_progress) -> Moved:
    """Move the project to the Postgres at `url`. Its processes are ended; with DBOS_DATABASE_URL set to `url` they start there.

    It may be repeated after any interruption. The embedded data stay as they are, as a backup.

    Raises:
        UsageError: there is nothing to move, or the project has runs in the target.
        ProjectMoved: it was moved to another Postgres.
        DatabaseRefused: the target cannot be used.
        DatabaseUnavailable: one of the databases was lost on the way.
        SetupError: something must be corrected first.
    """
    embedded = settings.model_copy(update={"database_url": None})
    external = settings.model_copy(update={"database_url": url})
    if not (places.data(settings) / "PG_VERSION").is_file():
        raise UsageError(
            f"{settings.project} has no embedded database: there is nothing to move.",
            hint="Name the project's directory with --project.",
        )
    await anyio.to_thread.run_sync(state.prepare, embedded)
    await tables.check(external.database(url))
    task = _Move(embedded, external, external.database(url), progress)
    if (done := await task.look_first()) is not None:
        return done
    with await lifecycle.alone(embedded, progress):
        return await task.carry_out()


class _Move:
    def __init__(
        self, embedded: Settings, external: Settings, database: Database, progress: Progress
    ) -> None:
        self._embedded = embedded
        self._external = external
        self._database = database
        self._progress = progress
        self._identity = state.claim_identity(embedded)
        self._mark = f"move of {self._identity}"

    async def look_first(self) -> Moved | None:
        """The result of an earlier move, if there was one. Checks that the target can take the project, before anything is ended."""
        async with self._connected(self._database) as target:
            if await self._is_done(target):
                return await self._finish(target, rows=0)
            await self._check_empty(target)
            return None

    async def carry_out(self) -> Moved:
        """Copy everything, and note the new place. The caller holds the supervisor's lock."""
        async with self._connected(self._database) as target:
            if await self._is_done(target):  # by another caller, meanwhile
                return await self._finish(target, rows=0)
            return await self._finish(target, rows=await self._copy(target))

    async def _is_done(self, target: tables.Connection) -> bool:
        """Whether the project was moved to this target. A mark alone proves nothing: the project may have continued at home since."""
        noted = state.moved_to(self._embedded)
        if noted is None:
            return False
        if await copying.is_marked(target, self._mark):
            return True
        if noted.removesuffix(_UNCONFIRMED) != _place(target):
            raise ProjectMoved(f"The runs of this project were moved to {noted}.")
        return False

    async def _check_empty(self, target: tables.Connection) -> None:
        if sum((await _counts(target)).values()):
            raise UsageError(
                f"The project already has runs in {_place(target)}.",
                hint="Choose a database without runs of this project, or give the project another name there with --application.",
            )
        for worker in await _living_workers(target):
            if processes.identity_of(worker["executor_id"]) != self._identity:
                raise UsageError(
                    f"A worker on {worker['host']} runs for this project in {_place(target)}.",
                    hint="End it (`durable-workflows shutdown` there), wait a minute, then try again.",
                )

    async def _copy(self, target: tables.Connection) -> int:
        self._progress(f"Making the tables in {_place(target)}")
        await make_tables(self._external, self._database.url, "external")
        self._progress("Starting the embedded database")
        # No other process knows the password: data written by others now would be lost.
        password = secrets.token_urlsafe()
        async with server.running_pglite(self._embedded, password=password, port=0) as node:
            await make_tables(self._embedded, node.url, "embedded")  # they may be older
            async with self._connected(Database(node.url)) as source:
                return await copying.copy(
                    source,
                    target,
                    mark=self._mark,
                    before_change=lambda: self._check_empty(target),
                    before_commit=lambda: self._note(target),
                    progress=self._progress,
                )

    def _note(self, target: tables.Connection) -> None:
        state.note_move(self._embedded, f"{_place(target)}{_UNCONFIRMED}")

    async def _finish(self, target: tables.Connection, *, rows: int) -> Moved:
        state.note_move(self._embedded, _place(target))
        counts = await _counts(target)
        unfinished = sum(runs for status, runs in counts.items() if status in UNFINISHED)
        return Moved(_place(target), sum(counts.values()), unfinished, rows)

    @asynccontextmanager
    async def _connected(self, database: Database) -> AsyncGenerator[tables.Connection]:
        try:
            async with await tables.connect(database, role="move") as connection:
                yield connection
        except tables.Error as error:
            known = state.moved_to(self._embedded) is None
            what = "The project was not moved" if known else "It is not known if it was moved"
            raise DatabaseUnavailable(
                f"{what}: {tables.first_sentence(error)}",
                hint="Fix that, then run `durable-workflows move` again.",
            ) from error


def _place(target: tables.Connection) -> str:
    return f"{target.info.host}:{target.info.port}/{target.info.dbname}"


async def _counts(target: tables.Connection) -> dict[str, int]:
    """The project's runs in the target by status."""
    if not (await tables.fetch(target, "has_dbos_tables"))[0]["there"]:
        return {}
    rows = await tables.fetch(target, "count_runs", application=APPLICATION)
    return {row["status"]: row["runs"] for row in rows}


async def _living_workers(target: tables.Connection) -> list[tables.Row]:
    if not (await tables.fetch(target, "has_dbos_tables"))[0]["there"]:
        return []
    return [row for row in await tables.fetch(target, "workers") if row["seen_lately"]]

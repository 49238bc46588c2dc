"""Moves a project's embedded database to an external Postgres, or to the embedded one of another engine: all rows, including unfinished runs.

If the move is killed, either the project is as it was and the target has none of its runs, or the target has all of them. From just before
the end of the move, the old database can no longer be started (`state.note_move`), so that no run continues in both. A target in the folder
that was left by an earlier move can be started only after this move is done.
"""

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio.to_thread

from durable_workflows.database import copying, tables
from durable_workflows.errors import DatabaseUnavailable, ProjectMoved, UsageError
from durable_workflows.models import UNFINISHED
from durable_workflows.pglite.pristine import make_tables
from durable_workflows.processes import databases, lifecycle
from durable_workflows.settings import APPLICATION, ENGINES, Database, Engine, Settings
from durable_workflows.system import places, processes, state

# Where the runs went, if that is the embedded database of that engine.
_IN_THE_FOLDER: dict[Engine, str] = {
    engine: f"the project's own database of the engine {engine} (DURABLE_WORKFLOWS_ENGINE={engine})"
    for engine in ENGINES
}
# Of one that is being made for them.
_COMING = "another of its databases (a move to this one was interrupted: run `durable-workflows move` again)"
_UNCONFIRMED = " (unless that was interrupted: run `durable-workflows move` again)"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Moved:
    """The contents of the target now. `rows` is 0 if an earlier call copied them."""

    target: str
    runs: int
    unfinished: int
    rows: int


async def move(settings: Settings, to: str, progress: Progress = lifecycle.no_progress) -> Moved:
    """Move the project to the Postgres at the URL `to`, or to its embedded database of the engine `to`.

    Its processes are ended; with that database in the settings they start there. It may be repeated after any interruption. The old data
    stay as they are, as a backup.

    Raises:
        UsageError: there is nothing to move, or the project has runs in the target.
        ProjectMoved: it was moved to another database.
        DatabaseRefused: the target cannot be used.
        DatabaseUnavailable: one of the databases was lost on the way.
        SetupError: something must be corrected first.
    """
    home = _home(settings, to)
    if not (places.data(home) / "PG_VERSION").is_file():
        raise UsageError(
            f"{settings.project} has no embedded database: there is nothing to move.",
            hint="Name the project's directory with --project.",
        )
    await anyio.to_thread.run_sync(state.prepare, home)
    task = _Move(home, _there(settings, to), progress)
    if (done := await task.look_first()) is not None:
        return done
    with await lifecycle.alone(home, progress):
        return await task.carry_out()


def _home(settings: Settings, to: str) -> Settings:
    """The settings for the embedded database that has the runs, or had them before an earlier call."""
    homes = [state.of_engine(settings, engine) for engine in ENGINES if engine != to]
    made = [home for home in homes if (places.data(home) / "PG_VERSION").is_file()]
    # A database that was moved to the one of the other engine has not been moved from here.
    others = {*_IN_THE_FOLDER.values(), _COMING}
    own = [home for home in made if state.moved_to(home) not in others]
    return next(iter([*own, *made, *homes]))


def _there(settings: Settings, to: str) -> Settings:
    for engine in ENGINES:
        if to == engine:
            return state.of_engine(settings, engine)
    return settings.model_copy(update={"database_url": to})


class _Move:
    def __init__(self, home: Settings, there: Settings, progress: Progress) -> None:
        self._home = home
        self._there = there
        self._progress = progress
        self._identity = state.claim_identity(home)
        self._mark = f"move of {self._identity}"

    async def look_first(self) -> Moved | None:
        """The result of an earlier move, if there was one. Checks that the target can take the project, before anything is ended."""
        if self._there.database_url is None:  # to be started, which only its owner may
            noted = (state.moved_to(self._home) or "").removesuffix(_UNCONFIRMED)
            if noted and noted != _IN_THE_FOLDER[self._there.engine]:
                raise ProjectMoved(f"The runs of this project were moved to {noted}.")
            return None
        await tables.check(self._there.database(self._there.database_url))
        async with self._target() as target:
            if await self._is_done(target):
                return await self._finish(target, rows=0)
            await self._check_empty(target)
            return None

    async def carry_out(self) -> Moved:
        """Copy everything, and note the new place. The caller holds the supervisor's lock."""
        async with self._target() as target:
            if await self._is_done(target):  # by another caller, meanwhile
                return await self._finish(target, rows=0)
            return await self._finish(target, rows=await self._copy(target))

    @asynccontextmanager
    async def _target(self) -> AsyncGenerator[tables.Connection]:
        url = self._there.database_url
        if url is not None:
            async with self._connected(self._there.database(url)) as connection:
                yield connection
            return
        self._make_room()
        async with self._started(self._there) as database, self._connected(database) as connection:
            yield connection

    def _make_room(self) -> None:
        """Let a new embedded database be made for a move that has not come to its end before, and by nobody else."""
        if state.moved_to(self._home) is not None:
            return
        if state.moved_to(self._there) != _COMING and (kept := state.set_aside(self._there)):
            self._progress(f"Keeping the database of before as {kept}")
        if not places.data(self._there).exists():
            self._progress("Making the new database")
            state.note_move(self._there, _COMING)

    @asynccontextmanager
    async def _started(self, settings: Settings) -> AsyncGenerator[Database]:
        """An embedded database with the newest tables. No other process knows the password: data written by others now would be lost."""
        password = secrets.token_urlsafe()
        async with databases.running(settings, password=password, port=0) as process:
            await make_tables(settings, process.url, "embedded")
            yield Database(process.url)

    async def _is_done(self, target: tables.Connection) -> bool:
        """Whether the project was moved to this target. A mark alone proves nothing: the project may have continued at home since."""
        noted = state.moved_to(self._home)
        if noted is None:
            return False
        if await copying.is_marked(target, self._mark):
            return True
        if noted.removesuffix(_UNCONFIRMED) != self._place(target):
            raise ProjectMoved(f"The runs of this project were moved to {noted}.")
        return False

    async def _check_empty(self, target: tables.Connection) -> None:
        if sum((await _counts(target)).values()):
            raise UsageError(
                f"The project already has runs in {self._place(target)}.",
                hint="Choose a database without runs of this project, or give the project another name there with --application.",
            )
        for worker in await _living_workers(target):
            if processes.identity_of(worker["executor_id"]) != self._identity:
                raise UsageError(
                    f"A worker on {worker['host']} runs for this project in {self._place(target)}.",
                    hint="End it (`durable-workflows shutdown` there), wait a minute, then try again.",
                )

    async def _copy(self, target: tables.Connection) -> int:
        if (url := self._there.database_url) is not None:
            self._progress(f"Making the tables in {self._place(target)}")
            await make_tables(self._there, url, "external")
        self._progress("Starting the embedded database")
        async with self._started(self._home) as database, self._connected(database) as source:
            return await copying.copy(
                source,
                target,
                mark=self._mark,
                before_change=lambda: self._check_empty(target),
                before_commit=lambda: self._note(target),
                progress=self._progress,
            )

    def _note(self, target: tables.Connection) -> None:
        state.note_move(self._home, f"{self._place(target)}{_UNCONFIRMED}")

    async def _finish(self, target: tables.Connection, *, rows: int) -> Moved:
        if self._there.embedded:
            state.forget_move(self._there)  # it may have been a backup
        state.note_move(self._home, self._place(target))
        counts = await _counts(target)
        unfinished = sum(runs for status, runs in counts.items() if status in UNFINISHED)
        return Moved(self._place(target), sum(counts.values()), unfinished, rows)

    def _place(self, target: tables.Connection) -> str:
        if self._there.embedded:
            return _IN_THE_FOLDER[self._there.engine]
        return f"{target.info.host}:{target.info.port}/{target.info.dbname}"

    @asynccontextmanager
    async def _connected(self, database: Database) -> AsyncGenerator[tables.Connection]:
        try:
            async with await tables.connect(database, role="move") as connection:
                yield connection
        except tables.Error as error:
            known = state.moved_to(self._home) is None
            what = "The project was not moved" if known else "It is not known if it was moved"
            raise DatabaseUnavailable(
                f"{what}: {tables.first_sentence(error)}",
                hint="Fix that, then run `durable-workflows move` again.",
            ) from error


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

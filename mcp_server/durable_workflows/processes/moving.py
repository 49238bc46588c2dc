"""Moves a project's embedded database to an external Postgres, or to the embedded one of another engine: all rows, including unfinished runs.

If the move is killed, either the project is as it was and the target has none of its runs, or the target has all of them. From just before
the end of the move, the old database can no longer be started (`state.note_move`), so that no run continues in both. A target in the folder
that was left by an earlier move can be started only after this move is done. The way back from an external Postgres is in `returning.py`.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio.to_thread

from durable_workflows.database import closing, copying, tables
from durable_workflows.errors import ProjectMoved, UsageError
from durable_workflows.pglite.pristine import make_tables
from durable_workflows.processes import lifecycle, returning, targets
from durable_workflows.processes.targets import COMING, IN_THE_FOLDER, UNCONFIRMED, Moved, Progress
from durable_workflows.settings import ENGINES, Database, Settings
from durable_workflows.system import state


async def move(settings: Settings, to: str, progress: Progress = lifecycle.no_progress) -> Moved:
    """Move the project to the Postgres at the URL `to`, or to its embedded database of the engine `to`.

    It comes from its embedded database or, if it goes into the folder and the settings name an external Postgres, from there.
    Its processes are ended; with that database in the settings they start there. It may be repeated after any interruption. The old data
    stay as they are, as a backup.

    Raises:
        UsageError: there is nothing to move, or the project has runs in the target.
        ProjectMoved: it was moved to another database.
        DatabaseRefused: the target cannot be used.
        DatabaseUnavailable: one of the databases was lost on the way.
        SetupError: something must be corrected first.
    """
    there = _there(settings, to)
    if settings.database_url is not None and there.embedded:
        return await returning.bring_back(settings, settings.database_url, there, progress)
    home = _home(settings, to)
    if not targets.is_made(home):
        raise UsageError(
            f"{settings.project} has no embedded database: there is nothing to move.",
            hint="Name the project's directory with --project.",
        )
    await anyio.to_thread.run_sync(state.prepare, home)
    task = _Move(home, there, progress)
    if (done := await task.look_first()) is not None:
        return done
    with await lifecycle.alone(home, progress):
        return await task.carry_out()


def _home(settings: Settings, to: str) -> Settings:
    """The settings for the embedded database that has the runs, or had them before an earlier call."""
    homes = [state.of_engine(settings, engine) for engine in ENGINES if engine != to]
    made = [home for home in homes if targets.is_made(home)]
    # A database that was moved to the one of the other engine has not been moved from here.
    others = {*IN_THE_FOLDER.values(), COMING}
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
            noted = (state.moved_to(self._home) or "").removesuffix(UNCONFIRMED)
            further = state.moved_to(self._there) if noted == self._own_place else noted
            if noted and further not in (None, COMING):
                raise ProjectMoved(f"The runs of this project were moved to {further}.")
            return None
        await tables.check(self._there.database(self._there.database_url))
        async with self._target() as target:
            if await self._is_done(target):
                return await self._finish(target, rows=0)
            if await closing.moved_to(target) is None:
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
        if state.moved_to(self._home) is None:  # otherwise the target may have the runs already
            targets.make_room(self._there, self._progress)
        async with (
            targets.started(self._there) as database,
            self._connected(database) as connection,
        ):
            yield connection

    async def _is_done(self, target: tables.Connection) -> bool:
        """Whether the project was moved to this target. A mark alone proves nothing: the project may have continued at home since."""
        noted = state.moved_to(self._home)
        if noted is None:
            return False
        if await copying.is_marked(target, self._mark):
            return True
        if noted.removesuffix(UNCONFIRMED) != self._place(target):
            raise ProjectMoved(f"The runs of this project were moved to {noted}.")
        return False

    async def _check_empty(self, target: tables.Connection) -> None:
        await targets.check_empty(target, self._place(target), self._identity)

    async def _copy(self, target: tables.Connection) -> int:
        if (url := self._there.database_url) is not None:
            if kept := await closing.set_aside(target):
                self._progress(f"Keeping the schema of before as {kept}")
            self._progress(f"Making the tables in {self._place(target)}")
            await make_tables(self._there, url, "external")
        self._progress("Starting the embedded database")
        async with targets.started(self._home) as database, self._connected(database) as source:
            return await copying.copy(
                source,
                target,
                mark=self._mark,
                before_change=lambda: self._check_empty(target),
                before_commit=lambda: self._note(target),
                progress=self._progress,
            )

    async def _note(self, target: tables.Connection) -> None:
        state.note_move(self._home, f"{self._place(target)}{UNCONFIRMED}")

    async def _finish(self, target: tables.Connection, *, rows: int) -> Moved:
        if self._there.embedded:
            state.forget_move(self._there)  # it may have been a backup
        state.note_move(self._home, self._place(target))
        return await targets.moved(target, self._place(target), rows=rows)

    def _place(self, target: tables.Connection) -> str:
        return self._own_place if self._there.embedded else targets.place_of(target)

    @property
    def _own_place(self) -> str:
        return IN_THE_FOLDER[self._there.engine]

    def _connected(self, database: Database) -> AbstractAsyncContextManager[tables.Connection]:
        return targets.connected(database, is_sure=lambda: state.moved_to(self._home) is None)

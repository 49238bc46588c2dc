"""Moves a project from an external Postgres into the database in its folder: all rows, including unfinished runs.

Other machines may have the external database in their settings. So it is closed (`closing.py`) just before the end of the move: whoever comes
back, from whichever machine, can write nothing there. If the move is killed, either the project is as it was, or the external database is
closed and another call ends the move.
"""

import socket
from contextlib import AbstractAsyncContextManager

import anyio.to_thread

from durable_workflows.database import closing, copying, tables
from durable_workflows.errors import ProjectMoved, UsageError
from durable_workflows.pglite.pristine import make_tables
from durable_workflows.processes import lifecycle, targets
from durable_workflows.processes.targets import COMING, IN_THE_FOLDER, UNCONFIRMED, Moved, Progress
from durable_workflows.settings import ENGINES, Settings
from durable_workflows.system import state


async def bring_back(settings: Settings, url: str, there: Settings, progress: Progress) -> Moved:
    """Move the project from the Postgres at `url` to its embedded database `there`; see `moving.move`."""
    await anyio.to_thread.run_sync(state.prepare, settings)
    await tables.check(settings.database(url))
    task = _Return(settings, url, there, progress)
    await task.look_first()
    with await lifecycle.alone(settings, progress):
        return await task.carry_out()


class _Return:
    def __init__(self, settings: Settings, url: str, there: Settings, progress: Progress) -> None:
        self._settings = settings
        self._url = url
        self._there = there
        self._progress = progress
        self._identity = state.claim_identity(settings)
        where = f"in {settings.project} on {socket.gethostname()}"
        self._place = f"{IN_THE_FOLDER[there.engine]} {where}"
        self._is_open = True

    async def look_first(self) -> None:
        """Check what can be checked before anything is ended."""
        async with self._external() as source:
            await self._check(source)

    async def carry_out(self) -> Moved:
        """Copy everything, and close the external database. The caller holds the supervisor's lock."""
        async with self._external() as source:
            await self._check(source)
            targets.make_room(self._there, self._progress)
            async with (
                targets.started(self._there) as database,
                targets.connected(database, is_sure=lambda: self._is_open) as target,
            ):
                done = not self._is_open and await copying.is_marked(
                    target, await self._mark(source)
                )
                rows = 0 if done else await self._copy(source, target)
                return await self._finish(source, target, rows=rows)

    def _external(self) -> AbstractAsyncContextManager[tables.Connection]:
        database = self._settings.database(self._url)
        return targets.connected(database, is_sure=lambda: self._is_open)

    async def _check(self, source: tables.Connection) -> None:
        noted = await closing.moved_to(source)
        self._is_open = noted is None
        if noted is None:
            await self._check_has_runs(source)
            await self._check_deserted(source)
            return
        # What came back may have gone on from here since.
        is_here = noted.removesuffix(UNCONFIRMED) == self._place
        further = state.moved_to(self._there) if is_here else noted
        if further not in (None, COMING):
            raise ProjectMoved(f"The runs of this project were moved to {further}.")

    async def _check_has_runs(self, source: tables.Connection) -> None:
        """A project whose runs are in its folder is not replaced by an empty one."""
        if await targets.has_runs(source):
            return
        folder = [state.of_engine(self._settings, engine) for engine in ENGINES]
        marks = [state.moved_to(one) or UNCONFIRMED for one in folder if targets.is_made(one)]
        if not marks or any(mark.endswith(UNCONFIRMED) for mark in marks):
            raise UsageError(
                f"The project has no runs in {targets.place_of(source)}: there is nothing to move.",
                hint="Without DBOS_DATABASE_URL, `durable-workflows move` moves the database in the project's folder.",
            )

    async def _check_deserted(self, source: tables.Connection) -> None:
        await targets.check_deserted(source, targets.place_of(source), self._identity)

    async def _mark(self, source: tables.Connection) -> str:
        return f"return of {self._identity} {await closing.number(source)}"

    async def _copy(self, source: tables.Connection, target: tables.Connection) -> int:
        if self._is_open:
            self._progress("Making the newest tables in both databases")
            await make_tables(self._settings, self._url, "external")
        await source.execute("begin")  # until `end_source`; an error rolls it back
        if self._is_open:
            await closing.close(source, self._place, note=UNCONFIRMED)
            await self._check_deserted(source)

        async def check_empty() -> None:
            await targets.check_empty(target, IN_THE_FOLDER[self._there.engine], self._identity)

        async def end_source() -> None:
            self._is_open = False
            await source.execute("commit")

        return await copying.copy(
            source,
            target,
            mark=await self._mark(source),
            before_change=check_empty,
            before_commit=end_source,
            progress=self._progress,
        )

    async def _finish(
        self, source: tables.Connection, target: tables.Connection, *, rows: int
    ) -> Moved:
        engine = self._there.engine
        for other in ENGINES:  # what was left here before knows where the runs are now
            backup = state.of_engine(self._settings, other)
            if other != engine and state.moved_to(backup) is not None:
                state.note_move(backup, IN_THE_FOLDER[engine])
        state.forget_move(self._there)
        await closing.confirm(source, self._place)
        return await targets.moved(target, IN_THE_FOLDER[engine], rows=rows)

"""The supervisor: one per state directory, held by an OS lock for its life. It handles processes and knows nothing of workflows.

It keeps the embedded database running, and one worker for each version of the code that is needed: the newest, and older versions with
unfinished runs. It saves each new state of the workflow folder as a version. It restarts processes that die, with back-off. It exits
by itself when there is nothing left to do. Its processes end with it, however it ends.
The process begins in `supervisor.py`, which may have started the database already.
"""

import json
import logging
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.abc
import anyio.to_thread
import watchfiles

from durable_workflows import content, fitting
from durable_workflows.code import catalog, copies, environments, versions
from durable_workflows.database import closing, facts, retention, space, tables
from durable_workflows.errors import (
    DatabaseUnavailable,
    DurableWorkflowsError,
    PortTaken,
    SetupError,
    TooManyConnections,
    WorkflowUnavailable,
)
from durable_workflows.models import Connection
from durable_workflows.processes import crowding, databases, early, notifying, ring
from durable_workflows.settings import APPLICATION, DOTENV, Settings
from durable_workflows.system import files, locks, places, processes, state
from durable_workflows.system.database_process import DatabaseProcess
from durable_workflows.telling import news

_TICK_SECONDS = 2.0
_DEBOUNCE_MS = 400  # an editor writes several files, or one file in several steps
_FIRST_DELAY_SECONDS = 0.2  # between two starts of the same process; it doubles
_LONGEST_DELAY_SECONDS = 30.0
_HEALTHY_SECONDS = 30.0  # a process that ran this long starts over with the first delay
_FIRST_APART_SECONDS = 1.0  # the cause of a worker's end may pass, for example a lack of memory
_MOST_APART = 4  # workers for suspects at once: halving eight leaves four, two, one and the culprit
_LINGER_SECONDS = 30.0  # the life of a worker without work
_LEAVE_SECONDS = 60.0  # the time to exit on request; after that it is ended
_HEARD_SECONDS = 60.0
_FIRST_PRUNE_SECONDS = 10.0  # a start has enough other work
_PRUNE_SECONDS = 3600.0
_SHRINK_SECONDS = 60.0
_FIRST_BACKUP_SECONDS = 5.0
_BACKUP_SECONDS = 60.0
_SOON = timedelta(seconds=60)  # the database stays up for runs that are due within this time
_ROOM_SECONDS = 20.0
_STOP_SECONDS = 8.0  # a worker lets its steps in flight finish for five
_LEFT_OUT = 5  # files that are named
_SETTLE_SECONDS = 1.5  # a removed file is rewritten after that

logger = logging.getLogger(__name__)
Announce = Callable[[dict[str, object]], None]


@dataclass(frozen=True)
class _Worker:
    """A worker that is needed. A worker `apart` runs only suspects of its version."""

    version: str
    apart: str = ""

    @property
    def title(self) -> str:
        return state.worker_entry(self.version, self.apart)

    @property
    def log(self) -> str:
        return f"worker-{self.version}{'-apart' if self.apart else ''}"


@dataclass(frozen=True)
class _End:
    """How and when a worker's process ended, by the monotonic clock."""

    pid: int
    status: int
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Started:
    """A worker's process, and the pipe by which it learns that it may begin, and that its supervisor is gone."""

    process: "processes.Popen"
    pipe: int

    def let_begin(self) -> None:
        """Let it use the database, when that is up and has the version's files."""
        with suppress(BrokenPipeError):  # it has ended, which its status shows
            os.write(self.pipe, b"\n")

    def ask_to_leave(self) -> None:
        """Ask it to exit if it has no run."""
        with suppress(BrokenPipeError, BlockingIOError):  # it has ended, or was asked often enough
            os.write(self.pipe, b"\n")

    def end(self, executor_id: str) -> None:
        """End it, if it has not ended, and the processes that its steps had started. Blocks."""
        processes.stop(self.process, _STOP_SECONDS)
        os.close(self.pipe)
        _end_executor(executor_id)


@dataclass
class _Kept:
    """The task that keeps a worker running, the last time it had work, by the monotonic clock, and its process, if it has one now."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    needed_at: float = field(default_factory=time.monotonic)
    started: _Started | None = None

    @property
    def idle_seconds(self) -> float:
        return time.monotonic() - self.needed_at


class Supervisor:
    """Keeps the processes of one state directory running."""

    def __init__(
        self,
        settings: Settings,
        lock: locks.Lock,
        announce: Announce,
        early: early.Launch,
        *,
        lends: bool = False,
    ) -> None:
        """With `lends`, the supervisor runs existing work while it may, and has no code of its own to save."""
        self._early = early
        self._settings = settings
        self._lock = lock
        self._node: DatabaseProcess | None = None
        self._lends = lends
        self._announce = announce
        self._identity = state.claim_identity(settings)
        self._rows: tables.LastingConnection | None = None
        self._url = ""
        self._folder = catalog.Folder(settings)
        self._reading = anyio.Lock()
        self._current = ""
        self._workers: dict[_Worker, _Kept] = {}
        self._shrunk_at = 0  # the number of deleted rows at that time
        self._ahead: dict[_Worker, _Started] = {}
        self._report: dict[str, str] = {}
        self._files = {
            places.ignored(settings): state.IGNORE,
            places.identity(settings): files.read_text(places.identity(settings)),
        }
        self._ring = ring.Ring(settings)
        self._connection: Connection | None = None
        self._damaged_at: float | None = None
        self._changed = anyio.Event()
        self._stopping = anyio.Event()
        self._shall_return = False
        self.due_at: datetime | None = None  # after the end: until when all runs wait
        self._busy_at = 0.0
        self._without_place: list[str] = []  # versions that wait until an old worker ends

    async def run(self) -> None:
        """Supervise until told to stop, or until there is nothing left to do. Workers end before the database.

        Raises:
            DurableWorkflowsError: the first start of the database failed.
        """
        async with anyio.create_task_group() as group:
            stop = anyio.CancelScope()
            group.start_soon(self._stop_on_signal, stop)
            with stop:
                await anyio.to_thread.run_sync(self._clear_up)
                if self._settings.python is not None:
                    await anyio.to_thread.run_sync(
                        environments.check_interpreter, self._settings.python
                    )
                try:
                    async with anyio.create_task_group() as starting:
                        starting.start_soon(self._start_ahead)
                        await group.start(self._keep_database)
                    self._announce({"ready": True})
                    await self._keep_workers()
                finally:
                    await self._end_ahead(needed=())
            self._connection = None
            if not self._shall_return and self._lock.is_in_place():
                state.remove_connection(self._settings)
            group.cancel_scope.cancel()

    def _clear_up(self) -> None:
        """End the workers and steps of a killed supervisor, and remove their copies of the code."""
        processes.end(processes.marked(self._identity))
        try:
            copies.remove_all(self._settings)
        except OSError as error:
            raise files.translate(error, places.code(self._settings)) from error

    async def _start_ahead(self) -> None:
        """Start the worker of the present code: it imports its libraries while the database starts."""
        if self._lends:
            return
        try:
            snapshot = await anyio.to_thread.run_sync(self._folder.snapshot)
            worker = _Worker(snapshot.version)
            self._ahead[worker] = self._start_worker(worker)
        except (OSError, DurableWorkflowsError) as error:  # found again when the version is saved
            logger.info("No worker was started in advance: %s", error)

    async def _end_ahead(self, needed: Collection[_Worker]) -> None:
        """End a worker that was started ahead, has not begun, and is not needed."""
        for worker in set(self._ahead) - set(needed):
            started = self._ahead.pop(worker)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(started.end, self._executor_id(worker))

    async def _keep_database(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        if self._settings.database_url is not None:
            await self._reach(self._settings.database_url)
            task_status.started()
            return
        backoff = _Backoff()
        await self._run_database(task_status)
        while True:
            await anyio.sleep(backoff.next_delay())
            try:
                await self._run_database(anyio.TASK_STATUS_IGNORED)
            except (SetupError, DatabaseUnavailable) as error:
                logger.error("The database does not start: %s", error)
                self._note("database", str(error))

    async def _reach(self, url: str) -> None:
        """Check and open an external database. If it has no free connection, it has some time to have one: others come and go."""
        deadline = time.monotonic() + _ROOM_SECONDS
        while True:
            try:
                await tables.check(self._settings.database(url))
                await self._database_is_up(url)
                return
            except TooManyConnections as error:
                if time.monotonic() >= deadline:
                    raise
                logger.warning("Waiting for room in the database: %s", error.message)
                self._announce({"progress": f"Waiting for room in the database. {error.message}"})
            await anyio.sleep(_TICK_SECONDS)

    async def _run_database(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run the embedded database until it ends."""
        if (running := await self._early.taken()) is not None:
            self._keep(places.password(self._settings), self._early.password)
            await self._serve(running, task_status)
            return
        await anyio.to_thread.run_sync(databases.end_left_behind, self._settings)
        await self._ring.copy_before_upgrade()
        try:
            await self._run_database_at(self._port(), task_status)
        except PortTaken:
            if self._settings.port:
                raise
            await self._run_database_at(0, task_status)

    async def _run_database_at(self, port: int, task_status: anyio.abc.TaskStatus[None]) -> None:
        password = self._password()
        await self._serve(
            databases.running(self._settings, password=password, port=port), task_status
        )

    async def _serve(
        self,
        running: AbstractAsyncContextManager[DatabaseProcess],
        task_status: anyio.abc.TaskStatus[None],
    ) -> None:
        """Keep the database's process until it ends."""
        async with running as node:
            await self._database_is_up(node.url)
            self._node = node
            self._keep(places.made(self._settings), state.made(self._settings))
            self._keep(places.opened(self._settings), databases.software(self._settings))
            task_status.started()
            try:
                status = await self._heard_until_end(node)
            finally:
                self._node = None
            full = ": no space is left on its device" if state.is_full(self._settings) else ""
            note = f"ended with status {status}{full}; it is restarting"
            logger.warning("The database %s.", note)
            self._note("database", note)

    async def _heard_until_end(self, node: DatabaseProcess) -> int:
        """Report meanwhile whether clients wait for the database's one session; return its exit status."""

        async def hear() -> None:
            async for event in node.events():
                self._note(crowding.ENTRY, crowding.told(event))

        status = 0
        async with anyio.create_task_group() as group:
            group.start_soon(hear)
            status = await node.wait()
            group.cancel_scope.cancel()
        self._note(crowding.ENTRY, "")
        return status

    def _password(self) -> str:
        """The last password, or a new one: Node is started with it, and no other process needs it before."""
        path = places.password(self._settings)
        password = self._files.get(path) or state.known_password(self._settings)
        password = password or secrets.token_urlsafe(24)
        self._keep(path, password)
        return password

    def _port(self) -> int:
        """The port in the settings, or the last one, so that clients find the database in its old place."""
        kept = self._files.get(places.port(self._settings))
        return self._settings.port or int(kept or state.known_port(self._settings))

    async def _database_is_up(self, url: str) -> None:
        rows = tables.LastingConnection(self._settings.database(url), role="supervisor")
        try:
            async with rows.connection() as connection:
                await closing.check(connection)
                await tables.migrate(connection)
        except BaseException:
            await rows.close()
            raise
        if url != self._url:  # the workers of the old address cannot find the new one
            for kept in self._workers.values():
                kept.scope.cancel()
        old, self._rows, self._url = self._rows, rows, url
        if old is not None:
            await old.close()
        self._write_connection(url)
        state.forget_news(self._settings)
        self._note("database", "up")
        self._changed.set()

    def _write_connection(self, url: str) -> None:
        if self._settings.embedded:
            self._keep(places.port(self._settings), str(urlsplit(url).port))
        database = self._settings.database(url)
        connection = Connection(
            url=url,
            mode="embedded" if self._settings.embedded else "external",
            schema_name=database.schema,
            dbos_schema=database.dbos_schema,
            pid=os.getpid(),
            versions={
                content.PACKAGE: content.package_version(),
                "schema": str(content.schema_version()),
                "dbos": installed_version("dbos"),
                "mcp": installed_version("mcp"),
            },
        )
        self._connection = connection
        with suppress(SetupError):  # it is tried again, and reported
            state.write_connection(self._settings, connection)

    async def _keep_workers(self) -> None:
        async with anyio.create_task_group() as group:
            if not self._lends:
                await self._save_folder()
                group.start_soon(self._watch_folder)
                group.start_soon(self._save_again)
                if self._current:  # needed in any case; finding the others takes some statements
                    self._start_missing(group, [_Worker(self._current)])
            self._busy_at = time.monotonic()
            group.start_soon(self._listen)
            self._start_chores(group)
            while True:
                await self._reconcile(group)
                await self._end_ahead(needed=self._workers)
                # The project may have been removed, or moved away.
                if self._is_idle() or not self._lock.is_in_place():
                    break
                await self._look_after_files()
                self._bound_logs()
                with anyio.move_on_after(_TICK_SECONDS):
                    await self._changed.wait()
                self._changed = anyio.Event()
            await self._note_rest()
            self._stopping.set()
            group.cancel_scope.cancel()

    def _start_chores(self, group: anyio.abc.TaskGroup) -> None:
        group.start_soon(
            self._repeat, self._prune, _FIRST_PRUNE_SECONDS, _PRUNE_SECONDS, "Pruning stopped: %s"
        )
        if self._settings.embedded:
            group.start_soon(
                self._repeat,
                self._shrink_if_no_worker_is_there,
                _SHRINK_SECONDS,
                _SHRINK_SECONDS,
                "The database was not shrunk: %s",
            )
            group.start_soon(
                self._repeat,
                self._back_up,
                _FIRST_BACKUP_SECONDS,
                _BACKUP_SECONDS,
                "There is no backup for now: %s",
            )
        if self._settings.notify:
            group.start_soon(
                self._repeat, self._notify, 0.0, _TICK_SECONDS, "Nothing is told for now: %s"
            )

    async def _repeat(
        self, chore: Callable[[], Awaitable[None]], first: float, pause: float, problem: str
    ) -> None:
        """Repeat a chore, first after that many seconds. A database that refuses it, or a full disk, must not end the supervisor."""
        await anyio.sleep(first)
        while True:
            try:
                await chore()
            except DatabaseUnavailable as error:  # it is restarted, and that is reported
                logger.info(problem, error)
            except (DurableWorkflowsError, tables.Error, OSError) as error:
                logger.warning(problem, error)
            await anyio.sleep(pause)

    async def _notify(self) -> None:
        """Run the user's command for events of runs, on the database at its present address."""
        await notifying.follow(self._settings, self._settings.database(self._url), self._identity)

    async def _prune(self) -> None:
        """Delete runs that are older than the settings allow, and give their space back.

        Old versions of the code are deleted in any case.
        """
        assert self._rows is not None
        await self._rows.run("use_version", version=self._current)
        if not (await self._rows.fetch("has_all_of_this_release"))[0]["there"]:
            return  # no worker has made the tables yet
        if runs := await retention.prune_old(self._rows, self._settings):
            logger.info("Deleted %s old runs.", runs)

    async def _shrink_if_no_worker_is_there(self) -> None:
        """Give the space of deleted runs back, even in a project that always has a client: at this moment no run has to wait for it."""
        assert self._rows is not None
        if self._workers:
            return
        deleted = (await self._rows.fetch("deleted_rows"))[0]["rows"]
        if deleted != self._shrunk_at:
            await space.shrink(self._rows, quick=False)
            self._shrunk_at = deleted

    async def _back_up(self) -> None:
        """Keep the automatic backups, if possible while no run is active."""
        problem = await self._ring.look(
            self._settings.database(self._url), busy=bool(self._workers)
        )
        self._note("backup", problem)

    async def _note_rest(self) -> None:
        """Find out until when there is nothing to do. On an external database, other processes may wake runs at any time."""
        if self._settings.embedded and self._is_idle() and self._lock.is_in_place():
            await self._shrink()
            with suppress(DatabaseUnavailable):
                self.due_at = await self._next_due()
                await self._leave_news()
        until = f" until {self.due_at:%Y-%m-%d %H:%M:%S} UTC" if self.due_at else ""
        logger.info("Nothing is left to do%s; ending.", until)
        self._note(state.REST, self.due_at.isoformat() if self.due_at else "")

    async def _leave_news(self) -> None:
        """Keep the state of the runs for a returning user: nothing changes until the project is started again."""
        assert self._rows is not None
        if not (await self._rows.fetch("has_all_of_this_release"))[0]["there"]:
            return
        found = await self._rows.in_snapshot(facts.news)
        told = {client: news.lines(found, client) for client in ["", *found.last_here]}
        self._note(state.LEFT, found.model_dump_json())
        try:
            texts = {client or "anyone": "\n".join(lines) for client, lines in told.items()}
            state.leave_news(self._settings, texts)
        except OSError as error:  # for example a full disk: the other clients get no news
            logger.warning("What there is to tell was not kept: %s", error)

    async def _shrink(self) -> None:
        """Give back the space of deleted runs, now that no active run has to wait for it."""
        assert self._rows is not None
        try:
            await space.shrink(self._rows, quick=False)
        except (DurableWorkflowsError, tables.Error) as error:  # for example a full disk
            logger.warning("The database was not shrunk: %s", error)

    async def _next_due(self) -> datetime | None:
        """The time when the first of the runs is due that need no worker until then."""
        assert self._rows is not None
        return (await self._rows.fetch("next_due", application=APPLICATION))[0]["at"]

    def _bound_logs(self) -> None:
        try:
            state.bound_logs(self._settings)
        except OSError as error:  # for example a full disk, or a removed log: the next time
            logger.warning("The logs were not shortened: %s", error)

    async def _look_after_files(self) -> None:
        """Repair removed or damaged files; end a database whose directory is no longer in its place.

        Not at once: the project may be about to be removed, and `rm -r` must not meet new files.
        """
        node = self._node
        if self._are_files_whole():
            self._damaged_at = None
        elif self._damaged_at is None:
            self._damaged_at = time.monotonic()
        elif time.monotonic() - self._damaged_at >= _SETTLE_SECONDS:
            self._lock.name_holder(os.getpid())
            self._restore()
            if node is not None and node.is_in_place():
                node.name_holder()
            elif node is not None:
                logger.error("The data directory was moved or replaced; ending the database.")
                await node.stop()

    def _are_files_whole(self) -> bool:
        """Whether the files of the state directory have the right contents, and the data directory is in its place."""
        return (
            self._lock.names(os.getpid())
            and state.are_whole(self._files)
            and (self._node is None or (self._node.is_named() and self._node.is_in_place()))
            and (self._connection is None or state.is_connection_whole(self._settings))
        )

    def _is_idle(self) -> bool:
        idle = time.monotonic() - self._busy_at
        return idle >= self._settings.idle_exit_seconds and not self._lends

    async def _stop_on_signal(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                logger.info("Asked to stop by signal %s.", number)
                # SIGTERM may come from anyone: a connected client brings this supervisor back, as after a kill.
                self._shall_return = number == signal.SIGTERM
                self._stopping.set()  # the folder's watcher is a thread, which no cancellation reaches
                scope.cancel()

    async def _watch_folder(self) -> None:
        folder = self._settings.workflow_folder
        while True:
            try:
                if folder.is_dir():
                    await self._watch(folder)
            except (OSError, RuntimeError) as error:  # too many watches, or a folder that vanished
                logger.info(
                    "Cannot watch the workflow folder; checking it from time to time instead: %s",
                    error,
                )
            await anyio.sleep(_TICK_SECONDS)
            await self._save_folder()

    async def _save_again(self) -> None:
        """Save the changes made before the watch began."""
        await anyio.sleep(_TICK_SECONDS)
        await self._save_folder()

    async def _watch(self, folder: Path) -> None:
        changes: AsyncIterator[object] = watchfiles.awatch(  # pyright: ignore[reportUnknownMemberType]
            folder, debounce=_DEBOUNCE_MS, step=_DEBOUNCE_MS, stop_event=self._stopping
        )
        async for _ in changes:
            await self._save_folder()
            if not await anyio.Path(folder).is_dir():
                return

    async def _save_folder(self) -> None:
        """Save the present state of the folder as the newest version."""
        assert self._rows is not None
        try:
            async with self._reading:
                snapshot = await anyio.to_thread.run_sync(self._folder.snapshot)
            self._note_left_out(snapshot.left_out)
            if snapshot.version == self._current:
                return
            async with self._rows.connection() as connection:
                await versions.save(connection, snapshot)
        except WorkflowUnavailable as error:
            logger.warning("%s", error)
            self._note("files", str(error))
            return
        except (OSError, DurableWorkflowsError, tables.Error) as error:
            logger.warning("The workflow folder was not saved: %s", error)
            return
        logger.info("The newest version is %s.", snapshot.version)
        self._current = snapshot.version
        self._changed.set()

    def _note_left_out(self, left_out: Mapping[str, str]) -> None:
        named = list(left_out.items())[:_LEFT_OUT]
        first = [f"{fitting.shown_line(name)} is left out: {why}" for name, why in named]
        more = len(left_out) - len(first)
        self._note("files", "; ".join(first) + (f"; {more} more" if more else ""))

    async def _reconcile(self, group: anyio.abc.TaskGroup) -> None:
        """Start the missing workers that are needed, and end workers that are not needed."""
        try:
            needed = await self._needed()
        except (DatabaseUnavailable, tables.Error) as error:  # the next tick may do better
            logger.warning("Cannot tell which workers are needed: %s", error)
            self._busy_at = time.monotonic()  # runs may be waiting for the database to come back
            return
        for worker, kept in self._workers.items():
            if worker not in needed:
                self._ask_to_leave(worker, kept)
        self._start_missing(group, needed)

    def _ask_to_leave(self, worker: _Worker, kept: _Kept) -> None:
        """Ask a worker without a run to exit; if it has claimed a run meanwhile, it is needed. End a worker that has runs but no place."""
        late = kept.idle_seconds >= _LINGER_SECONDS + _LEAVE_SECONDS
        if late or worker.version in self._without_place:
            kept.scope.cancel()
        elif kept.started is not None:
            kept.started.ask_to_leave()

    def _start_missing(self, group: anyio.abc.TaskGroup, needed: Collection[_Worker]) -> None:
        for worker in needed:
            if worker not in self._workers:
                kept = self._workers[worker] = _Kept()
                group.start_soon(self._keep_worker, worker, kept)

    async def _listen(self) -> None:
        """Check at once which workers are needed when a run wants a worker and there is none."""
        while True:
            try:
                database = self._settings.database(self._url)
                async with await tables.connect(database, role="supervisor") as connection:
                    await tables.listen(connection, database.wanted_channel)
                    self._changed.set()  # for hints that were missed while not listening
                    while True:
                        async for _ in tables.heard(connection, _HEARD_SECONDS):
                            self._changed.set()
            except tables.Lost as error:
                logger.info("The database does not answer: %s", error)
                await anyio.sleep(_TICK_SECONDS)

    async def _needed(self) -> list[_Worker]:
        """The workers that have work, and, as far as there is room, those that had work a moment ago."""
        versions = await self._needed_versions()
        needed = [*map(_Worker, versions), *await self._needed_apart(versions)]
        room = self._settings.old_workers - sum(map(self._is_old, needed))
        for worker, kept in self._workers.items():
            if worker in needed:
                kept.needed_at = time.monotonic()
            elif self._lingers(worker, kept) and (room > 0 or not self._is_old(worker)):
                room -= self._is_old(worker)
                needed.append(worker)
        return needed

    @staticmethod
    def _lingers(worker: _Worker, kept: _Kept) -> bool:
        return kept.idle_seconds < _LINGER_SECONDS and not worker.apart

    def _is_old(self, worker: _Worker) -> bool:
        return not worker.apart and worker.version != self._current

    async def _needed_apart(self, versions: Collection[str]) -> list[_Worker]:
        """Workers for suspects.

        First come those with suspects that are not yet known to end their worker: the innocent ones must continue.
        """
        assert self._rows is not None
        rows = await self._rows.fetch("workers_apart", identity=self._identity)
        found = {
            _Worker(row["version"], processes.apart_of(row["executor_id"])): row["proven"]
            for row in rows
            if row["version"] in versions
        }
        ordered = sorted(found, key=lambda one: (found[one], one not in self._workers))
        self._note("waiting_apart", str(len(ordered[_MOST_APART:]) or ""))
        return ordered[:_MOST_APART]

    async def _needed_versions(self) -> list[str]:
        """The versions whose runs have work, the versions just saved for a start, and the newest version if a schedule may start runs."""
        assert self._rows is not None
        if self._lends:
            newest = await self._rows.fetch("newest_version")
            self._current = newest[0]["version"] if newest else ""
        elif not self._current:
            await self._save_folder()
        about = {"application": APPLICATION, "current": self._current}
        versions = [row["version"] for row in await self._rows.fetch("needed_versions", **about)]
        if versions or await self._is_wanted():
            self._busy_at = time.monotonic()
        older = [version for version in versions if version != self._current]
        allowed = self._settings.old_workers
        # Running workers keep their place, so that each finishes its work.
        older.sort(key=lambda version: _Worker(version) not in self._workers)
        self._without_place = older[allowed:]
        self._note("waiting_versions", " ".join(self._without_place))
        return [*([self._current] if self._current in versions else []), *older[:allowed]]

    async def _is_wanted(self) -> bool:
        """Whether a client is connected, or a run is due: soon, or at any time on a shared database."""
        if locks.is_held(places.clients_lock(self._settings), even_shared=True):
            return True
        due = await self._next_due()
        soon = datetime.now(UTC) + _SOON
        return due is not None and (due < soon or not self._settings.embedded)

    async def _keep_worker(self, worker: _Worker, kept: _Kept) -> None:
        backoff = _Backoff(_FIRST_APART_SECONDS if worker.apart else _FIRST_DELAY_SECONDS)
        with kept.scope:
            while True:
                try:
                    end = await self._run_worker(worker, kept)
                except OSError as error:  # for example, its log cannot be written
                    logger.error("The %s cannot be started: %s", worker.title, error)
                    self._note(worker.title, f"cannot be started: {error}")
                    await anyio.sleep(backoff.next_delay())
                    continue
                if end.status == 0 and await self._has_left(worker, end):
                    logger.info("The %s has nothing to do and has ended.", worker.title)
                    await anyio.to_thread.run_sync(
                        copies.remove, self._settings, worker.version, worker.apart
                    )
                    break
                logger.warning("The %s ended with status %s.", worker.title, end.status)
                if await self._note_end(worker, end):
                    # A run has ended it, and is set apart if it does so again: the other runs need not wait for long.
                    backoff.begin_anew()
                await anyio.sleep(backoff.next_delay())
        del self._workers[worker]
        self._note(worker.title, "")
        self._changed.set()

    async def _run_worker(self, worker: _Worker, kept: _Kept) -> _End:
        """Run the worker until it ends."""
        executor_id = self._executor_id(worker)
        started = self._ahead.pop(worker, None)
        if started is None:
            await anyio.to_thread.run_sync(_end_executor, executor_id)
            started = self._start_worker(worker)
        process = started.process
        kept.started = started
        try:
            started.let_begin()
            self._note(worker.title, f"running as process {process.pid}")
            status = await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
            return _End(process.pid, status)
        finally:
            kept.started = None
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(started.end, executor_id)

    def _executor_id(self, worker: _Worker) -> str:
        return processes.executor_id(self._identity, worker.version, worker.apart)

    def _start_worker(self, worker: _Worker) -> _Started:
        theirs, ours = os.pipe()
        os.set_blocking(ours, False)
        try:
            return _Started(self._spawn_worker(worker, theirs), ours)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)

    def _spawn_worker(self, worker: _Worker, parent: int) -> "processes.Popen":
        executor_id = self._executor_id(worker)
        project = str(self._settings.project)
        command = processes.python(
            "host.worker",
            "--project",
            project,
            "--version",
            worker.version,
            "--executor",
            executor_id,
            *(["--apart"] if worker.apart else []),
            interpreter=self._settings.python,
        )
        dotenv = self._settings.dotenv()
        self._note("dotenv", " ".join(sorted(dotenv)))
        environment = {
            **dotenv,
            **self._settings.as_environment(),
            DOTENV: " ".join(self._settings.dotenv_names()),
            processes.MARKER: executor_id,
        }
        with places.log_file(self._settings, worker.log).open("ab") as log:
            return processes.spawn(
                [*command, "--parent", str(parent)],
                environment=environment,
                folder=self._settings.project,
                log=log,
                inherit=[parent],
            )

    async def _has_left(self, worker: _Worker, end: _End) -> bool:
        """Whether the worker exited by itself. Then it has removed its row; a run that ends its process with status 0 does not do that."""
        assert self._rows is not None
        about = {"executor_id": self._executor_id(worker), "pid": end.pid}
        try:
            return not (await self._rows.fetch("is_announced", **about))[0]["found"]
        except DatabaseUnavailable as error:
            logger.info("%s", error)
            return False

    async def _note_end(self, worker: _Worker, end: _End) -> bool:
        """Note how this process of a worker ended, for the next one, and for callers that wait for the version's catalog.

        Return whether the common worker had code of runs in progress.
        """
        self._note(worker.title, f"ended with status {end.status}; starting again")
        assert self._rows is not None
        executor_id = self._executor_id(worker)
        about = {"executor_id": executor_id, "pid": end.pid, "status": end.status}
        try:
            if not worker.apart:
                tail = fitting.text(state.log_tail(self._settings, worker.log))
                await self._rows.run("version_failed", version=worker.version, error=tail)
            if await self._rows.run("note_worker_end", **about, ago=time.monotonic() - end.at):
                rows = await self._rows.fetch("has_code_under_way", executor_id=executor_id)
                return rows[0]["found"] and not worker.apart
        except DatabaseUnavailable as error:
            logger.info("%s", error)
        return False

    def _note(self, name: str, text: str) -> None:
        """Keep `supervisor.json` current: the state of the processes, for `status`, even while the database is away."""
        text = fitting.text(text)
        if self._report.get(name, "") == text:
            return
        self._report = {**self._report, name: text} if text else _without(self._report, name)
        self._keep(places.report(self._settings), json.dumps(self._report, indent=2))

    def _known(self, path: Path) -> str:
        """The contents that a file of the state directory has or should have."""
        return self._files.get(path) or files.read_text(path)

    def _keep(self, path: Path, text: str) -> None:
        """Write a file of the state directory, now if possible, and again whenever it was removed or damaged."""
        self._files[path] = text
        if self._lock.is_in_place():
            state.restore({path: text})

    def _restore(self) -> None:
        """Rewrite the files that were removed or damaged, and note the files that cannot be written."""
        if not self._lock.is_in_place():  # the files there now belong to another supervisor
            return
        with suppress(OSError):  # the next process that needs the folder reports the error
            state.make_folders(self._settings)
        wrong = state.restore(self._files)
        for lock in (places.supervisor_lock(self._settings), places.database_lock(self._settings)):
            wrong += files.in_the_way(lock.file)
        if self._connection is not None:
            wrong += state.restore_connection(self._settings, self._connection)
        if (said := " ".join(wrong)) != self._report.get("state files", ""):
            logger.error("Files that cannot be written: %s", said or "none")
            self._note("state files", said)


class _Backoff:
    """The delays between starts of one process."""

    def __init__(self, first: float = _FIRST_DELAY_SECONDS) -> None:
        self._first = self._delay = first
        self._last = time.monotonic()

    def begin_anew(self) -> None:
        self._delay = self._first

    def next_delay(self) -> float:
        now = time.monotonic()
        if now - self._last > _HEALTHY_SECONDS + self._delay:
            self._delay = self._first
        self._last = now
        delay, self._delay = self._delay, min(self._delay * 2, _LONGEST_DELAY_SECONDS)
        return delay


def _end_executor(executor_id: str) -> None:
    processes.end(processes.of_executor(executor_id))


def _without(report: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in report.items() if key != name}

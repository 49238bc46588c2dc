"""The worker: hosts DBOS for one version of the code, from the version's files in the database.

It takes the lock of its executor id, migrates DBOS's schema, loads the version's files, publishes the catalog, and launches DBOS, which
takes up the runs of an earlier worker with the same executor id. From then on it reports what the runs do. On SIGTERM it gives the
steps in flight a moment to finish, and exits. It also exits when the pipe from its supervisor closes.
"""

import argparse
import asyncio
import functools
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NoReturn

import anyio
import anyio.from_thread
import anyio.to_thread
from dbos import DBOS, DBOSConfig, SQLAlchemyDatasource

from durable_workflows import fitting
from durable_workflows.authoring import redaction
from durable_workflows.authoring.effects import once_steps
from durable_workflows.code import catalog, copies, environments
from durable_workflows.database import answers, leases, tables
from durable_workflows.database.addresses import APPLICATION_NAME, own_url
from durable_workflows.errors import DatabaseUnavailable, SetupError
from durable_workflows.host import earlier, loading, suspects
from durable_workflows.host.activity import Activity
from durable_workflows.host.importing import isolated
from durable_workflows.host.lease import Lease
from durable_workflows.host.runlog import RunLog
from durable_workflows.models import Schema
from durable_workflows.processes import http_access
from durable_workflows.schemas import described
from durable_workflows.schemas.signatures import Signature
from durable_workflows.seam import attempts, callbacks, datasources, dbos_calls, effects
from durable_workflows.seam.attempts import Attempts
from durable_workflows.seam.callbacks import Callbacks
from durable_workflows.seam.datasources import Datasources
from durable_workflows.seam.effects import Effects
from durable_workflows.seam.own_classes import OwnClasses
from durable_workflows.seam.patches import (
    connections,
    failures,
    labels,
    messages,
    observing,
    parkable_waits,
    queues,
    recording,
    registering,
    replaying,
    schedules,
    single_statements,
    step_statements,
    transactions,
    turns,
    typed_arguments,
    wakeups,
    waking,
)
from durable_workflows.seam.patches import leases as lease_patches
from durable_workflows.seam.patches.claiming import Claims
from durable_workflows.seam.patches.executions import Executions
from durable_workflows.seam.patches.parking import Parking
from durable_workflows.seam.patches.places import Places
from durable_workflows.settings import APPLICATION, ENDS_CHILDREN, QUEUE, Database, Settings
from durable_workflows.system import locks, places, processes, state

_LOCK_SECONDS = 20.0  # a predecessor that is being ended needs a moment
_DRAIN_SECONDS = 5.0
_POLLING_SECONDS = 15.0  # of queues, in addition to the doorbell: a hint may be lost
_HEARTBEAT_SECONDS = 20.0
_RECONNECT_SECONDS = 1.0
_ROOM_SECONDS = 60.0
_REPORT_AGAIN_SECONDS = 2.0
_ASKED = 100  # bytes; each asks whether the worker has nothing to do
_DONE_SECONDS = 2.0  # how often a worker apart checks whether it is done
_LAST_LINES_SECONDS = 1.0
_SLOW_IMPORT_SECONDS = 5.0
_AT_IMPORT = "What is at the top of a file runs at import: put it into a step."
_COALESCE_SECONDS = (
    0.05  # DBOS's notifier thread wakes that often; its default is a hundred times a second
)

logger = logging.getLogger(__name__)


def run(
    settings: Settings,
    version: str,
    executor_id: str,
    parent: int,
    faults: Mapping[str, str] | None,
    *,
    apart: bool,
) -> None:
    """Be the worker of `version` until told to stop. Does not return.

    `parent` is the pipe from the supervisor. The first byte comes when the database is up and has the version; each later byte asks this
    worker to exit
    if it has no run; the end of the pipe means that the supervisor is gone. With `apart` the worker runs only suspects, and exits by itself
    when it has
    no code of a run in progress. `faults` says, by path, which files cannot run in this process's environment; None: the environment must
    first be
    made or found.
    """
    _import_ahead()
    # If `faults` are known, an earlier program of this process has read it.
    if faults is None and not os.read(parent, 1):
        _leave(0)
    try:
        lock = places.lock_files(settings) / f"executor-{executor_id}"
        with locks.held_lock(lock, wait_seconds=_LOCK_SECONDS):
            _Worker(settings, version, executor_id, parent, faults, apart=apart).main()
            logger.info("The worker of version %s is ending.", version)
            _leave(0)
    except BaseException:
        logger.exception("The worker of version %s failed.", version)
        _leave(1)


def _import_ahead() -> None:
    """Import the libraries of the bundled workflows while the database starts."""
    with suppress(ImportError):  # reported with the file that needs it
        importlib.import_module("httpx2")


def _leave(status: int) -> NoReturn:
    """End the process now: threads of runs may wait for days, and their rows are safe."""
    logging.shutdown()
    os._exit(status)


async def migrate(database: Database) -> None:
    """Make or update all tables: DBOS's and our own. The caller makes sure that no other process does so at the same time.

    Raises:
        tables.Error: the database does not answer, or refuses.
    """
    connections.connect_alone()
    async with await tables.connect(
        database, role="migration", room_within_seconds=_ROOM_SECONDS
    ) as connection:
        if await tables.is_set_up(connection):
            return
        await tables.migrate(connection)
        for of_dbos in (DBOS.migrate, SQLAlchemyDatasource.migrate):
            made = functools.partial(of_dbos, own_url(database), schema=database.dbos_schema)
            await anyio.to_thread.run_sync(made)
        await tables.follow_dbos(connection)


class _Worker:
    def __init__(
        self,
        settings: Settings,
        version: str,
        executor_id: str,
        parent: int,
        faults: Mapping[str, str] | None,
        *,
        apart: bool,
    ) -> None:
        connection = state.read_connection(settings)
        if connection is None:
            raise DatabaseUnavailable("The supervisor of this worker is gone.")
        self._settings = settings
        self._database = connection.database
        self._version = version
        self._executor_id = executor_id
        self._parent = parent
        self._faults = faults
        self._apart = apart
        self._apart_for = executor_id if apart else None  # whose suspects alone it runs
        self._bell = wakeups.Doorbell()
        self._look_when_due: Callable[[], None] = lambda: None
        self._places = Places(self._bell)
        self._claims = Claims()
        self._cancelled: set[str] = set()
        self._log = RunLog(redaction.of_process(redaction.password_of(self._database.url)))
        self._is_newest = False
        self._all_taken_up = False
        self._done = False
        self._has_left = False
        self._is_current = True  # else the version is of an earlier release, whose code gets values as it did there
        self._classes = OwnClasses()
        # The one supervisor of an embedded database knows which of its workers are alive.
        self._lease = None if settings.embedded else Lease(self._database, executor_id)

    def main(self) -> None:
        """Work until told to stop. Files are imported between two event loops, in the main thread, as in plain Python."""
        files, faults = asyncio.run(self._settle())
        self._is_current = catalog.version_of(files) == self._version
        self._prepare_dbos()
        if self._is_current:
            typed_arguments.convert_arguments(Signature)
        entries = self._load(files, faults)
        asyncio.run(self._work(entries))

    async def _settle(self) -> tuple[Mapping[str, bytes], Mapping[str, str]]:
        """Prepare the tables and the environment; return the version's files, and which of them cannot run here."""
        # DBOS keeps migrating processes apart by a session advisory lock, and PGlite's clients share one session.
        with await locks.awaited_lock(
            places.lock_files(self._settings) / "migrate", wait_seconds=120
        ):
            await migrate(self._database)
        async with await self._connected() as connection:
            rows = await tables.fetch(connection, "version_files", version=self._version)
            files = {row["path"]: bytes(row["content"]) for row in rows}
            faults = self._faults
            if faults is None:
                faults = await self._move_in(connection, files)
            return files, faults

    async def _work(self, entries: list[dict[str, object]]) -> None:
        loop = asyncio.get_running_loop()
        activity = Activity(loop, self._executor_id, at_once=self._apart)
        self._parking = Parking(
            self._database.schema,
            self._settings.concurrency,
            self._settings.park_after_seconds,
            activity.waits_of,
            functools.partial(self._bell.ring, waking.BELL),
        )
        parkable_waits.install(self._parking)
        observing.observe(activity)
        effects.offer.make(Effects(self._database.schema, self._parking, activity))
        self._executions = Executions(self._parking)
        self._executions.install()
        if self._lease is not None:
            lease_patches.install(self._lease)
        attempts.offer.make(
            Attempts(self._database.schema, self._executions, self._parking, activity)
        )
        server = functools.partial(http_access.server_of, self._settings)
        callbacks.offer.make(Callbacks(self._database.schema, server))
        self._cancelling = anyio.Event()
        failures.fail_at_whatever_is_raised(activity.is_stopping)
        async with await self._connected() as connection:
            await self._publish_catalog(connection, entries)
            verdict = await self._judge(connection)
            recover = queues.recover_without_counting(verdict.suspects, verdict.condemned)
            await self._announce(
                connection
            )  # first: otherwise no worker could take over the runs that it takes up
            if self._lease is not None:
                self._lease.begin()
            await anyio.to_thread.run_sync(self._launch)
            if self._settings.embedded and not self._apart:
                await self._take_over(connection)
            await tables.run(connection, "version_ready", version=self._version)
        logger.info("The worker of version %s is ready.", self._version)
        await self._serve(activity, functools.partial(self._take_up, verdict, recover))

    async def _connected(self) -> tables.Connection:
        """A connection for a while. A Postgres without a free one has time to have one: a restart of this process would help nobody."""
        return await tables.connect(
            self._database, role="worker", room_within_seconds=_ROOM_SECONDS
        )

    async def _judge(self, connection: tables.Connection) -> suspects.Verdict:
        """Find out which run may have ended the predecessor of this process."""
        if not self._apart:
            await self._let_in_again(connection)
        return await suspects.judge(connection, self._executor_id, apart=self._apart)

    async def _let_in_again(self, connection: tables.Connection) -> None:
        """Let runs continue that were set apart by a lost state directory. The owner of an embedded database has all its runs."""
        identity = processes.identity_of(self._executor_id)
        seconds = 0.0 if self._settings.embedded else leases.LOST_SECONDS
        await tables.run(connection, "let_in_again", identity=identity, seconds=seconds)

    async def _take_up(self, verdict: suspects.Verdict, recover: queues.Recover) -> None:
        """Take up one suspect after the other: when the worker ends, the last one is examined first."""
        for workflow_id in verdict.suspects:
            await anyio.to_thread.run_sync(
                recover, workflow_id, self._executor_id, abandon_on_cancel=True
            )
            await anyio.sleep(verdict.pause_seconds)
        self._all_taken_up = True

    async def _serve(
        self, activity: Activity, take_up: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._report, activity)
            group.start_soon(self._listen)
            group.start_soon(self._look_again)
            group.start_soon(self._end_cancelled)
            group.start_soon(take_up)
            orphaned = await self._stop_asked(activity)
            # Without its supervisor the embedded database is gone too, so no step could be recorded.
            seconds = 0.0 if orphaned and self._settings.embedded else _DRAIN_SECONDS
            drained = await anyio.to_thread.run_sync(activity.drain, seconds)
            logger.info("Stopping; steps in flight: %s.", "none" if drained else "interrupted")
            if self._done:
                await self._give_back()
            group.cancel_scope.cancel()
        await self._keep_last_lines()

    async def _leave(self) -> bool:
        """Give up the place of this worker if it has no run; return whether it did.

        No run is cut off: from here on the worker claims none.
        """
        try:
            if await anyio.to_thread.run_sync(self._claims.stop):
                async with await tables.connect(self._database, role="worker") as connection:
                    about = {"executor_id": self._executor_id}
                    rows = await tables.fetch(connection, "has_runs", **about)
                    if not rows[0]["found"]:
                        await tables.run(connection, "worker_gone", **about)
                        return True
        except tables.Lost as error:
            logger.info("The database does not answer: %s", error)
        self._claims.go_on()
        self._bell.ring_all()
        return False

    async def _until_done(self, activity: Activity) -> None:
        """Return when a worker apart has nothing to do: its runs have ended, or wait for something that any worker can await."""
        while True:
            await anyio.sleep(_DONE_SECONDS)
            try:
                idle = self._all_taken_up and activity.is_idle
                if idle and not await self._is_at_work():
                    return
            except tables.Lost as error:
                logger.info("The database does not answer: %s", error)

    async def _is_at_work(self) -> bool:
        async with await tables.connect(self._database, role="worker") as connection:
            rows = await tables.fetch(connection, "is_at_work", executor_id=self._executor_id)
        return rows[0]["found"]

    async def _give_back(self) -> None:
        """Give the runs of this worker to the common worker. If this fails, the next process of this worker does it."""
        async with await tables.connect(self._database, role="worker") as connection:
            await tables.run(connection, "acquit_apart", executor_id=self._executor_id)
            await anyio.to_thread.run_sync(dbos_calls.recover, [self._executor_id])
            await tables.run(connection, "worker_gone", executor_id=self._executor_id)

    async def _keep_last_lines(self) -> None:
        try:
            with anyio.move_on_after(_LAST_LINES_SECONDS):
                await self._log.flush(self._database)
        except tables.Lost as error:
            logger.info("The last log lines of runs are lost: %s", error)

    def _prepare_dbos(self) -> None:
        self._serializer = recording.install(self._classes, is_current=self._is_current)
        queues.retry_queues()
        step_statements.install(self._database.schema)
        labels.install(self._database.schema)
        replaying.install(self._database.schema)
        schedules.install(self._database.schema)
        single_statements.install()
        transactions.install(self._serializer, one_session=self._settings.one_session)
        datasources.offer.make(Datasources(self._database, self._serializer))
        messages.take_answers_of_people(functools.partial(answers.noted, self._database))
        if self._settings.embedded:
            connections.share_one_backend()
        else:
            turns.install(self._database.schema)
        DBOS(config=self._config())
        self._log.capture()
        observing.before_ends(self._log.settle)
        registering.run_methods_by_name()
        wakeups.notify_at_once()
        wakeups.retry_when_rung(self._bell)
        wakeups.wake_queues(
            self._bell, self._places.look, internal_polling_seconds=_POLLING_SECONDS
        )
        if self._settings.embedded:
            self._look_when_due = wakeups.look_when_due(self._bell)
        queues.claim_only(
            self._apart_for, self._database.schema, self._places.has_all, self._bell.ring_soon
        )
        self._places.install()
        self._claims.install()

    def _config(self) -> DBOSConfig:
        return {
            "name": APPLICATION,
            "system_database_url": own_url(self._database),
            "dbos_system_schema": self._database.dbos_schema,
            "application_version": self._version,
            "executor_id": self._executor_id,
            # A run holds one only while its statement runs.
            "sys_db_pool_size": self._settings.run_connections,
            "use_listen_notify": True,
            "notification_coalesce_sec": _COALESCE_SECONDS,
            "serializer": self._serializer,
            "run_migrations": False,
            "log_level": "WARNING",
            "db_engine_kwargs": {
                # The next statement notices a dead connection, and dbos repeats it; the ping costs a tenth of the speed.
                "pool_pre_ping": False,
                # PGlite's front refuses DBOS under its own name: without the patches here it would make all clients wait.
                "connect_args": {
                    "application_name": f"{APPLICATION_NAME} dbos",
                    # At its first use: to read and to plan a statement takes PGlite several milliseconds.
                    "prepare_threshold": 0,
                },
            },
        }

    async def _move_in(
        self, connection: tables.Connection, files: Mapping[str, bytes]
    ) -> Mapping[str, str]:
        """Continue as a process in the environment that the files need. If this one is right, return which files cannot run in it."""

        async def note(text: str) -> None:
            logger.info("%s", text)
            await self._note_progress(connection, text)

        def report(text: str) -> None:
            anyio.from_thread.run(note, text)

        await self._note_progress(connection, None)  # left by the worker before this one
        prepared = await anyio.to_thread.run_sync(
            environments.prepare, self._settings, files, report
        )
        if prepared.python != Path(sys.executable):
            again = [str(prepared.python), *sys.orig_argv[1:]]
            faults = json.dumps(dict(prepared.errors))
            # The executor's lock is free for a moment then: the process that started this one waits for it, and starts no other.
            processes.become([*again, "--faults", faults], prepared.environment, [self._parent])
        return prepared.errors

    def _load(
        self, files: Mapping[str, bytes], faults: Mapping[str, str]
    ) -> list[dict[str, object]]:
        """Import the version's files; return the rows of its catalog."""
        earlier.offer()
        apart = processes.apart_of(self._executor_id)
        folder = copies.make(self._settings, self._version, files, apart)
        self._classes.look_in([*{folder / PurePosixPath(path).parts[0] for path in files}])
        names = loading.Names(folder, dbos_calls.unregister)
        registering.before_registering(names.claim)
        entries = [
            entry
            for loaded in loading.load(
                files, folder, faults, names, self._around_import, self._settings.project
            )
            for entry in _entries(loaded)
        ]
        self._classes.note_loaded()
        return entries

    async def _publish_catalog(
        self, connection: tables.Connection, entries: list[dict[str, object]]
    ) -> None:
        await self._check_machine(connection, entries)
        async with connection.transaction():
            await tables.run(
                connection,
                "publish_catalog",
                version=self._version,
                entries=fitting.json_text(entries),
            )

    @contextmanager
    def _around_import(self, path: str) -> Generator[None]:
        """Run the import in isolation. If it takes long, report the file: the import may never end, and blocks everything else."""
        timer = threading.Timer(_SLOW_IMPORT_SECONDS, lambda: anyio.run(self._say_slow, path))
        timer.daemon = True
        timer.start()
        try:
            with isolated():
                yield
        finally:
            timer.cancel()
            timer.join()

    async def _say_slow(self, path: str) -> None:
        text = (
            f"The import of {path} is taking more than {_SLOW_IMPORT_SECONDS:.0f} s. {_AT_IMPORT}"
        )
        logger.warning("%s", text)
        try:
            async with await tables.connect(self._database, role="worker") as connection:
                await self._note_progress(connection, text)
        except (DatabaseUnavailable, tables.Error) as error:  # then only the log reports it
            logger.info("The database does not answer: %s", error)

    async def _note_progress(self, connection: tables.Connection, text: str | None) -> None:
        said = None if text is None else fitting.text(text)
        await tables.run(connection, "version_progress", version=self._version, progress=said)

    async def _check_machine(
        self, connection: tables.Connection, entries: list[dict[str, object]]
    ) -> None:
        """Give up on a machine where a file does not load that loads on others: it could not run what it took from the queue."""
        rows = await tables.fetch(connection, "catalog", version=self._version)
        fine = {row["name"] for row in rows if row["error"] is None}
        here = {str(entry["name"]): entry["error"] for entry in entries}
        lacking = [f"{name}: {error}" for name, error in here.items() if error and name in fine]
        if lacking and not self._settings.embedded:
            raise SetupError(
                f"Workflow files that load on other machines do not load here: {'; '.join(lacking)}"
            )

    def _launch(self) -> None:
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._settings.concurrency,
            polling_interval_sec=_POLLING_SECONDS,
            on_conflict="always_update",
        )
        waker = waking.Waker(
            self._parking,
            self._claims,
            self._bell,
            self._places,
            self._database.schema,
            self._settings.concurrency,
            self._apart_for,
        )
        for work in (self._parking.keep_parking, waker.keep_waking):
            threading.Thread(target=work, daemon=True).start()

    async def _take_over(self, connection: tables.Connection) -> None:
        """Take up the runs of this version that began under another identity of the state directory, which was lost or copied.

        The owner of an embedded database has all its runs.
        """
        identity = processes.identity_of(self._executor_id)
        rows = await tables.fetch(
            connection, "strange_executors", version=self._version, identity=identity
        )
        strange = [row["executor_id"] for row in rows]
        if strange:
            logger.warning("Taking over the runs of %s.", ", ".join(strange))
            await anyio.to_thread.run_sync(dbos_calls.recover, strange)
        for executor_id in strange:
            await tables.run(connection, "clear_activity", executor_id=executor_id)

    async def _announce(self, connection: tables.Connection) -> None:
        await tables.run(
            connection,
            "announce_worker",
            executor_id=self._executor_id,
            version=self._version,
            pid=os.getpid(),
            host=socket.gethostname(),
            apart=self._apart,
            held=leases.HELD_SECONDS,
        )

    async def _report(self, activity: Activity) -> None:
        """Write what runs do and print into the database, forever, on one connection; while it is away, try again."""
        while True:
            try:
                async with (
                    await tables.connect(self._database, role="reports") as connection,
                    anyio.create_task_group() as group,
                ):
                    turn = anyio.Lock()
                    group.start_soon(activity.publish, connection, turn)
                    group.start_soon(self._log.publish, connection, turn)
            except* tables.Lost as lost:
                logger.info(
                    "Nothing is reported while the database does not answer: %s", lost.exceptions[0]
                )
                await anyio.sleep(_REPORT_AGAIN_SECONDS)

    async def _listen(self) -> None:
        """Ring the bell when a run enters or leaves a queue; between rings, look after what is due from time to time."""
        while True:
            try:
                async with await tables.connect(self._database, role="doorbell") as connection:
                    await tables.listen(connection, self._database.runs_channel)
                    self._bell.ring_all()  # for hints that were missed, or failed, while not listening
                    await self._hear(connection)
            except tables.Lost as error:
                logger.info("The database does not answer: %s", error)
                await anyio.sleep(_RECONNECT_SECONDS)

    async def _look_again(self) -> None:
        """Make runs find messages that were sent before DBOS's own listener was connected, or connected again."""
        seen: object = None
        while True:
            if (listener := dbos_calls.listener()) is not seen:
                seen = listener
                # If the database is away again, this must not keep the process from ending.
                await anyio.to_thread.run_sync(dbos_calls.look_again, abandon_on_cancel=True)
            await anyio.sleep(_RECONNECT_SECONDS)

    async def _end_cancelled(self) -> None:
        """End the waits of cancelled runs here, when a hint says so, and from time to time."""
        while True:
            with anyio.move_on_after(_HEARTBEAT_SECONDS):
                await self._cancelling.wait()
            self._cancelling = anyio.Event()
            cancelled, self._cancelled = self._cancelled, set()
            await anyio.to_thread.run_sync(
                self._executions.end_cancelled, cancelled, abandon_on_cancel=True
            )

    async def _hear(self, connection: tables.Connection) -> None:
        while True:
            async for payload in tables.heard(connection, _HEARTBEAT_SECONDS):
                self._heard(payload)
            if self._lease is None:
                await tables.run(connection, "worker_seen", executor_id=self._executor_id)
            await self._follow_newest(connection)

    async def _follow_newest(self, connection: tables.Connection) -> None:
        """Make schedules start runs of the newest version, even after an edit was undone: by DBOS's clock another version is later."""
        rows = await tables.fetch(connection, "newest_version")
        was_newest = self._is_newest
        self._is_newest = bool(rows) and rows[0]["version"] == self._version
        if self._is_newest and not was_newest:
            await DBOS.set_latest_application_version_async(self._version)

    def _heard(self, payload: str) -> None:
        status, queue, workflow_id = payload.split("\t", 2)
        if status == "WOKEN":
            if queue == self._version:  # the version stands in the queue's place
                self._bell.ring(waking.BELL)
            return
        if status in ("ENQUEUED", "DELAYED"):
            self._look_when_due()
        if status == "CANCELLED":
            self._cancelled.add(workflow_id)
            self._cancelling.set()
        # The end of a run may let another run of its queue begin, which may have a limit over all workers.
        if status == "ENQUEUED" or queue != QUEUE:
            self._bell.ring(queue)

    async def _stop_asked(self, activity: Activity) -> bool:
        """Return when the supervisor asks for the end, or nothing is left to do (False), or the supervisor is gone (True)."""
        orphaned = False
        async with anyio.create_task_group() as group:

            async def signalled() -> None:
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    async for _ in signals:
                        group.cancel_scope.cancel()

            async def watch_parent() -> None:
                nonlocal orphaned
                while not orphaned and not self._has_left:
                    await anyio.wait_readable(self._parent)
                    orphaned = not os.read(self._parent, _ASKED)
                    self._has_left = not orphaned and await self._leave()
                group.cancel_scope.cancel()

            async def watch_work() -> None:
                await self._until_done(activity)
                self._done = True
                group.cancel_scope.cancel()

            group.start_soon(signalled)
            group.start_soon(watch_parent)
            if self._apart:
                group.start_soon(watch_work)
        return orphaned


def _entries(loaded: loading.LoadedFile) -> list[dict[str, object]]:
    """The catalog rows of a file."""
    if loaded.error is not None:
        return [_entry(name, loaded.path, error=loaded.error) for name in loaded.names]
    known = dbos_calls.registered_workflows()
    return [_described(name, loaded.path, known[name]) for name in loaded.names]


def _described(name: str, source: str, function: Callable[..., object]) -> dict[str, object]:
    try:
        entry = _entry(name, source, described.summary(function), described.args_schema(function))
        return {
            **entry,
            "not_startable": dbos_calls.why_not_startable(name),
            "once": once_steps(function),
            "ends_children": bool(getattr(function, ENDS_CHILDREN, False)),
        }
    except Exception:  # noqa: BLE001 - its types and defaults are code that is not ours: what they raise is their answer
        said = traceback.format_exc()
        return _entry(name, source, error=f"Its arguments cannot be described:\n{said}".strip())


def _entry(
    name: str,
    source: str,
    summary: str = "",
    args_schema: Schema | None = None,
    error: str | None = None,
) -> dict[str, object]:
    return {
        "name": name,
        "summary": summary,
        "args_schema": args_schema or {},
        "source": source,
        "error": error,
        "not_startable": None,
        "once": [],
        "ends_children": False,
    }


def main() -> None:
    """The process's entry: `python -m durable_workflows.entry durable_workflows.host.worker --project DIR --version V --executor ID --parent FD`.

    With `--migrate` in place of the last three it makes the tables in the database of DBOS_DATABASE_URL, and exits. The tables are
    those of the project in a Postgres that may be shared or, with `--migrate embedded`, those of an embedded database.
    """
    parser = argparse.ArgumentParser(prog="worker")
    parser.add_argument("--project", required=True, help="the project directory, for ps")
    parser.add_argument("--version")
    parser.add_argument("--executor", help="the executor id, which is the supervisor's to give")
    parser.add_argument("--apart", action="store_true", help="run suspects only")
    parser.add_argument("--parent", type=int, help="a pipe from the supervisor")
    parser.add_argument("--faults", type=json.loads, help="in an environment made before")
    parser.add_argument("--migrate", choices=["embedded", "external"])
    arguments = parser.parse_args()
    settings = Settings(project=arguments.project)
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if arguments.migrate:
        assert settings.database_url is not None
        url = settings.database_url
        embedded = arguments.migrate == "embedded"
        asyncio.run(migrate(Database(url) if embedded else settings.database(url)))
    else:
        run(
            settings,
            arguments.version,
            arguments.executor,
            arguments.parent,
            arguments.faults,
            apart=arguments.apart,
        )

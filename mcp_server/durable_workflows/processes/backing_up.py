"""Backups of the embedded database, also while runs go on.

The data directory is copied as it is on the disk, and the copy is as after a power cut: it has all that was acknowledged before the
moment that it names, and is recovered from its log when it is opened.

Most of PGlite's directory is copied while runs go on. Then one transaction keeps everybody else from the only session, and what has changed
since the first pass is copied again. That the transaction could be committed proves that nothing came between. A real Postgres is copied
as its manual says, and nobody waits.
"""

import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from durable_workflows import content
from durable_workflows.database import tables
from durable_workflows.errors import DatabaseUnavailable, DataDirectoryLocked, UsageError
from durable_workflows.models import BackedUp, BackupContents
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Database, Settings
from durable_workflows.system import backups, files, locks, places, snapshots, state, trees

MANUAL = "manual"
_LOCK_FILE = "postmaster.pid"  # of the process that has the directory open
_WAIT_SECONDS = 600.0  # for another backup or restore
_SIGN_OF_LIFE = 0.3  # of the time after which a still transaction is ended


async def back_up(
    settings: Settings, path: Path | None, progress: lifecycle.Progress = lifecycle.no_progress
) -> BackedUp:
    """Write a backup to `path`, or into `.dbos/backups/`. Runs go on, but for a moment. A project that does not run is not started.

    Raises:
        UsageError: there is no embedded database, or a file is in the way.
        DatabaseUnavailable: the database was lost on the way.
        SetupError: something must be corrected first.
    """
    check_embedded(settings)
    if state.data_directory(settings) is None:
        raise UsageError(
            f"{settings.project} has no embedded database: there is nothing to back up.",
            hint="Name the project's directory with --project.",
        )
    await anyio.to_thread.run_sync(state.prepare, settings)
    async with only_one(settings):
        with staged(settings) as folder:
            progress("Copying the database")
            found, paused = await _copied(settings, folder, progress)
            path = path or backups.place(settings, found.at, MANUAL)
            progress("Writing the backup")
            written = await anyio.to_thread.run_sync(backups.write, folder, found, path)
    return BackedUp(file=str(path), at=found.at, bytes=written, paused_ms=round(paused * 1000))


def check_embedded(settings: Settings) -> None:
    """Check that the project has its database embedded. A Postgres server has tools of its own, which know the whole server.

    Raises:
        UsageError
    """
    if settings.database_url is None:
        return
    database = settings.database(settings.database_url)
    raise UsageError(
        "Only the embedded database is backed up and restored by this command; DBOS_DATABASE_URL names a Postgres of your own.",
        hint=f"Use its tools: pg_dump --format=custom --schema={database.schema} --schema={database.dbos_schema} --file=FILE, and pg_restore --clean while no process of the project runs.",
    )


@asynccontextmanager
async def only_one(settings: Settings) -> AsyncGenerator[None]:
    """No other backup or restore of the project is under way.

    Raises:
        UsageError: one has been for a long time.
    """
    try:
        lock = await locks.awaited_lock(places.backup_lock(settings), wait_seconds=_WAIT_SECONDS)
    except locks.LockHeld as error:
        raise UsageError(
            f"Another backup or restore is under way ({error}).", hint="Wait for its end."
        ) from error
    with lock:
        yield


async def online(
    settings: Settings, database: Database, folder: Path
) -> tuple[BackupContents, float]:
    """Copy the data directory of the running database into a new or empty folder, and say for how many seconds nobody else had a turn.

    Raises:
        DatabaseUnavailable: the database was lost, or something came between.
        NoSpaceLeft, StateDirectoryUnusable: the copy cannot be written.
    """
    try:
        snapshot = _snapshot(settings, folder)
        async with await tables.connect(database, role="backup") as connection:
            copy = _copy_in_turn if settings.one_session else _copy_beside_others
            at, paused = await copy(settings, snapshot, connection)
            return _contents(settings, folder, at), paused
    except tables.Error as error:
        raise DatabaseUnavailable(
            f"No backup was made: {tables.first_sentence(error)}", hint="Call again."
        ) from error
    except OSError as error:
        raise files.translate(error, folder) from error


def offline(settings: Settings, folder: Path) -> BackupContents:
    """Copy the data directory, which no process has open: the caller holds the supervisor's lock. Blocks.

    Raises:
        DataDirectoryLocked: another process has it open.
        NoSpaceLeft, StateDirectoryUnusable: the copy cannot be written.
    """
    try:
        with locks.held_lock(places.database_lock(settings)):
            _snapshot(settings, folder).copy_rest()
            return _contents(settings, folder, datetime.now(UTC))
    except locks.LockHeld as error:
        raise DataDirectoryLocked(f"{DataDirectoryLocked.__doc__} ({error})") from error
    except OSError as error:
        raise files.translate(error, folder) from error


def _contents(settings: Settings, folder: Path, at: datetime) -> BackupContents:
    """What a backup of this copy says of itself."""
    return BackupContents(
        format=backups.FORMAT,
        at=at,
        identity=state.claim_identity(settings),
        project=settings.project.name,
        package=content.package_version(),
        schema_version=content.schema_version(),
        bytes=trees.size(folder),
        engine=settings.engine,
    )


@contextmanager
def staged(settings: Settings) -> Generator[Path]:
    """A folder for a copy, which is removed at the end. The caller holds the lock of backups."""
    places.backups(settings).mkdir(mode=0o700, exist_ok=True)
    with trees.temporary(places.staged(settings)) as folder:
        yield folder


async def _copied(
    settings: Settings, folder: Path, progress: lifecycle.Progress
) -> tuple[BackupContents, float]:
    """A copy of the data directory: of the running database, or while none can start."""
    if state.read_connection(settings) is None:
        with suppress(locks.LockHeld), locks.held_lock(places.supervisor_lock(settings)):
            return await anyio.to_thread.run_sync(offline, settings, folder), 0.0
    connection = await lifecycle.ensure_running(settings, progress)
    return await online(settings, settings.database(connection.url), folder)


def _snapshot(settings: Settings, folder: Path) -> snapshots.Snapshot:
    data = places.data(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    backups.check_room(folder, 2 * trees.size(data))  # the copy, and the file
    return snapshots.Snapshot(data, folder, but=[_LOCK_FILE])


async def _copy_in_turn(
    settings: Settings, snapshot: snapshots.Snapshot, connection: tables.Connection
) -> tuple[datetime, float]:
    """Copy what has changed while nobody else has a turn. The moment of the copy, and how many seconds the others waited."""
    await connection.execute("checkpoint")  # the copy has less to recover
    await anyio.to_thread.run_sync(snapshot.copy_ahead)
    await connection.execute("begin")
    await connection.execute("select 1")  # from here on the turn is ours
    at, began = datetime.now(UTC), time.monotonic()
    await _copy_rest(snapshot, connection, settings.idle_transaction_seconds)
    paused = time.monotonic() - began
    await connection.execute("commit")  # it fails if the turn was lost meanwhile
    return at, paused


async def _copy_beside_others(
    settings: Settings, snapshot: snapshots.Snapshot, connection: tables.Connection
) -> tuple[datetime, float]:
    """Copy a real Postgres as its manual says of base backups. The moment of the copy, and for how many seconds the others waited: none.

    Files change while they are copied. The log, which mends them, is kept by the slot until it has been copied too.
    """
    await connection.execute(
        "select pg_create_physical_replication_slot('durable_workflows_backup', true, true)"
    )
    await connection.execute("select pg_backup_start('durable-workflows', true)")
    await anyio.to_thread.run_sync(snapshot.copy_ahead)
    at = datetime.now(UTC)
    cursor = await connection.execute("select labelfile from pg_backup_stop(false)")
    (label,) = await cursor.fetchall()
    await anyio.to_thread.run_sync(snapshot.copy_again, "pg_wal")
    snapshot.add("backup_label", label["labelfile"])
    return at, 0.0


async def _copy_rest(
    snapshot: snapshots.Snapshot, connection: tables.Connection, still_seconds: float
) -> None:
    """Copy what has changed, while this connection's transaction is open; one that is still for too long would be ended."""
    done = anyio.Event()

    async def give_signs_of_life() -> None:
        while not done.is_set():
            with anyio.move_on_after(still_seconds * _SIGN_OF_LIFE):
                await done.wait()
            if not done.is_set():
                await connection.execute("select 1")

    async with anyio.create_task_group() as group:
        group.start_soon(give_signs_of_life)
        await anyio.to_thread.run_sync(snapshot.copy_rest)
        done.set()

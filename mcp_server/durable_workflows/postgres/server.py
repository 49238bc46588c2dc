"""A real Postgres in the project's folder, from its start to its end; for one project, on the loopback interface.

The server and all its processes hold the locks on the data directory, as PGlite's Node does (`pglite/server.py`): they are free when the last
of them is gone.
"""

import secrets
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import psutil

from durable_workflows.errors import DataDirectoryLocked, PostgresFailed
from durable_workflows.postgres import making
from durable_workflows.postgres.programs import KEEPER, Owner, environment, owner, program
from durable_workflows.settings import Settings
from durable_workflows.system import database_process, files, places, processes
from durable_workflows.system.database_process import DatabaseProcess, Program
from durable_workflows.system.locks import Lock, LockHeld, held_lock

_READY_SECONDS = 300  # after a crash it reads its log again first
# Small, and safe: what Postgres calls durable stays at its default (fsync, full_page_writes, synchronous_commit).
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # their paths may be 107 bytes long at most
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    # Workers of one statement talk through /dev/shm, of which a container has 64 MB.
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",  # three processes less
    "jit": "off",
    "log_min_error_statement": "panic",  # values of runs are in statements
    "log_checkpoints": "off",
}


@asynccontextmanager
async def running_postgres(
    settings: Settings, *, password: str, port: int
) -> AsyncGenerator[DatabaseProcess]:
    """The project's database, running; stopped in an orderly way at the end.

    It listens on 127.0.0.1 at `port` (0: any free one) for clients that know `password`. It also ends when this process does.

    Raises:
        DataDirectoryLocked, DataDirectoryLost, DataDirectoryDamaged, DataDirectoryIncompatible, NoSpaceLeft, PortTaken, PostgresFailed, PostgresNotInstalled,
        StateDirectoryUnusable.
    """
    program("postgres")
    guard = places.database_lock(settings)
    with _translated_errors(settings):
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(settings, guard.file) as naming:
        with _translated_errors(settings):
            whose = owner(settings)
            data = await making.data_directory(settings, whose, naming)
        with _locked(settings, data) as lock:
            _check_alone(settings, data)
            with _translated_errors(settings):
                whose.own_all(data)  # root may have copied the project
                await making.set_password(settings, whose, data, password, lock)
                process = await database_process.launched(
                    _program(settings, data, whose, password, port, (naming, lock))
                )
            process.name_holder()
            try:
                yield process
            finally:
                with anyio.CancelScope(shield=True):
                    await process.stop()


@asynccontextmanager
async def opened_postgres(settings: Settings, data: Path) -> AsyncGenerator[DatabaseProcess]:
    """A data directory that is not in its place, running for this process only. Its files are given to the user who runs the server.

    Raises:
        DataDirectoryDamaged, DataDirectoryIncompatible, NoSpaceLeft, PostgresFailed, PostgresNotInstalled, StateDirectoryUnusable.
    """
    with _locked(settings, data) as lock, _translated_errors(settings):
        whose = owner(settings)
        whose.own_all(data)
        password = secrets.token_urlsafe()
        await making.set_password(settings, whose, data, password, lock)
        process = await database_process.launched(
            _program(settings, data, whose, password, 0, (lock,))
        )
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                await process.stop()


def left_behind(settings: Settings) -> list[psutil.Process]:
    """The server that has the project's data directory open, and its processes. It is known by the directory on its command line."""
    data = places.data(settings)
    first = files.read_text(data / "postmaster.pid").partition("\n")[0]
    postmaster = processes.started(int(first)) if first.isdecimal() else None
    try:
        if postmaster is None or not _serves(postmaster, data):
            return []
        return [postmaster, *postmaster.children(recursive=True)]
    except psutil.Error:  # it has just ended
        return []


def _serves(postmaster: psutil.Process, data: Path) -> bool:
    words = postmaster.cmdline()
    return bool(words) and Path(words[0]).name == "postgres" and words[1:3] == ["-D", str(data)]


def _check_alone(settings: Settings, data: Path) -> None:
    """The second guard, for file systems whose locks do not work: Postgres's own file names the process that has the data open.

    Any other file is of a server that was killed. Postgres would take it for its own if another process has that id by now.
    """
    if found := left_behind(settings):
        raise DataDirectoryLocked(
            f"Process {found[0].pid} holds the data directory of {settings.project}."
        )
    (data / "postmaster.pid").unlink(missing_ok=True)


def _program(
    settings: Settings,
    data: Path,
    whose: Owner,
    password: str,
    port: int,
    held: tuple[Lock, ...],
) -> Program:
    log = places.log_file(settings, "postgres")
    user, group = whose.as_words()
    named = {
        "project": settings.project,
        "data": data,
        "log": log,
        "port": port,
        "user": user,
        "group": group,
    }
    words = [word for name, value in named.items() for word in (f"--{name}", str(value))]
    keeper = [sys.executable, "-I", "-S", str(KEEPER), *words]
    server = [program("postgres"), "-D", str(data)]
    for name, value in _SETTINGS.items():
        server += ["-c", f"{name}={value}"]
    return Program(
        command=[*keeper, "--", *server],
        environment=environment(settings),
        data=data,
        log=log,
        password=password,
        locks=held,
        failed=PostgresFailed,
        ready_seconds=_READY_SECONDS,
    )


def _locked(settings: Settings, path: Path) -> Lock:
    with _translated_errors(settings):
        try:
            return held_lock(path)
        except LockHeld as error:
            raise DataDirectoryLocked(f"{DataDirectoryLocked.__doc__} ({error})") from error


@contextmanager
def _translated_errors(settings: Settings) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise files.translate(error, settings.state) from error

"""The embedded database: PGlite in a Node process, for one project, from start to stop.

This process and Node lock the data directory itself: the lock is free when both are gone. So two PGlites can never use one data
directory, whichever processes were killed and whichever files were removed. The file `<state>/pgdata.lock` names Node, and is locked while
the directory is made.
"""

import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from durable_workflows.errors import DataDirectoryLocked, StateDirectoryUnusable
from durable_workflows.pglite.node import installed_modules
from durable_workflows.pglite.pristine import data_directory
from durable_workflows.pglite.process import Launch, launched
from durable_workflows.settings import Settings
from durable_workflows.system import files, places, processes
from durable_workflows.system.database_process import DatabaseProcess
from durable_workflows.system.locks import Lock, LockHeld, held_lock


@asynccontextmanager
async def running_pglite(
    settings: Settings, *, password: str, port: int
) -> AsyncGenerator[DatabaseProcess]:
    """The project's database, running; stopped in an orderly way at the end.

    It listens on 127.0.0.1 at `port` (0: any free one) for clients that know `password`. It also ends when this process
    does. The first start on a machine takes longer (npm, initdb), which it logs.

    Raises:
        DataDirectoryLocked, DataDirectoryLost, DataDirectoryDamaged, DataDirectoryIncompatible, NodeFailed, NoSpaceLeft, PGliteNotInstalled, PortTaken, StateDirectoryUnusable.
    """
    guard = places.database_lock(settings)
    with _translated_errors(settings):
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(settings, guard.file) as naming:
        with _translated_errors(settings):
            modules = await installed_modules(settings)
            data = await data_directory(settings, modules)
        with _locked(settings, data) as lock:
            _check_alone(settings, data)
            launch = Launch(
                data=data,
                modules=modules,
                log=places.log_file(settings, "pglite"),
                password=password,
                port=port,
                idle_transaction_seconds=settings.idle_transaction_seconds,
                locks=(naming, lock),
            )
            with _translated_errors(settings):
                process = await launched(settings, launch)
            process.name_holder()
            try:
                yield process
            finally:
                with anyio.CancelScope(shield=True):
                    await process.stop()


@asynccontextmanager
async def opened_pglite(settings: Settings, data: Path) -> AsyncGenerator[DatabaseProcess]:
    """A data directory that is not in its place, running for this process only.

    Raises:
        DataDirectoryDamaged, NodeFailed, NoSpaceLeft, PGliteNotInstalled, StateDirectoryUnusable.
    """
    with _translated_errors(settings), held_lock(data) as lock:
        launch = Launch(
            data=data,
            modules=await installed_modules(settings),
            log=places.log_file(settings, "restore"),
            password=secrets.token_urlsafe(),
            port=0,
            idle_transaction_seconds=settings.idle_transaction_seconds,
            locks=(lock,),
        )
        process = await launched(settings, launch)
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                await process.stop()


def _check_alone(settings: Settings, data: Path) -> None:
    """The second guard, for file systems whose locks do not work: Postgres's own file names the process that has the data open."""
    first = files.read_text(data / "postmaster.pid").partition("\n")[0]
    project = str(settings.project)
    if first.isdecimal() and processes.is_ours(int(first), "pglite.mjs", project):
        raise DataDirectoryLocked(f"Process {first} holds the data directory of {project}.")


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
    except (
        LockHeld
    ) as error:  # in the cache: for minutes another process has not finished its installation
        raise StateDirectoryUnusable(f"The cache has been in use for too long: {error}.") from error

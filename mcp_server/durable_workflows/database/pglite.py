"""The embedded database: PGlite in a Node process, for one project, from start to stop.

The lock `<state>/pgdata.lock` is held by this process and by Node. It is free when both are gone, so that two PGlites can
never be on one data directory, whoever was killed and in whichever order.
"""

import errno
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio

from durable_workflows.database.node import installed_modules
from durable_workflows.database.pristine import data_directory
from durable_workflows.database.process import Launch, PGliteProcess, launched
from durable_workflows.errors import DataDirectoryLocked, NoSpaceLeft, StateDirectoryUnusable
from durable_workflows.locks import Lock, LockHeld, held_lock
from durable_workflows.settings import Settings

__all__ = ["PGliteProcess", "running_pglite"]


@asynccontextmanager
async def running_pglite(
    settings: Settings, *, password: str, port: int
) -> AsyncGenerator[PGliteProcess]:
    """The project's database, running; stopped in an orderly way at the end.

    It listens on 127.0.0.1 at `port` (0: any free one) for clients that know `password`. It also ends when this process
    does. The first start on a machine takes longer (npm, initdb), which it logs.

    Raises:
        DataDirectoryLocked, NodeFailed, NoSpaceLeft, PGliteNotInstalled, PortTaken, StateDirectoryUnusable.
    """
    with _lock(settings) as lock:
        process = await _start(settings, password, port, lock)
        lock.name_holder(process.pid)
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                await process.stop()


async def _start(settings: Settings, password: str, port: int, lock: Lock) -> PGliteProcess:
    with _translated_errors():
        modules = await installed_modules(settings)
        data = await data_directory(settings, modules)
        launch = Launch(
            data=data,
            modules=modules,
            log=settings.state / "logs" / "pglite.log",
            password=password,
            port=port,
            idle_transaction_seconds=settings.idle_transaction_seconds,
            lock_descriptor=lock.fileno(),
        )
        return await launched(settings, launch)


def _lock(settings: Settings) -> Lock:
    path = settings.state / "pgdata.lock"
    with _translated_errors():
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return held_lock(path)
        except LockHeld as error:
            raise DataDirectoryLocked(f"{DataDirectoryLocked.__doc__} ({error})") from error


@contextmanager
def _translated_errors() -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceLeft(f"{NoSpaceLeft.__doc__} ({error})") from error
        raise StateDirectoryUnusable(f"{StateDirectoryUnusable.__doc__} ({error})") from error
    except (
        LockHeld
    ) as error:  # in the cache: another process has not finished its installation for minutes
        raise StateDirectoryUnusable(f"The cache is in use for too long: {error}.") from error

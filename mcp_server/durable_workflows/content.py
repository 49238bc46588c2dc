"""The contents of this installation: its version, and its bundled files, in a checkout or inside the installed package."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "durable-workflows"  # as it is installed
# Folders of uv's cache: where `uvx` keeps an environment for a while.
_UV_CACHE = re.compile(r"(archive|builds|environments)-v\d+")
_FOLDER = Path(__file__).parent


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
    return len(list((Path(__file__).parent / "database" / "migrations").glob("*.sql")))

"""What belongs to this installation: its version, and its bundled files, in a checkout or inside the installed package."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `workflows`, `templates` or `references` that belongs to this installation."""
    installed = _PACKAGE / "_content" / name
    return installed if installed.is_dir() else _PACKAGE.parents[1] / name


def package_version() -> str:
    """The version of durable-workflows; `0+checkout` where it runs without being installed."""
    try:
        return version("durable-workflows")
    except PackageNotFoundError:
        return "0+checkout"

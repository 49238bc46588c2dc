"""Where the bundled workflows, templates and references are: in a checkout, or inside the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `workflows`, `templates` or `references` that belongs to this installation."""
    installed = _PACKAGE / "_content" / name
    return installed if installed.is_dir() else _PACKAGE.parents[1] / name

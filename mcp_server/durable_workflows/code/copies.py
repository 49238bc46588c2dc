"""Copies of the code of versions on disk, from which workers import.

Each start of a worker makes a new copy, so that exactly the saved files run. Files that a run wrote into a copy, beside `__file__`,
are kept when the copy is removed.
"""

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from durable_workflows.settings import Settings
from durable_workflows.system import places

_LIST = ".files"  # the names of the original files of the copy
_SHOWN = 3

logger = logging.getLogger(__name__)


def make(settings: Settings, version: str, files: Mapping[str, bytes], apart: str = "") -> Path:
    """Write a version's files into a folder of its own; `apart` names a worker for suspects.

    The copies of earlier processes of this worker are removed.
    """
    code = places.code(settings)
    prefix = _prefix(version, apart)
    folder = Path(tempfile.mkdtemp(dir=code, prefix=prefix))
    write(files, folder)
    (folder / _LIST).write_text(json.dumps(list(files)), encoding="utf-8")
    _remove(settings, (old for old in code.glob(f"{prefix}*") if old != folder))
    return folder


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Put a version's files below `folder`, which must not exist."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def remove(settings: Settings, version: str, apart: str = "") -> None:
    """Remove the copies of a worker that has ended."""
    _remove(settings, places.code(settings).glob(f"{_prefix(version, apart)}*"))


def remove_all(settings: Settings) -> None:
    """Remove the copies of all versions; no worker runs."""
    _remove(settings, places.code(settings).iterdir())


def _prefix(version: str, apart: str) -> str:
    return f"{version}.{apart}-" if apart else f"{version}-"


def problem(settings: Settings) -> str | None:
    """The message about files that runs wrote into copies."""
    kept = places.kept(settings)
    files = sorted(path for path in kept.rglob("*") if path.is_file())
    if not files:
        return None
    names = ", ".join(str(path.relative_to(kept)) for path in files[:_SHOWN])
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"Runs wrote files next to `__file__`, which is in a copy of the workflow folder: {names}{more}. They are kept in {kept}. Change the code to write into the project, with a path relative to the working directory; then remove that folder."


def _remove(settings: Settings, folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            version = re.split(r"[.-]", folder.name, maxsplit=1)[0]
            _keep_written(folder, places.kept(settings) / version)
        except OSError as error:
            logger.warning(
                "%s is kept, because the files that runs wrote there cannot be moved: %s",
                folder,
                error,
            )
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _keep_written(folder: Path, target: Path) -> None:
    """Move the files that were not in the copy at first. Without a list the copy was never complete, so no run has seen it."""
    try:
        own = {_LIST, *json.loads((folder / _LIST).read_text(encoding="utf-8"))}
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name.as_posix() not in own and "__pycache__" not in name.parts:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target / name)

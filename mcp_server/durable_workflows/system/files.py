"""Small files, written whole or not at all and synced to the disk; errors say what to do."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from durable_workflows.errors import NoSpaceLeft, SetupError, StateDirectoryUnusable

_AWAY = "Something else is in its place: move it away, then try again, or choose another directory with --project."


def translate(error: OSError, path: Path) -> SetupError:
    """The error that tells a person what to do about an `OSError`; on `path` if the error does not name another file."""
    path = Path(error.filename) if isinstance(error.filename, str) else path
    if error.errno == errno.ENOTDIR:  # a file is in the place of its folder
        path = path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceLeft(f"No space is left on the device that holds {path}.")
    in_the_way = error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
    return StateDirectoryUnusable(
        f"{path} cannot be used: {error.strerror or error}.", hint=_AWAY if in_the_way else None
    )


def in_the_way(path: Path) -> list[str]:
    """The message about a directory in the place of a file."""
    error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return [str(translate(error, path))] if path.is_dir() else []


def check_writable(folder: Path) -> None:
    """Write a page into the folder, and remove it.

    Raises:
        OSError: it cannot be written, or the disk is full.
    """
    _temporary(folder / "probe", "x" * 4096).unlink()


def write_file(path: Path, text: str) -> None:
    """`write_atomically`, with errors that say what to do.

    Raises:
        StateDirectoryUnusable, NoSpaceLeft
    """
    try:
        write_atomically(path, text)
    except OSError as error:  # the error names the temporary file
        raise translate(OSError(error.errno, error.strerror, str(path)), path) from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a file, readable by this user only, and sync it to the disk. A reader sees the old text or the new text."""
    temporary = _temporary(path, text)
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink()
        raise
    sync(path.parent)


def write_once(path: Path, text: str) -> None:
    """Write a file that must not change afterwards, unless another process or thread was first."""
    if path.exists():
        return
    temporary = _temporary(path, text)
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    sync(path.parent)


def read_text(path: Path) -> str:
    """The text of a small file; empty if there is no such file, or if it cannot be read. Invalid bytes become U+FFFD."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _temporary(path: Path, text: str) -> Path:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    return Path(name)


def sync(folder: Path) -> None:
    """Sync the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

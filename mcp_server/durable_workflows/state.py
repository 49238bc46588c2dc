"""The state directory, `<project>/.dbos/`: what lies where, and the small files in it."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from durable_workflows import locks, processes
from durable_workflows.errors import (
    InvalidProject,
    NoSpaceLeft,
    SetupError,
    StateDirectoryUnusable,
)
from durable_workflows.models import Connection
from durable_workflows.settings import Settings

_IDENTITY = re.compile(rf"(?P<id>{processes.IDENTITY}) (?P<directory>\d+:\d+)\n")
_ROOM_BYTES = 2_000_000
_LOG_BYTES = 5_000_000  # a log that grows beyond it keeps its last part in `<name>.1`


def prepare(settings: Settings) -> None:
    """Make the state directory, if it is not there.

    Raises:
        InvalidProject: the project directory is none.
        StateDirectoryUnusable: it cannot be made or written.
        NoSpaceLeft: the disk is full.
    """
    if not settings.project.is_dir():
        raise InvalidProject(f"{settings.project} is not a directory.")
    try:
        settings.state.mkdir(mode=0o700, exist_ok=True)
        for name in ("logs", "code", "locks"):
            (settings.state / name).mkdir(exist_ok=True)
        write_once(settings.state / ".gitignore", "*\n")
        _temporary(settings.state / "probe", "x" * 4096).unlink()
    except OSError as error:
        raise translate(error, settings.state) from error


def is_full(settings: Settings) -> bool:
    """Whether the disk has no room for what the database writes next: its log grows by a megabyte at a time."""
    return shutil.disk_usage(settings.state).free < _ROOM_BYTES


def translate(error: OSError, path: Path) -> SetupError:
    """The error that tells a person what to do about an `OSError` on `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceLeft(f"No space is left on the device that holds {path}.")
    return StateDirectoryUnusable(f"{path} cannot be used: {error.strerror or error}.")


def identity(settings: Settings) -> str | None:
    """What tells this state directory from every other one. It moves with the directory, and is not copied with it.

    None: there is no id yet, or the file is damaged or came with a copy of another directory.
    """
    found = _IDENTITY.fullmatch(read_text(settings.state / "id"))
    return found["id"] if found and found["directory"] == _inode(settings.state) else None


def claim_identity(settings: Settings) -> str:
    """The directory's identity; a new one is made where there is none, with which unfinished runs go on as well.

    Raises:
        StateDirectoryUnusable, NoSpaceLeft: it cannot be written.
    """
    found = identity(settings) or processes.new_identity()
    if identity(settings) is None:
        write_file(settings.state / "id", f"{found} {_inode(settings.state)}\n")
    return found


def supervisor_lock(settings: Settings) -> Path:
    """Held by the supervisor for its life."""
    return settings.state / "lock"


def database_lock(settings: Settings) -> Path:
    """Held by Node for as long as it has the data directory open."""
    return settings.state / "pgdata.lock"


def servers_lock(settings: Settings) -> Path:
    """Shared by the MCP servers that are connected."""
    return settings.state / "locks" / "servers"


def log_file(settings: Settings, name: str) -> Path:
    """The log of a process."""
    return settings.state / "logs" / f"{name}.log"


def log_tail(settings: Settings, name: str, lines: int = 15) -> str:
    """The end of a process's log."""
    try:
        text = log_file(settings, name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def bound_logs(settings: Settings) -> None:
    """Cut logs that have grown too large. Their writers append, and go on at the new end."""
    for path in (settings.state / "logs").glob("*.log"):
        if path.stat().st_size > _LOG_BYTES:
            path.with_suffix(".log.1").write_bytes(path.read_bytes()[-_LOG_BYTES:])
            os.truncate(path, 0)


def read_connection(settings: Settings) -> Connection | None:
    """What the running supervisor wrote, or None: there is none, or a dead one left the file behind."""
    path = settings.state / "connection.json"
    try:
        connection = Connection.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    lock = supervisor_lock(settings)
    alive = locks.named_holder(lock) == connection.pid and locks.is_held(lock)
    return connection if alive else None


def write_connection(settings: Settings, connection: Connection) -> None:
    """Tell the other processes of the project where the database is."""
    write_atomically(settings.state / "connection.json", connection.model_dump_json(indent=2))


def remove_connection(settings: Settings) -> None:
    """The database is about to stop."""
    (settings.state / "connection.json").unlink(missing_ok=True)


def moved_to(settings: Settings) -> str | None:
    """Where the runs of this project's embedded database were moved to, or None: they were not."""
    try:
        return (settings.state / "moved").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def note_move(settings: Settings, where: str) -> None:
    """From now on the embedded database is a backup."""
    write_atomically(settings.state / "moved", where)


def read_report(settings: Settings) -> Mapping[str, str]:
    """What the supervisor reports of its processes: `supervisor.json`, or nothing where there is none."""
    try:
        return json.loads((settings.state / "supervisor.json").read_bytes())
    except FileNotFoundError:
        return {}


def write_report(settings: Settings, report: Mapping[str, str]) -> None:
    """Report how the processes are; also while the database is away."""
    write_atomically(settings.state / "supervisor.json", json.dumps(report, indent=2))


def write_file(path: Path, text: str) -> None:
    """`write_atomically`, with errors that say what to do.

    Raises:
        StateDirectoryUnusable, NoSpaceLeft
    """
    try:
        write_atomically(path, text)
    except OSError as error:
        raise translate(error, path) from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a file, readable by this user only, and see it onto the disk; a reader sees the old text or the new one."""
    os.replace(_temporary(path, text), path)
    _sync(path.parent)


def write_once(path: Path, text: str) -> None:
    """Write a file that shall not change any more, unless another process or thread was first."""
    if path.exists():
        return
    temporary = _temporary(path, text)
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    _sync(path.parent)


def read_text(path: Path) -> str:
    """What a small file says; nothing if there is none, or if it cannot be read. Bytes that are no text come as U+FFFD."""
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


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inode(folder: Path) -> str:
    found = folder.stat()
    return f"{found.st_dev}:{found.st_ino}"

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

from pydantic import TypeAdapter, ValidationError

from durable_workflows.errors import (
    DataDirectoryDamaged,
    DataDirectoryLost,
    InvalidProject,
    NoSpaceLeft,
    SetupError,
    StateDirectoryUnusable,
)
from durable_workflows.models import Connection
from durable_workflows.settings import Settings
from durable_workflows.system import locks, processes

_IDENTITY = re.compile(rf"(?P<id>{processes.IDENTITY}) (?P<directory>\d+:\d+)\n")
_AWAY = "Something else is in its place: move it away, then try again, or choose another directory with --project."
IGNORE = "*\n"
MADE = """The embedded database of this project was made, in pgdata/.
As long as this file is here, no empty one is made in its place should it be gone.
"""
_REPORT = TypeAdapter(dict[str, str])
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
        make_folders(settings)
        write_once(settings.state / ".gitignore", IGNORE)
        _temporary(settings.state / "probe", "x" * 4096).unlink()
    except OSError as error:
        raise translate(error, settings.state) from error


def make_folders(settings: Settings) -> None:
    """Make the folders in the state directory that are not there.

    Raises:
        OSError: one cannot be made.
    """
    for name in ("logs", "code", "locks"):
        (settings.state / name).mkdir(exist_ok=True)


def is_full(settings: Settings) -> bool:
    """Whether the disk has no room for what the database writes next: its log grows by a megabyte at a time."""
    return shutil.disk_usage(settings.state).free < _ROOM_BYTES


def translate(error: OSError, path: Path) -> SetupError:
    """The error that tells a person what to do about an `OSError`, on `path` if it does not name another."""
    path = Path(error.filename) if isinstance(error.filename, str) else path
    if error.errno == errno.ENOTDIR:  # what should be its folder is a file
        path = path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceLeft(f"No space is left on the device that holds {path}.")
    in_the_way = error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
    return StateDirectoryUnusable(
        f"{path} cannot be used: {error.strerror or error}.", hint=_AWAY if in_the_way else None
    )


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
    found = identity(settings)
    if found is None:
        found = processes.new_identity()
        write_file(settings.state / "id", f"{found} {_inode(settings.state)}\n")
    return found


def supervisor_lock(settings: Settings) -> locks.Guard:
    """Held by the supervisor for its life."""
    return locks.Guard(settings.state / "lock", settings.state)


def database_lock(settings: Settings) -> locks.Guard:
    """Held by Node for as long as it has the data directory open."""
    return locks.Guard(settings.state / "pgdata.lock", settings.state / "pgdata")


def data_directory(settings: Settings) -> Path | None:
    """The data directory of the embedded database; None: the project never had one.

    Raises:
        DataDirectoryLost: it had one.
        DataDirectoryDamaged: what is there is none.
    """
    path = settings.state / "pgdata"
    if (path / "PG_VERSION").is_file():
        return path
    is_empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_empty:
        raise DataDirectoryDamaged(f"{path} exists, but is not a data directory of Postgres.")
    if (settings.state / "pgdata.made").exists():
        what = "is empty" if path.exists() else "is gone"
        raise DataDirectoryLost(
            f"The embedded database of this project was in {path}, which {what}."
        )
    return None


def note_database(settings: Settings) -> None:
    """From now on the project has an embedded database.

    Raises:
        OSError: it cannot be noted.
    """
    write_once(settings.state / "pgdata.made", MADE)


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
    """Cut logs that have grown too large. Their writers append, and go on at the new end.

    Raises:
        OSError: one cannot be read or written; it may have been removed a moment ago.
    """
    for path in (settings.state / "logs").glob("*.log"):
        if path.stat().st_size > _LOG_BYTES:
            path.with_suffix(".log.1").write_bytes(path.read_bytes()[-_LOG_BYTES:])
            os.truncate(path, 0)


def read_connection(settings: Settings) -> Connection | None:
    """What the running supervisor wrote, or None: there is none, or a dead one left the file behind.

    Raises:
        StateDirectoryUnusable: the file cannot be read.
    """
    path = settings.state / "connection.json"
    try:
        connection = Connection.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except OSError as error:
        raise translate(error, path) from error
    lock = supervisor_lock(settings)
    return connection if locks.is_held(lock) and _holds(connection.pid, lock, settings) else None


def _holds(pid: int, lock: locks.Guard, settings: Settings) -> bool:
    """Whether it is this process that holds the lock, also where the lock's file does not tell."""
    named = locks.named_holder(lock)
    return named == pid if named else processes.is_ours(pid, "supervisor", str(settings.project))


def write_connection(settings: Settings, connection: Connection) -> None:
    """Tell the other processes of the project where the database is; errors as for `write_file`."""
    write_file(settings.state / "connection.json", connection.model_dump_json(indent=2))


def remove_connection(settings: Settings) -> None:
    """The database is about to stop."""
    path = settings.state / "connection.json"
    if not path.is_dir():  # which the next start names
        path.unlink(missing_ok=True)


def moved_to(settings: Settings) -> str | None:
    """Where the runs of this project's embedded database were moved to, or None: they were not."""
    path = settings.state / "moved"
    if not path.exists():
        return None
    return read_text(path).strip() or "another Postgres (which one, .dbos/moved does not say)"


def note_move(settings: Settings, where: str) -> None:
    """From now on the embedded database is a backup."""
    write_file(settings.state / "moved", where)


def read_report(settings: Settings) -> Mapping[str, str]:
    """What the supervisor reports of its processes: `supervisor.json`, or nothing where there is none, or a damaged one."""
    try:
        return _REPORT.validate_json(read_text(settings.state / "supervisor.json"))
    except ValidationError:
        return {}


def worker_entry(version: str, apart: str = "") -> str:
    """Under which name the report has a worker; `apart` names one of those for suspects."""
    return f"worker {version} {apart}".rstrip()


def note_failed_start(settings: Settings, why: str) -> None:
    """Report that nothing runs, and why; the next start reports anew."""
    restore(settings, {"supervisor.json": json.dumps({"start": why}, indent=2)})


def in_the_way(path: Path) -> list[str]:
    """What is to be said of a directory in the place of a file."""
    error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return [str(translate(error, path))] if path.is_dir() else []


def are_whole(settings: Settings, files: Mapping[str, str]) -> bool:
    """Whether the files say what they should."""
    return all(read_text(settings.state / name) == text for name, text in files.items())


def is_connection_whole(settings: Settings) -> bool:
    """Whether `connection.json` tells where the database is."""
    try:
        return read_connection(settings) is not None
    except SetupError:
        return False


def restore(settings: Settings, files: Mapping[str, str]) -> list[str]:
    """Write the files again that do not say what they should; return which cannot be written, and why."""
    wrong: list[str] = []
    for name, text in files.items():
        path = settings.state / name
        if read_text(path) == text:
            continue
        try:
            write_file(path, text)
        except SetupError as error:
            wrong.append(str(error))
    return wrong


def restore_connection(settings: Settings, connection: Connection) -> list[str]:
    """`restore` for `connection.json`, which the supervisor that runs has written."""
    if is_connection_whole(settings):
        return []
    try:
        write_connection(settings, connection)
    except SetupError as error:
        return [str(error)]
    return []


def write_file(path: Path, text: str) -> None:
    """`write_atomically`, with errors that say what to do.

    Raises:
        StateDirectoryUnusable, NoSpaceLeft
    """
    try:
        write_atomically(path, text)
    except OSError as error:  # which names the temporary file
        raise translate(OSError(error.errno, error.strerror, str(path)), path) from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a file, readable by this user only, and see it onto the disk; a reader sees the old text or the new one."""
    temporary = _temporary(path, text)
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink()
        raise
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

"""The state directory, `<project>/.dbos/`: the small files in it, and what they mean."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from durable_workflows.errors import (
    DataDirectoryDamaged,
    DataDirectoryLost,
    InvalidProject,
    SetupError,
)
from durable_workflows.models import Connection, News
from durable_workflows.settings import Settings
from durable_workflows.system import files, locks, places, processes

_IDENTITY = re.compile(rf"(?P<id>{processes.IDENTITY}) (?P<directory>\d+:\d+)\n")
IGNORE = "*\n"
MADE = """The embedded database of this project was made, in pgdata/.
As long as this file is here, no empty one is made in its place should it be gone.
"""
REST = "rest"  # under which name the report says until when all runs wait
LEFT = "left"  # and what there was to tell when nothing was left to do
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
        files.write_once(places.ignored(settings), IGNORE)
        files.check_writable(settings.state)
    except OSError as error:
        raise files.translate(error, settings.state) from error


def make_folders(settings: Settings) -> None:
    """Make the folders in the state directory that are not there.

    Raises:
        OSError: one cannot be made.
    """
    for place in (places.logs, places.code, places.lock_files):
        place(settings).mkdir(exist_ok=True)


def is_full(settings: Settings) -> bool:
    """Whether the disk has no room for what the database writes next: its log grows by a megabyte at a time."""
    return shutil.disk_usage(settings.state).free < _ROOM_BYTES


def identity(settings: Settings) -> str | None:
    """What tells this state directory from every other one. It moves with the directory, and is not copied with it.

    None: there is no id yet, or the file is damaged or came with a copy of another directory.
    """
    found = _IDENTITY.fullmatch(files.read_text(places.identity(settings)))
    return found["id"] if found and found["directory"] == _inode(settings.state) else None


def claim_identity(settings: Settings) -> str:
    """The directory's identity; a new one is made where there is none, with which unfinished runs go on as well.

    Raises:
        StateDirectoryUnusable, NoSpaceLeft: it cannot be written.
    """
    found = identity(settings)
    if found is None:
        found = processes.new_identity()
        files.write_file(places.identity(settings), f"{found} {_inode(settings.state)}\n")
    return found


def data_directory(settings: Settings) -> Path | None:
    """The data directory of the embedded database; None: the project never had one.

    Raises:
        DataDirectoryLost: it had one.
        DataDirectoryDamaged: what is there is none.
    """
    path = places.data(settings)
    if (path / "PG_VERSION").is_file():
        return path
    is_empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_empty:
        raise DataDirectoryDamaged(f"{path} exists, but is not a data directory of Postgres.")
    if places.made(settings).exists():
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
    files.write_once(places.made(settings), MADE)


def log_tail(settings: Settings, name: str, lines: int = 15) -> str:
    """The end of a process's log."""
    try:
        text = places.log_file(settings, name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def bound_logs(settings: Settings) -> None:
    """Cut logs that have grown too large. Their writers append, and go on at the new end.

    Raises:
        OSError: one cannot be read or written; it may have been removed a moment ago.
    """
    for path in places.logs(settings).glob("*.log"):
        if path.stat().st_size > _LOG_BYTES:
            path.with_suffix(".log.1").write_bytes(path.read_bytes()[-_LOG_BYTES:])
            os.truncate(path, 0)


def read_connection(settings: Settings) -> Connection | None:
    """What the running supervisor wrote, or None: there is none, or a dead one left the file behind.

    Raises:
        StateDirectoryUnusable: the file cannot be read.
    """
    path = places.connection(settings)
    try:
        connection = Connection.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except OSError as error:
        raise files.translate(error, path) from error
    lock = places.supervisor_lock(settings)
    return connection if locks.is_held(lock) and _holds(connection.pid, lock, settings) else None


def _holds(pid: int, lock: locks.Guard, settings: Settings) -> bool:
    """Whether it is this process that holds the lock, also where the lock's file does not tell."""
    named = locks.named_holder(lock)
    return named == pid if named else processes.is_ours(pid, "supervisor", str(settings.project))


def write_connection(settings: Settings, connection: Connection) -> None:
    """Tell the other processes of the project where the database is; errors as for `write_file`."""
    files.write_file(places.connection(settings), connection.model_dump_json(indent=2))


def remove_connection(settings: Settings) -> None:
    """The database is about to stop."""
    path = places.connection(settings)
    if not path.is_dir():  # which the next start names
        path.unlink(missing_ok=True)


def moved_to(settings: Settings) -> str | None:
    """Where the runs of this project's embedded database were moved to, or None: they were not."""
    path = places.moved(settings)
    if not path.exists():
        return None
    return files.read_text(path).strip() or "another Postgres (which one, .dbos/moved does not say)"


def note_move(settings: Settings, where: str) -> None:
    """From now on the embedded database is a backup."""
    files.write_file(places.moved(settings), where)


def read_report(settings: Settings) -> Mapping[str, str]:
    """What the supervisor reports of its processes: `supervisor.json`, or nothing where there is none, or a damaged one."""
    try:
        return _REPORT.validate_json(files.read_text(places.report(settings)))
    except ValidationError:
        return {}


def rest(settings: Settings) -> datetime | None:
    """Until when the project rests: no process of it runs but a small one, since all its runs wait. None: it does not."""
    holder = locks.named_holder(places.supervisor_lock(settings))
    if holder is None or not is_resting(settings, holder):
        return None
    try:
        return datetime.fromisoformat(read_report(settings).get(REST, ""))
    except ValueError:
        return None


def left_news(settings: Settings) -> News | None:
    """What there was to tell of the runs when the project's processes had nothing left to do, as long as none has begun since. None: that is not known."""
    try:
        return News.model_validate_json(read_report(settings).get(LEFT, ""))
    except ValidationError:
        return None


def leave_news(settings: Settings, told: Mapping[str, str]) -> None:
    """Keep what there is to tell to clients while nothing runs, in words, by their names: a hook reads it faster than any program of ours starts.

    Raises:
        OSError: it cannot be written.
    """
    folder = places.news(settings)
    folder.mkdir(exist_ok=True)
    for client, text in told.items():
        (folder / quote(client, safe="")).write_text(text, encoding="utf-8")


def forget_news(settings: Settings) -> None:
    """From now on the database tells it."""
    shutil.rmtree(places.news(settings), ignore_errors=True)


def is_resting(settings: Settings, pid: int) -> bool:
    """Whether this process is the supervisor of the project, at rest."""
    return processes.is_ours(pid, "resting.py", str(settings.project))


def worker_entry(version: str, apart: str = "") -> str:
    """Under which name the report has a worker; `apart` names one of those for suspects."""
    return f"worker {version} {apart}".rstrip()


def note_failed_start(settings: Settings, why: str) -> None:
    """Report that nothing runs, and why; the next start reports anew."""
    restore({places.report(settings): json.dumps({"start": why}, indent=2)})


def are_whole(texts: Mapping[Path, str]) -> bool:
    """Whether the files say what they should."""
    return all(files.read_text(path) == text for path, text in texts.items())


def is_connection_whole(settings: Settings) -> bool:
    """Whether `connection.json` tells where the database is."""
    try:
        return read_connection(settings) is not None
    except SetupError:
        return False


def restore(texts: Mapping[Path, str]) -> list[str]:
    """Write the files again that do not say what they should; return which cannot be written, and why."""
    wrong: list[str] = []
    for path, text in texts.items():
        if files.read_text(path) == text:
            continue
        try:
            files.write_file(path, text)
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


def _inode(folder: Path) -> str:
    found = folder.stat()
    return f"{found.st_dev}:{found.st_ino}"

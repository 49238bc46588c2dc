"""The state directory, `<project>/.dbos/`: the small files in it, and what they mean."""

import itertools
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
    OtherEngine,
    ProjectMoved,
    SetupError,
)
from durable_workflows.models import Connection, News
from durable_workflows.settings import ENGINES, Engine, Settings
from durable_workflows.system import backups, files, locks, places, processes

_IDENTITY = re.compile(rf"(?P<id>{processes.IDENTITY}) (?P<directory>\d+:\d+)\n")
_PASSWORD = re.compile(r"[\w-]{32}", re.ASCII)
_PORT = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_LAST_PORT = 65_535
IGNORE = "*\n"
_MADE = """The embedded database of this project was made, in {}/.
As long as this file is here, no empty one is made in its place should it be gone.
"""
REST = "rest"  # the name in the report for the time until which all runs wait
LEFT = "left"  # and for the news when nothing was left to do
_REPORT = TypeAdapter(dict[str, str])
ROOM_BYTES = (
    2_000_000  # below it the disk is full: the log of the database grows by a megabyte at a time
)
_LOG_BYTES = 5_000_000  # a log above this size keeps its last part in `<name>.1`


def prepare(settings: Settings) -> None:
    """Make the state directory if it does not exist.

    Raises:
        InvalidProject: the project directory is not a directory.
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
    """Make the missing folders in the state directory.

    Raises:
        OSError: a folder cannot be made.
    """
    for place in (places.logs, places.code, places.lock_files):
        place(settings).mkdir(exist_ok=True)


def is_full(settings: Settings) -> bool:
    """Whether the disk has no room for the next write of the database, whose log grows by a megabyte at a time."""
    return shutil.disk_usage(settings.state).free < ROOM_BYTES


def identity(settings: Settings) -> str | None:
    """A unique id of this state directory. It moves with the directory, and is not copied with it.

    None: there is no id yet, or the file is damaged or came with a copy of another directory.
    """
    found = _IDENTITY.fullmatch(files.read_text(places.identity(settings)))
    return found["id"] if found and found["directory"] == _inode(settings.state) else None


def written_identity(settings: Settings) -> str | None:
    """The id in the directory, whether it is its own or came with a copy. None: there is none, or it is damaged."""
    found = _IDENTITY.fullmatch(files.read_text(places.identity(settings)))
    return found["id"] if found else None


def claim_identity(settings: Settings) -> str:
    """The directory's identity. If there is none, a new one is made, under which unfinished runs continue as well.

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
        DataDirectoryLost: the project had one.
        DataDirectoryDamaged: what is there is not a data directory.
    """
    path = places.data(settings)
    if (path / "PG_VERSION").is_file():
        return path
    is_empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_empty:
        what = f"{path} exists, but is not a data directory of Postgres."
        raise backups.naming_newest(settings, DataDirectoryDamaged(what))
    if places.made(settings).exists():
        what = "is empty" if path.exists() else "is gone"
        where = f"The embedded database of this project was in {path}, which {what}."
        raise backups.naming_newest(settings, DataDirectoryLost(where))
    return None


def finish_restore(settings: Settings) -> None:
    """Put a restored data directory into its place, if a restore was killed just before it did so.

    Raises:
        OSError: it cannot be renamed.
    """
    data, begin = places.data(settings), places.set_aside(settings, "").name
    if data.exists():
        return
    for aside in sorted(settings.state.glob(f"{begin}*"), reverse=True):
        restored = places.restored(settings, aside.name.removeprefix(begin))
        if restored.is_dir():  # it has this name when it is whole, and checked
            restored.rename(data)
            files.sync(settings.state)
            return


def of_engine(settings: Settings, engine: Engine) -> Settings:
    """The settings for the project's database of that engine, in its folder."""
    return settings.model_copy(update={"engine": engine, "database_url": None})


def check_engine(settings: Settings) -> None:
    """Check that the runs of the project are not in its database of another engine: an empty one would hide them.

    Raises:
        OtherEngine: they are.
    """
    if places.made(settings).exists():
        return
    for engine in ENGINES:
        other = of_engine(settings, engine)
        if engine != settings.engine and places.made(other).exists() and moved_to(other) is None:
            raise OtherEngine(f"The runs of this project are in {places.data(other)} ({engine}).")


def note_database(settings: Settings) -> None:
    """Note that the project has an embedded database from now on.

    Raises:
        OSError: the note cannot be written.
    """
    files.write_once(places.made(settings), made(settings))


def made(settings: Settings) -> str:
    """The note that the project has an embedded database."""
    return _MADE.format(places.data(settings).name)


def known_password(settings: Settings) -> str:
    """The password of the embedded database at the last start; empty: none is known."""
    text = files.read_text(places.password(settings))
    return text if _PASSWORD.fullmatch(text) else ""


def known_port(settings: Settings) -> int:
    """The port in the settings, or else that of the last start; 0: none is known."""
    if settings.port:
        return settings.port
    text = files.read_text(places.port(settings))
    port = int(text) if _PORT.fullmatch(text) else 0
    return port if port <= _LAST_PORT else 0


def log_tail(settings: Settings, name: str, lines: int = 15) -> str:
    """The end of a process's log."""
    try:
        text = places.log_file(settings, name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def bound_logs(settings: Settings) -> None:
    """Cut logs that have grown too large. Their writers append, and continue at the new end.

    Raises:
        OSError: a log cannot be read or written; it may have been removed a moment ago.
    """
    for path in places.logs(settings).glob("*.log"):
        if path.stat().st_size > _LOG_BYTES:
            path.with_suffix(".log.1").write_bytes(path.read_bytes()[-_LOG_BYTES:])
            os.truncate(path, 0)


def read_connection(settings: Settings) -> Connection | None:
    """The connection that the running supervisor wrote. None: there is no file, or a dead supervisor left it behind.

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
    """Whether this process holds the lock, even if the lock's file does not say so."""
    named = locks.named_holder(lock)
    return named == pid if named else processes.is_ours(pid, "supervisor", str(settings.project))


def write_connection(settings: Settings, connection: Connection) -> None:
    """Tell the other processes of the project where the database is; errors as for `write_file`."""
    files.write_file(places.connection(settings), connection.model_dump_json(indent=2))


def remove_connection(settings: Settings) -> None:
    """Remove the connection: the database is about to stop."""
    path = places.connection(settings)
    if not path.is_dir():  # the next start names it
        path.unlink(missing_ok=True)


def moved_to(settings: Settings) -> str | None:
    """The new place of the runs of this project's embedded database; None: they were not moved."""
    path = places.moved(settings)
    if not path.exists():
        return None
    return (
        files.read_text(path).strip() or f"another Postgres (which one, {path.name} does not say)"
    )


def check_not_moved(settings: Settings) -> None:
    """Check that the embedded database has the project's runs.

    Raises:
        ProjectMoved: they were moved to another one.
    """
    if (place := moved_to(settings)) is not None:
        raise ProjectMoved(f"The runs of this project were moved to {place}.")


def note_move(settings: Settings, where: str) -> None:
    """Note that the embedded database is a backup from now on."""
    files.write_file(places.moved(settings), where)


def forget_move(settings: Settings) -> None:
    """Note that the embedded database has the project's runs again."""
    places.moved(settings).unlink(missing_ok=True)
    files.sync(settings.state)


def set_aside(settings: Settings) -> Path | None:
    """Make room for a new embedded database. The old one, a backup since a move, stays under another name, which is returned."""
    data = places.data(settings)
    if moved_to(settings) is None or not data.exists():
        return None
    places.made(settings).unlink(missing_ok=True)
    names = (data.with_suffix(f".before-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    data.rename(kept)
    return kept


def read_report(settings: Settings) -> Mapping[str, str]:
    """The supervisor's report about its processes, from `supervisor.json`; empty if the file is missing or damaged."""
    try:
        return _REPORT.validate_json(files.read_text(places.report(settings)))
    except ValidationError:
        return {}


def rest(settings: Settings) -> datetime | None:
    """The time until which the project rests: only one small process runs, since all its runs wait. None: it does not rest."""
    holder = locks.named_holder(places.supervisor_lock(settings))
    if holder is None or not is_resting(settings, holder):
        return None
    try:
        return datetime.fromisoformat(read_report(settings).get(REST, ""))
    except ValueError:
        return None


def left_news(settings: Settings) -> News | None:
    """The news of the runs when the project's processes had nothing left to do, as long as no process has started since. None: unknown."""
    try:
        return News.model_validate_json(read_report(settings).get(LEFT, ""))
    except ValidationError:
        return None


def leave_news(settings: Settings, told: Mapping[str, str]) -> None:
    """Keep the news for clients while nothing runs, in words, by client name.

    A hook reads the file faster than any program of ours starts.

    Raises:
        OSError: it cannot be written.
    """
    folder = places.news(settings)
    folder.mkdir(exist_ok=True)
    for client, text in told.items():
        (folder / quote(client, safe="")).write_text(text, encoding="utf-8")


def forget_news(settings: Settings) -> None:
    """Remove the news: from now on the database has them."""
    shutil.rmtree(places.news(settings), ignore_errors=True)


def is_resting(settings: Settings, pid: int) -> bool:
    """Whether this process is the project's supervisor, at rest."""
    return processes.is_ours(pid, "resting.py", str(settings.project))


def worker_entry(version: str, apart: str = "") -> str:
    """The worker's name in the report; `apart` names a worker for suspects."""
    return f"worker {version} {apart}".rstrip()


def note_failed_start(settings: Settings, why: str) -> None:
    """Report that nothing runs, and why. The next start replaces the report."""
    restore({places.report(settings): json.dumps({"start": why}, indent=2)})


def are_whole(texts: Mapping[Path, str]) -> bool:
    """Whether the files have the right contents."""
    return all(files.read_text(path) == text for path, text in texts.items())


def is_connection_whole(settings: Settings) -> bool:
    """Whether `connection.json` says where the database is."""
    try:
        return read_connection(settings) is not None
    except SetupError:
        return False


def restore(texts: Mapping[Path, str]) -> list[str]:
    """Rewrite the files whose contents are wrong. Return the files that cannot be written, and why."""
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
    """`restore` for `connection.json`, which the running supervisor has written."""
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

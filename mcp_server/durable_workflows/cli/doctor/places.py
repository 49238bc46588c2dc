"""The state directory: who may use it, what is in it, who holds it, and the room on its disk."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from durable_workflows import wording
from durable_workflows.cli.doctor.findings import (
    Finding,
    Fix,
    note,
    of_text,
    ok,
    quoted,
    restoring,
    wrong,
)
from durable_workflows.models import Connection
from durable_workflows.processes import problems
from durable_workflows.settings import Settings
from durable_workflows.system import backups, files, locks, places, processes, state, users

_ROLES = {"supervisor": "supervisor", "pglite.mjs": "database", "resting.py": "supervisor at rest"}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FEW_BYTES = 500_000_000
_SMALL = (places.identity, places.connection, places.report, places.password, places.port)


def project(settings: Settings) -> Iterator[Finding]:
    """The project directory, and whether anything was started there."""
    if not settings.project.is_dir():
        yield wrong(
            f"{settings.project} is not a directory.", quoted("mkdir", "-p", settings.project)
        )
    elif settings.state.is_dir():
        yield ok(f"{settings.project} has a state directory.")
    elif settings.state.exists():
        away = settings.project / ".dbos.away"
        yield wrong(f"{settings.state} is not a directory.", quoted("mv", settings.state, away))
    else:
        yield note(
            f"Nothing was started in {settings.project} yet.",
            "durable-workflows bootstrap",
        )


def permissions(settings: Settings) -> Iterator[Finding]:
    """Whether this user can write the state directory, and no other user can read it."""
    found = list(_modes(settings)) or list(_foreign(settings))
    yield from found
    if found:
        return
    try:
        files.check_writable(settings.state)
    except OSError as error:
        yield wrong(str(files.translate(error, settings.state)))
    else:
        yield ok(f"{settings.state} is writable, and private to {users.login()}.")


def small_files(settings: Settings) -> Iterator[Finding]:
    """The small files of the state directory: damaged, in the way, or left by processes that have ended."""
    found = [*_in_the_way(settings), *_connection_file(settings), *_stale(settings)]
    if not places.ignored(settings).is_file():
        found.append(_no_ignore_file(settings))
    yield from found or [ok("The small files of the state directory are right.")]


def identity(settings: Settings) -> Iterator[Finding]:
    """The identity of the state directory, by which its processes and runs are known."""
    if (own := state.identity(settings)) is not None:
        yield ok(f"The state directory is {own}.")
        return
    other = state.written_identity(settings)
    if other is None:
        yield note(
            "The state directory has no id, or a damaged one. The next start makes one, and unfinished runs go on.",
        )
        return
    alive = ", ".join(str(process.pid) for process in processes.marked(other))
    where = f" Processes of the original run now: {alive}." if alive else ""
    yield wrong(
        f"This state directory is a copy, or was restored from one: its id, {other}, belongs to another directory.{where} The next start gives it an id of its own, and its unfinished"
        " runs go on here as well. If the original is still in use, they would run in both: then move this copy away.",
        quoted("mv", settings.state, settings.project / ".dbos.copy")
        if alive
        else "durable-workflows bootstrap",
    )


def held_locks(settings: Settings) -> Iterator[Finding]:
    """Who holds the state directory and the data directory."""
    running = [
        *_holder(places.supervisor_lock(settings), settings),
        *_holder(places.database_lock(settings), settings),
    ]
    yield from running or [ok("No process holds the state directory.")]


def of_processes(settings: Settings) -> Iterator[Finding]:
    """What `status` says of the project's processes."""
    running = state.is_connection_whole(settings)
    found = problems.of_processes(settings, running=running)
    yield from (of_text(text) for text in found)
    if not found:
        yield ok("The project runs." if running else "Nothing runs, and nothing is left.")


def disk(settings: Settings) -> Iterator[Finding]:
    """The room on the disks of the state directory and of the cache."""
    for folder in _different_disks(settings.state, settings.cache):
        yield from _room(folder)


def data_directory(settings: Settings) -> Iterator[Finding]:
    """The files of the embedded database, without reading its rows."""
    if not settings.embedded:
        return
    if (moved := state.moved_to(settings)) is not None:
        yield note(f"The runs of this project were moved to {moved}; the data here is a backup.")
    path = state.data_directory(settings)  # raises what is to be done
    if path is None:
        yield note("The embedded database is made at the first start.")
        return
    lacking = [
        name for name in ("global/pg_control", "base", "pg_wal") if not (path / name).exists()
    ]
    if lacking:
        yield wrong(
            f"{path} lacks {wording.some(lacking)}. Put back what was removed, or restore a backup.",
            restoring(settings),
        )
    else:
        yield ok(f"{path} has what Postgres needs.")
    if kept := backups.kept(settings):
        yield ok(
            f"The newest backup in {places.backups(settings)} is of {kept[0].at:%Y-%m-%d %H:%M} UTC."
        )


def _foreign(settings: Settings) -> Iterator[Finding]:
    """The first file that belongs to another user: perhaps something was started as root once."""
    mine = os.getuid()
    for path in (settings.state, *settings.state.rglob("*")):
        with suppress(FileNotFoundError):  # a running database removes files
            owner = path.lstat().st_uid
            if mine not in (owner, 0):
                yield wrong(
                    f"{path} belongs to another user ({owner}). Was something started as that user once?",
                    quoted("sudo", "chown", "-R", str(mine), settings.state),
                )
                return


def _modes(settings: Settings) -> Iterator[Finding]:
    """The directories that this user cannot use, and those that others can."""
    for folder in _folders(settings):
        mode = stat.S_IMODE(folder.stat().st_mode)
        private = folder != settings.state or not mode & _OTHERS
        if mode & stat.S_IRWXU == stat.S_IRWXU and private:
            continue
        wanted = stat.S_IRWXU if folder == settings.state else mode | stat.S_IRWXU
        what = (
            "may be read or written by other users"
            if not private
            else "cannot be used by this user"
        )
        yield wrong(
            f"{folder} {what} (mode {mode:04o}).",
            quoted("chmod", f"{wanted:o}", folder),
            _change_mode(folder, wanted),
        )
        return  # what is below cannot be looked at, perhaps
    for place in (places.connection, places.password, places.token):
        path = place(settings)
        if path.is_file() and path.stat().st_mode & _OTHERS:
            yield wrong(
                f"{path} holds a secret and may be read by other users.",
                quoted("chmod", "600", path),
                _change_mode(path, 0o600),
            )


def _folders(settings: Settings) -> Iterator[Path]:
    yield settings.state  # without rights to it nothing in it can be looked at
    for place in (places.logs, places.code, places.lock_files, places.data):
        if place(settings).is_dir():
            yield place(settings)


def _change_mode(path: Path, mode: int) -> Fix:
    def change() -> str:
        path.chmod(mode)
        return f"Changed the mode of {path} to {mode:04o}."

    return change


def _in_the_way(settings: Settings) -> Iterator[Finding]:
    for place in _SMALL:
        path = place(settings)
        for said in files.in_the_way(path):
            yield wrong(said, quoted("mv", path, path.with_name(f"{path.name}.away")))


def _connection_file(settings: Settings) -> Iterator[Finding]:
    """A damaged file that a running supervisor writes again, or one of a supervisor that has ended."""
    path = places.connection(settings)
    if not path.is_file() or state.is_connection_whole(settings):
        return
    if locks.is_held(places.supervisor_lock(settings)):
        if not _is_connection(path):
            yield wrong(
                f"{path} is damaged. The running supervisor writes it again within seconds.",
                "durable-workflows shutdown",
            )
        return
    yield _removable(settings, path, "was left by a process that has ended")


def _is_connection(path: Path) -> bool:
    try:
        Connection.model_validate_json(path.read_bytes())
    except ValidationError:
        return False
    return True


def _stale(settings: Settings) -> Iterator[Finding]:
    """Half-written files of processes that were killed."""
    if locks.is_held(places.supervisor_lock(settings)):
        return
    names = [place(settings).name for place in (*_SMALL, places.token, places.moved)]
    for name in names:
        for path in sorted(settings.state.glob(f".{name}-*")):
            if path.is_file():
                yield _removable(settings, path, "was half written by a process that was killed")


def _removable(settings: Settings, path: Path, why: str) -> Finding:
    def remove() -> str:
        try:
            with locks.held_lock(places.supervisor_lock(settings)):
                path.unlink(missing_ok=True)
        except locks.LockHeld as held:
            return f"{path} was left alone: {held}."
        return f"Removed {path}, which {why}."

    return wrong(f"{path} {why}.", quoted("rm", path), remove)


def _no_ignore_file(settings: Settings) -> Finding:
    path = places.ignored(settings)

    def write() -> str:
        files.write_once(path, state.IGNORE)
        return f"Wrote {path}."

    return wrong(
        f"{path} is missing: git would take the state directory for a part of the project.",
        f"echo '*' > {quoted(path)}",
        write,
    )


def _holder(lock: locks.Guard, settings: Settings) -> Iterator[Finding]:
    """Who holds the lock. The kernel knows it better than the lock's file, which only says who wrote its name."""
    if not locks.is_held(lock):
        return
    named = locks.named_holder(lock)
    pids = [named] if named and processes.is_alive(named) else []
    for pid in (*pids, *locks.holders(lock)):
        for role, what in _ROLES.items():
            if processes.is_ours(pid, role, str(settings.project)):
                yield ok(f"{lock.directory} is held by the project's {what}, process {pid}.")
                return
    strangers = [pid for pid in locks.holders(lock) or pids if processes.is_alive(pid)]
    who = f"process {strangers[0]}" if strangers else "a process that cannot be named"
    yield wrong(
        f"{lock.directory} is held by {who}, which is not one of this project's. Nothing can start until it ends.",
        quoted("kill", str(strangers[0]))
        if strangers
        else quoted("fuser", "-v", lock.file, lock.directory),
    )


def _different_disks(*folders: Path) -> list[Path]:
    found: dict[int, Path] = {}
    for folder in folders:
        there = next(one for one in (folder, *folder.parents) if one.exists())
        found.setdefault(there.stat().st_dev, there)
    return list(found.values())


def _room(folder: Path) -> Iterator[Finding]:
    usage = shutil.disk_usage(folder)
    free = wording.megabytes(usage.free)
    largest = f"du -xh -d 2 {quoted(folder.anchor or '/')} 2>/dev/null | sort -h | tail"
    nodes = os.statvfs(folder)
    if usage.free < state.ROOM_BYTES:
        yield wrong(
            f"The disk of {folder} is full: {free} are free. Every finished step is kept. Free some space; this shows what is large.",
            largest,
        )
    elif nodes.f_files and not nodes.f_favail:
        yield wrong(
            f"The disk of {folder} takes no more files: all its inodes are used.",
            f"du -x --inodes -d 2 {quoted(folder.anchor or '/')} 2>/dev/null | sort -n | tail",
        )
    elif usage.free < _FEW_BYTES:
        yield note(f"The disk of {folder} has little room: {free} are free.", largest)
    else:
        yield ok(f"The disk of {folder} has {free} free.")

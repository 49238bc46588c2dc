"""Starting a project's supervisor when it is needed, and stopping everything that it runs."""

import json
import os
import signal
import time
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import psutil
from packaging.version import Version

from durable_workflows import content, errors
from durable_workflows.content import PACKAGE
from durable_workflows.models import Connection
from durable_workflows.settings import Settings
from durable_workflows.system import files, locks, places, processes, state

_START_SECONDS = 180.0  # the first start on a machine installs PGlite and makes a data directory
_STOP_SECONDS = 25.0
_HANDOVER_SECONDS = 2.0  # between the end of a process and the release of its lock
_POLL_SECONDS = 0.05
_ALONE_SECONDS = 60.0

Progress = Callable[[str], None]


def no_progress(_text: str) -> None:
    """Ignore progress."""


async def ensure_running(
    settings: Settings,
    progress: Progress = no_progress,
    *,
    meanwhile: Callable[[], object] = lambda: None,
) -> Connection:
    """The place of the project's database. If no supervisor runs, start one first. Any number of processes may call this at once.

    `meanwhile` is called, in a thread, while a supervisor starts.

    Raises:
        SetupError: the supervisor cannot start; its subclass and hint say what to do.
        InvalidProject: the project directory is not a directory.
        OtherDatabase: the project runs on a different database from the one in the settings.
        ProjectMoved: its runs are in an external Postgres now, which is not in the settings.
    """
    await anyio.to_thread.run_sync(state.prepare, settings)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        connection = state.read_connection(settings)
        if connection is not None:
            _check_same(settings, connection)
            if not _is_outdated(settings, connection):
                return connection
            progress(f"Ending the processes of durable-workflows {connection.versions[PACKAGE]}")
            await shut_down(settings)  # runs continue in their place, on the new processes
            continue
        try:
            lock = _take_lock(settings, 0)
        except locks.LockHeld as held:  # a supervisor is about to start or to end, or it rests
            _end_rest(settings, held.holder)
            await anyio.sleep(_POLL_SECONDS)
        else:
            with lock:
                _check_not_moved(settings)
                await _start(settings, lock, progress, meanwhile)
    raise errors.SupervisorFailed(
        "The supervisor of this project neither starts nor ends.",
        hint="Run `durable-workflows shutdown`, then try again.",
    )


async def shut_down(settings: Settings) -> bool:
    """End all processes of the project: workers, database, supervisor. Return whether there were any. All records stay."""
    return await anyio.to_thread.run_sync(_shut_down, settings)


async def alone(settings: Settings, progress: Progress) -> locks.Lock:
    """End the project's processes, and take the supervisor's lock: none of them runs or starts while it is held.

    Raises:
        UsageError: something keeps starting them.
    """
    progress("Ending the project's processes")
    deadline = time.monotonic() + _ALONE_SECONDS
    while True:
        await shut_down(settings)
        try:
            return await locks.awaited_lock(places.supervisor_lock(settings), wait_seconds=0)
        except locks.LockHeld:  # another process has just started it again
            if time.monotonic() >= deadline:
                raise errors.UsageError(
                    "Something keeps starting the project.",
                    hint="End the programs that use it, such as MCP clients, then try again.",
                ) from None


def lend_machine(settings: Settings) -> NoReturn:
    """Become a supervisor in the foreground, whose workers share the work of other machines on the same external Postgres.

    Raises:
        UsageError: the database is the embedded one, or the project's processes already run here.
        SetupError: the state directory cannot be used.
    """
    if settings.embedded:
        raise errors.UsageError(
            "A worker for other machines' runs needs an external Postgres.",
            hint="Set DBOS_DATABASE_URL to the one that the project uses.",
        )
    state.prepare(settings)
    try:
        lock = _take_lock(settings, 0)
    except locks.LockHeld as held:
        raise errors.UsageError(
            f"Process {held.holder} already runs this project's workers here.",
            hint="Do nothing, or run `durable-workflows shutdown` first.",
        ) from held
    ready = os.open(os.devnull, os.O_WRONLY)
    command = processes.python(
        "processes.supervisor", "--project", str(settings.project), "--lends"
    )
    descriptors = ["--lock", *map(str, lock.descriptors), "--ready", str(ready)]
    processes.become(
        [*command, *descriptors], settings.as_environment(), [*lock.descriptors, ready]
    )


def _take_lock(settings: Settings, seconds: float) -> locks.Lock:
    """Take the supervisor's lock, waiting for that long.

    Raises:
        LockHeld: another process still holds it.
        SetupError: its file cannot be opened.
    """
    lock = places.supervisor_lock(settings)
    try:
        return locks.held_lock(lock, wait_seconds=seconds)
    except OSError as error:
        raise files.translate(error, lock.file) from error


def _end_rest(settings: Settings, holder: int | None) -> None:
    process = None if holder is None else processes.started(holder)
    if process is not None and state.is_resting(settings, process.pid):
        processes.send(process, signal.SIGTERM)


def _check_same(settings: Settings, connection: Connection) -> None:
    """Check that the running database is the one in the settings. Without DBOS_DATABASE_URL any is right: `connection.json` names it."""
    if settings.database_url is None:
        return
    if settings.database(settings.database_url) != connection.database:
        raise errors.OtherDatabase(
            f"This project runs on a different database ({connection.mode}) from the one in DBOS_DATABASE_URL."
        )


def _is_outdated(settings: Settings, connection: Connection) -> bool:
    """Whether this installation is newer than the running one.

    An older one changes nothing: otherwise two installations would keep ending each other's processes.
    """
    if settings.embedded and connection.mode == "external":
        return False  # a start from here would use the embedded database
    theirs = connection.versions.get(PACKAGE)
    if theirs is None:
        return False
    # A checkout may have new tables under the same version number.
    ours = (Version(content.package_version()), content.schema_version())
    try:
        return (Version(theirs), int(connection.versions.get("schema", 0))) < ours
    except ValueError:  # overwritten
        return False


def _check_not_moved(settings: Settings) -> None:
    """Check that the embedded database was not moved: runs that continue in another database must not run here as well."""
    if settings.embedded:
        state.check_not_moved(settings)
        state.check_engine(settings)


async def _start(
    settings: Settings, lock: locks.Lock, progress: Progress, meanwhile: Callable[[], object]
) -> None:
    ours, theirs = os.pipe()
    try:
        with lock, places.log_file(settings, "supervisor").open("ab") as log:
            project = str(settings.project)
            descriptors = ["--lock", *map(str, lock.descriptors), "--ready", str(theirs)]
            process = processes.spawn(
                processes.python(
                    "processes.supervisor", "--project", project, "--detach", *descriptors
                ),
                environment=processes.without_marker(settings.as_environment()),
                folder=settings.project,
                log=log,
                inherit=[*lock.descriptors, theirs],
            )
    except OSError as error:
        os.close(ours)
        raise files.translate(error, settings.state) from error
    finally:
        os.close(theirs)
    async with await anyio.open_file(ours, encoding="utf-8") as events:
        # It exits at once; the supervisor is its child.
        await anyio.to_thread.run_sync(process.wait)
        await anyio.to_thread.run_sync(meanwhile)
        await _until_ready(settings, events, progress)


async def _until_ready(settings: Settings, lines: AsyncIterable[str], progress: Progress) -> None:
    async for line in lines:
        event: dict[str, Any] = json.loads(line)
        if "progress" in event:
            progress(event["progress"])
        if "failed" in event:
            await _until_gone(settings)
            raise _as_error(event["failed"])
        if "ready" in event:
            return
    tail = state.log_tail(settings, "supervisor")
    raise errors.SupervisorFailed(f"The supervisor ended before it was ready:\n{tail}")


async def _until_gone(settings: Settings) -> None:
    """Return when the lock is free for another attempt, or names another process, which has already begun one."""
    lock, deadline = places.supervisor_lock(settings), time.monotonic() + _STOP_SECONDS
    failed = locks.named_holder(lock)
    while locks.is_held(lock) and locks.named_holder(lock) == failed:
        if time.monotonic() >= deadline:
            return
        await anyio.sleep(_POLL_SECONDS)


def _as_error(failed: dict[str, str]) -> errors.DurableWorkflowsError:
    kind = getattr(errors, failed["kind"])
    return kind(failed["message"], hint=failed["hint"])


def _shut_down(settings: Settings) -> bool:
    """End the processes that run now, but not those that another process starts meanwhile."""
    if not settings.state.is_dir():
        return False
    lock = places.supervisor_lock(settings)
    # After a SIGTERM it would leave its connection file, and connected servers would bring it back.
    was_there = _end_holder(lock, "supervisor", signal.SIGINT, settings)
    try:
        held = _take_lock(settings, _HANDOVER_SECONDS)
    except locks.LockHeld:  # by a new supervisor, which also clears up
        return was_there
    with held:
        return _clear_up(settings) or was_there


def _clear_up(settings: Settings) -> bool:
    """End the leftovers of a killed supervisor; return whether there were any. The caller holds the supervisor's lock."""
    identity = state.identity(settings)
    left = processes.marked(identity) if identity else []
    processes.end(left)
    ended: list[bool] = []
    for engine, role in places.HOLDERS.items():
        lock = places.database_lock(state.of_engine(settings, engine))
        ended.append(_end_holder(lock, role, signal.SIGTERM, settings))
    state.remove_connection(settings)
    return bool(left) or any(ended)


def _end_holder(lock: locks.Guard, role: str, number: int, settings: Settings) -> bool:
    """End the process that holds the lock, if it is ours: politely, then for certain. Return whether there was one."""
    holder = _holder(lock, role, settings)
    if holder is None:
        return False
    if not _ended_by(number, holder) and not _ended_by(signal.SIGKILL, holder):
        raise errors.SupervisorFailed(
            f"Process {holder.pid}, which holds {lock.file}, cannot be ended.",
            hint="End it by hand, then try again.",
        )
    return True


def _holder(lock: locks.Guard, role: str, settings: Settings) -> psutil.Process | None:
    """The process of ours that holds the lock, or None when it is free. A new holder needs a moment to write its name."""
    deadline = time.monotonic() + _STOP_SECONDS
    while locks.is_held(lock):
        pid = _named_holder(lock, role, settings)
        if pid and processes.is_ours(pid, role, str(settings.project)):
            return processes.started(pid)
        if time.monotonic() >= deadline:
            _check_readable(lock)
            who = f"process {pid}" if pid else "another process"
            raise errors.SupervisorFailed(
                f"{lock.file} is held by {who}, which is not one of ours.",
                hint="End that process by hand, then try again.",
            )
        time.sleep(_POLL_SECONDS)
    return None


def _named_holder(lock: locks.Guard, role: str, settings: Settings) -> int | None:
    """The process that holds the lock, as its file says. If the file is damaged, `connection.json` names the supervisor."""
    named = locks.named_holder(lock)
    if named is not None or role != "supervisor":
        return named
    with suppress(errors.SetupError):  # that file is also damaged: the supervisor rewrites both
        connection = state.read_connection(settings)
        return connection.pid if connection else None
    return None


def _check_readable(lock: locks.Guard) -> None:
    try:
        lock.file.read_bytes()
    except OSError as error:
        raise files.translate(error, lock.file) from error


def _ended_by(number: int, process: psutil.Process) -> bool:
    """Send the signal, and wait for the end of the process."""
    processes.send(process, number)
    deadline = time.monotonic() + _STOP_SECONDS
    while not processes.has_ended(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True

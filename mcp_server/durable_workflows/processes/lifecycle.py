"""Starting the supervisor of a project when somebody needs it, and stopping all that it runs."""

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
_HANDOVER_SECONDS = 2.0  # from the end of a process to its lock's being free
_POLL_SECONDS = 0.05

Progress = Callable[[str], None]


def no_progress(_text: str) -> None:
    """Nobody is interested in the progress."""


async def ensure_running(
    settings: Settings,
    progress: Progress = no_progress,
    *,
    meanwhile: Callable[[], object] = lambda: None,
) -> Connection:
    """Return where the project's database is; start the supervisor first where none runs. Any number of processes may call at once.

    `meanwhile` is called, in a thread, while a supervisor starts.

    Raises:
        SetupError: the supervisor cannot start; its subclass and hint say what to do.
        InvalidProject: the project directory is none.
        OtherDatabase: the project runs on another database than the settings name.
        ProjectMoved: its runs are in an external Postgres now, which the settings do not name.
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
            await shut_down(settings)  # runs go on where they were, on the new ones
            continue
        try:
            lock = _take_lock(settings, 0)
        except locks.LockHeld as held:  # one is about to start, or to end, or it rests
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
    """End all processes of the project: workers, database, supervisor. Return whether there were any. What is recorded stays."""
    return await anyio.to_thread.run_sync(_shut_down, settings)


def lend_machine(settings: Settings) -> NoReturn:
    """Become a supervisor in the foreground, whose workers take part in what is started elsewhere on the same external Postgres.

    Raises:
        UsageError: the database is the embedded one, or the project's processes run here already.
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
        LockHeld: another process holds it, still.
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
    """Without DBOS_DATABASE_URL whatever runs is right: `connection.json` names it."""
    if settings.database_url is None:
        return
    if settings.database(settings.database_url) != connection.database:
        raise errors.OtherDatabase(
            f"This project runs on a different database ({connection.mode}) from the one in DBOS_DATABASE_URL."
        )


def _is_outdated(settings: Settings, connection: Connection) -> bool:
    """Whether this installation is newer than the one that runs. An older one leaves things as they are: two would end each other's for ever."""
    if settings.embedded and connection.mode == "external":
        return False  # started from here it would come up on the embedded database
    theirs = connection.versions.get(PACKAGE)
    if theirs is None:
        return False
    # A checkout may have new tables under the same version.
    ours = (Version(content.package_version()), content.schema_version())
    try:
        return (Version(theirs), int(connection.versions.get("schema", 0))) < ours
    except ValueError:  # written over
        return False


def _check_not_moved(settings: Settings) -> None:
    """An embedded database whose runs go on elsewhere must not do them again."""
    if settings.embedded and (moved_to := state.moved_to(settings)):
        raise errors.ProjectMoved(f"The runs of this project were moved to {moved_to}.")


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
        # It leaves at once; the supervisor is its child.
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
    """Return once the lock is free for another attempt, or names another process, which has begun one already."""
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
    """End what runs now. What somebody else starts meanwhile is not ours to end."""
    if not settings.state.is_dir():
        return False
    lock = places.supervisor_lock(settings)
    # By SIGTERM it would leave its connection file, at which connected servers bring it back.
    was_there = _end_holder(lock, "supervisor", signal.SIGINT, settings)
    try:
        held = _take_lock(settings, _HANDOVER_SECONDS)
    except locks.LockHeld:  # by a new supervisor, which clears up as we would
        return was_there
    with held:
        return _clear_up(settings) or was_there


def _clear_up(settings: Settings) -> bool:
    """End what a killed supervisor has left; whether there was anything. The caller holds the supervisor's lock."""
    identity = state.identity(settings)
    left = processes.marked(identity) if identity else []
    processes.end(left)
    lock = places.database_lock(settings)
    database = _end_holder(lock, "pglite.mjs", signal.SIGTERM, settings)
    state.remove_connection(settings)
    return bool(left) or database


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
    """The process of ours that holds the lock, or None once it is free. A new holder needs a moment to write its name."""
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
    """The process that holds the lock, as its file says; where that is damaged, `connection.json` names the supervisor."""
    named = locks.named_holder(lock)
    if named is not None or role != "supervisor":
        return named
    with suppress(errors.SetupError):  # that file is damaged, too: the supervisor writes both again
        connection = state.read_connection(settings)
        return connection.pid if connection else None
    return None


def _check_readable(lock: locks.Guard) -> None:
    try:
        lock.file.read_bytes()
    except OSError as error:
        raise files.translate(error, lock.file) from error


def _ended_by(number: int, process: psutil.Process) -> bool:
    """Send the signal, and wait for the end."""
    processes.send(process, number)
    deadline = time.monotonic() + _STOP_SECONDS
    while not processes.has_ended(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True

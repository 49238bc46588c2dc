"""Starts and ends processes. All POSIX-only code for that is here.

A worker gives its environment, with `MARKER` in it, to every process that its steps start. So processes that a killed worker left behind
can be found and ended before the next worker repeats the step.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

import psutil

from durable_workflows.errors import PeopleOnly

MARKER = "DURABLE_WORKFLOWS_EXECUTOR"
IDENTITY = r"[0-9a-f]{16}"  # of a state directory
_EXECUTOR = re.compile(rf"(?P<identity>{IDENTITY})-[0-9a-f].*")
_GRACE_SECONDS = 2.0

Popen = subprocess.Popen[bytes]


def python(module: str, *arguments: str, interpreter: Path | None = None) -> list[str]:
    """The command line of one of our own processes. `-P`: a project's json.py must not shadow the standard json."""
    return [
        str(interpreter or sys.executable),
        "-P",
        "-m",
        "durable_workflows.entry",
        f"durable_workflows.{module}",
        *arguments,
    ]


def spawn(
    command: Sequence[str],
    *,
    environment: dict[str, str],
    folder: Path,
    log: IO[bytes],
    inherit: Iterable[int] = (),
) -> Popen:
    """Start a process in a session of its own, which no signal of a terminal or client reaches.

    Its standard input is empty. It writes to `log`, and inherits the given descriptors.
    """
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=tuple(inherit),
        start_new_session=True,
    )


def become(
    command: Sequence[str], environment: Mapping[str, str], inherit: Iterable[int]
) -> NoReturn:
    """Replace this process by another program, with the given descriptors."""
    for descriptor in inherit:
        os.set_inheritable(descriptor, True)
    os.execve(command[0], list(command), environment)


def leave_parent() -> None:
    """Become a child of the system's first process, and so leave every other process tree. Call it before any thread is started."""
    if os.fork() > 0:
        os._exit(0)


def stop(process: Popen, seconds: float) -> None:
    """Ask a child to end, and wait for its end. When the time is over, kill it."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def without_marker(environment: dict[str, str]) -> dict[str, str]:
    """The environment for a process that must outlive the worker in whose step it was started."""
    return {name: value for name, value in environment.items() if name != MARKER}


def new_identity() -> str:
    """A new identity for a state directory."""
    return secrets.token_hex(8)


def executor_id(identity: str, version: str, apart: str = "") -> str:
    """The DBOS executor that runs this version for this state directory. It is always the same, so it recovers its own runs.

    `apart` names one of several executors that run only suspects.
    """
    return "-".join(part for part in (identity, apart, version) if part)


def apart_of(executor_id: str) -> str:
    """The name of the worker apart, as given to `executor_id`; empty for a common worker."""
    return "-".join(executor_id.split("-")[1:-1])


def identity_of(executor_id: str) -> str | None:
    """The identity of the state directory of this executor; None if the id is not one of ours."""
    found = _EXECUTOR.fullmatch(executor_id)
    return found["identity"] if found else None


def marked(identity: str) -> list[psutil.Process]:
    """The workers of the state directory of that identity, and all processes that their steps have started.

    Raises:
        ValueError: it is not an identity. An empty text would match every process.
    """
    if not re.fullmatch(IDENTITY, identity):
        raise ValueError(f"{identity!r} is not the identity of a state directory")
    everybody = psutil.process_iter()
    return [process for process in everybody if identity_of(_marker(process)) == identity]


def of_executor(executor_id: str) -> list[psutil.Process]:
    """The worker of that executor id, and all processes that its steps have started.

    Raises:
        ValueError: it is not an executor id.
    """
    if not _EXECUTOR.fullmatch(executor_id):
        raise ValueError(f"{executor_id!r} is not an executor id")
    return [process for process in psutil.process_iter() if _marker(process) == executor_id]


def refuse_in_worker() -> None:
    """Make sure that no step of a run has started this process, as far as its environment and those of its parents show.

    Raises:
        PeopleOnly: a step has started it.
    """
    own = psutil.Process()
    if any(MARKER in _environment(one) for one in (own, *own.parents())):
        raise PeopleOnly(
            "A step of a run started this process: it cannot answer for a person.",
            hint="Have the person answer in a terminal or client that they opened themselves.",
        )


def end(processes: Sequence[psutil.Process]) -> None:
    """End the processes: first politely, then for certain. Blocks for at most `_GRACE_SECONDS`."""
    for process in processes:
        send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=_GRACE_SECONDS)
    for process in alive:
        send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_GRACE_SECONDS)


def is_ours(pid: int, role: str, project: str) -> bool:
    """Whether the process has that role and project: another process may have got the pid since."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    # Modules have moved between releases: only the last part of a name is stable.
    names = [
        word.rpartition(".")[2] if word.startswith("durable_workflows.") else Path(word).name
        for word in command
    ]
    places = [place for place, name in enumerate(names) if name == role]
    return any(command[place + 1 : place + 3] == ["--project", project] for place in places)


def started(pid: int) -> psutil.Process | None:
    """The process that has this pid now; None if there is none."""
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def send(process: psutil.Process, number: int) -> None:
    """Send a signal to the process if it still exists."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def has_ended(process: psutil.Process) -> bool:
    """Whether the process has ended. Another process with its pid does not count."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def is_alive(pid: int) -> bool:
    """Whether a process with that pid exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _marker(process: psutil.Process) -> str:
    return "" if process.pid == os.getpid() else _environment(process).get(MARKER, "")


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):  # gone, or owned by another user
        return {}

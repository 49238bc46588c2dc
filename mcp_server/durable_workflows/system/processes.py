"""Starting and ending processes. What is POSIX-only about that is here.

A worker gives its environment, with `MARKER` in it, to all that its steps start. So what a killed worker left behind can be found and
ended before the next one repeats the step.
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
    """The command line of one of our own processes. `-P`: a project's json.py must not become our json."""
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
    """Start a process in a session of its own: no terminal's or client's signal reaches it.

    It gets nothing on its standard input, writes to `log`, and inherits the descriptors named.
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
    """Go on as another program, with the descriptors named."""
    for descriptor in inherit:
        os.set_inheritable(descriptor, True)
    os.execve(command[0], list(command), environment)


def leave_parent() -> None:
    """Go on as a child of the system's first process: nobody's tree of children contains this one. Before any thread is started."""
    if os.fork() > 0:
        os._exit(0)


def stop(process: Popen, seconds: float) -> None:
    """Ask a child to end and wait until it has; when the time is over, bring it about."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def without_marker(environment: dict[str, str]) -> dict[str, str]:
    """The environment for a process that shall outlive the worker in whose step it was started."""
    return {name: value for name, value in environment.items() if name != MARKER}


def new_identity() -> str:
    """A new identity for a state directory."""
    return secrets.token_hex(8)


def executor_id(identity: str, version: str, apart: str = "") -> str:
    """The DBOS executor that runs this version for this state directory: always the same, so that it recovers its own runs.

    `apart` names one of several that run suspects only.
    """
    return "-".join(part for part in (identity, apart, version) if part)


def apart_of(executor_id: str) -> str:
    """Which of the workers apart it is, as `executor_id` was told; nothing for a common one."""
    return "-".join(executor_id.split("-")[1:-1])


def identity_of(executor_id: str) -> str | None:
    """The identity of the state directory whose executor it is; None if it is no executor id of ours."""
    found = _EXECUTOR.fullmatch(executor_id)
    return found["identity"] if found else None


def marked(identity: str) -> list[psutil.Process]:
    """The workers of the state directory of that identity, and all that their steps have started.

    Raises:
        ValueError: it is no identity. An empty one would be that of every process.
    """
    if not re.fullmatch(IDENTITY, identity):
        raise ValueError(f"{identity!r} is not the identity of a state directory")
    everybody = psutil.process_iter()
    return [process for process in everybody if identity_of(_marker(process)) == identity]


def of_executor(executor_id: str) -> list[psutil.Process]:
    """The worker of that executor id, and all that its steps have started.

    Raises:
        ValueError: it is no executor id.
    """
    if not _EXECUTOR.fullmatch(executor_id):
        raise ValueError(f"{executor_id!r} is not an executor id")
    return [process for process in psutil.process_iter() if _marker(process) == executor_id]


def refuse_in_worker() -> None:
    """See to it that no step of a run has started this process, as far as its environment and those of its parents show.

    Raises:
        PeopleOnly: one has.
    """
    own = psutil.Process()
    if any(MARKER in _environment(one) for one in (own, *own.parents())):
        raise PeopleOnly(
            "A step of a run started this process: it cannot answer for a person.",
            hint="Have the person answer in a terminal or client that they opened themselves.",
        )


def end(processes: Sequence[psutil.Process]) -> None:
    """End them: politely, then for certain. Blocks for `_GRACE_SECONDS` at most."""
    for process in processes:
        send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=_GRACE_SECONDS)
    for process in alive:
        send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_GRACE_SECONDS)


def is_ours(pid: int, role: str, project: str) -> bool:
    """Whether the process is the one of that role and project: pids are used again by others."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    # Modules have moved between releases: the last part of a name is what stays.
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
    """Send a signal to the process, if it is still there."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def has_ended(process: psutil.Process) -> bool:
    """Whether it has; another one with its pid is not it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def is_alive(pid: int) -> bool:
    """Whether a process of that pid exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _marker(process: psutil.Process) -> str:
    return "" if process.pid == os.getpid() else _environment(process).get(MARKER, "")


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):  # gone, or another user's
        return {}

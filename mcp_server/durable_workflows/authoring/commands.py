"""A command that a step runs, in a process group of its own. The whole group ends when its time is over or the step is cancelled."""

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import cast

_GRACE_SECONDS = 5.0
_GRACE_LOOKS = 100
# After a command has ended: the time for its last output, if another process still holds it.
_DRAIN_SECONDS = 1.0


class CommandListener(asyncio.SubprocessProtocol):
    """Hears the output of a command, and its end. A subclass takes the output in `pipe_data_received(fd, data)`: 1 is output, 2 is errors.

    With `separate_errors` false the errors come as part of the output. Setting `settled` ends the command before its time is over.

    It is a protocol, not `asyncio.create_subprocess_exec`: with that, some versions of Python also wait for the
    end of the output, which never comes while a process in the background holds it.
    """

    def __init__(self, *, separate_errors: bool = False) -> None:
        self.separate_errors = separate_errors  # otherwise they come as part of the output
        self.settled = asyncio.Event()  # it has ended, or must be ended
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        self._open = {1, 2} if separate_errors else {1}

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """See asyncio."""
        self._open.discard(fd)
        if not self._open:
            self.silent.set()

    def process_exited(self) -> None:
        """See asyncio."""
        self.exited.set()
        self.settled.set()


async def run_command(
    command: Sequence[str],
    listener: CommandListener,
    *,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    text: bytes | None = None,
) -> tuple[int, bool]:
    """Run a command, and return its exit status (negative: the signal that ended it) and whether it ended by itself within `seconds`.

    It runs in `folder`, with `environment` as all of its variables, and reads `text`, or nothing, from its standard input. When the time is
    over, when `listener.settled` is set, or when the caller is cancelled, all processes of its group get SIGTERM, and SIGKILL five seconds later.

    Raises:
        OSError, ValueError: it could not be started.
    """
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    starting = asyncio.create_task(
        asyncio.get_running_loop().subprocess_exec(
            lambda: listener,
            *command,
            cwd=folder,
            env=environment,
            stdin=null if text is None else pipe,
            stdout=pipe,
            stderr=pipe if listener.separate_errors else asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    )
    # On a cancellation in between, asyncio would kill only the command, without the grace period, and not its processes.
    is_cancelled = await _outlasted(starting)
    transport, _ = starting.result()
    group = transport.get_pid()
    try:
        if is_cancelled:
            raise asyncio.CancelledError
        if text is not None:
            _write(cast(asyncio.WriteTransport, transport.get_pipe_transport(0)), text)
        in_time = await _in_time(listener.settled, seconds)
        if not in_time or not listener.exited.is_set():
            await _to_its_end(_end_group(group, listener))
        await _in_time(listener.silent, _DRAIN_SECONDS)
    except asyncio.CancelledError:
        await _to_its_end(_end_group(group, listener))
        raise
    finally:
        transport.close()
    return cast(int, transport.get_returncode()), in_time


def inside_project(cwd: str) -> Path:
    """A directory given relative to the project's, which is the working directory of workflow code, with symbolic links resolved.

    Raises:
        ValueError: it is outside of the project.
    """
    project = Path.cwd().resolve()
    directory = (project / cwd).resolve()
    if not directory.is_relative_to(project):
        raise ValueError(f"cwd {cwd!r} is outside the project: {directory}")
    return directory


def _write(pipe: asyncio.WriteTransport, text: bytes) -> None:
    """Write the text; the part that does not fit into the pipe goes as the command reads."""
    pipe.write(text)
    pipe.write_eof()


async def _in_time(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _end_group(group: int, listener: CommandListener) -> None:
    """Ask every process of the group to end; after the grace period, kill the rest."""
    try:
        _signal_group(group, signal.SIGTERM)
        for _ in range(_GRACE_LOOKS):
            if not _signal_group(group, 0):
                break
            await asyncio.sleep(_GRACE_SECONDS / _GRACE_LOOKS)
    finally:
        _signal_group(group, signal.SIGKILL)
    await listener.exited.wait()


def _signal_group(group: int, number: int) -> bool:
    """Send a signal, 0 for none; return whether there was a process to take it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: the second, if only zombies are left
        return False
    return True


async def _to_its_end(work: Coroutine[object, object, None]) -> None:
    """Await a short operation that a cancellation must not cut in two; then let the cancellation through."""
    if await _outlasted(asyncio.create_task(work)):
        raise asyncio.CancelledError


async def _outlasted(task: asyncio.Task[object]) -> bool:
    """Await the task to its end. A cancellation of the caller meanwhile is returned."""
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            is_cancelled = True
    return is_cancelled

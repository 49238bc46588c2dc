"""Child processes that are gone when their block is left, however that comes."""

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

_STOP_SECONDS = 8.0
_LINE_BYTES = 1_000_000


class Child:
    """A running child process, to which lines can be written and whose lines can be read."""

    def __init__(self, process: Process, log: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._log = log
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def write_line(self, line: str) -> None:
        """Send it a line."""
        await self._stdin.send(line.encode() + b"\n")

    async def read_line(self, seconds: float = 60.0) -> str:
        """The next line that it writes.

        Raises:
            TimeoutError: there is none for so long.
            RuntimeError: it ended; with the end of its log.
        """
        try:
            with anyio.fail_after(seconds):
                return (await self._lines.receive_until(b"\n", _LINE_BYTES)).decode()
        except anyio.IncompleteRead as error:
            raise RuntimeError(self._log.read_text(encoding="utf-8")[-2000:]) from error


@asynccontextmanager
async def child(
    command: Sequence[str], *, log: Path, folder: Path, terminate: bool = False
) -> AsyncGenerator[Child]:
    """Run the command in a session of its own, so that Ctrl-C does not reach it.

    It is ended by the end of its standard input, and by SIGTERM if it is to `terminate`; a stubborn one is killed.
    """
    with log.open("ab") as errors:
        process = await anyio.open_process(
            command, stdin=subprocess.PIPE, stderr=errors, cwd=folder, start_new_session=True
        )
    try:
        yield Child(process, log)
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process, terminate)


async def _stop(process: Process, terminate: bool) -> None:
    assert process.stdin is not None
    await process.stdin.aclose()
    if terminate and process.returncode is None:
        process.terminate()
    with anyio.move_on_after(_STOP_SECONDS):
        await process.wait()
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()

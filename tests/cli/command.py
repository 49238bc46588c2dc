"""The command line in a process of its own, as a person has it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

_SECONDS = 150
_SIGHT_SECONDS = 60
_COMMAND = [sys.executable, "-P", "-m", "durable_workflows"]


class Result(NamedTuple):
    """The outcome of a command."""

    status: int
    output: str
    errors: str


def run(*arguments: str, folder: Path, **environment: str) -> Result:
    """Run `durable-workflows` in a folder, where none of this machine's settings apply."""
    process = subprocess.run(
        [*_COMMAND, *arguments],
        cwd=folder,
        env=_environment() | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=_SECONDS,
        check=False,
    )
    assert "Traceback" not in process.stderr, process.stderr
    return Result(process.returncode, process.stdout, process.stderr)


def succeed(*arguments: str, folder: Path, **environment: str) -> str:
    """Run a command that must succeed; return its output."""
    result = run(*arguments, folder=folder, **environment)
    assert result.status == 0, result.output + result.errors
    return result.output


def begin(*arguments: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command that takes its time."""
    return subprocess.Popen(
        [*_COMMAND, *arguments],
        cwd=folder,
        env=_environment() | {"PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def on_terminal(*arguments: str, folder: Path, columns: int) -> list[str]:
    """Run a command with its output on a terminal; return the lines that appear."""
    ours, theirs = _open_terminal(columns)
    command = subprocess.Popen(
        [*_COMMAND, *arguments],
        cwd=folder,
        env=_environment() | {"TERM": "xterm", "NO_COLOR": "1"},
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    assert command.wait(_SECONDS) == 0
    text = written.decode("utf-8").replace("\x1b[1m", "").replace("\x1b[0m", "")
    return text.splitlines()


class Terminal:
    """A command with its input, its output and its errors on a terminal, where a person types."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self._process = process
        self._written = b""
        self._seen = 0

    @property
    def screen(self) -> str:
        """All that has appeared, without colours; a movement begins a line."""
        text = self._written.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", _effect, text)

    def sees(self, text: str) -> str:
        """Wait until the text appears after what was seen before; return all up to its end."""
        begun = self._seen
        self.sees_one_of([text])
        return self.screen[begun : self._seen]

    def sees_one_of(self, texts: Iterable[str]) -> str:
        """Wait until one of the texts appears after what was seen before; return it."""
        deadline = time.monotonic() + _SIGHT_SECONDS
        wanted = list(texts)
        while True:
            for text in wanted:
                found = self.screen.find(text, self._seen)
                if found >= 0:
                    self._seen = found + len(text)
                    return text
            assert time.monotonic() < deadline, f"{wanted} did not appear in:\n{self.screen}"
            assert self._read_more(), f"It ended without {wanted}:\n{self.screen}"

    def types(self, line: str) -> None:
        """Type a line."""
        os.write(self._descriptor, f"{line}\n".encode())

    def interrupts(self) -> None:
        """Press ctrl-C, once the command waits for its person: Python's `input` does not hear it between its prompt and its read."""
        deadline = time.monotonic() + _SIGHT_SECONDS
        while psutil.Process(self._process.pid).status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline, "the command never waits"
            time.sleep(0.01)
        self._process.send_signal(signal.SIGINT)

    def leaves(self) -> int:
        """Wait for the command's end; return its exit status."""
        while self._read_more():
            pass
        return self._process.wait(_SECONDS)

    def _read_more(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], 1)
        if not ready:
            return True
        data = _read(self._descriptor)
        self._written += data
        return bool(data)


def _effect(sequence: re.Match[str]) -> str:
    """The effect of a control sequence on the text: H and A move to another line."""
    return "\n" if sequence[0][-1] in "HA" else ""


@contextmanager
def terminal(
    command: Sequence[str], *, folder: Path, columns: int = 80, **environment: str
) -> Generator[Terminal]:
    """Run a command on a terminal of its own; it does not outlast the block."""
    ours, theirs = _open_terminal(columns)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment() | {"TERM": "xterm"} | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def on_own_terminal(*arguments: str) -> list[str]:
    """The words of a `durable-workflows` command, for `terminal`."""
    return [*_COMMAND, *arguments]


def _open_terminal(columns: int) -> tuple[int, int]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return ours, theirs


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way of saying that the other end is closed
        return b""


def _environment() -> dict[str, str]:
    others = ("DURABLE_WORKFLOWS_", "CLAUDE_", "DBOS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}

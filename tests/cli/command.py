"""The command line in a process of its own, as a person has it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

_SECONDS = 150
_COMMAND = [sys.executable, "-P", "-m", "durable_workflows"]


class Result(NamedTuple):
    """What a command left behind."""

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
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
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


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way of saying that the other end is closed
        return b""


def _environment() -> dict[str, str]:
    others = ("DURABLE_WORKFLOWS_", "CLAUDE_", "DBOS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}

"""Shared by the front's tests: private fronts, clients that are other processes, bytes on a bare socket."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from durable_workflows.pglite.node import FOLDER, installed_modules, lock_hash, node
from durable_workflows.pglite.pristine import pristine_directory
from durable_workflows.pglite.process import NODE_FLAGS
from durable_workflows.settings import Settings

T = TypeVar("T")
CLIENT_HELLO = b"\x00\x00\x00\x29\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00"

# Soon after its start Node waits in its exit for threads that still optimize code. They have a lower priority: on a busy machine that took more than ten seconds.
END_SECONDS = 60


@dataclass(frozen=True)
class Front:
    """A running database."""

    url: str
    pid: int
    port: int
    password: str


def eventually(fact: Callable[[], T], description: str, *, seconds: float = 30.0) -> T:
    """The fact once it is true; fail with its description when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        if found := fact():
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {description}"
        time.sleep(0.01)


def cached_modules() -> Path:
    """Where PGlite is, once a front has run on this machine."""
    return Settings().cache / f"pglite-{lock_hash()}" / "node_modules"


def copy_of_pristine(target: Path) -> Path:
    """A data directory for a front of one's own."""
    with start_blocking_portal() as portal:
        modules = portal.call(installed_modules, Settings())
        pristine = portal.call(pristine_directory, Settings(), modules)
    return Path(shutil.copytree(pristine, target))


@contextmanager
def own_front(
    data: Path, *, flags: tuple[str, ...] = (), port: int = 0, **configuration: Any
) -> Generator[tuple[Front, subprocess.Popen[bytes]]]:
    """Node, started without the Python code of the product, with any configuration."""
    log = (data.parent / "pglite.log").open("ab")
    with (
        log,
        subprocess.Popen(
            [
                *(str(node()), *NODE_FLAGS, *flags, str(FOLDER / "pglite.mjs")),
                *("--project", str(data.parent), "--data", str(data)),
                *("--modules", str(cached_modules()), "--port", str(port)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={"PATH": os.environ["PATH"]},
        ) as process,
    ):
        try:
            yield _ready(process, configuration), process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            _finish(process)


def _ready(process: subprocess.Popen[bytes], configuration: dict[str, Any]) -> Front:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"password": "secret", **configuration}).encode() + b"\n")
    process.stdin.flush()
    event = json.loads(process.stdout.readline())
    if event["event"] != "ready":
        raise FrontFailed(event["reason"], event["message"])
    url = f"postgresql://postgres:secret@127.0.0.1:{event['port']}/postgres?sslmode=disable"
    return Front(url=url, pid=process.pid, port=event["port"], password="secret")


class FrontFailed(Exception):
    """The front said `failed`; the arguments are its reason and its message."""


def _finish(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@contextmanager
def python_client(source: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """Another Python process that runs `source`; killed at the end if it is still there, also when it is stopped."""
    with subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that the client prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def bare_socket(front: Front) -> Generator[socket.socket]:
    """A connection on which nothing has been said yet."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as connection:
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    """Everything that the front still sends, until it closes."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received

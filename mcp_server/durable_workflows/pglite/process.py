"""One Node process that runs pglite.mjs, from its start to its end."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from durable_workflows.errors import (
    DataDirectoryDamaged,
    DurableWorkflowsError,
    NodeFailed,
    NoSpaceLeft,
    PortTaken,
)
from durable_workflows.pglite.node import FOLDER, environment, node
from durable_workflows.settings import Settings
from durable_workflows.system.locks import Lock

NODE_FLAGS: tuple[str, ...] = (
    "--no-warnings",
    "--max-semi-space-size=2",  # more frequent garbage collection: less memory
    "--single-threaded-gc",  # other threads have a lower priority: no statement waits for them
    "--stack-size=6000",  # so that Postgres' own limit is met first, by an error and not a crash
    # Five times V8's default: a start takes a quarter less processor time, and hot code is still optimized.
    "--wasm-tiering-budget=65000000",
)

_READY_SECONDS = 60
_STOP_SECONDS = 6  # pglite.mjs ends itself after less
_TAIL_CHARACTERS = 1500  # of the log, in an error
_LOG_BYTES = 5_000_000  # above it a start begins a new log file and keeps one old file
_EVENT_BYTES = 65_536
_REASONS: dict[str, type[DurableWorkflowsError]] = {
    "port-taken": PortTaken,
    "no-space": NoSpaceLeft,
    "data-directory": DataDirectoryDamaged,
}


@dataclass(frozen=True)
class Launch:
    """The files and settings that a Node process serves."""

    data: Path
    modules: Path
    log: Path
    password: str
    port: int
    idle_transaction_seconds: float
    locks: tuple[
        Lock, ...
    ]  # on `data`, the last on the directory itself: Node keeps them for its life


class PGliteProcess:
    """A Node process that accepts clients."""

    def __init__(self, process: Process, launch: Launch, port: int) -> None:
        self._process = process
        self._password = launch.password
        self._locks = launch.locks
        self.port = port

    @property
    def pid(self) -> int:
        """The process id of Node."""
        return self._process.pid

    @property
    def url(self) -> str:
        """The URL for clients, with the password."""
        password = quote(self._password, safe="")
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def is_in_place(self) -> bool:
        """Whether its data directory is still at its path. Node keeps using the directory that it opened, wherever it is now."""
        return self._locks[-1].is_in_place()

    def is_named(self) -> bool:
        """Whether the file beside the data names this process."""
        return self._locks[0].names(self.pid)

    def name_holder(self) -> None:
        """Make the file beside the data name this process, if it no longer does."""
        self._locks[0].name_holder(self.pid)

    async def wait(self) -> int:
        """Wait until Node ends, and give its exit status (negative: the signal that killed it)."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Let Node finish and write everything to the disk; kill it if that takes too long."""
        await stop(self._process)


async def launched(settings: Settings, launch: Launch) -> PGliteProcess:
    """Start Node and wait until it accepts clients. After an error Node does not run any more.

    Raises:
        PortTaken, NoSpaceLeft, DataDirectoryDamaged, NodeFailed: as their names say.
    """
    process = await _open(settings, launch)
    try:
        port = await _ready(process, launch)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await stop(process)
        raise
    return PGliteProcess(process, launch, port)


async def stop(process: Process) -> None:
    """End Node by closing its stdin, after some seconds by SIGKILL."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with anyio.move_on_after(_STOP_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()


async def _open(settings: Settings, launch: Launch) -> Process:
    paths = {"project": settings.project, "data": launch.data, "modules": launch.modules}
    named = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    launch.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if launch.log.exists() and launch.log.stat().st_size > _LOG_BYTES:
        launch.log.rename(launch.log.with_suffix(".log.1"))
    descriptor = os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return await anyio.open_process(
            [
                str(node()),
                *NODE_FLAGS,
                str(FOLDER / "pglite.mjs"),
                *named,
                "--port",
                str(launch.port),
            ],
            stderr=descriptor,
            cwd=launch.data.parent,
            env=environment(settings),
            start_new_session=True,  # a terminal's Ctrl-C must not reach it
            pass_fds=[number for lock in launch.locks for number in lock.descriptors],
        )
    finally:
        os.close(descriptor)


async def _ready(process: Process, launch: Launch) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    configuration = {
        "password": launch.password,
        "idle_transaction_seconds": launch.idle_transaction_seconds,
    }
    event: dict[str, Any] = {}
    with anyio.move_on_after(_READY_SECONDS):
        try:
            await process.stdin.send(json.dumps(configuration).encode() + b"\n")
            event = await _event(process.stdout)
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
            _fail("It ended without an error message.", launch)
    if not event:
        _fail(f"It was not ready after {_READY_SECONDS} seconds.", launch)
    if event["event"] != "ready":
        _refuse(event, launch)
    return int(event["port"])


async def _event(stdout: ByteReceiveStream) -> dict[str, object]:
    line = await BufferedByteReceiveStream(stdout).receive_until(b"\n", _EVENT_BYTES)
    return json.loads(line)


def _refuse(event: dict[str, Any], launch: Launch) -> NoReturn:
    kind = _REASONS.get(event["reason"])
    if kind is None:
        _fail(event["message"], launch)
    raise kind(f"{kind.__doc__} ({event['message']})")


def _fail(what: str, launch: Launch) -> NoReturn:
    said = launch.log.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARACTERS:]
    raise NodeFailed(f"{NodeFailed.__doc__} {what} The end of {launch.log}:\n{said}")

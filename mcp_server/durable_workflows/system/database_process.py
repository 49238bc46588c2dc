"""One process that serves the project's data directory, from its start to its end.

It reads one line of JSON from stdin, says on stdout that it accepts clients or why it does not, and ends when stdin is closed: with this
process, however this one ends. It inherits the locks on its data directory.
"""

import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from durable_workflows.errors import (
    DataDirectoryDamaged,
    DataDirectoryIncompatible,
    DurableWorkflowsError,
    NoSpaceLeft,
    PortTaken,
)
from durable_workflows.system import places
from durable_workflows.system.locks import Lock

_STOP_SECONDS = 8  # pglite.mjs and keeper.py end themselves after less
_TAIL_CHARACTERS = 1500  # of the log, in an error
_LOG_BYTES = 5_000_000  # above it a start begins a new log file and keeps one old file
_EVENT_BYTES = 65_536
Event = Mapping[str, object]
_REASONS: dict[str, type[DurableWorkflowsError]] = {
    "port-taken": PortTaken,
    "no-space": NoSpaceLeft,
    "data-directory": DataDirectoryDamaged,
    "other-postgres": DataDirectoryIncompatible,
}


@dataclass(frozen=True)
class Program:
    """What serves a data directory: its command, and what it is given."""

    command: Sequence[str]
    environment: Mapping[str, str]
    data: Path
    log: Path
    password: str
    locks: tuple[Lock, ...]  # on `data`, the last on the directory itself: it keeps them for life
    failed: type[DurableWorkflowsError]  # where it says no better reason
    ready_seconds: float
    configuration: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)


class DatabaseProcess:
    """A database that accepts clients."""

    def __init__(
        self, process: Process, program: Program, port: int, said: BufferedByteReceiveStream
    ) -> None:
        self._process = process
        self._said = said
        self._password = program.password
        self._locks = program.locks
        self.port = port

    @property
    def pid(self) -> int:
        """The id of the process, which ends the others of the database with it."""
        return self._process.pid

    @property
    def url(self) -> str:
        """The URL for clients, with the password."""
        password = quote(self._password, safe="")
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def is_in_place(self) -> bool:
        """Whether its data directory is still at its path. It keeps using the directory that it opened, wherever that is now."""
        return self._locks[-1].is_in_place()

    def is_named(self) -> bool:
        """Whether the file beside the data names this process."""
        return self._locks[0].names(self.pid)

    def name_holder(self) -> None:
        """Make the file beside the data name this process, if it no longer does."""
        self._locks[0].name_holder(self.pid)

    async def events(self) -> AsyncGenerator[Event]:
        """What it says of itself from now on, until it ends."""
        with suppress(anyio.EndOfStream, anyio.IncompleteRead):
            while True:
                yield await _event(self._said)

    async def wait(self) -> int:
        """Wait until it ends, and give its exit status (negative: the signal that killed it)."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Let it finish and write everything to the disk; kill it if that takes too long."""
        await _stop(self._process)


async def launched(program: Program) -> DatabaseProcess:
    """Start the program and wait until it accepts clients. After an error it does not run any more.

    Raises:
        PortTaken, NoSpaceLeft, DataDirectoryDamaged, DataDirectoryIncompatible: as their names say.
        DurableWorkflowsError: it did not start for another reason; of the class that the program names.
    """
    process = await _open(program)
    assert process.stdout is not None
    said = BufferedByteReceiveStream(process.stdout)
    try:
        port = await _ready(process, said, program)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _stop(process)
        raise
    return DatabaseProcess(process, program, port, said)


async def _stop(process: Process) -> None:
    """End it by closing its stdin, after some seconds by SIGKILL."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with anyio.move_on_after(_STOP_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()


async def _open(program: Program) -> Process:
    log = program.log
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.rename(log.with_suffix(".log.1"))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return await anyio.open_process(
            program.command,
            stderr=descriptor,
            cwd=program.data.parent,
            env=program.environment,
            start_new_session=True,  # a terminal's Ctrl-C must not reach it
            pass_fds=[number for lock in program.locks for number in lock.descriptors],
        )
    finally:
        os.close(descriptor)


async def _ready(process: Process, said: BufferedByteReceiveStream, program: Program) -> int:
    assert process.stdin is not None
    event: Event = {}
    with anyio.move_on_after(program.ready_seconds):
        try:
            await process.stdin.send(json.dumps(program.configuration).encode() + b"\n")
            event = await _event(said)
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
            _fail("It ended without an error message.", program)
    if not event:
        _fail(f"It was not ready after {program.ready_seconds} seconds.", program)
    if event["event"] != "ready":
        _refuse(event, program)
    return int(str(event["port"]))


async def _event(said: BufferedByteReceiveStream) -> Event:
    return json.loads(await said.receive_until(b"\n", _EVENT_BYTES))


def _refuse(event: Event, program: Program) -> NoReturn:
    kind = _REASONS.get(str(event["reason"]))
    if kind is None:
        _fail(str(event["message"]), program)
    raise kind(f"{kind.__doc__} ({event['message']})", hint=places.hint(kind, program.data))


def _fail(what: str, program: Program) -> NoReturn:
    said = program.log.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARACTERS:]
    raise program.failed(f"{program.failed.__doc__} {what} The end of {program.log}:\n{said}")

"""What the tests of the MCP server share.

This folder must not become a package: with `tests/` on the path it would hide the library `mcp`.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Literal

import pytest

from durable_workflows.models import Preview, Run, Step, WorkerInfo
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, state
from requirements import long
from transports import INITIALIZE, OVER_STDIO

Json = dict[str, Any]
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
_SECONDS = 20.0  # five times what a busy machine has needed


@pytest.fixture(params=["auto", *long("legacy")])
def mode(request: pytest.FixtureRequest) -> Literal["auto", "legacy"]:
    """Both eras of the protocol: 2026-07-28, and what came before it."""
    return request.param


@pytest.fixture(params=["memory", "stdio", "http"])
def transport(request: pytest.FixtureRequest) -> Literal["memory", "stdio", "http"]:
    """All ways by which a client reaches the server, as `transports.reached` takes them."""
    return request.param


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    """The settings of a project whose directory does not exist: nothing can be started for it."""
    return Settings(project=tmp_path / "nowhere")


class StdioServer:
    """A server process that is spoken to in JSON-RPC, line by line, as a client does."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._ids = itertools.count(1)

    @property
    def _input(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def write(self, line: str) -> None:
        self._input.write(line + "\n")
        self._input.flush()

    def send(self, method: str, params: Json | None = None) -> int:
        """Send a request; return its id."""
        number = next(self._ids)
        self.write(
            json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}})
        )
        return number

    def notify(self, method: str, params: Json | None = None) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}}))

    def read(self) -> Json:
        """The next message of the server. Whatever else it writes fails here."""
        line = self._output.readline()
        assert line, "the server has closed its output"
        return json.loads(line)

    def answer(self, number: int) -> Json:
        """The answer to a request; notifications before it are passed over."""
        while True:
            message = self.read()
            if message.get("id") == number:
                return message

    def request(self, method: str, params: Json | None = None) -> Json:
        return self.answer(self.send(method, params))

    def respond(self, number: int, result: Json) -> None:
        """Answer a request of the server."""
        self.write(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}))

    def initialize(self, capabilities: Json | None = None) -> Json:
        params = {**INITIALIZE["params"], "capabilities": capabilities or {}}
        answer = self.request("initialize", params)
        self.notify("notifications/initialized")
        return answer

    def close_input(self) -> None:
        self._input.close()

    def seconds_to_exit(self) -> float:
        began = time.monotonic()
        self.process.wait(_SECONDS)
        return time.monotonic() - began

    def rest_of_output(self) -> list[str]:
        return self._output.read().splitlines()


Launch = Callable[..., AbstractContextManager[StdioServer]]


@pytest.fixture
def launch() -> Launch:
    """Start a server process for a project; it is gone when the block ends."""

    @contextmanager
    def launched(
        project: Path, *, extra: str = "", environment: Mapping[str, str] | None = None
    ) -> Generator[StdioServer]:
        ours = ("DURABLE_WORKFLOWS_", "CLAUDE_", "DBOS_", "PYTHONUNBUFFERED")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        with subprocess.Popen(
            [sys.executable, "-P", "-c", OVER_STDIO.format(extra=extra), str(project)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={**clean, **(environment or {})},
        ) as process:
            try:
                yield StdioServer(process)
            finally:
                process.kill()

    return launched


RunMaker = Callable[..., Run]
StepMaker = Callable[..., Step]


@pytest.fixture
def a_run() -> RunMaker:
    """Make a run that began a minute before `NOW`, with what matters for a test given by name."""

    def make(**given: Any) -> Run:
        worker = WorkerInfo(
            version="v1", pid=1, host="here", state="ready", started_at=NOW, seen_at=NOW, alive=True
        )
        steps: list[Step] = given.get("steps", [])
        fields: Json = {
            "workflow_id": "run-1",
            "name": "report",
            "status": "PENDING",
            "created_at": NOW - timedelta(minutes=1),
            "updated_at": NOW,
            "completed_at": None,
            "version": "v1",
            "queue": "workflows",
            "recovery_attempts": 1,
            "forked_from": None,
            "parent_workflow_id": None,
            "deadline": None,
            "delayed_until": None,
            "input": a_preview('{"positionalArgs":[],"namedArgs":{"path":"src"}}'),
            "output": None,
            "error": None,
            "steps": [],
            "total_steps": len(steps),
            "running": [],
            "waiting": [],
            "children": [],
            "forks": [],
            "unread_messages": 0,
            "newest_version": "v1",
            "worker": worker,
        }
        return Run.model_validate({**fields, **given})

    return make


@pytest.fixture
def a_step() -> StepMaker:
    """Make a finished step that took a second."""

    def make(number: int, name: str = "work", **given: Any) -> Step:
        fields: Json = {
            "step": number,
            "name": name,
            "started_at": NOW - timedelta(seconds=31),
            "completed_at": NOW - timedelta(seconds=30),
        }
        return Step.model_validate({**fields, **given})

    return make


def a_preview(text: str, length: int | None = None) -> Preview:
    return Preview(text=text, length=len(text) if length is None else length)


@pytest.fixture
def held_supervisor_lock(nowhere: Settings) -> Iterator[None]:
    """A project whose supervisor is forever about to start: every caller that needs it has to wait."""
    nowhere.project.mkdir()
    state.prepare(nowhere)
    with locks.held_lock(places.supervisor_lock(nowhere)):
        yield

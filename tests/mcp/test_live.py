"""The tools with everything behind them, as an agent uses them."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent, TextResourceContents

from durable_workflows.engine.engine import Engine
from durable_workflows.mcp.server import build_server
from durable_workflows.processes import problems
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, state
from helpers import copy_flow, until
from mcp import Client
from requirements import long
from transports import Transport, reached

pytestmark = pytest.mark.anyio
Mode = Literal["auto", "legacy"]
Launch = Callable[..., AbstractContextManager[Any]]
BUDGET = 8000
GREETER = '''
from dbos import DBOS


@DBOS.workflow()
def greeter(who: str) -> str:
    """Greet somebody."""
    return f"hello {who}"
'''


class Agent:
    """Calls tools and reads what they answer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.progress: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self._client.call_tool(tool, arguments, progress_callback=self._note)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        assert isinstance(result.content[0], TextContent)
        assert json.loads(result.content[0].text) == result.structured_content
        assert len(result.content[0].text) < BUDGET
        return result.structured_content

    async def inspect(self, workflow_id: str, **arguments: Any) -> str:
        result = await self._client.call_tool("inspect", {"workflow_id": workflow_id, **arguments})
        assert not result.is_error, result.content
        assert isinstance(result.content[0], TextContent)
        assert len(result.content[0].text) < BUDGET
        return result.content[0].text

    async def complaint(self, tool: str, **arguments: Any) -> str:
        result = await self._client.call_tool(tool, arguments)
        assert result.is_error
        assert isinstance(result.content[0], TextContent)
        return result.content[0].text

    async def read(self, uri: str) -> str:
        content = (await self._client.read_resource(uri)).contents[0]
        assert isinstance(content, TextResourceContents)
        return content.text

    async def _note(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append(message or "")


@pytest.mark.parametrize(
    ("transport", "mode"),
    [("stdio", "legacy"), *long(("memory", "auto"), ("http", "auto"))],
)
async def test_an_agent_starts_waits_answers_repairs_and_looks_back(
    settings: Settings, folder: Path, transport: Transport, mode: Mode
) -> None:
    copy_flow("messages", folder)
    copy_flow("odd", folder)
    async with reached(settings, transport) as server, Client(server, mode=mode) as client:
        agent = Agent(client)
        await a_run_that_waits_is_answered(agent)
        await a_run_that_fails_is_forked(agent)
        await large_outputs_are_cut_and_can_be_had(agent)
        await runs_are_cancelled_and_resumed(agent)
        await mistakes_are_explained(agent)
        await resources_show_the_same(agent)
        await what_is_written_can_be_started(agent)
        status = await agent.call("server_status")
    assert status["database"] == "up"
    assert len(status["workers"]) in (1, 2)  # that of the version before may be on its way out
    assert status["problems"] == []
    [session] = [one for one in status["sessions"] if one["session_id"] == status["this_session"]]
    assert session["transport"] == ("http" if transport == "http" else "stdio")


async def test_problems_are_part_of_the_status(
    shared: Engine, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_problem(_settings: Settings, *, running: bool) -> list[str]:
        return [f"running: {running}"]

    monkeypatch.setattr(problems, "of_processes", one_problem)
    async with Client(build_server(Settings(project=shared.project)), mode=mode) as client:
        status = await Agent(client).call("server_status")
    assert "running: True" in status["problems"]


async def a_run_that_waits_is_answered(agent: Agent) -> None:
    names = [one["name"] for one in (await agent.call("workflow_catalog"))["workflows"]]
    assert "wait_for" in names
    started = await agent.call(
        "start_workflow",
        name="wait_for",
        args='{"topic": "go"}',
        workflow_id="w-1",
        wait_seconds=30,
    )
    assert started["status"] == "PENDING"
    assert started["note"] == "w-1 waits for a message on topic 'go': send_message."
    assert "**Why:** waits for a message on topic 'go'" in await agent.inspect("w-1")
    listed = await agent.call("list_workflows", waiting=True)
    assert [(one["workflow_id"], one["waiting_on"]) for one in listed["workflows"]] == [
        ("w-1", "go")
    ]
    await agent.call("send_message", workflow_id="w-1", topic="go", message={"yes": None})
    ended = await agent.call("wait_for_workflows", workflow_ids=["w-1"], timeout_seconds=30)
    assert ended["done"] == [{"workflow_id": "w-1", "status": "SUCCESS", "output": {"yes": None}}]
    assert "received by step" in await agent.inspect("w-1", detail="messages")
    assert "def wait_for(" in await agent.inspect("w-1", detail="source")


async def a_run_that_fails_is_forked(agent: Agent) -> None:
    failed = await agent.call(
        "start_workflow",
        name="fails",
        args={"message": "no card"},
        workflow_id="f-1",
        wait_seconds=30,
    )
    assert (failed["status"], failed["error"]) == ("ERROR", "ValueError: no card")
    summary = await agent.inspect("f-1")
    assert "**Why:** failed in step 2 fail: ValueError: no card" in summary
    assert 'fork(workflow_id="f-1", from_step=2)' in summary
    assert "raise ValueError(message)\nValueError: no card\n```" in summary
    assert "raise ValueError(message)" in await agent.inspect("f-1", step=2)
    forked = await agent.call("fork", workflow_id="f-1", from_step=2)
    again = await agent.call("wait_for_workflows", workflow_ids=[forked["workflow_id"]])
    assert again["done"][0]["status"] == "ERROR"
    assert "forks: " + forked["workflow_id"] in await agent.inspect("f-1")


async def large_outputs_are_cut_and_can_be_had(agent: Agent) -> None:
    args = {"steps": 20, "size": 1_000_000}
    await agent.call(
        "start_workflow", name="large_outputs", args=args, workflow_id="l-1", wait_seconds=50
    )
    assert "Output: 20000000" in await agent.inspect("l-1")
    assert "(1,000,002 bytes)" in await agent.inspect("l-1")
    page = await agent.inspect("l-1", step=20, cursor="999000")
    assert "characters 999,000 to 1,000,002 of 1,000,002" in page
    assert 'cursor="' in await agent.inspect("l-1", detail="full")


async def runs_are_cancelled_and_resumed(agent: Agent) -> None:
    batch = [
        {"name": "wait_for", "args": {"topic": "t"}, "workflow_id": f"c-{n}"} for n in range(3)
    ]
    started = await agent.call("start_workflow", batch=batch, wait_seconds=30)
    ids = [one["workflow_id"] for one in started["workflows"]]
    assert ids == ["c-0", "c-1", "c-2"]
    timed_out = await agent.call(
        "wait_for_workflows", workflow_ids=ids, until="change", timeout_seconds=0.2
    )
    assert len(timed_out["waiting"]) == 3
    cancelled = await agent.call("cancel", workflow_ids=[*ids, "w-1"])
    assert [one["changed"] for one in cancelled["workflows"]] == [True, True, True, False]
    assert "**Why:** cancelled." in await agent.inspect("c-0")
    resumed = await agent.call("resume", workflow_ids=["c-0"])
    assert resumed["workflows"][0]["changed"]
    await agent.call("cancel", workflow_ids=["c-0"])


async def mistakes_are_explained(agent: Agent) -> None:
    assert "Did you mean 'wait_for'?" in await agent.complaint("start_workflow", name="wait_fr")
    wrong = await agent.complaint("start_workflow", name="wait_for", args={"topi": "x"})
    assert "'topi' is not an argument (did you mean 'topic'?)" in wrong
    assert "There is no run 'nobody'." in await agent.complaint("inspect", workflow_id="nobody")
    assert "no finished step 99" in await agent.complaint("inspect", workflow_id="w-1", step=99)
    assert "from 1 to" in await agent.complaint("fork", workflow_id="w-1", from_step=99)
    late = await agent.complaint("send_message", workflow_id="w-1", topic="go", message=1)
    assert "has ended with status SUCCESS" in late
    assert "is not a cursor" in await agent.complaint("inspect", workflow_id="w-1", cursor="x")
    large = await agent.complaint(
        "start_workflow", name="wait_for", args={"topic": ["x" * 500_000]}
    )
    assert "is not of type 'string'" in large
    assert len(large) < BUDGET


async def resources_show_the_same(agent: Agent) -> None:
    recent = json.loads(await agent.read("durable://workflows"))
    assert {"w-1", "f-1", "l-1"} <= {one["workflow_id"] for one in recent["workflows"]}
    assert await agent.read("durable://workflows/w-1/trace") == await agent.inspect("w-1")
    whole = json.loads(await agent.read("durable://workflows/w-1/trace.json"))
    assert whole["status"] == "SUCCESS"
    assert whole["messages"][0]["topic"] == "go"
    with pytest.raises(MCPError, match="There is no run 'nobody'") as unknown:
        await agent.read("durable://workflows/nobody/trace")
    assert unknown.value.error.code == -32602


async def what_is_written_can_be_started(agent: Agent) -> None:
    written = await agent.call("write_workflow", name="greeter", source=GREETER)
    assert [one["name"] for one in written["workflows"]] == ["greeter"]
    greeted = await agent.call(
        "start_workflow", name="greeter", args={"who": "you"}, wait_seconds=30
    )
    assert greeted["output"] == "hello you"
    assert "exists." in await agent.complaint("write_workflow", name="greeter", source=GREETER)


@pytest.mark.parametrize(
    ("transport", "mode"),
    [
        ("memory", "auto"),
        ("stdio", "legacy"),
        ("http", "auto"),
        *long(("memory", "legacy"), ("stdio", "auto"), ("http", "legacy")),
    ],
)
@pytest.mark.long
async def test_giving_up_a_wait_leaves_the_run_alone(
    shared: Engine, tmp_path: Path, transport: Transport, mode: Mode
) -> None:
    settings, run = Settings(project=shared.project), f"given-up-{transport}-{mode}"
    args = {"begun": str(tmp_path / "lines"), "go_on": str(tmp_path / "go on")}
    async with reached(settings, transport) as server, Client(server, mode=mode) as client:
        agent = Agent(client)
        await agent.call("start_workflow", name="works_async", args=args, workflow_id=run)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(agent.call, "wait_for_workflows", workflow_ids=[run]))
            await until(
                lambda: f"{run}: step 1 work_async" in str(agent.progress),
                "the wait reports a step",
            )
            group.cancel_scope.cancel()
        assert "**Why:** running step 1 work_async since" in await agent.inspect(run)
        (tmp_path / "go on").touch()
        ended = await agent.call("wait_for_workflows", workflow_ids=[run])
    assert ended["done"][0]["status"] == "SUCCESS"
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "begun\nended\n"


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_keeps_the_supervisor_up_and_leaves_it_running(
    number: int, settings: Settings, folder: Path, launch: Launch
) -> None:
    def connected() -> bool:
        return locks.is_held(places.clients_lock(settings), even_shared=True)

    with launch(folder) as server:
        server.initialize()
        await until(connected, "the server shows that it is connected", seconds=120)
        first = state.read_connection(settings)
        assert first is not None
        places.clients_lock(settings).unlink()
        os.kill(first.pid, number)

        def is_back() -> bool:
            found = state.read_connection(settings)
            return found is not None and found.pid != first.pid

        await until(is_back, "the supervisor is back", seconds=60)
        await until(connected, "the server shows again that it is connected")
        server.close_input()
        assert server.seconds_to_exit() < 3
    assert state.read_connection(settings) is not None
    assert not connected()

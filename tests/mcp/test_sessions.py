"""Which client started what, and who else is connected."""

from pathlib import Path
from typing import Any, Literal

import pytest
from mcp.types import Implementation

from durable_workflows.mcp.server import build_server
from durable_workflows.settings import Settings
from helpers import copy_flow
from mcp import Client

pytestmark = [pytest.mark.anyio, pytest.mark.long]

Mode = Literal["auto", "legacy"]


def client(settings: Settings, mode: Mode, name: str) -> Client:
    info = Implementation(name=name, version="1.2")
    return Client(build_server(settings), mode=mode, client_info=info)


async def call(agent: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await agent.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def test_runs_and_status_show_which_session_started_what_and_who_else_is_there(
    settings: Settings, folder: Path, mode: Mode
) -> None:
    copy_flow("messages", folder)
    async with client(settings, mode, "first") as one, client(settings, mode, "second") as other:
        mine = await call(one, "start_workflow", name="wait_for", args={"topic": "t"})
        theirs = await call(other, "start_workflow", name="wait_for", args={"topic": "t"})
        status = await call(other, "server_status")
        sessions = {session["session_id"]: session for session in status["sessions"]}
        listed = (await call(other, "list_workflows"))["workflows"]
        started_by = {run["workflow_id"]: sessions[run["started_by"]]["client"] for run in listed}
        assert started_by == {mine["workflow_id"]: "first", theirs["workflow_id"]: "second"}
        assert sessions[status["this_session"]]["client"] == "second"
        assert all(session["connected"] for session in sessions.values())
        assert all(session["version"] == "1.2" for session in sessions.values())
    async with client(settings, mode, "third") as third:
        ids = [mine["workflow_id"], theirs["workflow_id"]]
        found = await call(third, "wait_for_workflows", workflow_ids=ids)
        assert {one["workflow_id"] for one in found["waiting"]} == set(ids)
        status = await call(third, "server_status")
        connected = {one["client"]: one["connected"] for one in status["sessions"]}
        assert connected == {"first": False, "second": False, "third": True}


async def test_a_fork_belongs_to_the_session_that_made_it(
    settings: Settings, folder: Path, mode: Mode
) -> None:
    copy_flow("messages", folder)
    async with client(settings, mode, "first") as one, client(settings, mode, "second") as other:
        first = await call(one, "start_workflow", name="wait_for", args={"topic": "t"})
        arguments = {"workflow_id": first["workflow_id"], "from_step": 1}
        forked = await call(other, "fork", **arguments)
        assert f"{first['workflow_id']} goes on too" in forked["note"]
        mine = (await call(other, "server_status"))["this_session"]
        runs = (await call(other, "list_workflows"))["workflows"]
        by_id = {run["workflow_id"]: run for run in runs}
        assert by_id[forked["workflow_id"]]["started_by"] == mine
        assert by_id[forked["workflow_id"]]["forked_from"] == first["workflow_id"]
        assert by_id[first["workflow_id"]]["started_by"] != mine
        [fork] = by_id[first["workflow_id"]]["forks"]
        assert fork["workflow_id"] == forked["workflow_id"]

"""The quick start: a template is copied with the command line into an empty project and run through the MCP server to its end."""

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable_workflows.code.templates import template_entries
from durable_workflows.mcp.server import build_server
from durable_workflows.settings import Settings
from mcp import Client

pytestmark = pytest.mark.anyio

# Those with libraries of their own have tests of theirs: test_agents_libraries.py.
LIBRARIES = {"pydantic_ai_agent", "openai_sdk_agent"}
NAMES = [one.name for one in template_entries() if one.name not in LIBRARIES]


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


@pytest.mark.long
async def test_each_template_without_libraries_is_copied_and_runs_to_its_end(
    settings: Settings, folder: Path
) -> None:
    command = [sys.executable, "-P", "-m", "durable_workflows", "new"]
    for name in NAMES:
        await anyio.run_process([*command, name, f"my_{name}", "--project", str(folder)])
    async with Client(build_server(settings)) as client:
        starts = [{"name": f"my_{name}", "workflow_id": name} for name in NAMES]
        await call(client, "start_workflow", batch=starts)
        first = await call(client, "wait_for_workflows", workflow_ids=NAMES, timeout_seconds=120)
        [waiting] = first["waiting"]
        assert waiting["workflow_id"] == "human_in_the_loop"
        message = {"approved": True}
        topic = waiting["topic"]
        await call(
            client, "send_message", workflow_id="human_in_the_loop", topic=topic, message=message
        )
        ended = await call(client, "wait_for_workflows", workflow_ids=NAMES, timeout_seconds=60)
    assert {run["workflow_id"]: run["status"] for run in ended["done"]} == dict.fromkeys(
        NAMES, "SUCCESS"
    )

"""The server as a client sees it before anything runs: its tools, its words, and its answers to wrong calls. In both protocol eras."""

import json
import re
from typing import Any, Literal

import anyio
import pytest
from mcp.client import advertise
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent, Tool

from durable_workflows.mcp.server import INSTRUCTIONS, INSTRUCTIONS_WITH_TASKS, build_server
from durable_workflows.mcp.sessions import TASKS
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.settings import Settings
from mcp import Client
from requirements import proves

pytestmark = pytest.mark.anyio
Mode = Literal["auto", "legacy"]

MOST_CHARACTERS = (
    21_500  # that the names, descriptions and arguments of all tools have; 17,600 once
)
DEFAULTS: dict[tuple[str, str], object] = {
    ("start_workflow", "wait_seconds"): 0,
    ("list_workflows", "limit"): 20,
    ("wait_for_workflows", "until"): "all",
    ("wait_for_workflows", "timeout_seconds"): 45,
    ("inspect", "detail"): "summary",
    ("fork", "version"): "latest",
    ("schedule", "action"): "list",
    ("move_to_version", "version"): "latest",
    ("move_to_version", "dry_run"): True,
    ("cancel", "children"): False,
    ("resume", "children"): False,
    ("write_workflow", "overwrite"): False,
}


async def listed(settings: Settings, mode: Mode) -> list[Tool]:
    async with Client(build_server(settings), mode=mode) as client:
        return (await client.list_tools()).tools


async def refused(settings: Settings, mode: Mode, tool: str, **arguments: Any) -> str:
    """The text of the error that a call is answered with."""
    async with Client(build_server(settings), mode=mode) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


async def test_the_tools_come_in_a_fixed_order_and_take_no_unknown_arguments(
    nowhere: Settings, mode: Mode
) -> None:
    tools = await listed(nowhere, mode)
    assert [tool.name for tool in tools] == [spec.function.__name__ for spec in TOOLS]
    for tool in tools:
        assert tool.input_schema["additionalProperties"] is False


async def test_defaults_are_those_of_the_design(nowhere: Settings, mode: Mode) -> None:
    tools = {tool.name: tool for tool in await listed(nowhere, mode)}
    for (name, argument), default in DEFAULTS.items():
        assert tools[name].input_schema["properties"][argument]["default"] == default


async def test_listing_the_tools_twice_gives_the_same(nowhere: Settings, mode: Mode) -> None:
    assert await listed(nowhere, mode) == await listed(nowhere, mode)


async def test_each_tool_is_described_within_what_clients_read(
    nowhere: Settings, mode: Mode
) -> None:
    for tool in await listed(nowhere, mode):
        assert tool.title
        assert tool.description is not None
        assert 100 < len(tool.description) <= 2048
        assert "  " not in tool.description
        for name, field in tool.input_schema["properties"].items():
            assert field.get("description"), f"{tool.name}.{name}"


async def test_all_tools_together_cost_a_model_little(nowhere: Settings, mode: Mode) -> None:
    shown = [
        f"{tool.name} {tool.description} {json.dumps(tool.input_schema)}"
        for tool in await listed(nowhere, mode)
    ]
    assert len("".join(shown)) <= MOST_CHARACTERS


async def test_each_tool_has_all_four_annotations(nowhere: Settings, mode: Mode) -> None:
    for tool in await listed(nowhere, mode):
        hints = tool.annotations
        assert hints is not None
        assert None not in (
            hints.read_only_hint,
            hints.destructive_hint,
            hints.idempotent_hint,
            hints.open_world_hint,
        )
        assert not (hints.read_only_hint and hints.destructive_hint)


async def test_all_tools_that_give_no_markdown_have_an_output_schema(
    nowhere: Settings, mode: Mode
) -> None:
    without = [tool.name for tool in await listed(nowhere, mode) if tool.output_schema is None]
    assert without == ["inspect", "compare", "search_docs"]


def undescribed(schema: Any) -> list[str]:
    """The fields of an answer that say nothing of themselves, nor does what they refer to."""
    parts = [schema, *schema.get("$defs", {}).values()]
    return [
        f"{part['title']}.{name}"
        for part in parts
        for name, field in part.get("properties", {}).items()
        if '"description"' not in json.dumps(field)
    ]


async def test_each_field_of_an_answer_is_described(nowhere: Settings, mode: Mode) -> None:
    for tool in await listed(nowhere, mode):
        assert undescribed(tool.output_schema or {}) == []


async def test_every_tool_that_a_description_names_is_there(nowhere: Settings, mode: Mode) -> None:
    tools = await listed(nowhere, mode)
    texts = [tool.description or "" for tool in tools] + [INSTRUCTIONS, INSTRUCTIONS_WITH_TASKS]
    named = set(re.findall(r"\b[a-z]+_(?:workflows?|message|status|catalog)\b", " ".join(texts)))
    package = {"durable_workflows"}  # for workflow code
    assert named - package <= {tool.name for tool in tools}


async def test_the_server_introduces_itself(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        assert client.server_info is not None
        assert client.server_info.title == "Durable workflows"
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", client.server_info.version)
        assert client.instructions == INSTRUCTIONS
    assert len(INSTRUCTIONS) <= 2048


@proves("tasks:told")
async def test_a_client_that_takes_tasks_is_not_told_to_look_again(nowhere: Settings) -> None:
    tasks = advertise(TASKS, {})
    async with Client(build_server(nowhere), extensions=[tasks]) as client:
        assert client.instructions == INSTRUCTIONS_WITH_TASKS
        tools = (await client.list_tools()).tools
    assert len(INSTRUCTIONS_WITH_TASKS) <= 2048
    assert "You are told when a task has ended" in INSTRUCTIONS_WITH_TASKS
    assert "Nothing calls you back" not in INSTRUCTIONS_WITH_TASKS
    assert tools == await listed(nowhere, "auto")  # the protocol wants one list for all
    for word in ("start_workflow", "wait_for_workflows", "inspect", "send_message", "fork"):
        assert word in INSTRUCTIONS


async def test_the_resources_are_listed(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
    uris = [str(one.uri) for one in resources]
    assert uris[0] == "durable://workflows"
    assert "durable://templates/basic_workflow" in uris
    assert "durable://references/recovery" in uris
    assert {one.uri_template: one.mime_type for one in templates} == {
        "durable://workflows/{workflow_id}/trace": "text/markdown",
        "durable://workflows/{workflow_id}/trace.json": "application/json",
        "durable://workflows{?cursor}": "application/json",
        "durable://templates/{name}": "text/x-python",
        "durable://references/{name}": "text/markdown",
    }


# Wrong calls


async def test_many_mistakes_are_not_all_listed(nowhere: Settings, mode: Mode) -> None:
    batch = [{"nam": "x" * 1000}] * 90
    text = await refused(nowhere, mode, "start_workflow", batch=batch)
    assert len(text) < 1000
    assert "; 175 more." in text


async def test_what_cannot_start_is_told_by_every_tool_that_needs_it(
    nowhere: Settings, mode: Mode
) -> None:
    for tool, arguments in (
        ("workflow_catalog", {}),
        ("start_workflow", {"name": "x", "args": '{"as": "text"}'}),
        ("list_workflows", {}),
        ("wait_for_workflows", {"workflow_ids": '["a"]'}),
        ("inspect", {"workflow_id": "a"}),
        ("send_message", {"workflow_id": "a", "topic": "t", "message": None}),
        ("fork", {"workflow_id": "a", "from_step": 1}),
        ("schedule", {}),
        ("cancel", {"workflow_ids": ["a"]}),
        ("resume", {"workflow_ids": ["a"]}),
        ("answer_in_person", {"workflow_id": "a"}),
        ("write_workflow", {"name": "a", "template": "basic_workflow"}),
    ):
        text = await refused(nowhere, mode, tool, **arguments)
        assert text == (
            f"{nowhere.project} is not a directory. Pass an existing directory with --project, or start in one."
        )


@proves("status:answers")
async def test_server_status_answers_whatever_is_broken(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        none = (await client.call_tool("server_status", {})).structured_content
        nowhere.project.mkdir()
        nowhere.state.mkdir()
        (nowhere.state / "connection.json").mkdir()
        (nowhere.state / "supervisor.json").mkdir()
        broken = (await client.call_tool("server_status", {})).structured_content
    assert none is not None
    assert broken is not None
    assert f"{nowhere.project} is not a directory" in none["problems"][0]
    said = "\n".join(broken["problems"])
    for name in ("connection.json", "supervisor.json"):
        assert f"{nowhere.state / name} cannot be used: Is a directory." in said
    assert none["database"] == broken["database"] == "away"


async def test_a_state_directory_that_cannot_be_made_is_told(nowhere: Settings, mode: Mode) -> None:
    nowhere.project.mkdir()
    nowhere.state.write_text("a file where the directory should be", encoding="utf-8")
    text = await refused(nowhere, mode, "list_workflows")
    assert str(nowhere.state) in text
    assert "Something else is in its place: move it away" in text


async def test_a_server_whose_project_appears_later_finds_it(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        first = await client.call_tool("list_workflows", {})
        nowhere.project.mkdir()
        nowhere.state.write_text("", encoding="utf-8")
        second = await client.call_tool("list_workflows", {})
    assert "is not a directory" in str(first.content)
    assert "Something else is in its place: move it away" in str(second.content)


async def test_a_resource_tells_what_cannot_start(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        with pytest.raises(MCPError, match="is not a directory"):
            await client.read_resource("durable://workflows")
        with pytest.raises(MCPError, match="is not a directory"):
            await client.read_resource("durable://workflows/some-id/trace.json")


async def test_an_unexpected_error_reaches_nobody_but_the_log(
    nowhere: Settings,
    mode: Mode,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere.project.mkdir()
    # Called with an argument too many.
    monkeypatch.setattr("durable_workflows.system.state.make_folders", lambda: None)
    text = await refused(nowhere, mode, "list_workflows")
    assert text == (
        "list_workflows failed because of an error in the server; the error is in its log."
        " Call again, or call server_status to see what is wrong. Nothing is lost."
    )
    assert "TypeError" in caplog.text


async def test_a_call_that_is_given_up_leaves_the_server_well(
    nowhere: Settings, mode: Mode, held_supervisor_lock: None
) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        with anyio.move_on_after(0.2) as given_up:
            await client.call_tool("list_workflows", {})
        assert given_up.cancelled_caught
        assert (await client.list_tools()).tools

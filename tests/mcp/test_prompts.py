"""Prompts: exact texts, with arguments that are checked. In both protocol eras."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp.client import advertise
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent

from durable_workflows import content
from durable_workflows.engine.engine import Engine
from durable_workflows.mcp.prompts import EXAMPLE
from durable_workflows.mcp.server import build_server
from durable_workflows.mcp.sessions import TASKS
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import FLOWS
from mcp import Client
from requirements import proves

pytestmark = pytest.mark.anyio
Mode = Literal["auto", "legacy"]

ARGUMENTS = {
    "orchestrate": {"goal": "Release {version} 2", "workflow": "release"},
    "new_workflow": {"task": "Count lines", "name": "count", "template": "basic_workflow"},
    "debug_workflow": {"workflow_id": "deploy-7"},
}
TOOLS = {
    "workflow_catalog",
    "start_workflow",
    "list_workflows",
    "wait_for_workflows",
    "inspect",
    "send_message",
    "fork",
    "cancel",
    "resume",
    "answer_in_person",
    "write_workflow",
    "search_docs",
    "server_status",
}


async def text(client: Client, name: str, arguments: dict[str, str]) -> str:
    [message] = (await client.get_prompt(name, arguments)).messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


async def refused(settings: Settings, mode: Mode, name: str, arguments: dict[str, str]) -> str:
    async with Client(build_server(settings), mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt(name, arguments)
    assert caught.value.error.code == -32602
    return str(caught.value)


async def test_each_prompt_and_argument_is_described(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        prompts = (await client.list_prompts()).prompts
    found = {one.name: [argument.name for argument in one.arguments or ()] for one in prompts}
    assert found == {name: list(arguments) for name, arguments in ARGUMENTS.items()}
    for one in prompts:
        assert one.title
        assert one.description
        assert one.icons
        assert next(argument.required for argument in one.arguments or ())
        assert all(argument.description for argument in one.arguments or ())


@proves("tasks:told")
async def test_a_client_that_takes_tasks_is_told_that_it_will_be_told(nowhere: Settings) -> None:
    async with Client(build_server(nowhere), extensions=[advertise(TASKS, {})]) as client:
        told = {name: await text(client, name, given) for name, given in ARGUMENTS.items()}
    assert "You are told when it has ended" in told["orchestrate"]
    assert "call it again after a timeout" not in told["orchestrate"]
    assert "unless your client asks it already" in told["debug_workflow"]
    assert "You are told when a fork" in told["debug_workflow"]


async def test_a_prompt_holds_what_was_given_and_is_short(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        for name, arguments in ARGUMENTS.items():
            shown = await text(client, name, arguments)
            assert all(value in shown for value in arguments.values())
            assert len(shown) < 5000
            first = next(iter(arguments))
            alone = await text(client, name, {first: arguments[first]})
            assert len(alone) <= len(shown)
            assert "None" not in alone


async def test_what_a_prompt_names_is_there(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        shown = [await text(client, *one) for one in ARGUMENTS.items()]
        for uri in set(re.findall(r"durable://[\w/-]+", " ".join(shown))):
            assert (await client.read_resource(uri)).contents
    words = r"\b(?:(?:start|write|list|wait_for|send|search|answer|server)_\w+|workflow_catalog)\b"
    assert set(re.findall(words, " ".join(shown))) <= TOOLS
    bundled = [path.stem for path in content.folder("workflows").glob("*.py")]
    assert bundled
    assert all(f"`{name}`" in shown[0] for name in bundled)


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("nothing", {}, "There is no prompt 'nothing'. Use one of orchestrate, new_workflow"),
        ("orchestrate", {}, "goal is missing. Use its arguments: goal, workflow."),
        ("orchestrate", {"goal": "  "}, "goal is missing"),
        ("orchestrate", {"gaol": "x"}, "there is no 'gaol'; goal is missing"),
        ("new_workflow", {"task": "x" * 20_001}, "task is longer than 20,000 characters"),
        ("debug_workflow", {"workflow_id": ""}, "workflow_id is missing"),
    ],
)
async def test_wrong_arguments_are_named(
    nowhere: Settings, mode: Mode, name: str, arguments: dict[str, str], complaint: str
) -> None:
    assert complaint in await refused(nowhere, mode, name, arguments)


async def test_the_state_of_a_run_is_in_the_prompt_that_debugs_it(
    shared: Engine, mode: Mode
) -> None:
    there = Settings(project=Path((await shared.reader.status()).project))
    run = f"debug-{mode}"
    await shared.start(StartRequest(name="fails", args={"message": "no card"}, workflow_id=run))
    await shared.reader.wait([run])
    async with Client(build_server(there), mode=mode) as client:
        await client.call_tool("list_workflows", {})  # the engine is there
        shown = await text(client, "debug_workflow", {"workflow_id": run})
    assert "**Why:** failed in step 2 fail: ValueError: no card" in shown
    assert f'fork(workflow_id="{run}", from_step=2)' in shown
    wrong = await refused(there, mode, "debug_workflow", {"workflow_id": f"{run}x"})
    assert f"There is no run '{run}x'. Did you mean '{run}'" in wrong


async def test_without_the_engine_the_prompt_names_the_call(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        shown = await text(client, "debug_workflow", {"workflow_id": "deploy-7"})
    assert 'Begin with inspect(workflow_id="deploy-7").' in shown


async def test_the_example_in_the_prompt_runs_and_can_be_replayed(
    shared: Engine, tmp_path: Path
) -> None:
    assert (FLOWS / "line_counts.py").read_text(encoding="utf-8") == EXAMPLE + "\n"
    file = tmp_path / "one"
    file.write_text("1\n2\n", encoding="utf-8")
    args: dict[str, Any] = {"paths": [str(file), str(FLOWS / "line_counts.py")]}
    [entry] = (await shared.catalog("line_counts")).workflows
    assert entry.summary == "Count the lines of some files."
    started = await shared.start(StartRequest(name="line_counts", args=args))
    [ended] = (await shared.reader.wait([started.workflow_id])).done
    assert isinstance(ended.output, dict)
    assert list(ended.output.values()) == [2, len(EXAMPLE.splitlines())]
    file.unlink()  # a replay does not look again
    again = await shared.fork(started.workflow_id, 3)
    [replayed] = (await shared.reader.wait([again.workflow_id])).done
    assert replayed.output == ended.output

"""A message arrives as what it is: a text as a text, and `null` as a message."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from durable_workflows.telling import traces
from helpers import until_found
from mcp import Client

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def client(shared: Engine) -> AsyncIterator[Client]:
    async with Client(build_server(Settings(project=shared.project))) as client:
        yield client


async def start(engine: Engine, name: str, **args: Any) -> str:
    workflow_id = (await engine.start(StartRequest(name=name, args=args))).workflow_id
    if not args:
        await engine.reader.wait([workflow_id], until="any", timeout_seconds=30)
    return workflow_id


async def output(engine: Engine, workflow_id: str) -> object:
    async def ended() -> str | None:
        done = (await engine.reader.wait([workflow_id], timeout_seconds=30)).done
        return str(done[0].output) if done else None

    return await until_found(ended, "the run has ended")


async def test_a_message_null_is_told_from_a_time_out_by_a_default(shared: Engine) -> None:
    sent = await start(shared, "say_message")
    await shared.send(sent, "go", None)
    await shared.send(sent, "go", "text")
    assert await output(shared, sent) == "None, 'text'"
    fork = (await shared.fork(sent, 4)).workflow_id
    await shared.send(fork, "go", None)
    assert await output(shared, fork) == "None, None", "the fork has the first from the record"
    late = await start(shared, "say_message", timeout=0.1)
    assert await output(shared, late) == "'nothing came', 'nothing came'"
    sent = await start(shared, "say_message_async")
    await shared.send(sent, "go", None)
    assert await output(shared, sent) == "None"
    assert await output(shared, await start(shared, "say_message_async", seconds=0.1)) == "0"


async def test_a_message_on_another_topic_is_named_beside_the_one_that_is_waited_for(
    shared: Engine,
) -> None:
    workflow_id = await start(shared, "say_message")
    await shared.send(workflow_id, "og", "mistyped")
    run = await shared.reader.run(workflow_id)
    assert (run.unread_messages, run.unread_topics) == (1, ["og"])
    assert "1 unread message on 'og' (it waits on 'go')" in traces.markdown(run)
    await shared.cancel([workflow_id])


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2]", "null", "true", "12", '"x"'])
@pytest.mark.parametrize("name", ["say_message_async", "say_text"])
async def test_a_text_that_a_tool_sends_arrives_as_a_text(
    shared: Engine, client: Client, name: str, text: str
) -> None:
    workflow_id = await start(shared, name)
    given = {"workflow_id": workflow_id, "topic": "go", "message": text}
    result = await client.call_tool("send_message", given)
    assert not result.is_error, result
    assert await output(shared, workflow_id) == repr(text)


async def test_a_text_is_read_as_json_only_where_the_wait_takes_no_text(
    shared: Engine, client: Client
) -> None:
    workflow_id = await start(shared, "say_numbers")
    given = {"workflow_id": workflow_id, "topic": "go", "message": "nothing"}
    assert (await client.call_tool("send_message", given)).is_error
    await client.call_tool("send_message", {**given, "message": "[1, 2]"})
    assert await output(shared, workflow_id) == "[1, 2]"


async def test_the_command_sends_null(shared: Engine) -> None:
    workflow_id = await start(shared, "say_message_async")
    command = [sys.executable, "-m", "durable_workflows", "send", "--id", workflow_id]
    given = ["--project", str(shared.project), "--topic", "go", "--message", "null"]
    subprocess.run([*command, *given], check=True, capture_output=True)  # noqa: ASYNC221
    assert await output(shared, workflow_id) == "None"


async def test_no_argument_of_a_tool_is_only_a_reference(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        properties: dict[str, Any] = tool.input_schema["properties"]
        assert not [name for name, schema in properties.items() if "$ref" in schema]
        assert "JsonValue" not in json.dumps(tool.input_schema)

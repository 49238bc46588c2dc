"""Completion: the words that fit, soon, and none where nothing runs. In both protocol eras."""

import time
from pathlib import Path
from typing import Literal

import pytest
from mcp.types import PromptReference, ResourceTemplateReference

from durable_workflows.engine.engine import Engine
from durable_workflows.mcp import completions, uris
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from mcp import Client

pytestmark = pytest.mark.anyio
Mode = Literal["auto", "legacy"]

TRACE = ResourceTemplateReference(uri=uris.TRACE)
TEMPLATE = ResourceTemplateReference(uri=uris.TEMPLATE)
REFERENCE = ResourceTemplateReference(uri=uris.REFERENCE)
DEBUG = PromptReference(name="debug_workflow")
ORCHESTRATE = PromptReference(name="orchestrate")
NEW = PromptReference(name="new_workflow")

Reference = PromptReference | ResourceTemplateReference


@pytest.fixture
async def there(shared: Engine, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the shared project, whose words are waited for: on a busy machine they may take more than a second."""
    monkeypatch.setattr(completions, "_SECONDS", 30.0)
    return Settings(project=Path((await shared.reader.status()).project))


async def words(
    client: Client, reference: Reference, argument: str, typed: str, **given: str
) -> list[str]:
    named = {"name": argument, "value": typed}
    result = await client.complete(reference, named, context_arguments=given or None)
    return result.completion.values


async def test_workflow_ids_come_newest_first(shared: Engine, there: Settings, mode: Mode) -> None:
    ids = [f"comp-{mode}-{number}" for number in range(3)]
    for one in ids:
        await shared.start(StartRequest(name="noisy", workflow_id=one))
    async with Client(build_server(there), mode=mode) as client:
        await client.call_tool("list_workflows", {})  # the engine is there
        assert await words(client, TRACE, "workflow_id", f"comp-{mode}") == ids[::-1]
        assert await words(client, DEBUG, "workflow_id", ids[1]) == [ids[1]]
        assert await words(client, DEBUG, "workflow_id", "no-such") == []
        assert await words(client, DEBUG, "workflow_id", "%") == []
        assert set(ids) <= set(await words(client, TRACE, "workflow_id", ""))


async def test_more_words_than_a_client_takes_are_cut_and_said_to_be_more(
    shared: Engine, there: Settings, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "_MOST", 3)
    starts = [StartRequest(name="noisy", workflow_id=f"many-{mode}-{n}") for n in range(4)]
    await shared.start_all(starts)
    async with Client(build_server(there), mode=mode) as client:
        await client.call_tool("list_workflows", {})
        for typed, more in ((f"many-{mode}-", True), (f"many-{mode}-1", False)):
            argument = {"name": "workflow_id", "value": typed}
            found = (await client.complete(TRACE, argument)).completion
            assert len(found.values) == (3 if more else 1)
            assert found.has_more is more


async def test_names_and_topics_are_those_of_the_project(
    shared: Engine, there: Settings, mode: Mode
) -> None:
    run = f"topic-{mode}"
    args = {"topic": f"go-{mode}"}
    await shared.start(StartRequest(name="wait_for", args=args, workflow_id=run))
    await shared.reader.wait([run])
    async with Client(build_server(there), mode=mode) as client:
        await client.call_tool("list_workflows", {})
        found = await words(client, ORCHESTRATE, "workflow", "wait_f")
        assert "wait_for" in found
        assert all(one.startswith("wait_f") for one in found)
        assert "run_commands" in await words(client, ORCHESTRATE, "workflow", "run_")
        assert await words(client, DEBUG, "topic", "go-") == [f"go-{mode}"]
        assert await words(client, DEBUG, "topic", "", workflow_id=run) == [f"go-{mode}"]
        assert await words(client, DEBUG, "topic", "", workflow_id="no-such") == []
    await shared.cancel([run])


async def test_documents_are_completed_while_nothing_runs(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        assert await words(client, TEMPLATE, "name", "basic") == ["basic_workflow"]
        assert await words(client, NEW, "template", "human") == ["human_in_the_loop"]
        assert await words(client, REFERENCE, "name", "rec") == ["recovery"]
        assert await words(client, NEW, "name", "b") == []
        assert await words(client, ORCHESTRATE, "goal", "") == []


async def test_a_completion_waits_for_nothing(
    nowhere: Settings, mode: Mode, held_supervisor_lock: None
) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        began = time.monotonic()
        assert await words(client, TRACE, "workflow_id", "") == []
        assert await words(client, ORCHESTRATE, "workflow", "") == []
        assert await words(client, DEBUG, "topic", "") == []
        assert time.monotonic() - began < 20

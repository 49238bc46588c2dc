"""The hint of an error is followed to the letter, and then the request succeeds. The texts themselves are in `test_errors.py`."""

import json
import re
import shlex
from collections.abc import AsyncIterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult, TextContent
from pydantic import Field, TypeAdapter

from cli.command import terminal
from durable_workflows.engine.engine import Engine
from durable_workflows.mcp.server import build_server
from durable_workflows.schemas import arguments
from durable_workflows.settings import Settings
from hints import calls
from mcp import Client
from requirements import proves

pytestmark = [pytest.mark.anyio, proves("hints:lead")]

Json = dict[str, Any]


class Agent:
    """Makes requests of which each is refused or succeeds."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def refused(self, tool: str, **arguments: Any) -> str:
        """The text of the error."""
        is_error, text = await self._call(tool, arguments)
        assert is_error, text
        return text

    async def does(self, tool: str, **arguments: Any) -> Json:
        is_error, text = await self._call(tool, arguments)
        assert not is_error, text
        return json.loads(text) if text.startswith("{") else {"text": text}

    async def _call(self, tool: str, arguments: Json) -> tuple[bool, str]:
        result = await self._client.call_tool(tool, arguments)
        [content] = result.content
        assert isinstance(content, TextContent)
        return bool(result.is_error), content.text


async def says_three(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """The person at the client."""
    return ElicitResult(action="accept", content={"amount": 3})


@pytest.fixture(scope="module")
async def agent(shared: Engine) -> AsyncIterator[Agent]:
    server = build_server(Settings(project=shared.project))
    async with Client(server, elicitation_callback=says_three) as client:
        yield Agent(client)


async def run_of(shared: Engine, agent: Agent, name: str, **args: Any) -> str:
    """A run that has ended, or waits."""
    started = await agent.does("start_workflow", name=name, args=args)
    await shared.reader.wait([started["workflow_id"]], timeout_seconds=30)
    return str(started["workflow_id"])


def json_after(words: str, text: str) -> Any:
    return json.JSONDecoder().raw_decode(text.partition(words)[2].lstrip())[0]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("line_counts", {}),
        ("line_counts", {"path": ["a.txt"]}),
        ("line_counts", {"paths": 3}),
        ("noisy", {"loud": True}),
        ("wait_for_amount", {"timeout": "soon"}),
        ("run_commands", {"commands": [{"name": "build"}]}),
        ("fan_out", {}),
        ("plan", {"nodes": 3}),
        ("agent_task", {}),
        ("approval", {"requests": "x"}),
    ],
)
async def test_a_start_with_the_arguments_that_the_error_shows_succeeds(
    name: str, args: Json, agent: Agent, shared: Engine
) -> None:
    said = await agent.refused("start_workflow", name=name, args=args)
    right: Json = {} if "Pass no arguments." in said else json_after("like this:", said)
    started = await agent.does("start_workflow", name=name, args=right)
    await shared.cancel([started["workflow_id"]])


@pytest.mark.long
async def test_each_workflow_can_be_started_as_the_error_about_its_arguments_says(
    agent: Agent, shared: Engine
) -> None:
    """An agent need not know the schema: the error shows it where no example can be made."""
    for entry in (await shared.catalog()).workflows:
        if entry.error is None and entry.not_startable is None:
            said = await agent.refused("start_workflow", name=entry.name, args={"no such": 1})
            assert re.search(
                r"Pass arguments like this: |Pass no arg|Follow the schema of its", said
            )
            if "like this" in said:
                right = json_after("like this:", said)
                started = await agent.does(
                    "start_workflow", name=entry.name, args=right, delay_seconds=600
                )
                await shared.cancel([started["workflow_id"]])


@pytest.mark.parametrize(
    "hint",
    [
        datetime,
        date,
        time,
        timedelta,
        UUID,
        Decimal,
        Annotated[str, Field(min_length=5)],
        Annotated[str, Field(max_length=0)],
        Annotated[int, Field(ge=10)],
        Annotated[int, Field(lt=-3)],
        Annotated[float, Field(gt=0, lt=1)],
        Annotated[int, Field(multiple_of=7)],
        Annotated[list[int], Field(min_length=3)],
        tuple[str, int],
        dict[str, date],
        list[datetime] | None,
    ],
    ids=str,
)
def test_an_example_is_what_the_hint_asks_for(hint: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    schema = adapter.json_schema()
    assert arguments.has_example(schema)
    adapter.validate_json(json.dumps(arguments.example(schema)))


def test_where_no_example_can_be_made_none_is_shown() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[str, Field(pattern="^[A-Z]{3}-[0-9]{4}$")])
    assert not arguments.has_example(adapter.json_schema())


async def test_names_and_ids_are_found_where_the_error_says(agent: Agent, shared: Engine) -> None:
    said = await agent.refused("start_workflow", name="line_count")
    assert "workflow_catalog" in said
    found = await agent.does("workflow_catalog", query="line_count")
    name = found["workflows"][0]["name"]
    run = await run_of(shared, agent, name, paths=[])
    said = await agent.refused("inspect", workflow_id=f"{run}x")
    assert "list_workflows" in said
    listed = (await agent.does("list_workflows"))["workflows"]
    assert run in [one["workflow_id"] for one in listed]
    await agent.does("inspect", workflow_id=run)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workflow_id": " "},
        {"delay_seconds": -1},
        {"timeout_seconds": 1e30},
        {"priority": 0},
        {"queue": "workflow"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_an_option_may_be_what_the_error_shows_or_be_left_out(
    wrong: Json, agent: Agent, shared: Engine
) -> None:
    start: Json = {"name": "line_counts", "args": {"paths": []}}
    said = await agent.refused("start_workflow", **start, **wrong)
    queue = re.search(r"Use one of (\w+)", said)
    right = {"queue": queue[1]} if queue else json_after("for example", said)
    for options in (right, {}):
        started = await agent.does("start_workflow", **start, **options)
        await shared.cancel([started["workflow_id"]])


async def test_a_workflow_id_that_is_taken_is_replaced_or_left_out(
    agent: Agent, shared: Engine
) -> None:
    taken = await run_of(shared, agent, "line_counts", paths=[])
    said = await agent.refused("start_workflow", name="noisy", workflow_id=taken)
    assert "Choose another workflow_id, or omit it" in said
    for options in ({"workflow_id": f"{taken}-noisy"}, {}):
        assert not (await agent.does("start_workflow", name="noisy", **options)).get("existing")


async def test_a_message_as_the_error_shows_it_is_taken(agent: Agent, shared: Engine) -> None:
    run = await run_of(shared, agent, "wait_for_amount")
    wrong = {"workflow_id": run, "topic": "amount"}
    said = await agent.refused("send_message", **wrong, message={"value": "three"})
    right = json_after("Send a message like this:", said)
    await agent.does("send_message", **wrong, message=right)
    assert (await shared.reader.wait([run], timeout_seconds=30)).done[0].status == "SUCCESS"


async def test_a_message_for_a_run_that_has_ended_goes_to_a_fork_or_to_the_resumed_run(
    agent: Agent, shared: Engine
) -> None:
    run = await run_of(shared, agent, "wait_for_amount")
    message: Json = {"topic": "amount", "message": {"value": 1}}
    await agent.does("send_message", workflow_id=run, **message)
    await shared.reader.wait([run], timeout_seconds=30)
    said = await agent.refused("send_message", workflow_id=run, **message)
    [looked, _] = calls(said.replace("from_step=N", "from_step=…"))
    page = (await agent.does(looked[0], **looked[1]))["text"]
    step = re.search(r"topic 'amount'.* received by step (\d+)", page)
    assert step is not None, page
    fork = await agent.does("fork", workflow_id=run, from_step=int(step[1]))
    cancelled = await run_of(shared, agent, "wait_for_amount")
    await shared.cancel([cancelled])
    said = await agent.refused("send_message", workflow_id=cancelled, **message)
    [resumed] = calls(said)
    await agent.does(resumed[0], **resumed[1])
    both = [fork["workflow_id"], cancelled]
    for one in both:
        await agent.does("send_message", workflow_id=one, **message)
    done = (await shared.reader.wait(both, timeout_seconds=30)).done
    assert [one.status for one in done] == ["SUCCESS", "SUCCESS"]


async def test_a_persons_topic_is_answered_as_the_error_says(agent: Agent, shared: Engine) -> None:
    run = await run_of(shared, agent, "ask_order")
    said = await agent.refused(
        "send_message", workflow_id=run, topic="person:order", message={"amount": 1}
    )
    assert "Call answer_in_person" in said
    assert (await agent.does("answer_in_person", workflow_id=run))["answered"]
    assert (await shared.reader.wait([run], timeout_seconds=30)).done[0].status == "SUCCESS"


async def test_without_a_form_the_person_answers_by_the_command_that_the_error_shows(
    shared: Engine,
) -> None:
    async with Client(build_server(Settings(project=shared.project))) as client:
        agent = Agent(client)
        run = await run_of(shared, agent, "ask_order")
        said = await agent.refused("answer_in_person", workflow_id=run)
    command = said.partition("who can answer in a terminal: ")[2].partition("\n")[0]
    with terminal(shlex.split(command), folder=shared.project.parent) as person:
        for question, answer in {"amount": "3", "unit": "", "express": "", "Send it?": "y"}.items():
            person.sees(question)
            person.types(answer)
        assert person.leaves() == 0, person.screen
    assert (await shared.reader.wait([run], timeout_seconds=30)).done[0].status == "SUCCESS"


async def test_what_is_too_large_for_a_message_goes_into_a_file_as_the_error_says(
    agent: Agent, shared: Engine
) -> None:
    run = await run_of(shared, agent, "wait_for", topic="report")
    large = "x" * 2_000_000
    said = await agent.refused("send_message", workflow_id=run, topic="report", message=large)
    assert "Write the data to a file in the project and pass its path instead." in said
    (shared.project / "report.txt").write_text(large, encoding="utf-8")
    await agent.does("send_message", workflow_id=run, topic="report", message="report.txt")
    assert (await shared.reader.wait([run], timeout_seconds=30)).done[0].output == "report.txt"


async def test_a_fork_begins_where_the_error_says(agent: Agent, shared: Engine) -> None:
    run = await run_of(shared, agent, "line_counts", paths=[])
    said = await agent.refused("fork", workflow_id=run, from_step=9)
    last = re.search(r"give one from 1 to (\d+)", said)
    assert last is not None
    fork = await agent.does("fork", workflow_id=run, from_step=int(last[1]))
    assert (await shared.reader.wait([fork["workflow_id"]])).done[0].status == "SUCCESS"


async def test_a_cursor_is_left_out(agent: Agent) -> None:
    assert "omit it" in await agent.refused("list_workflows", cursor="page 2")
    await agent.does("list_workflows")

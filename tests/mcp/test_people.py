"""Questions to the person at the client: only the person answers."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import anyio
import pytest
from mcp.client import ClientRequestContext
from mcp.types import (
    ElicitRequestFormParams,
    ElicitRequestParams,
    ElicitResult,
    TextContent,
    TextResourceContents,
)

from durable_workflows.engine.engine import Engine
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import until_found
from mcp import Client
from requirements import proves
from transports import Transport, reached

pytestmark = pytest.mark.anyio

Mode = Literal["auto", "legacy"]
Answer = Callable[[ElicitRequestFormParams], ElicitResult]
NO_MORE = ("ended with status SUCCESS", "does not wait", "asks nothing now")


class Person:
    """Answers what the client shows, and remembers what was shown."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.shown: list[ElicitRequestFormParams] = []

    async def __call__(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        self.shown.append(params)
        return self._answer(params)


def accepting(**content: Any) -> Person:
    return Person(lambda _params: ElicitResult(action="accept", content=content))


@pytest.fixture
async def project_settings(shared: Engine) -> Settings:
    return Settings(project=shared.project)


async def asked(shared: Engine, name: str, **args: Any) -> str:
    """A run that waits for a person."""
    run = await shared.start(StartRequest(name=name, args=args))

    async def waits() -> bool:
        return bool(await shared.reader.waits(run.workflow_id))

    await until_found(waits, "the run waits")
    return run.workflow_id


async def call(
    settings: Settings,
    mode: Mode,
    person: Person | None,
    workflow_id: str,
    transport: Transport = "memory",
) -> str:
    """Call the tool once, and return what the model reads."""
    async with (
        reached(settings, transport) as server,
        Client(server, mode=mode, elicitation_callback=person) as client,
    ):
        result = await client.call_tool("answer_in_person", {"workflow_id": workflow_id})
    content = result.content[0]
    assert isinstance(content, TextContent)
    return content.text


async def outcome(shared: Engine, workflow_id: str) -> Any:
    with anyio.fail_after(30):
        result = await shared.reader.wait([workflow_id], timeout_seconds=30)
    return result.done[0].output


@pytest.mark.long
@pytest.mark.parametrize("transport", ["memory", "http"])
@proves("person:only")
async def test_the_person_sees_the_question_and_the_answer_goes_to_the_run(
    shared: Engine, project_settings: Settings, transport: Transport, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_order", timeout=600)
    person = accepting(amount=3, unit="t")
    text = await call(project_settings, mode, person, workflow_id, transport)
    assert "The person's answer was sent" in text
    [shown] = person.shown
    assert shown.message.endswith("\n\n> What shall be ordered?")
    assert workflow_id in shown.message
    assert ", until 20" in shown.message
    properties = shown.requested_schema["properties"]
    assert properties["unit"]["enum"] == ["kg", "t"]
    assert shown.requested_schema["required"] == ["amount"]
    assert await outcome(shared, workflow_id) == {"amount": 3, "unit": "t", "express": False}
    [noted] = (await shared.reader.run(workflow_id)).answers
    assert (noted.how, noted.shown) == ("elicitation", shown.message)
    assert noted.who.startswith("the person at ")


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_who_does_not_answer_leaves_the_run_waiting(
    shared: Engine, project_settings: Settings, mode: Mode, action: Literal["decline", "cancel"]
) -> None:
    workflow_id = await asked(shared, "ask_order")
    person = Person(lambda _params: ElicitResult(action=action))
    text = await call(project_settings, mode, person, workflow_id)
    assert f"The person said {action}; the run keeps waiting." in text
    assert len(await shared.reader.waits(workflow_id)) == 1
    await shared.cancel([workflow_id])


async def test_what_fits_into_no_form_is_asked_for_as_json(
    shared: Engine, project_settings: Settings, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_parts")
    text = await call(project_settings, mode, accepting(answer="nuts, bolts"), workflow_id)
    assert "not JSON" in text
    text = await call(project_settings, mode, accepting(answer='["nuts", 1]'), workflow_id)
    assert "1 is not of type 'string'" in text
    await call(project_settings, mode, accepting(answer='["nuts", "bolts"]'), workflow_id)
    assert await outcome(shared, workflow_id) == ["nuts", "bolts"]


async def test_without_a_schema_the_answer_is_a_text(
    shared: Engine, project_settings: Settings, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_anything")
    await call(project_settings, mode, accepting(answer="a whale"), workflow_id)
    assert await outcome(shared, workflow_id) == "a whale"


@proves("person:only")
async def test_a_client_that_cannot_ask_is_told_the_command(
    shared: Engine, project_settings: Settings, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_order")
    text = await call(project_settings, mode, None, workflow_id)
    assert "What shall be ordered?" in text
    command = f"durable-workflows approve {workflow_id} --topic person:order --project"
    assert f"{command} {shared.project}\n" in text
    assert f"durable://workflows/{workflow_id}/trace" in text
    await shared.cancel([workflow_id])


@proves("person:only")
async def test_a_model_cannot_answer_by_any_tool(
    shared: Engine, project_settings: Settings, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_order")
    async with Client(build_server(project_settings), mode=mode) as client:
        for tool, arguments in {
            "send_message": {"topic": "person:order", "message": {"amount": 1}},
            "answer_in_person": {"topic": "person:order", "answer": {"amount": 1}},
        }.items():
            result = await client.call_tool(tool, {"workflow_id": workflow_id, **arguments})
            assert result.is_error, tool
    assert await shared.reader.messages(workflow_id) == []
    await shared.cancel([workflow_id])


@proves("person:noted")
async def test_the_trace_as_json_has_who_answered_when_how_and_what_was_shown(
    shared: Engine, project_settings: Settings
) -> None:
    workflow_id = await asked(shared, "ask_anything")
    [wait] = await shared.reader.waits(workflow_id)
    await shared.answer(wait, "a whale", who="ann", how="terminal", shown="What is it?")
    await outcome(shared, workflow_id)
    async with Client(build_server(project_settings)) as client:
        [read] = (
            await client.read_resource(f"durable://workflows/{workflow_id}/trace.json")
        ).contents
        shown = await client.call_tool(
            "inspect", {"workflow_id": workflow_id, "step": 0, "cursor": "answers:0"}
        )
    assert isinstance(read, TextResourceContents)
    [answer] = json.loads(read.text)["answers"]
    assert datetime.fromisoformat(answer.pop("at")).tzinfo is not None
    assert answer == {
        "step": wait.step,
        "topic": wait.topic,
        "who": "ann",
        "how": "terminal",
        "shown": "What is it?",
        "answer": {"text": '"a whale"', "length": 9},
        "taken_from": None,
    }
    assert isinstance(shown.content[0], TextContent)
    assert 'Step 1, answered by ann: "a whale"' in shown.content[0].text


@proves("person:asked-by-child")
async def test_the_question_of_a_child_is_put_to_the_person_who_is_asked_for_its_parent(
    shared: Engine, project_settings: Settings
) -> None:
    run = await shared.start(
        StartRequest(name="fan_out", args={"workflow": "ask_anything", "items": [{}, {}]})
    )

    async def both_ask() -> bool:
        return len(await shared.reader.questions(run.workflow_id)) == 2

    await until_found(both_ask, "both children ask")
    text = await call(project_settings, "auto", accepting(answer="a whale"), run.workflow_id)
    children = [f"{run.workflow_id}-{number}" for number in range(2)]
    assert text.startswith("Several runs that ")
    assert all(f"{child} on 'person:1'" in text for child in children)
    child = children[0]
    assert "was sent" in await call(project_settings, "auto", accepting(answer="a whale"), child)
    await outcome(shared, child)
    person = accepting(answer="a crab")
    assert "was sent" in await call(project_settings, "auto", person, run.workflow_id)
    assert [one["output"] for one in (await outcome(shared, run.workflow_id))["results"]] == [
        "a whale",
        "a crab",
    ]


@proves("person:approval")
async def test_an_approval_is_a_persons_and_no_message_of_an_agent_decides_it(
    shared: Engine, project_settings: Settings
) -> None:
    workflow_id = await asked(shared, "approval", request="Deploy?", choices=["now", "never"])
    for topic in ("approval", "person:approval"):
        async with Client(build_server(project_settings)) as client:
            await client.call_tool(
                "send_message",
                {"workflow_id": workflow_id, "topic": topic, "message": {"decision": "now"}},
            )
    person = accepting(decision="never", comment="too late")
    assert "was sent" in await call(project_settings, "auto", person, workflow_id)
    [shown] = person.shown
    assert shown.message.endswith("\n\n> Deploy?")
    assert shown.requested_schema["properties"]["decision"]["enum"] == ["now", "never"]
    assert shown.requested_schema["required"] == ["decision"]
    decided = await outcome(shared, workflow_id)
    assert (decided["decision"], decided["comment"]) == ("never", "too late")


@proves("person:once")
async def test_an_answer_counts_only_for_what_was_asked_and_only_once(
    shared: Engine, project_settings: Settings, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_order")
    [wait] = await shared.reader.waits(workflow_id)

    class TooLate(Person):
        async def __call__(
            self, context: ClientRequestContext, params: ElicitRequestParams
        ) -> ElicitResult:
            await shared.answer(wait, {"amount": 1}, who="somebody quicker", how="terminal")
            await outcome(shared, workflow_id)
            return await super().__call__(context, params)

    person = TooLate(lambda _params: ElicitResult(action="accept", content={"amount": 2}))
    text = await call(project_settings, mode, person, workflow_id)
    assert f"{workflow_id} " in text
    assert any(one in text for one in NO_MORE)
    assert (await outcome(shared, workflow_id))["amount"] == 1
    assert len(await shared.reader.messages(workflow_id)) == 1


@proves("person:once")
async def test_an_answer_to_a_question_that_was_answered_meanwhile_is_not_taken_for_the_next(
    shared: Engine, project_settings: Settings, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_twice")
    [first] = await shared.reader.waits(workflow_id)

    class Overtaken(Person):
        async def __call__(
            self, context: ClientRequestContext, params: ElicitRequestParams
        ) -> ElicitResult:
            if not self.shown:
                await shared.answer(first, False, who="somebody quicker", how="terminal")
                await until_found(second_is_asked, "the second question is asked")
            return await super().__call__(context, params)

    async def second_is_asked() -> bool:
        return [wait.prompt for wait in await shared.reader.waits(workflow_id)] == ["Really?"]

    person = Overtaken(lambda _params: ElicitResult(action="accept", content={"answer": True}))
    text = await call(project_settings, mode, person, workflow_id)
    shown = [params.message.splitlines()[-1].removeprefix("> ") for params in person.shown]
    if mode == "legacy":
        assert shown == ["Delete the table?"]
        assert "somebody quicker already answered this at" in text
        assert await second_is_asked()
        await call(project_settings, mode, accepting(answer=True), workflow_id)
    else:  # the same call asks what is open now
        assert shown == ["Delete the table?", "Really?"]
    assert await outcome(shared, workflow_id) == [False, True]


async def test_a_question_that_has_expired_takes_no_answer(
    shared: Engine, project_settings: Settings, mode: Mode
) -> None:
    workflow_id = await asked(shared, "ask_order", timeout=5)

    class Slow(Person):
        async def __call__(
            self, context: ClientRequestContext, params: ElicitRequestParams
        ) -> ElicitResult:
            async def ended() -> bool:
                return (await shared.reader.run(workflow_id)).status == "SUCCESS"

            await until_found(ended, "the run has ended")
            return await super().__call__(context, params)

    person = Slow(lambda _params: ElicitResult(action="accept", content={"amount": 2}))
    text = await call(project_settings, mode, person, workflow_id)
    assert any(one in text for one in NO_MORE)
    assert (await shared.reader.wait([workflow_id])).done[0].output is None

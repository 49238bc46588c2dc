"""A server that goes away between a question and its answer: the question stays, and the answer counts once."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from helpers import until_found
from requirements import proves
from transports import envelope

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
Launch = Callable[..., AbstractContextManager[Any]]

ASKING: Json = {"elicitation": {"form": {}}}
META = envelope(**ASKING)
ANSWER = {"action": "accept", "content": {"amount": 3, "unit": "t", "express": False}}


@pytest.fixture
async def asked(shared: Engine) -> AsyncGenerator[str]:
    """A run that waits for a person."""
    run = await shared.start(StartRequest(name="ask_order", args={}))
    await until_found(lambda: shared.reader.waits(run.workflow_id), "the run waits")
    yield run.workflow_id
    await shared.cancel([run.workflow_id])


async def answers(shared: Engine, workflow_id: str) -> list[Any]:
    await shared.reader.wait([workflow_id], timeout_seconds=30)
    return [message.message for message in await shared.reader.messages(workflow_id)]


@pytest.mark.long
@proves("person:once")
async def test_a_newer_client_gives_the_answer_to_the_next_server(
    shared: Engine, launch: Launch, asked: str
) -> None:
    call: Json = {"name": "answer_in_person", "arguments": {"workflow_id": asked}, "_meta": META}
    with launch(shared.project) as server:
        question = server.request("tools/call", call)["result"]
        server.process.kill()
    assert question["resultType"] == "input_required"
    call |= {"inputResponses": {"answer": ANSWER}, "requestState": question["requestState"]}
    with launch(shared.project) as server:
        first = server.request("tools/call", call)["result"]
        again = server.request("tools/call", call)["result"]
    assert first["structuredContent"]["answered"], first
    assert again["isError"]
    assert len(await answers(shared, asked)) == 1


@pytest.mark.long
async def test_a_state_that_no_server_of_the_project_has_sealed_is_refused(
    shared: Engine, launch: Launch, asked: str
) -> None:
    call: Json = {"name": "answer_in_person", "arguments": {"workflow_id": asked}, "_meta": META}
    call |= {"inputResponses": {"answer": ANSWER}, "requestState": "v1." + "A" * 80}
    with launch(shared.project) as server:
        refused = server.request("tools/call", call)["error"]
    assert refused["message"] == "Invalid or expired requestState"
    assert len(await shared.reader.waits(asked)) == 1


@proves("person:once")
@pytest.mark.long
async def test_an_earlier_client_asks_again_with_the_next_server(
    shared: Engine, launch: Launch, asked: str
) -> None:
    call: Json = {"name": "answer_in_person", "arguments": {"workflow_id": asked}}
    with launch(shared.project) as server:
        server.initialize(ASKING)
        server.send("tools/call", call)
        assert question_of(server)["params"]["message"].endswith("> What shall be ordered?")
        server.process.kill()
    assert len(await shared.reader.waits(asked)) == 1
    with launch(shared.project) as server:
        server.initialize(ASKING)
        number = server.send("tools/call", call)
        server.respond(question_of(server)["id"], ANSWER)
        result = server.answer(number)["result"]
    assert result["structuredContent"]["answered"], result
    assert len(await answers(shared, asked)) == 1


def question_of(server: Any) -> Json:
    while (message := server.read()).get("method") != "elicitation/create":
        pass
    return message

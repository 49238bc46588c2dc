"""Makes the calls of tools in the references as an agent makes them: start, wait, answer what is asked, wait again."""

import json

from documents.blocks import Block, blocks
from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, StartRequest, Waiting
from durable_workflows.schemas import arguments
from durable_workflows.settings import PERSON

_SECONDS = 60.0


def to_be_made() -> list[Block]:
    """The starts that shall end well: `json start_workflow run=ok`."""
    return [block for block in blocks("json") if block.options.get("run") == "ok"]


async def make(engine: Engine, block: Block) -> Ended:
    """Start a run, and give it and its children the answers that other blocks have for them, until it has ended."""
    started = await engine.start(StartRequest.model_validate_json(block.text))
    assert not started.existing, started
    while True:
        result = await engine.reader.wait([started.workflow_id], timeout_seconds=_SECONDS)
        assert not result.timed_out, result
        if result.done:
            return result.done[0]
        for wait in result.waiting:
            await _answer(engine, wait)


async def _answer(engine: Engine, wait: Waiting) -> None:
    """With the call that a reader finds; the person who then is asked agrees."""
    if not wait.topic.startswith(PERSON):
        await engine.send(**_call("send_message", workflow_id=wait.workflow_id, topic=wait.topic))
        return
    assert _call("answer_in_person", workflow_id=wait.workflow_id)
    (question,) = await engine.reader.waits(wait.workflow_id)
    agreed = arguments.example(question.message_schema or {})
    await engine.answer(question, agreed, who="reader", how="test")


def _call(tool: str, **wanted: str) -> dict[str, str]:
    """The arguments of the only call of a tool that has these among them."""
    calls = [json.loads(block.text) for block in blocks("json") if tool in block.words]
    (found,) = [call for call in calls if wanted.items() <= call.items()]
    return found

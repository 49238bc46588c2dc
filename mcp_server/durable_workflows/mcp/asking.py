"""Questions of tasks to people, and the answers.

Each question of a run is a form under a key, and an answer to a key counts for that question only.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult
from pydantic import ValidationError

from durable_workflows import actions, wording
from durable_workflows.errors import (
    AlreadyAnswered,
    InvalidArguments,
    MessageTooLarge,
    NotWaiting,
    UnknownWorkflowId,
    WorkflowFinished,
)
from durable_workflows.mcp import elicitation
from durable_workflows.models import Question

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

_HOW = "elicitation"
_LATE = (AlreadyAnswered, NotWaiting, WorkflowFinished, UnknownWorkflowId)


def key(question: Question) -> str:
    """The key of a question: a new text, a new schema or another attempt gives another key. No server needs to keep it."""
    wait = question.wait
    about = [wait.topic, wait.prompt, wait.message_schema, question.attempt]
    bound = json.dumps([wait.workflow_id, wait.step, *about])
    digest = hashlib.sha256(bound.encode()).hexdigest()[:32]
    return f"{digest}.{wait.step}.{wait.workflow_id}"


def requests(questions: Sequence[Question]) -> dict[str, object]:
    """The questions as forms, by their keys."""
    return {key(one): _request(one) for one in questions}


def told(question: Question) -> str:
    """The note about a question that a person did something with but did not answer."""
    wait = question.wait
    if question.closed:
        again = actions.call("answer_in_person", workflow_id=wait.workflow_id, topic=wait.topic)
        return f"{question.closed}; the run keeps waiting. {again} asks again."
    return f"The last answer was not taken: {question.refused}" if question.refused else ""


async def take(
    engine: "Engine", questions: Sequence[Question], responses: Mapping[str, Any], who: str
) -> list[str]:
    """Give the runs a person's answers; return the note about them.

    An answer to a question that is not open changes nothing.

    Raises:
        DatabaseUnavailable: the database does not answer; some answers may have been sent. All of them may be sent again.
    """
    known = {key(one): one for one in questions}
    notes: list[str] = []
    for name, response in responses.items():
        if name in known:
            notes.append(await _take(engine, known[name], response, who))
        else:
            notes.append(await _why_not(engine, name))
    return [note for note in notes if note]


def _request(question: Question) -> dict[str, object]:
    wait = question.wait
    params = ElicitRequestFormParams(
        message=_message(question), requested_schema=elicitation.form(wait)
    )
    return ElicitRequest(params=params).model_dump(mode="json", by_alias=True, exclude_none=True)


def _message(question: Question) -> str:
    asked = elicitation.message(question.wait)
    if question.refused is None:
        return asked
    return f"The last answer was not taken: {question.refused}\n\n{asked}"


async def _take(engine: "Engine", question: Question, response: object, who: str) -> str:
    try:
        result = ElicitResult.model_validate(response)
    except ValidationError:
        return "What was sent is no answer of a form; it was not taken."
    wait = question.wait
    if result.action != "accept":
        await engine.leave_open(wait, result.action, who=who, how=_HOW)
        return ""  # the question itself says it from now on
    try:
        given = elicitation.value(wait, result.content)
        await engine.answer(wait, given, who=who, how=_HOW, shown=_message(question))
    except (InvalidArguments, MessageTooLarge) as error:
        await engine.leave_open(wait, "unfit", who=who, how=_HOW, why=error.message)
        return ""
    except _LATE as error:
        return f"{error.message} This answer was not taken."
    return ""


async def _why_not(engine: "Engine", name: str) -> str:
    """Why an answer to the key of a question that is not open was ignored."""
    _, _, rest = name.partition(".")
    step, _, workflow_id = rest.partition(".")
    try:
        answers = await engine.reader.answers(workflow_id)
    except UnknownWorkflowId:
        answers = []
    earlier = next((one for one in answers if str(one.step) == step), None)
    if earlier is None:
        return f"There is no open question {wording.short(name, 100)!r}; what was sent for it was not taken."
    at = wording.time(earlier.at)
    return f"{earlier.who} already answered this at {at}; nothing more was sent."

"""Answers to callbacks of runs: with a token, or by a message on the topic of a callback."""

import json
import uuid
from typing import Literal

from pydantic import JsonValue

from durable_workflows import fitting
from durable_workflows.database import callback_tokens
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import (
    AlreadyAnswered,
    InvalidArguments,
    NotWaiting,
    WorkflowFinished,
)
from durable_workflows.models import Delivered, Schema
from durable_workflows.schemas import arguments

# What becomes of an answer. Both of the first two are a success.
Verdict = Literal["taken", "repeated", "answered", "given up", "ended", "unknown"]
HEARTBEAT = {"heartbeat": True}
FORM = 'Send {"result": …}, {"error": "…"} or {"heartbeat": true}.'

_REPEATED = "An answer with this key was already sent. Nothing new was sent."


class CallbackAnswers:
    """Gives answers to callbacks."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._secret = ""

    async def by_token(self, token: str, value: JsonValue, key: str | None) -> Verdict:
        """As `Engine.call_back`."""
        callback_id = await self._id_of(token)
        if callback_id is None:
            return "unknown"
        rows = await self._rows.fetch("callback_by_id", callback_id=callback_id)
        if not rows:
            return "unknown"
        return await self._answer(callback_id, None, rows[0]["schema"], value, key)

    async def by_message(
        self, workflow_id: str, step: int, topic: str, message: JsonValue, key: str | None
    ) -> Delivered | None:
        """Answer the callback of a run that a message is for; None: it has no such callback.

        Raises:
            AlreadyAnswered, NotWaiting, WorkflowFinished: it takes no answer (any more).
            InvalidArguments, MessageTooLarge: the message is no answer, or does not fit.
        """
        rows = await self._rows.fetch(
            "callback_of_topic", workflow_id=workflow_id, step=step, topic=topic
        )
        if not rows:
            return None
        callback_id, schema = rows[0]["callback_id"], rows[0]["schema"]
        match await self._answer(callback_id, workflow_id, schema, _meant(message), key):
            case "answered":
                raise AlreadyAnswered(f"{topic!r} was answered before; the first answer counts.")
            case "given up":
                raise NotWaiting(f"{workflow_id} no longer waits for {topic!r}.")
            case "ended" | "unknown":
                raise WorkflowFinished(f"{workflow_id} has ended.")
            case verdict:
                note = _REPEATED if verdict == "repeated" else None
                return Delivered(workflow_id=workflow_id, topic=topic, delivered=True, note=note)

    async def _answer(
        self,
        callback_id: str,
        only_run: str | None,
        schema: object,
        value: JsonValue,
        key: str | None,
    ) -> Verdict:
        arguments.check_texts(idempotency_key=key)
        _check(value, None if schema is None else arguments.usable(schema))
        [row] = await self._rows.change(
            "answer_callback",
            callback_id=callback_id,
            workflow_id=only_run,
            answer=None if value == HEARTBEAT else fitting.recorded_json(value),
            key=key or str(uuid.uuid4()),  # also a statement that is sent twice counts once
        )
        return row["verdict"]

    async def _id_of(self, token: str) -> str | None:
        if not callback_tokens.has_form(token):
            return None
        if not self._secret:
            made = callback_tokens.new_secret()
            [row] = await self._rows.fetch("callback_secret", made=made)
            self._secret = row["secret"]
        return callback_tokens.id_of(self._secret, token)


def _check(value: JsonValue, schema: Schema | None) -> None:
    """Check whether a value is an answer.

    Raises:
        InvalidArguments, MessageTooLarge
    """
    arguments.check_size(value, "answer")
    problem: str | None = "it has another form"
    match value:
        case {"result": result, **rest} if not rest:
            problem = None if schema is None else arguments.first_problem(schema, result, schema)
            problem = problem and f"its result: {problem}"
        case {"error": str(), **rest} if not rest:
            problem = None
        case {"heartbeat": True, **rest} if not rest:
            problem = None
        case _:
            pass
    if problem is not None:
        wanted = "" if schema is None else f" The schema of a result is {json.dumps(schema)}."
        raise InvalidArguments(
            f"The answer does not fit: {problem}. Nothing was sent; the run keeps waiting.",
            hint=f"{FORM}{wanted}",
        )


def _meant(message: JsonValue) -> JsonValue:
    """The intended message of a client that writes all values as texts."""
    if not isinstance(message, str):
        return message
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return message

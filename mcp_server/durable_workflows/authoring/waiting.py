"""Waits for messages that show their question.

They are made of `DBOS.recv`, and as durable: a restarted run keeps waiting until the same deadline. Call them from the body of a
workflow, not from a step.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, overload

from dbos import DBOS
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import JsonValue, TypeAdapter

from durable_workflows.authoring.asking import Question
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import Schema
from durable_workflows.schemas import validating
from durable_workflows.seam import dbos_calls
from durable_workflows.settings import FOREVER_SECONDS, PERSON

T = TypeVar("T")
D = TypeVar("D")
logger = logging.getLogger(__name__)


@overload
def receive(
    topic: str, *, schema: type[T], prompt: str | None = None, timeout: None = None
) -> T: ...
@overload
def receive(
    topic: str, *, schema: type[T], prompt: str | None = None, timeout: float | None = None
) -> T | None: ...
@overload
def receive(
    topic: str,
    *,
    schema: type[T],
    prompt: str | None = None,
    timeout: float | None = None,
    default: D,
) -> T | D: ...
@overload
def receive(
    topic: str,
    *,
    schema: object = None,
    prompt: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any: ...
def receive(
    topic: str,
    *,
    schema: object = None,
    prompt: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any:
    """Wait for a message on `topic` and return it; `default` when `timeout` seconds have passed (without one: no limit).

    While it waits, `inspect` and `list` show `prompt` and `schema`. `schema` is a JSON schema, or a Python type (a pydantic model, a
    TypedDict, a Literal, bool, …): then the message is returned as that type. The sender of a message that does not fit is refused.
    An unfitting message that came before the wait began is skipped, which the log of the run notes; the wait continues.

    A message may be `null`, which is None. To distinguish it from a timeout, give a `default` that no message can be.

    Raises:
        InvalidArguments: `schema` is not a JSON schema.
    """
    return _Wait(topic, schema, prompt, timeout, default).run()


@overload
async def receive_async(
    topic: str, *, schema: type[T], prompt: str | None = None, timeout: None = None
) -> T: ...
@overload
async def receive_async(
    topic: str, *, schema: type[T], prompt: str | None = None, timeout: float | None = None
) -> T | None: ...
@overload
async def receive_async(
    topic: str,
    *,
    schema: type[T],
    prompt: str | None = None,
    timeout: float | None = None,
    default: D,
) -> T | D: ...
@overload
async def receive_async(
    topic: str,
    *,
    schema: object = None,
    prompt: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any: ...
async def receive_async(
    topic: str,
    *,
    schema: object = None,
    prompt: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any:
    """`receive` for async workflows."""
    return await _Wait(topic, schema, prompt, timeout, default).run_async()


@overload
def ask_human(
    prompt: str, *, schema: type[T], topic: str | None = None, timeout: None = None
) -> T: ...
@overload
def ask_human(
    prompt: str, *, schema: type[T], topic: str | None = None, timeout: float | None = None
) -> T | None: ...
@overload
def ask_human(
    prompt: str,
    *,
    schema: type[T],
    topic: str | None = None,
    timeout: float | None = None,
    default: D,
) -> T | D: ...
@overload
def ask_human(
    prompt: str,
    *,
    schema: object = None,
    topic: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any: ...
def ask_human(
    prompt: str,
    *,
    schema: object = None,
    topic: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any:
    """Ask a person, and return the answer; `default` when `timeout` seconds have passed (without one: no limit).

    A person answers in a terminal (`durable-workflows approve`), on the page, or in the form of a client. The answer is recorded with
    the person, the time and the way. A worker accepts nothing else: it skips a message on this topic, and the log of the run says so.
    Otherwise
    as `receive`. The topic is `person:` and `topic`, or the number of the step that waits.
    """
    return _Wait(_person_topic(topic), schema, prompt, timeout, default).run()


@overload
async def ask_human_async(
    prompt: str, *, schema: type[T], topic: str | None = None, timeout: None = None
) -> T: ...
@overload
async def ask_human_async(
    prompt: str, *, schema: type[T], topic: str | None = None, timeout: float | None = None
) -> T | None: ...
@overload
async def ask_human_async(
    prompt: str,
    *,
    schema: type[T],
    topic: str | None = None,
    timeout: float | None = None,
    default: D,
) -> T | D: ...
@overload
async def ask_human_async(
    prompt: str,
    *,
    schema: object = None,
    topic: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any: ...
async def ask_human_async(
    prompt: str,
    *,
    schema: object = None,
    topic: str | None = None,
    timeout: float | None = None,
    default: object = None,
) -> Any:
    """`ask_human` for async workflows."""
    return await _Wait(_person_topic(topic), schema, prompt, timeout, default).run_async()


class _Wait:
    """One wait, until a message that fits or the deadline."""

    def __init__(
        self, topic: str, schema: object, prompt: str | None, timeout: float | None, default: object
    ) -> None:
        self._topic = topic
        self._timeout = timeout
        self._default = default
        self._first = dbos_calls.next_step()
        json_schema, self._fitting = checker(schema)
        self._question = Question(prompt, json_schema, topic.startswith(PERSON))

    def run(self) -> object:
        left = self._timeout
        while True:
            step = dbos_calls.next_step()
            with self._question.shown():
                message = DBOS.recv(self._topic, timeout_seconds=_seconds(left))
            if message is None and self._timeout is not None:
                distinct = self._default is not None
                if not (distinct and DBOS.run_step({"name": "message_came"}, self._came, step)):
                    return self._default
            done, value = self._take(message)
            if done:
                return value
            if left is not None:
                left = DBOS.run_step({"name": "time_left"}, self._left)

    async def run_async(self) -> object:
        left = self._timeout
        while True:
            step = dbos_calls.next_step()
            with self._question.shown():
                message = await DBOS.recv_async(self._topic, timeout_seconds=_seconds(left))
            if message is None and self._timeout is not None:
                distinct = self._default is not None
                if not (
                    distinct
                    and await DBOS.run_step_async({"name": "message_came"}, self._came, step)
                ):
                    return self._default
            done, value = self._take(message)
            if done:
                return value
            if left is not None:
                left = await DBOS.run_step_async({"name": "time_left"}, self._left)

    def _left(self) -> float:
        """The rest of the time until the deadline of the first wait. A step, which runs only after a message that did not fit."""
        return dbos_calls.left_of_wait(self._first)

    def _came(self, step: int) -> bool:
        """Whether the `DBOS.recv` of that number ended with a message. A step, which runs only if `null` and a timeout differ."""
        if self._topic.startswith(PERSON):
            return dbos_calls.left_of_wait(step) > 0
        return dbos_calls.has_received(step)

    def _take(self, message: JsonValue) -> tuple[bool, object]:
        """Whether the wait is over, and its result. Both depend only on the recorded message."""
        try:
            return True, self._fitting(message)
        except ValueError as error:
            logger.warning("A message for %r does not fit and was skipped: %s", self._topic, error)
            return False, None


def checker(schema: Any) -> tuple[Schema | None, Callable[[JsonValue], object]]:
    """The JSON schema to show, and a function that returns a message in the author's type, or raises ValueError."""
    if schema is None:
        return None, lambda message: message
    if isinstance(schema, dict):
        return _json_schema_checker(schema)  # pyright: ignore[reportUnknownArgumentType]
    adapter: TypeAdapter[object] = TypeAdapter(schema)
    return adapter.json_schema(), adapter.validate_python


def _json_schema_checker(schema: Schema) -> tuple[Schema, Callable[[JsonValue], object]]:
    try:
        Draft202012Validator.check_schema(schema)  # pyright: ignore[reportUnknownMemberType]
    except SchemaError as error:
        raise InvalidArguments(
            f"The schema passed to receive is not a JSON schema: {error.message}.",
            hint='Pass a type, a pydantic model, or a JSON schema like {"type": "boolean"}.',
        ) from error

    def fitting(message: JsonValue) -> JsonValue:
        for error in validating.errors_in(schema, message):
            raise ValueError(error.message)
        return message

    return schema, fitting


def _seconds(left: float | None) -> float:
    return FOREVER_SECONDS if left is None else left


def _person_topic(topic: str | None) -> str:
    return f"{PERSON}{topic or dbos_calls.next_step()}"

"""Callbacks: a run hands a token to a program outside, and waits until that program says what came of its work."""

import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, overload

from durable_workflows import topics
from durable_workflows.authoring.acts import Acts, Look, Receive, named, play, play_async, recorded
from durable_workflows.authoring.asking import Question
from durable_workflows.authoring.waiting import checker
from durable_workflows.database import callback_tokens
from durable_workflows.errors import (
    CallbackFailed,
    CallbackTimeout,
    HeartbeatTimeout,
    InvalidArguments,
    UsageError,
)
from durable_workflows.models import Schema
from durable_workflows.seam import callbacks, dbos_calls
from durable_workflows.seam.callbacks import Asked
from durable_workflows.settings import FOREVER_SECONDS

T = TypeVar("T")
_PATH = callback_tokens.PATH
_PROMPT = "A program answers this callback, by a POST to its URL. A message with a result, or with an error, answers it too."
_SHARED = ("$defs", "definitions")  # what references within a schema lead to


@dataclass(frozen=True)
class Callback(Generic[T]):
    """A callback of a run. Give `url` or `token` to the program that shall call back; it may do so once.

    Only its `id` is recorded, which is not secret. Do not record or print the token: its bearer can answer.
    """

    workflow_id: str
    topic: str
    step: int
    id: str
    server: str | None
    _answer: "_Answer[T]" = field(repr=False, compare=False)

    @property
    def token(self) -> str:
        """What allows its bearer to answer this callback, and nothing else."""
        return callbacks.offer.taken().token(self.id)

    @property
    def url(self) -> str:
        """Where to `POST` the answer. If no HTTP server of the project ran when the callback was made, it is only the path there."""
        return f"{self.server or ''}{_PATH}{self.token}"

    def wait(self) -> T:
        """Wait for the answer, and return its result. Call it in the body of the workflow.

        Raises:
            CallbackFailed: the answer is an error, or its result does not fit.
            CallbackTimeout: no answer came in time; `HeartbeatTimeout`, if no heartbeat came.
            UsageError: the caller is not in the body of the workflow that made it.
        """
        return play("Callback.wait", self._answer.acts())

    async def wait_async(self) -> T:
        """`wait` for async workflows."""
        return await play_async("Callback.wait_async", self._answer.acts())


@dataclass(frozen=True)
class _Answer(Generic[T]):
    """What is awaited: an answer to the callback of that step, with a result in the author's type."""

    workflow_id: str
    topic: str
    step: int
    schema: Schema | None
    fitting: Callable[[Any], T]

    def acts(self) -> Acts[T]:
        run = dbos_calls.current_run()
        if run is None or run[0] != self.workflow_id:
            raise UsageError(
                f"{self.topic!r} is a callback of another run.",
                hint="Wait for it in the body of the workflow that made it.",
            )
        look = Look("callback_answer", functools.partial(_settled, self.step))
        while (found := (yield look))["state"] == "open":
            yield Receive(self.topic, self._question(), found["until"])
        return self._taken(found)

    def _taken(self, found: dict[str, Any]) -> T:
        match found:
            case {"state": "answered", "result": result}:
                try:
                    return self.fitting(result)
                except ValueError as error:
                    raise CallbackFailed(f"The result for {self.topic!r} does not fit.") from error
            case {"state": "answered", "error": said}:
                raise CallbackFailed(said)
            case {"state": "heartbeat"}:
                raise HeartbeatTimeout(f"No heartbeat for {self.topic!r} came in time.")
            case _:
                raise CallbackTimeout(f"No answer for {self.topic!r} came in time.")

    def _question(self) -> Question:
        result = dict(self.schema or {})
        shared = {name: result.pop(name) for name in _SHARED if name in result}
        forms = [
            {
                "type": "object",
                "properties": {word: schema},
                "required": [word],
                "additionalProperties": False,
            }
            for word, schema in (("result", result), ("error", {"type": "string"}))
        ]
        return Question(_PROMPT, {"anyOf": forms, **shared})


@overload
def callback(
    topic: str,
    *,
    schema: type[T],
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Callback[T]: ...
@overload
def callback(
    topic: str,
    *,
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Callback[Any]: ...
def callback(
    topic: str,
    *,
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Callback[Any]:
    """Make a callback, which a program outside answers: with a result, or with an error.

    `topic` is its name; several callbacks may have one name. `schema` is that of a result, as for `receive`. `timeout` are the seconds from now after which
    `Callback.wait` gives up, `heartbeat` those after which it gives up if no heartbeat came. Both go on while nothing runs.

    Call it in the body of a workflow. A replay has the same token, and so has a fork that takes over this step; one that does it again has another token.

    Raises:
        InvalidArguments: a time is not above 0, or `schema` is not a JSON schema.
        UsageError: the caller is not in the body of a workflow.
    """
    return play("callback", _make(topic, schema, timeout, heartbeat))[0]


@overload
async def callback_async(
    topic: str,
    *,
    schema: type[T],
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Callback[T]: ...
@overload
async def callback_async(
    topic: str,
    *,
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Callback[Any]: ...
async def callback_async(
    topic: str,
    *,
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Callback[Any]:
    """`callback` for async workflows."""
    made = _make(topic, schema, timeout, heartbeat)
    return (await play_async("callback_async", made))[0]


@overload
def wait_for_callback(
    submit: Callable[[Callback[T]], object],
    *,
    topic: str = "callback",
    schema: type[T],
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> T: ...
@overload
def wait_for_callback(
    submit: Callable[[Callback[Any]], object],
    *,
    topic: str = "callback",
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Any: ...
def wait_for_callback(
    submit: Callable[[Callback[Any]], object],
    *,
    topic: str = "callback",
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Any:
    """Make a callback, pass it to `submit`, and return the result of the answer.

    `submit` is a step, or a function that is run as one. It runs at least once; `@step(effect="once")` makes that at most once. Otherwise as `callback` and
    `Callback.wait`.

    Raises:
        CallbackFailed, CallbackTimeout, InvalidArguments, UsageError
    """
    return play("wait_for_callback", _submit(submit, topic, schema, timeout, heartbeat))


@overload
async def wait_for_callback_async(
    submit: Callable[[Callback[T]], Awaitable[object] | object],
    *,
    topic: str = "callback",
    schema: type[T],
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> T: ...
@overload
async def wait_for_callback_async(
    submit: Callable[[Callback[Any]], Awaitable[object] | object],
    *,
    topic: str = "callback",
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Any: ...
async def wait_for_callback_async(
    submit: Callable[[Callback[Any]], Awaitable[object] | object],
    *,
    topic: str = "callback",
    schema: object = None,
    timeout: float | None = None,
    heartbeat: float | None = None,
) -> Any:
    """`wait_for_callback` for async workflows; `submit` may be async."""
    acts = _submit(submit, topic, schema, timeout, heartbeat)
    return await play_async("wait_for_callback_async", acts)


def _submit(
    submit: Callable[[Callback[Any]], object],
    topic: str,
    schema: object,
    timeout: float | None,
    heartbeat: float | None,
) -> Acts[Any]:
    made, answer = yield from _make(topic, schema, timeout, heartbeat)
    yield recorded(functools.partial(submit, made), named(submit, "submit"))
    return (yield from answer.acts())


def _make(
    topic: str, schema: object, timeout: float | None, heartbeat: float | None
) -> Acts[tuple[Callback[Any], _Answer[Any]]]:
    for name, seconds in (("timeout", timeout), ("heartbeat", heartbeat)):
        if seconds is not None and not seconds > 0:
            raise InvalidArguments(
                f"The {name} of a callback is not above 0 seconds.",
                hint=f"Give `{name}` as seconds above 0, or leave it out.",
            )
    json_schema, fitting = checker(schema)
    text = None if json_schema is None else json.dumps(json_schema)
    make = functools.partial(_made, topic, text, _bounded(timeout), _bounded(heartbeat))
    made = yield Look("callback", make)
    run = dbos_calls.current_run()
    assert run is not None
    answer = _Answer(run[0], made["topic"], made["step"], json_schema, fitting)
    found = Callback(run[0], made["topic"], made["step"], made["id"], made["server"], answer)
    return found, answer


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, FOREVER_SECONDS)


def _made(
    name: str, schema: str | None, timeout: float | None, heartbeat: float | None
) -> dict[str, object]:
    """Make a callback in this step; what is recorded of it."""
    workflow_id, step = _place()
    offered = callbacks.offer.taken()
    topic = topics.of_callback(step, name)
    made = offered.make(workflow_id, step, Asked(topic, schema, timeout, heartbeat))
    return {"id": made, "topic": topic, "step": step, "server": offered.server()}


def _settled(step: int) -> dict[str, object]:
    """How the callback of that step stands now; what is recorded of that."""
    workflow_id, _ = _place()
    settled = callbacks.offer.taken().settle(workflow_id, step)
    if settled.answer is not None:
        return {"state": "answered", **json.loads(settled.answer)}
    if settled.closed is not None:
        return {"state": settled.closed}
    return {"state": "open", "until": settled.until}


def _place() -> tuple[str, int]:
    place = dbos_calls.current_step()
    assert place is not None
    return place

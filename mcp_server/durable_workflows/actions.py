"""What a reader may do next. Each face words it: a server as a tool call, the command line as a command."""

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic import JsonValue


class Blank(str):
    """An argument that the reader has to fill in."""

    __slots__ = ()


REST = Blank("…")  # any value
NUMBER = Blank("N")

Words = Callable[[str, Mapping[str, JsonValue]], str]


def as_call(tool: str, arguments: Mapping[str, JsonValue]) -> str:
    """A tool's call as a model may repeat it."""
    given = ", ".join(f"{name}={_value(value)}" for name, value in arguments.items())
    return f"{tool}({given})"


def _value(value: JsonValue) -> str:
    return str(value) if isinstance(value, Blank) else json.dumps(value, ensure_ascii=False)


_words: ContextVar[Words] = ContextVar("words", default=as_call)


@contextmanager
def worded(words: Words) -> Generator[None]:
    """Word all actions made inside in this way."""
    token = _words.set(words)
    try:
        yield
    finally:
        _words.reset(token)


def call(tool: str, **arguments: JsonValue) -> str:
    """A tool call as an action, in the words of this face."""
    return _words.get()(tool, arguments)


def inspect(workflow_id: str, **arguments: str | int) -> str:
    """The action that shows more of a run."""
    return call("inspect", workflow_id=workflow_id, **arguments)

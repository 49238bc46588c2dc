"""The question of a wait, passed from `authoring.receive` to the code that publishes the waits of a worker."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from durable_workflows.models import Schema

_current: ContextVar["Question | None"] = ContextVar("question", default=None)


@dataclass(frozen=True)
class Question:
    """The question, the JSON schema of a valid answer, and whether only a person may give it."""

    prompt: str | None = None
    schema: Schema | None = None
    person_only: bool = False

    @contextmanager
    def shown(self) -> Generator[None]:
        """Waits that begin inside, in this thread or task, show this question."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


def current() -> Question:
    """The question of a wait that begins here; a plain `DBOS.recv` has none."""
    return _current.get() or Question()

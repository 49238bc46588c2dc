"""What a wait asks for: handed from `authoring.receive` to whoever publishes the waits of a worker."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from durable_workflows.models import Schema

_current: ContextVar["Question | None"] = ContextVar("question", default=None)


@dataclass(frozen=True)
class Question:
    """What is asked, the JSON schema of a right answer, and whether only a person may give it."""

    prompt: str | None = None
    schema: Schema | None = None
    person_only: bool = False

    @contextmanager
    def shown(self) -> Generator[None]:
        """Waits that begin inside, in this thread or task, ask for this."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


def current() -> Question:
    """What a wait that begins here asks for; a plain `DBOS.recv` asks for nothing in particular."""
    return _current.get() or Question()

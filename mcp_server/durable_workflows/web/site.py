"""The objects that the calls of the page use."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durable_workflows.models import OpenWait
from durable_workflows.settings import Settings
from durable_workflows.system import users

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

PAGE = "page"  # the way of answers given here, and the session of runs started here


def anybody(_wait: OpenWait) -> None:
    """Accept every answer: access to the page was checked before."""


@dataclass(frozen=True)
class Site:
    """A project: its settings, and its engine, which starts missing processes.

    `who` is the person at the page, `how` the way in which they answer, and `session` the session of the runs that they start. `allow` raises if they may not
    answer a wait.
    """

    settings: Settings
    engine: "Callable[[], Awaitable[Engine]]"
    who: str = field(default_factory=users.login)
    how: str = PAGE
    session: str = PAGE
    allow: Callable[[OpenWait], None] = anybody

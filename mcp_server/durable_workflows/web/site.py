"""What the calls of the page stand on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_workflows.settings import Settings

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

PAGE = "page"  # how a person answered here; and the session of the runs that were started here


@dataclass(frozen=True)
class Site:
    """A project: its settings, and its engine, behind which everything is started that does not run."""

    settings: Settings
    engine: "Callable[[], Awaitable[Engine]]"

"""The objects that the calls of the page use."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_workflows.settings import Settings

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

PAGE = "page"  # the way of answers given here, and the session of runs started here


@dataclass(frozen=True)
class Site:
    """A project: its settings, and its engine, which starts missing processes."""

    settings: Settings
    engine: "Callable[[], Awaitable[Engine]]"

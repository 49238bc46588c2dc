"""The definition of a command."""

from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """A command: its name, its purpose, and how it is typed; `more` adds to its help what is known only at run time.

    Its function gets the Settings first, then its own parameters.
    """

    name: str
    function: Callable[..., object]
    examples: tuple[str, ...]
    more: Callable[[], str] | None = None

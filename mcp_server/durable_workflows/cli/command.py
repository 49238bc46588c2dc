"""What a command is."""

from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """A command: its name, what it does, and how it is typed; `more` adds what is known at run time only to its help.

    Its function gets the Settings first, and then what its own parameters say.
    """

    name: str
    function: Callable[..., object]
    examples: tuple[str, ...]
    more: Callable[[], str] | None = None

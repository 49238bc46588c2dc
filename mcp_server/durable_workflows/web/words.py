"""Why a run is where it is and what to do next, in parts: each call in the text is a part of its own, which the page shows as a button."""

import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from durable_workflows import actions
from durable_workflows.models import Run
from durable_workflows.telling import causes
from durable_workflows.web.shapes import Part

Parts = list[Part]


def cause(run: Run) -> tuple[Parts, Parts]:
    """Why the run is where it is, and what to do next."""
    calls = _Calls()
    with actions.worded(calls):
        found = causes.cause(run, datetime.now(UTC))
    return calls.parts(found.text), calls.parts(found.next)


class _Calls:
    """Words calls as marks that no text of a run can contain, since each mark is new."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self._calls: list[Part] = []

    def __call__(self, tool: str, arguments: Mapping[str, JsonValue]) -> str:
        blanks = [name for name, value in arguments.items() if isinstance(value, actions.Blank)]
        args = {name: value for name, value in arguments.items() if name not in blanks}
        words = actions.as_call(tool, arguments)
        self._calls.append(Part(text=words, action=tool, args=args, blanks=blanks))
        return f"<{self._mark}:{len(self._calls) - 1}>"

    def parts(self, text: str) -> Parts:
        return list(self._parts(text))

    def _parts(self, text: str) -> Iterator[Part]:
        for place, part in enumerate(re.split(f"<{self._mark}:([0-9]+)>", text)):
            if place % 2:
                yield self._calls[int(part)]
            elif part:
                yield Part(text=part)

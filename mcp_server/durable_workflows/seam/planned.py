"""What a schedule without code has in its context, in dbos's table: its arguments, and what else dbos has no column for.

A schedule that workflow code made has a context of its author's, and none of this.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from pydantic import JsonValue

from durable_workflows import fitting

Missed = Literal["skip", "last", "all"]

_MARK = "durable_workflows_schedule"


@dataclass(frozen=True)
class Plan:
    """`since` is when the schedule was made, changed or resumed last: no earlier time was missed."""

    args: Mapping[str, JsonValue]
    missed: Missed
    since: datetime
    priority: int | None = None

    def context(self) -> str:
        """The context as it is recorded. The plan is a text in it, so that no serializer makes anything else of the arguments."""
        plan: dict[str, JsonValue] = {
            "args": dict(self.args),
            "missed": self.missed,
            "since": self.since.isoformat(),
            "priority": self.priority,
        }
        return fitting.recorded_json({_MARK: json.dumps(plan)})


def plan_in(context: object) -> Plan | None:
    """The plan in a context that dbos has read; None: workflow code made the schedule."""
    text = cast("dict[str, object]", context).get(_MARK) if isinstance(context, dict) else None
    if not isinstance(text, str):
        return None
    found = json.loads(text)
    since = datetime.fromisoformat(found["since"])
    return Plan(found["args"], found["missed"], since, found["priority"])


def plan_in_text(context: str) -> Plan | None:
    """As `plan_in`, of a recorded context."""
    return plan_in(json.loads(context)) if _MARK in context else None

"""A schedule, and what it starts."""

from datetime import datetime
from typing import Any

from dbos import DBOS


@DBOS.workflow()
def scheduled_greeting(at: datetime, context: Any) -> Any:
    """Greet at the time that was planned."""
    return f"{context['greeting']} at {at.isoformat()}"


@DBOS.step()
def write_greeting_schedule(cron: str) -> None:
    DBOS.apply_schedules(
        [
            {
                "schedule_name": "greetings",
                "workflow_fn": scheduled_greeting,
                "schedule": cron,
                "context": {"greeting": "Hello"},
            }
        ]
    )


@DBOS.workflow()
def schedule_greetings(cron: str) -> None:
    """Create the schedule `greetings`."""
    write_greeting_schedule(cron)

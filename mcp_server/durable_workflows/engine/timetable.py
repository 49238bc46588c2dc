"""Schedules as their rows tell: what each starts, when, and what keeps it from that."""

import importlib
from datetime import datetime
from types import ModuleType

from durable_workflows import limits, wording
from durable_workflows.database import tables
from durable_workflows.engine.rows import Rows
from durable_workflows.models import ScheduleInfo
from durable_workflows.schemas import arguments
from durable_workflows.seam import planned
from durable_workflows.seam.planned import Plan
from durable_workflows.settings import APPLICATION

NEXT = 3  # times that are shown of a schedule


async def rows_of(rows: Rows, name: str | None = None) -> list[tables.Row]:
    """The rows of `schedules`: of all, or of the one with that name."""
    return await rows.fetch("schedules", application=APPLICATION, name=name)


def shown(row: tables.Row) -> ScheduleInfo:
    """A row of `schedules`."""
    plan = plan_of(row)
    about = {name: row[name] for name in _AS_RECORDED}
    next_times = _next_times(row)
    if plan is not None:
        about |= {
            "from_code": False,
            "args": wording.short(wording.as_json(dict(plan.args)), limits.PREVIEW),
            "missed": plan.missed,
            "priority": plan.priority,
        }
    if row["status"] == "ACTIVE":
        about["next_times"] = next_times
    about["problem"] = _problem(row, plan, never=not next_times)
    return ScheduleInfo.model_validate(about)


def plan_of(row: tables.Row) -> Plan | None:
    """What a schedule without code starts; None for one that workflow code made."""
    return planned.plan_in_text(row["plan"]) if row["plan"] else None


_AS_RECORDED = (
    "name",
    "workflow",
    "cron",
    "timezone",
    "status",
    "last_fired_at",
    "last_workflow_id",
    "last_status",
    "queue",
)


def cron() -> ModuleType:
    """`seam.cron`, which is slow to import: an engine does so only for a schedule."""
    return importlib.import_module("durable_workflows.seam.cron")


def _next_times(row: tables.Row) -> list[datetime]:
    return cron().next_times(row["cron"], row["timezone"], NEXT)


def _problem(row: tables.Row, plan: Plan | None, *, never: bool) -> str | None:
    """Why a schedule starts nothing, or runs that fail at once."""
    workflow = row["workflow"]
    if row["loaded"] and row["source"] is None:
        return f"It starts nothing: there is no workflow {workflow!r} any more. Restore the workflow, or delete the schedule."
    if row["loaded"] and row["error"] is not None:
        return f"It starts nothing: {row['source']}, which has {workflow!r}, does not load. Repair the file."
    if never:
        return f"It starts nothing: no time fits {row['cron']!r} in the time zone {row['timezone']!r}. Delete the schedule, and make another one."
    if row["loaded"] and plan is not None:
        schema = row["args_schema"]
        wrong = arguments.first_problem(schema, dict(plan.args), schema)
        if wrong is not None:
            return f"Its arguments do not fit {workflow!r} any more: {wrong}. Make it again with other arguments and `replace`."
    return None

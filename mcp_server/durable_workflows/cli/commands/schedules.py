"""The command for schedules."""

from typing import Annotated

import typer
from pydantic import JsonValue

from durable_workflows.cli import printing
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import Args, AsJson, engine_of
from durable_workflows.models import Missed, ScheduleAction, ScheduleInfo, ScheduleResult
from durable_workflows.settings import Settings

Action = Annotated[
    ScheduleAction,
    typer.Argument(
        metavar="ACTION",
        help="create: start a workflow at given times. list: show the schedules. pause: start nothing until it is resumed. resume: go on at its next time. run: start now what it starts. delete: keep its runs.",
    ),
]


async def schedule(
    settings: Settings,
    action: Action = "list",
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The schedule. Not needed by list.")
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Argument(metavar="WORKFLOW", help="For create: the workflow to start."),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Argument(
            metavar="CRON",
            help="For create: when, as a quoted cron expression of five fields, or of six, the first for seconds.",
        ),
    ] = None,
    *,
    args: Args = None,
    timezone: Annotated[
        str | None, typer.Option(help="The IANA time zone of CRON. Default: UTC.")
    ] = None,
    missed: Annotated[
        Missed | None,
        typer.Option(
            help="Times more than a minute ago, when no worker ran: skip them, start the last one, or all of them (at most 1,000). Default: skip."
        ),
    ] = None,
    queue: Annotated[str | None, typer.Option(help="The queue of its runs.")] = None,
    priority: Annotated[
        int | None, typer.Option(help="The priority of its runs; 1 comes first.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change the schedule of that name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create, list, pause, resume, run or delete schedules.

    A schedule starts a run of a workflow at each of its times, on the newest version of the code. Workers notice a change within 30 seconds.
    """
    options: dict[str, JsonValue] = {
        "workflow": workflow,
        "cron": cron,
        "args": args,
        "timezone": timezone,
        "missed": missed,
        "queue": queue,
        "priority": priority,
        "replace": replace or None,
    }
    given = {option: value for option, value in options.items() if value is not None}
    async with engine_of(settings) as engine:
        with printing.progress("Asking for the schedules"):
            found = await engine.schedule(action, name, given)
    printing.print_model(found, as_json, _said(action, found))


def _said(action: ScheduleAction, found: ScheduleResult) -> str:
    if action == "list":
        return "\n\n".join(map(_described, found.schedules)) or "There are no schedules."
    [one] = found.schedules
    done = {
        "create": "was there already" if found.existing else "is made",
        "pause": "is paused",
        "resume": "is active",
        "run": f"has started {found.workflow_id}",
        "delete": "is deleted; its runs stay",
    }[action]
    said = f"{one.name} {done}."
    return f"{said}\n{_described(one)}" if action == "create" else said


def _described(one: ScheduleInfo) -> str:
    """A schedule in a few lines."""
    next_times = ", ".join(time.isoformat(sep=" ") for time in one.next_times)
    last = one.last_workflow_id and f"{one.last_workflow_id} {one.last_status}"
    facts = {
        "starts": one.workflow + (f" {one.args}" if one.args not in (None, "{}") else ""),
        "when": f"{one.cron} {one.timezone}",
        "next": next_times or one.status.lower(),
        "last": last or one.last_fired_at or "never",
        "missed": one.missed,
        "problem": one.problem,
    }
    lines = [f"  {name:8}{text}" for name, text in facts.items() if text]
    return "\n".join([one.name, *lines])


COMMANDS = (
    Command(
        "schedule",
        schedule,
        (
            'schedule create nightly report "0 3 * * *" --args \'{"days": 1}\' --timezone Europe/Berlin',
            "schedule list",
            "schedule pause nightly",
            "schedule run nightly",
        ),
    ),
)

"""Commands for schedules, which workflow code creates."""

from typing import Annotated, Literal

import typer

from durable_workflows.cli import printing
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson, engine_of
from durable_workflows.settings import Settings


async def change_schedule(
    settings: Settings,
    action: Annotated[
        Literal["pause", "resume", "run"],
        typer.Argument(
            metavar="ACTION",
            help="pause: start nothing until it is resumed. resume: go on at its next time. run: start now what it starts.",
        ),
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The schedule, as `status` lists it.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Pause, resume or run a schedule.

    Workers notice a pause or its end within 30 seconds. What is run now gets the present time and the schedule's context, also while the
    schedule is paused.
    """
    async with engine_of(settings) as engine:
        if action == "run":
            with printing.progress(f"Starting what {name} starts"):
                started = await engine.run_schedule(name)
            text = f"{name} has started {started.workflow_id}"
            printing.print_model(started, as_json, text)
            return
        change = engine.pause_schedule if action == "pause" else engine.resume_schedule
        found = await change(name)
    printing.print_model(found, as_json, f"{found.name} is {found.status.lower()}.")


COMMANDS = (
    Command(
        "schedule",
        change_schedule,
        ("schedule pause nightly", "schedule run nightly"),
    ),
)

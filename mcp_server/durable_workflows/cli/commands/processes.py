"""Commands for what runs behind a project: its server, its database, its workers."""

import importlib
import json
from pathlib import Path
from typing import Annotated, Literal

import anyio
import typer

from durable_workflows import wording
from durable_workflows.cli import printing, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson, engine_of, is_running
from durable_workflows.models import Catalog, ServerStatus
from durable_workflows.parts import Parts
from durable_workflows.processes import autostart, lifecycle, moving, problems
from durable_workflows.settings import ENGINES, Settings

_CATALOG_SECONDS = 5.0  # `status` shows what is there; it does not wait for a worker to load it


async def bootstrap(settings: Settings) -> None:
    """Start the project's processes.

    Starts its database and workers unless they are running, then shows what is ready. The first start on a machine installs PGlite from npm into the user's cache directory.
    """
    async with engine_of(settings) as engine:
        catalog = await engine.catalog()
        wrong = [*problems.of_processes(settings, running=True), *problems.of_code(catalog)]
        found = await engine.reader.status(wrong)
    printing.print_ready(found, catalog, engine.connection.url)


async def shutdown(settings: Settings) -> None:
    """End all processes of the project.

    Ends its workers, its database and its supervisor. What is recorded stays. Unfinished runs go on where they were as soon as anything starts the project again.
    """
    with printing.progress("Ending the project's processes"):
        were_there = await lifecycle.shut_down(settings)
    if were_there:
        terminal.out(f"All processes of {settings.project} have ended.")
    else:
        terminal.out(f"Nothing was running for {settings.project}.")


async def show_status(settings: Settings, *, as_json: AsJson = False) -> None:
    """Show what is running and any problems.

    This command starts nothing.
    """
    running = is_running(settings)
    parts = Parts()
    wrong = parts.problems
    found: ServerStatus | None = None
    catalog: Catalog | None = None
    with parts.part("processes"):
        wrong += problems.of_processes(settings, running=running)
    if running:
        with parts.part("engine"):
            async with engine_of(settings) as engine:
                with parts.part("catalog"):
                    with anyio.move_on_after(_CATALOG_SECONDS):
                        catalog = await engine.catalog()
                    wrong += problems.of_code(catalog)
                found = await engine.reader.status(wrong)
    if as_json:
        facts = found.model_dump(mode="json") if found else {"problems": wrong}
        facts = {"running": running, "project": str(settings.project)} | facts
        terminal.out(json.dumps(facts, indent=2))
    elif found is not None:
        printing.print_status(found, catalog)
    else:
        printing.print_stopped(settings, wrong, running=running)


async def set_autostart(
    settings: Settings,
    action: Annotated[
        Literal["on", "off", "status"],
        typer.Argument(metavar="ACTION", help="on, off or status, which changes nothing."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Start the processes at login or boot.

    Your own service manager does it: systemd on Linux, launchd on macOS. It gets the settings and the PATH that this command has. `on`
    also starts them now; `off` leaves alone what runs.
    """
    if action == "on":
        with printing.progress("Starting") as progress:
            await autostart.switch_on(settings, progress)
    elif action == "off":
        autostart.switch_off(settings)
    found = autostart.look(settings)
    if as_json:
        terminal.out(found.model_dump_json(indent=2))
    else:
        printing.print_autostart(found)


def worker(settings: Settings) -> None:
    """Lend this machine to a project on Postgres.

    Stays in the foreground and runs what is started elsewhere with the same DBOS_DATABASE_URL and --application; the code comes from the database. Ctrl-C or
    SIGTERM ends its workers.
    """
    lifecycle.lend_machine(settings)


async def move(
    settings: Settings,
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL|ENGINE",
            envvar="DBOS_DATABASE_URL",
            help="Where to move: postgresql://…; or postgres or pglite, in the project's folder. With DBOS_DATABASE_URL set, the latter two move from that Postgres.",
        ),
    ],
) -> None:
    """Move the project to another database.

    Moves all runs, messages and code. Unfinished runs go on there once DBOS_DATABASE_URL or DURABLE_WORKFLOWS_ENGINE names it. The old data
    stays as a backup. Ends the project's processes. After an interruption, run it again.
    """
    with printing.progress("Moving") as progress:
        moved = await moving.move(settings, to, progress)
    terminal.out(
        f"Moved to {moved.target}: {wording.counted(moved.runs, 'run')}, {moved.unfinished:,} of them unfinished."
    )
    named = (
        f"DURABLE_WORKFLOWS_ENGINE={to}" if to in ENGINES else "DBOS_DATABASE_URL to that Postgres"
    )
    unset = "unset DBOS_DATABASE_URL, and " if to in ENGINES and settings.database_url else ""
    printing.say(f"Next: {unset}set {named}; the project then goes on there.")


def demo(
    settings: Settings,
    directory: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="The directory that the demo reads; it is not changed. Default: the project directory.",
        ),
    ] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the demo's project folder, to look around in it.")
    ] = False,
) -> None:
    """Play an agent's session as a demo.

    In a temporary project, a real MCP client talks to a real server: it starts workflows, kills their worker, sends a
    message and forks a run. Takes well under a minute, except for the first start on a machine.
    """
    # It imports the MCP client, which takes a second.
    played = importlib.import_module("durable_workflows.cli.demo")
    if not anyio.run(played.play, settings, directory or settings.project, keep):
        raise typer.Exit(1)


COMMANDS = (
    Command("bootstrap", bootstrap, ("bootstrap", "bootstrap --project ~/work/shop")),
    Command("shutdown", shutdown, ("shutdown",)),
    Command("status", show_status, ("status", "status --json")),
    Command("autostart", set_autostart, ("autostart on", "autostart status --json")),
    Command("worker", worker, ("worker --application shop",)),
    Command("move", move, ("move --to postgresql://me:secret@db.example:5432/app",)),
    Command("demo", demo, ("demo", "demo . --keep")),
)

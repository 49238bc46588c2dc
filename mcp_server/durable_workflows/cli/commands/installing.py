"""`install`: this server in the configuration of an MCP client."""

import shlex
from typing import Annotated, Literal

import typer

from durable_workflows.cli import clients, printing, terminal
from durable_workflows.cli.clients import Plan
from durable_workflows.cli.command import Command
from durable_workflows.settings import Settings

ClientName = Literal["claude-code", "claude-desktop", "codex", "vscode", "cursor"]


def install(
    settings: Settings,
    client: Annotated[
        ClientName, typer.Argument(metavar="CLIENT", help="The client to configure.")
    ],
    *,
    name: Annotated[str, typer.Option(help="The server's name in the client.")] = clients.COMMAND,
    command: Annotated[
        str | None,
        typer.Option(
            help="How the client starts this program. Default: durable-workflows, with its full path if the configuration file is your own."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be written and where.")
    ] = False,
) -> None:
    """Add this server to an MCP client's configuration.

    CLIENT is claude-code, codex, vscode or cursor, each with a file in the project, or claude-desktop, with a file of the user. Existing
    entries stay as they are: an entry with the same name is not changed, and a file that cannot be read is not touched.
    """
    found = next(one for one in clients.CLIENTS if one.name == client)
    words = shlex.split(command) if command else None
    plan = clients.plan(found, settings, name, words)
    match plan.state:
        case "same":
            terminal.out(f"{plan.path} already has it.")
        case "missing":
            _add(plan, dry_run=dry_run)
        case "different":
            _show_for_pasting(plan, f"{plan.path} has a different server named {name!r}.")
        case "unreadable":
            _show_for_pasting(plan, f"{plan.path} cannot be read: {plan.reason}.")


def _add(plan: Plan, *, dry_run: bool) -> None:
    if dry_run:
        printing.say(f"This would be added to {plan.path}:")
        terminal.out(plan.fragment)
        return
    clients.write(plan)
    terminal.out(f"Added to {plan.path}")
    printing.say(plan.warning or plan.client.then)


def _show_for_pasting(plan: Plan, problem: str) -> None:
    terminal.out(plan.fragment)
    printing.fail(
        f"{problem} The file was not changed.",
        "Add what is on standard output by hand.",
    )


COMMANDS = (Command("install", install, ("install claude-code", "install vscode --dry-run")),)

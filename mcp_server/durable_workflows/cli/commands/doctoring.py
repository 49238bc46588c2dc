"""`doctor`: what is wrong on this machine and in this project, and the command that mends it."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from durable_workflows.cli import printing, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson
from durable_workflows.cli.doctor import configurations, places, rows, tools
from durable_workflows.cli.doctor.findings import Check, Finding, carried_out
from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings

_MACHINE: dict[str, Check] = {
    "versions": tools.versions,
    "node": tools.node,
    "npm": tools.npm,
    "cache": tools.cache,
    "uv": tools.uv,
    "python": tools.python,
    "disk": places.disk,
}
_STATE: dict[str, Check] = {
    "permissions": places.permissions,
    "files": places.small_files,
    "identity": places.identity,
    "locks": places.held_locks,
    "data": places.data_directory,
    "processes": places.of_processes,
}


def doctor(
    settings: Settings,
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without losing anything.")
    ] = False,
    start: Annotated[
        bool, typer.Option("--start", help="Start the project, to read all of its database.")
    ] = False,
    network: Annotated[
        bool, typer.Option("--network", help="Ask the npm registry, as npm is configured.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong here, and how to mend it.

    Each finding comes with the command that mends it. Exit status 1 if something is wrong. Changes and starts nothing without --fix or --start.
    """
    with printing.progress("Looking") as say:
        found = examined(settings, start=start, network=network, say=say)
        done = _fixed(found) if fix else []
        if done:
            found = examined(settings, start=start, network=network, say=say)
    is_wrong = any(one.level == "wrong" for one in found)
    if as_json:
        facts = {"project": str(settings.project), "healthy": not is_wrong, "fixed": done}
        findings = [one.as_json() for one in found]
        terminal.out(json.dumps({**facts, "findings": findings}, indent=2))
    else:
        _print(found, done, fix=fix)
    if is_wrong:
        raise typer.Exit(1)


def examined(
    settings: Settings,
    *,
    start: bool = False,
    network: bool = False,
    say: lifecycle.Progress = lifecycle.no_progress,
) -> list[Finding]:
    """The findings of all checks."""
    checks = dict(_MACHINE)
    if network:
        checks["registry"] = tools.registry
    checks["project"] = places.project
    if settings.state.is_dir():
        checks |= _STATE
    if settings.project.is_dir():
        checks["clients"] = configurations.configurations
        checks["database"] = rows.of_database(start=start, say=say, show=printing.show(say))
    found: dict[str, Finding] = {}  # what two checks have seen is told once
    for name, check in checks.items():
        for one in carried_out(name, check, settings):
            found.setdefault(one.said, one)
    return list(found.values())


def _fixed(found: Sequence[Finding]) -> list[str]:
    """Mend what can be mended; what was done, or why it was not."""
    done: list[str] = []
    for finding in found:
        if finding.fix is None:
            continue
        try:
            done.append(finding.fix())
        except DurableWorkflowsError as error:
            done.append(f"Not mended: {error.message}")
        except OSError as error:
            done.append(f"Not mended: {finding.said} {error.strerror or error}.")
    return done


def _print(found: Sequence[Finding], done: Sequence[str], *, fix: bool) -> None:
    for text in done:
        terminal.out(text)
    for finding in found:
        terminal.out(f"{finding.level:<5}  {finding.check}: {finding.said}")
        if finding.mend is not None:
            terminal.out(f"         {finding.mend}")
    if not fix and any(one.fix for one in found):
        printing.say("`durable-workflows doctor --fix` mends some of it, without losing anything.")


COMMANDS = (
    Command("doctor", doctor, ("doctor", "doctor --fix", "doctor --start --network --json")),
)

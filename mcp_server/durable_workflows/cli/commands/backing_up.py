"""Commands that back up the embedded database, and restore it."""

import sys
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer

from durable_workflows import fitting, wording
from durable_workflows.cli import printing, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson
from durable_workflows.models import Restored
from durable_workflows.processes import backing_up, restoring
from durable_workflows.settings import Settings


async def backup(
    settings: Settings,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="The file to write; it must not exist. Default: a new one in .dbos/backups/.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Back up the embedded database while runs go on.

    The file has all that was recorded before the command began. Only you can read it; secrets of the runs are in it. Nothing is started or ended.
    """
    with printing.progress("Backing up") as progress:
        done = await backing_up.back_up(settings, file.absolute() if file else None, progress)
    text = f"Backed up to {fitting.shown_line(done.file)} ({wording.megabytes(done.bytes)}). Runs waited for {done.paused_ms:,} ms."
    printing.print_model(done, as_json, text)


async def restore(
    settings: Settings,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A file that `backup` has written, or one in .dbos/backups/.",
        ),
    ] = None,
    *,
    newest: Annotated[
        bool, typer.Option("--newest", help="Take the newest in .dbos/backups/ that is whole.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of the embedded database.

    The backup is opened and read first. Then the project's processes are ended, and the present database is set aside: it is never deleted. What was recorded since the
    backup is only in the one that is set aside; steps that were done since are done again.
    """
    if (file is None) != newest:
        raise typer.BadParameter("Name a FILE, or give --newest.")
    if file is not None:
        if not await anyio.Path(file).is_file():
            raise typer.BadParameter(f"There is no file {file}.")
        choice = [await anyio.to_thread.run_sync(restoring.choose, settings, file.absolute())]
        wrong: list[str] = []
    else:
        choice, wrong = await anyio.to_thread.run_sync(restoring.newest, settings)
    for one in wrong:
        printing.say(fitting.shown_line(one))
    _agree(settings, choice[0], yes=yes)
    with printing.progress("Restoring") as progress:
        done = await restoring.restore(settings, choice, progress)
    printing.print_model(done, as_json, _restored_text(done))


def _agree(settings: Settings, chosen: restoring.Chosen, *, yes: bool) -> None:
    """Ask before the database of another project is taken, whose runs would go on in both."""
    if chosen.is_of(settings):
        return
    printing.say(
        f"This is a backup of another project, {fitting.shown_line(chosen.contents.project)}, or of a copy of this one: what had not ended goes on here, whether or not it goes on there."
    )
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("Nothing was restored. With --yes it does not ask.")
    if not terminal.confirm("Restore it?"):
        raise typer.Exit(1)


def _restored_text(done: Restored) -> str:
    lines = [f"Passed over: {fitting.shown_line(one)}" for one in done.skipped]
    lines.append(
        f"Restored {fitting.shown_line(done.file)} of {wording.time(done.at)}: {wording.counted(done.runs, 'run')}, {wording.counted(done.steps, 'step')}."
    )
    if done.lost_runs is None:
        lines.append(
            f"All that was recorded since is lost; how much cannot be told: {fitting.shown_line(done.unknown)}"
        )
    else:
        lines += _lost_lines(done)
    if done.set_aside:
        lines.append(f"The database from before is in {fitting.shown_line(done.set_aside)}.")
    return "\n".join(lines)


def _lost_lines(done: Restored) -> list[str]:
    lost, steps = done.lost_runs or 0, done.lost_steps or 0
    lines = [
        f"Recorded since, and now only in the database that was set aside: {wording.counted(lost, 'run')}, {wording.counted(steps, 'step')}."
    ]
    if done.some_lost:
        named = ", ".join(map(fitting.shown_line, done.some_lost))
        lines.append(f"These runs: {named}{', …' if lost > len(done.some_lost) else ''}")
    if done.reopened:
        lines.append(
            f"{wording.counted(done.reopened, 'run')} had ended since, and will go on again."
        )
    if done.returned:
        lines.append(f"{wording.counted(done.returned, 'run')} had been deleted since.")
    return lines


COMMANDS = (
    Command("backup", backup, ("backup", "backup ~/shop.tar.gz --json")),
    Command("restore", restore, ("restore --newest", "restore ~/shop.tar.gz --yes")),
)

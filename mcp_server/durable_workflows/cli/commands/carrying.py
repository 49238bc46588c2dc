"""Commands that take a run to another project."""

import sys
from pathlib import Path
from typing import Annotated

import anyio.to_thread
import typer

from durable_workflows import fitting, wording
from durable_workflows.cli import printing, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson, WorkflowId, engine_of
from durable_workflows.database import run_files
from durable_workflows.models import Exported, Imported
from durable_workflows.settings import Settings


async def export(
    settings: Settings,
    workflow_id: WorkflowId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")
    ],
    *,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel here what has not ended: it moves.")
    ] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Let what has not ended go on here as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run into a file.

    The file has the run, all that it started, and their code. A run that has not ended needs --cancel, which moves it, or --copy: a copy does its remaining steps in
    both projects. Only you can read the file; secrets of the run are in it.
    """
    if cancel and copy:
        raise typer.BadParameter("Choose --cancel or --copy.")
    unfinished = "cancel" if cancel else "copy" if copy else None
    async with engine_of(settings) as engine:
        with printing.progress("Exporting"):
            done = await engine.export(workflow_id, file.absolute(), unfinished)
    printing.print_model(done, as_json, _exported_text(done))


def _exported_text(done: Exported) -> str:
    runs = wording.counted(done.runs, "run")
    size = wording.megabytes(done.bytes)
    text = f"Exported {runs} to {fitting.shown_line(done.file)} ({size})."
    if not done.unfinished:
        return text
    number = wording.counted(done.unfinished, "run")
    became = "was cancelled here" if done.cancelled else "goes on here"
    return f"{text}\n{number} that had not ended {became}, and will go on where it is imported."


async def import_run(
    settings: Settings,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file that `export` has written."),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a run from a file.

    What had not ended goes on here, with the code that is in the file: import only files that you trust. All of a file is imported, or nothing.
    """
    found = await anyio.to_thread.run_sync(run_files.look, file.absolute())
    _agree(found, yes=yes)
    async with engine_of(settings) as engine:
        with printing.progress("Importing"):
            done = await engine.import_run(file.absolute())
    printing.print_model(done, as_json, _imported_text(done))


def _agree(found: run_files.Contents, *, yes: bool) -> None:
    """Ask the person, who sees what would run here."""
    header = found.header
    which = fitting.shown_line(f"{header.workflow_id} ({header.name})")
    runs, code = wording.counted(len(found.runs), "run"), wording.counted(len(found.code), "file")
    printing.say(
        f"{which}: {runs}, {len(found.unfinished):,} of them unfinished, with {code} of code, exported at {header.exported_at:%Y-%m-%d %H:%M} UTC."
    )
    printing.say("The code in the file will run as you.")
    if found.unfinished and not header.moved:
        printing.say(
            "It was not cancelled where it comes from: unless it was since, its remaining steps run in both projects."
        )
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("Nothing was imported. With --yes it does not ask.")
    if not terminal.confirm("Import it?"):
        raise typer.Exit(1)


def _imported_text(done: Imported) -> str:
    which = fitting.shown_line(done.workflow_id)
    if done.existing:
        return f"{which} is already here ({done.status}): nothing was imported. To take it from the file, delete it here first."
    unfinished = f", {done.unfinished:,} of them unfinished" if done.unfinished else ""
    return f"Imported {which}: {wording.counted(done.runs, 'run')}{unfinished}."


COMMANDS = (
    Command("export", export, ("export order-7 order-7.gz", "export order-7 order-7.gz --cancel")),
    Command("import", import_run, ("import order-7.gz", "import order-7.gz --yes --json")),
)

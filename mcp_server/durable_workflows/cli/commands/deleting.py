"""Commands that delete runs which have ended."""

from datetime import timedelta
from typing import Annotated

import typer

from durable_workflows import fitting, wording
from durable_workflows.cli import printing, shell_completion
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson, WorkflowIds, age, engine_of
from durable_workflows.models import Kept, Pruned, Status
from durable_workflows.settings import Settings

_WHY = {
    "unfinished": "a run of the tree has not ended",
    "busy": "a run of the tree was being changed",
    "parent": "the run that started it is kept",
    "recent": "a run of the tree ended, or got a message, later",
    "forked": "a run that was forked from one of the tree has not ended",
    "awaited": "a run waits for one of the tree",
    "named": "a run that is kept has one of the tree among its steps",
}


async def prune(
    settings: Settings,
    *,
    older_than: Annotated[
        timedelta,
        typer.Option(
            parser=age, metavar="AGE", help="How long ago they ended at least: 90m, 12h, 30d, 8w."
        ),
    ],
    status: Annotated[
        Status | None, typer.Option(help="Only runs that ended with this status.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Only runs of this workflow.", autocompletion=shell_completion.names),
    ] = None,
    keep_last: Annotated[
        int, typer.Option(min=0, help="Keep the newest runs of each workflow: how many.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete runs that ended long ago.

    A run is deleted with all that it started, or not at all; --status, --name and --keep-last apply to runs that no other run started. Runs that an unfinished run needs are
    kept. Versions of the code without runs are deleted, too. The embedded database gives the space back.
    """
    async with engine_of(settings) as engine:
        with printing.progress("Pruning"):
            pruned = await engine.prune(
                older_than, status=status, name=name, keep_last=keep_last, dry_run=dry_run
            )
    printing.print_model(pruned, as_json, _pruned_text(pruned))


def _pruned_text(pruned: Pruned) -> str:
    runs = wording.counted(pruned.runs, "run")
    trees = f" in {wording.counted(pruned.trees, 'tree')}" if pruned.trees != pruned.runs else ""
    freed = f" {wording.megabytes(pruned.freed_bytes)} are free." if pruned.freed_bytes else ""
    first = f"{'Would delete' if pruned.dry_run else 'Deleted'} {runs}{trees}.{freed}"
    return "\n".join([first, *map(_kept_line, pruned.kept)])


def _kept_line(kept: Kept) -> str:
    trees = wording.counted(kept.trees, "tree")
    which = fitting.shown_line(kept.workflow_id)
    about = (
        f", because of {fitting.shown_line(kept.about)}" if kept.about != kept.workflow_id else ""
    )
    return f"Kept {trees}: {_WHY[kept.reason]} (such as {which}{about})."


async def delete(
    settings: Settings,
    workflow_ids: WorkflowIds,
    *,
    children: Annotated[
        bool, typer.Option("--children", help="Include the runs that they started, and theirs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete runs that have ended, for good.

    A run that has not ended, or that something else needs, is kept; the command says why and fails.
    """
    async with engine_of(settings) as engine:
        changed = await engine.delete(workflow_ids, children=children)
    printing.print_model(changed, as_json, printing.changed_text(changed))
    if not all(one.changed for one in changed.workflows):
        raise typer.Exit(1)


COMMANDS = (
    Command(
        "prune",
        prune,
        (
            "prune --older-than 30d --dry-run",
            "prune --older-than 8w --status SUCCESS --keep-last 5",
        ),
    ),
    Command("delete", delete, ("delete deploy-7", "delete deploy-7 deploy-8 --children")),
)

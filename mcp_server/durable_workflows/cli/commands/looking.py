"""Commands that look at runs: what the tools do, in the same words."""

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer
from pydantic import BaseModel, JsonValue

from durable_workflows import limits
from durable_workflows.cli import printing, shell_completion, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson, WorkflowId, given_time, reader_of
from durable_workflows.engine import following
from durable_workflows.engine.inspecting import Pages
from durable_workflows.engine.reading import Reader
from durable_workflows.models import Detail, Status, Wanted
from durable_workflows.settings import Settings
from durable_workflows.telling import traces

_WHOLE = 10_000_000  # characters: a step's output as it is
_ALL_STEPS = 2**31 - 1
_RUNS = 20  # in a list

Cursor = Annotated[
    str | None, typer.Option(help="For the next page: the cursor that the previous page named.")
]
Lines = Annotated[
    int, typer.Option(min=1, max=100_000, help="How many of the newest log lines to show.")
]


# The filters of a list.
OfStatus = Annotated[
    Status | None,
    typer.Option(
        case_sensitive=False, metavar="STATUS", help="Only runs with this status, such as PENDING."
    ),
]
OfWorkflow = Annotated[
    str | None,
    typer.Option(help="Only runs of this workflow.", autocompletion=shell_completion.names),
]
ThatWait = Annotated[
    bool | None,
    typer.Option(
        "--waiting/--not-waiting",
        help="Only runs that wait for a message, or only others.",
        show_default=False,
    ),
]
Since = Annotated[
    datetime | None,
    typer.Option(
        parser=given_time,
        metavar="TIME",
        help="Only runs created since this ISO 8601 time (default UTC).",
    ),
]
Roots = Annotated[bool, typer.Option("--roots", help="Only runs that no other run started.")]
OfParent = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Only runs that this run started.",
        autocompletion=shell_completion.workflow_ids,
    ),
]
OfVersion = Annotated[str | None, typer.Option(help="Only runs of this version of the code.")]
OfSession = Annotated[
    str | None,
    typer.Option(metavar="SESSION", help="Only runs that this session of a client started."),
]
WithText = Annotated[
    str | None,
    typer.Option(
        help="Only runs with this text in their input, output or error. A page looks through 2,000 runs at most; the cursor goes on, and --all looks through all."
    ),
]
# The pages of a list.
OldestFirst = Annotated[bool, typer.Option("--oldest-first", help="List the oldest runs first.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, max=1000, help="How many runs to list. Default: 20.", show_default=False),
]
ListCursor = Annotated[
    str | None, typer.Option(help="The cursor that the previous list ended with.")
]
AllRuns = Annotated[
    bool,
    typer.Option("--all", help="List all of them, page by page; with --json one object per line."),
]


async def list_runs(
    settings: Settings,
    *,
    status: OfStatus = None,
    name: OfWorkflow = None,
    waiting: ThatWait = None,
    since: Since = None,
    roots: Roots = False,
    parent: OfParent = None,
    version: OfVersion = None,
    started_by: OfSession = None,
    text: WithText = None,
    oldest_first: OldestFirst = False,
    limit: Limit = None,
    cursor: ListCursor = None,
    all_runs: AllRuns = False,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    if all_runs and (limit is not None or cursor is not None):
        raise typer.BadParameter("--all lists every run: omit --limit and --cursor.")
    wanted = Wanted(
        status=status,
        name=name,
        waiting=waiting,
        since=since,
        roots=roots,
        parent=parent,
        version=version,
        started_by=started_by,
        text=text,
        oldest_first=oldest_first,
    )
    async with reader_of(settings) as reader:
        if all_runs:
            await printing.print_all_runs(reader.all_runs(**wanted), as_json)
            return
        runs = await reader.runs(limit=limit or _RUNS, cursor=cursor, **wanted)
    if as_json:
        terminal.out(runs.model_dump_json(indent=2))
    else:
        printing.print_runs(runs)


async def inspect_run(
    settings: Settings,
    workflow_id: WorkflowId,
    *,
    step: Annotated[
        int | None,
        typer.Option(
            min=0, help="Show only this step, with its whole output. 0: the output of the run."
        ),
    ] = None,
    detail: Annotated[
        Detail,
        typer.Option(
            help="full: the steps with more of their outputs. The others as --tree, --messages, --log and --source."
        ),
    ] = "summary",
    tree: Annotated[
        bool, typer.Option("--tree", help="Show only the runs that it started.")
    ] = False,
    messages: Annotated[
        bool, typer.Option("--messages", help="Show only the messages sent to it.")
    ] = False,
    source: Annotated[
        bool, typer.Option("--source", help="Show only the code that it runs.")
    ] = False,
    log: Annotated[
        bool, typer.Option("--log", help="Show only what it printed and logged, as `logs`.")
    ] = False,
    cursor: Cursor = None,
    lines: Lines = 200,
    budget: Annotated[int, typer.Option(min=500, help="The longest trace, in characters.")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Show the trace of a run.

    Shows its status, what it waits for or why it is stuck, and its steps with their durations and outputs.
    """
    detail = _chosen(detail, {"tree": tree, "messages": messages, "source": source, "log": log})
    async with reader_of(settings) as reader:
        if log:
            printing.print_log(await reader.log(workflow_id, limit=lines), as_json)
        elif as_json and detail in ("tree", "messages", "log", "source"):
            found = await _whole(reader, workflow_id, detail)
            terminal.out(json.dumps(found, indent=2, ensure_ascii=False))
        elif cursor is not None or detail != "summary":
            printing.print_trace(
                await Pages(reader).page(workflow_id, step=step, detail=detail, cursor=cursor)
            )
        elif step is not None:
            await _print_step(reader, workflow_id, step, as_json)
        else:
            run = await reader.run(workflow_id)
            if as_json:
                terminal.out(run.model_dump_json(indent=2))
            else:
                printing.print_trace(traces.markdown(run, budget=budget))


async def _print_step(reader: Reader, workflow_id: str, step: int, as_json: bool) -> None:
    if step == 0:
        run = await reader.run(workflow_id, preview=_WHOLE, after_step=_ALL_STEPS)
        printing.print_payload(run, as_json)
    else:
        one = await reader.step(workflow_id, step, offset=0, length=_WHOLE)
        printing.print_model(one, as_json, printing.step_text(one))


def _chosen(detail: Detail, flags: Mapping[Detail, bool]) -> Detail:
    """The one detail that is asked for."""
    given: list[Detail] = [one for one, is_given in flags.items() if is_given]
    if len(given) + (detail != "summary") > 1:
        raise typer.BadParameter("Give one of --detail, --tree, --messages, --source and --log.")
    return given[0] if given else detail


async def _whole(reader: Reader, workflow_id: str, detail: Detail) -> JsonValue:
    """All of a detail, for a program."""
    match detail:
        case "source":
            path, text = await reader.source(workflow_id)
            return {"path": path, "text": text}
        case "messages":
            return _dumped(await reader.messages(workflow_id, count=limits.MESSAGES))
        case "log":
            return _dumped(await reader.log(workflow_id, limit=limits.LOG_LINES))
        case _:
            return _dumped(await reader.tree(workflow_id))


def _dumped(models: Sequence[BaseModel]) -> list[JsonValue]:
    return [one.model_dump(mode="json") for one in models]


async def logs(
    settings: Settings,
    workflow_id: WorkflowId,
    *,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Go on with what it prints and logs, until it has ended."
        ),
    ] = False,
    lines: Lines = 200,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --follow one object per line.")
    ] = False,
) -> None:
    """Show what a run printed and logged.

    Runs that it started have logs of their own.
    """
    async with reader_of(settings) as reader:
        if not follow:
            printing.print_log(await reader.log(workflow_id, limit=lines), as_json)
            return
        async with aclosing(following.log(reader, workflow_id, lines=lines)) as news:
            async for some in news:
                if as_json:
                    terminal.lines(one.model_dump_json() for one in some)
                else:
                    printing.print_log(some, as_json=False)


async def compare(
    settings: Settings,
    workflow_id: WorkflowId,
    other: Annotated[
        str,
        typer.Argument(
            metavar="OTHER",
            help="The run to compare it with.",
            autocompletion=shell_completion.workflow_ids,
        ),
    ],
    *,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """Show two runs side by side.

    Shows where they differ first, and which input, outputs, errors and durations changed. Steps are aligned by name and occurrence. Of a fork
    it shows what it took over.
    """
    async with reader_of(settings) as reader:
        if as_json:
            found = await reader.compare(workflow_id, other)
            terminal.out(found.model_dump_json(indent=2))
        else:
            page = await Pages(reader).comparison(workflow_id, other, cursor=cursor)
            printing.print_trace(page)


COMMANDS = (
    Command(
        "list",
        list_runs,
        (
            "list --status PENDING",
            "list --waiting --json",
            "list --all --json --status ERROR",
        ),
    ),
    Command(
        "inspect",
        inspect_run,
        ("inspect deploy-7", "inspect deploy-7 --step 2", "inspect deploy-7 --tree"),
    ),
    Command("logs", logs, ("logs deploy-7", "logs deploy-7 -f")),
    Command("compare", compare, ("compare import-7 import-8",)),
)

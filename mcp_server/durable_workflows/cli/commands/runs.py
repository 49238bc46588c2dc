"""Commands for runs: what the tools do, in the same words."""

import math
from datetime import datetime
from typing import Annotated

import typer

from durable_workflows.cli import printing, shell_completion, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import (
    Args,
    AsJson,
    GivenJson,
    IdOption,
    OwnId,
    WorkflowId,
    WorkflowIds,
    engine_of,
    given_json,
    given_time,
    reader_of,
)
from durable_workflows.engine import following, inspecting
from durable_workflows.engine.following import Until
from durable_workflows.engine.inspecting import Detail
from durable_workflows.engine.reading import Reader
from durable_workflows.models import StartRequest, Status, WaitResult, Wanted
from durable_workflows.settings import Settings
from durable_workflows.telling import traces

_WHOLE = 10_000_000  # characters: a step's output as it is
_ALL_STEPS = 2**31 - 1
_RUNS = 20  # in a list

Children = Annotated[bool, typer.Option(help="Include the runs that they started, and theirs.")]
Delay = Annotated[float | None, typer.Option(help="Delay the start by this many seconds.")]
Timeout = Annotated[float | None, typer.Option(help="Cancel the run after this many seconds.")]


async def start(
    settings: Settings,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The workflow's registered name.",
            autocompletion=shell_completion.names,
        ),
    ],
    *,
    args: Args = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the run has ended, then print its output.")
    ] = False,
    workflow_id: OwnId = None,
    queue: Annotated[str | None, typer.Option(help="The registered queue to start in.")] = None,
    delay_seconds: Delay = None,
    timeout_seconds: Timeout = None,
    priority: Annotated[
        int | None, typer.Option(help="The priority in the queue; 1 goes first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a run of a workflow.

    It runs on the newest version of the code. With --wait, the exit status is 1 if the run does not succeed. The run goes on if this command is interrupted.
    """
    request = StartRequest(
        name=name,
        args=args or {},
        workflow_id=workflow_id,
        queue=queue,
        delay_seconds=delay_seconds,
        timeout_seconds=timeout_seconds,
        priority=priority,
    )
    async with engine_of(settings) as engine:
        with printing.progress(f"Starting {name}"):
            started = await engine.start(request)
        own = started.workflow_id
        if started.existing:
            printing.say(
                f"A run with the id {own} already exists with its original arguments; nothing new was started."
            )
        if not wait:
            done = "already exists as" if started.existing else "was started as"
            printing.print_model(started, as_json, f"{name} {done} {own}")
            return
        label = f"{own} is under way"
        result = await _waited(engine.reader, [own], label, "ended", math.inf)
    printing.print_ended(result.done[0], as_json)


async def _waited(
    reader: Reader, workflow_ids: list[str], label: str, until: Until, seconds: float
) -> WaitResult:
    """Wait as `following.wait`; the label stands before what the runs do meanwhile."""
    with printing.progress(label) as progress:
        return await following.wait(
            reader,
            workflow_ids,
            until=until,
            seconds=seconds,
            tell=printing.say,
            show=printing.show(progress),
        )


async def wait(
    settings: Settings,
    workflow_ids: WorkflowIds,
    *,
    until: Annotated[
        Until,
        typer.Option(
            help="all: each run has ended or waits for a message. any: at least one has or does. change: anything about them has changed. ended: all have ended; waits for messages do not count."
        ),
    ] = "all",
    timeout_seconds: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, help="The longest time to wait, in seconds. Default: no limit."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Wait for runs.

    The exit status is 0 if the condition of --until was met and no run failed or was cancelled; with --until all or ended, no
    run may wait for a message either. The runs go on if this command is interrupted.
    """
    async with reader_of(settings) as reader:
        label = f"Waiting for {', '.join(workflow_ids)}"
        seconds = math.inf if timeout_seconds is None else timeout_seconds
        result = await _waited(reader, workflow_ids, label, until, seconds)
    printing.print_model(result, as_json, printing.waited_text(result))
    _judge(result, until)


def _judge(result: WaitResult, until: Until) -> None:
    """Fail the command where a script must not go on."""
    failed = [one.workflow_id for one in result.done if one.status != "SUCCESS"]
    if failed:
        hint = f"Run `durable-workflows inspect {failed[0]}` to see what happened."
        printing.fail(f"Not successful: {', '.join(failed)}.", hint)
    if result.timed_out:
        printing.fail("The time is up.", "Wait again, or longer; the runs go on.")
    if result.waiting and until in ("all", "ended"):
        ids = ", ".join(one.workflow_id for one in result.waiting)
        first = result.waiting[0]
        command = following.answer_command(first.workflow_id, first.topic)
        printing.fail(
            f"Waiting for an answer: {ids}.", f"Answer with `{command}`, then wait again."
        )


async def list_runs(
    settings: Settings,
    *,
    status: Annotated[
        Status | None,
        typer.Option(
            case_sensitive=False,
            metavar="STATUS",
            help="Only runs with this status, such as PENDING.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Only runs of this workflow.", autocompletion=shell_completion.names),
    ] = None,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only runs that wait for a message.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=given_time,
            metavar="TIME",
            help="Only runs created since this ISO 8601 time (default UTC).",
        ),
    ] = None,
    roots: Annotated[
        bool, typer.Option("--roots", help="Only runs that no other run started.")
    ] = False,
    parent: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Only runs that this run started.",
            autocompletion=shell_completion.workflow_ids,
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Only runs of this version of the code.")
    ] = None,
    started_by: Annotated[
        str | None,
        typer.Option(metavar="SESSION", help="Only runs that this session of a client started."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="Only runs with this text in their input, output or error. A page looks through 2,000 runs at most; the cursor goes on, and --all looks through all."
        ),
    ] = None,
    oldest_first: Annotated[
        bool, typer.Option("--oldest-first", help="List the oldest runs first.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="How many runs to list. Default: 20.", show_default=False
        ),
    ] = None,
    cursor: Annotated[
        str | None, typer.Option(help="The cursor that the previous list ended with.")
    ] = None,
    all_runs: Annotated[
        bool,
        typer.Option(
            "--all",
            help="List all of them, page by page; with --json one object per line.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    if all_runs and (limit is not None or cursor is not None):
        raise typer.BadParameter("--all lists every run: omit --limit and --cursor.")
    wanted = Wanted(
        status=status,
        name=name,
        waiting=waiting or None,
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
            help="full: the steps with more of their outputs. tree: the runs that it started. messages: the messages sent to it. source: the code that it runs."
        ),
    ] = "summary",
    cursor: Annotated[
        str | None, typer.Option(help="For the next page: the cursor that the previous page named.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Show only what the run printed and logged.")
    ] = False,
    lines: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many of the newest log lines to show.")
    ] = 200,
    budget: Annotated[int, typer.Option(min=500, help="The longest trace, in characters.")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Show the trace of a run.

    Shows its status, what it waits for or why it is stuck, and its steps with their durations and outputs. With --log, shows what it printed and logged.
    """
    async with reader_of(settings) as reader:
        if log:
            printing.print_log(await reader.log(workflow_id, limit=lines), as_json)
            return
        if cursor is not None or detail != "summary":
            printing.print_trace(
                await inspecting.page(reader, workflow_id, step=step, detail=detail, cursor=cursor)
            )
            return
        if step:
            found = await reader.step(workflow_id, step, offset=0, length=_WHOLE)
            printing.print_model(found, as_json, printing.step_text(found))
            return
        if step == 0:
            run = await reader.run(workflow_id, preview=_WHOLE, after_step=_ALL_STEPS)
            printing.print_payload(run, as_json)
            return
        run = await reader.run(workflow_id)
    if as_json:
        terminal.out(run.model_dump_json(indent=2))
    else:
        printing.print_trace(traces.markdown(run, budget=budget))


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
    cursor: Annotated[
        str | None, typer.Option(help="For the next page: the cursor that the previous page named.")
    ] = None,
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
            page = await inspecting.comparison(reader, workflow_id, other, cursor=cursor)
            printing.print_trace(page)


async def send(
    settings: Settings,
    *,
    workflow_id: IdOption,
    topic: Annotated[
        str,
        typer.Option(
            help="The topic that the run waits on.", autocompletion=shell_completion.topics
        ),
    ] = "",
    message: Annotated[
        GivenJson, typer.Option(parser=given_json, metavar="JSON", help="The message.")
    ],
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="With a key, the message arrives once, however often it is sent."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a message to an unfinished run.

    A run that does not wait for it yet gets the message when it does.
    """
    async with engine_of(settings) as engine:
        sent = await engine.send(workflow_id, topic, message.value, idempotency_key)
    printing.print_model(sent, as_json, f"The message was sent to {workflow_id}.")
    if sent.note:
        printing.say(sent.note)


async def fork(
    settings: Settings,
    workflow_id: WorkflowId,
    from_step: Annotated[int, typer.Argument(metavar="STEP", help="The first step to run again.")],
    *,
    same_version: Annotated[
        bool,
        typer.Option(
            "--same-version", help="Run on the code of the original run, not on the newest."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a copy of a run from a step.

    The new run keeps the results of the finished steps before STEP. To repair a failed run, edit the workflow file, then
    fork the run from the step that failed.
    """
    async with engine_of(settings) as engine:
        forked = await engine.fork(workflow_id, from_step, same_version=same_version)
    text = f"{workflow_id} was forked from step {from_step} as {forked.workflow_id}"
    printing.print_model(forked, as_json, text)
    if forked.note:
        printing.say(forked.note)


async def cancel(
    settings: Settings,
    workflow_ids: WorkflowIds,
    *,
    children: Children = False,
    as_json: AsJson = False,
) -> None:
    """Cancel runs; each stops before its next step."""
    async with engine_of(settings) as engine:
        changed = await engine.cancel(workflow_ids, children=children)
    printing.print_model(changed, as_json, printing.changed_text(changed))


async def resume(
    settings: Settings,
    workflow_ids: WorkflowIds,
    *,
    children: Children = False,
    as_json: AsJson = False,
) -> None:
    """Resume cancelled or dead-lettered runs.

    They go on after their last finished step. Pass --children if they were cancelled with it.
    """
    async with engine_of(settings) as engine:
        changed = await engine.resume(workflow_ids, children=children)
    printing.print_model(changed, as_json, printing.changed_text(changed))


COMMANDS = (
    Command(
        "start",
        start,
        (
            'start approval --args \'{"request": "Deploy?"}\' --id deploy-7',
            'start run_commands --args \'{"commands": [{"name": "test", "run": "make"}]}\'',
        ),
    ),
    Command("wait", wait, ("wait deploy-7", "wait deploy-7 deploy-8 --until any --timeout 60")),
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
        ("inspect deploy-7", "inspect deploy-7 --step 2", "inspect deploy-7 --log"),
    ),
    Command("compare", compare, ("compare import-7 import-8",)),
    Command("send", send, ("send --id deploy-7 --topic approval --message '\"approve\"'",)),
    Command("fork", fork, ("fork deploy-7 2",)),
    Command("cancel", cancel, ("cancel deploy-7", "cancel deploy-7 deploy-8 --children")),
    Command("resume", resume, ("resume deploy-7",)),
)

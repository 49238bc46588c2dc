"""Commands that start, wait for and change runs: what the tools do, in the same words."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue, TypeAdapter, ValidationError

from durable_workflows import wording
from durable_workflows.cli import printing, shell_completion
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
    given_since,
    given_text,
    json_object,
    reader_of,
)
from durable_workflows.engine import following
from durable_workflows.engine.following import Until
from durable_workflows.engine.reading import Reader
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import (
    ForkChoice,
    ForkOptions,
    MoveFilter,
    Resolution,
    Started,
    StartRequest,
    WaitResult,
)
from durable_workflows.settings import Settings
from durable_workflows.system import users

if TYPE_CHECKING:
    from durable_workflows.engine.engine import Engine

_STARTS = TypeAdapter(list[StartRequest])

Children = Annotated[bool, typer.Option(help="Include the runs that they started, and theirs.")]
Delay = Annotated[float | None, typer.Option(help="Delay the start by this many seconds.")]
Repeat = Annotated[
    list[int] | None,
    typer.Option(
        metavar="STEP",
        help="A step that happens again although it must not happen twice. Repeatable.",
    ),
]
Timeout = Annotated[float | None, typer.Option(help="Cancel the run after this many seconds.")]


async def start(
    settings: Settings,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The workflow's registered name. Required unless --batch is given.",
            autocompletion=shell_completion.names,
        ),
    ] = None,
    *,
    args: Args = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Start several runs, all or none: a file with [{"name": …, "args": {…}}, …]; - is standard input.',
            allow_dash=True,
        ),
    ] = None,
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
    given = {
        "args": args,
        "workflow_id": workflow_id,
        "queue": queue,
        "delay_seconds": delay_seconds,
        "timeout_seconds": timeout_seconds,
        "priority": priority,
    }
    requests = _requests(name, batch, {key: one for key, one in given.items() if one is not None})
    async with engine_of(settings) as engine:
        with printing.progress(f"Starting {name or wording.counted(len(requests), 'run')}"):
            started = await engine.start_all(requests)
        printing.say_existing(started)
        if wait:
            await _ended(engine, started, as_json, single=batch is None)
        elif batch is None:
            done = "already exists as" if started[0].existing else "was started as"
            text = f"{name} {done} {started[0].workflow_id}"
            printing.print_model(started[0], as_json, text)
        else:
            printing.print_started(started, as_json)


def _requests(
    name: str | None, batch: Path | None, given: Mapping[str, object]
) -> list[StartRequest]:
    """What is to be started."""
    if batch is None:
        if name is None:
            raise typer.BadParameter("Missing argument 'NAME'.")
        return [StartRequest.model_validate({"name": name, **given})]
    if name is not None or given:
        raise typer.BadParameter("With --batch, all else stands in its file.")
    try:
        return _STARTS.validate_json(given_text(batch))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(
            f"{batch} is no list of starts: {where + ': ' if where else ''}{first['msg']}."
            ' Write it as [{"name": "report", "args": {"day": "Monday"}}].'
        ) from error


async def _ended(
    engine: "Engine", started: Sequence[Started], as_json: bool, *, single: bool
) -> None:
    """Wait for the end of what was started, and print what came of it."""
    ids = [one.workflow_id for one in started]
    label = f"{ids[0]} is under way" if single else f"{wording.counted(len(ids), 'run')} under way"
    result = await _waited(engine.reader, ids, label, "ended", math.inf)
    if single:
        printing.print_ended(result.done[0], as_json)
        return
    printing.print_model(result, as_json, printing.waited_text(result))
    _judge(result, "ended")


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
    """Wait for runs, and print their outputs.

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


async def resolve(
    settings: Settings,
    workflow_id: WorkflowId,
    step: Annotated[int, typer.Argument(metavar="STEP", help="The step in doubt.")],
    *,
    happened: Annotated[
        bool, typer.Option("--happened/--not-happened", help="Whether it has happened.")
    ],
    result: Annotated[
        GivenJson | None,
        typer.Option(
            parser=given_json,
            metavar="JSON",
            help="What the step would have returned, if it has happened.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a step in doubt has happened.

    Only a step that happens at most once can be in doubt: its process ended within it. If it has not happened, it runs again.
    If only a person may say so, use `durable-workflows approve` instead.
    """
    said = Resolution(happened=happened, result=result.value if result else None)
    async with engine_of(settings) as engine:
        done = await engine.resolve_step(workflow_id, step, said, who=users.login(), how="command")
    printing.print_model(done, as_json, f"Step {step} of {workflow_id} is no longer in doubt.")


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
    new_workflow_id: OwnId = None,
    args: Args = None,
    outputs: Annotated[
        dict[str, JsonValue] | None,
        typer.Option(
            parser=json_object,
            metavar="JSON",
            help='Other outputs of steps before STEP, by their numbers: {"2": …}.',
        ),
    ] = None,
    repeat: Repeat = None,
    cancel_original: Annotated[
        bool, typer.Option("--cancel-original", help="Also cancel the original.")
    ] = False,
    fork_children: Annotated[
        bool,
        typer.Option(
            "--fork-children", help="Also fork failed children whose results it takes later."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a copy of a run from a step.

    The new run keeps the results of the finished steps before STEP. To repair a failed run, edit the workflow file, then
    fork the run from the step that failed.
    """
    options = ForkOptions(
        workflow_id=new_workflow_id,
        args=args,
        outputs=_by_step(outputs or {}),
        repeat=tuple(repeat or ()),
        cancel_original=cancel_original,
        fork_children=fork_children,
    )
    async with engine_of(settings) as engine:
        forked = await engine.fork(
            workflow_id, from_step, same_version=same_version, options=options
        )
    text = f"{workflow_id} was forked from step {from_step} as {forked.workflow_id}"
    printing.print_model(forked, as_json, text)
    if forked.note:
        printing.say(forked.note)


def given_filter(text: str) -> MoveFilter:
    """Which runs are moved, given on the command line."""
    try:
        return MoveFilter.model_validate(json_object(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(
            f"{where}: {first['msg']}. It can have name, version, status (PENDING, ENQUEUED or DELAYED) and since."
        ) from error


async def fork_failed(
    settings: Settings,
    workflow_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="These runs. Default: all that failed, the newest first.",
            autocompletion=shell_completion.workflow_ids,
        ),
    ] = None,
    *,
    name: Annotated[
        str | None,
        typer.Option(help="Only runs of this workflow.", autocompletion=shell_completion.names),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=given_since,
            metavar="TIME",
            help="Only runs created since this ISO 8601 time, or in the last 90m, 12h, 30d, 8w.",
        ),
    ] = None,
    same_version: Annotated[
        bool,
        typer.Option(
            "--same-version", help="Run on the code of the original runs, not on the newest."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many runs at most.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fork failed runs from their failed steps.

    Runs that cannot be forked are named with the reason. The same command again forks none twice.
    """
    ids = tuple(workflow_ids) if workflow_ids else None
    choice = ForkChoice(workflow_ids=ids, name=name, since=since, limit=limit)
    async with engine_of(settings) as engine:
        forked = await engine.fork_failed(choice, same_version=same_version, dry_run=dry_run)
    printing.print_model(forked, as_json, printing.forked_text(forked))


async def rewind(
    settings: Settings,
    workflow_id: WorkflowId,
    to_step: Annotated[int, typer.Argument(metavar="STEP", help="The first step to run again.")],
    *,
    latest_version: Annotated[
        bool,
        typer.Option("--latest-version", help="Run on the newest code, not on that of the run."),
    ] = False,
    repeat: Repeat = None,
    as_json: AsJson = False,
) -> None:
    """Let the same run go again from a step.

    It has ended, or waits. Questions from STEP on are asked again. What the run had done is kept as another run. `fork` leaves
    the run as it is instead.
    """
    async with engine_of(settings) as engine:
        rewound = await engine.rewind(
            workflow_id, to_step, same_version=not latest_version, repeat=tuple(repeat or ())
        )
    text = f"{workflow_id} goes again from step {to_step}; what it had done is {rewound.kept_as}"
    printing.print_model(rewound, as_json, text)
    if rewound.note:
        printing.say(rewound.note)


def _by_step(outputs: Mapping[str, JsonValue]) -> dict[int, JsonValue]:
    """The outputs by the numbers of their steps, which are texts in JSON."""
    if wrong := [step for step in outputs if not step.isdecimal()]:
        raise InvalidArguments(
            f"{wrong[0]!r} in --outputs is not the number of a step.",
            hint='Write --outputs as {"2": …}, with the numbers that inspect shows.',
        )
    return {int(step): value for step, value in outputs.items()}


async def move_to_version(
    settings: Settings,
    workflow_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...]",
            help="The runs' workflow_ids. Required unless --filter is given.",
            autocompletion=shell_completion.workflow_ids,
        ),
    ] = None,
    *,
    filter: Annotated[
        MoveFilter | None,
        typer.Option(
            parser=given_filter,
            metavar="JSON",
            help="Unfinished runs of other versions: '{}' for all, or with name, version, status, since.",
        ),
    ] = None,
    version: Annotated[
        str,
        typer.Option(
            help="The version of the code that they shall have. latest: the code as it is now.",
            autocompletion=shell_completion.versions,
        ),
    ] = "latest",
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Move what is safe, or only look.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move unfinished runs to other code.

    Those that wait, sleep or are queued, with the runs that they started. First the recorded steps of each run are replayed
    on that code; nothing is executed. A run whose steps do not fit stays as it is.
    """
    async with engine_of(settings) as engine:
        with printing.progress("Replaying recorded steps"):
            moved = await engine.move_to_version(
                workflow_ids or None, filter, version=version, dry_run=not apply
            )
    printing.print_model(moved, as_json, printing.moved_text(moved))


async def cancel(
    settings: Settings,
    workflow_ids: WorkflowIds,
    *,
    children: Children = False,
    as_json: AsJson = False,
) -> None:
    """Cancel runs before their next step."""
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
            "start --batch runs.json --wait",
        ),
    ),
    Command("wait", wait, ("wait deploy-7", "wait deploy-7 deploy-8 --until any --timeout 60")),
    Command("send", send, ("send --id deploy-7 --topic approval --message '\"approve\"'",)),
    Command("resolve", resolve, ("resolve pay-7 4 --not-happened",)),
    Command("fork", fork, ("fork deploy-7 2",)),
    Command("fork-failed", fork_failed, ("fork-failed --name import --since 1d --dry-run",)),
    Command("rewind", rewind, ("rewind deploy-7 2",)),
    Command(
        "move-to-version",
        move_to_version,
        (
            "move-to-version deploy-7 deploy-8",
            'move-to-version --filter \'{"name": "approval"}\' --apply',
        ),
    ),
    Command("cancel", cancel, ("cancel deploy-7", "cancel deploy-7 deploy-8 --children")),
    Command("resume", resume, ("resume deploy-7",)),
)

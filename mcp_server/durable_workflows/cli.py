"""The command line. Each command is a call of the engine and a print: what an agent can do a person can, in the same words.

Exit status: 0; 1, it failed, with a sentence on standard error; 2, wrong usage. Results go to standard output, all else
to standard error. Help and errors are plain text: agents read them too. Logging is configured here and nowhere else.
"""

import functools
import importlib
import importlib.metadata
import inspect
import json
import logging
import shlex
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import anyio
import typer
from pydantic import JsonValue, ValidationError

from durable_workflows import lifecycle, printing, problems, state, traces
from durable_workflows.errors import DatabaseUnavailable, DurableWorkflowsError, InvalidProject
from durable_workflows.models import (
    Catalog,
    Ended,
    ServerStatus,
    StartRequest,
    Status,
)
from durable_workflows.project import Project
from durable_workflows.settings import Settings

if TYPE_CHECKING:
    from durable_workflows.engine import Engine

_WHOLE = 10_000_000  # characters: a step's output as it is
_CATALOG_SECONDS = 5.0  # `status` shows what is there; it does not wait for a worker to load it
_RECHECK_SECONDS = 1.0  # how often `start --wait` looks at a run that waits for a message


def _json(text: str) -> JsonValue:
    """A JSON value given on the command line."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(
            f'{text!r} is not JSON ({error}). An object is written as \'{{"name": "value"}}\', a text as \'"yes"\'.'
        ) from error


def _json_object(text: str) -> dict[str, JsonValue]:
    """As `_json`, but an object."""
    value = _json(text)
    if not isinstance(value, dict):
        raise typer.BadParameter(
            f'{text!r} is not a JSON object. Name each argument: \'{{"name": "value"}}\'.'
        )
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="The run's workflow_id.")]
WorkflowIds = Annotated[list[str], typer.Argument(metavar="ID...", help="The runs' workflow_ids.")]
Children = Annotated[bool, typer.Option(help="Also the runs that they started.")]


# The commands


def serve(settings: Settings) -> None:
    """Serve MCP on standard input and output.

    This is the command that an MCP client starts. Give --project, as the configurations in the README do: `ps` then shows whose server it is.
    """
    # The import takes a second, and no other command needs it.
    server = importlib.import_module("durable_workflows.server")
    anyio.run(server.serve, settings)


async def bootstrap(settings: Settings) -> None:
    """Start the project's processes.

    Its database and its workers, unless they run; then show what is ready. The first start on a machine installs PGlite from npm into the user's cache directory.
    """
    async with _engine(settings) as engine:
        catalog = await engine.catalog()
        wrong = [*problems.of_processes(settings, running=True), *problems.of_code(catalog)]
        found = await engine.status(wrong)
    printing.print_ready(found, catalog, engine.connection.url)


async def shutdown(settings: Settings) -> None:
    """End all processes of the project.

    That is its workers, its database and its supervisor. What is recorded stays. Unfinished runs go on where they were as soon as anything starts the project again.
    """
    with printing.progress("Ending the project's processes"):
        were_there = await lifecycle.shut_down(settings)
    if were_there:
        typer.echo(f"All processes of {settings.project} have ended.")
    else:
        typer.echo(f"Nothing was running for {settings.project}.")


async def show_status(settings: Settings, *, as_json: AsJson = False) -> None:
    """Show what runs, and what is wrong.

    Nothing is started by this command.
    """
    running = _is_running(settings)
    wrong = problems.of_processes(settings, running=running)
    found: ServerStatus | None = None
    catalog: Catalog | None = None
    if running:
        try:
            async with _engine(settings) as engine:
                with anyio.move_on_after(_CATALOG_SECONDS):
                    catalog = await engine.catalog()
                found = await engine.status([*wrong, *problems.of_code(catalog)])
        except DatabaseUnavailable as error:
            wrong.append(str(error))
    if as_json:
        facts = found.model_dump(mode="json") if found else {"problems": wrong}
        facts = {"running": running, "project": str(settings.project)} | facts
        typer.echo(json.dumps(facts, indent=2))
    elif found is not None:
        printing.print_status(found, catalog)
    else:
        printing.print_stopped(settings, wrong, running=running)


async def start(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow's registered name.")],
    *,
    args: Annotated[
        dict[str, Any] | None,
        typer.Option(parser=_json_object, metavar="JSON", help="Its arguments, by name."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has ended; print its output.")
    ] = False,
    workflow_id: Annotated[
        str | None, typer.Option("--id", help="An id of your own: with it, a run starts once.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="A registered queue.")] = None,
    delay_seconds: Annotated[float | None, typer.Option(help="Start so much later.")] = None,
    timeout_seconds: Annotated[float | None, typer.Option(help="Cancel it after that.")] = None,
    priority: Annotated[int | None, typer.Option(help="1 goes first.")] = None,
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
    async with _engine(settings) as engine:
        started = await engine.start(request)
        if not wait:
            printing.print_model(started, as_json, f"{name} was started as {started.workflow_id}")
            return
        ended = await _until_ended(engine, started.workflow_id)
    printing.print_ended(ended, as_json)


async def list_runs(
    settings: Settings,
    *,
    status: Annotated[
        Status | None,
        typer.Option(
            case_sensitive=False, metavar="STATUS", help="Only those of this status, like PENDING."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only those of this workflow.")] = None,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only those that wait for a message.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the list before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    async with _engine(settings) as engine:
        runs = await engine.runs(
            status=status, name=name, waiting=waiting or None, limit=limit, cursor=cursor
        )
    if as_json:
        typer.echo(runs.model_dump_json(indent=2))
    else:
        printing.print_runs(runs)


async def inspect_run(
    settings: Settings,
    workflow_id: WorkflowId,
    *,
    step: Annotated[
        int | None, typer.Option(min=1, help="Only this step, with its whole output.")
    ] = None,
    budget: Annotated[int, typer.Option(min=500, help="The length of the trace, at most.")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Show the trace of a run.

    Its status, what it waits for or why it is stuck, its steps with their durations and outputs.
    """
    async with _engine(settings) as engine:
        if step is not None:
            found = await engine.step(workflow_id, step, offset=0, length=_WHOLE)
            printing.print_model(found, as_json, printing.step_text(found))
            return
        run = await engine.run(workflow_id)
    if as_json:
        typer.echo(run.model_dump_json(indent=2))
    else:
        printing.print_trace(traces.markdown(run, budget=budget))


async def send(
    settings: Settings,
    *,
    workflow_id: Annotated[str, typer.Option("--id", metavar="ID", help="The run's workflow_id.")],
    topic: Annotated[str, typer.Option(help="What the run waits for.")] = "",
    message: Annotated[Any, typer.Option(parser=_json, metavar="JSON", help="The message.")],
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="With it, the message arrives once, however often it is sent."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a message to an unfinished run.

    A run that does not wait for it yet gets it when it does.
    """
    async with _engine(settings) as engine:
        sent = await engine.send(workflow_id, topic, message, idempotency_key)
    printing.print_model(sent, as_json, f"The message was sent to {workflow_id}.")


async def fork(
    settings: Settings,
    workflow_id: WorkflowId,
    from_step: Annotated[int, typer.Argument(metavar="STEP", help="The first step to run again.")],
    *,
    same_version: Annotated[
        bool, typer.Option("--same-version", help="On the code of the original, not the newest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a copy of a run from a step.

    The new run has the finished steps of the other one before STEP. This is how a bug is fixed: edit the workflow's
    file, then fork the run from the step that failed.
    """
    async with _engine(settings) as engine:
        forked = await engine.fork(workflow_id, from_step, same_version=same_version)
    text = f"{workflow_id} was forked from step {from_step} as {forked.workflow_id}"
    printing.print_model(forked, as_json, text)


async def cancel(
    settings: Settings,
    workflow_ids: WorkflowIds,
    *,
    children: Children = False,
    as_json: AsJson = False,
) -> None:
    """Cancel runs: each ends before its next step."""
    async with _engine(settings) as engine:
        changed = await engine.cancel(workflow_ids, children=children)
    printing.print_model(changed, as_json, printing.changed_text(changed))


async def resume(
    settings: Settings,
    workflow_ids: WorkflowIds,
    *,
    children: Children = False,
    as_json: AsJson = False,
) -> None:
    """Let cancelled runs go on.

    They go on after their last finished step.
    """
    async with _engine(settings) as engine:
        changed = await engine.resume(workflow_ids, children=children)
    printing.print_model(changed, as_json, printing.changed_text(changed))


def demo(
    settings: Settings,
    directory: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="What to look at; it is only read. Default: the project directory.",
        ),
    ] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the demo's project folder for a look around.")
    ] = False,
) -> None:
    """Play an agent's session, to see it work.

    In a temporary project, a real MCP client talks to a real server: it starts workflows, kills their worker, sends a
    message, forks a run. Takes well under a minute, but for the first start on a machine.
    """
    # It imports the MCP client, which takes a second.
    played = importlib.import_module("durable_workflows.demo")
    if not anyio.run(played.play, settings, directory or settings.project, keep):
        raise typer.Exit(1)


class Command(NamedTuple):
    """A command: its name, what it does, and how it is typed."""

    name: str
    function: Callable[..., Any]
    examples: tuple[str, ...]


COMMANDS = (
    Command("serve", serve, ("serve --project ~/work/shop",)),
    Command("bootstrap", bootstrap, ("bootstrap", "bootstrap --project ~/work/shop")),
    Command("shutdown", shutdown, ("shutdown",)),
    Command("status", show_status, ("status", "status --json")),
    Command(
        "start",
        start,
        (
            'start approval --args \'{"request": "Deploy?"}\' --id deploy-7',
            'start run_commands --args \'{"commands": [{"name": "test", "run": "make"}]}\'',
        ),
    ),
    Command("list", list_runs, ("list --status PENDING", "list --waiting --json")),
    Command("inspect", inspect_run, ("inspect deploy-7", "inspect deploy-7 --step 2")),
    Command("send", send, ("send --id deploy-7 --topic approval --message '\"approve\"'",)),
    Command("fork", fork, ("fork deploy-7 2",)),
    Command("cancel", cancel, ("cancel deploy-7", "cancel deploy-7 deploy-8 --children")),
    Command("resume", resume, ("resume deploy-7",)),
    Command("demo", demo, ("demo", "demo . --keep")),
)
_SHOW_SETTINGS = (serve, bootstrap)  # all commands take them; these two list them in their help


def build_app() -> typer.Typer:
    """The application with all commands."""
    app = typer.Typer(
        name="durable-workflows",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_main)
    for command in COMMANDS:
        lines = "\n".join(f"  durable-workflows {example}" for example in command.examples)
        app.command(command.name, epilog=f"\b\nExample:\n{lines}")(_with_settings(command.function))
    return app


def main() -> None:
    """The entry point."""
    build_app()(prog_name="durable-workflows")


def _print_version(given: bool) -> None:
    if given:
        typer.echo(importlib.metadata.version("durable-workflows"))
        raise typer.Exit


def _main(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Durable workflows for AI agents: runs that survive crashes, closed sessions and reboots.

    Each setting is a flag of every command; `durable-workflows bootstrap --help` lists them.
    """


def _with_settings(function: Callable[..., Any]) -> Callable[..., None]:
    """The command with a flag for each setting; it gets the Settings made of them as its first argument."""

    @functools.wraps(function)
    def command(**values: Any) -> None:
        given = {name: values.pop(name) for name in Settings.model_fields}
        settings = _settings({key: value for key, value in given.items() if value is not None})
        try:
            if inspect.iscoroutinefunction(function):
                anyio.run(functools.partial(function, settings, **values))
            else:
                function(settings, **values)
        except DurableWorkflowsError as error:
            printing.fail(error.message, error.hint)

    own = list(inspect.signature(function).parameters.values())[1:]
    flags = list(_flags(show_all=function in _SHOW_SETTINGS))
    signature = inspect.Signature([*own, *flags])
    vars(command)["__signature__"] = signature  # what typer makes the command's options of
    command.__annotations__ = {one.name: one.annotation for one in [*own, *flags]}
    return command


def _flags(*, show_all: bool) -> Iterator[inspect.Parameter]:
    for name, field in Settings.model_fields.items():
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            help=field.description,
            hidden=not (show_all or name == "project"),
            show_default=False,
        )
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[field.annotation | None, option],  # pyright: ignore
        )


def _settings(given: dict[str, Any]) -> Settings:
    """The settings of this process; from here on it logs as they say.

    Without a wish, a command tells a person warnings only.
    """
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).lower().removeprefix("durable_workflows_").replace("_", "-")
        raise typer.BadParameter(f"{first['msg']}.", param_hint=f"--{name}") from error
    level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return settings


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncGenerator["Engine"]:
    """The project's engine; what does not run is started, and said so."""
    with printing.progress("Connecting") as progress:
        project = Project(settings, progress)
        engine = await project.engine()
    try:
        yield engine
    finally:
        await project.aclose()


async def _until_ended(engine: "Engine", workflow_id: str) -> Ended:
    told: set[str] = set()
    with printing.progress(f"{workflow_id} is under way") as progress:

        async def report(text: str) -> None:
            if printing.errors_console.is_terminal:
                progress(text)

        while True:
            result = await engine.wait([workflow_id], progress=report)
            if result.done:
                return result.done[0]
            for one in result.waiting:
                if one.topic not in told:
                    told.add(one.topic)
                    printing.errors_console.print(
                        f"{workflow_id} waits for a message: durable-workflows send --id {workflow_id}"
                        f" --topic {shlex.quote(one.topic)} --message JSON"
                    )
            await anyio.sleep(_RECHECK_SECONDS)


def _is_running(settings: Settings) -> bool:
    """Whether a supervisor runs for the project.

    Raises:
        InvalidProject: the project directory is none.
        SetupError: its state directory cannot be read.
    """
    if not settings.project.is_dir():
        raise InvalidProject(f"{settings.project} is not a directory.")
    try:
        return Project(settings).is_running()
    except OSError as error:
        raise state.translate(error, settings.state) from error

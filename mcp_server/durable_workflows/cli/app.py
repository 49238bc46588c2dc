"""The command line: which commands there are, and how each gets its settings.

Exit status: 0; 1, it failed, with a sentence on standard error; 2, wrong usage. Results go to standard output, all else
to standard error. Help and errors are plain text: agents read them too. Logging is configured here and nowhere else.
"""

import functools
import importlib
import importlib.metadata
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, NamedTuple

import anyio
import typer
from pydantic import ValidationError

from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.settings import Settings


class Command(NamedTuple):
    """A command: its name, what it does, and how it is typed; `more` adds what is known at run time only to its help.

    What it does is named by its place in `commands`. It is imported when it is wanted: an MCP client waits for `serve`, which needs little
    of what the other commands import.
    """

    name: str
    function: str
    examples: tuple[str, ...]
    more: str | None = None


COMMANDS = (
    Command(
        "serve",
        "serving.serve",
        ("serve --project ~/work/shop", "serve --http 127.0.0.1:8765 --project ~/work/shop"),
    ),
    Command("bootstrap", "processes.bootstrap", ("bootstrap", "bootstrap --project ~/work/shop")),
    Command("shutdown", "processes.shutdown", ("shutdown",)),
    Command("status", "processes.show_status", ("status", "status --json")),
    Command(
        "dashboard", "watching.dashboard", ("dashboard", "dashboard --watch", "dashboard --json")
    ),
    Command(
        "new", "files.new", ("new basic_workflow my_flow", "new --list"), "files.template_names"
    ),
    Command(
        "run",
        "files.run",
        ("run workflows/my_flow.py", 'run workflows/my_flow.py --args \'{"name": "value"}\''),
    ),
    Command("check", "files.check", ("check workflows/my_flow.py", "check workflows/*.py --json")),
    Command("search", "files.search", ("search how to wait for a person",)),
    Command(
        "start",
        "runs.start",
        (
            'start approval --args \'{"request": "Deploy?"}\' --id deploy-7',
            'start run_commands --args \'{"commands": [{"name": "test", "run": "make"}]}\'',
        ),
    ),
    Command(
        "wait", "runs.wait", ("wait deploy-7", "wait deploy-7 deploy-8 --until any --timeout 60")
    ),
    Command("list", "runs.list_runs", ("list --status PENDING", "list --waiting --json")),
    Command(
        "inspect",
        "runs.inspect_run",
        ("inspect deploy-7", "inspect deploy-7 --step 2", "inspect deploy-7 --log"),
    ),
    Command("send", "runs.send", ("send --id deploy-7 --topic approval --message '\"approve\"'",)),
    Command("approve", "people.approve", ("approve deploy-7", "approve deploy-7 --topic approval")),
    Command("fork", "runs.fork", ("fork deploy-7 2",)),
    Command("cancel", "runs.cancel", ("cancel deploy-7", "cancel deploy-7 deploy-8 --children")),
    Command("resume", "runs.resume", ("resume deploy-7",)),
    Command("worker", "processes.worker", ("worker --application shop",)),
    Command("move", "processes.move", ("move --to postgresql://me:secret@db.example:5432/app",)),
    Command("install", "installing.install", ("install claude-code", "install vscode --dry-run")),
    Command("demo", "processes.demo", ("demo", "demo . --keep")),
)
_SHOW_SETTINGS = ("serve", "bootstrap")  # all commands take them; these two list them in their help


def build_app(commands: Iterable[Command] = COMMANDS) -> typer.Typer:
    """The application with these commands."""
    app = typer.Typer(
        name="durable-workflows",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_main)
    for command in commands:
        app.command(command.name, epilog=_epilog(command))(_with_settings(command))
    return app


def main() -> None:
    """The entry point."""
    named = [command for command in COMMANDS if command.name in sys.argv[1:2]]
    build_app(named or COMMANDS)(prog_name="durable-workflows")


def _load(place: str) -> Callable[..., object]:
    module, name = place.split(".")
    return getattr(importlib.import_module(f"durable_workflows.cli.commands.{module}"), name)


def _epilog(command: Command) -> str:
    examples = "\n".join(f"  durable-workflows {example}" for example in command.examples)
    more = _load(command.more)() if command.more else ""
    return f"\b\nExample:\n{examples}" + (f"\n\n{more}" if more else "")


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

    Each setting is an option of every command; `durable-workflows bootstrap --help` lists them.
    """


def _with_settings(command: Command) -> Callable[..., None]:
    """The command with a flag for each setting; it gets the Settings made of them as its first argument."""
    function = _load(command.function)

    @functools.wraps(function)
    def typed(**values: object) -> None:
        given = {name: values.pop(name) for name in Settings.model_fields}
        settings = _settings({key: value for key, value in given.items() if value is not None})
        _carry_out(function, settings, values)

    own = list(inspect.signature(function).parameters.values())[1:]
    flags = list(_flags(show_all=command.name in _SHOW_SETTINGS))
    signature = inspect.Signature([*own, *flags])
    vars(typed)["__signature__"] = signature  # what typer makes the command's options of
    typed.__annotations__ = {one.name: one.annotation for one in [*own, *flags]}
    return typed


def _carry_out(
    function: Callable[..., object], settings: Settings, values: dict[str, object]
) -> None:
    try:
        if inspect.iscoroutinefunction(function):
            anyio.run(functools.partial(function, settings, **values))
        else:
            function(settings, **values)
    except DurableWorkflowsError as error:
        importlib.import_module("durable_workflows.cli.printing").fail(error.message, error.hint)
    except KeyboardInterrupt as error:
        raise typer.Exit(1) from error


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

"""The command line: its commands, and how each gets its settings.

Exit status: 0; 1 for a failure, with a sentence on standard error; 2 for wrong usage. Results go to standard output, all other output
to standard error. Help and errors are plain text: agents read them too. Logging is configured here and nowhere else.
"""

import functools
import importlib
import importlib.metadata
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import anyio
import typer
from pydantic import ValidationError
from typer.core import TyperCommand

from durable_workflows import actions
from durable_workflows.cli import command_words
from durable_workflows.cli.command import Command
from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.settings import Settings

# A command imports the modules up to its own. `serve` is first: an MCP client waits for it, and it needs little of the other commands'
# imports.
_MODULES = (
    "serving",
    "runs",
    "looking",
    "deleting",
    "people",
    "schedules",
    "files",
    "processes",
    "watching",
    "telling",
    "installing",
    "carrying",
    "doctoring",
    "backing_up",
)
_FOR_MODELS = ("serve",)  # its texts are for clients, which call tools


def commands() -> Iterator[Command]:
    """All commands."""
    for module in _MODULES:
        yield from importlib.import_module(f"durable_workflows.cli.commands.{module}").COMMANDS


def build_app(some: Iterable[Command]) -> typer.Typer:
    """The application with these commands."""
    app = typer.Typer(
        name="durable-workflows",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    for command in some:
        make = app.command(command.name, cls=_Command, epilog=_epilog(command))
        make(_with_settings(command))
    return app


class _Command(TyperCommand):
    """A command whose help separates its own options from the settings, which all commands take."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options and the settings, each with their heading."""
        found: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Settings": []}
        for one in self.get_params(ctx):
            if (record := one.get_help_record(ctx)) is not None:
                kind = "Arguments" if one.param_type_name == "argument" else "Options"
                found["Settings" if one.name in Settings.model_fields else kind].append(record)
        for title, records in found.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def main() -> None:
    """The entry point."""
    named = next((command for command in commands() if command.name in sys.argv[1:2]), None)
    build_app([named] if named else commands())(prog_name="durable-workflows")


def _epilog(command: Command) -> str:
    examples = "\n".join(f"  durable-workflows {example}" for example in command.examples)
    more = command.more() if command.more else ""
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

    Each setting is an option of every command, and an environment variable: see the help of any command.
    """


def _with_settings(command: Command) -> Callable[..., None]:
    """The command with a flag for each setting; its first argument is the Settings made from them."""
    function = command.function

    @functools.wraps(function)
    def typed(**values: object) -> None:
        given = {name: values.pop(name) for name in Settings.model_fields}
        settings = _settings({key: value for key, value in given.items() if value is not None})
        words = actions.as_call if command.name in _FOR_MODELS else command_words.as_command
        with actions.worded(words):
            _carry_out(function, settings, values)

    own = list(inspect.signature(function).parameters.values())[1:]
    flags = list(_flags())
    signature = inspect.Signature([*own, *flags])
    vars(typed)["__signature__"] = signature  # typer makes the command's options from it
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


def _flags() -> Iterator[inspect.Parameter]:
    for name, field in Settings.model_fields.items():
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            help=field.description,
            show_default=False,
        )
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[field.annotation | None, option],  # pyright: ignore
        )


def _settings(given: dict[str, Any]) -> Settings:
    """The settings of this process, which from here on logs accordingly.

    By default a command shows a person only warnings.
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

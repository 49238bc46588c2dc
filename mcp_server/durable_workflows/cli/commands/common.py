"""What commands share: how their arguments are typed, and the project's engine."""

import json
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from durable_workflows import fitting
from durable_workflows.cli import printing, shell_completion
from durable_workflows.engine.project import Project
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import InvalidProject
from durable_workflows.processes import lifecycle
from durable_workflows.settings import MAX_PAYLOAD_LEVELS, Settings
from durable_workflows.system import files

if TYPE_CHECKING:
    from durable_workflows.engine.engine import Engine

_AGE = re.compile(r"(\d{1,6}(?:\.\d+)?)([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def json_value(text: str) -> JsonValue:
    """A JSON value given on the command line."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise typer.BadParameter(
            f'{text!r} is not JSON ({error}). Write an object as \'{{"name": "value"}}\', a string as \'"yes"\'.'
        ) from error
    if fitting.is_deep(value, MAX_PAYLOAD_LEVELS):
        raise _too_deep()
    return value


def _too_deep() -> typer.BadParameter:
    return typer.BadParameter(
        f"The JSON is nested more than {MAX_PAYLOAD_LEVELS} levels deep. Pass a flatter value, or its JSON as a string."
    )


@dataclass(frozen=True)
class GivenJson:
    """A value given as JSON; also `null`, which a bare None would hide."""

    value: JsonValue


def given_json(text: str) -> GivenJson:
    """As `json_value`, where `null` is a value like any other."""
    return GivenJson(json_value(text))


def given_text(file: Path) -> str:
    """The text of a file given on the command line; - is standard input."""
    try:
        if os.fspath(file) == "-":
            return sys.stdin.read()
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise typer.BadParameter(f"{file} cannot be read: {reason}.") from error


def given_time(text: str) -> datetime:
    """A time given on the command line."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not an ISO 8601 time. Write it as 2026-11-28, or 2026-11-28T20:29:54Z."
        ) from error


def age(text: str) -> timedelta:
    """An age given on the command line: `30d`."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is not an age. Write a number and m, h, d or w: 90m, 12h, 30d, 8w."
        )
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def given_since(text: str) -> datetime:
    """A time given on the command line, as such or as an age."""
    return datetime.now(UTC) - age(text) if _AGE.fullmatch(text) else given_time(text)


def json_object(text: str) -> dict[str, JsonValue]:
    """As `json_value`, but an object."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise typer.BadParameter(
            f'{text!r} is not a JSON object. Name each argument: \'{{"name": "value"}}\'.'
        )
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkflowId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The run's workflow_id.", autocompletion=shell_completion.workflow_ids
    ),
]
WorkflowIds = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help="The runs' workflow_ids.",
        autocompletion=shell_completion.workflow_ids,
    ),
]
IdOption = Annotated[
    str,
    typer.Option(
        "--id",
        metavar="ID",
        help="The run's workflow_id.",
        autocompletion=shell_completion.workflow_ids,
    ),
]
OwnId = Annotated[
    str | None, typer.Option("--id", help="Your own id; repeating it never starts a second run.")
]
Args = Annotated[
    dict[str, JsonValue] | None,
    typer.Option(
        parser=json_object, metavar="JSON", help="The arguments by name, as a JSON object."
    ),
]


@asynccontextmanager
async def engine_of(settings: Settings) -> AsyncGenerator["Engine"]:
    """The project's engine; what does not run is started, and said so."""
    with printing.progress("Connecting") as progress:
        project = Project(settings, progress)
        engine = await project.engine()
    try:
        yield engine
    finally:
        await project.aclose()


@asynccontextmanager
async def reader_of(settings: Settings) -> AsyncGenerator[Reader]:
    """As `engine_of`, for commands that only look: without dbos, whose import takes longer than looking."""
    with printing.progress("Connecting") as progress:
        connection = await lifecycle.ensure_running(settings, progress)
    async with aclosing(Reader(Rows(settings, connection))) as reader:
        yield reader


def is_running(settings: Settings) -> bool:
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
        raise files.translate(error, settings.state) from error

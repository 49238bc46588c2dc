"""The tables of `references/` that come from the code: tools, commands, settings, and the index. `make docs` writes them, and a test compares.

A table of arguments is the first table in the section of its tool or command. The lists of all of them are the first tables in the sections
that `_LISTS` names.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import typer.main

from documents import blocks
from durable_workflows.cli import app
from durable_workflows.docs import documents
from durable_workflows.mcp.strict_tools import ToolSpec, strict_tool
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.settings import Settings

_TABLE = re.compile(r"^(?:\|.*\n)+", re.MULTILINE)
_DEFAULT = re.compile(r"(.*?) Default: (.*)\.", re.DOTALL)
Rows = Iterable[tuple[str, ...]]


def tools() -> Rows:
    """Each tool with the first sentence of its description."""
    for spec in TOOLS:
        name = spec.function.__name__
        yield f"[`{name}`](#{name})", _first_sentence(inspect.getdoc(spec.function) or "")


def arguments(spec: ToolSpec) -> Rows:
    """Each argument of a tool, its default, and what it means."""
    schema = strict_tool(spec).parameters
    for name, field in schema["properties"].items():
        text, default = _split(field["description"])
        if name in schema.get("required", ()):
            default = "required"
        elif "default" in field:
            default = _literal(field["default"])
        yield f"`{name}`", default, text


def commands(*, of_runs: bool) -> Rows:
    """Each command for runs, or each other one, with the first sentence of its help."""
    named = all_commands()
    for one in app.commands():
        if (one.function.__module__.rpartition(".")[2] in _OF_RUNS) == of_runs:
            help_text = named[one.name].help
            yield f"[`{one.name}`](#{one.name})", _first_sentence(help_text)


def options(command: Any) -> Rows:
    """Each argument and option of a command that is not a setting, and its meaning."""
    for one in own_parameters(command):
        yield ", ".join(f"`{word}`" for word in words(one)), one.help or ""


def pages() -> Rows:
    """Each reference with the first sentence of its summary."""
    for one in documents.references():
        yield f"[{one.title}]({one.path.name})", _first_sentence(one.summary)


def own_parameters(command: Any) -> list[Any]:
    """The arguments and options of a command that are no settings."""
    return [one for one in command.params if one.name not in Settings.model_fields]


def words(parameter: Any) -> list[str]:
    """How an option or argument is written."""
    if parameter.param_type_name == "argument":
        return [parameter.metavar or parameter.name]
    return [*parameter.opts, *parameter.secondary_opts]


def settings(*, of_project: bool) -> Rows:
    """Each setting of the project and its places, or each other one: its variable, its flag, its default, and what it means."""
    for name, field in Settings.model_fields.items():
        if (name in _OF_PROJECT) != of_project:
            continue
        text, default = _split(field.description or "")
        flag = f"`--{name.replace('_', '-')}`"
        yield f"`{variable(name)}`", flag, default or _literal(field.default), text


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return "DBOS_DATABASE_URL" if name == "database_url" else f"DURABLE_WORKFLOWS_{name.upper()}"


def written(document: str, text: str) -> str:
    """A reference as it is with its tables made of the code."""
    for title, head, rows in _tables(document):
        if found := list(rows):
            text = _replaced(document, text, title, [head, *found])
    return text


# The modules of the commands for runs. Two lists, because a section is short: search gives whole ones.
_OF_RUNS = ("runs", "looking", "deleting", "people", "schedules", "carrying")
_OF_PROJECT = (
    "project",
    "database_url",
    "engine",
    "application",
    "python",
    "workflows",
    "port",
    "cache",
)
_LISTS = {
    "README.md": "All references",
    "tools.md": "All tools",
    "cli.md": "Commands for runs",
    "settings.md": "Settings of the project",
}
DOCUMENTS = tuple(_LISTS)


def all_commands() -> dict[str, Any]:
    """The commands by name, as typer has them."""
    return dict(typer.main.get_group(app.build_app(app.commands())).commands)


def _tables(document: str) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    """The title of each section that has a table, the head of the table, and its rows."""
    title = _LISTS[document]
    if document == "README.md":
        yield title, ("page", "what it answers"), pages()
    elif document == "tools.md":
        yield title, ("tool", "what it does"), tools()
        for spec in TOOLS:
            yield spec.function.__name__, ("argument", "default", "meaning"), arguments(spec)
    elif document == "cli.md":
        head = ("command", "what it does")
        yield title, head, commands(of_runs=True)
        yield "Commands for the project", head, commands(of_runs=False)
        for name, command in all_commands().items():
            yield name, ("option", "meaning"), options(command)
    else:
        head = ("variable", "flag", "default", "meaning")
        yield title, head, settings(of_project=True)
        yield "Settings of processes", head, settings(of_project=False)


def _replaced(document: str, text: str, title: str, rows: Iterable[Iterable[str]]) -> str:
    """The text with its section's first table made of these rows."""
    start = text.index(f"\n## {title}\n")
    end = text.find("\n## ", start + 1)
    section = text[start : None if end < 0 else end]
    head, *lines = [f"| {' | '.join(map(_cell, row))} |\n" for row in rows]
    rule = "|".join(["", *["---"] * (head.count("|") - 1), ""])
    table = "".join([head, f"{rule}\n", *lines])
    changed, count = _TABLE.subn(lambda _: table, section, count=1)
    assert count, f"{document}: the section {title!r} has no table; put the line `| |` into it"
    return text[:start] + changed + text[start + len(section) :]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _split(text: str) -> tuple[str, str]:
    """A description, and what it says of the default."""
    found = _DEFAULT.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def _literal(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph)[0]


if __name__ == "__main__":
    for _document in DOCUMENTS:
        _path = blocks.FOLDER / _document
        _path.write_text(written(_document, _path.read_text(encoding="utf-8")), encoding="utf-8")

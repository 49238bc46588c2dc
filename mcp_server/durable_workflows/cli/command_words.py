"""Actions as a person types them: the commands that do what the tools do."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from durable_workflows.actions import REST, Blank

_PROGRAM = "durable-workflows"


@dataclass(frozen=True)
class Form:
    """How a command takes the arguments of a tool: some as words, the others as options."""

    command: str
    words: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict[str, str])


FORMS = {
    "workflow_catalog": Form("status"),
    "server_status": Form("status"),
    "list_workflows": Form(
        "list",
        (),
        {"status": "--status", "name": "--name", "waiting": "--waiting", "parent": "--parent"},
    ),
    "start_workflow": Form("start", ("name",), {"args": "--args"}),
    "wait_for_workflows": Form(
        "wait", ("workflow_ids",), {"until": "--until", "timeout_seconds": "--timeout"}
    ),
    "inspect": Form(
        "inspect",
        ("workflow_id",),
        {"step": "--step", "detail": "--detail", "cursor": "--cursor"},
    ),
    "compare": Form("compare", ("workflow_id", "other"), {"cursor": "--cursor"}),
    "send_message": Form(
        "send", (), {"workflow_id": "--id", "topic": "--topic", "message": "--message"}
    ),
    "answer_in_person": Form("approve", ("workflow_id",), {"topic": "--topic"}),
    "fork": Form("fork", ("workflow_id", "from_step"), {"version": "--same-version"}),
    "cancel": Form("cancel", ("workflow_ids",), {"children": "--children"}),
    "resume": Form("resume", ("workflow_ids",), {"children": "--children"}),
    "delete_workflows": Form("delete", ("workflow_ids",), {"children": "--children"}),
    "write_workflow": Form("new", ("template", "name")),
    "search_docs": Form("search", ("query",)),
}
_JSON = ("args", "message")  # arguments that are JSON in a command, too
_FLAGS = {
    "children": True,
    "waiting": True,
    "version": "same",
}  # what an option without a value stands for
_RUNS = {"workflow_id": " ID", "workflow_ids": " ID..."}
_TOOL = re.compile(
    rf"\bCall ({'|'.join(FORMS)})\b|\b({'|'.join(name for name in FORMS if '_' in name)})\b"
)


def as_command(tool: str, arguments: Mapping[str, JsonValue]) -> str:
    """The command that does what a call does."""
    form = FORMS[tool]
    words = [word for name in form.words if name in arguments for word in _words(arguments[name])]
    options = [
        word
        for name, option in form.options.items()
        if name in arguments
        for word in _option(name, option, arguments[name])
    ]
    if any(word.startswith("-") for word in words):
        options.append("--")
    return f"`{' '.join([_PROGRAM, form.command, *options, *words])}`"


def in_terminal(hint: str) -> str:
    """The hint of an error, in which each tool that it names is a command."""
    parts = enumerate(hint.split("`"))  # each second one is code, and stays as it is
    return "`".join(part if place % 2 else _TOOL.sub(_named, part) for place, part in parts)


def _named(found: re.Match[str]) -> str:
    form = FORMS[found[1] or found[2]]
    run = _RUNS.get(form.words[0], "") if form.words else ""
    return f"{'Run ' if found[1] else ''}`{_PROGRAM} {form.command}{run}`"


def _words(value: JsonValue) -> list[str]:
    return [_quoted(one) for one in value] if isinstance(value, list) else [_quoted(value)]


def _option(name: str, option: str, value: JsonValue) -> list[str]:
    if name in _FLAGS:
        return [option] if value == _FLAGS[name] else []
    if name in _JSON:
        return [option, _json(value)]
    return [option, _quoted(value)]


def _json(value: JsonValue) -> str:
    return "JSON" if value is REST else _quoted(json.dumps(value, ensure_ascii=False))


def _quoted(value: JsonValue) -> str:
    """A word for a shell; one with characters that a terminal does not show is written with their escapes."""
    text = str(value)
    if isinstance(value, Blank):
        return text
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.encode("unicode_escape").decode().replace("'", r"\'")
    return f"$'{escaped}'"

"""Actions in a person's words: the commands that correspond to the tools."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from durable_workflows.actions import REST, Blank

_PROGRAM = "durable-workflows"


@dataclass(frozen=True)
class Flag:
    """An option without a value, for this value of an argument. `off` is the option for the other value."""

    option: str
    value: JsonValue = True
    off: str | None = None


@dataclass(frozen=True)
class Form:
    """How a command takes the arguments of a tool: some as words, the rest as options."""

    command: str
    words: tuple[str, ...] = ()
    options: Mapping[str, str | Flag] = field(default_factory=dict[str, str | Flag])


_CHILDREN = Flag("--children")
FORMS = {
    "workflow_catalog": Form("catalog", ("query",)),
    "server_status": Form("status"),
    "list_workflows": Form(
        "list",
        (),
        {
            "status": "--status",
            "name": "--name",
            "waiting": Flag("--waiting", off="--not-waiting"),
            "since": "--since",
            "roots": Flag("--roots"),
            "parent": "--parent",
            "version": "--version",
            "started_by": "--started-by",
            "text": "--text",
            "oldest_first": Flag("--oldest-first"),
            "limit": "--limit",
            "cursor": "--cursor",
        },
    ),
    "start_workflow": Form(
        "start",
        ("name",),
        {
            "args": "--args",
            "batch": "--batch",
            "workflow_id": "--id",
            "queue": "--queue",
            "delay_seconds": "--delay-seconds",
            "timeout_seconds": "--timeout-seconds",
            "priority": "--priority",
        },
    ),
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
        "send",
        (),
        {
            "workflow_id": "--id",
            "topic": "--topic",
            "message": "--message",
            "idempotency_key": "--idempotency-key",
        },
    ),
    "answer_in_person": Form("approve", ("workflow_id",), {"topic": "--topic"}),
    "resolve_step": Form(
        "resolve",
        ("workflow_id", "step"),
        {"happened": Flag("--happened", off="--not-happened"), "result": "--result"},
    ),
    "fork": Form(
        "fork",
        ("workflow_id", "from_step"),
        {
            "version": Flag("--same-version", "same"),
            "new_workflow_id": "--id",
            "args": "--args",
            "outputs": "--outputs",
            "repeat": "--repeat",
            "cancel_original": Flag("--cancel-original"),
            "fork_children": Flag("--fork-children"),
        },
    ),
    "schedule": Form(
        "schedule",
        ("action", "name", "workflow", "cron"),
        {
            "args": "--args",
            "timezone": "--timezone",
            "missed": "--missed",
            "queue": "--queue",
            "priority": "--priority",
            "replace": Flag("--replace"),
        },
    ),
    "move_to_version": Form(
        "move-to-version",
        ("workflow_ids",),
        {
            "filter": "--filter",
            "version": "--version",
            "dry_run": Flag("--apply", False, off="--dry-run"),
        },
    ),
    "fork_failed": Form(
        "fork-failed",
        ("workflow_ids",),
        {
            "name": "--name",
            "since": "--since",
            "version": Flag("--same-version", "same"),
            "limit": "--limit",
            "dry_run": Flag("--dry-run"),
        },
    ),
    "rewind": Form(
        "rewind",
        ("workflow_id", "to_step"),
        {"version": Flag("--latest-version", "latest"), "repeat": "--repeat"},
    ),
    "cancel": Form("cancel", ("workflow_ids",), {"children": _CHILDREN}),
    "resume": Form("resume", ("workflow_ids",), {"children": _CHILDREN}),
    "delete_workflows": Form("delete", ("workflow_ids",), {"children": _CHILDREN}),
    "write_workflow": Form(
        "write", ("name", "source"), {"template": "--template", "overwrite": Flag("--overwrite")}
    ),
    "search_docs": Form("docs", ("query",)),
}
# Arguments of tools that a command takes in a different way.
OTHERWISE = {
    ("start_workflow", "wait_seconds"): "--wait, which waits until the end",
}
_JSON = (
    "args",
    "filter",
    "message",
    "outputs",
    "result",
)  # arguments that are JSON in a command too
_FILES = ("batch", "source")  # a file contains them
_RUNS = {"workflow_id": " ID", "workflow_ids": " ID..."}
_TOOL = re.compile(
    rf"\bCall ({'|'.join(FORMS)})\b|\b({'|'.join(name for name in FORMS if '_' in name)})\b"
)


def as_command(tool: str, arguments: Mapping[str, JsonValue]) -> str:
    """The command that does the same as a call."""
    form = FORMS[tool]
    words = [word for name in form.words if name in arguments for word in _words(name, arguments)]
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
    """The hint of an error, with a command in place of each tool that it names."""
    parts = enumerate(hint.split("`"))  # every second part is code, and stays as it is
    return "`".join(part if place % 2 else _TOOL.sub(_named, part) for place, part in parts)


def _named(found: re.Match[str]) -> str:
    form = FORMS[found[1] or found[2]]
    run = _RUNS.get(form.words[0], "") if form.words else ""
    return f"{'Run ' if found[1] else ''}`{_PROGRAM} {form.command}{run}`"


def _words(name: str, arguments: Mapping[str, JsonValue]) -> list[str]:
    value = "FILE" if name in _FILES else arguments[name]
    return [_quoted(one) for one in value] if isinstance(value, list) else [_quoted(value)]


def _option(name: str, option: str | Flag, value: JsonValue) -> list[str]:
    if isinstance(option, Flag):
        if isinstance(value, Blank):
            return [f"{option.option}|{option.off}"]
        which = option.option if value == option.value else option.off
        return [which] if which else []
    if name in _FILES:
        return [option, "FILE"]
    if name in _JSON:
        return [option, _json(value)]
    if isinstance(value, list):
        return [word for one in value for word in (option, _quoted(one))]
    return [option, _quoted(value)]


def _json(value: JsonValue) -> str:
    return "JSON" if value is REST else _quoted(json.dumps(value, ensure_ascii=False))


def _quoted(value: JsonValue) -> str:
    """A word for a shell. If a terminal does not show some of its characters, they are escaped."""
    text = str(value)
    if isinstance(value, Blank):
        return text
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.encode("unicode_escape").decode().replace("'", r"\'")
    return f"$'{escaped}'"

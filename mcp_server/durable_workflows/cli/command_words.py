"""Hints as a person types them: the tools that our texts name, as commands.

A hint is written once, as the call of a tool (`wording.call`); the command line words it here. Only texts of ours come here, or those lines
of a page that are ours: what a run recorded stays as it is.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_PROGRAM = "durable-workflows"
_OMITTED = "…"  # an argument that is not known yet


class _Unknown(str):
    """What a person has to fill in: it is shown without quotes."""

    __slots__ = ()


@dataclass(frozen=True)
class Form:
    """How a command takes the arguments of a tool: some as words, the others as options; `filled` are words that stand for an argument that is not known."""

    command: str
    words: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    filled: str = ""


FORMS = {
    "workflow_catalog": Form("status"),
    "server_status": Form("status"),
    "list_workflows": Form(
        "list", (), {"status": "--status", "name": "--name", "waiting": "--waiting"}
    ),
    "start_workflow": Form("start", ("name",), {"args": "--args"}, "--args JSON"),
    "wait_for_workflows": Form(
        "wait", ("workflow_ids",), {"until": "--until", "timeout_seconds": "--timeout"}
    ),
    "inspect": Form(
        "inspect",
        ("workflow_id",),
        {"step": "--step", "detail": "--detail", "cursor": "--cursor"},
    ),
    "send_message": Form(
        "send", (), {"workflow_id": "--id", "topic": "--topic", "message": "--message"}
    ),
    "answer_in_person": Form("approve", ("workflow_id",), {"topic": "--topic"}),
    "fork": Form("fork", ("workflow_id", "from_step"), {"version": "--same-version"}),
    "cancel": Form("cancel", ("workflow_ids",), {"children": "--children"}),
    "resume": Form("resume", ("workflow_ids",), {"children": "--children"}),
    "write_workflow": Form("new", ("template", "name")),
    "search_docs": Form("search", ("query",)),
}
_JSON = ("args", "message")  # arguments that are JSON in a command, too
_FLAGS = {
    "children": True,
    "overwrite": True,
    "waiting": True,
    "version": "same",
}  # what an option without a value stands for
_NAMES = "|".join(FORMS)
_CALL = re.compile(rf"\b({_NAMES})\(")
_ARGUMENT = re.compile(r"(?:, )?([a-z_]+)=")
_MENTION = re.compile(
    rf"\bCall ({_NAMES})\b(?: with detail=([a-z]+))?|\b({'|'.join(name for name in FORMS if '_' in name)})\b"
)
_CALLED = re.compile(rf"\bCall (?=`{_PROGRAM} )")  # what a call has become
_TWICE = re.compile(r"(`[^`]+`)(?: \(or \1\)|, or run \1,)")
# The lines of a page that are ours from their beginning, and those that are only at their end.
_OURS = re.compile(
    r"\*\*Next:\*\* |Next: |Next part: |All: |What it asks: |The whole error: |Child run: |Steps \(|… left out |# Log of "
)
_ENDING = re.compile(r"(?:Input|Output): |\(|\d+\. topic ")
_REST = re.compile(r"\([\d,]+ (?:characters|bytes): (inspect\([^()]*\))\)$")
_FENCE = re.compile(r"`{3,}")


def in_terminal(text: str) -> str:
    """A text of ours in which each tool is a command: calls with their arguments, and tools that are only named."""
    with_calls = _CALLED.sub("Run ", "".join(_pieces(text)))
    return _TWICE.sub(r"\1", _MENTION.sub(_mentioned, with_calls))


def page(markdown: str) -> str:
    """A trace, or another page about a run, in whose own lines each call is a command."""
    return "\n".join(_lines(markdown.split("\n")))


def at_end(text: str) -> str:
    """A text with data in it, whose last words may be a call."""
    head, colon, last = text.rpartition(": ")
    return f"{head}{colon}{''.join(_pieces(last))}" if colon and _CALL.match(last) else text


def command(tool: str, arguments: Mapping[str, object]) -> str:
    """The command that does what a call does."""
    form = FORMS[tool]
    words = [word for name in form.words if name in arguments for word in _words(arguments[name])]
    options = [
        word
        for name, option in form.options.items()
        if name in arguments
        for word in _option(name, option, arguments[name])
    ]
    if _OMITTED in arguments and form.filled:
        options.append(form.filled)
    if any(word.startswith("-") for word in words):
        options.append("--")
    return " ".join([_PROGRAM, form.command, *options, *words])


def _words(value: Any) -> list[str]:
    return [_quoted(one) for one in value] if isinstance(value, list) else [_quoted(value)]  # pyright: ignore[reportUnknownVariableType]


def _option(name: str, option: str, value: Any) -> list[str]:
    if name in _FLAGS:
        return [option] if value in (True, _FLAGS[name]) else []
    as_json = name in _JSON and not isinstance(value, _Unknown)
    return [option, _quoted(json.dumps(value, ensure_ascii=False) if as_json else value)]


def _quoted(value: Any) -> str:
    """A word for a shell; one with characters that a terminal does not show is written with their escapes."""
    text = str(value)
    if isinstance(value, _Unknown):
        return text
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.encode("unicode_escape").decode().replace("'", r"\'")
    return f"$'{escaped}'"


def _mentioned(found: re.Match[str]) -> str:
    form = FORMS[found[1] or found[3]]
    ids = {"workflow_id": " ID", "workflow_ids": " ID..."}
    run = ids.get(form.words[0], "") if form.words else ""
    detail = f" --detail {found[2]}" if found[2] else ""
    return f"{'Run ' if found[1] else ''}`{_PROGRAM} {form.command}{run}{detail}`"


# Reading calls


def _pieces(text: str) -> Iterator[str]:
    """The text with commands in place of calls. Text inside an argument is not a call."""
    place = 0
    while (found := _CALL.search(text, place)) is not None:
        arguments, end = _arguments(text, found.end())
        yield text[place : found.start()]
        if arguments is None:
            yield found[0]
        else:
            yield f"`{command(found[1], arguments)}`"
        place = end
    yield text[place:]


def _arguments(text: str, place: int) -> tuple[dict[str, object] | None, int]:
    """The arguments of a call that begin at a place, and where it ends; none if it is no call as `wording.call` writes it."""
    begin, arguments = place, dict[str, object]()
    while not text.startswith(")", place):
        rest = re.compile(rf"(?:, )?{_OMITTED}(?=\))").match(text, place)
        found = _ARGUMENT.match(text, place)
        if rest is not None:
            arguments[_OMITTED], place = _OMITTED, rest.end()
        elif found is None:
            return None, begin
        else:
            try:
                arguments[found[1]], place = _value(text, found.end())
            except ValueError:
                return None, begin
    return arguments, place + 1


def _value(text: str, place: int) -> tuple[object, int]:
    if text.startswith(_OMITTED, place):
        return _Unknown("JSON"), place + 1
    if text.startswith("N)", place):
        return _Unknown("N"), place + 1
    return json.JSONDecoder().raw_decode(text, place)


# Pages


def _lines(lines: list[str]) -> Iterator[str]:
    fence = ""
    for line in lines:
        found = _FENCE.match(line)
        if fence:
            fence = "" if line == fence else fence
            yield line
        elif found is not None:
            fence = found[0]
            yield line
        else:
            yield _line(line)


def _line(line: str) -> str:
    if _OURS.match(line):
        return "".join(_pieces(line))
    rest = _REST.search(line) if _ENDING.match(line) else None
    return line if rest is None else line[: rest.start()] + "".join(_pieces(rest[0]))

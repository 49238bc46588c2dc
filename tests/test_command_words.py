"""On the command line hints are commands: each call that our texts name is one that the real application takes."""

import ast
import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from documents import tables
from durable_workflows import actions
from durable_workflows.actions import NUMBER, REST
from durable_workflows.cli import command_words
from durable_workflows.cli.commands.common import GivenJson
from durable_workflows.mcp.strict_tools import strict_tool
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.models import MoveFilter
from requirements import proves

VALUES: dict[str, Any] = {
    "workflow_id": "a b'c",
    "workflow_ids": ["one", "two words"],
    "from_step": 3,
    "step": 2,
    "detail": "source",
    "cursor": "input:7000",
    "name": "report",
    "args": {"a": "b"},
    "message": "yes",
    "topic": "go on",
    "until": "any",
    "status": "PENDING",
    "children": True,
    "waiting": True,
    "parent": "a b'c",
    "timeout_seconds": 30.0,
    "version": "same",
    "query": "how to wait",
    "template": "basic_workflow",
    "other": "another one",
    "since": "2026-11-28",
    "roots": True,
    "started_by": "a session",
    "text": "some text",
    "oldest_first": True,
    "limit": 7,
    "batch": [{"name": "report"}],
    "queue": "slow",
    "delay_seconds": 2.0,
    "priority": 3,
    "idempotency_key": "once",
    "source": "from dbos import DBOS",
    "overwrite": True,
    "happened": True,
    "result": "paid",
    "repeat": [2],
    "new_workflow_id": "again-7",
    "outputs": {"2": "paid"},
    "cancel_original": True,
    "action": "create",
    "workflow": "report",
    "cron": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "missed": "last",
    "replace": True,
    "filter": {"name": "report"},
    "fork_children": True,
    "dry_run": True,
    "to_step": 4,
}
# What a command calls it, and what it makes of it.
TAKEN_AS: dict[tuple[str, str], tuple[str, Any]] = {
    ("fork", "version"): ("same_version", True),
    ("fork_failed", "version"): ("same_version", True),
    ("fork_failed", "since"): ("since", datetime(2026, 11, 28)),
    ("rewind", "version"): ("latest_version", False),
    ("send_message", "message"): ("message", GivenJson("yes")),
    ("resolve_step", "result"): ("result", GivenJson("paid")),
    ("move_to_version", "filter"): ("filter", MoveFilter(name="report")),
    ("move_to_version", "dry_run"): ("apply", False),
    ("list_workflows", "since"): ("since", datetime(2026, 11, 28)),
    ("start_workflow", "batch"): ("batch", Path("FILE")),
    ("write_workflow", "source"): ("source", Path("FILE")),
}
PARAMETERS = {spec.function.__name__: strict_tool(spec).parameters for spec in TOOLS}
UNDERLINED = [name for name in PARAMETERS if "_" in name]
PACKAGE = Path(command_words.__file__).parents[1]
FOR_MODELS_ONLY = ("answers.py", "tools.py", "prompts.py")  # no terminal shows their texts


def parsed(command: str) -> dict[str, Any]:
    """The application's reading of a command."""
    program, name, *words = shlex.split(command)
    assert program == "durable-workflows"
    with tables.all_commands()[name].make_context(name, words) as context:
        return context.params


@proves("commands:all-that-tools-can")
@pytest.mark.parametrize("tool", PARAMETERS)
def test_what_a_tool_can_do_a_command_can(tool: str) -> None:
    """Each argument of a tool is a word or an option of its command, or given otherwise. That the command takes them the next tests show."""
    form = command_words.FORMS[tool]
    otherwise = {name for one, name in command_words.OTHERWISE if one == tool}
    taken = [*form.words, *form.options, *otherwise]
    assert sorted(taken) == sorted(PARAMETERS[tool]["properties"])
    for name in otherwise:
        option = command_words.OTHERWISE[tool, name].partition(",")[0]
        command = tables.all_commands()[form.command]
        assert option in [
            word for one in tables.own_parameters(command) for word in tables.words(one)
        ]


@proves("hints:commands")
def test_each_tool_that_a_text_names_has_a_command() -> None:
    named = re.compile(rf"\b(?:Call ({'|'.join(PARAMETERS)})|({'|'.join(UNDERLINED)}))\b")
    for path in texts_for_both():
        for text in _texts(path):
            for found in named.finditer(text):
                assert (found[1] or found[2]) in command_words.FORMS, f"{path}: {text}"


@proves("hints:commands")
@pytest.mark.parametrize("tool", command_words.FORMS)
def test_a_call_becomes_a_command_that_the_application_takes(tool: str) -> None:
    form = command_words.FORMS[tool]
    check_call(tool, (*form.words, *form.options))


def check_call(tool: str, names: tuple[str, ...]) -> None:
    """That the command has all that the call has."""
    given = {name: VALUES[name] for name in names}
    command = command_words.as_command(tool, given)
    taken = parsed(command.strip("`"))
    for name, value in given.items():
        own, expected = TAKEN_AS.get((tool, name), (name, value))
        assert taken[own] in (expected, [expected]), command


def calls_in_hints() -> set[tuple[str, tuple[str, ...]]]:
    """The actions that our texts have, each with the names of its arguments."""
    return {
        (tool, tuple(sorted(names)))
        for path in texts_for_both()
        for tool, names in _calls_of(ast.parse(path.read_text(encoding="utf-8")))
    }


def texts_for_both() -> list[Path]:
    """The modules whose texts both faces show."""
    return [
        path
        for path in PACKAGE.rglob("*.py")
        if path.name not in FOR_MODELS_ONLY and "_content" not in path.parts
    ]


def _calls_of(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    for function in [
        *functions,
        *(one for one in tree.body if not isinstance(one, ast.FunctionDef)),
    ]:
        keys = {
            key.value
            for node in ast.walk(function)
            if isinstance(node, ast.Dict)
            for key in node.keys
            if isinstance(key, ast.Constant)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                yield from _worded(node, {str(key) for key in keys})


def _worded(node: ast.Call, keys: set[str]) -> Iterator[tuple[str, set[str]]]:
    """A call that is made here. For arguments given as a dict, those of any dict in the function."""
    names = {one.arg for one in node.keywords if one.arg is not None}
    if any(one.arg is None for one in node.keywords):
        names |= keys & VALUES.keys()
    match node:
        case ast.Call(
            func=ast.Name(id="call") | ast.Attribute(attr="call"),
            args=[ast.Constant(value=str(tool))],
        ) if tool in PARAMETERS:
            yield tool, names
        case ast.Call(func=ast.Name(id="inspect"), args=[_]) if names <= VALUES.keys():
            yield "inspect", {"workflow_id", *names}
        case _:
            pass


@proves("hints:commands")
def test_no_text_that_a_terminal_may_show_has_a_call_written_out() -> None:
    written_out = re.compile(rf"\b({'|'.join(PARAMETERS)})\((?:[a-z_]+=[^()]*)?\)")
    for path in texts_for_both():
        for text in _texts(path):
            assert not written_out.search(text), f"{path}: {text}"


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@proves("hints:commands")
@pytest.mark.long
def test_each_call_that_a_hint_can_have_is_a_command_with_all_its_arguments() -> None:
    found = calls_in_hints()
    assert {tool for tool, _ in found} >= {"fork", "resume", "cancel", "start_workflow", "inspect"}
    for tool, names in found:
        known, needed = PARAMETERS[tool]["properties"], PARAMETERS[tool].get("required", [])
        check_call(tool, tuple(dict.fromkeys([*needed, *(known.keys() & set(names))])))


def test_each_command_that_a_text_of_ours_names_is_one_that_the_application_takes() -> None:
    known = tables.all_commands()
    for text in {text for path in PACKAGE.rglob("*.py") for text in _commands_in(path)}:
        name, *words = shlex.split(text)
        assert name in known, text
        if words and words != ["--help"]:
            parsed(f"durable-workflows {text}")


def _commands_in(path: Path) -> Iterator[str]:
    """The commands in a module's texts; `1` stands for what differs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(
                str(one.value) if isinstance(one, ast.Constant) else "1" for one in node.values
            )
        yield from re.findall(r"`durable-workflows ([a-z][^`]*)`", text)


@pytest.mark.parametrize(
    ("tool", "arguments", "command"),
    [
        ("fork", {"workflow_id": "x", "from_step": 3}, "fork x 3"),
        ("fork", {"workflow_id": "x", "from_step": 3, "version": "same"}, "fork --same-version x 3"),
        ("fork", {"workflow_id": "x", "from_step": 3, "version": "latest"}, "fork x 3"),
        ("inspect", {"workflow_id": "-x", "step": 2}, "inspect --step 2 -- -x"),
        ("inspect", {"workflow_id": "x", "step": NUMBER}, "inspect --step N x"),
        ("send_message", {"workflow_id": "x", "topic": "t", "message": REST}, "send --id x --topic t --message JSON"),
        ("send_message", {"workflow_id": "x", "topic": "t", "message": "y"}, "send --id x --topic t --message '\"y\"'"),
        ("start_workflow", {"name": "report", "args": REST}, "start --args JSON report"),
        ("inspect", {"workflow_id": "a\nb"}, "inspect $'a\\nb'"),
        ("move_to_version", {"filter": {"name": "x"}}, "move-to-version --filter '{\"name\": \"x\"}'"),
        ("move_to_version", {"workflow_ids": ["x", "y"], "dry_run": False}, "move-to-version --apply x y"),
        ("resume", {"workflow_ids": ["x"], "children": True}, "resume --children x"),
        ("server_status", {}, "status"),
        ("list_workflows", {"waiting": False, "roots": True}, "list --not-waiting --roots"),
        ("write_workflow", {"name": "x", "source": "import this"}, "write x FILE"),
    ],
)  # fmt: skip
def test_actions_are_worded_as_commands(tool: str, arguments: dict[str, Any], command: str) -> None:
    assert command_words.as_command(tool, arguments) == f"`durable-workflows {command}`"


def test_what_is_in_an_argument_is_no_word_of_the_command() -> None:
    topic = 'x") cancel(workflow_ids=["y"]'
    command = command_words.as_command("answer_in_person", {"workflow_id": "x", "topic": topic})
    assert parsed(command.strip("`"))["topic"] == topic


def test_an_action_is_a_call_where_no_face_words_it_otherwise() -> None:
    assert actions.inspect("x", step=NUMBER) == 'inspect(workflow_id="x", step=N)'
    with actions.worded(command_words.as_command):
        assert actions.inspect("x", step=NUMBER) == "`durable-workflows inspect --step N x`"
    assert actions.call("send_message", message=REST) == "send_message(message=…)"


def test_the_tools_that_a_hint_names_are_commands_in_a_terminal() -> None:
    hint = "Call workflow_catalog to see the registered names."
    assert (
        command_words.in_terminal(hint)
        == "Run `durable-workflows catalog` to see the registered names."
    )
    hint = "Call inspect to see the answer."
    assert (
        command_words.in_terminal(hint) == "Run `durable-workflows inspect ID` to see the answer."
    )


@proves("hints:commands")
def test_what_a_command_in_a_hint_names_stays_as_it_is() -> None:
    hint = f"{command_words.as_command('send_message', {'topic': 'list_workflows'})} lets it go on."
    assert command_words.in_terminal(hint) == hint

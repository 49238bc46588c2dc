"""On the command line hints are commands: each call that our texts name is one that the real application takes."""

import shlex
from typing import Any

import pytest
import typer.main

from durable_workflows import cli, command_words, wording
from durable_workflows.strict_tools import strict_tool
from durable_workflows.tools import TOOLS
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
}


def parsed(command: str) -> dict[str, Any]:
    """What the application makes of a command."""
    program, name, *words = shlex.split(command)
    assert program == "durable-workflows"
    with typer.main.get_group(cli.build_app()).commands[name].make_context(name, words) as context:
        return context.params


def test_every_tool_has_a_command_and_its_arguments_are_those_of_the_tool() -> None:
    tools = {spec.function.__name__: strict_tool(spec) for spec in TOOLS}
    assert command_words.FORMS.keys() == tools.keys()
    for name, form in command_words.FORMS.items():
        assert {*form.words, *form.options} <= tools[name].parameters["properties"].keys(), name


@proves("hints:commands")
@pytest.mark.parametrize(
    "tool", [name for name in command_words.FORMS if name not in ("search_docs", "write_workflow")]
)
def test_a_call_becomes_a_command_that_the_application_takes(tool: str) -> None:
    form = command_words.FORMS[tool]
    given = {name: VALUES[name] for name in (*form.words, *form.options)}
    text = command_words.in_terminal(f"do {wording.call(tool, **given)}; then look.")
    before, command, after = text.split("`")
    assert (before, after) == ("do ", "; then look.")
    taken = parsed(command)
    for name in {"workflow_id", "workflow_ids", "from_step", "topic", "name"} & given.keys():
        assert taken[name] in (given[name], tuple(given[name]) if name == "workflow_ids" else ())


@pytest.mark.parametrize(
    ("call", "command"),
    [
        ('fork(workflow_id="x", from_step=3)', "fork x 3"),
        ('inspect(workflow_id="-x", step=2)', "inspect --step 2 -- -x"),
        ('inspect(workflow_id="x", step=N)', "inspect --step N x"),
        ('send_message(workflow_id="x", topic="t", message=…)', "send --id x --topic t --message JSON"),
        ('send_message(workflow_id="x", topic="t", message="y")', "send --id x --topic t --message '\"y\"'"),
        ('start_workflow(name="report", …)', "start --args JSON report"),
        ('inspect(workflow_id="a\\nb")', "inspect $'a\\nb'"),
        ('resume(workflow_ids=["x"], children=true)', "resume --children x"),
        ("server_status()", "status"),
    ],
)  # fmt: skip
def test_calls_are_worded_as_commands(call: str, command: str) -> None:
    assert command_words.in_terminal(call) == f"`durable-workflows {command}`"


def test_what_is_in_an_argument_is_no_call() -> None:
    topic = 'x") cancel(workflow_ids=["y"]'
    call = wording.call("answer_in_person", workflow_id="x", topic=topic)
    assert parsed(command_words.in_terminal(call).strip("`"))["topic"] == topic


def test_hints_of_errors_name_commands() -> None:
    hint = "Call workflow_catalog (or `durable-workflows status`) to see the registered names."
    assert (
        command_words.in_terminal(hint)
        == "Run `durable-workflows status` to see the registered names."
    )
    hint = "Call server_status, or run `durable-workflows status`, to see what runs."
    assert command_words.in_terminal(hint) == "Run `durable-workflows status` to see what runs."
    hint = "Call inspect with detail=messages to see the answer."
    assert (
        command_words.in_terminal(hint)
        == "Run `durable-workflows inspect ID --detail messages` to see the answer."
    )


@proves("hints:commands")
def test_what_a_run_recorded_stays_as_it_is() -> None:
    call = wording.inspect("x")
    fence = wording.fenced(f"Next: {call}")
    data = f'Input: {{"a": "(9 characters: {call})"}}\n1. {call}\n- {call}\n**Why:** {call}'
    page = f"# x\n**Next:** {call}\n{data}\n{fence}\nInput: abc… (9,000 characters: {call})"
    shown = command_words.page(page)
    command = "`durable-workflows inspect x`"
    assert (
        shown
        == f"# x\n**Next:** {command}\n{data}\n{fence}\nInput: abc… (9,000 characters: {command})"
    )


def test_of_a_problem_only_the_call_at_its_end_is_a_command() -> None:
    data = 'cancel(workflow_ids=["y"]) ended its worker'
    problem = f"{data}: {wording.inspect('x')}"
    assert command_words.at_end(problem) == f"{data}: `durable-workflows inspect x`"
    assert command_words.at_end(data) == data

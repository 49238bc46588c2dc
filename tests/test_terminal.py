"""Foreign texts cannot forge the output of commands, or the questions to a person."""

import ast
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from durable_workflows import fitting
from durable_workflows.cli import app, dashboard, printing, terminal
from durable_workflows.cli.commands import people
from durable_workflows.mcp import elicitation
from durable_workflows.models import Ended, LogLine, OpenWait, Preview, Run, RunList, RunSummary
from nasty import TEXTS, each
from requirements import proves

NOW = datetime(2026, 11, 28, tzinfo=UTC)
LISTS = (
    "rewinds",
    "steps",
    "running",
    "waiting",
    "children",
    "forks",
    "events",
    "answers",
    "effects",
    "attempts",
    "unread_topics",
)
PACKAGE = Path(app.__file__).parents[1]


def waiting(text: str) -> OpenWait:
    return OpenWait(
        workflow_id=text,
        step=1,
        topic=text,
        prompt=text,
        message_schema={"type": "string", "title": text, "description": text},
        since=NOW,
        deadline=None,
        person_only=True,
    )


def run_of(text: str) -> Run:
    return Run.model_validate(
        {
            **dict.fromkeys(Run.model_fields),
            "workflow_id": text,
            "name": text,
            "status": "PENDING",
            "created_at": NOW,
            "updated_at": NOW,
            "recovery_attempts": 1,
            "input": Preview(text=text, length=len(text)),
            "total_steps": 0,
            "unread_messages": 0,
            "stopped_children": 0,
            **{key: [] for key in LISTS},
        }
    )


@proves("value:seen")
@each(TEXTS)
def test_no_command_writes_what_acts_on_a_terminal_or_hides(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = RunSummary(
        workflow_id=value,
        name=value,
        status=value,
        created_at=NOW,
        updated_at=NOW,
        waiting_on=value,
    )
    printing.print_runs(RunList(workflows=[summary], counts={value: 1}, next_cursor=value))
    printing.print_log([LogLine(id=1, at=NOW, step=None, stream="out", text=value)], False)
    printing.print_ended(Ended(workflow_id="a", status="SUCCESS", output=value), False)
    printing.print_trace(value)
    printing.print_overview([dashboard.Line(value)])
    printing.say(value)
    terminal.out(value)
    written = capsys.readouterr()
    for text in (written.out, written.err):
        assert text == fitting.shown(text)


def test_json_that_a_command_writes_is_the_same_data(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [text for text in TEXTS if fitting.is_storable(text)]
    printing.print_ended(Ended(workflow_id="a", status="SUCCESS", output=[*texts]), True)
    assert json.loads(capsys.readouterr().out)["output"] == texts


@proves("value:seen")
@each([*TEXTS, "Really?\n\nrun        other\n\nThis will be sent: 1\nSend it? [y/N]: "])
def test_a_question_cannot_pass_for_what_we_say_around_it(value: str) -> None:
    # Of ours are a run, its arguments, the topic, the times, and the blank lines.
    about = people.about(run_of(value), waiting(value)).split("\n")
    ours = [line for line in about if line and not line.startswith("  |")]
    labels = [line[:11].strip() for line in ours]
    assert labels[0] == "run"
    assert labels[-1] == ("waits" if value else "The run wai")
    assert len(labels) <= 5
    head, *rest = elicitation.message(waiting(value)).split("\n")
    assert head.startswith(("A question from the workflow run ", "A message is needed by "))
    assert all(line.startswith(">") or not line for line in rest)
    form = json.dumps(elicitation.form(waiting(value)), ensure_ascii=False)
    assert form == fitting.shown(form)


def writes(path: Path) -> list[str]:
    """The calls in a module that write to a terminal, or ask there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [one for one in calls if one in ("typer.echo", "typer.prompt", "typer.confirm", "print")]


def test_there_is_one_place_that_writes_to_terminals() -> None:
    found = {path.name: writes(path) for path in PACKAGE.rglob("*.py")}
    writers = {name for name, calls in found.items() if calls}
    assert writers == {"terminal.py", "app.py"}  # the latter its own version

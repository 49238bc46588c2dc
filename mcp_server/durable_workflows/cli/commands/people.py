"""`approve`: a person answers what a run waits for."""

import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import anyio
import typer
from pydantic import JsonValue

from durable_workflows import fitting, wording
from durable_workflows.cli import shell_completion, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import WorkflowId, engine_of, reader_of
from durable_workflows.errors import NotWaiting, UsageError
from durable_workflows.models import OpenWait, Preview, Run
from durable_workflows.settings import PERSON, Settings
from durable_workflows.system import processes, users

_ABOUT = 2000  # characters of the arguments of a run, so that a person sees what is decided


def approve(
    settings: Settings,
    workflow_id: WorkflowId,
    *,
    topic: Annotated[
        str | None,
        typer.Option(
            help="What to answer, if the run waits for several things.",
            autocompletion=shell_completion.questions,
        ),
    ] = None,
) -> None:
    """Answer a question that a run asks a person.

    The question may also come from a run that it started. Shows the question, asks for an answer that fits, shows what will be
    sent, and sends it once you confirm. It needs a terminal, and refuses to run if a step of a run has started it. The answer is
    recorded with your user name and with what you were shown.
    """
    processes.refuse_in_worker()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "This command is for people only: its input and output must be a terminal.",
            hint="Run it in a terminal yourself. Programs answer with `durable-workflows send`, where a run accepts their answers.",
        )
    # jsonschema takes half a second to import, and no other command needs it.
    forms = importlib.import_module("durable_workflows.cli.forms")
    # No event loop runs while a person is asked, so that ctrl-C ends the question.
    run, waits = anyio.run(_look, settings, workflow_id)
    found = _matching(run, waits, topic)
    place = forms.pick("Which", [_title(run, one) for one in found]) if len(found) > 1 else 0
    wait = found[place]
    asking, _ = anyio.run(_look, settings, wait.workflow_id)
    shown = about(asking, wait)
    terminal.out(shown)
    value: JsonValue = forms.ask(wait.message_schema)
    terminal.out(f"This will be sent: {json.dumps(value, ensure_ascii=False)}")
    if not terminal.confirm("Send it?"):
        raise UsageError("Nothing was sent.", hint="The run keeps waiting.")
    anyio.run(_answer, settings, wait, value, shown)
    terminal.out(f"The answer was sent to {wait.workflow_id}.")


async def _look(settings: Settings, workflow_id: str) -> tuple[Run, list[OpenWait]]:
    async with reader_of(settings) as reader:
        return await reader.run(workflow_id, preview=_ABOUT), await reader.questions(workflow_id)


async def _answer(settings: Settings, wait: OpenWait, value: JsonValue, shown: str) -> None:
    async with engine_of(settings) as engine:
        await engine.answer(wait, value, who=users.login(), how="terminal", shown=shown)


def _matching(run: Run, waits: Sequence[OpenWait], topic: str | None) -> list[OpenWait]:
    if not waits:
        raise NotWaiting(
            f"{run.workflow_id} is not waiting for anything now; its status is {run.status}.",
            hint="Run `durable-workflows list --waiting` to see which runs wait.",
        )
    found = [one for one in waits if topic in (None, one.topic, one.topic.removeprefix(PERSON))]
    if not found:
        topics = ", ".join(repr(one.topic.removeprefix(PERSON)) for one in waits)
        own = shlex.quote(run.workflow_id)
        raise NotWaiting(
            f"{run.workflow_id} waits on {topics}, not on {topic!r}.",
            hint=f"Run `durable-workflows approve {own}` to choose one.",
        )
    return found


def _title(run: Run, wait: OpenWait) -> str:
    asking = wait.workflow_id if wait.workflow_id != run.workflow_id else None
    return wording.joined(asking, wait.topic.removeprefix(PERSON), wait.prompt)


def about(run: Run, wait: OpenWait) -> str:
    """What a person has to know to decide."""
    now = datetime.now(UTC)
    until = (
        f"until {wording.time(wait.deadline)} (in {wording.span(wait.deadline - now)})"
        if wait.deadline
        else "without a deadline"
    )
    facts = [
        ("run", f"{run.workflow_id}, {run.name}"),
        ("started by", run.parent_workflow_id or ""),
        ("arguments", _arguments(run.input)),
        ("topic", wait.topic.removeprefix(PERSON) or "(none)"),
        ("waits", f"since {wording.time(wait.since)}, {until}"),
    ]
    lines = [f"{label:<11}{fitting.shown_line(text)}" for label, text in facts if text]
    asked = [terminal.quoted(wait.prompt)] if wait.prompt else ["The run waits for a message."]
    return "\n".join([*lines, "", *asked, ""])


def _arguments(recorded: Preview | None) -> str:
    """The arguments of a run as they were given, or what there is of them."""
    if recorded is None:
        return "none"
    if recorded.cut:
        return f"{recorded.text} …"
    try:
        given: Any = json.loads(recorded.text)
        return json.dumps(given["namedArgs"] or given["positionalArgs"], ensure_ascii=False)
    except (ValueError, TypeError, KeyError, RecursionError):  # recorded in another format
        return recorded.text


COMMANDS = (Command("approve", approve, ("approve deploy-7", "approve deploy-7 --topic approval")),)

"""Use when a run must wait for an approval or an input, for days if need be, and go on by itself when nobody answers.

It writes a draft, asks whether it may be published, and does what the answer says. What to change first: `Decision`,
the prompt, and what the three branches at the end do. To answer:

    durable-workflows send --id <id> --topic decision --message '{"approved": true, "comment": "well done"}'
"""

import os
import shutil
from pathlib import Path
from typing import Literal

from dbos import DBOS
from pydantic import BaseModel, ConfigDict

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

from durable_workflows import receive, step

TOPIC = "decision"
DAY_SECONDS = 24 * 3600.0


class Decision(BaseModel):
    """The answer. The sender of a message with another shape is refused, and the wait continues."""

    model_config = ConfigDict(extra="forbid")

    approved: bool
    comment: str = ""


class Result(TypedDict):
    """The fate of the draft."""

    outcome: Literal["published", "withdrawn", "expired"]
    path: str
    comment: str


@DBOS.workflow()
def human_in_the_loop(
    path: str = "human_in_the_loop.md",
    text: str = "# News\n\nDurable workflows wait for people.\n",
    timeout_seconds: float = 3 * DAY_SECONDS,
    escalation_seconds: float = DAY_SECONDS,
) -> Result:
    """Write a draft and publish it as a file of the project once somebody approves."""
    draft = write_draft(path, text)
    decision = ask(f"May {draft} be published as {path}?", timeout_seconds)
    if decision is None:
        # There was no answer: ask once more. Other programs can read the event, and a step could send a mail here.
        DBOS.set_event("escalated", {"path": path, "draft": draft})
        decision = ask(f"Overdue: may {draft} be published as {path}?", escalation_seconds)

    if decision is None:
        # Silence is not consent. The draft stays for the next start of the workflow.
        return {"outcome": "expired", "path": path, "comment": ""}
    if decision.approved:
        publish(draft, path)
        remove(draft)
        return {"outcome": "published", "path": path, "comment": decision.comment}
    # Rejected: undo what the steps before the question did, the last one first.
    remove(draft)
    return {"outcome": "withdrawn", "path": path, "comment": decision.comment}


def ask(prompt: str, seconds: float) -> Decision | None:
    """Wait for the decision; None if the time is over. The wait costs nothing and survives crashes and reboots.

    Any sender of messages can answer, including an agent. If only a person may answer, import `ask_human` and write
    `ask_human(prompt, schema=Decision, timeout=seconds)`: it accepts no answer that was sent as a message.
    """
    return receive(TOPIC, schema=Decision, prompt=prompt, timeout=seconds)


# Each step below is safe to repeat: a crash in the middle of a step repeats it. If yours is not, a mail for example,
# write `@step(effect="once")`.


@DBOS.step()
def write_draft(path: str, text: str) -> str:
    """Write the draft and return where it is."""
    draft = f"{path}.draft"
    Path(draft).write_text(text, encoding="utf-8")
    return draft


@step(effect="repeatable")
def publish(draft: str, path: str) -> None:
    """Publish the draft as it is now: a person may have edited it. It stays, so that a repetition finds it."""
    copy = f"{path}.new"
    shutil.copyfile(draft, copy)
    os.replace(copy, path)


@DBOS.step()
def remove(draft: str) -> None:
    """Remove the draft, if it is still there."""
    Path(draft).unlink(missing_ok=True)

"""What must hold before recorded steps of a run are done again: nothing happens twice that must not, and there is code for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from durable_workflows import actions, limits, wording
from durable_workflows.database import tables
from durable_workflows.engine.published import Published
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import (
    UnknownStep,
    UnknownWorkflow,
    WorkflowUnavailable,
    WouldRepeat,
)
from durable_workflows.models import Answer

_NAMED = 3  # steps in an error
_KNOWN = {
    "happened": "has happened",
    "failed": "failed, and may have happened before",
    "doubt": "is in doubt",
    "begun": "has begun",
}


@dataclass(frozen=True)
class Again:
    """A call that does a run's steps again, from `step` on: `fork` or `rewind`. `step_argument` has the step in that call."""

    tool: str
    said: str  # as in "A fork of pay-7 from step 2"
    step_argument: str
    workflow_id: str
    step: int

    def call(self, **more: JsonValue) -> str:
        """The call, with other arguments."""
        given: dict[str, JsonValue] = {
            "workflow_id": self.workflow_id,
            self.step_argument: self.step,
        }
        return actions.call(self.tool, **given, **more)


def fork_of(workflow_id: str, step: int) -> Again:
    """A fork from that step."""
    said = f"A fork of {workflow_id} from step {step}"
    return Again("fork", said, "from_step", workflow_id, step)


def rewind_of(workflow_id: str, step: int) -> Again:
    """A rewind to that step."""
    said = f"A rewind of {workflow_id} to step {step}"
    return Again("rewind", said, "to_step", workflow_id, step)


def shown_answer(answer: Answer) -> str:
    """A person's answer, as the end of "What … answered"."""
    question = wording.line(answer.shown, limits.NAME)
    given = wording.line(answer.answer.text, limits.NAME)
    return f"{answer.who} answered at step {answer.step} ({question!r}: {given})"


def check_step(workflow_id: str, step: int, last: int) -> None:
    """Refuse a step that the run does not have; `last` is the number of its last recorded one.

    Raises:
        UnknownStep: it is below 1, or beyond the step that runs now or would come next.
    """
    if not 1 <= step <= last + 1:
        raise UnknownStep(f"{workflow_id} has no step {step}: give one from 1 to {last + 1}.")


class Repeats:
    """Checks such calls."""

    def __init__(self, rows: Rows, published: Published) -> None:
        self._rows = rows
        self._published = published

    async def version(self, head: tables.Row, again: Again, *, same: bool) -> str:
        """The version of the code on which the steps run again: that of the run, or the newest, which must have the workflow.

        Raises:
            UnknownWorkflow, WorkflowUnavailable
        """
        if same:
            return head["version"]
        version = await self._published.newest()
        try:
            await self._published.entry(head["name"], version)
        except (UnknownWorkflow, WorkflowUnavailable) as error:
            if await self._loads(head):
                other = again.call(version="same")
                error.hint += f" Or {other}, on the code that the original runs."
            raise
        return version

    async def refuse(self, again: Again, repeat: Sequence[int]) -> None:
        """Refuse to do a step again that must not happen twice, unless it is among those to repeat.

        Raises:
            WouldRepeat
        """
        rows = await self._rows.fetch(
            "effects_at_stake", workflow_id=again.workflow_id, from_step=again.step
        )
        twice = [row for row in rows if row["at_step"] not in repeat]
        if not twice:
            return
        said = "; ".join(_at_stake(row) for row in twice[:_NAMED])
        more = f"; and {len(twice) - _NAMED} more" if len(twice) > _NAMED else ""
        steps = sorted({row["at_step"] for row in rows})
        later = f"{again.tool.capitalize()} {'from' if again.tool == 'fork' else 'to'} a later step"
        raise WouldRepeat(
            f"{again.said} would repeat what must not happen twice: {said}{more}. Nothing was done.",
            hint=f"{later}; or, if it shall happen again, {again.call(repeat=[*steps])}.",
            steps=tuple(steps),
        )

    async def _loads(self, head: tables.Row) -> bool:
        """Whether the version of a run has its workflow."""
        rows = await self._rows.fetch("catalog_entry", version=head["version"], name=head["name"])
        return bool(rows) and rows[0]["error"] is None


def _at_stake(row: tables.Row) -> str:
    """A step that would be repeated, and what is known of it."""
    where = f"step {row['at_step']}"
    if not row["is_own"]:
        where += f", whose run {row['workflow_id']} has step {row['step']}"
    return f"{where} {row['name']}, which {_KNOWN[row['state']]}"

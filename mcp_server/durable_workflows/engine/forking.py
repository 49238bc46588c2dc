"""Forks: new runs that take over the finished steps of other runs."""

import uuid
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from durable_workflows import actions, fitting, limits, wording
from durable_workflows.database import tables
from durable_workflows.engine.published import Published
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.engine.stopping import Stopper
from durable_workflows.errors import (
    UnknownStep,
    UnknownWorkflow,
    UnknownWorkflowId,
    WorkflowIdTaken,
    WorkflowUnavailable,
    WouldRepeat,
)
from durable_workflows.models import UNFINISHED, Answer, Forked, ForkOptions
from durable_workflows.schemas import arguments
from durable_workflows.settings import QUEUE

_NAMED = 3  # steps in an error
_KNOWN = {
    "happened": "has happened",
    "failed": "failed, and may have happened before",
    "doubt": "is in doubt",
    "begun": "has begun",
}


class Forker:
    """Forks runs."""

    def __init__(self, rows: Rows, published: Published, reader: Reader, stopper: Stopper) -> None:
        self._rows = rows
        self._published = published
        self._reader = reader
        self._stopper = stopper

    async def fork(
        self,
        workflow_id: str,
        from_step: int,
        *,
        same_version: bool,
        options: ForkOptions,
        session: str | None,
    ) -> Forked:
        """As `Engine.fork`."""
        head = await self._rows.head(workflow_id)
        last = (
            await self._reader.last_step(workflow_id) + 1
        )  # the step that runs now, or would come next
        if not 1 <= from_step <= last:
            raise UnknownStep(f"{workflow_id} has no step {from_step}: give one from 1 to {last}.")
        version = head["version"] if same_version else await self._published.newest()
        if not same_version:
            await self._forkable(head, from_step, version)
        await self._check(head, from_step, version, options)
        await self._refuse_repetitions(workflow_id, from_step, options.repeat)
        fork_id = options.workflow_id or str(uuid.uuid4())
        about = {"forked_at": from_step, "session": session}  # else it has those of the original
        existing = await self._fork(workflow_id, fork_id, from_step, version, options, about)
        if options.cancel_original:
            await self._stopper.cancel([workflow_id], children=False)
        return Forked(
            workflow_id=fork_id,
            forked_from=workflow_id,
            from_step=from_step,
            version=version,
            existing=existing and options.workflow_id is not None,
            note=await self._note(head, from_step, cancelled=options.cancel_original),
        )

    async def _check(
        self, head: tables.Row, from_step: int, version: str, options: ForkOptions
    ) -> None:
        """Check what the fork shall have in place of what the original has."""
        arguments.check_id(options.workflow_id)
        if options.args is not None:
            arguments.check_size(dict(options.args), "arguments")
            arguments.check(await self._published.entry(head["name"], version), options.args)
        if not options.outputs:
            return
        for value in options.outputs.values():
            arguments.check_size(value, "output")
        steps = sorted(options.outputs)
        rows = await self._rows.fetch(
            "recorded_among", workflow_id=head["workflow_id"], steps=steps
        )
        known = {row["step"] for row in rows}
        wrong = [step for step in steps if step not in known or step >= from_step]
        if wrong:
            raise UnknownStep(
                f"{head['workflow_id']} has no finished step {wrong[0]} before step {from_step}: it has no output that could be replaced. Nothing was done.",
                hint="Give outputs of finished steps before from_step, by their numbers in inspect.",
            )

    async def _fork(
        self,
        workflow_id: str,
        fork_id: str,
        from_step: int,
        version: str,
        options: ForkOptions,
        about: Mapping[str, JsonValue],
    ) -> bool:
        """Make the fork; return whether it was there before."""
        inputs: JsonValue = {"namedArgs": dict(options.args or {}), "positionalArgs": []}
        outputs = {step: fitting.recorded_json(one) for step, one in options.outputs.items()}
        rows = await self._rows.change(
            "fork_run",
            workflow_id=workflow_id,
            fork_id=fork_id,
            from_step=from_step,
            version=version,
            queue=QUEUE,
            inputs=None if options.args is None else fitting.recorded_json(inputs),
            outputs=fitting.json_text(outputs),
            about=fitting.json_text(about),
        )
        verdict = rows[0]["verdict"]
        if verdict == "unknown":  # deleted a moment ago
            raise UnknownWorkflowId
        if verdict == "taken":
            raise WorkflowIdTaken(f"{fork_id!r} is the id of another run. Nothing was done.")
        return verdict == "existing"

    async def _note(self, head: tables.Row, from_step: int, *, cancelled: bool) -> str | None:
        """What goes on besides the fork, and which answers it took over."""
        workflow_id = head["workflow_id"]
        under_way = (await self._reader.steps_under_way([workflow_id])).get(workflow_id)
        note = f"{under_way} of {workflow_id} still runs." if under_way else None
        if head["status"] in UNFINISHED and not cancelled:
            note = f"{workflow_id} goes on too ({head['status']}): cancel it if only one of the two is wanted."
        taken = [one for one in await self._reader.answers(workflow_id) if one.step < from_step]
        return " ".join([*([note] if note else []), *map(_taken_over, taken)]) or None

    async def _refuse_repetitions(
        self, workflow_id: str, from_step: int, repeat: Sequence[int]
    ) -> None:
        """Refuse a fork that would do a step again that must not happen twice, unless it is among those to repeat."""
        rows = await self._rows.fetch(
            "effects_at_stake", workflow_id=workflow_id, from_step=from_step
        )
        again = [row for row in rows if row["at_step"] not in repeat]
        if not again:
            return
        said = "; ".join(_at_stake(row) for row in again[:_NAMED])
        more = f"; and {len(again) - _NAMED} more" if len(again) > _NAMED else ""
        steps = sorted({row["at_step"] for row in rows})
        anyway = actions.call("fork", workflow_id=workflow_id, from_step=from_step, repeat=[*steps])
        raise WouldRepeat(
            f"A fork of {workflow_id} from step {from_step} would repeat what must not happen twice: {said}{more}. Nothing was done.",
            hint=f"Fork from a later step; or, if it shall happen again, {anyway}.",
            steps=tuple(steps),
        )

    async def _forkable(self, head: tables.Row, from_step: int, version: str) -> None:
        """Check that the present code has the workflow."""
        try:
            await self._published.entry(head["name"], version)
        except (UnknownWorkflow, WorkflowUnavailable) as error:
            if await self._loads(head):
                again = actions.call(
                    "fork", workflow_id=head["workflow_id"], from_step=from_step, version="same"
                )
                error.hint += f" Or {again}, on the code that the original runs."
            raise

    async def _loads(self, head: tables.Row) -> bool:
        """Whether the version of a run has its workflow."""
        rows = await self._rows.fetch("catalog_entry", version=head["version"], name=head["name"])
        return bool(rows) and rows[0]["error"] is None


def _at_stake(row: tables.Row) -> str:
    """A step that a fork would repeat, and what is known of it."""
    where = f"step {row['at_step']}"
    if not row["is_own"]:
        where += f", whose run {row['workflow_id']} has step {row['step']}"
    return f"{where} {row['name']}, which {_KNOWN[row['state']]}"


def _taken_over(answer: Answer) -> str:
    """The note about an answer that a fork takes over instead of asking."""
    question = wording.line(answer.shown, limits.NAME)
    given = wording.line(answer.answer.text, limits.NAME)
    return f"It takes over what {answer.who} answered at step {answer.step} ({question!r}: {given}) and does not ask again; a fork from step {answer.step} asks again."

"""Forks: new runs that take over the finished steps of other runs."""

import uuid
from collections.abc import Mapping

from pydantic import JsonValue

from durable_workflows import fitting
from durable_workflows.database import tables
from durable_workflows.engine.published import Published
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.repeating import Again, Repeats, check_step, fork_of, shown_answer
from durable_workflows.engine.rows import Rows
from durable_workflows.engine.stopping import Stopper
from durable_workflows.errors import UnknownStep, UnknownWorkflowId, WorkflowIdTaken
from durable_workflows.models import UNFINISHED, Answer, Forked, ForkOptions
from durable_workflows.schemas import arguments
from durable_workflows.seam.queued_runs import recorded_arguments
from durable_workflows.settings import QUEUE
from durable_workflows.telling import causes


class Forker:
    """Forks runs."""

    def __init__(
        self,
        rows: Rows,
        published: Published,
        reader: Reader,
        stopper: Stopper,
        repeats: Repeats,
    ) -> None:
        self._rows = rows
        self._published = published
        self._reader = reader
        self._stopper = stopper
        self._repeats = repeats

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
        check_step(workflow_id, from_step, await self._reader.last_step(workflow_id))
        again = fork_of(workflow_id, from_step)
        version = await self._repeats.version(head, again, same=same_version)
        await self._check(head, from_step, version, options)
        await self._repeats.refuse(again, options.repeat)
        fork_id = options.workflow_id or str(uuid.uuid4())
        about = {"forked_at": from_step, "session": session}  # else it has those of the original
        children = {}
        if options.fork_children:
            children = await self._fork_children(again, fork_id, same_version, session)
        existing = await self._fork(again, fork_id, version, options, about, children)
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

    async def _fork_children(
        self, again: Again, fork_id: str, same_version: bool, session: str | None
    ) -> dict[str, str]:
        """Fork the stopped children whose results the fork takes itself, each from where it failed; return the fork of each."""
        rows = await self._rows.fetch(
            "children_to_fork", workflow_id=again.workflow_id, from_step=again.step
        )
        children = [await self._reader.run(row["workflow_id"]) for row in rows]
        starts = [causes.step_to_repeat(child) for child in children]
        for child, start in zip(children, starts, strict=True):  # before any is forked
            await self._repeats.refuse(fork_of(child.workflow_id, start), ())
        forks: dict[str, str] = {}
        for row, start in zip(rows, starts, strict=True):
            options = ForkOptions(workflow_id=f"{fork_id}-{row['step']}")
            child = row["workflow_id"]
            forked = await self.fork(
                child, start, same_version=same_version, options=options, session=session
            )
            forks[child] = forked.workflow_id
        return forks

    async def _fork(
        self,
        again: Again,
        fork_id: str,
        version: str,
        options: ForkOptions,
        about: Mapping[str, JsonValue],
        children: Mapping[str, str],
    ) -> bool:
        """Make the fork; return whether it was there before."""
        outputs = {step: fitting.recorded_json(one) for step, one in options.outputs.items()}
        rows = await self._rows.change(
            "fork_run",
            workflow_id=again.workflow_id,
            fork_id=fork_id,
            from_step=again.step,
            version=version,
            queue=QUEUE,
            inputs=None if options.args is None else recorded_arguments(options.args),
            outputs=fitting.json_text(outputs | ({"children": dict(children)} if children else {})),
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


def _taken_over(answer: Answer) -> str:
    """The note about an answer that a fork takes over instead of asking."""
    return f"It takes over what {shown_answer(answer)} and does not ask again; a fork from step {answer.step} asks again."

"""Rewinds: the same run goes again from a step. What it had done from there on is kept as another run."""

from collections.abc import Sequence

import anyio

from durable_workflows.database import tables
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.repeating import Again, Repeats, check_step, rewind_of, shown_answer
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import StillRunning, UnknownWorkflowId
from durable_workflows.models import Answer, Rewound
from durable_workflows.settings import QUEUE

_PARKED_SECONDS = 10.0  # within which a run that waits is parked, if it ever is
_POLL_SECONDS = 0.1


class Rewinder:
    """Rewinds runs."""

    def __init__(self, rows: Rows, reader: Reader, repeats: Repeats) -> None:
        self._rows = rows
        self._reader = reader
        self._repeats = repeats

    async def rewind(
        self, workflow_id: str, to_step: int, *, same_version: bool, repeat: Sequence[int]
    ) -> Rewound:
        """As `Engine.rewind`."""
        head = await self._rows.head(workflow_id)
        check_step(workflow_id, to_step, await self._reader.last_step(workflow_id))
        again = rewind_of(workflow_id, to_step)
        version = await self._repeats.version(head, again, same=same_version)
        await self._repeats.refuse(again, repeat)
        await self._refuse_running(again)
        found = await self._rewound(again, version, repeat)
        answers = [one for one in await self._reader.answers(workflow_id) if one.step < to_step]
        return Rewound(
            workflow_id=workflow_id,
            to_step=to_step,
            version=version,
            kept_as=found["about"],
            existing=found["verdict"] == "existing",
            note=" ".join(map(_stays, answers)) or None,
        )

    async def _rewound(self, again: Again, version: str, repeat: Sequence[int]) -> tables.Row:
        """Rewind the run once no worker has it: one that waits is parked soon."""
        end = anyio.current_time() + _PARKED_SECONDS
        while True:
            rows = await self._rows.change(
                "rewind_run",
                workflow_id=again.workflow_id,
                to_step=again.step,
                version=version,
                queue=QUEUE,
                repeat=list(repeat),
            )
            match rows[0]["verdict"]:
                case "rewound" | "existing":
                    return rows[0]
                case "unknown":  # deleted a moment ago
                    raise UnknownWorkflowId
                case "repeats":  # begun a moment ago
                    await self._repeats.refuse(again, repeat)
                case "child":
                    child = rows[0]["about"]
                    raise StillRunning(
                        f"{child}, which {again.workflow_id} has started, has not ended. Nothing was done.",
                        hint=f"Cancel {child}, or wait until it has ended, then call again.",
                    )
                case _:
                    late = anyio.current_time() > end
                    if late or not await self._reader.waits(again.workflow_id):
                        raise StillRunning(f"A worker has {again.workflow_id}. Nothing was done.")
                    await anyio.sleep(_POLL_SECONDS)

    async def _refuse_running(self, again: Again) -> None:
        """Refuse while a step still runs, of the run or of one that it would start again: its result would come too late."""
        rows = await self._rows.fetch(
            "children_from", workflow_id=again.workflow_id, from_step=again.step
        )
        runs = [again.workflow_id, *(row["workflow_id"] for row in rows)]
        for run, step in (await self._reader.steps_under_way(runs)).items():
            raise StillRunning(
                f"{step} of {run} still runs. Nothing was done.",
                hint="Call again once it has returned; cancel the run before, so that no other step begins.",
            )


def _stays(answer: Answer) -> str:
    """The note about an answer before the step."""
    return f"What {shown_answer(answer)} stays; a rewind to step {answer.step} asks again."

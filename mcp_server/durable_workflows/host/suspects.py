"""Finding the run that ends its worker.

If a worker ends without being asked, a run ended it that had code in progress: a step, or code between steps. Afterwards suspects are taken
up one
after the other. If the worker ends again, one of the runs taken up last is the likely cause. They are set apart, so that the others
continue at
once. In a worker apart the suspects are divided at each further end, until one is alone: it is the culprit.

All knowledge about this is in rows. Before it takes up a run, a worker judges what ended its predecessor.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from durable_workflows.database import tables
from durable_workflows.system import processes

_ENDS_HERE = 2  # ends at the same step after which a run is set apart
_ENDS = 5  # ends in all, for a run that gets a step further each time
_SURELY = 4  # ends at the same step after which a run is set apart even if others are more likely
_AT_ONCE_SECONDS = 1.0  # most culprits end their worker within this time
_PAUSE_SECONDS = 0.2  # between suspects that are taken up,
_PAUSES_SECONDS = 5.0  # and the most for all pauses
_SOON_SECONDS = 60.0
_UNEXPLAINED = (
    3  # ends in a row, soon after the start, without code in progress: then all runs are suspects
)
MOST_ALONE = 5  # ends of a worker of its own, after which a run is dead-lettered


@dataclass(frozen=True)
class Verdict:
    """Which runs are taken up with a pause, which counts as an attempt, and which are dead-lettered instead."""

    suspects: Sequence[str] = ()
    condemned: Sequence[str] = ()

    @property
    def pause_seconds(self) -> float:
        """The pause before the next suspect is taken up."""
        return min(_PAUSE_SECONDS, _PAUSES_SECONDS / max(len(self.suspects), 1))


async def judge(connection: tables.Connection, executor_id: str, *, apart: bool) -> Verdict:
    """Find the run that may have ended this worker's predecessor, and say where each run may run from now on.

    Call it before any run is taken up.
    """
    async with connection.transaction():
        await tables.run(connection, "acquit_ended")
        await tables.run(connection, "clear_left_activity")
        ends = await tables.fetch(
            connection, "take_worker_end", executor_id=executor_id, seconds=_SOON_SECONDS
        )
        if not ends:
            return Verdict()
        held = await tables.fetch(connection, "held_runs", executor_id=executor_id)
        suspects = [row for row in held if row["under_way"]]
        if apart:
            return await _judge_apart(connection, executor_id, held, suspects or held, ends[0])
        if suspects:
            noted = await _accuse(connection, suspects, ends[0])
            await _set_apart(connection, executor_id, _likely(noted, ends[0]["ended_at"]))
        elif held and await _is_one_too_many(connection, executor_id, ends[0]):
            await _set_apart(connection, executor_id, [await _accuse(connection, held, ends[0])])
        return Verdict(suspects=[row["workflow_id"] for row in suspects])


def _likely(noted: Sequence[tables.Row], ended_at: datetime) -> list[Sequence[tables.Row]]:
    """The suspects that are to be set apart, in two parts."""
    chosen = [row for row in noted if row["ends_here"] >= _ENDS_HERE or row["ends"] >= _ENDS]
    last = ended_at - timedelta(seconds=_AT_ONCE_SECONDS)
    likely = [row for row in chosen if row["taken_up_at"] > last]
    if likely and max(row["ends_here"] for row in chosen) < _SURELY:
        return [likely[:1], likely[1:]]
    return _halves(chosen)


def _halves(chosen: Sequence[tables.Row]) -> list[Sequence[tables.Row]]:
    half = (len(chosen) + 1) // 2
    return [chosen[:half], chosen[half:]]


async def _is_one_too_many(
    connection: tables.Connection, executor_id: str, end: tables.Row
) -> bool:
    """Whether this worker ends again and again without code in progress.

    A run can cause this if its wait and its step are active at the same time.
    """
    number = end["unexplained"] + 1 if end["soon"] else 0
    found = number >= _UNEXPLAINED
    await tables.run(
        connection,
        "count_unexplained",
        executor_id=executor_id,
        number=0 if found else number,
    )
    return found


async def _judge_apart(
    connection: tables.Connection,
    executor_id: str,
    held: Sequence[tables.Row],
    suspects: Sequence[tables.Row],
    end: tables.Row,
) -> Verdict:
    alone = len(suspects) == 1
    noted = await _accuse(connection, suspects, end, alone=alone)
    names = [row["workflow_id"] for row in noted]
    others = [row["workflow_id"] for row in held if row["workflow_id"] not in names]
    await tables.run(connection, "acquit", workflow_ids=others)
    if not alone:
        await _set_apart(connection, executor_id, _halves(noted))
    else:
        await tables.run(connection, "set_apart", workflow_ids=names, executor_id=executor_id)
    if alone and noted[0]["alone"] % MOST_ALONE == 0:  # a resumed run has as many again
        return Verdict(condemned=names)
    return Verdict(suspects=names)


async def _accuse(
    connection: tables.Connection,
    suspects: Sequence[tables.Row],
    end: tables.Row,
    *,
    alone: bool = False,
) -> list[tables.Row]:
    """Note that they were there, and return each with the number of its ends so far, in the order given."""
    rows = [{key: row[key] for key in ("workflow_id", "after_step", "step")} for row in suspects]
    noted = await tables.fetch(
        connection, "accuse", rows=json.dumps(rows), status=end["status"], alone=int(alone)
    )
    by_id = {row["workflow_id"]: row for row in noted}
    return [row | by_id[row["workflow_id"]] for row in suspects]


async def _set_apart(
    connection: tables.Connection, executor_id: str, parts: Sequence[Sequence[tables.Row]]
) -> None:
    """Give each part a worker apart: a new one, since its executor id determines what it recovers."""
    identity, version = executor_id.split("-")[0], executor_id.rpartition("-")[2]
    for part in parts:
        if part:
            await tables.run(
                connection,
                "set_apart",
                workflow_ids=[row["workflow_id"] for row in part],
                executor_id=processes.executor_id(identity, version, secrets.token_hex(3)),
            )

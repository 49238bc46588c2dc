"""All about one run, read in one snapshot: for `inspect`, the traces and `run`."""

import functools
from collections.abc import Iterable, Mapping
from typing import TypeVar

from durable_workflows import wording
from durable_workflows.database.tables import Fetch, Row
from durable_workflows.engine import records
from durable_workflows.models import (
    MOST_ATTEMPTS,
    MOST_EFFECTS,
    MOST_EVENTS,
    STOPPED,
    UNFINISHED,
    Attempt,
    Fork,
    Model,
    QueuePlace,
    Rest,
    Rewind,
    Run,
    RunningStep,
    Step,
    StepEffect,
    Waiting,
)
from durable_workflows.settings import PARKED
from durable_workflows.system import processes, state

_MAX_STEPS = 1000  # in one answer
_LAST_STEPS = 20
_HOLDERS = 6  # runs in the places of a queue that are listed

M = TypeVar("M", bound=Model)


async def read(
    fetch: Fetch, report: Mapping[str, str], workflow_id: str, *, preview: int, after_step: int
) -> Run | None:
    """The run with its steps, waits, children, forks, events and answers, or None if there is no such run.

    `fetch` runs a named statement, all in one snapshot; `report` has the notes of this machine's supervisor. Payloads are cut to `preview`
    characters.
    """
    ask = functools.partial(fetch, workflow_id=workflow_id)
    rows = await ask("run_details", limit=preview)
    if not rows:
        return None
    row = rows[0]
    accused = await ask("run_suspect")
    apart = accused[0]["executor_id"] if accused else None
    worker = records.worker_of(row["version"], apart, await fetch("workers"))
    is_alive = worker is not None and worker.alive
    return Run(
        **records.own_fields(row),
        steps=await _steps(ask, after_step, preview),
        running=await _running(ask, row, is_alive=is_alive),
        waiting=await _waits(ask, row),
        children=[*map(records.child, await ask("run_descendants"))],
        stopped_children=await _stopped_children(fetch, row),
        forks=_as(Fork, await ask("run_forks")),
        rewinds=_as(Rewind, await ask("run_rewinds")),
        events=[*map(records.event, await ask("run_events", limit=preview, count=MOST_EVENTS))],
        answers=[*map(records.answer, await ask("run_answers", limit=preview))],
        effects=_as(StepEffect, await ask("run_effects", count=MOST_EFFECTS)),
        attempts=_as(Attempt, await ask("run_attempts", count=MOST_ATTEMPTS)),
        worker=worker,
        newest_version=await newest_version(fetch),
        unavailable=await _why_unavailable(fetch, row),
        place=await _place(ask, row),
        absence=None if is_alive else await _absence(fetch, report, row, apart),
        suspect=records.suspect(accused[0]) if accused else None,
        rest=await _rest(ask, row),
    )


async def newest_version(fetch: Fetch) -> str | None:
    """The newest version of the code, if one is saved."""
    rows = await fetch("newest_version")
    return rows[0]["version"] if rows else None


def _as(model: type[M], rows: Iterable[Row]) -> list[M]:
    return [model.model_validate(row) for row in rows]


async def _running(ask: Fetch, row: Row, *, is_alive: bool) -> list[RunningStep]:
    """The steps that run now. A step of a cancelled run continues until it returns, if its worker lives."""
    if row["status"] in UNFINISHED or (row["status"] == "CANCELLED" and is_alive):
        return _as(RunningStep, await ask("run_running"))
    return []


async def _rest(ask: Fetch, row: Row) -> Rest | None:
    if row["executor_id"] != PARKED:
        return None
    rows = await ask("run_rest")
    return Rest.model_validate(rows[0]) if rows else None


async def _waits(ask: Fetch, row: Row) -> list[Waiting]:
    if row["status"] not in UNFINISHED:
        return []
    return [records.open_in(one, one) for one in await ask("run_waits")]


async def _steps(ask: Fetch, after_step: int, preview: int) -> list[Step]:
    """The steps after `after_step`. If there are more than a thousand: the first ones, the last ones, and the last failed one."""
    steps = await ask("run_steps", after=after_step, limit=preview, count=_MAX_STEPS)
    if len(steps) == _MAX_STEPS:  # the most important steps may be beyond
        steps += await ask("failed_steps", limit=preview)
        steps += await ask("last_steps", limit=preview, count=_LAST_STEPS)
    found = {step["step"]: step for step in steps}
    return [records.step(found[number]) for number in sorted(found)]


async def _stopped_children(fetch: Fetch, row: Row) -> int:
    if row["status"] not in STOPPED:
        return 0
    ids = [row["workflow_id"]]
    rows = await fetch("descendants_in", workflow_ids=ids, statuses=list(STOPPED))
    return rows[0]["runs"] if rows else 0


async def _why_unavailable(fetch: Fetch, row: Row) -> str | None:
    """The reason why the code of an unfinished run cannot run."""
    if row["status"] not in UNFINISHED or row["version"] is None:
        return None
    rows = await fetch("catalog_entry", version=row["version"], name=row["name"])
    if rows:
        return rows[0]["error"]
    lost = (await fetch("is_orphan", workflow_id=row["workflow_id"]))[0]["found"]
    return f"there is no workflow {row['name']!r} in this version" if lost else None


async def _place(ask: Fetch, row: Row) -> QueuePlace | None:
    """The place of an enqueued run in its queue."""
    if row["status"] != "ENQUEUED":
        return None
    rows = await ask("queue_place", count=_HOLDERS)
    return records.queue_place(rows[0]) if rows else None


async def _absence(
    fetch: Fetch, report: Mapping[str, str], row: Row, apart: str | None
) -> str | None:
    """What this machine's supervisor says about a version's worker, if none runs."""
    if row["version"] in report.get("waiting_versions", "").split():
        return wording.NO_PLACE
    which = processes.apart_of(apart) if apart else ""
    said = report.get(state.worker_entry(row["version"], which), "")
    if said.startswith("running"):  # it ended a moment ago, or is not up yet
        rows = await fetch("version_states", version=row["version"])
        note = rows[0]["note"] if rows else None
        return f"it is being started: {note}" if note else "it is being started"
    return f"the last one {said}" if said else None

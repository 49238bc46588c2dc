"""Stopping runs, and letting stopped runs continue."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import anyio

from durable_workflows import wording
from durable_workflows.database import tables
from durable_workflows.engine import records
from durable_workflows.engine.calls import Calls
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.models import STOPPED, UNFINISHED, Changed, ChangedList

_SEEN_SECONDS = 1.0  # after which the steps on other machines' workers are known


class Stopper:
    """Cancels and resumes runs."""

    def __init__(self, rows: Rows, calls: Calls, reader: Reader) -> None:
        self._rows = rows
        self._calls = calls
        self._reader = reader

    async def cancel(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """As `Engine.cancel`."""
        active = await self._cancel(workflow_ids)
        targets = list(workflow_ids)
        if children:  # now that they start no more runs
            targets = await self._with_descendants(workflow_ids)
            active |= await self._cancel(targets)
        notes = dict.fromkeys(active, "cancelled")
        for one, step in (await self._reader.steps_under_way(list(active))).items():
            notes[one] += f"; {step} still runs until it returns, and its result is kept"
        if not children:
            going_on = await self._descendants_in(list(active), UNFINISHED)
            for one, (number, first) in going_on.items():
                more = f"{first} goes on" if number == 1 else f"{number:,} runs go on"
                notes[one] += f"; {more} (children=true also cancels what it started)"
        left = dict.fromkeys((one for one in targets if one not in active), "it had already ended")
        return await self._changed(notes, left, workflow_ids, "had already ended")

    async def _descendants_in(
        self, workflow_ids: Sequence[str], statuses: Iterable[str]
    ) -> dict[str, tuple[int, str]]:
        """For each run with such child runs: their number, and one of them."""
        rows = await self._rows.fetch(
            "descendants_in", workflow_ids=list(workflow_ids), statuses=list(statuses)
        )
        return {row["root"]: (row["runs"], row["first"]) for row in rows}

    async def _cancel(self, workflow_ids: Sequence[str]) -> set[str]:
        """Cancel the runs that have not ended; return them."""
        heads = await self._rows.heads(workflow_ids)
        active = [one for one in workflow_ids if heads[one]["status"] in UNFINISHED]
        if active:
            await self._calls.limited(lambda client: client.cancel(active))
        return set(active)

    async def resume(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """As `Engine.resume`."""
        targets = await self._with_descendants(workflow_ids) if children else list(workflow_ids)
        heads = await self._rows.heads(targets)
        able = [one for one in targets if heads[one]["status"] in STOPPED]
        busy, left = await self._busy([heads[one] for one in able])
        able = [one for one in able if one not in left]
        await self._resume([heads[one] for one in able])
        notes = dict.fromkeys(able, "resumed")
        for one, step in busy.items():
            notes[one] += f"; it goes on once {step}, which still runs from before, has returned"
        if not children:
            stopped = await self._descendants_in(able, STOPPED)
            for one, (number, first) in stopped.items():
                which = (
                    f"{first}, which it started, stays"
                    if number == 1
                    else f"{number:,} runs that it started stay"
                )
                notes[one] += (
                    f"; {which} stopped, and it takes that as their end (children=true also resumes what it started)"
                )
        other = "only cancelled and dead-lettered runs can be resumed; fork a failed one"
        left = dict.fromkeys((one for one in targets if one not in notes), other) | left
        return await self._changed(notes, left, workflow_ids, "were not stopped")

    async def _busy(self, heads: Sequence[tables.Row]) -> tuple[dict[str, str], dict[str, str]]:
        """The runs with a step that is still running.

        Some can begin after it: they come with the step. The others come with a note.
        A worker knows its own steps. Another worker might take the run, and would do the step at the same time.
        """
        known = records.workers(await self._rows.fetch("workers"))
        workers = Counter(worker.version for worker in known if worker.alive)
        shared = {head["workflow_id"] for head in heads if workers[head["version"]] > 1}
        if shared:
            await anyio.sleep(_SEEN_SECONDS)
        steps = await self._reader.steps_under_way([head["workflow_id"] for head in heads])
        busy = {one: step for one, step in steps.items() if one not in shared}
        note = "{} still runs from before; resume it once that has returned"
        return busy, {one: note.format(step) for one, step in steps.items() if one in shared}

    async def _resume(self, heads: Sequence[tables.Row]) -> None:
        """Resume runs in the opposite order: a run must find the runs that it waits for active.

        Each goes into its queue: in a limited queue, runs that wait for others must not take all places.
        """
        for queue, group in itertools.groupby(reversed(heads), lambda head: head["queue"]):
            await self._put_back([head["workflow_id"] for head in group], queue)

    async def _put_back(self, workflow_ids: Sequence[str], queue: str) -> None:
        await self._calls.limited(lambda client: client.resume(workflow_ids, queue))

    async def _changed(
        self,
        changed: dict[str, str],
        left: Mapping[str, str],
        named: Sequence[str],
        why_left: str,
    ) -> ChangedList:
        """The note on each run, and why others were left unchanged; of the runs that the caller did not name only the number."""
        said = {**left, **changed}
        notes = {one: said[one] for one in named if one in said} | changed
        heads = await self._rows.heads(list(notes))
        unnamed = len(left.keys() - set(named))
        runs = f"{wording.counted(unnamed, 'run')} that these started"
        return ChangedList(
            workflows=[
                Changed(
                    workflow_id=one,
                    changed=one in changed,
                    status=heads[one]["status"],
                    note=note,
                )
                for one, note in notes.items()
            ],
            note=f"{runs} {why_left}." if unnamed else None,
        )

    async def _with_descendants(self, workflow_ids: Sequence[str]) -> list[str]:
        found = dict.fromkeys(workflow_ids)
        for workflow_id in workflow_ids:
            rows = await self._rows.fetch("descendant_ids", workflow_id=workflow_id)
            found.update(dict.fromkeys(row["workflow_id"] for row in rows))
        return list(found)

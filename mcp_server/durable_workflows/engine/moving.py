"""Moving unfinished runs to another version of the code: each goes on there if its recorded steps fit that code.

First the steps are rehearsed, which executes nothing. Then one statement moves each run under a lock on its row, unless the run has gone on meanwhile.
What is not safe stays on its version, and the answer says why.
"""

import time
from collections.abc import Mapping, Sequence

import anyio

from durable_workflows import actions, fitting, wording
from durable_workflows.code import versions
from durable_workflows.database import tables
from durable_workflows.engine import records
from durable_workflows.engine.published import Published
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rehearsing import Rehearser
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import Moved, MovedList, MoveFilter, Rehearsal
from durable_workflows.settings import APPLICATION, LATEST

_MOST = 100  # runs of one call, without those that they started
_LEAVING_SECONDS = 3.0  # beyond the setting, until runs that wait are parked
_LONGEST_SECONDS = 15.0
_POLL_SECONDS = 0.2
_WHY = {
    "ended": "it has ended",
    "there": "it has this version already",
    "busy": "it is being changed at this moment: call again",
    "changed": "it has gone on meanwhile: call again",
    "held": "a process has just taken it up: call again",
}

Names = Mapping[str, str]


class Mover:
    """Moves runs to another version of the code."""

    def __init__(
        self, rows: Rows, published: Published, reader: Reader, rehearser: Rehearser
    ) -> None:
        self._rows = rows
        self._published = published
        self._reader = reader
        self._rehearser = rehearser

    async def move(
        self,
        workflow_ids: Sequence[str] | None,
        chosen: MoveFilter | None,
        version: str,
        *,
        dry_run: bool,
    ) -> MovedList:
        """As `Engine.move_to_version`."""
        if (workflow_ids is None) == (chosen is None):
            raise InvalidArguments(
                "Give either workflow_ids or filter. Nothing was done.",
                hint='Pass {"workflow_ids": ["…"]} for some runs, {"filter": {"name": "…"}} for those of one workflow, or {"filter": {}} for all unfinished runs.',
            )
        target = await self._target(version)
        ids = list(dict.fromkeys(workflow_ids or ()))
        if chosen is not None:
            ids = await self._found(chosen, target)
        there, left = ids[:_MOST], len(ids) > _MOST
        await self._rows.heads(there)
        runs = await self._runs(there, target, dry_run=dry_run)
        told = await self._judged(runs, target)
        if not dry_run:
            told = await self._moved(runs, told, target)
        return MovedList(
            version=target,
            dry_run=dry_run,
            workflows=[told[run["workflow_id"]] for run in runs],
            note=_summary(list(told.values()), dry_run=dry_run, more=left),
        )

    async def _target(self, version: str) -> str:
        """The version that the runs shall have."""
        if version == LATEST:
            return await self._published.newest()
        async with self._rows.connected() as connection:
            state, _ = await versions.state(connection, version) or ("", None)
        if state != "ready":
            raise InvalidArguments(
                f"There is no version {version!r} of the code that a worker has loaded. Nothing was done.",
                hint="Omit version for the newest, or pass one that inspect or server_status shows.",
            )
        return version

    async def _found(self, chosen: MoveFilter, target: str) -> list[str]:
        """The runs of a filter, one more than are moved at once."""
        rows = await self._rows.fetch(
            "runs_of_other_versions",
            application=APPLICATION,
            version=target,
            name=chosen.name,
            of_version=chosen.version,
            status=chosen.status,
            since=records.milliseconds(chosen.since),
            limit=_MOST + 1,
        )
        return [row["workflow_id"] for row in rows]

    async def _runs(self, ids: Sequence[str], target: str, *, dry_run: bool) -> list[tables.Row]:
        """The runs, and those of other versions that they started.

        Before a move, runs that wait in memory get the time to be parked.
        """
        after = self._rows.settings.park_after_seconds
        seconds = min(after + _LEAVING_SECONDS, _LONGEST_SECONDS) if after and not dry_run else 0.0
        deadline = time.monotonic() + seconds
        while True:
            found = await self._rows.fetch("movable_runs", workflow_ids=list(ids))
            runs = [run for run in found if run["is_named"] or run["version"] != target]
            held = [run["workflow_id"] for run in runs if _is_held(run, target)]
            busy = await self._reader.steps_under_way(held) if held else {}
            if len(busy) == len(held) or time.monotonic() >= deadline:
                return runs
            await anyio.sleep(_POLL_SECONDS)

    async def _judged(self, runs: Sequence[tables.Row], target: str) -> dict[str, Moved]:
        """What a move means for each run, as it is now."""
        told = {run["workflow_id"]: _stays(run, why) for run in runs if (why := _why(run, target))}
        able = [run for run in runs if run["workflow_id"] not in told]
        ids = [run["workflow_id"] for run in able]
        rehearsed = await self._rehearser.rehearse(ids, target) if ids else []
        under_way = await self._reader.steps_under_way(ids) if ids else {}
        newest = await self._rows.fetch("newest_version")
        is_newest = bool(newest) and newest[0]["version"] == target
        for run, rehearsal in zip(able, rehearsed, strict=True):
            said = _judgement(run, rehearsal, forkable=is_newest)
            if said.verdict == "safe":
                held = self._held(run, under_way)
                said = said.model_copy(update={"note": held})
            told[run["workflow_id"]] = said
        return told

    def _held(self, run: tables.Row, under_way: Names) -> str | None:
        """Why a run cannot be moved at this moment although its steps fit."""
        step = under_way.get(run["workflow_id"])
        if step is not None:
            return f"{step} runs now: call again once it has returned"
        if run["state"] != "held":
            return None
        seconds = self._rows.settings.park_after_seconds
        if not seconds:
            return "a process has it, and runs are not parked here (park_after_seconds is 0): it stays until it ends"
        return f"a process has it: it is moved once it has waited for {seconds:g} s and is parked; call again. A run of @does_not_park, or whose wait ends within a minute, is never parked"

    async def _moved(
        self, runs: Sequence[tables.Row], told: Mapping[str, Moved], target: str
    ) -> dict[str, Moved]:
        """Move what is safe, if it is still as it was rehearsed."""
        safe = [run for run in runs if told[run["workflow_id"]].verdict == "safe"]
        free = [run for run in safe if told[run["workflow_id"]].note is None]
        given = [
            {
                "run_id": run["workflow_id"],
                "version": run["version"],
                "steps": run["steps"],
                "last": run["last"],
            }
            for run in free
        ]
        rows = (
            await self._rows.change("move_runs", runs=fitting.json_text(given), version=target)
            if given
            else []
        )
        verdicts = {row["workflow_id"]: row["verdict"] for row in rows}
        said = dict(told)
        for run in safe:
            one = run["workflow_id"]
            verdict = verdicts.get(one)
            if verdict == "moved":
                said[one] = told[one].model_copy(update={"verdict": "moved", "version": target})
            else:
                said[one] = _stays(run, _WHY[verdict] if verdict else str(told[one].note))
        return said


def _is_held(run: tables.Row, target: str) -> bool:
    return run["state"] == "held" and run["version"] != target


def _why(run: tables.Row, target: str) -> str | None:
    """Why a run stays, whatever its steps are."""
    if run["state"] == "ended":
        return _WHY["ended"]
    return _WHY["there"] if run["version"] == target else None


def _stays(run: tables.Row, why: str) -> Moved:
    return Moved(
        workflow_id=run["workflow_id"],
        name=run["name"],
        verdict="stays",
        version=run["version"],
        note=why,
    )


def _judgement(run: tables.Row, rehearsal: Rehearsal, *, forkable: bool) -> Moved:
    """A rehearsal as the verdict on a move."""
    if rehearsal.verdict == "unknown":
        return _stays(run, rehearsal.note or "its steps could not be replayed on that code")
    said = Moved(
        workflow_id=run["workflow_id"],
        name=run["name"],
        verdict=rehearsal.verdict,
        version=run["version"],
        step=rehearsal.step,
        recorded=rehearsal.recorded,
        called=rehearsal.called,
        note=rehearsal.note,
    )
    if rehearsal.verdict == "safe" or rehearsal.step is None or not forkable:
        return said
    fork = actions.call(
        "fork", workflow_id=run["workflow_id"], from_step=rehearsal.step, cancel_original=True
    )
    return said.model_copy(update={"note": f"it stays; to go on with the new code: {fork}"})


def _summary(told: Sequence[Moved], *, dry_run: bool, more: bool) -> str:
    """The numbers."""
    if not told:
        return "No unfinished run has another version."
    able = sum(one.verdict in ("safe", "moved") for one in told)
    stay = len(told) - able
    could = "can be moved" if dry_run else "moved"
    stays = f", {stay:,} {'stays' if stay == 1 else 'stay'}" if stay else ""
    said = f"{wording.counted(able, 'run')} {could}{stays}."
    return f"{said} There are more: call again for the next." if more else said

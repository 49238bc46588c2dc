"""Deleting ended runs: those that are named, and those of a choice."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from durable_workflows import wording
from durable_workflows.database import retention, space
from durable_workflows.engine.rows import Rows
from durable_workflows.models import Changed, ChangedList, Pruned

_WHY = {
    "unfinished": "{about} has not ended: cancel it first, or wait until it has",
    "busy": "{about} is being changed at this moment: call again",
    "parent": "{about}, which started it, is kept: delete that with children=true",
    "forked": "{about} has not ended, and was forked from it or from a run that it started",
    "awaited": "{about} waits for it, or for a run that it started",
    "named": "{about} has it, or a run that it started, among its steps: delete both in one call",
}


class Deleter:
    """Deletes runs."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def delete(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """As `Engine.delete`."""
        heads = await self._rows.heads(workflow_ids)
        notes = {} if children else await self._with_others(workflow_ids)
        roots = [one for one in heads if one not in notes]
        number = 0
        kept: set[str] = set(notes)
        async for row in retention.delete(await self._rows.lasting(), roots):
            number += row["runs"] if row["verdict"] == retention.DELETED else 0
            if row["verdict"] != retention.DELETED:
                kept.add(row["workflow_id"])
                notes[row["workflow_id"]] = _WHY[row["verdict"]].format(about=row["about"])
        changed = [
            Changed(
                workflow_id=one,
                changed=one not in kept,
                status=heads[one]["status"],
                note=notes.get(one, "deleted"),
            )
            for one in heads
        ]
        deleted = f"{wording.counted(number, 'run')} deleted, with those that they had started."
        return ChangedList(workflows=changed, note=deleted if children and number else None)

    async def _with_others(self, workflow_ids: Sequence[str]) -> dict[str, str]:
        """A note for each run that started others that the caller does not name."""
        notes: dict[str, str] = {}
        for one in workflow_ids:
            rows = await self._rows.fetch("descendant_ids", workflow_id=one)
            others = {row["workflow_id"] for row in rows} - set(workflow_ids)
            if others:
                runs = wording.counted(len(others), "run")
                notes[one] = f"it started {runs}: children=true deletes them with it"
        return notes

    async def prune(
        self,
        older_than: timedelta,
        *,
        status: str | None = None,
        name: str | None = None,
        keep_last: int = 0,
        dry_run: bool = False,
    ) -> Pruned:
        """As `Engine.prune`."""
        rows = await self._rows.lasting()
        moment = datetime.now(UTC) - older_than
        choice = retention.Choice(moment, status=status, name=name, keep_last=keep_last)
        before = await self._rows.database_bytes()
        pruned = await retention.prune(rows, choice, really=not dry_run)
        if dry_run:
            return pruned
        await rows.fetch("prune_versions")
        await space.shrink(rows, quick=True)
        return pruned.model_copy(
            update={"freed_bytes": max(before - await self._rows.database_bytes(), 0)}
        )

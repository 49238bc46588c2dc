"""Which runs of a project are deleted, and which must stay: an ended run is deleted with all runs that it started, or not at all.

`on_dbos.sql` has the statements that decide and delete. A tree of runs stays while one of its runs has not ended, while a kept run started
one of them or took its result, and while an unfinished run was forked from one of them or waits for one.
"""

import json
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from durable_workflows.database import space, tables
from durable_workflows.models import Kept, Pruned
from durable_workflows.settings import APPLICATION, Settings

_TREES = 500  # in one statement
_FIRST_TREES = 20  # in the first statement: it takes ten times as long as a later one, whose code PGlite has compiled
_RUNS = 500  # in one statement, during which the other clients of the embedded database wait
_KEEP_SESSIONS = timedelta(days=90)
_VACUUM_RUNS = 20_000  # deleted runs: a vacuum of many more would make other clients wait
DELETED, LATER = "deleted", "later"  # verdicts
_MAY_FOLLOW = {"named", "parent"}  # reasons that may disappear when other trees are deleted


@dataclass(frozen=True)
class Choice:
    """A choice of trees of ended runs, by their roots.

    Chosen are the trees without a change since `older_than`, with this status and name if given, except the newest `keep_last` of each
    workflow.
    """

    older_than: datetime
    status: str | None = None
    name: str | None = None
    keep_last: int = 0


async def delete(
    rows: tables.LastingConnection,
    roots: Iterable[str],
    *,
    older_than: datetime | None = None,
    really: bool = True,
) -> AsyncGenerator[tables.Row]:
    """Delete the trees of these runs, some hundred runs at a time. Yields rows of `delete_trees`, as they come; several for a large tree.

    Runs that refer to each other are deleted if they are given together and fit in one statement. A tree of more than 500 runs is deleted
    in several
    statements, from the top: an interruption leaves whole trees.

    Raises:
        DatabaseUnavailable: the database does not answer; some trees may be deleted.
    """
    waiting = deque(roots)
    while waiting:
        batch = [waiting.popleft() for _ in range(min(_TREES, len(waiting)))]
        about = {"roots": batch, "older_than": older_than, "most": _RUNS, "really": really}
        found = await rows.fetch("delete_trees", **about)
        waiting.extendleft(row["workflow_id"] for row in reversed(found) if row["verdict"] == LATER)
        for row in found:
            if row["verdict"] != LATER:
                yield row


async def prune(rows: tables.LastingConnection, choice: Choice, *, really: bool = True) -> Pruned:
    """Delete the trees of a choice; without `really`, only count them. Errors as for `delete`."""
    trees, runs = 0, 0
    while True:
        once = await _prune_once(rows, choice, really=really)
        trees, runs = trees + once.trees, runs + once.runs
        if not (really and once.trees and once.kept.keys() & _MAY_FOLLOW):
            break
    if really:
        await space.vacuum(rows)
    return Pruned(runs=runs, trees=trees, dry_run=not really, kept=list(once.kept.values()))


async def prune_old(rows: tables.LastingConnection, settings: Settings) -> int:
    """Delete the runs that are too old by the settings, and leftovers of deleted runs; give the space back. Errors as for `delete`.

    Return how many runs were deleted.
    """
    now, runs = datetime.now(UTC), 0
    if settings.keep_days is not None:
        choice = Choice(now - timedelta(days=settings.keep_days))
        runs = (await prune(rows, choice)).runs
    if settings.keep_answers_days is not None:
        older_than = now - timedelta(days=settings.keep_answers_days)
        await rows.fetch("prune_answers", older_than=older_than)
    await rows.fetch("prune_versions")
    await rows.fetch("prune_sessions", older_than=now - _KEEP_SESSIONS)
    await space.shrink(rows, quick=True)
    return runs


@dataclass
class _Count:
    trees: int = 0
    runs: int = 0
    kept: dict[str, Kept] = field(default_factory=dict[str, Kept])

    def add(self, row: tables.Row, roots: Collection[str]) -> None:
        verdict = row["verdict"]
        if verdict == DELETED:
            self.trees += row["workflow_id"] in roots  # but not a lower part of a large tree
            self.runs += row["runs"]
            return
        first = Kept(reason=verdict, trees=0, workflow_id=row["workflow_id"], about=row["about"])
        kept = self.kept.get(verdict, first)
        self.kept[verdict] = kept.model_copy(update={"trees": kept.trees + 1})


async def _prune_once(rows: tables.LastingConnection, choice: Choice, *, really: bool) -> _Count:
    count, vacuumed = _Count(), 0
    async with aclosing(_roots(rows, choice)) as pages:
        async for page in pages:
            verdicts = delete(rows, page, older_than=choice.older_than, really=really)
            async with aclosing(verdicts):
                async for row in verdicts:
                    count.add(row, page)
            if really and count.runs >= vacuumed + _VACUUM_RUNS:
                await space.vacuum(rows)
                vacuumed = count.runs
    return count


async def _roots(rows: tables.LastingConnection, choice: Choice) -> AsyncGenerator[list[str]]:
    """The roots of a choice, the oldest first, page by page."""
    spared: list[tables.Row] = []
    if choice.keep_last:
        about = {"application": APPLICATION, "number": choice.keep_last}
        spared = await rows.fetch("newest_roots", **about)
    after, after_id, count = -1, "", _FIRST_TREES
    while True:
        found = await rows.fetch(
            "prunable_roots",
            application=APPLICATION,
            older_than=choice.older_than,
            status=choice.status,
            name=choice.name,
            spared=json.dumps(spared),
            after=after,
            after_id=after_id,
            limit=count,
        )
        if not found:
            return
        yield [row["workflow_id"] for row in found]
        after, after_id, count = found[-1]["created_at"], found[-1]["workflow_id"], _TREES

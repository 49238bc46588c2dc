"""Lists of runs: which of them, in which order, and page by page."""

import base64
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC
from typing import Unpack

from durable_workflows.database.tables import Row
from durable_workflows.engine import records
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import RunSummary, Wanted
from durable_workflows.settings import APPLICATION

_NO_RUN = ""  # the parent of a run that no other started
_PAGE = 200  # runs that are read at a time, where all are wanted
_OLDEST = "oldest first"  # in a cursor


@dataclass(frozen=True)
class Page:
    """Some runs of a list, and where the next page begins, if there is one."""

    runs: list[RunSummary]
    next_cursor: str | None


async def page(rows: Rows, *, limit: int, cursor: str | None, **wanted: Unpack[Wanted]) -> Page:
    """A page of runs, newest first if nothing else is wanted; `cursor` is the `next_cursor` of the page before.

    Raises:
        InvalidArguments, UnknownWorkflowId, DatabaseUnavailable
    """
    oldest_first = wanted.get("oldest_first", False)
    edge, edge_id = _read_cursor(cursor, oldest_first=oldest_first)
    since = wanted.get("since")
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    found = await rows.fetch(
        "list_runs",
        application=APPLICATION,
        status=wanted.get("status"),
        name=wanted.get("name"),
        parent=await _parent(rows, wanted),
        waiting=wanted.get("waiting"),
        since=records.milliseconds(since),
        edge=edge,
        edge_id=edge_id,
        oldest_first=oldest_first,
        limit=limit + 1,
    )
    runs = [records.run_summary(row) for row in found[:limit]]
    last = found[limit - 1] if len(found) > limit else None
    return Page(runs, _write_cursor(last, oldest_first=oldest_first) if last else None)


async def pages(rows: Rows, **wanted: Unpack[Wanted]) -> AsyncGenerator[list[RunSummary]]:
    """All runs, some at a time; errors as for `page`."""
    cursor = None
    while True:
        found = await page(rows, limit=_PAGE, cursor=cursor, **wanted)
        yield found.runs
        cursor = found.next_cursor
        if cursor is None:
            return


async def _parent(rows: Rows, wanted: Wanted) -> str | None:
    parent = wanted.get("parent")
    if not wanted.get("roots"):
        if parent is not None:
            await rows.head(parent)
        return parent
    if parent is not None:
        raise InvalidArguments(
            "roots and parent were given: no run started the roots.",
            hint="Pass one of them: roots for runs that no other run started, or parent for those that one run started.",
        )
    return _NO_RUN


def _write_cursor(row: Row, *, oldest_first: bool) -> str:
    """Where a page of runs ended."""
    order = [_OLDEST] if oldest_first else []
    text = json.dumps([row["created_at"], row["workflow_id"], *order])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str | None, *, oldest_first: bool) -> tuple[int | None, str | None]:
    """What `_write_cursor` wrote, for a list in the same order.

    Raises:
        InvalidArguments: it did not write this, or for a list in the other order.
    """
    if cursor is None:
        return None, None
    try:
        created_at, workflow_id, *order = json.loads(base64.urlsafe_b64decode(cursor))
        edge = int(created_at), str(workflow_id)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArguments(
            f"{cursor!r} is not a cursor.",
            hint="Pass the next_cursor of the previous page, or omit it for the first page.",
        ) from error
    if oldest_first != (order == [_OLDEST]):
        which, how = ("newest", "without") if oldest_first else ("oldest", "with")
        raise InvalidArguments(
            f"This cursor is of a list that begins with the {which} runs.",
            hint=f"Pass it {how} oldest_first, as for the previous page, or omit it for the first page.",
        )
    return edge

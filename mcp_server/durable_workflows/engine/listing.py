"""Lists of runs: which of them, in which order, and page by page."""

import base64
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Unpack

from durable_workflows.database.tables import Row
from durable_workflows.engine import records
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import RunSummary, Wanted
from durable_workflows.settings import APPLICATION

_NO_RUN = ""  # the parent of a root run
_PAGE = 200  # runs that are read at a time if all are wanted
_OLDEST = "oldest first"  # in a cursor
# The limits of a search for a page of runs with a text, which has no index.
_LOOKED_RUNS = 2_000
_LOOKED_BYTES = 5_000_000


@dataclass(frozen=True)
class Page:
    """Some runs of a list, and the beginning of the next page, if there is one.

    `looked_through` counts the runs that were searched for a text.
    """

    runs: list[RunSummary]
    next_cursor: str | None
    looked_through: int | None = None


async def page(rows: Rows, *, limit: int, cursor: str | None, **wanted: Unpack[Wanted]) -> Page:
    """A page of runs, newest first by default; `cursor` is the `next_cursor` of the page before.

    For a text it searches at most 2,000 runs, and at most 5 MB of records: such a page may have few runs or none, and yet a next page.

    Raises:
        InvalidArguments, UnknownWorkflowId, DatabaseUnavailable
    """
    oldest_first = wanted.get("oldest_first", False)
    asked = await _asked(rows, cursor, wanted)
    if text := wanted.get("text"):
        return await _page_with_text(rows, asked, text, limit=limit)
    found = await rows.fetch("list_runs", **asked, workflow_ids=[], limit=limit + 1)
    runs = [records.run_summary(row) for row in found[:limit]]
    last = found[limit - 1] if len(found) > limit else None
    return Page(runs, _write_cursor(last, oldest_first=oldest_first) if last else None)


async def _page_with_text(
    rows: Rows, asked: Mapping[str, object], text: str, *, limit: int
) -> Page:
    """As `page`. The text is also found in its JSON form, with escaped quotes and line feeds."""
    found = await rows.fetch(
        "runs_with_text",
        **asked,
        text=text,
        escaped=json.dumps(text, ensure_ascii=False)[1:-1],
        limit=limit,
        most=_LOOKED_RUNS,
        most_bytes=_LOOKED_BYTES,
    )
    if not found:
        return Page([], None, 0)
    ids = [row["workflow_id"] for row in found if row["matches"]]
    last = found[limit - 1] if len(ids) == limit else found[-1]
    goes_on = last["goes_on"] or last["place"] < found[-1]["place"]
    shown = await rows.fetch("list_runs", **asked, workflow_ids=ids, limit=0) if ids else []
    return Page(
        [records.run_summary(row) for row in shown],
        _write_cursor(last, oldest_first=bool(asked["oldest_first"])) if goes_on else None,
        last["place"],
    )


async def _asked(rows: Rows, cursor: str | None, wanted: Wanted) -> Mapping[str, object]:
    """The values of a statement that lists runs."""
    oldest_first = wanted.get("oldest_first", False)
    edge, edge_id = _read_cursor(cursor, oldest_first=oldest_first)
    since = wanted.get("since")
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return {
        "application": APPLICATION,
        "status": wanted.get("status"),
        "name": wanted.get("name"),
        "version": wanted.get("version"),
        "started_by": wanted.get("started_by"),
        "parent": await _parent(rows, wanted),
        "waiting": wanted.get("waiting"),
        "since": records.milliseconds(since),
        "edge": edge,
        "edge_id": edge_id,
        "oldest_first": oldest_first,
    }


async def pages(rows: Rows, **wanted: Unpack[Wanted]) -> AsyncGenerator[list[RunSummary]]:
    """All runs, in parts; errors as for `page`."""
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
    """The place where a page of runs ended."""
    order = [_OLDEST] if oldest_first else []
    text = json.dumps([row["created_at"], row["workflow_id"], *order])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str | None, *, oldest_first: bool) -> tuple[int | None, str | None]:
    """The content of a `_write_cursor`, for a list in the same order.

    Raises:
        InvalidArguments: it is not from `_write_cursor`, or is for a list in the other order.
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

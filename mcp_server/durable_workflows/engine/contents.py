"""The contents of runs, in pages and whole: steps, payloads and streams of one run, and the waits of all runs.

For readers with room for it.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from durable_workflows import limits, topics
from durable_workflows.database import marks
from durable_workflows.database.marks import Marks, Wanted
from durable_workflows.database.tables import Row
from durable_workflows.engine import records
from durable_workflows.engine.rows import Rows
from durable_workflows.models import (
    MOST_STREAM_VALUES,
    InboxItem,
    OpenWait,
    Preview,
    Step,
    Stream,
    StreamValue,
)
from durable_workflows.settings import PERSON

_WAITS = 500
_CLOSED = '"__DBOS_STREAM_CLOSED__"'  # dbos's mark at the end of a stream


class Contents:
    """The contents of the runs of one project."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def steps(
        self, workflow_id: str, *, after: int, count: int, preview: int = limits.PREVIEW
    ) -> list[Step]:
        """The first `count` finished steps with a number above `after`, payloads cut to `preview` characters, errors to 6,000.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        await self._rows.head(workflow_id)
        rows = await self._rows.fetch(
            "run_steps", workflow_id=workflow_id, after=after, limit=preview, count=count
        )
        return [records.step(row) for row in rows]

    async def step_count(self, workflow_id: str) -> int:
        """The number of finished steps of a run; 0 if there is no such run."""
        return (await self._rows.fetch("count_steps", workflow_id=workflow_id))[0]["steps"]

    async def payload(self, workflow_id: str, which: str, *, length: int) -> Preview | None:
        """The `input`, `output` or `error` of a run, at most `length` characters of it; errors as for `steps`."""
        rows = await self._rows.fetch(
            "run_payload", workflow_id=workflow_id, which=which, limit=length
        )
        if not rows:
            raise await self._rows.unknown(workflow_id)
        row = rows[0]
        return Preview.recorded(row["payload"], row["payload_length"], row["serialization"])

    async def streams(self, workflow_id: str) -> list[Stream]:
        """The streams of a run, with the last values of each; errors as for `steps`."""
        await self._rows.head(workflow_id)
        rows = await self._rows.fetch(
            "run_streams",
            workflow_id=workflow_id,
            limit=limits.PREVIEW,
            count=MOST_STREAM_VALUES + 1,  # and the mark of its end
        )
        keys = dict.fromkeys(row["key"] for row in rows)
        return [_stream([row for row in rows if row["key"] == key]) for key in keys]

    async def marks(self, workflow_ids: Sequence[str], *, newest: int, waits: bool) -> Marks:
        """A short mark of each of these runs, of the list of the `newest` runs, and of all waits: a mark that differs from an earlier one means a change.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        wanted = Wanted(workflow_ids, newest, waits=waits, whole=True)
        return await marks.look(self._rows.fetch, wanted)

    async def parents(self, workflow_ids: Sequence[str]) -> list[str]:
        """The runs among these that have started others.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        rows = await self._rows.fetch("which_are_parents", workflow_ids=list(workflow_ids))
        return [row["workflow_id"] for row in rows]

    async def inbox(self) -> list[InboxItem]:
        """The waits of runs, the longest first, at most 500.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        rows = await self._rows.fetch("inbox", limit=_WAITS, length=limits.PREVIEW)
        return [_inbox_item(row) for row in rows]


def _inbox_item(row: Row) -> InboxItem:
    wait = records.open_wait(row)
    return InboxItem(
        wait=wait,
        asked=_asked(wait),
        name=row["name"],
        root_workflow_id=row["root_workflow_id"],
        input=Preview.recorded(row["input"], row["input_length"], row["serialization"]),
    )


def _asked(wait: OpenWait) -> Literal["person", "message", "doubt"]:
    if topics.doubted_step(wait.topic) is not None:
        return "doubt"
    return "person" if wait.person_only or wait.topic.startswith(PERSON) else "message"


def _stream(rows: Sequence[Row]) -> Stream:
    closed = rows[-1]["value"] == _CLOSED
    values = [*_values(rows[:-1] if closed else rows)]
    return Stream(
        key=rows[0]["key"],
        length=rows[0]["length"] - closed,
        closed=closed,
        values=values[-MOST_STREAM_VALUES:],
    )


def _values(rows: Iterable[Row]) -> Iterable[StreamValue]:
    for row in rows:
        value = Preview.recorded(row["value"], row["value_length"], row["serialization"])
        if value is not None:
            yield StreamValue(place=row["place"], step=row["step"], value=value)

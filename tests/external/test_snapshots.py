"""Everything shown of a run is from one moment, even while others write."""

import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine

pytestmark = pytest.mark.anyio


async def test_what_is_read_in_a_snapshot_is_of_one_moment(shared: Engine) -> None:
    await shared.reader.counts()  # the tables are there
    session = tables.LastingConnection(shared.connection.database, role="test")

    async def names() -> set[str]:
        return {one.session_id for one in await shared.reader.sessions()}

    async def read(fetch: tables.Fetch) -> list[set[str]]:
        found = [await fetch("sessions", seconds=60, limit=100)]
        await shared.note_session("late", "client", "1", "stdio", tasks=False)
        assert "late" in await names()
        found.append(await fetch("sessions", seconds=60, limit=100))
        return [{row["session_id"] for row in rows} for rows in found]

    try:
        first, second = await session.in_snapshot(read)
    finally:
        await session.close()
    assert first == second
    assert "late" not in second

"""The tables are set up once for each release of DBOS and of this package, not at each start of a worker."""

import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import TablesNewer
from durable_workflows.host import worker
from durable_workflows.models import StartRequest
from requirements import proves

pytestmark = pytest.mark.anyio

_NOTES = "from durable_workflows.migrations where name like 'dbos %'"


@pytest.fixture(autouse=True)
async def worker_is_up(shared: Engine) -> None:
    """The set-up work of a starting worker is done."""
    args = {"topic": "t", "timeout_seconds": 0.0}
    run = await shared.start(StartRequest(name="wait_for", args=args))
    await shared.reader.wait([run.workflow_id], timeout_seconds=60)


async def test_what_is_set_up_is_left_alone(shared: Engine) -> None:
    async with await tables.connect(shared.connection.database, role="test") as connection:
        before = await _made_by(connection)
        await worker.migrate(shared.connection.database)
        assert await _made_by(connection) == before


async def test_what_another_release_has_set_up_is_renewed_and_noted(shared: Engine) -> None:
    async with await tables.connect(shared.connection.database, role="test") as connection:
        notes = await (await connection.execute(f"select name {_NOTES}")).fetchall()
        assert len(notes) == 1
        await connection.execute(
            "update durable_workflows.migrations set name = 'dbos 0.1 other' where name like 'dbos %'"
        )
        before = await _made_by(connection)
        await worker.migrate(shared.connection.database)
        assert await _made_by(connection) != before
        assert await (await connection.execute(f"select name {_NOTES}")).fetchall() == notes


@proves("upgrade:refused")
async def test_tables_of_a_newer_release_are_refused_and_left_alone(shared: Engine) -> None:
    async with await tables.connect(shared.connection.database, role="test") as connection:
        before = await _made_by(connection)
        await connection.execute(
            "update durable_workflows.migrations set name = name || ' newer' where name like 'dbos %'"
        )
        await connection.execute(
            "insert into durable_workflows.migrations (name) values ('9999_later.sql')"
        )
        try:
            with pytest.raises(TablesNewer, match=r"newer release.*\(9999_later\.sql\)"):
                await worker.migrate(shared.connection.database)
            assert await _made_by(connection) == before
        finally:
            await connection.execute(
                "delete from durable_workflows.migrations where name = '9999_later.sql'"
            )
        await worker.migrate(shared.connection.database)


async def _made_by(connection: tables.Connection) -> object:
    """The transaction that has made, or replaced, one of our functions on DBOS's tables."""
    cursor = await connection.execute(
        "select xmin::text from pg_proc where proname = 'announce_status' and pronamespace = 'durable_workflows'::regnamespace"
    )
    return await cursor.fetchone()

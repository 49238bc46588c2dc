"""Children that end with their parent in a native Postgres, whose statements run side by side."""

from collections.abc import AsyncIterator

import anyio
import pytest

import native
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from helpers import parking_project, until_found, value
from requirements import proves
from test_ending_children import *  # noqa: F403
from test_ending_children import start, status

pytestmark = [pytest.mark.anyio, pytest.mark.long]
_CHILD = """
insert into {0}.workflow_status (workflow_uuid, status, name, parent_workflow_id, application_name, created_at, updated_at)
values ('race-new', 'ENQUEUED', 'grandchild', 'race-child', 'durable-workflows', 0, 0)
"""


@pytest.fixture(scope="module")
async def engine(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `engine` of the other tests."""
    async with parking_project(tmp_path_factory, "ending", postgres.database("ending")) as engine:
        yield engine


@proves("children:end")
async def test_what_a_child_starts_while_it_is_being_cancelled_is_cancelled_too(
    engine: Engine,
) -> None:
    await start(engine, "ends_children", "race", how="returns")
    database = engine.connection.database
    lock = f"select from {database.dbos_schema}.workflow_status where workflow_uuid = 'race-child' for no key update"
    blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with (
        await tables.connect(database, role="test") as connection,
        anyio.create_task_group() as group,
        connection.transaction(),  # as dbos starts a child
    ):
        await connection.execute(lock.encode())
        await connection.execute(_CHILD.format(database.dbos_schema).encode())
        group.start_soon(engine.cancel, ["race"])
        await until_found(lambda: value(engine, blocked), "the cancellation waits for the child")
    assert await status(engine, "race-new") == "CANCELLED"

"""Connections to the database are closed when their user ends, however it ends."""

import anyio
import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import DatabaseUnavailable
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings

pytestmark = pytest.mark.anyio


def open_connections(url: str) -> set[int]:
    """The local ports of this process's connections to the database."""
    port = int(str(conninfo_to_dict(url)["port"]))
    found = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in found if one.raddr and one.raddr.port == port}


async def test_a_connection_is_closed_when_its_user_is_cancelled_in_mid_transaction(
    shared: Engine,
) -> None:
    connection = await tables.connect(shared.connection.database, role="test")
    with anyio.CancelScope() as scope:
        async with connection, connection.transaction():
            await connection.execute("select 1")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert connection.closed


async def test_an_engine_closes_all_its_connections_also_while_a_statement_runs(
    shared: Engine,
) -> None:
    """The memory that libpq has for a connection must not be freed under a statement: the task that waited for it used what was there then, and hung."""
    url = shared.connection.url
    before = open_connections(url)
    project = Project(Settings(project=shared.project))
    engine = await project.engine()
    args = {"topic": "t", "timeout_seconds": 0.0}
    run = await engine.start(StartRequest(name="wait_for", args=args))
    await engine.reader.wait([run.workflow_id], timeout_seconds=30)
    assert open_connections(url) > before
    entered, failed = anyio.Event(), anyio.Event()

    async def use() -> None:
        async with engine._rows.connected() as connection:  # pyright: ignore[reportPrivateUsage]
            entered.set()
            try:
                await connection.execute("select 1")
            finally:
                memory = connection.pgconn.pgconn_ptr  # pyright: ignore
                assert memory is not None, "it was freed"

    async def watch() -> None:
        with pytest.raises(DatabaseUnavailable):
            await use()
        failed.set()

    other = await tables.connect(shared.connection.database, role="test")
    # The one session is taken meanwhile.
    async with anyio.create_task_group() as group, other, other.transaction():
        await other.execute("select 1")
        group.start_soon(watch)
        await entered.wait()
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0):  # as the end of a server in a hurry
            await project.aclose()
        with anyio.fail_after(10):
            await failed.wait()
    assert open_connections(url) <= before

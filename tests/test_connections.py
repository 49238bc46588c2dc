"""Connections to the database are closed when their user ends, however it ends."""

import anyio
import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
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
    url = shared.connection.url
    before = open_connections(url)
    project = Project(Settings(project=shared.project))
    engine = await project.engine()
    args = {"topic": "t", "timeout_seconds": 0.0}
    run = await engine.start(StartRequest(name="wait_for", args=args))
    await engine.reader.wait([run.workflow_id], timeout_seconds=30)
    assert open_connections(url) > before
    entered = anyio.Event()

    async def use() -> None:
        async with engine._rows.connected():  # pyright: ignore[reportPrivateUsage]
            entered.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(use)
        await entered.wait()
        with anyio.move_on_after(0):  # as the end of a server in a hurry
            await project.aclose()
        assert open_connections(url) <= before
        group.cancel_scope.cancel()

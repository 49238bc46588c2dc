"""A run whose row is locked when a worker looks is taken up soon after: no hint tells that the lock is gone."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import native
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from helpers import parking_project, until_found, value
from requirements import proves

pytestmark = pytest.mark.anyio

_SOON_SECONDS = 8.0  # a worker that nothing wakes looks after fifteen
_WAKE = """
insert into durable_workflows.woken select workflow_id, version from durable_workflows.parked where workflow_id = %s
    returning pg_notify('durable_workflows_runs', concat_ws(E'\\t', 'WOKEN', version, workflow_id))
"""


@pytest.fixture(scope="module")
async def parking(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    url = postgres.database("locked")
    async with parking_project(tmp_path_factory, "parking", url) as engine:
        yield engine


@pytest.fixture
async def waiting(parking: Engine, tmp_path: Path) -> str:
    """A parked run, which waits for a message."""
    args = {"file": str(tmp_path / "notes")}
    run = await parking.start(StartRequest(name="parked_receives", args=args))

    async def rests() -> bool:
        return (await parking.reader.run(run.workflow_id)).rest is not None

    await until_found(rests, "it is parked")
    return run.workflow_id


@proves("wakeup:not-lost")
async def test_a_woken_run_goes_on_soon(parking: Engine, waiting: str) -> None:
    database = parking.connection.database
    parked_at = "select parked_at from durable_workflows.parked where workflow_id = %s"
    before = await value(parking, parked_at, waiting)
    lock = f"select from {database.dbos_schema}.workflow_status where workflow_uuid = %s for update"
    async with (
        await tables.connect(database, role="test") as connection,
        connection.transaction(),
    ):
        await connection.execute(lock.encode(), [waiting])
        await value(parking, _WAKE, waiting)
        claims = "select count(*) from pg_stat_activity where query like '%%claim_parked%%' and query_start > %s and pid <> pg_backend_pid()"
        now = await value(parking, "select clock_timestamp()")
        await until_found(lambda: value(parking, claims, now), "a worker has looked")
    began = time.monotonic()

    async def is_parked_again() -> bool:  # nothing has come for it
        return await value(parking, parked_at, waiting) not in (before, None)

    await until_found(is_parked_again, "it was taken up")
    assert time.monotonic() - began < _SOON_SECONDS

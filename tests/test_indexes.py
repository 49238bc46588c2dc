"""Frequent queries read no more rows than they are about, however many runs have ended."""

from collections.abc import Mapping

import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.settings import APPLICATION
from durable_workflows.system import processes

pytestmark = pytest.mark.anyio

QUESTIONS: Mapping[str, Mapping[str, object]] = {
    "needed_versions": {"application": APPLICATION, "current": ""},
    "next_due": {"application": APPLICATION},
    "unfinished_versions": {"application": APPLICATION},
    "workers_apart": {"identity": processes.new_identity()},
    "queues": {},
    "orphans": {},
    "count_runs": {"application": APPLICATION},
}


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_question_of_every_moment_never_reads_all_runs(name: str, shared: Engine) -> None:
    async with (
        await tables.connect(shared.connection.database, role="test") as connection,
        connection.transaction(),
    ):
        # Where no index matches, the planner reads all rows even so. It must plan anew: all clients of PGlite share its plans.
        await connection.execute("set local enable_seqscan = off")
        await connection.execute("set local plan_cache_mode = force_custom_plan")
        before = await scans(connection)
        await tables.fetch(connection, name, **QUESTIONS[name])
        assert await scans(connection) == before


async def test_runs_are_counted_by_any_status_that_their_rows_may_have(shared: Engine) -> None:
    async with (
        await tables.connect(shared.connection.database, role="test") as connection,
        connection.transaction(force_rollback=True),
    ):
        rows = [("one", None, APPLICATION), ("two", "NEW", None), ("three", "NEW", APPLICATION)]
        for workflow_id, status, application in [*rows, ("foreign", "SUCCESS", "another")]:
            await connection.execute(
                "insert into dbos.workflow_status (workflow_uuid, status, application_name, created_at, updated_at) values (%s, %s, %s, 0, 0)",
                [workflow_id, status, application],
            )
        plain = await connection.execute(
            "select coalesce(status, 'UNKNOWN') as status, count(*) as runs from dbos.workflow_status"
            " where application_name = %s or application_name is null group by status order by 1",
            [APPLICATION],
        )
        counted = await tables.fetch(connection, "count_runs", application=APPLICATION)
        assert counted == await plain.fetchall()
        assert {"status": "NEW", "runs": 2} in counted


async def scans(connection: tables.Connection) -> int:
    """How often all runs were read, as far as this session has not reported it yet."""
    found = await connection.execute(
        "select seq_scan from pg_stat_xact_user_tables where schemaname = 'dbos' and relname = 'workflow_status'"
    )
    row = await found.fetchone()
    assert row is not None
    return row["seq_scan"]

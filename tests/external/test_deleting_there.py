# pyright: reportPrivateUsage=false
"""Runs that are deleted in a native Postgres, whose statements run side by side."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import native
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import DurableWorkflowsError, UnknownWorkflowId
from helpers import parking_project
from test_deleting import *  # noqa: F403
from test_deleting import ended, is_there, start

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module")
async def deleting(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `deleting` of the other tests."""
    url = postgres.database("deleting")
    async with parking_project(tmp_path_factory, "deleting", url) as engine:
        yield engine


@asynccontextmanager
async def being_deleted(engine: Engine, workflow_id: str) -> AsyncGenerator[None]:
    """Deletes the run, and commits at the end, when another process waits for that."""
    database = engine.connection.database
    async with (
        await tables.connect(database, role="test") as connection,
        connection.transaction(),
    ):
        about = {"roots": [workflow_id], "older_than": None, "most": 500, "really": True}
        [row] = await tables.fetch(connection, "delete_trees", **about)
        assert row["verdict"] == "deleted"
        yield
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"

        async def somebody_waits() -> bool:
            return bool(await value(engine, waiting))  # noqa: F405

        await until_found(somebody_waits, "somebody waits for the deletion")  # noqa: F405


async def test_no_fork_begins_without_the_steps_of_a_run_that_is_being_deleted(
    deleting: Engine,
) -> None:
    leaf = await ended(deleting, "leaf", text="a")
    errors: list[DurableWorkflowsError] = []

    async def fork() -> None:
        try:
            await deleting.fork(leaf, 4)
        except DurableWorkflowsError as error:
            errors.append(error)

    async with anyio.create_task_group() as group, being_deleted(deleting, leaf):
        group.start_soon(fork)
    assert [type(error) for error in errors] == [UnknownWorkflowId], errors
    forks = "select count(*) from dbos.workflow_status where forked_from = %s"
    assert await value(deleting, forks, leaf) == 0  # noqa: F405


async def test_a_run_that_is_being_deleted_cannot_be_resumed(deleting: Engine) -> None:
    asker = await start(deleting, "asker")
    await deleting.cancel([asker])
    errors: list[DurableWorkflowsError] = []

    async def resume() -> None:
        try:
            await deleting.resume([asker])
        except DurableWorkflowsError as error:
            errors.append(error)

    async with anyio.create_task_group() as group, being_deleted(deleting, asker):
        group.start_soon(resume)
    assert [type(error) for error in errors] == [UnknownWorkflowId], errors
    assert not await is_there(deleting, asker)


async def test_a_run_that_is_being_resumed_is_not_deleted(deleting: Engine, folder: Path) -> None:
    asker = await start(deleting, "asker")
    await deleting.cancel([asker])
    database = deleting.connection.database
    async with (
        await tables.connect(database, role="test") as connection,
        connection.transaction(),
    ):
        schema = database.dbos_schema
        await connection.execute(
            f"update {schema}.workflow_status set priority = priority where workflow_uuid = %s",  # pyright: ignore[reportArgumentType]
            [asker],
        )
        [changed] = (await deleting.delete([asker])).workflows
    assert changed.note == f"{asker} is being changed at this moment: call again"
    assert await is_there(deleting, asker)

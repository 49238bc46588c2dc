"""Forks: their rows are those of dbos's own forks, and what they have in place of what the original has."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from dbos import DBOSClient, SetWorkflowID
from psycopg import sql

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import InvalidArguments, UnknownStep, WorkflowIdTaken
from durable_workflows.models import Ended, ForkOptions, StartRequest
from durable_workflows.settings import Settings
from helpers import dbos_client_of, running_project, until_found
from requirements import proves

pytestmark = pytest.mark.anyio

FLOW = """
from dbos import DBOS


@DBOS.step()
def double(number: int) -> int:
    return 2 * number


@DBOS.step()
def fail(number: int) -> int:
    raise ValueError(f"no {number}")


@DBOS.workflow()
def doubles(number: int) -> list[int]:
    first = double(number)
    DBOS.set_event("first", first)
    DBOS.set_event("first", first + 1)
    DBOS.write_stream("numbers", first)
    second = double(first)
    try:
        fail(second)
    except ValueError:
        pass
    return [number, first, second]


@DBOS.workflow()
def waits_for_go() -> object:
    double(1)
    return DBOS.recv("go", timeout_seconds=600)
"""
# What each table has of a run; the rest is the moment's, or the run's own.
TABLES = {
    "workflow_status": "workflow_uuid",
    "workflow_input": "workflow_uuid",
    "operation_outputs": "workflow_uuid",
    "workflow_events": "workflow_uuid",
    "workflow_events_history": "workflow_uuid",
    "streams": "workflow_uuid",
}
OF_THE_MOMENT = ("workflow_uuid", "created_at", "updated_at", "retention_timestamp")


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = (tmp_path_factory.mktemp("forks") / "project").resolve()
    async with running_project(Settings(project=folder), []) as engine:
        (folder / "workflows").mkdir()
        (folder / "workflows" / "doubles.py").write_text(FLOW, encoding="utf-8")
        await engine.start(StartRequest(name="doubles", args={"number": 3}, workflow_id="origin"))
        await ended(engine, "origin")
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[DBOSClient]:
    with dbos_client_of(engine) as client:
        yield client


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done

    return (await until_found(done, f"{workflow_id} has ended"))[0]


async def rows(engine: Engine, workflow_id: str) -> dict[str, list[dict[str, Any]]]:
    """What is recorded of a run that has not begun."""
    database = engine.connection.database
    found: dict[str, list[dict[str, Any]]] = {}
    async with await tables.connect(database, role="test") as connection:
        for table, column in TABLES.items():
            select = sql.SQL("select * from {} where {} = %s").format(
                sql.Identifier(database.dbos_schema, table), sql.Identifier(column)
            )
            cursor = await connection.execute(select, [workflow_id])
            found[table] = [_lasting(row) for row in await cursor.fetchall()]
            found[table].sort(key=str)
    return found


def _lasting(row: dict[str, Any]) -> dict[str, Any]:
    for name in OF_THE_MOMENT:
        moment = row.pop(name, None)
        assert not isinstance(moment, int) or abs(moment - time.time() * 1000) < 60_000
    return row


@pytest.mark.parametrize("from_step", [1, 4, 6])
async def test_a_fork_leaves_the_rows_that_dbos_leaves(
    engine: Engine, client: DBOSClient, from_step: int
) -> None:
    version = (await engine.reader.run("origin")).version
    ours, theirs = f"ours-{from_step}", f"theirs-{from_step}"

    def fork() -> None:
        with SetWorkflowID(theirs):
            client.fork_workflow("origin", from_step, application_version=version, queue_name="no")
        client.update_workflow_attributes(theirs, {"forked_at": from_step}, merge=True)

    await anyio.to_thread.run_sync(fork)
    database = engine.connection.database
    async with await tables.connect(database, role="test") as connection:
        values = {
            "workflow_id": "origin",
            "fork_id": ours,
            "from_step": from_step,
            "version": version,
            "queue": "no",
            "inputs": None,
            "outputs": "{}",
            "about": f'{{"forked_at": {from_step}}}',
        }
        [row] = await tables.fetch(connection, "fork_run", **values)
    assert row["verdict"] == "forked"
    assert await rows(engine, ours) == await rows(engine, theirs)


@proves("fork:changed")
async def test_a_fork_has_other_arguments_and_outputs_and_an_id_of_its_own(engine: Engine) -> None:
    options = ForkOptions(workflow_id="other", args={"number": 5}, outputs={1: 7})
    forked = await engine.fork("origin", 4, options=options)
    assert (forked.workflow_id, forked.existing) == ("other", False)
    assert (await ended(engine, "other")).output == [5, 7, 14]
    assert (await ended(engine, "origin")).output == [3, 6, 12]
    again = await engine.fork("origin", 4, options=options)
    assert (again.workflow_id, again.existing) == ("other", True)
    forks = (await engine.reader.run("origin")).forks
    assert [one.workflow_id for one in forks].count("other") == 1


@proves("fork:changed")
async def test_an_error_is_replaced_by_an_output(engine: Engine) -> None:
    steps = (await engine.reader.run("origin")).steps
    [failed] = [one.step for one in steps if one.error]
    options = ForkOptions(workflow_id="mended", outputs={failed: 1})
    await engine.fork("origin", failed + 1, options=options)
    assert (await ended(engine, "mended")).status == "SUCCESS"
    mended = (await engine.reader.run("mended")).steps
    assert [one.step for one in mended if one.error] == []


@pytest.mark.parametrize("at_once", [2, 5])
async def test_of_forks_with_one_id_at_the_same_moment_one_is_made(
    engine: Engine, at_once: int
) -> None:
    options = ForkOptions(workflow_id=f"once-{at_once}")
    found: list[bool] = []

    async def fork() -> None:
        found.append((await engine.fork("origin", 2, options=options)).existing)

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(fork)
    assert sorted(found) == [False, *[True] * (at_once - 1)]


async def test_what_a_fork_cannot_have_is_refused(engine: Engine) -> None:
    for options, error, said in (
        (ForkOptions(workflow_id="origin"), WorkflowIdTaken, "'origin' is the id of another run"),
        (ForkOptions(workflow_id=" "), InvalidArguments, "workflow_id must have 1 to"),
        (ForkOptions(args={"numbr": 1}), InvalidArguments, "The arguments of doubles are wrong"),
        (ForkOptions(outputs={4: 1}), UnknownStep, "has no finished step 4 before step 4"),
        (ForkOptions(outputs={99: 1}), UnknownStep, "has no finished step 99 before step 4"),
    ):
        with pytest.raises(error, match=said):
            await engine.fork("origin", 4, options=options)


@proves("fork:changed")
async def test_a_fork_can_take_the_place_of_its_original(engine: Engine) -> None:
    await engine.start(StartRequest(name="waits_for_go", workflow_id="waiting"))
    await until_found(lambda: engine.reader.waits("waiting"), "it waits")
    options = ForkOptions(workflow_id="instead", cancel_original=True)
    forked = await engine.fork("waiting", 2, options=options)
    assert forked.note is None
    assert (await engine.reader.run("waiting")).status == "CANCELLED"
    await engine.send("instead", "go", "went")
    assert (await ended(engine, "instead")).output == "went"

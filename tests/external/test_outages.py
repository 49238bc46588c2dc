"""The external Postgres may go away and come back."""

from pathlib import Path

import anyio
import psycopg
import pytest

import native
from durable_workflows.engine.project import Project
from durable_workflows.errors import TooManyConnections
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of, until, until_found
from requirements import proves
from test_recovery import lines_of

pytestmark = [pytest.mark.anyio, pytest.mark.long]


# Of this test's database only: other projects of the suite share the server.
LISTENERS = "from pg_stat_activity where query like 'LISTEN dbos%' and datname = current_database()"


async def test_a_message_that_dbos_was_not_told_of_is_found_once_it_listens_again(
    folder: Path, postgres: native.Cluster
) -> None:
    """By itself it would look for it a minute later."""
    copy_flow("messages", folder)
    url = postgres.database("deaf")
    project = Project(Settings(project=folder, database_url=url))
    engine = await project.engine()
    run = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await until_found(lambda: engine.reader.waits(run.workflow_id), "it waits")
    with psycopg.connect(url, autocommit=True) as connection:

        def listeners() -> list[tuple[int]]:
            return connection.execute(f"select pid {LISTENERS}").fetchall()

        await until(listeners, "it listens")
        [worker] = processes_of(folder, "worker")
        worker.suspend()  # so that it does not listen again before the message is there
        try:
            found = connection.execute(f"select pg_terminate_backend(pid) {LISTENERS}").fetchall()
            assert found == [(True,)]
            await until(lambda: not listeners(), "no listener is left")
            await engine.send(run.workflow_id, "t", "into the silence")
            assert listeners() == []
        finally:
            worker.resume()
    result = await engine.reader.wait([run.workflow_id], timeout_seconds=30)
    assert [one.output for one in result.done] == ["into the silence"]
    await project.aclose()


@proves("recovery:database-killed")
async def test_runs_go_on_after_the_database_was_away(folder: Path) -> None:
    copy_flow("ten_steps", folder)
    copy_flow("messages", folder)
    lines = folder / "lines"
    programs = native.programs()
    assert programs is not None
    with native.cluster(programs) as postgres:
        project = Project(Settings(project=folder, database_url=postgres.database("own")))
        engine = await project.engine()
        waits = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
        args = {"file": str(lines), "seconds": 0.2}
        steps = await engine.start(StartRequest(name="ten_steps", args=args))
        await until(lambda: len(lines_of(lines)) >= 2, "it is under way")
        running = {process.pid for process in processes_of(folder)}
        postgres.stop()
        recorded = len(lines_of(lines))
        await anyio.sleep(2)  # how long it is away, not a wait for something
        assert len(lines_of(lines)) <= recorded + 1  # nothing goes on that cannot be recorded
        postgres.start()
        await engine.send(waits.workflow_id, "t", "after it")
        ids = [waits.workflow_id, steps.workflow_id]
        result = await engine.reader.wait(ids, timeout_seconds=90)
        assert [run.output for run in result.done] == ["after it", 55]
        assert lines_of(lines) == list(range(1, 11))
        assert {process.pid for process in processes_of(folder)} == running
        await project.aclose()


@proves("recovery:database-killed")
async def test_runs_go_on_within_seconds_after_the_database_was_away_for_long(folder: Path) -> None:
    """By itself each would try again when it has waited for as long as before."""
    copy_flow("ten_steps", folder)
    files = [folder / f"lines-{number}" for number in range(8)]
    programs = native.programs()
    assert programs is not None
    with native.cluster(programs) as postgres:
        project = Project(Settings(project=folder, database_url=postgres.database("own")))
        engine = await project.engine()
        for file in files:
            args = {"file": str(file), "seconds": 1.0}
            await engine.start(StartRequest(name="ten_steps", args=args))
        await until(lambda: all(map(lines_of, files)), "all are under way")
        postgres.stop()
        await anyio.sleep(20)  # how long it is away, not a wait for something
        before = [len(lines_of(file)) for file in files]
        postgres.start()

        def have_gone_on() -> bool:
            return all(
                len(lines_of(file)) > count for file, count in zip(files, before, strict=True)
            )

        await until(have_gone_on, "all go on", seconds=6)
        await project.aclose()
        await lifecycle.shut_down(project.settings)


@proves("connections:no-room")
async def test_a_server_without_a_free_connection_is_said_as_what_it_is(
    folder: Path, postgres: native.Cluster
) -> None:
    copy_flow("messages", folder)
    postgres.execute(
        f"create role crowd login password '{native.PASSWORD}'", "create database crowd owner crowd"
    )
    url = postgres.url("crowd", user="crowd")
    project = Project(Settings(project=folder, database_url=url))
    engine = await project.engine()
    postgres.execute(
        "alter role crowd connection limit 0",
        "select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = 'crowd'",
    )
    with pytest.raises(TooManyConnections, match="too many connections") as caught:
        await engine.reader.runs()
    assert "max_connections" in caught.value.hint
    postgres.execute("alter role crowd connection limit -1")
    assert (await engine.reader.runs()).workflows == []
    await project.aclose()

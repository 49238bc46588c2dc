"""A project on a Postgres in its folder: its processes come and go, and nothing is lost."""

from pathlib import Path

import psutil
import psycopg
import pytest
from dbos import DBOSClient

from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.postgres.server import left_behind
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import places
from helpers import copy_flow, processes_of, until
from requirements import long, proves
from test_recovery import assert_each_step_once, kill, lines_of

pytestmark = pytest.mark.anyio


@pytest.mark.long
@proves("rung:goes-on")
@pytest.mark.parametrize("killed", [*long("keeper.py", "postgres"), "supervisor"])
async def test_a_run_goes_on_whatever_is_killed(folder: Path, killed: str) -> None:
    copy_flow("ten_steps", folder)
    file = folder / "lines"
    project = Project(Settings(project=folder))
    engine = await project.engine()
    request = StartRequest(
        name="ten_steps", args={"file": str(file), "seconds": 0.1}, workflow_id="one"
    )
    await engine.start(request)
    await until(lambda: len(lines_of(file)) >= 3, "three steps have run", seconds=30)
    [postmaster, *_] = left_behind(Settings(project=folder))
    if killed == "postgres":
        postmaster.kill()
        psutil.wait_procs([postmaster], timeout=10)
    else:
        kill(folder, [killed])
    engine = await project.engine()
    ended = await engine.reader.wait(["one"], timeout_seconds=60)
    assert [one.status for one in ended.done] == ["SUCCESS"]
    assert_each_step_once(file, 1)
    await project.aclose()
    await lifecycle.shut_down(Settings(project=folder))
    assert not processes_of(folder)
    assert not postmaster.is_running()
    assert places.data(Settings(project=folder)).name == "postgres"


@pytest.mark.long
@proves("rung:sessions")
async def test_programs_with_dbos_of_their_own_go_on_beside_the_workers(folder: Path) -> None:
    copy_flow("ten_steps", folder)
    project = Project(Settings(project=folder))
    engine = await project.engine()
    url = engine.connection.url
    with psycopg.connect(url) as other:  # as DBOS's own background jobs: a transaction at all times
        other.execute("select pg_advisory_xact_lock(1)")
        request = StartRequest(
            name="ten_steps", args={"file": str(folder / "lines"), "seconds": 0.0}, workflow_id="a"
        )
        await engine.start(request)
        ended = await engine.reader.wait(["a"], timeout_seconds=30)
        assert [one.status for one in ended.done] == ["SUCCESS"]
    client = DBOSClient(system_database_url=url)
    assert [run.workflow_id for run in client.list_workflows()] == ["a"]
    client.destroy()
    await project.aclose()

"""A project moves between the databases in its folder, and back; everything goes on, in one place."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from durable_workflows.engine.project import Project
from durable_workflows.errors import OtherEngine, ProjectMoved, UsageError
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle, moving
from durable_workflows.settings import ENGINES, Settings
from durable_workflows.settings import Engine as DatabaseEngine
from durable_workflows.system import state
from helpers import copy_flow, processes_of, until
from requirements import proves
from test_recovery import assert_each_step_once, lines_of

pytestmark = pytest.mark.anyio

MOVER = """
import sys
from pathlib import Path
import anyio
from durable_workflows.processes import moving
from durable_workflows.settings import Settings

def say(text: str) -> None:
    print(text, flush=True)
    if sys.argv[3] in text:
        sys.stdin.readline()  # until it is killed

anyio.run(moving.move, Settings(project=Path(sys.argv[1])), sys.argv[2], say)
"""


@pytest.fixture
async def projects(folder: Path) -> AsyncIterator[dict[DatabaseEngine, Project]]:
    """The project on each of its databases. Runs that wait are parked soon."""
    found: dict[DatabaseEngine, Project] = {
        engine: Project(Settings(project=folder, engine=engine, park_after_seconds=0.2))
        for engine in ENGINES
    }
    yield found
    for project in found.values():
        await project.aclose()


async def begin(project: Project, folder: Path, workflow_id: str) -> None:
    engine = await project.engine()
    args = {"file": str(folder / workflow_id), "seconds": 0.5}
    await engine.start(StartRequest(name="ten_steps", args=args, workflow_id=workflow_id))
    await until(lambda: lines_of(folder / workflow_id), "it is under way", seconds=60)


@proves("move:everything")
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_project_moves_to_a_postgres_in_its_folder_and_back_in_mid_run(
    projects: dict[DatabaseEngine, Project], folder: Path
) -> None:
    copy_flow("ten_steps", folder)
    home, there = projects["pglite"], projects["postgres"]
    engine = await home.engine()
    await engine.start(
        StartRequest(name="approval", args={"request": "Deploy?"}, workflow_id="waits")
    )
    await engine.reader.wait(["waits"], until="any", timeout_seconds=40)
    await begin(home, folder, "one")
    moved = await moving.move(home.settings, "postgres")
    assert (moved.runs, moved.unfinished) == (2, 2)
    assert processes_of(folder) == []
    with pytest.raises(ProjectMoved, match="DURABLE_WORKFLOWS_ENGINE=postgres"):
        await lifecycle.ensure_running(home.settings)

    engine = await there.engine()
    assert (await engine.reader.wait(["one"], timeout_seconds=60)).done[0].output == 55
    assert_each_step_once(folder / "one", 1)
    await begin(there, folder, "two")
    assert (await moving.move(there.settings, "pglite")).runs == 3
    assert (folder / ".dbos" / "pgdata.before-1" / "PG_VERSION").is_file()
    with pytest.raises(ProjectMoved, match="DURABLE_WORKFLOWS_ENGINE=pglite"):
        await lifecycle.ensure_running(there.settings)

    again = Project(home.settings)
    engine = await again.engine()
    assert (await engine.reader.wait(["two"], timeout_seconds=60)).done[0].output == 55
    assert_each_step_once(folder / "two", 1)
    assert (await engine.reader.wait(["one"])).done[0].output == 55
    assert (await engine.reader.run("waits")).status == "PENDING"
    await again.aclose()


@proves("move:everything")
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_move_in_the_folder_that_is_killed_is_made_by_the_next_one(
    projects: dict[DatabaseEngine, Project], folder: Path
) -> None:
    copy_flow("ten_steps", folder)
    home, there = projects["pglite"], projects["postgres"]
    await begin(home, folder, "one")
    await home.aclose()
    for moment in ("Making the new", "Starting", "Copying"):
        await kill_mover_after(moment, folder)
        assert state.moved_to(home.settings) is None
        with pytest.raises((OtherEngine, ProjectMoved), match="`durable-workflows move`"):
            await lifecycle.ensure_running(there.settings)
    await moving.move(home.settings, "postgres")
    assert not (folder / ".dbos" / "postgres.before-1").exists()
    again = await moving.move(home.settings, "postgres")  # it was carried out
    assert (again.runs, again.rows) == (1, 0)
    engine = await there.engine()
    assert (await engine.reader.wait(["one"], timeout_seconds=60)).done[0].output == 55
    assert_each_step_once(folder / "one", 1)


async def kill_mover_after(moment: str, folder: Path) -> None:
    """Kill it when it has said so, and stands still."""
    command = [sys.executable, "-c", MOVER, str(folder), "postgres", moment]
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as mover:
        assert mover.stdout is not None
        said = ""
        async for part in mover.stdout:
            said += part.decode()
            if moment in said:
                break
        mover.kill()
    assert moment in said, said
    for role in ("pglite.mjs", "keeper.py", "worker"):
        await until(lambda role=role: not processes_of(folder, role), f"{role} has gone")


@proves("move:everything", "request:refused")
@pytest.mark.long
async def test_a_move_to_a_database_that_has_runs_of_its_own_is_refused(
    projects: dict[DatabaseEngine, Project], folder: Path
) -> None:
    copy_flow("ten_steps", folder)
    home, there = projects["pglite"], projects["postgres"]
    await begin(there, folder, "theirs")
    with pytest.raises(UsageError, match="nothing to move"):
        await moving.move(there.settings, "postgres")
    await there.aclose()
    await lifecycle.shut_down(there.settings)
    state.note_move(there.settings, "elsewhere")
    await begin(home, folder, "ours")
    await home.aclose()
    state.forget_move(there.settings)  # as who goes on with a backup: now there are two
    with pytest.raises(UsageError, match="already has runs"):
        await moving.move(home.settings, "postgres")
    assert state.moved_to(home.settings) is None
    state.note_move(home.settings, "other:5432/shop")
    with pytest.raises(ProjectMoved, match="other:5432/shop"):
        await moving.move(home.settings, "postgres")

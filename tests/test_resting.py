"""A project in which all runs wait rests: one small process is left until the first of them is due, or none."""

from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle, problems
from durable_workflows.settings import Settings
from durable_workflows.system import state
from helpers import copy_flow, processes_of, until, until_found
from requirements import proves

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(folder: Path) -> Settings:
    copy_flow("parking", folder)
    return Settings(project=folder, park_after_seconds=0.2, idle_exit_seconds=2)


async def start(engine: Engine, name: str, file: Path, **args: float) -> str:
    request = StartRequest(name=f"parked_{name}", args={"file": str(file), **args})
    return (await engine.start(request)).workflow_id


async def until_at_rest(project: Project, folder: Path) -> None:
    """Return when the small process is all that is left, without a client."""
    await project.aclose()

    async def rests() -> bool:
        return [*processes_of(folder)] == [*processes_of(folder, "resting.py")] != []

    await until_found(rests, "the project rests", seconds=40)


@pytest.mark.long
@proves("park:at-rest")
async def test_a_project_whose_runs_all_wait_is_one_small_process_until_somebody_needs_it(
    project: Project, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    engine = await project.engine()
    workflow_id = await start(engine, "times_out", tmp_path / "notes")
    await until_at_rest(project, folder)
    [process] = processes_of(folder, "resting.py")
    assert process.memory_info().rss < 20_000_000
    due = state.rest(settings)
    assert due is not None
    assert problems.of_processes(settings, running=False) == []
    engine = await project.engine()
    assert (await engine.reader.status()).waiting.next_due == due
    await engine.send(workflow_id, "go", "went")
    [ended] = (await engine.reader.wait([workflow_id], timeout_seconds=30)).done
    assert ended.output == "went"
    assert not processes_of(folder, "resting.py")


@pytest.mark.long
async def test_a_project_at_rest_is_shut_down(
    project: Project, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    engine = await project.engine()
    await start(engine, "times_out", tmp_path / "notes")
    await until_at_rest(project, folder)
    assert await lifecycle.shut_down(settings)
    assert not processes_of(folder)
    assert state.rest(settings) is None


@pytest.mark.long
async def test_without_any_deadline_nothing_is_left_of_a_project_whose_runs_all_wait(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    engine = await project.engine()
    workflow_id = await start(engine, "receives", tmp_path / "notes")
    await project.aclose()
    await until(lambda: not processes_of(folder), "nothing is left", seconds=40)
    engine = await project.engine()
    await engine.send(workflow_id, "go", "went")
    [ended] = (await engine.reader.wait([workflow_id], timeout_seconds=30)).done
    assert ended.output == "went"


@pytest.mark.long
async def test_a_project_at_rest_goes_on_by_itself_when_a_run_is_due(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    engine = await project.engine()
    file = tmp_path / "notes"
    await start(engine, "sleeps_for", file, seconds=80)
    await until_at_rest(project, folder)
    await until(lambda: "slept" in file.read_text(), "the run has gone on", seconds=100)

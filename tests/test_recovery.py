"""Anything may be killed at any moment, in any order: runs go on, and finished steps stay finished."""

import os
import random
import shutil
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.models import Run, StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import processes
from helpers import copy_flow, kill_worker, processes_of, until, until_found
from mcp import Client, StdioServerParameters
from requirements import long, proves

pytestmark = pytest.mark.anyio

ROLES = {
    "worker": ["worker"],
    "database": ["pglite.mjs", "keeper.py"],
    "supervisor": ["supervisor"],
    "all": ["supervisor", "worker", "pglite.mjs", "keeper.py"],
}
KILLS = 4  # of each kind; with those of the server, twenty in all
SECONDS_PER_STEP = 0.25


def kill(project: Path, roles: list[str]) -> None:
    victims = [process for role in roles for process in processes_of(project, role)]
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    _, alive = psutil.wait_procs(victims, timeout=10)
    assert not alive


def lines_of(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []


def assert_each_step_once(path: Path, interruptions: int) -> None:
    """All ten lines are there, and one may be there again for each time that something was killed in mid-step."""
    counted = Counter(lines_of(path))
    assert set(counted) == set(range(1, 11))
    again = sum(counted.values()) - 10
    assert again <= interruptions, counted


@proves(
    "recovery:worker-killed",
    "recovery:database-killed",
    "recovery:supervisor-killed",
    "recovery:all-killed",
)
@pytest.mark.parametrize("victim", long("all", "worker", "database", "supervisor"))
@pytest.mark.timeout(300)
async def test_a_run_of_ten_steps_survives_sigkill_at_random_moments(
    victim: str, project: Project, folder: Path
) -> None:
    copy_flow("ten_steps", folder)
    lines = folder / "lines"
    engine = await project.engine()
    started = await engine.start(
        StartRequest(name="ten_steps", args={"file": str(lines), "seconds": SECONDS_PER_STEP})
    )
    for number in range(1, KILLS + 1):
        goal = number * 2  # so that the kills are spread over the run
        await until(lambda goal=goal: len(set(lines_of(lines))) >= goal, f"line {goal}", seconds=60)
        await anyio.sleep(
            random.uniform(0, SECONDS_PER_STEP)
        )  # a random moment, not a wait for something
        kill(folder, ROLES[victim])
        await project.engine()
    result = await (await project.engine()).reader.wait([started.workflow_id], timeout_seconds=90)
    assert result.done, await describe(await project.engine(), started.workflow_id)
    assert (result.done[0].status, result.done[0].output) == ("SUCCESS", 55)
    assert_each_step_once(lines, KILLS)


async def describe(engine: Engine, workflow_id: str) -> Run:
    return await engine.reader.run(workflow_id)


@proves("recovery:server-killed", "client:gone")
@pytest.mark.timeout(300)
@pytest.mark.long
async def test_a_run_survives_its_server_and_a_new_client_gets_its_result(
    settings: Settings, folder: Path
) -> None:
    copy_flow("ten_steps", folder)
    lines = folder / "lines"
    arguments = {"file": str(lines), "seconds": SECONDS_PER_STEP}
    async with Client(server_parameters(folder)) as client:
        answer = await client.call_tool("start_workflow", {"name": "ten_steps", "args": arguments})
        assert answer.structured_content is not None, answer
        workflow_id = answer.structured_content["workflow_id"]
    for number in range(1, KILLS + 1):
        await use_a_server_and_kill_it(folder)
        goal = number * 2
        await until(lambda goal=goal: len(lines_of(lines)) >= goal, "more lines", seconds=60)
    async with Client(server_parameters(folder)) as client:
        listed = await client.call_tool("list_workflows", {})
        assert listed.structured_content is not None
        assert workflow_id in [run["workflow_id"] for run in listed.structured_content["workflows"]]
        waited = await client.call_tool("wait_for_workflows", {"workflow_ids": [workflow_id]})
        assert waited.structured_content is not None
        assert waited.structured_content["done"][0]["output"] == 55
    assert Counter(lines_of(lines)) == Counter(range(1, 11))  # nothing that runs it was killed


async def use_a_server_and_kill_it(project: Path) -> None:
    with suppress(Exception):  # the client may notice in several ways that its server is gone
        async with Client(server_parameters(project)) as client:
            await client.call_tool("server_status", {})
            kill(project, ["serve"])
            await client.call_tool("server_status", {})
    assert not processes_of(project, "serve")


def server_parameters(project: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "durable_workflows", "serve", "--project", str(project)],
        env=dict(os.environ),
    )


@proves("recovery:left-behind-steps")
@pytest.mark.long
async def test_what_a_killed_workers_step_had_started_is_ended_before_the_step_runs_again(
    engine: Engine, project: Project, folder: Path
) -> None:
    lines = folder / "lines"
    script = (
        f"echo begun >> {lines}; for i in $(seq 600); do sleep 0.05; echo $$ >> {lines}.pids; done"
    )
    commands: list[JsonValue] = [{"name": "long", "run": script, "timeout_seconds": 60}]
    started = await engine.start(StartRequest(name="run_commands", args={"commands": commands}))
    pids = folder / "lines.pids"
    await until(lambda: lines_of(pids), "the command runs")
    first = lines_of(pids)[0]
    kill(folder, ["worker"])
    await until(
        lambda: lines.read_text(encoding="utf-8").count("begun") == 2, "the step runs again"
    )
    assert not processes.is_alive(first)
    await engine.cancel([started.workflow_id])


@proves("recovery:disk-full")
@pytest.mark.timeout(300)
@pytest.mark.long
async def test_a_run_waits_while_the_disk_is_full_and_goes_on_when_it_is_not(folder: Path) -> None:
    state_directory = folder / ".dbos"
    state_directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(state_directory)]
    if (await anyio.run_process(mount, check=False)).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    project = Project(Settings(project=folder))
    try:
        copy_flow("odd", folder)
        engine = await project.engine()
        args = {"steps": 60, "size": 1_000_000}
        started = await engine.start(StartRequest(name="much_noise", args=args))
        await until(lambda: shutil.disk_usage(state_directory).free < 2_000_000, "it is full")
        await until_found(lambda: says_that_it_is_full(engine), "it is said", seconds=60)
        larger = ["mount", "-o", "remount,size=300m", str(state_directory)]
        await anyio.run_process(larger)
        result = await (await project.engine()).reader.wait(
            [started.workflow_id], timeout_seconds=200
        )
        assert result.done[0].output == 60_000_000
    finally:
        await project.aclose()
        await lifecycle.shut_down(project.settings)
        await anyio.run_process(["umount", str(state_directory)])


async def says_that_it_is_full(engine: Engine) -> bool:
    try:
        args = {"file": os.urandom(200_000).hex(), "seconds": 0}
        await engine.start(StartRequest(name="one_slow_step", args=args, delay_seconds=9000))
    except DurableWorkflowsError as error:
        return "space" in str(error)
    return False


@pytest.mark.long
@proves("recovery:worker-killed")
async def test_a_start_while_the_worker_is_away_is_taken_and_runs_when_it_is_back(
    engine: Engine, settings: Settings, folder: Path
) -> None:
    copy_flow("odd", folder)
    await engine.catalog()
    another = Project(settings)
    [supervisor] = processes_of(folder, "supervisor")
    supervisor.suspend()  # or the next worker would be there soon
    try:
        kill_worker(folder)
        await until(lambda: not processes_of(folder, "worker"), "it is away")
        started = await (await another.engine()).start(StartRequest(name="noisy"))
    finally:
        supervisor.resume()
    result = await engine.reader.wait([started.workflow_id], timeout_seconds=40)
    assert result.done[0].output == "said"
    await another.aclose()


@pytest.mark.long
@proves("replay:same-error")
async def test_a_replayed_error_is_caught_by_its_class(engine: Engine, folder: Path) -> None:
    copy_flow("odd", folder)
    begun = folder / "begun"
    started = await engine.start(
        StartRequest(name="catches", args={"file": str(begun), "seconds": 2})
    )
    await until(begun.exists, "the step after the caught error runs")
    kill(folder, ["worker"])
    result = await engine.reader.wait([started.workflow_id], timeout_seconds=60)
    assert result.done[0].output == "as a ValueError"


@pytest.mark.long
@proves("recovery:supervisor-killed")
@pytest.mark.parametrize("role", ["worker", *long("pglite.mjs")])
async def test_a_new_supervisor_ends_what_a_killed_one_left_behind_stopped(
    role: str, engine: Engine, project: Project, folder: Path
) -> None:
    """A stopped process cannot notice that its supervisor is gone, and still holds its lock."""
    await engine.catalog()
    left = processes_of(folder, role)
    for process in left:
        process.send_signal(signal.SIGSTOP)
    kill(folder, ["supervisor"])
    engine = await project.engine()
    await engine.catalog()
    await until(
        lambda: not any(process.is_running() for process in left), "the stopped one is gone"
    )

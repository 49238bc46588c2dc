"""Several at once: servers, commands, supervisors."""

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of
from mcp import Client
from requirements import proves
from test_recovery import server_parameters

pytestmark = pytest.mark.anyio

BY_SERVER = 95
BY_COMMAND = 5


async def start_by_server(project: Path, numbers: range) -> None:
    async with Client(server_parameters(project)) as client, anyio.create_task_group() as group:

        async def start(number: int) -> None:
            args = {"file": str(project / "lines"), "steps": 1}
            answer = await client.call_tool(
                "start_workflow",
                {"name": "ten_steps", "args": args, "workflow_id": f"run-{number}"},
            )
            assert not answer.is_error, answer.content

        for number in numbers:
            group.start_soon(start, number)


async def start_by_command(project: Path, numbers: range) -> None:
    args = json.dumps({"file": str(project / "lines"), "steps": 1})
    command = [sys.executable, "-m", "durable_workflows", "start", "ten_steps"]
    for number in numbers:
        options = ["--project", str(project), "--id", f"run-{number}", "--args", args]
        process = await anyio.run_process([*command, *options], check=False)
        assert process.returncode == 0, process.stderr.decode()


@pytest.mark.long
@proves("start:once", "supervisor:one")
@pytest.mark.timeout(300)
async def test_two_servers_and_the_command_line_start_200_runs_each_done_once(
    project: Project, folder: Path
) -> None:
    copy_flow("ten_steps", folder)
    total = 2 * BY_SERVER + 2 * BY_COMMAND
    async with anyio.create_task_group() as group:
        for n, count in ((0, BY_SERVER), (BY_SERVER, BY_SERVER)):
            group.start_soon(start_by_server, folder, range(n, n + count))
        for n in (2 * BY_SERVER, 2 * BY_SERVER + BY_COMMAND):
            group.start_soon(start_by_command, folder, range(n, n + BY_COMMAND))
    assert len(processes_of(folder, "supervisor")) == 1
    engine = await project.engine()
    ids = [f"run-{number}" for number in range(total)]
    result = await engine.reader.wait(ids, timeout_seconds=120)
    assert Counter(one.status for one in result.done) == {"SUCCESS": total}
    assert await engine.reader.counts() == {"SUCCESS": total}
    assert (folder / "lines").read_text(encoding="utf-8").count("\n") == total


@proves("supervisor:one")
async def test_twelve_callers_at_the_same_moment_start_one_supervisor(settings: Settings) -> None:
    projects = [Project(settings) for _ in range(12)]
    engines = await asyncio.gather(*(project.engine() for project in projects))
    assert len({engine.connection.pid for engine in engines}) == 1
    assert len(processes_of(settings.project, "supervisor")) == 1
    assert len(processes_of(settings.project, "pglite.mjs")) == 1
    for project in projects:
        await project.aclose()


@proves("start:same-id")
async def test_a_used_workflow_id_names_the_run_that_has_it(engine: Engine, folder: Path) -> None:
    copy_flow("ten_steps", folder)
    request = StartRequest(
        name="ten_steps", args={"file": str(folder / "lines")}, workflow_id="the-one"
    )
    await asyncio.gather(*(engine.start(request) for _ in range(5)))
    await engine.reader.wait(["the-one"])
    again = await engine.start(request)
    assert (again.workflow_id, again.status) == ("the-one", "SUCCESS")
    assert (folder / "lines").read_text(encoding="utf-8").split() == [str(n) for n in range(1, 11)]


def test_the_environment_of_the_suite_has_no_database_of_its_own() -> None:
    assert "DBOS_DATABASE_URL" not in os.environ

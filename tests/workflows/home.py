"""A project with the real engine, worker and database, for the tests of bundled workflows that start other workflows."""

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import psutil
from dbos import DBOSClient, WorkflowStatus
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.seam.patches import typed_values
from durable_workflows.settings import Settings
from helpers import processes_of, until, until_found

ENDED = ("SUCCESS", "ERROR", "CANCELLED")


class Home:
    """The project, its engine, and a client of dbos's own that reads results whole."""

    def __init__(self, project: Project, engine: Engine) -> None:
        self.project = project
        self.folder = project.settings.project
        self.engine = engine
        typed_values.install_without_code()
        self.client = DBOSClient(
            system_database_url=engine.connection.url, serializer=typed_values.KeptJSON()
        )

    async def start(
        self, name: str, args: Mapping[str, Any], workflow_id: str | None = None
    ) -> str:
        """Start a run, and return its id."""
        workflow_id = workflow_id or uuid.uuid4().hex
        await self.engine.start(StartRequest(name=name, args=args, workflow_id=workflow_id))
        return workflow_id

    async def look(self, workflow_id: str) -> WorkflowStatus:
        (run,) = await self.client.list_workflows_async(workflow_ids=[workflow_id])
        return run

    async def ended(self, workflow_id: str, *, seconds: float = 40.0) -> WorkflowStatus:
        """The run, once it has ended."""

        async def look() -> WorkflowStatus | None:  # a child that asks is an end for `wait`
            await self.engine.reader.wait([workflow_id], until="change", timeout_seconds=5)
            run = await self.look(workflow_id)
            return run if run.status in ENDED else None

        return await until_found(look, f"{workflow_id} has ended", seconds=seconds)

    async def output(self, workflow_id: str, *, seconds: float = 40.0) -> Any:
        """The output of the run."""
        run = await self.ended(workflow_id, seconds=seconds)
        assert run.status == "SUCCESS", (run.status, run.error)
        return run.output

    async def run(self, name: str, args: Mapping[str, Any], workflow_id: str | None = None) -> Any:
        """Start a run, and return what it returned."""
        return await self.output(await self.start(name, args, workflow_id))

    async def problem(self, name: str, args: Mapping[str, Any]) -> str:
        """Start a run that fails, and return the class and the message of its error; nothing else was started."""
        workflow_id = await self.start(name, args)
        run = await self.ended(workflow_id)
        assert run.status == "ERROR", run.output
        assert await self.children(workflow_id) == {}
        return f"{getattr(run.error, 'name', '')}: {run.error}"

    async def children(self, workflow_id: str) -> dict[str, WorkflowStatus]:
        """The children of a run, by their ids."""
        found = await self.client.list_workflows_async(parent_workflow_id=workflow_id)
        return {child.workflow_id: child for child in found}

    async def steps(self, workflow_id: str) -> dict[int, str]:
        steps = await self.client.list_workflow_steps_async(workflow_id)
        return {step["function_id"]: step["function_name"] for step in steps}

    async def event(self, workflow_id: str, key: str) -> JsonValue:
        return await self.client.get_event_async(workflow_id, key, timeout_seconds=0)

    async def kill_worker(self) -> None:
        """SIGKILL, and wait until the supervisor has put another one into its place."""
        victims = processes_of(self.folder, "worker")
        assert victims
        for victim in victims:
            victim.kill()
        await anyio.to_thread.run_sync(psutil.wait_procs, victims, 10)
        await until(lambda: processes_of(self.folder, "worker"), "the next worker")

    def lines(self, name: str) -> list[str]:
        """The lines of a file in the project."""
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def write(folder: Path, flows: str) -> Path:
    """Make a project with one workflow file, and return its directory."""
    folder = folder.resolve()
    (folder / "workflows").mkdir(parents=True)
    (folder / "workflows" / "flows.py").write_text(flows, encoding="utf-8")
    return folder


@asynccontextmanager
async def a_home(folder: Path, flows: str, **settings: Any) -> AsyncGenerator[Home]:
    """A project in `folder` whose workflow file has the text `flows`. Afterwards none of its processes may run."""
    project = Project(Settings(project=write(folder, flows), **settings))
    home = Home(project, await project.engine())
    try:
        yield home
    finally:
        await anyio.to_thread.run_sync(home.client.destroy)
        await project.aclose()
        await lifecycle.shut_down(project.settings)
    left = processes_of(home.folder)
    assert not left, f"left behind: {left}"

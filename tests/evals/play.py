"""Playing all scenarios, each in a project of its own, and the record of what that took."""

import json
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

from durable_workflows.engine.project import Project
from durable_workflows.mcp.server import build_server
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from mcp import Client

from .players import Agent, play_with_model
from .scenarios import Scenario

RECORD = Path(__file__).parent / "record.json"
SURFACE = Path(__file__).parent / "surface.json"
_FLOWS = Path(__file__).parent / "flows"


class Played(TypedDict):
    """The tools called, in order, and how many characters their answers had."""

    calls: list[str]
    characters: int


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="durable-evals-")).resolve()
    shutil.copytree(_FLOWS, folder / "workflows")
    return folder


@asynccontextmanager
async def _project() -> AsyncGenerator[Project]:
    folder = _folder()
    project = Project(Settings(project=folder))
    try:
        yield project
    finally:
        await project.aclose()
        await lifecycle.shut_down(project.settings)
        shutil.rmtree(folder)


async def play(scenario: Scenario, *, with_model: bool) -> Played:
    """Play one scenario and check that its goal was reached.

    Raises:
        AssertionError: it was not.
    """
    async with _project() as project:
        engine = await project.engine()
        await scenario.arrange(engine)
        async with Client(build_server(project.settings)) as client:
            agent = Agent(client)
            folder = project.settings.project
            if with_model:
                said = await play_with_model(agent, scenario.goal, folder)
            else:
                said = await scenario.script(agent, folder)
        await scenario.check(engine, said)
        return {"calls": agent.calls, "characters": agent.read}


async def surface() -> str:
    """The texts that a model reads before it does anything: the instructions, and the tools with their schemas."""
    with tempfile.TemporaryDirectory() as folder:
        nowhere = Settings(project=Path(folder) / "nowhere")
        async with Client(build_server(nowhere)) as client:
            tools = (await client.list_tools()).tools
            shown = [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in tools]
            return json.dumps({"instructions": client.instructions, "tools": shown}, indent=1)

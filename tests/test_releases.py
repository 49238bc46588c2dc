"""A run finishes on the code with which it began, also after an upgrade of this package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from durable_workflows.code import versions
from durable_workflows.code.catalog import Snapshot
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UnknownWorkflowId
from durable_workflows.models import OpenWait, StartRequest
from helpers import kill_worker, until_found
from requirements import proves

pytestmark = pytest.mark.anyio

RELEASES = sorted(path for path in (Path(__file__).parent / "releases").iterdir() if path.is_dir())
NODES: list[JsonValue] = [
    {
        "id": "commands",
        "workflow": "run_commands",
        "args": {"commands": [{"name": "greet", "run": "echo hello"}]},
    },
    {"id": "agent", "workflow": "agent_task", "args": {"task": "Say it.", "command": ["cat"]}},
    {
        "id": "numbers",
        "workflow": "fan_out",
        "args": {"workflow": "multiplied", "items": [{"number": 2}, {"number": 3}]},
    },
    {"id": "go", "approval": {"prompt": "Go?"}, "needs": ["numbers"]},
]


@pytest.mark.long
@proves("version:releases")
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
async def test_runs_of_an_earlier_release_finish_on_its_code(
    engine: Engine, folder: Path, release: Path
) -> None:
    version = (release / "version").read_text(encoding="utf-8").strip()
    await save(engine, version, files_of(release))
    await begin(engine, version, "plan", StartRequest(name="plan", args={"nodes": NODES}))
    for index in range(2):
        child = f"plan-numbers-{index}"
        wait = await waiting(engine, child, "factor")
        assert wait.prompt == f"{index + 2} times what?"
        await engine.send(child, "factor", 10)
        await engine.answer(await waiting(engine, child, "person:"), True, who="ann", how="test")
    question = await waiting(engine, "plan-go", "")
    kill_worker(folder)
    await engine.answer(question, {"approved": True}, who="ann", how="test")
    [ended] = (await engine.reader.wait(["plan"], timeout_seconds=60)).done
    report: Any = ended.output
    assert report["ok"], report
    outputs = {node["id"]: node["output"] for node in report["nodes"]}
    assert outputs["commands"]["commands"]["greet"]["output"] == "hello\n"
    assert outputs["agent"]["answer"] == "Say it."
    assert [item["output"] for item in outputs["numbers"]["results"]] == [20, 30]
    assert (await engine.reader.run("plan")).version == version


def files_of(release: Path) -> Mapping[str, bytes]:
    """The files of its version."""
    return {str(path.relative_to(release)): path.read_bytes() for path in release.rglob("*.py")}


async def save(engine: Engine, version: str, files: Mapping[str, bytes]) -> None:
    """Save a version as a supervisor does."""
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await versions.save(connection, Snapshot(version, files, {}))


async def begin(engine: Engine, version: str, workflow_id: str, request: StartRequest) -> None:
    """Start a run as it stood in its queue when the release that saved the version was replaced."""
    request = request.model_copy(update={"workflow_id": workflow_id, "delay_seconds": 600.0})
    await engine.start(request)
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await connection.execute(
            "update dbos.workflow_status set application_version = %s, status = 'ENQUEUED', delay_until_epoch_ms = null"
            " where workflow_uuid = %s",
            [version, workflow_id],
        )


async def waiting(engine: Engine, workflow_id: str, topic: str) -> OpenWait:
    """The run's wait on a topic with this prefix, when it has begun."""

    async def find() -> OpenWait | None:
        try:
            waits = await engine.reader.waits(workflow_id)
        except UnknownWorkflowId:
            return None
        return next((wait for wait in waits if wait.topic.startswith(topic)), None)

    return await until_found(find, f"{workflow_id} waits", seconds=60)

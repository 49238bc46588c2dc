"""Workflow files have the libraries that their script metadata ask for, wherever the server itself is installed."""

import json
from collections.abc import Collection
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import PythonUnusable, WorkflowUnavailable
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import is_taken_up_again, kill_worker, processes_of, until_found
from requirements import proves
from wheels import make_wheel

pytestmark = pytest.mark.anyio

FLOW = '''
# /// script
# dependencies = [{requirement}]
# ///
import {module}
from dbos import DBOS


@DBOS.workflow()
def {name}() -> str:
    """Wait, then use the library."""
    DBOS.recv("go", timeout_seconds=600)
    return {module}.VERSION
'''


def write_flow(folder: Path, name: str, module: str, requirement: str) -> None:
    path = folder / "workflows" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    text = FLOW.format(name=name, module=module, requirement=json.dumps(requirement))
    path.write_text(text.lstrip(), encoding="utf-8")


@proves("code:own-libraries", "recovery:worker-killed")
@pytest.mark.long
async def test_a_run_uses_the_library_that_its_file_names_also_after_a_kill(
    folder: Path, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "pebble")
    write_flow(folder, "uses", "pebble", f"pebble @ {wheel.as_uri()}")
    write_flow(folder, "lacks", "nowhere_to_be_had", f"pebble @ file://{tmp_path}/gone.whl")
    said: list[str] = []
    project = Project(Settings(project=folder), said.append)
    engine = await project.engine()
    started = await engine.start(StartRequest(name="uses"))
    assert [line for line in said if "pebble" in line]
    with pytest.raises(
        WorkflowUnavailable, match=r"lacks cannot be started: its file workflows/lacks\.py"
    ):
        await engine.start(StartRequest(name="lacks"))
    await engine.reader.wait([started.workflow_id], until="any")
    await again(engine, started.workflow_id, kill_worker(folder))
    await engine.send(started.workflow_id, "go", True)
    assert (await engine.reader.wait([started.workflow_id], timeout_seconds=60)).done[
        0
    ].output == "1.0"
    await project.aclose()


async def again(engine: Engine, workflow_id: str, killed: Collection[int]) -> None:
    async def recovered() -> bool:
        return is_taken_up_again(await engine.reader.run(workflow_id), killed)

    await until_found(recovered, "the run is taken up again", seconds=60)


async def test_an_interpreter_that_cannot_run_workflow_code_is_refused_at_once(
    folder: Path,
) -> None:
    project = Project(Settings(project=folder, python=Path("/bin/ls")))
    with pytest.raises(PythonUnusable, match="cannot run workers"):
        await project.engine()
    assert processes_of(folder) == []

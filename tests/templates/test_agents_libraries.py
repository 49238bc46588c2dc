"""The templates with agents of other libraries, which an index must have. Their models play a script; each request to one is a line of a file."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import JsonValue

from durable_workflows.code import writing
from durable_workflows.errors import WorkflowUnavailable
from durable_workflows.models import Catalog
from durable_workflows.settings import Settings
from helpers import kill_worker, until_found
from requirements import proves

from .projects import WITH_LIBRARIES, Running, new_folder, running

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.timeout(900)]

REQUESTS = """
import time
from pathlib import Path


def note(name):
    requests = Path(f"{name}.requests")
    with requests.open("a") as file:
        file.write("asked\\n")
    while Path(f"{name}.hold").exists():
        time.sleep(0.02)
"""
# Where their scripted models begin: they note the request there.
FIRST_LINES = {
    "openai_sdk_agent": "        items: list[dict[str, Any]] = ",
    "pydantic_ai_agent": "    results = [part for one in messages",
}
WRAPPED = '''
# /// script
# dependencies = ["pydantic-ai-slim[dbos]>=2.68"]
# ///
"""An agent in the wrapper that pydantic-ai had before."""
from dbos import DBOS
from durable_workflows import receive_async
from pydantic_ai import Agent, AgentRunResult
from pydantic_ai.durable_exec.dbos import DBOSAgent
from pydantic_ai.messages import ModelResponse, ThinkingPart, TextPart
from pydantic_ai.models.function import FunctionModel
from pydantic import BaseModel


class City(BaseModel):
    name: str


def reply(messages, info):
    return ModelResponse([ThinkingPart("Hm."), TextPart('{"name": "Bern"}')], provider_details={"n": (1, 2)})


agent = Agent(FunctionModel(reply), name="wrapped_agent")
wrapped = DBOSAgent(agent)


@DBOS.workflow()
async def wrapped_run() -> list[object]:
    """Say what is wrong with an answer of the agent, before and after a wait."""
    result = await wrapped.run("Where?")
    wrong = differences(result)
    await receive_async("go", timeout=600)
    again = await wrapped.run("Where else?", message_history=result.all_messages())
    return [*wrong, *differences(again), len(again.all_messages()), again.usage.requests]


def differences(result):
    kinds = [type(part).__name__ for part in result.new_messages()[-1].parts]
    details = result.new_messages()[-1].provider_details
    return [
        one
        for one in (type(result) is AgentRunResult, kinds == ["ThinkingPart", "TextPart"], details == {"n": (1, 2)})
        if one is not True
    ]
'''


@pytest.fixture(scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A project with these templates, once their libraries are installed. Without an index of packages its tests are skipped."""
    folder = new_folder(tmp_path_factory)
    settings = Settings(project=folder)
    for name in WITH_LIBRARIES:
        source = writing.from_template(settings, name, name)
        writing.write_workflow(settings, name, noting_requests(source, name))
    (folder / "workflows" / "requests_of.py").write_text(REQUESTS, encoding="utf-8")
    writing.write_workflow(settings, "wrapped_run", WRAPPED.lstrip())
    async with running(folder, {"DURABLE_WORKFLOWS_PARK_AFTER_SECONDS": "0.2"}) as project:
        entries = (await installed(project)).workflows
        errors = {one.name: one.error for one in entries if one.error}
        if any("The package index cannot be reached" in error for error in errors.values()):
            pytest.skip(f"the libraries cannot be installed here: {errors}")
        assert not errors
        yield project


def noting_requests(source: str, name: str) -> str:
    line = FIRST_LINES[name]
    indent = " " * (len(line) - len(line.lstrip()))
    assert source.count(line) == source.count("import os\n") == 1
    source = source.replace(line, f"{indent}requests_of.note({name!r})\n{line}")
    return source.replace("import os\n", "import os\n\nimport requests_of\n")


async def installed(project: Running) -> Catalog:
    """The catalog, once there is an environment with the libraries."""

    async def look() -> Catalog | None:
        try:
            return await project.engine.catalog()
        except WorkflowUnavailable as error:
            if "is being prepared" in error.message:
                return None
            raise

    return await until_found(look, "the libraries are installed", seconds=600)


def requests_of(project: Running, name: str) -> int:
    path = project.folder / f"{name}.requests"
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0


async def parked(project: Running, workflow_id: str) -> None:
    select = (
        "select 1 from dbos.workflow_status where workflow_uuid = %s and executor_id = 'parked'"
    )

    async def look() -> list[Any]:
        return project.query(select, workflow_id)

    await until_found(look, f"{workflow_id} is parked", seconds=60)


async def answer(project: Running, workflow_id: str, **said: JsonValue) -> None:
    await project.waits(workflow_id)
    [wait] = await project.engine.reader.waits(workflow_id)
    await project.engine.answer(wait, said, who="ann", how="test")


@proves("value:libraries", "value:as-it-was")
@pytest.mark.parametrize("name", WITH_LIBRARIES)
async def test_an_agent_stops_for_a_person_without_a_process_and_goes_on_without_asking_its_model_again(
    project: Running, name: str
) -> None:
    before = requests_of(project, name)
    workflow_id = await project.start(name)
    prompt = await project.waits(workflow_id)
    assert prompt is not None
    assert prompt.startswith("May the agent do refund with {")
    assert "It did not arrive." in prompt
    await parked(project, workflow_id)
    assert requests_of(project, name) == before + 2
    await answer(project, workflow_id, approved=True)
    output = await project.output(workflow_id)
    assert output.startswith("49.00 were paid back for the order A-17")
    assert requests_of(project, name) == before + 3


@proves("value:libraries")
@pytest.mark.parametrize("name", WITH_LIBRARIES)
async def test_what_a_person_refuses_is_not_done_and_the_model_is_told(
    project: Running, name: str
) -> None:
    workflow_id = await project.start(name)
    await answer(project, workflow_id, approved=False, comment="Ask the carrier.")
    output = await project.output(workflow_id)
    assert output.startswith("A person said no. Ask the carrier.")
    names = [step for step, _ in await project.step_outputs(workflow_id)]
    assert not {"refund", "pay_back"} & {*names}


@proves("value:libraries", "recovery:worker-killed")
@pytest.mark.parametrize("name", WITH_LIBRARIES)
async def test_after_a_kill_only_the_request_that_was_interrupted_is_repeated(
    project: Running, name: str
) -> None:
    before = requests_of(project, name)
    workflow_id = await project.start(name)
    await project.waits(workflow_id)
    kill_worker(project.folder)
    hold = project.folder / f"{name}.hold"
    hold.touch()
    await answer(project, workflow_id, approved=True)

    async def asked() -> bool:
        return requests_of(project, name) == before + 3

    await until_found(asked, "the third request", seconds=90)
    kill_worker(project.folder)
    hold.unlink()
    await project.output(workflow_id)
    assert requests_of(project, name) == before + 4
    names = [step for step, _ in await project.step_outputs(workflow_id)]
    assert sum(step in ("refund", "pay_back") for step in names) == 1


@proves("value:libraries")
async def test_the_result_of_a_wrapped_agent_is_a_childs_result_and_comes_as_it_was(
    project: Running,
) -> None:
    workflow_id = await project.start("wrapped_run")
    await parked(project, workflow_id)
    await project.engine.send(workflow_id, "go", None)
    assert await project.output(workflow_id) == [4, 1]

"""A workflow's arguments are what their type hints say, however it is started, and again on each replay."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from durable_workflows.code import catalog, versions
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import StartRequest
from helpers import copy_flow, processes_of, until_found
from requirements import proves

pytestmark = pytest.mark.anyio

ARGS = {
    "request": {"name": "Ann", "price": "1.10"},
    "paths": [{"src": "a", "tags": ["x"]}],
    "ident": "00000000-0000-0000-0000-000000000007",
    "price": "2.50",
    "days": ["2026-11-28"],
    "tip": "0.10",
}
SEEN = [
    "Request name='Ann' price=Decimal('1.10')",
    "Paths Paths(src=PosixPath('a'), tags={'x'})",
    "UUID 00000000-0000-0000-0000-000000000007",
    "Decimal 2.50",
    "Color Color.RED",
    "NoneType None",
    "date 2026-11-28",
    "dict {'tip': Decimal('0.10')}",
]


async def output_of(engine: Engine, workflow_id: str) -> object:
    result = await engine.reader.wait([workflow_id], timeout_seconds=60)
    assert [one.status for one in result.done] == ["SUCCESS"], result
    return result.done[0].output


async def output(engine: Engine, name: str, **args: object) -> object:
    request = StartRequest.model_validate({"name": name, "args": args})
    return await output_of(engine, (await engine.start(request)).workflow_id)


@proves("arguments:typed")
async def test_a_start_and_its_fork_have_arguments_of_the_types_that_the_hints_say(
    shared: Engine,
) -> None:
    request = StartRequest.model_validate({"name": "typed", "args": ARGS})
    started = await shared.start(request)
    assert await output_of(shared, started.workflow_id) == SEEN
    fork = await shared.fork(started.workflow_id, 1)
    assert await output_of(shared, fork.workflow_id) == SEEN


@proves("arguments:typed")
async def test_a_child_has_typed_arguments_in_whichever_way_python_starts_it(
    shared: Engine,
) -> None:
    assert await output(shared, "typed_parent") == [SEEN] * 5
    request = "Request name='Ann' price=Decimal('1.10')"
    assert await output(shared, "typed_parent_async") == [[request, "Decimal 2"]] * 2


async def test_a_workflow_with_a_validator_of_its_own_keeps_it(shared: Engine) -> None:
    assert await output(shared, "typed_by_dbos", price="1.10") == ["Decimal 1.10"]


@proves("request:refused")
async def test_an_argument_that_does_not_fit_is_refused_at_the_start(shared: Engine) -> None:
    for wrong in ({"price": "dear"}, {"ident": "7"}, {"days": ["someday"]}, {"tip": "x"}):
        request = StartRequest.model_validate({"name": "typed", "args": {**ARGS, **wrong}})
        with pytest.raises(InvalidArguments, match=next(iter(wrong))):
            await shared.start(request)


async def test_an_argument_that_does_not_fit_in_a_call_ends_the_run_with_its_name(
    shared: Engine,
) -> None:
    started = await shared.start(StartRequest(name="typed_wrongly"))
    result = await shared.reader.wait([started.workflow_id], timeout_seconds=60)
    error = result.done[0].error
    assert error is not None
    assert (
        "The argument 'price' of typed_and_waits does not fit: Input should be a valid decimal"
        in str(error)
    )


@pytest.mark.long
@proves("arguments:typed", "recovery:worker-killed")
async def test_a_run_that_python_called_with_objects_has_the_same_arguments_after_its_worker_died(
    engine: Engine, folder: Path
) -> None:
    copy_flow("typed", folder)
    request = StartRequest(name="typed_parent_of_waiting", args={"price": "1.10"})
    parent = (await engine.start(request)).workflow_id

    async def waiting() -> str | None:
        children = (await engine.reader.run(parent)).children
        return next((one.workflow_id for one in children if one.waiting_on), None)

    child = await until_found(waiting, "the child waits")
    for worker in processes_of(folder, "durable_workflows.host.worker"):
        worker.kill()
    await engine.send(child, "go", None)
    assert (
        await output_of(engine, parent)
        == ["Decimal 1.10", "datetime 2026-11-28 03:00:00.000005"] * 2
    )


@pytest.mark.long
@proves("version:old-code", "version:upgrade")
async def test_a_run_of_a_version_that_an_earlier_release_saved_has_its_arguments_as_that_gave_them(
    engine: Engine, project: Project, folder: Path
) -> None:
    copy_flow("typed", folder)
    old = replace(catalog.snapshot(project.settings), version="0123456789ab")
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await versions.save(connection, old)
        await connection.execute(
            "insert into dbos.workflow_status (workflow_uuid, name, status, application_version, application_name, queue_name,"
            " inputs, serialization, created_at, updated_at) values"
            " ('old', 'typed_async', 'ENQUEUED', '0123456789ab', 'durable-workflows', 'workflows', %s, 'portable_json', 0, 0)",
            [json.dumps({"positionalArgs": [], "namedArgs": {"request": {}, "price": "1.10"}})],
        )
    assert await output_of(engine, "old") == ["dict {}", "str 1.10"]

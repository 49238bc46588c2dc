"""Forks of many failed runs in one call, forks of failed children, and outputs with types in forks."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UnknownWorkflowId
from durable_workflows.models import Ended, ForkChoice, ForkOptions, StartRequest
from helpers import parking_project, until_found
from requirements import proves

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with parking_project(tmp_path_factory, "rewinds") as engine:
        yield engine


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done

    return (await until_found(done, f"{workflow_id} has ended"))[0]


async def failed(engine: Engine, name: str, path: str) -> str:
    request = StartRequest(name=name, args={"path": path}, workflow_id=str(uuid.uuid4()))
    workflow_id = (await engine.start(request)).workflow_id
    assert (await ended(engine, workflow_id)).status == "ERROR"
    return workflow_id


@proves("fork:many")
async def test_failed_runs_are_forked_in_one_call_each_from_its_failed_step(engine: Engine) -> None:
    path = engine.project / f"path-{uuid.uuid4()}"
    since = datetime.now(UTC)
    short = await failed(engine, "rewound_try", str(path))
    long = await failed(engine, "rewound_steps", str(path))
    paths = {one: await engine.reader.last_step(one) for one in (short, long)}
    choice = ForkChoice(since=since)
    said = await engine.fork_failed(choice, dry_run=True)
    assert (said.forked, said.dry_run) == (2, True)
    assert {one.workflow_id: one.from_step for one in said.workflows} == paths
    assert (await engine.reader.run(short)).forks == []
    path.touch()
    forked = await engine.fork_failed(choice)
    assert forked.forked == 2
    for one in forked.workflows:
        assert one.fork
        assert one.fork == f"{one.workflow_id}-fork-{one.from_step}"
        assert (await ended(engine, one.fork)).status == "SUCCESS"
    again = await engine.fork_failed(choice)
    assert again.forked == 0
    assert all(one.existing for one in again.workflows)
    only = await engine.fork_failed(ForkChoice(name="rewound_try", since=since), dry_run=True)
    assert [one.workflow_id for one in only.workflows] == [short]


@proves("fork:many")
async def test_a_run_that_cannot_be_forked_does_not_keep_the_others_from_it(engine: Engine) -> None:
    path = engine.project / f"path-{uuid.uuid4()}"
    path.touch()
    good = await engine.start(StartRequest(name="rewound_try", args={"path": str(path)}))
    assert (await ended(engine, good.workflow_id)).status == "SUCCESS"
    bad = await failed(engine, "rewound_try", "nowhere")
    found = await engine.fork_failed(ForkChoice(workflow_ids=(good.workflow_id, bad, bad)))
    assert [one.refused for one in found.workflows] == [
        "it has not failed: its status is SUCCESS",
        None,
    ]
    with pytest.raises(UnknownWorkflowId):
        await engine.fork_failed(ForkChoice(workflow_ids=(bad, "nobody")))


async def test_a_choice_with_more_runs_than_its_limit_says_so(engine: Engine) -> None:
    since = datetime.now(UTC)
    first, second = [await failed(engine, "rewound_try", "nowhere") for _ in range(2)]
    found = await engine.fork_failed(ForkChoice(since=since, limit=1), dry_run=True)
    assert [one.workflow_id for one in found.workflows] == [second]
    assert found.note == "There are more than 1: call again with a larger limit."
    later = await engine.fork_failed(ForkChoice(since=since + timedelta(hours=1)), dry_run=True)
    assert (later.workflows, later.note) == ([], None)
    assert first


@proves("fork:children")
async def test_a_failed_child_is_forked_with_its_parent(engine: Engine) -> None:
    path = engine.project / f"path-{uuid.uuid4()}"
    run = await failed(engine, "rewound_family", str(path))
    steps = (await engine.reader.run(run)).steps
    [take] = [one.step for one in steps if one.name == "DBOS.getResult"]
    path.touch()
    without = await engine.fork(run, take)
    assert (await ended(engine, without.workflow_id)).status == "ERROR"
    forked = await engine.fork(run, take, options=ForkOptions(fork_children=True))
    result = await ended(engine, forked.workflow_id)
    assert result.output == [1, "found"]
    child = await engine.reader.run(f"{forked.workflow_id}-1")
    assert (child.forked_from, child.forked_at) == (f"{run}-1", 2)


@proves("fork:typed")
@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"$type": "datetime", "value": "2026-11-30T00:00:00+00:00"}, "datetime"),
        ({"$type": "Decimal", "value": "1.50"}, "Decimal"),
        ({"plain": 1}, "dict"),
    ],
)
async def test_an_output_given_by_hand_can_have_a_type(
    engine: Engine, given: dict[str, object], seen: str
) -> None:
    path = engine.project / f"path-{uuid.uuid4()}"
    run = await failed(engine, "rewound_types", str(path))
    path.touch()
    options = ForkOptions.model_validate({"outputs": {1: given}, "args": {"path": str(path)}})
    forked = await engine.fork(run, 2, options=options)
    output = (await ended(engine, forked.workflow_id)).output
    assert isinstance(output, list)
    assert output[0] == seen

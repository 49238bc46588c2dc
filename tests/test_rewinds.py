"""Rewinds: the same run goes again from a step, and what it had done is kept as another run."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from dbos import DBOSClient
from psycopg import sql

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import StillRunning, UnknownStep, UnknownWorkflowId, WouldRepeat
from durable_workflows.models import Ended, ForkOptions, Run, StartRequest
from durable_workflows.settings import QUEUE
from helpers import dbos_client_of, kill_worker, parking_project, until, until_found
from requirements import proves

pytestmark = pytest.mark.anyio

OF_THE_MOMENT = (
    "workflow_uuid",
    "created_at",
    "updated_at",
    "attributes",
    "creator_xid",
    "completed_at",
)
# What dbos's own rewind changes, and how. It leaves entries of streams, and deletes messages.
TABLES = ("workflow_status", "operation_outputs", "workflow_events", "workflow_events_history")


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project whose runs are parked soon."""
    async with parking_project(tmp_path_factory, "rewinds") as engine:
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[DBOSClient]:
    with dbos_client_of(engine) as client:
        yield client


async def start(engine: Engine, name: str, **args: Any) -> str:
    request = StartRequest(name=f"rewound_{name}", args=args, workflow_id=str(uuid.uuid4()))
    return (await engine.start(request)).workflow_id


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done

    return (await until_found(done, f"{workflow_id} has ended"))[0]


async def parked(engine: Engine, workflow_id: str) -> Run:
    async def rests() -> Run | None:
        run = await engine.reader.run(workflow_id)
        return run if run.rest else None

    return await until_found(rests, f"{workflow_id} is parked")


def done_by(engine: Engine, workflow_id: str) -> list[str]:
    path = engine.project / f"done-{workflow_id}"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


async def rows(engine: Engine, workflow_id: str, *names: str) -> dict[str, list[dict[str, Any]]]:
    """What DBOS's tables have of a run, without its times and its id."""
    database = engine.connection.database
    found: dict[str, list[dict[str, Any]]] = {}
    async with await tables.connect(database, role="test") as connection:
        for table in names or TABLES:
            select = sql.SQL("select * from {} where workflow_uuid = %s").format(
                sql.Identifier(database.dbos_schema, table)
            )
            cursor = await connection.execute(select, [workflow_id])
            found[table] = sorted(
                (
                    {
                        key: value
                        for key, value in row.items()
                        if key not in OF_THE_MOMENT and "epoch_ms" not in key and key != "output"
                    }
                    for row in await cursor.fetchall()
                ),
                key=str,
            )
    for row in found.get("workflow_status", []):
        row.pop("executor_id")
    for row in found.get("operation_outputs", []):
        row.pop("retention_timestamp")
    return found


async def rewind_now(engine: Engine, workflow_id: str, to_step: int, queue: str) -> str:
    """Rewind into a queue, whatever still runs; return the id of what is kept."""
    version = (await engine.reader.run(workflow_id)).version
    async with await tables.connect(engine.connection.database, role="test") as connection:
        values = {"workflow_id": workflow_id, "to_step": to_step, "version": version}
        [row] = await tables.fetch(connection, "rewind_run", **values, queue=queue, repeat=[])
    assert row["verdict"] == "rewound"
    return row["about"]


@pytest.mark.parametrize("to_step", [1, 4, 8])
async def test_a_rewind_leaves_the_rows_that_dbos_leaves(
    engine: Engine, client: DBOSClient, to_step: int
) -> None:
    ours = await start(engine, "steps", path="none")
    theirs = await start(engine, "steps", path="none")
    assert (await ended(engine, ours)).status == (await ended(engine, theirs)).status == "ERROR"
    version = (await engine.reader.run(ours)).version
    assert version
    before = await rows(engine, ours, *TABLES, "streams", "workflow_output", "workflow_input")

    def rewind() -> None:
        client.rewind_workflow(
            theirs, start_step=to_step, application_version=version, queue_name="no"
        )

    await anyio.to_thread.run_sync(rewind)
    kept = await rewind_now(engine, ours, to_step, "no")
    assert await rows(engine, ours) == await rows(engine, theirs)
    after = await rows(engine, kept, *TABLES, "streams", "workflow_output", "workflow_input")
    [status], [was] = after.pop("workflow_status"), before.pop("workflow_status")
    assert status | {"queue_name": None} == was | {"queue_name": None}
    assert after == before


@proves("rewind:again")
async def test_a_failed_run_goes_again_from_a_step_under_its_own_id(engine: Engine) -> None:
    path = engine.project / f"path-{uuid.uuid4()}"
    run = await start(engine, "steps", path=str(path))
    assert (await ended(engine, run)).status == "ERROR"
    path.touch()
    last = await engine.reader.last_step(run)
    rewound = await engine.rewind(run, last)
    assert (rewound.workflow_id, rewound.existing) == (run, False)
    result = await ended(engine, run)
    assert result.status == "SUCCESS"
    assert isinstance(result.output, list)
    assert result.output[:2] == [1, 2]
    assert result.output[3] == "found"
    assert done_by(engine, run) == ["first", "second"]
    kept = await engine.reader.run(rewound.kept_as)
    assert (kept.status, kept.rewound_from, kept.rewound_to) == ("ERROR", run, last)
    assert [one.step for one in kept.steps] == [*range(1, last + 1)]
    assert [one.workflow_id for one in (await engine.reader.run(run)).rewinds] == [kept.workflow_id]


@proves("rewind:again")
async def test_an_approval_that_was_refused_is_asked_for_again(engine: Engine) -> None:
    run = await start(engine, "approval")
    await until_found(lambda: engine.reader.waits(run), "it waits")
    await engine.send(run, "go", "no", "my-key")
    assert (await ended(engine, run)).status == "ERROR"
    rewound = await engine.rewind(run, 2)
    await until_found(lambda: engine.reader.waits(run), "it asks again")
    assert [one.message.text for one in await engine.reader.messages(rewound.kept_as)] == ['"no"']
    assert await engine.reader.messages(run) == []
    await engine.send(run, "go", "yes", "my-key")  # the same key: the first one was undone
    assert (await ended(engine, run)).output == ["yes"]
    assert done_by(engine, run) == ["asked", "answered", "answered"]


@proves("rewind:again")
async def test_a_run_that_waits_is_rewound_without_a_worker_noticing_twice(engine: Engine) -> None:
    run = await start(engine, "approval")
    await until_found(lambda: engine.reader.waits(run), "it waits")
    rewound = await engine.rewind(run, 1)  # which waits until it is parked

    async def asked_twice() -> bool:
        return done_by(engine, run) == ["asked", "asked"] and bool(await engine.reader.waits(run))

    await until_found(asked_twice, "it asks again")
    assert (await engine.reader.run(rewound.kept_as)).status == "CANCELLED"
    await engine.send(run, "go", "yes")
    assert (await ended(engine, run)).output == ["yes"]


async def test_a_message_that_was_not_taken_yet_stays(engine: Engine) -> None:
    run = await start(engine, "approval")
    await parked(engine, run)
    await engine.send(run, "other", 1)
    await engine.rewind(run, 2)
    assert [one.topic for one in await engine.reader.messages(run)] == ["other"]
    await engine.cancel([run])


@proves("rewind:kept")
async def test_the_runs_that_the_steps_had_started_are_kept_beside_it(engine: Engine) -> None:
    run = await start(engine, "parent")
    assert (await ended(engine, run)).output == [1, 1]
    steps = [one for one in (await engine.reader.run(run)).steps if one.child_workflow_id]
    early, middle = dict.fromkeys(one.child_workflow_id for one in steps)
    first = next(one.step for one in steps if one.child_workflow_id == middle)
    below = f"{middle}-2"
    assert done_by(engine, below) == ["below"]
    rewound = await engine.rewind(run, first)
    assert (await ended(engine, run)).output == [1, 2]
    assert early
    assert middle
    assert done_by(engine, early) == ["early"]
    assert done_by(engine, middle) == ["middle", "middle"]
    assert done_by(engine, below) == ["below", "below"]
    kept = await engine.reader.run(rewound.kept_as)
    moved = {one.workflow_id: one.parent_workflow_id for one in kept.children}
    renamed = f"{rewound.kept_as}-{first}"
    assert moved == {renamed: rewound.kept_as, f"{renamed}-2": renamed}
    named = [one.child_workflow_id for one in kept.steps if one.child_workflow_id]
    assert set(named) == {early, renamed}
    now = {
        one.workflow_id: one.parent_workflow_id for one in (await engine.reader.run(run)).children
    }
    assert now == {early: run, middle: run, below: middle}


@proves("rewind:kept")
async def test_a_child_is_rewound_once_it_has_ended_and_its_parent_waits_on(
    engine: Engine,
) -> None:
    run = await start(engine, "asking_parent")
    child = f"{run}-1"

    async def child_waits() -> bool:
        found = (await engine.reader.run(run)).children
        return bool(found) and bool(await engine.reader.waits(child))

    await until_found(child_waits, "the child waits")
    with pytest.raises(StillRunning, match=f"{child}, which {run} has started, has not ended"):
        await engine.rewind(run, 1)
    await parked(engine, child)
    await engine.rewind(child, 2)
    await engine.send(child, "go", "yes")
    assert (await ended(engine, run)).output == ["yes"]
    assert done_by(engine, child) == ["asked", "answered"]


@proves("effect:fork")
async def test_a_rewind_that_would_repeat_what_has_happened_is_refused(engine: Engine) -> None:
    run = await start(engine, "payment")
    await ended(engine, run)
    with pytest.raises(WouldRepeat, match="step 2 pay, which has happened") as refused:
        await engine.rewind(run, 1)
    assert f'rewind(workflow_id="{run}", to_step=1, repeat=[2])' in refused.value.hint
    assert (await engine.reader.run(run)).status == "SUCCESS"
    rewound = await engine.rewind(run, 1, repeat=[2])
    await ended(engine, run)
    assert done_by(engine, run) == ["begun", "paid", "begun", "paid"]
    assert [one.step for one in (await engine.reader.run(rewound.kept_as)).effects] == [2]


@proves("effect:key")
async def test_a_step_that_is_done_again_has_another_key(engine: Engine) -> None:
    run = await start(engine, "steps", path="none")
    await ended(engine, run)
    steps = {one.name: one.step for one in (await engine.reader.run(run)).steps}

    async def key(workflow_id: str) -> str:
        found = (await engine.reader.run(workflow_id)).steps
        return next(one.output.text for one in found if one.name == "key" and one.output)

    first = await key(run)
    await engine.rewind(run, steps["unless"])
    await ended(engine, run)
    assert await key(run) == first
    await engine.rewind(run, steps["key"])
    await ended(engine, run)
    assert await key(run) != first


async def test_what_cannot_be_rewound_is_refused(engine: Engine) -> None:
    path = engine.project / f"path-{uuid.uuid4()}"
    run = await start(engine, "hold", path=str(path))
    await until(lambda: "held" in done_by(engine, run), "its step runs")
    with pytest.raises(StillRunning):
        await engine.rewind(run, 1)
    with pytest.raises(UnknownStep, match="has no step 7"):
        await engine.rewind(run, 7)
    with pytest.raises(UnknownWorkflowId):
        await engine.rewind("nobody", 1)
    path.touch()
    assert (await ended(engine, run)).output == 2


@proves("rewind:again")
async def test_a_result_that_comes_after_the_rewind_is_not_taken(engine: Engine) -> None:
    """The step of a cancelled run still runs; its result is for what the run did before."""
    path = engine.project / f"path-{uuid.uuid4()}"
    run = await start(engine, "hold", path=str(path))
    await until(lambda: "held" in done_by(engine, run), "its step runs")
    await until_found(lambda: engine.reader.steps_under_way([run]), "its worker has told of it")
    await engine.cancel([run])
    with pytest.raises(StillRunning, match="step 2 hold of"):
        await engine.rewind(run, 1)
    await rewind_now(engine, run, 1, QUEUE)
    path.touch()
    assert (await ended(engine, run)).output == 4
    assert done_by(engine, run) == ["begun", "held", "begun", "held"]


@pytest.mark.parametrize("at_once", [2, 4])
async def test_of_rewinds_at_the_same_moment_one_counts(engine: Engine, at_once: int) -> None:
    run = await start(engine, "approval")
    await parked(engine, run)
    version = (await engine.reader.run(run)).version
    found: list[tuple[str, str]] = []

    async def rewind() -> None:
        async with await tables.connect(engine.connection.database, role="test") as connection:
            values = {"workflow_id": run, "to_step": 2, "version": version}
            [row] = await tables.fetch(connection, "rewind_run", **values, queue="no", repeat=[])
            found.append((row["verdict"], row["about"]))

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(rewind)
    assert sorted(verdict for verdict, _ in found) == ["existing"] * (at_once - 1) + ["rewound"]
    assert {about for _, about in found} == {f"{run}-rewound-1"}


async def test_a_message_that_comes_during_a_rewind_is_received_by_the_run(engine: Engine) -> None:
    run = await start(engine, "approval")
    await parked(engine, run)
    version = (await engine.reader.run(run)).version
    values = {"workflow_id": run, "to_step": 1, "version": version, "queue": QUEUE}
    async with (
        anyio.create_task_group() as group,
        await tables.connect(engine.connection.database, role="test") as connection,
        connection.transaction(),
    ):
        [row] = await tables.fetch(connection, "rewind_run", **values, repeat=[])
        assert row["verdict"] == "rewound"
        group.start_soon(engine.send, run, "go", "yes")
    assert (await ended(engine, run)).output == ["yes"]
    assert len(await engine.reader.messages(run)) == 1


@pytest.mark.long
@proves("rewind:kept")
async def test_a_rewound_run_goes_on_after_its_worker_was_killed(engine: Engine) -> None:
    run = await start(engine, "approval")
    await parked(engine, run)
    await engine.rewind(run, 1)
    await until(lambda: len(done_by(engine, run)) >= 2, "it has begun again")
    kill_worker(engine.project)
    await engine.send(run, "go", "yes")
    assert (await ended(engine, run)).output == ["yes"]


async def test_a_fork_of_a_rewound_run_is_no_rewind(engine: Engine) -> None:
    run = await start(engine, "approval")
    await parked(engine, run)
    rewound = await engine.rewind(run, 1)
    for origin in (run, rewound.kept_as):
        forked = await engine.fork(origin, 1, options=ForkOptions())
        fork = await engine.reader.run(forked.workflow_id)
        assert (fork.rewound_from, fork.rewinds) == (None, [])
        await engine.cancel([forked.workflow_id])
    await engine.cancel([run])

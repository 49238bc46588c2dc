"""Which runs may have ended a worker, by the rows that a dead one leaves; no process dies here."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.host import suspects
from requirements import proves

pytestmark = pytest.mark.anyio

COMMON, APART = "cafe0000-v", "cafe0000-a1-v"
LONG = 30.0  # seconds for which a run had been under way
Insert = Callable[..., Coroutine[Any, Any, None]]


@pytest.fixture
async def connection(shared: Engine) -> AsyncIterator[tables.Connection]:
    """A connection whose changes are all taken back."""
    async with AsyncExitStack() as stack:
        made = await tables.connect(shared.connection.database, role="test")
        await stack.enter_async_context(made)
        await stack.enter_async_context(made.transaction(force_rollback=True))
        yield made


async def a_worker(
    connection: tables.Connection, executor_id: str = COMMON, *, lived: float = 600.0
) -> None:
    """One that ended just now, with exit status 3."""
    await connection.execute(
        "insert into durable_workflows.workers (executor_id, version, pid, host, state, started_at, apart)"
        " values (%s, 'v', 1, 'here', 'ready', clock_timestamp() - make_interval(secs => %s), %s)",
        [executor_id, lived, executor_id == APART],
    )
    await ends(connection, executor_id)


async def ends(connection: tables.Connection, executor_id: str = COMMON, status: int = 3) -> None:
    values = {"executor_id": executor_id, "pid": 1, "status": status, "ago": 0.0}
    assert await tables.run(connection, "note_worker_end", **values) == 1


async def a_run(
    connection: tables.Connection,
    workflow_id: str,
    *steps: tuple[str, object],
    executor_id: str = COMMON,
    seconds: float = LONG,
    parent: str | None = None,
) -> None:
    """A run that the worker took up so long ago; each step is a name with what was recorded, or the id of a child."""
    taken_up = int((datetime.now(UTC) - timedelta(seconds=seconds)).timestamp() * 1000)
    await connection.execute(
        "insert into dbos.workflow_status (workflow_uuid, name, status, executor_id, application_version, application_name,"
        " recovery_attempts, created_at, updated_at, started_at_epoch_ms, parent_workflow_id)"
        " values (%s, 'flow', 'PENDING', %s, 'v', 'durable-workflows', 1, %s, %s, %s, %s)",
        [workflow_id, executor_id, taken_up, taken_up, taken_up, parent],
    )
    for number, (name, recorded) in enumerate(steps, start=1):
        if name:
            await a_step(connection, workflow_id, number, name, recorded)


async def a_step(
    connection: tables.Connection, workflow_id: str, number: int, name: str, recorded: object
) -> None:
    child = recorded if name == "child" else None
    await connection.execute(
        "insert into dbos.operation_outputs (workflow_uuid, function_id, function_name, output, child_workflow_id)"
        " values (%s, %s, %s, %s, %s)",
        [workflow_id, number, name, None if child else json.dumps(recorded), child],
    )


async def a_running_step(
    connection: tables.Connection, workflow_id: str, number: int, *, retry_in: float | None = None
) -> None:
    at = None if retry_in is None else datetime.now(UTC) + timedelta(seconds=retry_in)
    row = {
        "workflow_id": workflow_id,
        "function_id": number,
        "name": "work",
        "since": datetime.now(UTC).isoformat(),
        "attempt": 1,
        "max_attempts": 3,
        "retry_at": at.isoformat() if at else None,
    }
    await tables.run(connection, "write_steps", executor_id=COMMON, rows=json.dumps([row]))


async def under_way(connection: tables.Connection) -> set[str]:
    rows = await tables.fetch(connection, "held_runs", executor_id=COMMON)
    return {row["workflow_id"] for row in rows if row["under_way"]}


async def places(connection: tables.Connection) -> dict[str, str | None]:
    cursor = await connection.execute(
        "select workflow_id, executor_id from durable_workflows.suspects"
    )
    return {row["workflow_id"]: row["executor_id"] for row in await cursor.fetchall()}


def in_seconds(seconds: float) -> float:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).timestamp()


@proves("crash:innocent")
async def test_a_run_that_waits_or_sleeps_has_no_code_under_way(
    connection: tables.Connection,
) -> None:
    nothing, later = ("", None), ("DBOS.sleep", in_seconds(600))
    await a_worker(connection)
    await a_run(connection, "sleeps", ("work", 1), later)
    await a_run(connection, "receives", nothing, later)
    await a_run(connection, "receives-after-step", ("work", 1), nothing, later)
    await a_run(connection, "waits-for-ever", nothing, ("DBOS.sleep", 4e9))
    await a_run(connection, "parent", ("child", "sleeps"))
    await a_run(connection, "gathers", ("child", "sleeps"), ("DBOS.getResult", 1))
    await a_run(connection, "tries-again", ("work", 1))
    await a_running_step(connection, "tries-again", 2, retry_in=60)
    assert await under_way(connection) == set()


async def test_a_run_in_a_step_or_between_steps_has_code_under_way(
    connection: tables.Connection,
) -> None:
    nothing, later = ("", None), ("DBOS.sleep", in_seconds(600))
    await a_worker(connection)
    await a_run(connection, "begins")
    await a_run(connection, "between", ("work", 1))
    await a_run(connection, "slept", ("DBOS.sleep", in_seconds(-1)))
    await a_run(connection, "received", ("DBOS.recv", 1), later)
    await a_run(connection, "odd", ("DBOS.sleep", "not a time"))
    await a_run(connection, "after-child", ("child", "begins"), ("work", 1))
    await a_run(connection, "child-ended", ("child", "gone"))
    await a_run(connection, "beside-a-wait", nothing, later)
    await a_running_step(connection, "beside-a-wait", 3)
    await a_run(connection, "tried-again")
    await a_running_step(connection, "tried-again", 1, retry_in=-1)
    cursor = await connection.execute(
        "select workflow_uuid from dbos.workflow_status where executor_id = %s", [COMMON]
    )
    assert await under_way(connection) == {row["workflow_uuid"] for row in await cursor.fetchall()}


@proves("crash:innocent")
async def test_a_run_that_the_dead_process_had_not_taken_up_yet_is_no_suspect(
    connection: tables.Connection,
) -> None:
    await a_worker(connection, lived=10)
    await a_run(connection, "left-by-an-earlier-one", seconds=60)
    assert await under_way(connection) == set()
    verdict = await suspects.judge(connection, COMMON, apart=False)
    assert (verdict, await places(connection)) == (suspects.Verdict(suspects=[]), {})


async def test_a_worker_that_was_told_to_end_leaves_no_suspects(
    connection: tables.Connection,
) -> None:
    await a_worker(connection)
    await a_run(connection, "run")
    assert (await suspects.judge(connection, COMMON, apart=False)).suspects == ["run"]
    again = await suspects.judge(connection, COMMON, apart=False)  # that end was judged
    assert again == suspects.Verdict()


@proves("crash:set-apart")
async def test_whoever_was_there_twice_at_the_same_step_is_set_apart(
    connection: tables.Connection,
) -> None:
    await a_worker(connection)
    await a_run(connection, "stays", ("work", 1))
    await a_run(connection, "goes-on", ("work", 1))
    verdict = await suspects.judge(connection, COMMON, apart=False)
    assert sorted(verdict.suspects) == ["goes-on", "stays"]
    assert await places(connection) == {"stays": None, "goes-on": None}
    await a_step(connection, "goes-on", 2, "work", 1)
    await ends(connection)
    await suspects.judge(connection, COMMON, apart=False)
    found = await places(connection)
    assert found["goes-on"] is None
    assert found["stays"] is not None
    assert found["stays"].startswith("cafe0000-")
    assert found["stays"].endswith("-v")
    needed = await tables.fetch(connection, "workers_apart", identity="cafe0000")
    assert [(row["executor_id"], row["proven"]) for row in needed] == [(found["stays"], False)]


@proves("crash:set-apart")
async def test_a_run_that_gets_a_step_further_each_time_is_set_apart_after_five_ends(
    connection: tables.Connection,
) -> None:
    await a_worker(connection)
    await a_run(connection, "run")
    for number in range(1, 6):
        assert (await places(connection)).get("run") is None
        await suspects.judge(connection, COMMON, apart=False)
        await a_step(connection, "run", number, "work", 1)
        await ends(connection)
    assert (await places(connection))["run"] is not None


@proves("crash:set-apart")
async def test_those_taken_up_just_before_the_end_are_more_likely_than_others(
    connection: tables.Connection,
) -> None:
    await a_worker(connection)
    names = [f"run-{number}" for number in range(5)]
    for name in names:
        await a_run(connection, name)
    await suspects.judge(connection, COMMON, apart=False)
    await ends(connection)
    for name, seconds in zip(names, [20, 10, 0.6, 0.3, 0.0], strict=True):
        await connection.execute(
            "update dbos.workflow_status set started_at_epoch_ms = extract(epoch from worker.ended_at) * 1000 - %s"
            " from durable_workflows.workers as worker where worker.executor_id = %s and workflow_uuid = %s",
            [seconds * 1000, COMMON, name],
        )
    await suspects.judge(connection, COMMON, apart=False)
    found = await places(connection)
    assert [found["run-0"], found["run-1"]] == [None, None]
    assert None not in (found["run-2"], found["run-4"])
    assert found["run-2"] == found["run-3"] != found["run-4"]  # the last one is alone


@proves("crash:set-apart")
async def test_where_none_is_more_likely_all_are_divided_until_one_is_alone(
    connection: tables.Connection,
) -> None:
    await a_worker(connection)
    for number in range(5):
        await a_run(connection, f"run-{number}")
    for _ in range(2):
        await suspects.judge(connection, COMMON, apart=False)
        await ends(connection)
    found = await places(connection)
    sizes = sorted(list(found.values()).count(place) for place in set(found.values()))
    assert (sizes, None in found.values()) == ([2, 3], False)


async def apart(connection: tables.Connection, *workflow_ids: str) -> None:
    """Runs that are set apart for one worker, which has ended."""
    await a_worker(connection, APART)
    for workflow_id in workflow_ids:
        await a_run(connection, workflow_id, executor_id=APART)
    rows = [{"workflow_id": one, "after_step": 0, "step": None} for one in workflow_ids]
    await tables.run(connection, "accuse", rows=json.dumps(rows), status=3, alone=0)
    await tables.run(connection, "set_apart", workflow_ids=list(workflow_ids), executor_id=APART)


@proves("crash:set-apart")
async def test_several_that_are_apart_are_divided_and_those_that_wait_are_acquitted(
    connection: tables.Connection,
) -> None:
    await apart(connection, "one", "two", "three")
    await a_step(connection, "three", 1, "DBOS.sleep", in_seconds(600))
    verdict = await suspects.judge(connection, APART, apart=True)
    found = await places(connection)
    assert sorted(found) == ["one", "two"]
    assert len({found["one"], found["two"], APART, None}) == 4
    assert sorted(verdict.suspects) == ["one", "two"]


@proves("crash:ends")
async def test_a_run_that_ends_a_worker_of_its_own_five_times_is_condemned(
    connection: tables.Connection,
) -> None:
    await apart(connection, "culprit")
    for _ in range(suspects.MOST_ALONE - 1):
        verdict = await suspects.judge(connection, APART, apart=True)
        assert verdict == suspects.Verdict(suspects=["culprit"])
        await ends(connection, APART)
    verdict = await suspects.judge(connection, APART, apart=True)
    assert verdict == suspects.Verdict(condemned=["culprit"])
    assert await places(connection) == {"culprit": APART}  # resumed, it begins there
    await ends(connection, APART)
    verdict = await suspects.judge(connection, APART, apart=True)
    assert verdict == suspects.Verdict(suspects=["culprit"])  # with as many attempts again


async def test_a_run_that_heals_a_step_each_time_is_not_condemned(
    connection: tables.Connection,
) -> None:
    await apart(connection, "culprit")
    for number in range(1, 2 * suspects.MOST_ALONE):
        assert not (await suspects.judge(connection, APART, apart=True)).condemned
        await a_step(connection, "culprit", number, "work", 1)
        await ends(connection, APART)


@proves("crash:set-apart")
async def test_ends_that_no_code_under_way_explains_make_all_suspects_at_last(
    connection: tables.Connection,
) -> None:
    """As of a run that waits while a short step of its own ends the worker."""
    await a_worker(connection, lived=10)
    await a_run(connection, "waits", ("", None), ("DBOS.sleep", in_seconds(600)), seconds=5)
    for _ in range(2):
        verdict = await suspects.judge(connection, COMMON, apart=False)
        assert (list(verdict.suspects), await places(connection)) == ([], {})
        await ends(connection)
    await suspects.judge(connection, COMMON, apart=False)
    assert (await places(connection))["waits"] is not None


async def test_what_was_set_apart_on_a_machine_that_is_gone_is_let_in_again(
    connection: tables.Connection,
) -> None:
    await apart(connection, "run")
    values = {"identity": "cafe0000", "seconds": 0}
    await tables.run(connection, "let_in_again", **values)
    assert await places(connection) == {"run": APART}
    values = {"identity": "beef0000", "seconds": 60}
    await tables.run(connection, "let_in_again", **values)
    assert await places(connection) == {"run": APART}  # it was heard of lately
    await tables.run(connection, "let_in_again", **(values | {"seconds": 0}))
    assert await places(connection) == {"run": None}


async def test_a_worker_apart_is_needed_for_what_it_left_behind(
    connection: tables.Connection,
) -> None:
    await a_run(connection, "child", executor_id=APART)
    needed = await tables.fetch(connection, "workers_apart", identity="cafe0000")
    assert [(row["executor_id"], row["version"]) for row in needed] == [(APART, "v")]

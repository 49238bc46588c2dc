"""Steps that are transactions on the project's own database: the effect and its record come together, whatever happens to the process."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from durable_workflows.authoring import project_datasource
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UsageError
from durable_workflows.models import Ended, StartRequest
from helpers import kill_worker, parking_project, until, until_found, value
from requirements import proves

pytestmark = pytest.mark.anyio

STEP_SECONDS = 0.1  # of a step whose process is killed
KILLS = 15  # of sync and as many of async functions, on each kind of database


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project whose steps are transactions."""
    async with parking_project(tmp_path_factory, "transactional") as engine:
        yield engine


async def start(engine: Engine, workflow: str, **args: JsonValue) -> str:
    request = StartRequest(name=f"transactional_{workflow}", args=args)
    return (await engine.start(request)).workflow_id


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done

    return (await until_found(done, f"{workflow_id} has ended", seconds=60))[0]


async def orders(engine: Engine, *workflow_ids: str) -> list[int]:
    """The numbers in the author's table of these runs, in order."""
    statement = "select coalesce(array_agg(number order by id), '{}') from public.orders where run = any(%s)"
    return await value(engine, statement, [*workflow_ids])


async def checkpoints(engine: Engine, workflow_id: str) -> int:
    statement = "select count(*) from dbos.datasource_outputs where workflow_id = %s"
    return await value(engine, statement, workflow_id)


@proves("transaction:once")
@pytest.mark.parametrize("workflow", ["orders", "orders_async"])
async def test_a_step_that_is_a_transaction_leaves_its_rows_and_its_result(
    engine: Engine, workflow: str
) -> None:
    workflow_id = await start(engine, workflow)
    done = await ended(engine, workflow_id)
    assert (done.error, done.output) == (None, [0, 1, 2])
    assert await orders(engine, workflow_id) == [0, 1, 2]
    assert await checkpoints(engine, workflow_id) == 0
    forms = "select array_agg(distinct serialization) from dbos.operation_outputs where workflow_uuid = %s"
    assert await value(engine, forms, workflow_id) == ["portable_json"]


@proves("transaction:rollback")
async def test_an_error_rolls_the_transaction_back_and_is_recorded(engine: Engine) -> None:
    workflow_id = await start(engine, "refused")
    assert (await ended(engine, workflow_id)).output == "no 1 in stock"
    assert await orders(engine, workflow_id) == [2]
    [failed] = [one for one in (await engine.reader.run(workflow_id)).steps if one.error]
    assert (failed.step, failed.name) == (2, "refused")
    fork = await engine.fork(workflow_id, 3)
    assert (await ended(engine, fork.workflow_id)).output == "no 1 in stock"
    assert await orders(engine, fork.workflow_id) == [2]


@proves("transaction:concurrent")
async def test_many_runs_at_once_have_their_transactions_one_after_the_other(
    engine: Engine,
) -> None:
    kinds = ["orders", "orders_async"] * 5
    ids = [await start(engine, kind, count=4, seconds=0.05) for kind in kinds]
    for workflow_id in ids:
        assert (await ended(engine, workflow_id)).output == [0, 1, 2, 3]
    assert Counter(await orders(engine, *ids)) == dict.fromkeys(range(4), len(ids))


async def test_a_fork_takes_over_the_transactions_before_it_and_does_the_others(
    engine: Engine,
) -> None:
    workflow_id = await start(engine, "orders")
    await ended(engine, workflow_id)
    fork = await engine.fork(workflow_id, 4)  # the second order
    assert (await ended(engine, fork.workflow_id)).output == [0, 1, 2]
    assert await orders(engine, fork.workflow_id) == [1, 2]
    assert await orders(engine, workflow_id) == [0, 1, 2]


async def test_a_run_that_is_deleted_leaves_no_record_of_its_transactions(engine: Engine) -> None:
    workflow_id = await start(engine, "orders")
    await ended(engine, workflow_id)
    left = "insert into dbos.datasource_outputs (workflow_id, step_id, output) values (%s, 2, '1')"
    await value(engine, left, workflow_id)
    await engine.delete([workflow_id])
    assert await checkpoints(engine, workflow_id) == 0


@proves("transaction:once")
@pytest.mark.parametrize("workflow", ["dying", "dying_async"])
@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_a_worker_that_dies_at_the_commit_leaves_both_or_neither(
    engine: Engine, workflow: str, moment: str, tmp_path: Path
) -> None:
    dies = tmp_path / "dies"
    dies.touch()
    workflow_id = await start(engine, workflow, moment=moment, file=str(dies))
    done = await ended(engine, workflow_id)
    assert (done.error, done.output) == (None, 2)
    assert not dies.exists()
    assert await orders(engine, workflow_id) == [1, 2]
    assert await checkpoints(engine, workflow_id) == 0


@proves("transaction:once", "pickle:refused")
async def test_another_database_has_the_record_too_as_json(engine: Engine, tmp_path: Path) -> None:
    dies = tmp_path / "dies"
    dies.touch()
    workflow_id = await start(engine, "elsewhere", moment="after_commit", file=str(dies))
    done = await ended(engine, workflow_id)
    assert (done.error, done.output) == (None, {"orders": 1})
    assert not dies.exists()


@proves("transaction:owner")
async def test_an_execution_that_has_lost_its_run_commits_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    workflow_id = await start(engine, "held", file=str(hold))
    await until((tmp_path / "hold.attempts").exists, "the step has begun")

    async def runs() -> bool:
        return bool((await engine.reader.run(workflow_id)).running)

    await until_found(runs, "the step is shown")
    other = "update dbos.workflow_status set owner_xid = 'other' where workflow_uuid = %s"
    await value(engine, other, workflow_id)
    hold.unlink()

    async def has_given_up() -> bool:
        return not await runs()

    await until_found(has_given_up, "the step has ended")
    assert await orders(engine, workflow_id) == []
    assert kill_worker(engine.project)
    assert (await ended(engine, workflow_id)).output == 2
    assert await orders(engine, workflow_id) == [2]


@proves("transaction:once")
@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("workflow", ["orders", "orders_async"])
async def test_workers_killed_at_random_moments_leave_both_or_neither(
    engine: Engine, workflow: str
) -> None:
    """Each time two runs are within their steps, and must end as if nothing had happened."""
    await ended(engine, await start(engine, "orders", count=0))  # the table is there
    for _ in range(KILLS):
        ids = [
            await start(engine, workflow, count=4, seconds=STEP_SECONDS),
            await start(engine, workflow, count=4, seconds=STEP_SECONDS),
        ]
        await until_found(lambda ids=ids: orders(engine, *ids), "the first order")
        await anyio.sleep(random.uniform(0, 2 * STEP_SECONDS))  # a random moment
        assert kill_worker(engine.project)
        for workflow_id in ids:
            done = await ended(engine, workflow_id)
            assert (done.error, done.output) == (None, [0, 1, 2, 3])
            assert await orders(engine, workflow_id) == [0, 1, 2, 3]


@proves("transaction:misuse")
async def test_a_transactional_step_in_another_one_is_refused_and_nothing_is_left(
    engine: Engine,
) -> None:
    workflow_id = await start(engine, "misuse", which="nested")
    done = await ended(engine, workflow_id)
    assert done.error is not None
    assert "The transactional step order was called from another step." in done.error
    assert await orders(engine, workflow_id) == []


def test_outside_of_a_worker_there_is_no_data_source_of_the_project() -> None:
    with pytest.raises(UsageError, match="for workers of durable-workflows") as refused:
        project_datasource()
    assert "SQLAlchemyDatasource.create" in refused.value.hint


@proves("transaction:misuse")
async def test_what_asks_for_another_connection_in_a_transaction_is_refused_at_once(
    engine: Engine,
) -> None:
    workflow_id = await start(engine, "misuse", which="dbos")
    done = await ended(engine, workflow_id)
    assert done.error is not None
    assert "A transaction on the embedded database is open" in done.error
    assert await orders(engine, workflow_id) == []


@proves("transaction:idle")
@pytest.mark.long
async def test_a_transaction_that_stands_idle_for_too_long_fails_once(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DURABLE_WORKFLOWS_IDLE_TRANSACTION_SECONDS", "1")
    attempts = tmp_path / "attempts"
    async with parking_project(tmp_path_factory, "transactional") as engine:
        workflow_id = await start(engine, "idle", file=str(attempts))
        done = await ended(engine, workflow_id)
        assert done.error is not None
        assert "idle-in-transaction timeout" in done.error
        assert attempts.read_text(encoding="utf-8") == "x"
        assert await orders(engine, workflow_id) == []

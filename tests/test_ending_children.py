"""`@workflow_options(children=…)`: what a run has started ends with it, or goes on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal, cast

import pytest
from pydantic import JsonValue

from durable_workflows.authoring import workflow_options
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UsageError
from durable_workflows.models import Run, StartRequest
from durable_workflows.telling.causes import cause
from helpers import dbos_client_of, kill_worker, parking_project, until_found, until_parked, value
from requirements import long, proves

pytestmark = pytest.mark.anyio
WAYS = ["fails", "is cancelled", *long("returns", "is cancelled by dbos")]
CANCELLED_ROW = (
    "select status, owner_xid, queue_name, deduplication_id, started_at_epoch_ms, completed_at = updated_at as at_once, executor_id"
    " from {0}.workflow_status where workflow_uuid = %s"
)


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with parking_project(tmp_path_factory, "ending") as engine:
        yield engine


async def status(engine: Engine, workflow_id: str) -> str | None:
    select = "select status from dbos.workflow_status where workflow_uuid = %s"
    return cast("str | None", await value(engine, select, workflow_id))


async def waits(engine: Engine, workflow_id: str) -> None:
    async def found() -> object:
        run = await value(
            engine, "select 1 from dbos.workflow_status where workflow_uuid = %s", workflow_id
        )
        return run and (await engine.reader.run(workflow_id)).waiting

    await until_found(found, f"{workflow_id} waits")


async def start(engine: Engine, workflow: str, workflow_id: str, **args: JsonValue) -> None:
    """Start it, and return when it waits, and so does all that it has started."""
    await engine.start(StartRequest(name=workflow, args=args, workflow_id=workflow_id))
    for one in ("", "-child", "-child-child"):
        await waits(engine, f"{workflow_id}{one}")


async def end(engine: Engine, workflow_id: str, how: str) -> None:
    if how == "is cancelled":
        await engine.cancel([workflow_id])
    elif how == "is cancelled by dbos":
        with dbos_client_of(engine) as client:
            await client.cancel_workflows_async([workflow_id])
    else:
        await engine.send(workflow_id, "go", "fail" if how == "fails" else "return")
    await ended(engine, workflow_id)


async def ended(engine: Engine, workflow_id: str) -> str:
    async def found() -> str | None:
        now = await status(engine, workflow_id)
        return None if now in ("PENDING", "ENQUEUED") else now

    return await until_found(found, f"{workflow_id} has ended")


async def run_of(engine: Engine, workflow_id: str) -> Run:
    return await engine.reader.run(workflow_id)


async def row(engine: Engine, workflow_id: str) -> dict[str, Any]:
    database = engine.connection.database
    async with await tables.connect(database, role="test") as connection:
        asked = CANCELLED_ROW.format(database.dbos_schema).encode()
        cursor = await connection.execute(asked, [workflow_id])
        [found] = await cursor.fetchall()
        return found


@pytest.mark.parametrize("how", WAYS)
@proves("children:end")
async def test_what_a_run_has_started_ends_with_it_however_it_ends(
    engine: Engine, how: str
) -> None:
    name = f"ends-{how.replace(' ', '-')}"
    await start(engine, "ends_children", name, how=how)
    await end(engine, name, how)
    # They have ended in the same transaction, so at once.
    for one in ("-child", "-child-child", "-queued"):
        assert await status(engine, f"{name}{one}") == "CANCELLED", one
    assert await status(engine, f"{name}-quick") == "SUCCESS"


@proves("children:end")
async def test_a_child_says_why_it_was_cancelled(engine: Engine) -> None:
    await start(engine, "ends_children", "says", how="fails")
    await end(engine, "says", "fails")
    for one in ("says-child", "says-child-child"):
        run = await run_of(engine, one)
        assert run.ended_with == "says"
        why = cause(run, datetime.now(UTC))
        assert why.text.startswith("cancelled when the run above it, says, ended")
        assert why.next.startswith('inspect(workflow_id="says")')
    assert (await run_of(engine, "says-quick")).ended_with is None


async def test_a_fork_of_a_child_that_ended_so_tells_of_its_own_end_only(engine: Engine) -> None:
    await start(engine, "ends_children", "forked", how="fails")
    await end(engine, "forked", "fails")
    fork = (await engine.fork("forked-child", 1)).workflow_id
    await waits(engine, fork)
    await engine.cancel([fork])
    run = await run_of(engine, fork)
    assert (run.status, run.forked_at, run.ended_with) == ("CANCELLED", 1, None)


async def test_a_child_that_was_cancelled_again_by_somebody_says_only_that(engine: Engine) -> None:
    await start(engine, "ends_children", "again", how="fails")
    await end(engine, "again", "fails")
    await engine.resume(["again-child"])
    await waits(engine, "again-child")
    assert (await run_of(engine, "again-child")).ended_with is None
    await engine.cancel(["again-child"])
    assert (await run_of(engine, "again-child")).ended_with is None


@pytest.mark.parametrize("how", ["fails", *long("returns")])
async def test_so_it_is_with_an_async_workflow(engine: Engine, how: str) -> None:
    await start(engine, "ends_children_async", f"async-{how}", how=how)
    await end(engine, f"async-{how}", how)
    assert await status(engine, f"async-{how}-child-child") == "CANCELLED"


async def test_the_decorator_may_stand_above_that_of_dbos(engine: Engine) -> None:
    await start(engine, "ends_children_above", "above")
    await end(engine, "above", "returns")
    assert await status(engine, "above-child") == "CANCELLED"


@pytest.mark.long
@proves("children:end")
async def test_a_killed_worker_leaves_no_child_behind(engine: Engine) -> None:
    file = engine.project / "died"
    await start(engine, "ends_children", "killed", how="dies", file=str(file))
    await engine.send("killed", "go", "fail")  # its worker ends before it, and then it fails
    assert await ended(engine, "killed") == "ERROR"
    assert file.exists()
    assert await status(engine, "killed-child-child") == "CANCELLED"


@proves("children:end")
async def test_it_holds_without_any_worker(engine: Engine) -> None:
    await start(engine, "ends_children", "alone", how="returns")
    kill_worker(engine.project)
    with dbos_client_of(engine) as client:
        await client.cancel_workflows_async(["alone"])
    assert await status(engine, "alone-child-child") == "CANCELLED"


@pytest.mark.parametrize("workflow", ["says_nothing_of_children", *long("lets_children_go_on")])
@pytest.mark.parametrize("how", ["fails", *long("returns", "is cancelled")])
@proves("children:go-on")
async def test_other_children_go_on(engine: Engine, workflow: str, how: str) -> None:
    name = f"{workflow}-{how.replace(' ', '-')}"
    await start(engine, workflow, name, how=how)
    await end(engine, name, how)
    assert await status(engine, f"{name}-child") == "PENDING"
    await engine.send(f"{name}-child", "word", "go on")
    assert await ended(engine, f"{name}-child") == "SUCCESS"
    await engine.cancel([f"{name}-child-child"])


async def test_a_child_is_cancelled_as_dbos_cancels_a_run(engine: Engine) -> None:
    await start(engine, "ends_children", "ours", how="returns")
    await start(engine, "says_nothing_of_children", "theirs", how="returns")
    await until_parked(engine, "ours-child", "theirs-child")
    with dbos_client_of(engine) as client:
        await client.cancel_workflows_async(["theirs-child"])
    await end(engine, "ours", "returns")
    for one in ("ours-child", "theirs-child"):
        assert await row(engine, one) == {
            "status": "CANCELLED",
            "owner_xid": None,
            "queue_name": None,
            "deduplication_id": None,
            "started_at_epoch_ms": None,
            "at_once": True,
            "executor_id": "parked",
        }
    parked = "select count(*) from durable_workflows.parked where workflow_id like 'ours-child%%'"
    assert await value(engine, parked) == 0
    await engine.cancel(["theirs", "theirs-child-child"])


def test_another_option_is_refused() -> None:
    wrong = cast("Literal['go on']", "end")
    with pytest.raises(UsageError, match="children='end' is not an option of a workflow"):
        workflow_options(children=wrong)

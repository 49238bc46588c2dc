"""A start and a message leave the rows that dbos leaves, a batch is started whole or not at all, and its order is that of the batch."""

import json
import time
import uuid
from typing import Any

import anyio
import anyio.to_thread
import pytest
from dbos import DBOSClient, EnqueueOptions
from psycopg import sql
from pydantic import JsonValue

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UnknownWorkflowId, UsageError, WorkflowIdTaken
from durable_workflows.models import Started, StartRequest
from durable_workflows.seam import queued_runs
from durable_workflows.settings import QUEUE
from requirements import proves

pytestmark = pytest.mark.anyio

Values = dict[str, Any]
NOBODY = "no version"  # so that no worker takes the runs up
ARGS: Values = {"numbers": [1, 2.5], "text": "é \0 \ud800 '{}' %s \\ \"", "name": "deep"}
OF_THE_MOMENT = ("workflow_uuid", "creator_xid", "retention_timestamp")
OPTIONS: list[Values] = [
    {},
    {"queue": "another"},
    {"delay_seconds": 600.0},
    {"timeout_seconds": 1.5},
    {"priority": 7},
    {"attributes": {"session": "é '%s'"}},
    {"delay_seconds": 900.0, "timeout_seconds": 2.0, "priority": 1, "attributes": {"a": [1]}},
]


def options(changes: Values, workflow_id: str) -> EnqueueOptions:
    """The options for dbos's client."""
    names = {"queue": "queue_name", "timeout_seconds": "workflow_timeout"}
    found: Any = {
        "workflow_name": "noisy",
        "queue_name": QUEUE,
        "app_version": NOBODY,
        "workflow_id": workflow_id,
    }
    return found | {names.get(name, name): value for name, value in changes.items()}


def row_of(changes: Values, workflow_id: str) -> Values:
    about: Values = {
        "queue": QUEUE,
        "version": NOBODY,
        "workflow_id": workflow_id,
        "created_at": time.time_ns() // 1_000_000,
    }
    return {**queued_runs.row("noisy", ARGS, **about | changes), "creator_xid": str(uuid.uuid4())}


async def left(engine: Engine, workflow_id: str) -> Values:
    """The rows of a run, without what differs from start to start."""
    database = engine.connection.database
    async with await tables.connect(database, role="test") as connection:
        cursor = await connection.execute(
            sql.SQL(
                "select run.*, given.inputs as given, given.retention_timestamp from {dbos}.workflow_status as run"
                " left join {dbos}.workflow_input as given using (workflow_uuid) where workflow_uuid = %s"
            ).format(dbos=sql.Identifier(database.dbos_schema)),
            [workflow_id],
        )
        row = await cursor.fetchone()
    assert row is not None
    at = row.pop("created_at")
    assert abs(at - time.time() * 1000) < 60_000
    assert row.pop("updated_at") == at
    if row["delay_until_epoch_ms"] is not None:
        row["delay_until_epoch_ms"] = round((row["delay_until_epoch_ms"] - at) / 10_000)
    for name in OF_THE_MOMENT:
        assert row.pop(name) is not None
    return row


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
async def test_a_start_leaves_the_rows_that_dbos_leaves(
    changes: Values, shared: Engine, dbos_client: DBOSClient
) -> None:
    theirs, ours = str(uuid.uuid4()), str(uuid.uuid4())
    await anyio.to_thread.run_sync(
        lambda: dbos_client.enqueue(options(changes, theirs), **ARGS)  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType]
    )
    await start_rows(shared, [row_of(changes, ours)])
    assert await left(shared, ours) == await left(shared, theirs)


@pytest.mark.parametrize(
    "message", [None, "yes", {"a": [1, 2.5, None], "é": "\0 \ud800 日本 '%s'"}], ids=repr
)
@pytest.mark.parametrize("topic", ["", "go on"])
async def test_a_message_leaves_the_row_that_dbos_leaves(
    topic: str, message: JsonValue, shared: Engine, dbos_client: DBOSClient
) -> None:
    theirs, ours = str(uuid.uuid4()), str(uuid.uuid4())
    await start_rows(shared, [row_of({}, theirs), row_of({}, ours)])
    await anyio.to_thread.run_sync(dbos_client.send, theirs, message, topic or None, "a key")
    for _ in range(2):  # as after an answer that was lost
        await shared.send(ours, topic, message, "a key")
    assert await messages(shared, ours) == await messages(shared, theirs)


async def messages(engine: Engine, workflow_id: str) -> Values:
    """The row of the one message to a run, without what differs."""
    database = engine.connection.database
    statement = sql.SQL("select * from {}.notifications where destination_uuid = %s")
    async with await tables.connect(database, role="test") as connection:
        cursor = await connection.execute(
            statement.format(sql.Identifier(database.dbos_schema)), [workflow_id]
        )
        [row] = await cursor.fetchall()
    assert abs(row.pop("created_at_epoch_ms") - time.time() * 1000) < 60_000
    return {name: str(value).replace(workflow_id, "RUN") for name, value in row.items()}


async def start_rows(engine: Engine, rows: list[Values]) -> list[tables.Row]:
    async with await tables.connect(engine.connection.database, role="test") as connection:
        return await tables.fetch(connection, "start_runs", runs=json.dumps(rows))


@proves("start:once")
async def test_a_run_that_is_there_already_is_left_as_it_is(shared: Engine) -> None:
    run, new = str(uuid.uuid4()), str(uuid.uuid4())
    await start_rows(shared, [row_of({}, run)])
    before = await left(shared, run)
    again = await start_rows(shared, [row_of({"priority": 9}, run), row_of({}, new)])
    assert [(row["workflow_id"], row["existing"]) for row in again] == [(run, True), (new, False)]
    assert await left(shared, run) == before


async def test_what_became_of_starts_is_told_in_their_order_however_it_is_looked_up(
    shared: Engine,
) -> None:
    ids = sorted((str(uuid.uuid4()) for _ in range(5)), reverse=True)
    rows = [row_of({}, one) for one in ids]
    async with (
        await tables.connect(shared.connection.database, role="test") as connection,
        connection.transaction(),
    ):
        # What is left to the planner sorts by id. It must plan anew: all clients of PGlite share its plans.
        for way in ("enable_nestloop", "enable_hashjoin"):
            await connection.execute(f"set local {way} = off")
        await connection.execute("set local plan_cache_mode = force_custom_plan")
        found = await tables.fetch(connection, "start_runs", runs=json.dumps(rows))
    assert [row["workflow_id"] for row in found] == ids


async def test_a_start_whose_answer_was_lost_finds_what_it_has_started(shared: Engine) -> None:
    row = row_of({}, str(uuid.uuid4()))
    first, again = [await start_rows(shared, [row]) for _ in range(2)]
    assert again == first
    assert not first[0]["existing"]


async def test_of_starts_at_the_same_moment_with_one_id_one_is_the_first(shared: Engine) -> None:
    run = str(uuid.uuid4())
    found: list[Started] = []

    async def start() -> None:
        found.append(await shared.start(StartRequest(name="noisy", workflow_id=run)))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(start)
    assert sorted(one.existing for one in found) == [False, True, True, True, True]


async def test_a_batch_with_an_id_of_another_workflow_starts_nothing(shared: Engine) -> None:
    taken, new = str(uuid.uuid4()), str(uuid.uuid4())
    await shared.start(StartRequest(name="noisy", workflow_id=taken))
    another = StartRequest(name="ten_steps", args={"file": ""}, workflow_id=taken)
    for batch in (
        [StartRequest(name="noisy", workflow_id=new), another],
        [
            StartRequest(name="noisy", workflow_id=new),
            another.model_copy(update={"workflow_id": new}),
        ],
    ):
        with pytest.raises(
            WorkflowIdTaken, match=r"batch\[1\].*of noisy, not of ten_steps"
        ) as error:
            await shared.start_all(batch)
        assert error.value.hint.endswith("Nothing of the batch was started.")
        with pytest.raises(UnknownWorkflowId):
            await shared.reader.run(new)


async def test_a_batch_with_an_id_that_another_workflow_takes_at_this_moment_starts_nothing(
    shared: Engine,
) -> None:
    taken, new = str(uuid.uuid4()), str(uuid.uuid4())
    database = shared.connection.database
    take = sql.SQL(
        "insert into {dbos}.workflow_status (workflow_uuid, name, status) values (%s, 'other', 'SUCCESS')"
    ).format(dbos=sql.Identifier(database.dbos_schema))
    batch = [StartRequest(name="noisy", workflow_id=one) for one in (new, taken)]
    errors: list[UsageError] = []

    async def start() -> None:
        try:
            await shared.start_all(batch)
        except UsageError as error:
            errors.append(error)

    async with (
        await tables.connect(database, role="test") as connection,
        anyio.create_task_group() as group,
        connection.transaction(),
    ):
        await connection.execute(take, [taken])
        group.start_soon(start)
        await anyio.sleep(0.2)  # what it asked for waits for the end of this transaction
    assert len(errors) == 1
    with pytest.raises(UnknownWorkflowId):
        await shared.reader.run(new)


async def test_a_batch_may_name_a_run_twice(shared: Engine) -> None:
    run = str(uuid.uuid4())
    request = StartRequest(name="noisy", workflow_id=run)
    first, second = await shared.start_all([request, request])
    assert (first.workflow_id, first.existing) == (run, False)
    assert (second.workflow_id, second.existing) == (run, True)


async def test_a_queue_takes_up_a_batch_in_its_order(shared: Engine) -> None:
    request = StartRequest(name="noisy", delay_seconds=3600)
    started = [one.workflow_id for _ in range(3) for one in await shared.start_all([request] * 20)]
    database = shared.connection.database
    async with await tables.connect(database, role="test") as connection:
        cursor = await connection.execute(
            sql.SQL(
                "select workflow_uuid from {dbos}.workflow_status where workflow_uuid = any(%s) order by created_at"
            ).format(dbos=sql.Identifier(database.dbos_schema)),
            [started],
        )
        rows = await cursor.fetchall()
    assert [row["workflow_uuid"] for row in rows] == started
    await shared.cancel(started)

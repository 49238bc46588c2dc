# pyright: reportPrivateUsage=false
"""Our statements for a step leave in the tables, return and raise what those of dbos do."""

import os
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import sqlalchemy
from dbos import DBOSClient
from dbos import _context as dbos_context
from dbos._error import DBOSWorkflowConflictIDError
from dbos._sys_db import SystemDatabase
from dbos._utils import retriable_postgres_exception
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from durable_workflows.engine.engine import Engine
from durable_workflows.seam import ready_connections, statements
from durable_workflows.seam.patches import bodies, replaying, step_statements
from helpers import dbos_client_of, until
from requirements import proves

pytestmark = pytest.mark.anyio

OWNER = "the owner"
ENDED = 1_800_000_000_000
Values = dict[str, Any]


class Way(NamedTuple):
    """How a step is looked up and recorded."""

    look_up: Callable[..., Any]
    record: Callable[..., None]


SCOPE: Any = SystemDatabase
OURS = Way(step_statements.looked_up, step_statements.recording("durable_workflows"))
THEIRS = Way(SCOPE.check_operation_execution, SCOPE.record_operation_result)


@pytest.fixture
def database(dbos_client: DBOSClient) -> Any:
    """The access of dbos to the database of the shared project."""
    return dbos_client._sys_db


def a_run(database: Any, status: str = "PENDING", owner: str | None = OWNER) -> str:
    """A run that no worker takes up."""
    workflow_id = f"statements-{uuid.uuid4()}"
    runs = database.tables.workflow_status
    with database.engine.begin() as connection:
        values = {"workflow_uuid": workflow_id, "status": status, "owner_xid": owner}
        connection.execute(runs.insert().values(**values, application_version="none"))
    return workflow_id


def a_step(workflow_id: str, **changes: object) -> Values:
    step = {
        "workflow_uuid": workflow_id,
        "function_id": 1,
        "function_name": "work",
        "output": '{"a": "%s \'é\' 日本"}',
        "error": None,
        "serialization": "portable_json",
        "started_at_epoch_ms": ENDED - 5,
        "child_workflow_id": None,
    }
    return step | changes


def success(database: Any, way: Way, run: str) -> object:
    way.record(database, a_step(run), completed_at_epoch_ms=ENDED, owner_xid=OWNER)
    return way.look_up(database, run, 1, "work")


def failure(database: Any, way: Way, run: str) -> object:
    step = a_step(run, output=None, error='{"name": "ValueError"}')
    way.record(database, step, completed_at_epoch_ms=ENDED, owner_xid=OWNER)
    return way.look_up(database, run, 1, "work")


def child(database: Any, way: Way, run: str) -> object:
    step = a_step(run, output=None, child_workflow_id="a child", started_at_epoch_ms=None)
    way.record(database, step, completed_at_epoch_ms=ENDED, owner_xid=OWNER)
    return way.look_up(database, run, 1, "work")


def not_there(database: Any, way: Way, run: str) -> object:
    return way.look_up(database, run, 1, "work")


def of_another_name(database: Any, way: Way, run: str) -> object:
    way.record(database, a_step(run), completed_at_epoch_ms=ENDED, owner_xid=OWNER)
    return way.look_up(database, run, 1, "other work")


def no_such_run(database: Any, way: Way, run: str) -> object:
    return way.look_up(database, "no run", 1, "work")


def repeated(database: Any, way: Way, run: str) -> object:
    for _ in range(2):  # as after an answer that was lost
        way.record(database, a_step(run), completed_at_epoch_ms=ENDED, owner_xid=OWNER)
    return None


def recorded_by_another(database: Any, way: Way, run: str) -> object:
    THEIRS.record(database, a_step(run), completed_at_epoch_ms=ENDED - 1, owner_xid=OWNER)
    way.record(database, a_step(run, output="2"), completed_at_epoch_ms=ENDED, owner_xid=OWNER)
    return None


def taken_over(database: Any, way: Way, run: str) -> object:
    way.record(database, a_step(run), completed_at_epoch_ms=ENDED, owner_xid="another")
    return None


def without_owner(database: Any, way: Way, run: str) -> object:
    way.record(database, a_step(run), completed_at_epoch_ms=ENDED)
    return None


def owner_of_the_context(database: Any, way: Way, run: str) -> object:
    context = dbos_context.DBOSContext()
    context.workflow_id, context.owner_xid = run, "another"
    dbos_context._set_local_dbos_context(context)
    try:
        way.record(database, a_step(run), completed_at_epoch_ms=ENDED)
    finally:
        dbos_context._set_local_dbos_context(None)
    return None


def taken_over_meanwhile(database: Any, way: Way, run: str) -> object:
    """Another transaction has changed the owner, and commits while the step is being written: the step must wait for that."""
    raised: list[BaseException] = []

    def record() -> None:
        try:
            way.record(database, a_step(run), completed_at_epoch_ms=ENDED, owner_xid=OWNER)
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)

    runs = database.tables.workflow_status
    change = runs.update().where(runs.c.workflow_uuid == run).values(owner_xid="another")
    thread = threading.Thread(target=record)
    with database.engine.begin() as connection:
        connection.execute(change)
        thread.start()
        thread.join(0.2)
    thread.join()
    raise raised[0]


def both(database: Any, way: Way, run: str) -> object:
    step = a_step(run, error="too")
    way.record(database, step, completed_at_epoch_ms=ENDED, owner_xid=OWNER)
    return None


SCENARIOS = [
    success,
    failure,
    child,
    not_there,
    of_another_name,
    no_such_run,
    repeated,
    recorded_by_another,
    taken_over,
    without_owner,
    owner_of_the_context,
    taken_over_meanwhile,
    both,
]


def outcome(database: Any, way: Way, run: str, play: Callable[..., object]) -> Values:
    """The result or error of a scenario, and the rows afterwards."""
    try:
        said = repr(play(database, way, run))
    except BaseException as error:  # noqa: BLE001 - dbos has errors that are no Exception; whatever it is, it is compared
        said = f"{type(error).__qualname__}: {error}"
    return {"said": said.replace(run, "RUN"), "steps": rows(database, run)}


def rows(database: Any, run: str) -> list[Values]:
    steps = database.tables.operation_outputs
    with database.engine.begin() as connection:
        found = connection.execute(steps.select().where(steps.c.workflow_uuid == run)).mappings()
        now = connection.execute(
            sqlalchemy.text("select extract(epoch from now()) * 1000")
        ).scalar_one()
        return [comparable(dict(row), float(now)) for row in found]


def comparable(row: Values, now: float) -> Values:
    assert 0 <= now - row["retention_timestamp"] < 10_000
    return row | {"workflow_uuid": "RUN", "retention_timestamp": "now"}


@pytest.mark.parametrize("status", ["PENDING", "CANCELLED"])
@pytest.mark.parametrize("play", SCENARIOS)
async def test_a_step_is_looked_up_and_recorded_as_by_dbos(
    play: Callable[..., object], status: str, database: Any
) -> None:
    owner = OWNER if status == "PENDING" else None
    theirs, ours = (
        outcome(database, way, a_run(database, status, owner), play) for way in (THEIRS, OURS)
    )
    assert ours == theirs


async def test_the_scenarios_differ(database: Any) -> None:
    """That the comparison is of something."""
    said = {play: outcome(database, OURS, a_run(database), play)["said"] for play in SCENARIOS}
    assert "portable_json" in said[success]
    assert said[not_there] == said[repeated] == said[without_owner] == "None"
    for play, error in {
        of_another_name: "DBOSUnexpectedStepError",
        no_such_run: "AssertionError",
        recorded_by_another: "DBOSStepNondeterminismError",
        taken_over: "DBOSWorkflowConflictIDError",
        owner_of_the_context: "DBOSWorkflowConflictIDError",
        taken_over_meanwhile: "DBOSWorkflowConflictIDError",
        both: "AssertionError",
    }.items():
        assert said[play].startswith(error)
    cancelled = outcome(database, OURS, a_run(database, "CANCELLED"), not_there)["said"]
    assert cancelled.startswith("DBOSWorkflowCancelledError")


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT %(value)s::text, 1 / 0", "SELEC"])
async def test_after_a_statement_that_failed_dbos_has_transactions_and_the_error_tells_no_value(
    database: Any, statement: str
) -> None:
    with pytest.raises(DBAPIError) as raised:
        statements.run(database, statement, {"value": "a secret"})
    assert "a secret" not in str(raised.value)
    runs = database.tables.workflow_status
    run = a_run(database)
    for _ in range(database.engine.pool.size() + 1):  # whichever connection it gets
        with database.engine.connect() as connection:
            connection.execute(runs.delete().where(runs.c.workflow_uuid == run))
            connection.rollback()
    assert statements.run(database, f"SELECT 1 FROM {{schema}}.workflow_status WHERE workflow_uuid = '{run}'", {})  # fmt: skip


async def test_half_of_the_connections_at_most_stay_ready_for_the_next_statement(
    database: Any,
) -> None:
    pool = database.engine.pool
    with ThreadPoolExecutor(pool.size()) as threads:
        for _ in range(20):
            every = [threads.submit(statements.run, database, "SELECT 1", {}) for _ in range(40)]
            assert {tuple(one.result()) for one in every} == {((1,),)}
            assert 1 <= pool.checkedout() <= pool.size() // 2
    ready = pool.checkedout()
    statements.run(database, "SELECT 1", {})
    assert pool.checkedout() == ready


async def test_a_statement_that_waits_for_a_connection_gets_one_while_others_go_on(
    database: Any,
) -> None:
    engine, pool, ready = database.engine, database.engine.pool, ready_connections.of(database)
    taken: list[Any] = [ready.take(engine) for _ in range(pool.size())]
    for one in taken:
        one.driver_connection.autocommit = True
    kept, others = taken[: pool.size() // 2], taken[pool.size() // 2 :]
    for one in kept:
        ready.put_back(one)
    kept = [ready.take(engine) for _ in kept]
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(statements.run, database, "SELECT 1", {})
        await until(lambda: len(pool._pool.not_empty._waiters) == 1, "it waits")
        ready.put_back(others.pop())
        assert [tuple(row) for row in waiting.result(timeout=20)] == [(1,)]
    for one in [*kept, *others]:
        ready.put_back(one)


async def test_connections_that_are_ready_are_closed_with_those_of_the_pool(
    shared: Engine,
) -> None:
    await shared.reader.counts()  # the tables are there
    used: list[Any] = []
    with dbos_client_of(shared) as client:
        database = client._sys_db

        @event.listens_for(database.engine, "checkout")
        def note(connection: Any, *_: object) -> None:
            used.append(connection)

        statements.run(database, "SELECT 1", {})
        assert [one.closed for one in used] == [False]
    assert [one.closed for one in used] == [True]
    statements.run(database, "SELECT 1", {})
    assert [one.closed for one in used] == [True, True]


async def test_a_statement_on_a_connection_that_was_lost_is_one_that_dbos_repeats(
    database: Any,
) -> None:
    def lose(connection: Any, *_rest: object) -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as lost:
            lost.shutdown(socket.SHUT_RDWR)

    event.listen(database.engine, "checkout", lose)
    with pytest.raises(DBAPIError) as raised:
        statements.run(database, "SELECT 1", {})
    event.remove(database.engine, "checkout", lose)
    assert retriable_postgres_exception(raised.value)
    assert statements.run(database, "SELECT 1", {}) == [(1,)]


@proves("lease:no-step")
async def test_a_step_of_a_run_that_another_execution_has_is_not_begun(
    shared: Engine, database: Any
) -> None:
    """Unlike dbos, which finds out when the step is recorded."""
    context = dbos_context.DBOSContext()
    context.workflow_id, context.owner_xid = a_run(database, owner="another"), OWNER
    run = context.workflow_id
    schema = shared.connection.database.schema
    in_windows = replaying.looking_up_in_windows(THEIRS.look_up, schema)
    dbos_context._set_local_dbos_context(context)
    token = bodies._BODY.set(bodies.Body("work", context, None, run, 0))
    try:
        for look_up in (OURS.look_up, in_windows):
            with pytest.raises(DBOSWorkflowConflictIDError):
                look_up(database, run, 1, "work")
        THEIRS.record(database, a_step(run), completed_at_epoch_ms=ENDED, owner_xid="another")
        assert OURS.look_up(database, run, 1, "work") == THEIRS.look_up(database, run, 1, "work")
    finally:
        bodies._BODY.reset(token)
        dbos_context._set_local_dbos_context(None)

# pyright: reportPrivateUsage=false
"""Our statement claims from a queue what dbos's own code claims, and leaves in the tables what that leaves."""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import pytest
import sqlalchemy
from dbos import DBOSClient, Queue
from dbos._queue import _INTERNAL_QUEUE_CONSTRUCTION
from dbos._sys_db import SystemDatabase

from durable_workflows.seam.patches import claiming, queues
from durable_workflows.seam.patches.replacing import replace
from durable_workflows.settings import APPLICATION
from requirements import long

pytestmark = pytest.mark.anyio

Values = dict[str, Any]
NEWEST, OLDER = "claimed-2", "claimed-1"
SCHEMA = "claims"
LATER = 2**60  # a worker of the project looks after what is due
EXECUTOR, APART = "an executor", "one apart"
RUNS: list[Values] = [
    {"created_at": 50},
    {"created_at": 40, "priority": 2},
    {"created_at": 60, "priority": 1, "recovery_attempts": 3},
    {"created_at": 10, "application_version": OLDER},
    {"created_at": 20, "application_version": None},
    {"created_at": 30, "application_name": None},
    {"created_at": 31, "application_name": "another"},
    {"created_at": 32, "status": "PENDING", "owner_xid": "another", "executor_id": "another"},
    {"created_at": 33, "status": "DELAYED", "delay_until_epoch_ms": LATER},
    {"created_at": 34, "workflow_timeout_ms": 60_000},
    {"created_at": 35, "workflow_timeout_ms": 60_000, "workflow_deadline_epoch_ms": LATER},
    {"created_at": 36, "workflow_timeout_ms": 2**63 - 2},
    {"created_at": 37, "workflow_deadline_epoch_ms": LATER},
    {"created_at": 38, "rate_limited": True, "queue_partition_key": "a"},
]
SUSPECTS: dict[int, str | None] = {0: None, 4: APART, 9: "another apart"}  # and who may run them


class Ways(NamedTuple):
    """How runs are claimed."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]


@pytest.fixture
def claims(dbos_client: DBOSClient) -> Iterator[Any]:
    """The shared project's database as dbos reaches it, with two more versions of the application and a table of suspects for these tests only."""
    found = dbos_client._sys_db
    versions = found.tables.application_versions
    ours = versions.c.version_name.in_([NEWEST, OLDER])
    with found.engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"create schema {SCHEMA}"))
        table = f"create table {SCHEMA}.suspects (workflow_id text, executor_id text)"
        connection.execute(sqlalchemy.text(table))
        for name, at in ((OLDER, 2**60), (NEWEST, 2**60 + 1)):
            row = {"version_id": name, "version_name": name, "application_name": APPLICATION}
            connection.execute(versions.insert().values(**row, version_timestamp=at))
    yield found
    with found.engine.begin() as connection:
        connection.execute(versions.delete().where(ours))
        connection.execute(sqlalchemy.text(f"drop schema {SCHEMA} cascade"))


@pytest.fixture
def ways(apart: str | None, monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Both ways, in a process that may take the suspects of `apart`; None: all that are not set apart."""
    for name in ("_claim_gate", "start_queued_workflows", "start_queued_partitioned_workflows"):
        monkeypatch.setattr(SystemDatabase, name, getattr(SystemDatabase, name))  # and back
    theirs = (
        SystemDatabase.start_queued_workflows
    )  # it asks the gate that is there when it is called
    queues.claim_only(apart, SCHEMA)
    return Ways(SystemDatabase.start_queued_workflows, theirs)


def a_queue(**limits: Any) -> Queue:
    return Queue(f"claims-{uuid.uuid4()}", token=_INTERNAL_QUEUE_CONSTRUCTION, **limits)


def outcome(
    database: Any, queue: Queue, claim: Callable[[], object]
) -> tuple[object, Mapping[str, Values]]:
    """The result of a claim from a queue with all these runs, and the rows afterwards; the runs are removed."""
    runs = database.tables.workflow_status
    mine = runs.c.queue_name == queue.name
    suspect = sqlalchemy.text(f"insert into {SCHEMA}.suspects values (:run, :executor)")
    with database.engine.begin() as connection:
        for number, values in enumerate(RUNS):
            row = {
                "workflow_uuid": f"{queue.name}-{number:02}",
                "status": "ENQUEUED",
                "queue_name": queue.name,
                "application_version": NEWEST,
                "application_name": APPLICATION,
            }
            connection.execute(runs.insert().values(row | values))
            if number in SUSPECTS:
                named = {"run": row["workflow_uuid"], "executor": SUSPECTS[number]}
                connection.execute(suspect, named)
    try:
        said = claim()
        with database.engine.begin() as connection:
            rows = connection.execute(runs.select().where(mine)).mappings().all()
            now = connection.execute(sqlalchemy.select(database._now_ms_sql())).scalar_one()
        return said, {row["workflow_uuid"][-2:]: comparable(dict(row), now) for row in rows}
    finally:
        with database.engine.begin() as connection:
            connection.execute(runs.delete().where(mine))


def comparable(row: Values, now: int) -> Values:
    """The row without what differs from one claim to the next."""
    same: Values = {"workflow_uuid": "", "queue_name": ""}
    for name, ahead in (
        ("started_at_epoch_ms", 0),
        ("updated_at", 0),
        ("workflow_deadline_epoch_ms", 60_000),
    ):
        if row[name] is not None and 0 <= now + ahead - row[name] < 10_000:
            same[name] = "now"
    return row | same


def claimed(database: Any, way: Callable[..., Any], queue: Queue, version: str, **how: Any) -> Any:
    found, why = way(database, queue, EXECUTOR, version, None, owner_xid="owner", **how)
    return [one[-2:] for one in found], why


@pytest.mark.parametrize("apart", [None, APART])
@pytest.mark.parametrize("version", [NEWEST, *long(OLDER, "none")])
@pytest.mark.parametrize(
    ("limits", "how"),
    [
        ({}, {}),
        ({"worker_concurrency": 4}, {}),
        ({"worker_concurrency": 4}, {"local_running_count": 2}),
        ({"worker_concurrency": 4}, {"local_running_count": 4}),
        ({"concurrency": 3}, {}),
        ({"limiter": {"limit": 2, "period": 60}}, {}),
        ({"concurrency": 9, "worker_concurrency": 4}, {"local_running_count": 1}),
    ],
    ids=str,
)
async def test_a_queue_is_claimed_as_by_dbos(
    limits: Values, how: Values, version: str, ways: Ways, claims: Any
) -> None:
    def twice(way: Callable[..., Any], queue: Queue) -> object:
        return [claimed(claims, way, queue, version, **how) for _ in range(2)]

    ours, theirs = (
        outcome(claims, queue, lambda way=way, queue=queue: twice(way, queue))
        for way, queue in zip(ways, (a_queue(**limits), a_queue(**limits)), strict=True)
    )
    assert ours == theirs


@pytest.mark.parametrize("apart", [None])
async def test_what_another_claims_at_the_moment_is_left_to_it(ways: Ways, claims: Any) -> None:
    runs = claims.tables.workflow_status
    with claims.engine.begin() as connection:
        version = connection.execute(sqlalchemy.text("select version()")).scalar_one()
    is_alone = "PGlite" in version  # there no claim is made during another transaction

    def beside(way: Callable[..., Any], queue: Queue) -> object:
        said: list[Any] = []
        first = runs.c.workflow_uuid == f"{queue.name}-05"
        thread = threading.Thread(target=lambda: said.append(claimed(claims, way, queue, NEWEST)))
        with claims.engine.begin() as connection:
            connection.execute(sqlalchemy.select(runs.c.status).where(first).with_for_update())
            thread.start()
            thread.join(0.5 if is_alone else 60.0)
        thread.join()
        return said

    ours, theirs = (
        outcome(claims, queue, lambda way=way, queue=queue: beside(way, queue))
        for way, queue in zip(ways, (a_queue(), a_queue()), strict=True)
    )
    assert ours == theirs


@pytest.mark.parametrize("apart", [None, APART])
async def test_the_comparison_of_claims_is_of_something(
    ways: Ways, claims: Any, apart: str | None
) -> None:
    queue = a_queue()
    said, rows = outcome(claims, queue, lambda: claimed(claims, ways.ours, queue, NEWEST))
    if apart:
        assert said == (["04"], None)
        return
    assert said == (["05", "10", "11", "12", "13", "00", "02", "01"], None)
    assert {row["status"] for row in rows.values()} == {"PENDING", "ENQUEUED", "DELAYED"}
    assert rows["10"]["workflow_deadline_epoch_ms"] == LATER
    assert rows["11"]["workflow_deadline_epoch_ms"] == 2**63 - 1
    assert rows["02"]["recovery_attempts"] == 4
    assert rows["05"]["application_name"] == APPLICATION


async def test_what_was_claimed_when_the_answer_was_lost_is_in_the_next_claim(
    claims: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_claim_gate", "start_queued_workflows", "start_queued_partitioned_workflows"):
        monkeypatch.setattr(SystemDatabase, name, getattr(SystemDatabase, name))  # and back
    queues.claim_only(None, SCHEMA)
    answered = SystemDatabase.start_queued_workflows
    is_lost = [True, False]

    def claim(*given: Any, **named: Any) -> Any:
        found = answered(*given, **named)
        if is_lost.pop(0):
            raise ConnectionError("the answer is lost")
        return found

    replace(SystemDatabase, start_queued_workflows=claim)
    claiming.Claims().install()
    queue = a_queue(worker_concurrency=4)
    way: Any = SystemDatabase.start_queued_workflows

    def twice() -> object:
        with pytest.raises(ConnectionError):
            way(claims, queue, EXECUTOR, NEWEST, None, owner_xid="lost")
        found, _ = way(claims, queue, EXECUTOR, NEWEST, None, 4, owner_xid="found")
        return found

    found, rows = outcome(claims, queue, twice)
    mine = {run for run, row in rows.items() if row["executor_id"] == EXECUTOR}
    assert {run[-2:] for run in cast("list[str]", found)} == mine
    assert len(mine) == 4
    assert {rows[run]["owner_xid"] for run in mine} == {"found"}

"""Leases without processes: their statements, and the look-ups that wait for one."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest
from dbos import DBOSClient
from psycopg.rows import dict_row

from durable_workflows.database import leases, tables
from durable_workflows.engine.engine import Engine
from durable_workflows.host.lease import Lease
from durable_workflows.seam.patches.leases import looking_up_while_held
from durable_workflows.settings import Database, Settings
from helpers import until
from requirements import proves

OURS, THEIRS = "aaaa-v1", "bbbb-v1"
OLD = 2 * leases.LOST_SECONDS
Row = dict[str, Any]


class Rows:
    """A connection to the tables of a project that no process runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.connection = psycopg.Connection[Row].connect(
            database.url, autocommit=True, row_factory=dict_row
        )

    def run(self, statement: str, **values: object) -> list[Row]:
        """The rows of a statement; {ours} and {dbos} stand for the schemas."""
        text = statement.format(ours=self._database.schema, dbos=self._database.dbos_schema)
        cursor = self.connection.execute(text.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def worker(
        self, executor_id: str, *, seen: float = 0.0, unbroken: float = OLD, version: str = "v1"
    ) -> None:
        """A worker that was heard of so many seconds ago, and has been since so long ago without a gap."""
        self.run(
            """insert into {ours}.workers (executor_id, version, pid, host, state, seen_at, unbroken_since)
            select %(id)s, %(version)s, 1, 'there', 'ready', clock_timestamp() - %(seen)s * interval '1 second',
                clock_timestamp() - %(unbroken)s * interval '1 second'""",
            id=executor_id,
            version=version,
            seen=seen,
            unbroken=unbroken,
        )

    def begun(self, workflow_id: str, executor_id: str, **more: object) -> None:
        """A run that this executor has taken up."""
        columns = {"workflow_uuid": workflow_id, "executor_id": executor_id, "status": "PENDING"}
        columns |= {"owner_xid": "an owner", "recovery_attempts": 1, "application_version": "v1"}
        columns |= {"started_at_epoch_ms": 5, "updated_at": 5, "created_at": 5} | more
        names = ", ".join(columns)
        self.run(
            f"insert into {{dbos}}.workflow_status ({names}) select {names} from json_populate_record(null::{{dbos}}.workflow_status, %(row)s)",
            row=json.dumps(columns),
        )

    def take_over(self) -> dict[str, int]:
        """The runs that our worker has taken over, by their executors."""
        values = {"executor_id": OURS, "seconds": leases.LOST_SECONDS, "most": 1000}
        return {row["executor"]: row["runs"] for row in self.named("take_over", **values)}

    def named(self, name: str, **values: object) -> list[Row]:
        """The rows of a statement of `queries.sql`."""
        database = self._database
        cursor = self.connection.execute(
            tables.queries(database.schema, database.dbos_schema)[name], values
        )
        return cursor.fetchall() if cursor.description else []

    def renew(self, executor_id: str) -> None:
        """A sign of life."""
        self.named("renew_lease", executor_id=executor_id, held=leases.HELD_SECONDS)

    def queued(self) -> set[str]:
        """The runs that are in a queue."""
        rows = self.run(
            "select workflow_uuid from {dbos}.workflow_status where status = 'ENQUEUED'"
        )
        return {row["workflow_uuid"] for row in rows}


@pytest.fixture
def database(settings: Settings, database_url: str) -> Database:
    """The database and schemas of a project that no process runs."""
    named = Settings(project=settings.project, database_url=database_url, application="project")
    return named.database(database_url)


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    """Its rows."""
    found = Rows(database)
    with found.connection:
        yield found


@pytest.fixture
def others(database: Database) -> Iterator[Rows]:
    """As `rows`, for another process."""
    found = Rows(database)
    with found.connection:
        yield found


@proves("lease:taken-over")
def test_the_runs_of_a_silent_worker_are_queued_whatever_their_version(rows: Rows) -> None:
    rows.worker(OURS)
    rows.worker(THEIRS, seen=leases.LOST_SECONDS + 1)
    rows.worker("cccc-v1", seen=leases.LOST_SECONDS - 5)
    rows.begun("one", THEIRS)
    rows.begun("two", THEIRS, application_version="v2", queue_name="own")
    rows.begun("waits", "parked")
    rows.begun("ended", THEIRS, status="SUCCESS")
    rows.begun("alive", "cccc-v1")
    rows.begun("ours", OURS)
    rows.begun("from elsewhere", "dddd-v1")
    rows.begun("from elsewhere, new", "dddd-v1", updated_at=2**50)
    assert rows.take_over() == {THEIRS: 2, "dddd-v1": 1}
    assert rows.queued() == {"one", "two", "from elsewhere"}
    assert rows.take_over() == {}


@proves("lease:no-false-alarm")
def test_who_was_not_there_all_the_time_takes_nothing_over(rows: Rows) -> None:
    """After an outage of the database all are silent for as long."""
    rows.worker(OURS, seen=leases.LOST_SECONDS + 1, unbroken=OLD)
    rows.worker(THEIRS, seen=leases.LOST_SECONDS + 1, unbroken=OLD)
    rows.begun("one", THEIRS)
    rows.renew(OURS)  # the first sign after it
    assert rows.take_over() == {}
    rows.run("update {ours}.workers set unbroken_since = unbroken_since - interval '31 seconds'")
    assert rows.take_over() == {THEIRS: 1}


@proves("lease:no-false-alarm")
def test_signs_that_come_in_time_keep_the_line_unbroken(rows: Rows) -> None:
    since = "select executor_id, unbroken_since > clock_timestamp() - interval '9 seconds' as new from {ours}.workers"
    rows.worker(OURS, seen=leases.HELD_SECONDS - 5)
    rows.worker(THEIRS, seen=leases.HELD_SECONDS + 1)
    for executor_id in (OURS, THEIRS):
        rows.renew(executor_id)
    assert {row["executor_id"]: row["new"] for row in rows.run(since)} == {
        OURS: False,
        THEIRS: True,
    }


@proves("lease:taken-over")
def test_one_process_at_a_time_takes_over(rows: Rows, others: Rows) -> None:
    rows.worker(OURS)
    rows.worker(THEIRS, seen=OLD)
    rows.begun("one", THEIRS)
    with others.connection.transaction():
        assert others.take_over() == {THEIRS: 1}
        rows.begun("two", "dddd-v1")
        assert rows.take_over() == {}
    assert rows.take_over() == {"dddd-v1": 1}
    assert rows.queued() == {"one", "two"}


@proves("lease:taken-over")
def test_a_run_that_somebody_has_locked_is_taken_over_the_next_time(
    rows: Rows, others: Rows
) -> None:
    rows.worker(OURS)
    rows.worker(THEIRS, seen=OLD)
    rows.begun("one", THEIRS)
    rows.begun("two", THEIRS)
    with others.connection.transaction():  # as of a machine that was cut off within it
        others.run("update {dbos}.workflow_status set priority = 1 where workflow_uuid = 'one'")
        assert rows.take_over() == {THEIRS: 1}
        assert rows.take_over() == {}
    assert rows.take_over() == {THEIRS: 1}


@proves("lease:no-false-alarm")
def test_a_sign_of_life_that_has_just_come_prevents_it(rows: Rows, others: Rows) -> None:
    rows.worker(OURS)
    rows.worker(THEIRS, seen=OLD)
    rows.begun("one", THEIRS)
    with others.connection.transaction():
        others.renew(THEIRS)
        assert rows.take_over() == {}
    assert rows.take_over() == {}


@proves("lease:taken-over")
def test_a_sign_of_life_waits_for_the_end_of_a_take_over(rows: Rows, others: Rows) -> None:
    """So whoever has written one knows which of its runs are lost."""
    rows.worker(OURS)
    rows.worker(THEIRS, seen=OLD)
    rows.begun("one", THEIRS)
    renewing = threading.Thread(target=others.renew, args=[THEIRS])
    with rows.connection.transaction():
        assert rows.take_over() == {THEIRS: 1}
        renewing.start()
        renewing.join(0.2)
        assert renewing.is_alive()
    renewing.join()


@proves("lease:taken-over")
def test_a_run_is_put_back_as_by_dbos_but_for_the_attempt(rows: Rows, database: Database) -> None:
    rows.worker(OURS)
    rows.worker(THEIRS, seen=OLD)
    for workflow_id, queue in [("ours", None), ("ours-queued", "own")]:
        rows.begun(workflow_id, THEIRS, queue_name=queue)
    assert rows.take_over() == {THEIRS: 2}
    for workflow_id, queue in [("theirs", None), ("theirs-queued", "own")]:
        rows.begun(workflow_id, THEIRS, queue_name=queue)
    client = DBOSClient(system_database_url=database.url, dbos_system_schema=database.dbos_schema)
    try:
        for workflow_id in ("theirs", "theirs-queued"):
            client._sys_db.reenqueue_for_recovery(workflow_id, [THEIRS], "_dbos_internal_queue")  # pyright: ignore[reportPrivateUsage]
    finally:
        client.destroy()
    found = {
        row.pop("workflow_uuid"): row for row in rows.run("select * from {dbos}.workflow_status")
    }
    for row in found.values():
        assert row.pop("updated_at") > 5
    for more in ("", "-queued"):
        assert found["theirs" + more].pop("recovery_attempts") == 1
        assert found["ours" + more].pop("recovery_attempts") == 0
        assert found["ours" + more] == found["theirs" + more]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that runs out within a second."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "HELD_SECONDS", 0.5)


def silenced(others: Rows) -> None:
    """Let no worker write its sign of life until the end of this transaction."""
    others.run("select from {ours}.workers for update")


def guarded(lease: Lease, look: Callable[[], None]) -> Callable[[], object]:
    """A look-up of a step that is not recorded, guarded as in a worker."""

    def look_up(*_where: object, owner_key: str | None = None) -> None:
        look()

    nothing: Any = None  # in place of dbos's access to the database
    return lambda: looking_up_while_held(look_up, lease)(nothing, "run", 1, "step")


async def in_thread(call: Callable[[], object]) -> None:
    """Call it in a thread, which a test that fails does not wait for."""
    await anyio.to_thread.run_sync(call, abandon_on_cancel=True)


@pytest.mark.anyio
@pytest.mark.usefixtures("short")
@proves("lease:no-step")
async def test_no_step_begins_while_no_sign_of_life_can_be_written(
    rows: Rows, others: Rows, database: Database
) -> None:
    rows.worker(OURS)
    lease = Lease(database, OURS)
    held: list[bool] = []
    look_up = guarded(lease, lambda: held.append(lease.is_held()))
    async with anyio.create_task_group() as group:
        assert not lease.is_held()
        group.start_soon(lease.keep)
        await until(lease.is_held, "the first sign of life is written")
        with others.connection.transaction():
            silenced(others)
            await until(lambda: not lease.is_held(), "the lease has run out")
            group.start_soon(in_thread, look_up)
            await until(lambda: _waits(lease), "the step waits")
            assert held == []
        await until(lambda: held, "it is looked up")
        assert held == [True]
        group.cancel_scope.cancel()


def _waits(lease: Lease) -> bool:
    return bool(lease._changed._waiters)  # pyright: ignore


@pytest.mark.anyio
@pytest.mark.usefixtures("short")
@proves("lease:no-step")
async def test_a_look_up_during_which_the_lease_ran_out_is_repeated(
    rows: Rows, others: Rows, database: Database
) -> None:
    rows.worker(OURS)
    lease = Lease(database, OURS)
    looks: list[bool] = []
    is_silent, ran_out = threading.Event(), threading.Event()

    def look() -> None:
        looks.append(lease.is_held())
        if len(looks) == 1:
            is_silent.set()
            ran_out.wait(30)

    async with anyio.create_task_group() as group:
        group.start_soon(lease.keep)
        await until(lease.is_held, "the first sign of life is written")
        group.start_soon(in_thread, guarded(lease, look))
        await until(is_silent.is_set, "it is being looked up")
        with others.connection.transaction():
            silenced(others)
            await until(lambda: not lease.is_held(), "the lease has run out")
            ran_out.set()
        await until(lambda: len(looks) > 1, "it is looked up again")
        assert looks == [True, True]
        group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.usefixtures("short")
@proves("lease:no-step")
async def test_signs_of_life_go_on_after_their_connection_was_lost(
    rows: Rows, database: Database
) -> None:
    rows.worker(OURS)
    lease = Lease(database, OURS)
    async with anyio.create_task_group() as group:
        group.start_soon(lease.keep)
        await until(lease.is_held, "the first sign of life is written")
        ended = rows.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%%lease' and datname = current_database()"
        )
        assert len(ended) == 1
        await until(lambda: not lease.is_held(), "the lease has run out")
        await until(lease.is_held, "it is held again")
        group.cancel_scope.cancel()


@pytest.mark.anyio
@proves("lease:named")
async def test_status_names_what_no_worker_goes_on_with(
    engine: Engine, database: Database, rows: Rows
) -> None:
    """The versions here are none that a supervisor starts."""
    await engine.catalog()
    rows.worker(THEIRS, seen=100, version="silent")
    rows.begun("one", THEIRS, application_version="silent")
    rows.worker("cccc-v1", seen=1, version="alive")
    rows.begun("two", "cccc-v1", application_version="alive")
    rows.run("insert into {ours}.versions (version, state) values ('silent', 'ready')")
    rows.begun("three", "dddd-v1", application_version="without files")
    rows.begun("four", "eeee-v1", application_version="new", updated_at=2**50)
    rows.begun("five", "parked", application_version="waits")
    told = (await engine.reader.status()).problems
    [silent] = [line for line in told if "no sign of life" in line]
    assert silent.startswith("The worker of version silent on there (process 1) has given no")
    assert "takes over its 1 run." in silent
    [started, lost] = sorted(line for line in told if line.startswith("Version "))
    assert started.startswith("Version silent has 1 unfinished run and no worker: no machine")
    assert lost.startswith("Version without files has 1 unfinished run and no worker, and its")
    assert "move_to_version" in lost
    here = [one for one in (await engine.reader.status()).workers if one.version not in "alive"]
    assert here
    for one in here:
        assert datetime.now(UTC) - one.seen_at < timedelta(seconds=leases.LOST_SECONDS)

# pyright: reportPrivateUsage=false
"""How many connections the processes take, and what is said and done when a Postgres has none left."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psycopg
import pytest
from psycopg import sql

import native
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import TooManyConnections
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.seam.patches import turns
from durable_workflows.settings import Settings
from external.wide import Most, directories
from helpers import copy_flow, kill_worker, until
from requirements import proves
from test_recovery import lines_of

pytestmark = pytest.mark.anyio

ROOM = 90  # of 100, three of them reserved: the rest is for commands and people
EACH = 11  # a worker, its supervisor, and a server that waits for runs


async def _busy(most: Most, engines: list[Engine]) -> None:
    """All that run at once: many runs with short and with long steps, and servers that wait for them, each by several calls."""
    async with anyio.create_task_group() as watching:
        watching.start_soon(most.watch)
        async with anyio.create_task_group() as group:
            for engine in engines:
                requests = [
                    StartRequest(name="wide_steps", args={"steps": 10, "seconds": seconds})
                    for seconds in (0.0, 0.0, 0.0, 0.3) * 3
                ]
                for started in await engine.start_all(requests):
                    group.start_soon(_wait, engine, started.workflow_id)
        watching.cancel_scope.cancel()


@asynccontextmanager
async def _nothing_is_recorded(engine: Engine) -> AsyncGenerator[None]:
    """Steps wait meanwhile until they can be recorded, each with a connection."""
    database = engine.connection.database
    steps = sql.Identifier(database.dbos_schema, "operation_outputs")
    async with (
        await tables.connect(database, role="test") as connection,
        connection.transaction(),
    ):
        await connection.execute(sql.SQL("lock table {} in exclusive mode").format(steps))
        yield


async def _wait(engine: Engine, workflow_id: str) -> None:
    result = await engine.reader.wait([workflow_id], timeout_seconds=120)
    assert [run.status for run in result.done] == ["SUCCESS"]


@pytest.mark.long
@proves("connections:eight-workers-fit")
async def test_a_worker_its_supervisor_and_a_server_take_as_many_connections_as_is_said(
    tmp_path: Path, postgres: native.Cluster
) -> None:
    url = postgres.database(f"connections_{secrets.token_hex(4)}")
    most = Most(url)
    async with directories(1, tmp_path, url) as engines:
        async with anyio.create_task_group() as group, _nothing_is_recorded(engines[0]):
            group.start_soon(_busy, most, engines)
            await until(lambda: most.seen["dbos"] > 3 and most.seen["wait"], "all are in use")
        assert most.seen["dbos"] == 3 + 1  # for the steps of its runs, and to listen
        assert most.seen["wait"] == 1  # however many calls wait
        assert most.at_once <= EACH, most.seen


@pytest.mark.long
@proves("connections:eight-workers-fit")
async def test_eight_workers_with_their_supervisors_and_servers_fit_into_a_postgres_as_it_comes(
    tmp_path: Path,
) -> None:
    programs = native.programs()
    assert programs is not None
    with native.cluster(programs) as postgres:
        url = postgres.database("eight")
        most = Most(url)
        async with directories(8, tmp_path, url) as engines:
            await _busy(most, engines)
            assert most.at_once <= ROOM, most.seen


@pytest.mark.long
@proves("connections:few-are-enough")
async def test_one_connection_for_all_runs_of_a_worker_is_enough_for_every_kind_of_step(
    folder: Path, postgres: native.Cluster
) -> None:
    """Many at a time: steps, transactions of both kinds, which have connections of their own, and waits for messages. None waits for ever for another."""
    for flow in ("crowd", "messages"):
        copy_flow(flow, folder)
    url = postgres.database(f"few_{secrets.token_hex(4)}")
    project = Project(Settings(project=folder, database_url=url, connections=1))
    engine = await project.engine()
    names = ("crowd_steps", "crowd_transactions", "crowd_transactions_async")
    wait = StartRequest(name="wait_for", args={"topic": "t"})
    requests = [StartRequest(name=name, args={"file": str(folder / name)}) for name in names * 8]
    ids = [one.workflow_id for one in await engine.start_all([*requests, *[wait] * 8])]
    for waits in ids[len(requests) :]:
        await engine.send(waits, "t", "come")
    for one in ids:
        result = await engine.reader.wait([one], timeout_seconds=90)
        assert [run.output for run in result.done] in ([20], ["come"])
    await project.aclose()
    await lifecycle.shut_down(project.settings)


class Crowded:
    """A database whose user may have few connections, or none."""

    def __init__(self, postgres: native.Cluster) -> None:
        self._postgres = postgres
        self._user = f"crowd_{secrets.token_hex(4)}"
        postgres.execute(
            f"create role {self._user} login password '{native.PASSWORD}'",
            f"create database {self._user} owner {self._user}",
        )
        self.url = postgres.url(self._user, user=self._user)

    def allow(self, connections: int) -> None:
        self._postgres.execute(f"alter role {self._user} connection limit {connections}")

    def end_all(self) -> None:
        self._postgres.execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{self._user}'"
        )


@pytest.fixture
def crowded(postgres: native.Cluster) -> Crowded:
    return Crowded(postgres)


@pytest.mark.long
@proves("connections:no-room")
async def test_a_start_waits_for_room_and_then_goes_on(folder: Path, crowded: Crowded) -> None:
    crowded.allow(0)
    told: list[str] = []
    settings = Settings(project=folder, database_url=crowded.url)
    async with anyio.create_task_group() as group:

        async def start() -> None:
            await lifecycle.ensure_running(settings, told.append)

        group.start_soon(start)
        await until(lambda: any("too many" in line for line in told), "it says what it waits for")
        crowded.allow(-1)
    await lifecycle.shut_down(settings)


@pytest.mark.long
@proves("connections:no-room")
async def test_a_start_without_room_says_so_after_a_while(tmp_path: Path, crowded: Crowded) -> None:
    crowded.allow(0)
    settings = Settings(project=tmp_path, database_url=crowded.url)
    with pytest.raises(TooManyConnections, match="too many connections") as caught:
        await lifecycle.ensure_running(settings)
    assert "max_connections" in caught.value.hint


@pytest.mark.long
@pytest.mark.parametrize(("room", "is_killed"), [(0, False), (3, False), (0, True)])
@proves("connections:no-room")
async def test_runs_go_on_once_there_is_room_again(
    folder: Path, crowded: Crowded, room: int, *, is_killed: bool
) -> None:
    """All connections were ended, and others have taken their places: with some left, and with none; or the worker was killed as well."""
    copy_flow("crowd", folder)
    settings = Settings(project=folder, database_url=crowded.url)
    project = Project(settings)
    engine = await project.engine()
    lines = folder / "lines"
    names = ("crowd_steps", "crowd_transactions", "crowd_transactions_async")
    runs = [
        await engine.start(StartRequest(name=name, args={"file": f"{lines}-{name}"}))
        for name in names
    ]
    files = [Path(f"{lines}-{name}") for name in names]
    await until(lambda: all(len(lines_of(file)) >= 2 for file in files), "all are under way")
    crowded.allow(room)
    crowded.end_all()
    if is_killed:
        kill_worker(folder)
    before = [len(lines_of(file)) for file in files]
    await anyio.sleep(6)  # how long it lasts, not a wait for something
    crowded.allow(-1)
    ids = [run.workflow_id for run in runs]
    result = await engine.reader.wait(ids, timeout_seconds=120)
    assert {one.status for one in result.done} == {"SUCCESS"}, result.done
    assert [one.output for one in result.done] == [20, 20, 20], before
    await project.aclose()
    await lifecycle.shut_down(settings)


def test_of_many_workers_one_has_the_turn_for_the_background_jobs_each_second(
    database_url: str,
) -> None:
    take = turns._TAKE.replace("{own}", "durable_workflows_project")
    with psycopg.connect(database_url) as connection:  # in one transaction, in which no time passes

        def taken(ago: str) -> bool:
            past = "update durable_workflows_project.turns set taken_at = now() - interval %s"
            connection.execute(past.replace("%s", f"'{ago}'").encode())
            return connection.execute(take.encode()).fetchone() is not None

        assert taken("1 second")
        assert connection.execute(take.encode()).fetchone() is None
        assert not taken("0.5 seconds")
        assert taken("-1 hour")  # the server's clock was set back


@pytest.mark.long
async def test_a_delayed_run_begins_and_one_whose_time_is_over_ends(
    tmp_path: Path, postgres: native.Cluster
) -> None:
    """By the background jobs, of whichever worker has the turn; none of them holds a transaction open for it."""
    url = postgres.database(f"jobs_{secrets.token_hex(4)}")
    async with directories(1, tmp_path, url) as [engine]:
        short = {"steps": 1, "seconds": 0.0}
        long = {"steps": 100, "seconds": 0.1}
        delayed = StartRequest(name="wide_steps", args=short, delay_seconds=1)
        late = StartRequest(name="wide_steps", args=long, timeout_seconds=1)
        ids = [one.workflow_id for one in await engine.start_all([delayed, late])]
        result = await engine.reader.wait(ids, timeout_seconds=30)
        assert sorted(run.status for run in result.done) == ["CANCELLED", "SUCCESS"]
        with psycopg.connect(url, autocommit=True) as connection:

            def none_is_open_for_long() -> bool:  # on a busy machine one may be for a moment
                found = connection.execute(
                    "select application_name from pg_stat_activity where datname = current_database()"
                    " and state = 'idle in transaction' and now() - xact_start > interval '0.3 seconds'"
                ).fetchall()
                return found == []

            await until(none_is_open_for_long, "no transaction is held open")

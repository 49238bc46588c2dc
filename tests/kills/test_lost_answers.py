"""Who begins an effect, parks a run, or sends a message to one that is being parked, loses the connection in mid-call: what was done is done, but the answer is lost."""

import secrets
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

import anyio
import psycopg
import pytest
from pydantic import JsonValue

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import DatabaseUnavailable
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import copy_flow, until, until_found
from mcp import Client, StdioServerParameters
from requirements import proves
from test_parking import lines_of

pytestmark = [pytest.mark.anyio, pytest.mark.long]

_GATE = 1
# A process that writes such a row waits at the gate, and holds its locks.
GATE = f"""
create function wait_at_gate() returns trigger language plpgsql as $$ begin
    perform pg_advisory_xact_lock({_GATE}); return new;
end $$;
create trigger gate before insert on {{}} for each row execute function wait_at_gate();
"""
# A commit that waits for a server that there is not: it is on the disk by then.
SLOW = """
create function commit_slowly() returns trigger language plpgsql as $$ begin
    perform set_config('synchronous_commit', 'on', true); return new;
end $$;
create trigger slow before insert on {} for each row execute function commit_slowly();
"""
MESSAGES, PARKED = "dbos_project.notifications", "durable_workflows_project.parked"
EFFECTS = "durable_workflows_project.effects"
AT_GATE = "select from pg_stat_activity where wait_event = 'advisory'"
COMMITS = "select from pg_stat_activity where wait_event = 'SyncRep'"
WAITS_FOR = "select from pg_stat_activity where wait_event = %s"
# Those with such a statement, at the moment named by what they wait for.
END = """
select pg_terminate_backend(pid) from pg_stat_activity
where query like %s and pid <> pg_backend_pid() and %s in (wait_event_type, wait_event)
"""
SENDER, PARKER = "%insert into %notifications%", "%.park(%"
BEGINNER = "%INSERT INTO %effects%"


class Send(Protocol):
    """Sends the message once; returns whether that succeeded, as far as the sender knows."""

    async def __call__(self, run: str) -> bool: ...


@asynccontextmanager
async def by_engine(project: Project) -> AsyncGenerator[Send]:
    engine = await project.engine()

    async def send(run: str) -> bool:
        try:
            return (await engine.send(run, "go", "went", "once")).delivered
        except DatabaseUnavailable:
            return False

    yield send


@asynccontextmanager
async def by_server(project: Project) -> AsyncGenerator[Send]:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "durable_workflows", "serve", "--project", str(project.settings.project)],
        env=project.settings.as_environment(),
    )
    async with Client(parameters) as client:

        async def send(run: str) -> bool:
            message = {"topic": "go", "message": "went", "idempotency_key": "once"}
            result = await client.call_tool("send_message", {"workflow_id": run, **message})
            return not result.is_error

        yield send


@pytest.fixture(scope="module")
def postgres() -> Iterator[native.Cluster]:
    """A Postgres whose settings are changed."""
    programs = native.programs()
    assert programs is not None
    with native.cluster(programs) as cluster:
        cluster.execute(
            "alter system set synchronous_commit = local",
            "alter system set synchronous_standby_names = 'nobody'",
            "select pg_reload_conf()",
        )
        yield cluster


@contextmanager
def connected(url: str) -> Generator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@proves("message:once", "park:goes-on")
@pytest.mark.parametrize("sender", [by_engine, by_server])
@pytest.mark.parametrize("moment", ["Lock", "SyncRep"], ids=["before-commit", "after-commit"])
async def test_a_message_is_neither_lost_nor_doubled_whose_connection_is_killed_in_mid_call(
    moment: str,
    sender: Callable[[Project], AbstractAsyncContextManager[Send]],
    folder: Path,
    postgres: native.Cluster,
) -> None:
    copy_flow("parking", folder)
    url = postgres.database(f"test_{secrets.token_hex(4)}")
    settings = Settings(project=folder, database_url=url, park_after_seconds=0.2)
    project = Project(settings)
    engine = await project.engine()
    await engine.catalog()
    file = folder / "notes"
    async with sender(project) as send:
        with connected(url) as gate, connected(url) as control:
            control.execute(GATE.format(PARKED).encode())
            control.execute(SLOW.format(MESSAGES).encode())
            gate.execute("select pg_advisory_lock(%s)", [_GATE])
            request = StartRequest(name="parked_receives", args={"file": str(file)})
            run = (await engine.start(request)).workflow_id
            await until(lambda: control.execute(AT_GATE).fetchall(), "it is being parked")
            if moment == "SyncRep":
                gate.close()
            assert not await _cut_off(send, run, control, moment)
            gate.close()
            control.execute(f"drop trigger slow on {MESSAGES}".encode())
            assert await send(run)
            [ended] = (await engine.reader.wait([run], timeout_seconds=30)).done
            sent = control.execute(f"select count(*) from {MESSAGES}".encode()).fetchall()
            assert sent == [(1,)]
    assert ended.output == "went"
    assert lines_of(file) == ["a", "went"]
    await project.aclose()


async def _cut_off(send: Send, run: str, control: psycopg.Connection, moment: str) -> bool:
    """Send, and end each connection that does, as the sender makes another one by itself."""
    said: list[bool] = []

    async def sending() -> None:
        said.append(await send(run))

    async with anyio.create_task_group() as group:
        group.start_soon(sending)
        while not said:
            control.execute(END, [SENDER, moment])
            await anyio.sleep(0.02)
    return said[0]


@proves("park:goes-on")
async def test_who_does_not_hear_that_it_has_parked_a_run_does_no_step_beside_who_has_claimed_it(
    folder: Path, elsewhere: Path, postgres: native.Cluster
) -> None:
    """The run takes the only place of its machine until that hears of it, so the other machine claims it."""
    url = postgres.database(f"test_{secrets.token_hex(4)}")
    one, other = (
        Project(
            Settings(
                project=directory,
                application="project",
                database_url=url,
                park_after_seconds=0.2,
                concurrency=1,
            )
        )
        for directory in (folder, elsewhere)
    )
    for directory in (folder, elsewhere):
        copy_flow("parking", directory)
    engine = await one.engine()
    await engine.catalog()
    file, until_ = folder / "notes", folder / "until"
    with connected(url) as control:
        control.execute(SLOW.format(PARKED).encode())
        args: dict[str, JsonValue] = {"file": str(file), "until": str(until_)}
        request = StartRequest(name="parked_works_later", args=args)
        run = (await engine.start(request)).workflow_id
        await until(lambda: control.execute(COMMITS).fetchall(), "it is being parked")
        await (await other.engine()).catalog()
        await until_found(lambda: _is_ready(engine, 2), "the other machine is ready")
        async with anyio.create_task_group() as group:
            group.start_soon(engine.send, run, "go", "went")
            control.execute(END, [PARKER, "SyncRep"])
        await until(lambda: lines_of(file) == ["a", "went"], "the other machine has claimed it")
        await anyio.sleep(4)  # in which the first one asks again
        assert lines_of(file) == ["a", "went"]
        until_.touch()
        [ended] = (await engine.reader.wait([run], timeout_seconds=30)).done
        assert ended.output == "went"
    for project in (one, other):
        await project.aclose()


@proves("effect:once")
@pytest.mark.parametrize(
    ("trigger", "moment"),
    [(GATE, "advisory"), (SLOW, "SyncRep")],
    ids=["before-commit", "after-commit"],
)
async def test_who_does_not_hear_that_an_effect_may_begin_asks_again_and_is_not_in_doubt(
    trigger: str, moment: str, folder: Path, postgres: native.Cluster
) -> None:
    copy_flow("effects", folder)
    url = postgres.database(f"test_{secrets.token_hex(4)}")
    project = Project(Settings(project=folder, database_url=url))
    engine = await project.engine()
    await engine.catalog()
    file = folder / "paid"
    with connected(url) as gate, connected(url) as control:
        gate.execute("select pg_advisory_lock(%s)", [_GATE])
        control.execute(trigger.format(EFFECTS).encode())
        request = StartRequest(name="effects_pays", args={"file": str(file)})
        run = (await engine.start(request)).workflow_id
        await until(lambda: control.execute(WAITS_FOR, [moment]).fetchall(), "it is asked for")
        assert lines_of(file) == []
        assert control.execute(END, [BEGINNER, moment]).fetchall() == [(True,)]
        gate.close()
        control.execute(f"drop trigger if exists slow on {EFFECTS}".encode())
        [ended] = (await engine.reader.wait([run], timeout_seconds=30)).done
    assert ended.output == {"receipt": 1}
    assert lines_of(file) == ["paid"]
    assert [one.doubt_since for one in (await engine.reader.run(run)).effects] == [None]
    await project.aclose()


async def _is_ready(engine: Engine, count: int) -> bool:
    return len((await engine.reader.status()).workers) == count

"""A project moves from an external Postgres into its folder, and between all its databases: everything goes on, in one place."""

import itertools
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import psycopg
import pytest

from durable_workflows.database import closing, tables
from durable_workflows.engine.project import Project
from durable_workflows.errors import DatabaseUnavailable, ProjectMoved, UsageError
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle, moving
from durable_workflows.processes.targets import COMING, IN_THE_FOLDER, UNCONFIRMED
from durable_workflows.settings import ENGINES, Database, Settings
from durable_workflows.system import state
from helpers import copy_flow, processes_of, until
from requirements import proves
from test_recovery import assert_each_step_once, lines_of

pytestmark = pytest.mark.anyio

# Each of the six directions between three databases.
ROUTE = ("pglite", "external", "postgres", "pglite", "postgres", "external", "pglite")
MOVER = """
import sys, time
from pathlib import Path
import anyio
from durable_workflows.processes import moving
from durable_workflows.settings import Settings
settings = Settings(project=Path(sys.argv[1]), database_url=sys.argv[2])

def tell(text):
    print(text, flush=True)
    if sys.argv[4] in text:  # here it is killed
        time.sleep(600)

anyio.run(moving.move, settings, sys.argv[3], tell)
"""
# Ten steps, and between them one that lasts until there is a file: the run is under way until a test says otherwise.
HELD = """

@DBOS.step()
def hold(file: str) -> None:
    while not Path(f"{file}.go").exists():
        time.sleep(0.02)


@DBOS.workflow()
def held_steps(file: str) -> int:
    before = sum(write_line(file, number, 0.0) for number in range(1, 6))
    hold(file)
    return before + sum(write_line(file, number, 0.0) for number in range(6, 11))
"""
RUN = """
insert into dbos_project.workflow_status (workflow_uuid, name, status, application_name)
values (%s, 'approval', 'PENDING', 'durable-workflows')
"""


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project directory; no database is in the environment."""
    monkeypatch.delenv("DBOS_DATABASE_URL")
    return folder


@pytest.fixture
def away(home: Path, database_url: str) -> Settings:
    """The settings of the project on the external database. Runs that wait are parked soon."""
    return Settings(project=home, database_url=database_url, park_after_seconds=0.2)


@pytest.fixture
async def projects(home: Path, away: Settings) -> AsyncIterator[dict[str, Settings]]:
    """The settings of the project on each of its databases."""
    found = {engine: Settings(project=home, engine=engine, park_after_seconds=0.2) for engine in ENGINES}  # fmt: skip
    yield {**found, "external": away}
    await lifecycle.shut_down(away)


def place_of(settings: Settings) -> str:
    return f"{IN_THE_FOLDER[settings.engine]} in {settings.project} on {socket.gethostname()}"


def external(settings: Settings) -> Database:
    assert settings.database_url is not None
    return settings.database(settings.database_url)


async def check_open(settings: Settings) -> None:
    async with await tables.connect(external(settings), role="test") as connection:
        await closing.check(connection)


async def runs_in(settings: Settings) -> list[str]:
    project = Project(settings)
    found = (await (await project.engine()).reader.runs()).workflows
    await project.aclose()
    await lifecycle.shut_down(settings)
    return [run.workflow_id for run in found]


def write_flow(folder: Path) -> None:
    with copy_flow("ten_steps", folder).open("a", encoding="utf-8") as file:
        file.write(HELD)


async def begin(settings: Settings, workflow_id: str) -> None:
    project = Project(settings)
    file = settings.project / workflow_id
    args = {"file": str(file)}
    engine = await project.engine()
    await engine.start(StartRequest(name="held_steps", args=args, workflow_id=workflow_id))
    await until(lambda: lines_of(file), "it is under way", seconds=60)
    await project.aclose()


async def end(settings: Settings, workflow_id: str) -> None:
    (settings.project / f"{workflow_id}.go").touch()
    project = Project(settings)
    engine = await project.engine()
    assert (await engine.reader.wait([workflow_id], timeout_seconds=60)).done[0].output == 55
    assert_each_step_once(settings.project / workflow_id, 1)
    await project.aclose()


@proves("move:everything")
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_runs_go_on_after_a_move_in_each_direction(
    projects: dict[str, Settings], away: Settings
) -> None:
    write_flow(away.project)
    project = Project(projects[ROUTE[0]])
    engine = await project.engine()
    request = StartRequest(name="approval", args={"request": "Deploy?"}, workflow_id="waits")
    await engine.start(request)
    await engine.reader.wait(["waits"], until="any", timeout_seconds=40)
    await project.aclose()
    for number, (before, after) in enumerate(itertools.pairwise(ROUTE), start=1):
        await begin(projects[before], f"run-{number}")
        to = external(away).url if after == "external" else after
        moved = await moving.move(projects[before], to)
        assert (moved.runs, moved.unfinished) == (number + 1, 2), (before, after)
        assert processes_of(away.project) == []
        with pytest.raises(ProjectMoved, match=f"ENGINE={after}" if to == after else "127.0.0.1"):
            await lifecycle.ensure_running(projects[before])
        await end(projects[after], f"run-{number}")
    project = Project(projects[ROUTE[-1]])
    engine = await project.engine()
    [wait] = await engine.reader.waits("waits")
    await engine.answer(wait, {"decision": "approve"}, who="me", how="test")
    assert (await engine.reader.wait(["waits"], timeout_seconds=60)).done[0].status == "SUCCESS"
    await project.aclose()
    async with await tables.connect(Database(external(away).url), role="test") as connection:
        schemas = {row["name"] for row in await tables.fetch(connection, "schemas")}
    assert {"durable_workflows_project_before_1", "dbos_project_before_1"} <= schemas


@proves("move:everything")
async def test_a_project_comes_back_from_a_postgres_that_refuses_changes_from_then_on(
    projects: dict[str, Settings], away: Settings, database_url: str
) -> None:
    """Also of a machine that was cut off, and of one whose settings still name that Postgres."""
    with psycopg.connect(database_url) as connection:
        connection.execute(RUN, ["waits"])
    moved = await moving.move(away, "pglite")
    assert (moved.runs, moved.unfinished, processes_of(away.project)) == (1, 1, [])
    assert state.moved_to(projects["pglite"]) is None
    with psycopg.connect(database_url, autocommit=True) as connection:
        for change in (
            "update dbos_project.workflow_status set status = 'SUCCESS'",
            "insert into dbos_project.operation_outputs (workflow_uuid, function_id, function_name) values ('waits', 1, 'late')",
            "update durable_workflows_project.workers set seen_at = now()",
            "delete from durable_workflows_project.parked",
        ):
            with pytest.raises(psycopg.OperationalError, match="were moved to the project's own"):
                connection.execute(change.encode())
        with pytest.raises(ProjectMoved, match=r"in .*project on ") as caught:
            await lifecycle.ensure_running(away)
        assert "drop function durable_workflows_project.moved_away cascade" in caught.value.hint
        again = await moving.move(away, "pglite")
        assert (again.runs, again.rows) == (1, 0)
        with pytest.raises(ProjectMoved, match=r"were moved to .*ENGINE=pglite"):
            await moving.move(away, "postgres")
        state.note_move(projects["pglite"], "other:5432/shop")
        with pytest.raises(ProjectMoved, match="other:5432/shop"):
            await moving.move(away, "pglite")
        connection.execute("drop function durable_workflows_project.moved_away cascade")
        connection.execute("update dbos_project.workflow_status set status = 'CANCELLED'")


@proves("move:everything")
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_move_back_that_is_killed_at_any_moment_is_made_by_the_next_one(
    projects: dict[str, Settings], away: Settings
) -> None:
    write_flow(away.project)
    there = projects["pglite"]
    await begin(away, "one")
    for moment in ("Making the new database", "Making the newest", "Copying"):
        await kill_mover_after(moment, away, "pglite")
        await check_open(away)
        with pytest.raises(ProjectMoved, match="`durable-workflows move`"):
            await lifecycle.ensure_running(there)
    # As if killed between the two commits.
    async with await tables.connect(external(away), role="test") as source, source.transaction():
        await closing.close(source, place_of(there), note=UNCONFIRMED)
    for settings in (away, there):
        with pytest.raises(ProjectMoved, match="run `durable-workflows move` again"):
            await lifecycle.ensure_running(settings)
    moved = await moving.move(away, "pglite")
    assert (moved.runs, moved.rows > 1) == (1, True)
    # As if killed right after the second.
    state.note_move(there, COMING)
    async with await tables.connect(external(away), role="test") as source:
        await closing.confirm(source, place_of(there) + UNCONFIRMED)
    moved = await moving.move(away, "pglite")
    assert (moved.runs, moved.rows, state.moved_to(there)) == (1, 0, None)
    async with await tables.connect(external(away), role="test") as source:
        assert await closing.moved_to(source) == place_of(there)
    await end(there, "one")
    assert not (away.state / "pgdata.before-1").exists()


async def kill_mover_after(moment: str, settings: Settings, to: str) -> None:
    """Kill it once it has said that it does this."""
    words = [str(settings.project), external(settings).url, to, moment]
    command = [sys.executable, "-c", MOVER, *words]
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as mover:
        assert mover.stdout is not None
        said = ""
        async for part in mover.stdout:
            said += part.decode()
            if moment in said:
                break
        mover.kill()
    assert moment in said, said
    for role in ("pglite.mjs", "keeper.py", "worker"):
        await until(lambda role=role: not processes_of(settings.project, role), f"{role} has gone")


@proves("move:everything", "request:refused")
async def test_a_move_back_is_refused_while_other_machines_work_there(
    away: Settings, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(RUN, ["waits"])
        insert = "insert into durable_workflows_project.workers (executor_id, version, pid, host, state) values ('strange-v1', 'v1', 1, 'box-2', 'ready')"
        connection.execute(insert)
        with pytest.raises(UsageError, match="A worker on box-2 runs for this project"):
            await moving.move(away, "pglite")
        assert not (away.state / "pgdata").exists()
        connection.execute("delete from durable_workflows_project.workers")

        def come(said: str) -> None:
            if said.startswith("Making the newest"):
                connection.execute(insert)

        with pytest.raises(UsageError, match="A worker on box-2 runs for this project"):
            await moving.move(away, "pglite", come)
        await check_open(away)
        connection.execute("update durable_workflows_project.workers set seen_at = now()")


@proves("request:refused")
@pytest.mark.long
async def test_what_cannot_be_brought_back_is_refused(
    projects: dict[str, Settings], away: Settings, database_url: str
) -> None:
    with pytest.raises(UsageError, match="nothing to move"):
        await moving.move(away, "pglite")
    there = projects["pglite"]
    write_flow(away.project)
    await begin(there, "theirs")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(RUN, ["waits"])
        with pytest.raises(UsageError, match="already has runs in the project's own"):
            await moving.move(away, "pglite")
        await check_open(away)
        await lifecycle.shut_down(away)
        # Who has the table locked keeps the move from closing the database.
        with psycopg.connect(database_url) as other:
            other.execute("insert into dbos_project.workflow_status (workflow_uuid, status) values ('b', 'PENDING')")  # fmt: skip
            with pytest.raises(DatabaseUnavailable, match=r"not moved: .*lock timeout"):
                await moving.move(away, "postgres")
        await check_open(away)
    assert await runs_in(there) == ["theirs"]

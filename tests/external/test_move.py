"""A project moves from its embedded database to an external Postgres, and everything goes on there."""

import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from durable_workflows.database import copying, tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import ProjectMoved, UsageError
from durable_workflows.models import StartRequest
from durable_workflows.pglite.server import running_pglite
from durable_workflows.processes import lifecycle, moving
from durable_workflows.settings import Database, Settings
from durable_workflows.system import state
from helpers import copy_flow, processes_of, until, until_found
from requirements import proves
from test_recovery import assert_each_step_once, lines_of
from test_versions import write_flow

pytestmark = pytest.mark.anyio

# Stands still in the middle of the copy, until it is killed: the whole copy takes no time.
MOVER = """
import signal
import sys
from pathlib import Path
import anyio
from durable_workflows.processes import moving
from durable_workflows.settings import Settings

def say(text: str) -> None:
    print(text, flush=True)
    if text.startswith("Copying"):
        signal.pause()

anyio.run(moving.move, Settings(project=Path(sys.argv[1])), sys.argv[2], say)
"""
MIXED = '''

@DBOS.workflow()
def mixed(file: str) -> list[object]:
    """Write a line, an event, a part of a stream; start a child; wait; write a line."""
    write_line(file, 1, 0)
    DBOS.set_event("progress", 50)
    DBOS.write_stream("parts", "first")
    child = DBOS.start_workflow(ten_steps, file + ".child", 0.0, 3)
    got = DBOS.recv("go", timeout_seconds=600)
    write_line(file, 2, 0)
    DBOS.write_stream("parts", "second")
    return [got, child.get_result(), DBOS.get_event(DBOS.workflow_id, "progress")]
'''


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project directory whose database is the embedded one."""
    monkeypatch.delenv("DBOS_DATABASE_URL")
    return folder


@pytest.fixture
async def projects(home: Path, database_url: str) -> AsyncIterator[tuple[Project, Project]]:
    """The project as it is, and as it will be after the move."""
    # So few at once that some have to queue, and that those that wait are parked.
    both = (
        Project(Settings(project=home, concurrency=1)),
        Project(Settings(project=home, database_url=database_url)),
    )
    yield both
    for project in both:
        await project.aclose()


async def contents(database: Database) -> dict[tuple[bool, str], str]:
    """A digest of all rows of each of the project's tables."""
    async with await tables.connect(database, role="test") as connection:
        await connection.execute("set timezone to 'UTC'")  # it is in the texts of times
        rows = await tables.fetch(connection, "project_tables", other=database.dbos_schema)
        found: dict[tuple[bool, str], str] = {}
        for row in rows:
            statement = sql.SQL(
                "select count(*) || ' ' || coalesce(md5(string_agg(one::text, '' order by one::text collate \"C\")), '') as digest from {} as one"
            ).format(sql.Identifier(row["schema"], row["name"]))
            digest = await (await connection.execute(statement)).fetchone()
            assert digest is not None
            found[row["of_dbos"], row["name"]] = digest["digest"]
        return found


async def embedded_contents(home: Path) -> dict[tuple[bool, str], str]:
    """Those of the project's own database, of which nothing else runs."""
    async with running_pglite(Settings(project=home), password="for-the-test", port=0) as node:
        return await contents(Database(node.url))


async def start(engine: Engine, name: str, workflow_id: str, **args: object) -> None:
    await engine.start(
        StartRequest.model_validate({"name": name, "args": args, "workflow_id": workflow_id})
    )


async def status(engine: Engine, workflow_id: str) -> str:
    return (await engine.reader.run(workflow_id)).status


async def start_all_sorts(engine: Engine, home: Path) -> None:
    for name in ("messages", "asking", "odd"):
        copy_flow(name, home)
    with copy_flow("ten_steps", home).open("a", encoding="utf-8") as file:
        file.write(MIXED)
    write_flow(home, "old")
    await start(engine, "fails", "failed", message="no")
    await start(engine, "talk", "talked", lines=5)
    await start(engine, "much_noise", "large", steps=3, size=4_000_000)  # copied in slices
    await engine.reader.wait(["failed", "talked", "large"], timeout_seconds=40)
    await start(engine, "flow", "of-old-code")
    await engine.reader.wait(["of-old-code"], until="any", timeout_seconds=40)
    write_flow(home, "new")
    await start(engine, "mixed", "waits", file=str(home / "mixed"))
    await engine.reader.wait(["waits"], until="any", timeout_seconds=40)
    await start(engine, "collect", "collects", topic="t", count=3)
    await engine.send("collects", "t", "before the move")
    await engine.send("waits", "another topic", "unread")
    await start(engine, "ten_steps", "steps", file=str(home / "steps"), seconds=1.5)
    await until(lambda: len(lines_of(home / "steps")) >= 2, "steps are under way")
    await start(engine, "ten_steps", "queued", file=str(home / "queued"))
    delayed = StartRequest(
        name="ten_steps",
        args={"file": str(home / "delayed")},
        workflow_id="delayed",
        delay_seconds=5,
    )
    await engine.start(delayed)
    assert await status(engine, "queued") == "ENQUEUED"


@pytest.mark.timeout(300)
@proves("move:everything")
@pytest.mark.long
async def test_a_moved_project_goes_on_with_everything(
    projects: tuple[Project, Project], home: Path, database_url: str
) -> None:
    before, after = projects
    await start_all_sorts(await before.engine(), home)
    talked = await (await before.engine()).reader.log("talked")
    said: list[str] = []
    moved = await moving.move(before.settings, database_url, said.append)
    assert processes_of(home) == []
    assert "Starting the embedded database" in said
    assert moved.runs == 10  # with the child
    assert moved.unfinished >= 5
    assert state.moved_to(before.settings) == moved.target
    external = after.settings.database(database_url)
    assert await contents(external) == await embedded_contents(home)
    with pytest.raises(ProjectMoved, match=moved.target):
        await before.engine()

    engine = await after.engine()
    assert await engine.reader.log("talked") == talked
    assert (await engine.reader.run("large")).steps[0].output is not None
    assert "ValueError" in str((await engine.reader.run("failed")).error)
    for topic, message in (("go", "went"), ("another topic", "and more")):
        await engine.send("waits", topic, message)
    for message in ("second", "third"):
        await engine.send("collects", "t", message)
    await engine.send("of-old-code", "go", None)
    ids = ["waits", "collects", "of-old-code", "steps", "queued", "delayed"]
    ended = (await engine.reader.wait(ids, timeout_seconds=120)).done
    assert {run.workflow_id: run.output for run in ended} == {
        "waits": ["went", 6, 50],
        "collects": ["before the move", "second", "third"],
        "of-old-code": "old",
        "steps": 55,
        "queued": 55,
        "delayed": 55,
    }
    assert lines_of(home / "mixed") == [1, 2]
    assert_each_step_once(home / "steps", 1)
    for name in ("queued", "delayed"):
        assert lines_of(home / name) == list(range(1, 11))
    unread = [one for one in await engine.reader.messages("waits") if one.consumed_by_step is None]
    assert [one.topic for one in unread] == ["another topic", "another topic"]
    forked = await engine.fork("failed", 2)
    assert (await engine.reader.wait([forked.workflow_id])).done[0].status == "ERROR"
    await start(engine, "talk", "talks-again")  # its lines get numbers that no line has
    await engine.reader.wait(["talks-again"], timeout_seconds=40)
    await until_found(lambda: engine.reader.log("talks-again"), "its log is there")


@pytest.mark.long
@pytest.mark.timeout(300)
@proves("move:everything")
async def test_a_move_that_is_killed_at_any_moment_is_made_by_the_next_one(
    projects: tuple[Project, Project], home: Path, database_url: str
) -> None:
    before, after = projects
    copy_flow("ten_steps", home)
    await (await after.engine()).catalog()  # somebody who wondered where the runs were
    await lifecycle.shut_down(after.settings)
    engine = await before.engine()
    await start(engine, "ten_steps", "steps", file=str(home / "steps"), seconds=0.2)
    await until(lambda: lines_of(home / "steps"), "it is under way")
    await before.aclose()
    for moment in ("Starting", "Copying"):
        await kill_mover_after(moment, home, database_url)
        assert state.moved_to(before.settings) is None
        assert await runs_in(database_url) == 0
    engine = await before.engine()  # nothing has become of the project
    assert (await engine.reader.run("steps")).status in ("PENDING", "SUCCESS")
    await moving.move(before.settings, database_url)
    engine = await after.engine()
    result = await engine.reader.wait(["steps"], timeout_seconds=60)
    assert result.done[0].output == 55
    assert_each_step_once(home / "steps", 1)


async def kill_mover_after(moment: str, home: Path, url: str) -> None:
    """Kill it a little after it has said that it does this."""
    command = [sys.executable, "-c", MOVER, str(home), url]
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as mover:
        assert mover.stdout is not None
        said = ""
        async for part in mover.stdout:
            said += part.decode()
            if moment in said:
                break
        assert moment in said, said
        if moment != "Copying":
            await anyio.sleep(random.uniform(0, 0.5))
        mover.kill()
    await until(lambda: not processes_of(home, "pglite.mjs"), "its Node has gone")
    await until(lambda: not processes_of(home, "worker"), "what makes the tables has gone")


async def runs_in(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = await connection.execute("select count(*) from dbos_project.workflow_status")
        row = await found.fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.long
@proves("move:everything")
async def test_a_move_that_broke_off_just_before_or_after_its_commit_is_cleared_up_by_the_next_one(
    projects: tuple[Project, Project], home: Path, database_url: str
) -> None:
    before, after = projects
    settings, database = before.settings, after.settings.database(database_url)
    engine = await before.engine()
    await start(engine, "approval", "waits", request="Deploy?")
    await engine.reader.wait(["waits"], until="any", timeout_seconds=40)
    await before.aclose()

    class KilledError(Exception):
        """The process is gone."""

    async def kill() -> None:
        state.note_move(settings, unconfirmed)
        raise KilledError

    place = conninfo_to_dict(database_url)
    target = f"{place['host']}:{place['port']}/{place['dbname']}"
    unconfirmed = target + " (unless that was interrupted: run `durable-workflows move` again)"
    await lifecycle.shut_down(settings)
    async with (
        running_pglite(settings, password="for-the-test", port=0) as node,
        await tables.connect(Database(node.url), role="test") as source,
        await tables.connect(database, role="test") as into,
    ):
        with pytest.raises(KilledError):
            await copying.copy(
                source,
                into,
                mark="x",
                before_change=anyio.lowlevel.checkpoint,
                before_commit=kill,
                progress=print,
            )
        await make_older(source)
    assert await runs_in(database_url) == 0
    with pytest.raises(ProjectMoved, match="run `durable-workflows move` again"):
        await lifecycle.ensure_running(settings)
    moved = await moving.move(settings, database_url)  # it was not carried out: now it is
    assert await contents(database) == await embedded_contents(home)
    assert (moved.target, moved.runs, moved.unfinished) == (target, 1, 1)
    assert moved.rows > 1
    state.note_move(settings, unconfirmed)  # as if killed now: it was carried out
    again = await moving.move(settings, database_url)
    assert (again.runs, again.rows) == (1, 0)
    assert state.moved_to(settings) == target
    (settings.state / "moved").unlink()  # somebody goes on at home, and that is not there
    with pytest.raises(UsageError, match="has runs in"):
        await moving.move(settings, database_url)


async def make_older(connection: tables.Connection) -> None:
    """As a version of ours made the tables that had no sessions."""
    await connection.execute("drop table durable_workflows.sessions")
    await connection.execute(
        "delete from durable_workflows.migrations where name = '0003_sessions.sql' or name like 'dbos %'"
    )


@pytest.mark.long
@proves("request:refused")
async def test_a_move_is_refused_where_the_project_has_runs(
    projects: tuple[Project, Project], home: Path, database_url: str
) -> None:
    before, after = projects
    engine = await after.engine()
    await start(engine, "approval", "there", request="Deploy?")
    await after.aclose()
    await lifecycle.shut_down(after.settings)
    await before.engine()
    running = {process.pid for process in processes_of(home, "supervisor")}
    with pytest.raises(UsageError, match="has runs in") as caught:
        await moving.move(before.settings, database_url)
    assert "--application" in caught.value.hint
    assert {process.pid for process in processes_of(home, "supervisor")} == running
    assert state.moved_to(before.settings) is None
    assert await runs_in(database_url) == 1


@pytest.mark.long
@proves("request:refused")
async def test_a_run_that_is_started_there_during_the_move_is_not_lost(
    home: Path, database_url: str
) -> None:
    settings = Settings(project=home)
    await lifecycle.ensure_running(settings)

    def start_a_run(said: str) -> None:
        if said == "Starting the embedded database":
            with psycopg.connect(database_url) as connection:
                connection.execute(
                    "insert into dbos_project.workflow_status (workflow_uuid, status) values ('theirs', 'ENQUEUED')"
                )

    with pytest.raises(UsageError, match="has runs in"):
        await moving.move(settings, database_url, start_a_run)
    assert await runs_in(database_url) == 1
    assert state.moved_to(settings) is None


@proves("request:refused")
async def test_what_cannot_be_moved_is_refused(home: Path, database_url: str) -> None:
    settings = Settings(project=home)
    with pytest.raises(UsageError, match="nothing to move"):
        await moving.move(settings, database_url)
    assert not settings.state.exists()
    state.prepare(settings)
    (settings.state / "pgdata").mkdir()
    (settings.state / "pgdata" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    state.note_move(settings, "other:5432/shop")
    with pytest.raises(ProjectMoved, match="moved to other:5432/shop"):
        await moving.move(settings, database_url)

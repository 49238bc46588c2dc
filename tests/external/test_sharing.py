"""Several projects on one Postgres, and several machines for one project."""

import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import OtherDatabase, UsageError
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, state
from external.machines import executors, helping, identity, is_ready, query, workers
from helpers import copy_flow, processes_of, until, until_found
from native import Cluster
from requirements import proves
from test_recovery import assert_each_step_once, kill, lines_of

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that wait stay with the machine that has taken them up."""
    monkeypatch.setenv("DURABLE_WORKFLOWS_PARK_AFTER_SECONDS", "0")


ON_DEMAND = """

@DBOS.workflow()
def on_demand(file: str) -> int:
    DBOS.recv("go", timeout_seconds=600)
    return sum(write_line(file, number, 0.5) for number in range(1, 11))
"""


async def test_no_node_runs_where_the_database_is_an_external_one(
    engine: Engine, folder: Path
) -> None:
    await engine.catalog()
    assert processes_of(folder, "worker")
    assert processes_of(folder, "pglite.mjs") == []
    assert not (folder / ".dbos" / "pgdata").exists()
    assert engine.connection.mode == "external"


@pytest.mark.long
async def test_two_projects_with_the_same_names_do_not_see_each_others_runs(
    engine: Engine, folder: Path, elsewhere: Path
) -> None:
    """The same files, so also the same version; the same queue and the same workflow_id."""
    other = Project(Settings(project=elsewhere))
    for directory in (folder, elsewhere):
        copy_flow("ten_steps", directory)
        copy_flow("messages", directory)
    engines = {folder: engine, elsewhere: await other.engine()}
    for directory, one in engines.items():
        args = {"file": str(directory / "lines")}
        await one.start(StartRequest(name="ten_steps", args=args, workflow_id="the-one"))
        await one.start(StartRequest(name="wait_for", args={"topic": "t"}, workflow_id="waits"))
    await engine.send("waits", "t", "to the first only")
    await engine.reader.wait(["the-one", "waits"], timeout_seconds=30)
    assert await engine.reader.counts() == {"SUCCESS": 2}
    await engines[elsewhere].reader.wait(["the-one"], timeout_seconds=30)
    assert await engines[elsewhere].reader.counts() == {"SUCCESS": 1, "PENDING": 1}
    for directory, one in engines.items():
        assert lines_of(directory / "lines") == list(range(1, 11))
        assert await executors(one.connection) == {identity(directory)}
    await lifecycle.shut_down(Settings(project=folder))
    await engines[elsewhere].send("waits", "t", "to the second")
    result = await engines[elsewhere].reader.wait(["waits"], timeout_seconds=30)
    assert result.done[0].output == "to the second"
    await other.aclose()


@pytest.fixture
async def divided(
    folder: Path, elsewhere: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Engine, list[str]]]:
    """Two machines, the helping one there before there was anything to do, and two runs that wait. Each worker may have one run at a time."""
    url = postgres.database(f"without_tables_{secrets.token_hex(4)}")
    monkeypatch.setenv("DBOS_DATABASE_URL", url)
    monkeypatch.setenv("DURABLE_WORKFLOWS_CONCURRENCY", "1")
    copy_flow("messages", folder)
    with helping(elsewhere):
        await until(lambda: is_ready(elsewhere), "it waits for something to do", seconds=60)
        project = Project(Settings(project=folder))
        engine = await project.engine()
        request = StartRequest(name="wait_for", args={"topic": "t"})
        started = await engine.start_all([request, request])
        ids = [one.workflow_id for one in started]
        await engine.reader.wait(ids, timeout_seconds=60)
        yield engine, ids
        await project.aclose()


@pytest.mark.long
async def test_a_helping_machine_takes_part_also_one_that_was_there_first(
    divided: tuple[Engine, list[str]], folder: Path, elsewhere: Path
) -> None:
    engine, ids = divided
    assert await executors(engine.connection) == {identity(folder), identity(elsewhere)}
    for one in ids:
        await engine.send(one, "t", one)
    result = await engine.reader.wait(ids, timeout_seconds=30)
    assert [run.output for run in result.done] == ids


@proves("recovery:machine-gone", "recovery:worker-killed", "recovery:supervisor-killed")
@pytest.mark.long
async def test_the_runs_of_a_machine_that_is_gone_go_on_at_another_one(
    engine: Engine, project: Project, folder: Path, elsewhere: Path
) -> None:
    with copy_flow("ten_steps", folder).open("a", encoding="utf-8") as file:
        file.write(ON_DEMAND)
    lines = folder / "lines"
    started = await engine.start(StartRequest(name="on_demand", args={"file": str(lines)}))
    await engine.reader.wait([started.workflow_id], until="any")  # the first machine has it
    with helping(elsewhere):
        await until_found(
            lambda: _is_worker(engine, elsewhere), "the other machine is ready", seconds=60
        )
        await engine.send(started.workflow_id, "go", None)
        await until(lambda: len(lines_of(lines)) >= 3, "it is under way")
        kill(folder, ["supervisor", "worker"])
        # As if its last sign of life were old: a minute and a half is too long for a test.
        await query(
            engine.connection,
            f"update {{ours}}.workers set seen_at = seen_at - interval '1 hour' where executor_id like '{identity(folder)}%'",
        )
        result = await engine.reader.wait([started.workflow_id], timeout_seconds=90)
        assert result.done[0].output == 55
        assert await executors(engine.connection) == {identity(elsewhere)}
        assert_each_step_once(lines, 1)
        again = await project.engine()  # the first machine is back
        await again.catalog()
        await until_found(lambda: _is_worker(again, folder), "its worker is back")
        assert_each_step_once(lines, 1)


def _lose_id(folder: Path) -> None:
    (folder / ".dbos" / "id").unlink()


def _lose_everything(folder: Path) -> None:
    shutil.rmtree(folder / ".dbos")


AGED = "update {ours}.workers set seen_at = seen_at - interval '1 hour'"
# As of a worker that has cleared up after itself, and of rows that came from elsewhere.
UNKNOWN = """with gone as (delete from {ours}.workers)
update {dbos}.workflow_status set updated_at = updated_at - 3600000 where status = 'PENDING'"""


@pytest.mark.long
@proves("recovery:machine-gone", "damage:nothing-lost")
async def test_runs_go_on_where_the_identity_of_the_directory_was_lost(
    folder: Path, elsewhere: Path
) -> None:
    """One project loses its id; the other one its state directory, and its rows of workers. Both are killed while a run waits and a step is in flight."""
    losses = [(folder, _lose_id, AGED), (elsewhere, _lose_everything, UNKNOWN)]
    async with anyio.create_task_group() as group:
        for directory, lose, forget in losses:
            group.start_soon(_goes_on_after, directory, lose, forget)


async def _goes_on_after(directory: Path, lose: Callable[[Path], None], forget: str) -> None:
    copy_flow("ten_steps", directory)
    copy_flow("messages", directory)
    lines = directory / "lines"
    project = Project(Settings(project=directory))
    engine = await project.engine()
    waits = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await until_found(lambda: engine.reader.waits(waits.workflow_id), "it waits", seconds=60)
    args = {"file": str(lines), "seconds": 1}
    steps = await engine.start(StartRequest(name="ten_steps", args=args))
    await until(lambda: len(lines_of(lines)) >= 3, "it is under way", seconds=60)
    connection, before = engine.connection, identity(directory)
    await project.aclose()
    kill(directory, ["supervisor", "worker"])
    assert len(lines_of(lines)) < 10
    lose(directory)
    await query(connection, forget)
    again = Project(Settings(project=directory))
    engine = await again.engine()
    assert identity(directory) != before
    await engine.send(waits.workflow_id, "t", "after it")
    result = await engine.reader.wait([waits.workflow_id, steps.workflow_id], timeout_seconds=90)
    assert [run.output for run in result.done] == ["after it", 55]
    assert_each_step_once(lines, 1)
    assert await executors(connection) == {identity(directory)}
    await again.aclose()


async def _is_worker(engine: Engine, directory: Path) -> bool:
    is_there = (directory / ".dbos" / "id").exists()
    return is_there and identity(directory) in await workers(engine.connection)


@pytest.mark.long
async def test_a_helping_machine_that_is_interrupted_ends_what_it_runs_and_nothing_else(
    engine: Engine, folder: Path, elsewhere: Path
) -> None:
    copy_flow("messages", folder)
    started = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await engine.reader.wait([started.workflow_id], until="any")
    others = {process.pid for process in processes_of(folder)}
    with helping(elsewhere) as process:
        await until(lambda: processes_of(elsewhere, "worker"), "a worker helps")
        process.send_signal(signal.SIGINT)
        await until(lambda: process.poll() is not None, "it ends")
        assert process.returncode == 0
        assert processes_of(elsewhere) == []
    assert {process.pid for process in processes_of(folder)} == others


@pytest.mark.long
async def test_a_helping_machine_needs_an_external_postgres(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBOS_DATABASE_URL")
    with pytest.raises(UsageError, match="external Postgres") as caught:
        lifecycle.lend_machine(Settings(project=folder))
    assert "DBOS_DATABASE_URL" in caught.value.hint
    assert not (folder / ".dbos").exists()


async def test_a_machine_that_runs_the_project_already_does_not_help_besides(
    settings: Settings,
) -> None:
    state.prepare(settings)
    with (
        locks.held_lock(places.supervisor_lock(settings)),
        pytest.raises(UsageError, match="already runs this project's workers here"),
    ):
        lifecycle.lend_machine(settings)


async def test_a_project_that_runs_on_another_database_is_not_mixed_up_with_it(
    engine: Engine, folder: Path, postgres: Cluster
) -> None:
    for settings in (
        Settings(project=folder, database_url=postgres.url("another")),
        Settings(project=folder, application="another"),
    ):
        with pytest.raises(OtherDatabase, match="external") as caught:
            await lifecycle.ensure_running(settings)
        assert "shutdown" in caught.value.hint


async def test_a_command_without_the_setting_finds_the_external_postgres_that_is_in_use(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBOS_DATABASE_URL")
    state.note_move(Settings(project=folder), "there")  # and it is not mistaken for a start here
    found = await lifecycle.ensure_running(Settings(project=folder))
    assert found == engine.connection
    project = Project(Settings(project=folder))
    assert await (await project.engine()).reader.counts() == {}
    await project.aclose()


@pytest.mark.long
async def test_an_embedded_database_in_use_is_not_mixed_up_with_an_external_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.delenv("DBOS_DATABASE_URL")
    await lifecycle.ensure_running(Settings(project=folder))
    with pytest.raises(OtherDatabase, match="embedded"):
        await lifecycle.ensure_running(Settings(project=folder, database_url=database_url))


@pytest.mark.parametrize("name", ["my_dbos", "Durable Workflows", "店", "x" * 99])
def test_a_project_of_any_name_has_schemas_of_its_own(name: str, tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, database_url="postgresql://h/d", application=name)
    database = settings.database("postgresql://h/d")
    named = tables.queries(database.schema, database.dbos_schema)
    begins = f"select workflow_uuid as workflow_id from {database.dbos_schema}.workflow_status "
    assert named["similar_ids"].startswith(begins)
    assert named["workers"].endswith(f"from {database.schema}.workers order by started_at desc")
    assert len(f"{database.schema}_activity") <= 63


@pytest.mark.long
@proves("recovery:worker-killed")
async def test_a_worker_whose_own_sign_of_life_is_late_takes_nothing_over(
    divided: tuple[Engine, list[str]],
) -> None:
    """As after an outage, or on two laptops that wake up: nobody has been heard of, and all are there."""
    engine, ids = divided
    await query(
        engine.connection, "update {ours}.workers set seen_at = seen_at - interval '1 hour'"
    )

    async def all_were_heard_of() -> bool:
        found = await query(
            engine.connection,
            "select bool_and(seen_at > now() - interval '1 minute') from {ours}.workers",
        )
        return found == [(True,)]

    await until_found(all_were_heard_of, "each has said that it lives")
    runs = [await engine.reader.run(one) for one in ids]
    assert [(run.status, run.recovery_attempts) for run in runs] == [("PENDING", 1)] * 2

"""Starting and stopping the processes of a project, and what can be wrong with a machine."""

import asyncio
import json
import os
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import (
    DatabaseRefused,
    DataDirectoryDamaged,
    InvalidProject,
    NoSpaceLeft,
    PortTaken,
    StateDirectoryUnusable,
    SupervisorFailed,
    TablesNewer,
)
from durable_workflows.models import Connection, StartRequest
from durable_workflows.processes import lifecycle, problems
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, processes, state
from helpers import command_of, copy_flow, processes_of, until, until_found
from requirements import proves

pytestmark = pytest.mark.anyio


@pytest.mark.long
@proves("shutdown:nothing-left")
async def test_after_a_shutdown_no_process_is_left_and_unfinished_runs_go_on_later(
    project: Project, folder: Path
) -> None:
    copy_flow("messages", folder)
    engine = await project.engine()
    started = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await engine.reader.wait([started.workflow_id], until="any")
    assert await lifecycle.shut_down(project.settings)
    assert processes_of(folder) == []
    assert not await lifecycle.shut_down(project.settings)
    engine = await project.engine()
    await engine.send(started.workflow_id, "t", "late")
    result = await engine.reader.wait([started.workflow_id], timeout_seconds=30)
    assert result.done[0].output == "late"


@pytest.mark.long
@proves("shutdown:nothing-left")
async def test_a_shutdown_ends_what_a_killed_supervisor_left(
    project: Project, folder: Path
) -> None:
    engine = await project.engine()
    await engine.catalog()
    for process in processes_of(folder, "supervisor"):
        process.kill()
    await lifecycle.shut_down(project.settings)
    assert processes_of(folder) == []


@pytest.mark.long
@proves("shutdown:nothing-left")
async def test_a_worker_started_before_its_database_ends_with_its_supervisor(
    settings: Settings, folder: Path
) -> None:
    async def kill() -> None:
        await until(lambda: processes_of(folder, "worker"), "a worker is started")
        assert state.read_connection(settings) is None
        for process in processes_of(folder, "supervisor"):
            process.kill()

    async with anyio.create_task_group() as group:
        group.start_soon(kill)
        with pytest.raises(SupervisorFailed):
            await lifecycle.ensure_running(settings)
    await until(lambda: not processes_of(folder), "nothing is left")


@pytest.mark.long
async def test_a_worker_started_before_its_database_is_the_one_that_runs(
    project: Project, folder: Path
) -> None:
    found: list[int] = []

    async def look() -> None:
        await until(lambda: processes_of(folder, "worker"), "a worker is started")
        found.extend(process.pid for process in processes_of(folder, "worker"))

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await project.engine()
    engine = await project.engine()
    await engine.catalog()
    assert [worker.pid for worker in (await engine.reader.status()).workers] == found


@pytest.mark.long
async def test_a_shutdown_leaves_a_supervisor_alone_that_was_started_meanwhile(
    project: Project, folder: Path
) -> None:
    copy_flow("odd", folder)
    engine = await project.engine()
    args = {"file": str(folder / "begun"), "seconds": 2}  # it is let end, so there is time
    await engine.start(StartRequest(name="one_slow_step", args=args))
    await until(lambda: (folder / "begun").exists(), "the step runs")
    first = engine.connection.pid
    ending = asyncio.create_task(lifecycle.shut_down(project.settings))
    await until(lambda: state.read_connection(project.settings) is None, "it ends", seconds=60)
    second = await lifecycle.ensure_running(project.settings)
    await ending
    assert second.pid != first
    assert state.read_connection(project.settings) == second
    assert processes.is_alive(second.pid)


async def test_a_start_that_failed_says_why_also_when_another_process_has_begun_the_next_one(
    folder: Path,
) -> None:
    nowhere = "postgresql://user:secret@127.0.0.1:9/shop"
    settings = Settings(project=folder, database_url=nowhere)
    state.prepare(settings)
    taken: list[locks.Lock] = []

    def begin_the_next() -> None:
        while not taken:
            with suppress(locks.LockHeld):
                taken.append(locks.held_lock(places.supervisor_lock(settings), wait_seconds=0))
            time.sleep(0.001)

    starting = asyncio.create_task(lifecycle.ensure_running(settings))
    await until(lambda: processes_of(folder, "supervisor"), "one has begun")
    next_one = asyncio.create_task(asyncio.to_thread(begin_the_next))
    with anyio.fail_after(20), pytest.raises(DatabaseRefused):
        await starting
    await next_one
    taken[0].close()


@pytest.mark.long
async def test_a_shutdown_lets_a_step_in_flight_end(project: Project, folder: Path) -> None:
    copy_flow("odd", folder)
    engine = await project.engine()
    args = {"file": str(folder / "begun"), "seconds": 1.5}
    started = await engine.start(StartRequest(name="one_slow_step", args=args))
    await until(lambda: (folder / "begun").exists(), "the step runs")
    await lifecycle.shut_down(project.settings)
    engine = await project.engine()
    await engine.reader.wait([started.workflow_id], timeout_seconds=30)
    assert (folder / "begun").read_text(encoding="utf-8") == "begun\n"


@pytest.mark.long
async def test_a_connection_file_of_a_dead_process_is_not_believed(settings: Settings) -> None:
    state.prepare(settings)
    dead = await anyio.run_process(["sh", "-c", "echo $$"])
    connection = Connection(
        url="postgresql://127.0.0.1:1/postgres", mode="embedded", pid=int(dead.stdout), versions={}
    )
    state.write_connection(settings, connection)
    assert state.read_connection(settings) is None
    started = await lifecycle.ensure_running(settings)
    assert started.pid != connection.pid


@pytest.mark.parametrize("text", ["", "{", '{"url": 3}', "null"])
async def test_a_connection_file_that_was_half_written_is_not_believed(
    text: str, settings: Settings
) -> None:
    state.prepare(settings)
    (settings.state / "connection.json").write_text(text, encoding="utf-8")
    assert state.read_connection(settings) is None


@proves("request:refused")
async def test_a_project_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidProject, match="missing"):
        await lifecycle.ensure_running(Settings(project=tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()


@proves("request:refused")
async def test_a_state_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".dbos").write_text("in the way", encoding="utf-8")
    with pytest.raises(StateDirectoryUnusable, match=r"\.dbos"):
        await lifecycle.ensure_running(Settings(project=project))


@proves("request:refused")
async def test_a_full_disk_is_said(folder: Path) -> None:
    """A file system of one page, filled: the errors are the kernel's own."""
    state_directory = folder / ".dbos"
    state_directory.mkdir()
    mounted = await anyio.run_process(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state_directory)],
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        with pytest.raises(OSError, match="No space"):
            (state_directory / "filler").write_bytes(b"x" * 200_000)
        with pytest.raises(NoSpaceLeft, match=r"\.dbos"):
            await lifecycle.ensure_running(Settings(project=folder))
    finally:
        await anyio.run_process(["umount", str(state_directory)])


@proves("request:refused")
@pytest.mark.long
async def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(project=folder, port=taken.getsockname()[1])
        with pytest.raises(PortTaken) as caught:
            await lifecycle.ensure_running(settings)
        assert "DURABLE_WORKFLOWS_PORT" in str(caught.value)
    assert processes_of(folder) == []


async def test_a_port_of_last_time_that_is_taken_now_is_replaced(settings: Settings) -> None:
    state.prepare(settings)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (settings.state / "port").write_text(str(port), encoding="utf-8")
        connection = await lifecycle.ensure_running(settings)
        assert f":{port}/" not in connection.url


@pytest.mark.long
async def test_the_database_comes_back_at_the_same_port(
    engine: Engine, project: Project, folder: Path
) -> None:
    await engine.catalog()
    (node,) = processes_of(folder, "pglite.mjs")
    node.kill()
    await until(lambda: processes_of(folder, "pglite.mjs"), "Node runs again")
    again = await project.engine()
    await until_found(lambda: _answers(again), "the database answers")
    assert again.connection.url == engine.connection.url


async def _answers(engine: Engine) -> bool:
    try:
        await engine.reader.counts()
    except Exception:  # noqa: BLE001 - whatever it is, it does not answer
        return False
    return True


@proves("request:refused")
async def test_a_data_directory_of_another_postgres_is_said_also_by_status(
    settings: Settings,
) -> None:
    state.prepare(settings)
    (settings.state / "pgdata").mkdir()
    (settings.state / "pgdata" / "PG_VERSION").write_text("9.6\n", encoding="utf-8")
    with pytest.raises(DataDirectoryDamaged, match="configuration file"):
        await lifecycle.ensure_running(settings)
    (problem,) = problems.of_processes(settings, running=False)
    assert "configuration file" in problem
    assert processes_of(settings.project) == []


@pytest.mark.long
@proves("upgrade:refused")
async def test_a_start_of_an_older_release_on_tables_of_a_newer_one_says_so_and_ends(
    engine: Engine, settings: Settings
) -> None:
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await connection.execute(
            "insert into durable_workflows.migrations (name) values ('9999_later.sql')"
        )
    await lifecycle.shut_down(settings)
    with pytest.raises(TablesNewer, match="9999_later"):
        await lifecycle.ensure_running(settings)
    (problem,) = problems.of_processes(settings, running=False)
    assert "9999_later" in problem
    assert processes_of(settings.project) == []


@pytest.mark.long
async def test_a_supervisor_with_nothing_to_do_leaves(folder: Path) -> None:
    settings = Settings(project=folder, idle_exit_seconds=1)
    await lifecycle.ensure_running(settings)
    await until(lambda: not processes_of(folder), "all have left", seconds=60)
    assert state.read_connection(settings) is None


@pytest.mark.long
async def test_a_supervisor_whose_project_was_removed_leaves(engine: Engine, folder: Path) -> None:
    await engine.catalog()

    def is_removed() -> bool:
        shutil.rmtree(folder, ignore_errors=True)  # it may meet a file that is written just now
        return not folder.exists()

    await until(is_removed, "the project is removed")
    await until(lambda: not processes_of(folder), "all processes are gone", seconds=60)


@pytest.mark.long
async def test_a_supervisor_whose_project_was_moved_away_leaves_and_its_runs_go_on_there(
    engine: Engine, project: Project, folder: Path
) -> None:
    copy_flow("messages", folder)
    started = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await engine.reader.wait([started.workflow_id], until="any")
    moved = Settings(project=_moved_away(folder))
    there = Project(moved)
    try:
        await until(lambda: not processes_of(folder), "all processes are gone", seconds=60)
        await until(lambda: state.read_connection(moved) is None, "so is their lock")
        assert not os.listdir(folder)
        again = await there.engine()
        await again.send(started.workflow_id, "t", "there")
        result = await again.reader.wait([started.workflow_id], timeout_seconds=60)
        assert result.done[0].output == "there"
    finally:
        await there.aclose()
        await lifecycle.shut_down(moved)
    assert not processes_of(moved.project)


def _moved_away(folder: Path) -> Path:
    """The project's new place. In the old one is another directory, which none of its processes may touch."""
    moved = folder.rename(folder.with_name("moved"))
    folder.mkdir()
    return moved


@pytest.mark.long
async def test_a_connected_server_keeps_the_supervisor(folder: Path) -> None:
    settings = Settings(project=folder, idle_exit_seconds=1)
    state.prepare(settings)
    with locks.shared_lock(places.clients_lock(settings)):
        await lifecycle.ensure_running(settings)
        supervisor = processes_of(folder, "supervisor")[0]
        report = settings.state / "supervisor.json"
        await until(lambda: "worker" in report.read_text(encoding="utf-8"), "a worker runs")
        await until(
            lambda: report.stat().st_mtime + 4 < _now(report), "four idle seconds have passed"
        )
        assert supervisor.is_running()
    await until(lambda: not processes_of(folder), "all have left", seconds=60)


def _now(path: Path) -> float:
    """The file system's own clock."""
    probe = path.with_name("probe")
    probe.touch()
    return probe.stat().st_mtime


async def test_no_secret_is_on_a_command_line_or_in_a_log(engine: Engine, folder: Path) -> None:
    await engine.catalog()
    password = (folder / ".dbos" / "password").read_text(encoding="utf-8")
    assert all(password not in " ".join(command_of(process)) for process in processes_of(folder))
    for log in (folder / ".dbos" / "logs").iterdir():
        assert password not in log.read_text(encoding="utf-8")
    for name in ("password", "connection.json"):
        assert (folder / ".dbos" / name).stat().st_mode & 0o077 == 0


@pytest.mark.long
async def test_the_state_directory_ignores_itself_in_git(engine: Engine, folder: Path) -> None:
    assert (folder / ".dbos" / ".gitignore").read_text(encoding="utf-8") == "*\n"
    assert (folder / ".dbos").stat().st_mode & 0o077 == 0


@pytest.mark.long
async def test_every_process_shows_its_role_and_its_project(engine: Engine, folder: Path) -> None:
    await engine.catalog()
    for role in ("supervisor", "worker", "pglite.mjs"):
        assert len(processes_of(folder, role)) == 1, role


async def test_a_log_that_grows_is_cut(settings: Settings) -> None:
    state.prepare(settings)
    log = places.log_file(settings, "worker-x")
    log.write_bytes(b"old\n" + b"x" * 6_000_000 + b"\nnew\n")
    state.bound_logs(settings)
    assert log.stat().st_size == 0
    assert log.with_suffix(".log.1").read_bytes().endswith(b"new\n")


def test_a_reused_pid_is_not_taken_for_ours() -> None:
    assert not processes.is_ours(1, "supervisor", "/nowhere")


@pytest.mark.long
async def test_the_report_of_the_processes_is_kept_for_status(engine: Engine, folder: Path) -> None:
    await engine.catalog()
    report = json.loads((folder / ".dbos" / "supervisor.json").read_text(encoding="utf-8"))
    assert report["database"] == "up"


@proves("version:upgrade")
@pytest.mark.long
async def test_a_newer_installation_takes_over_from_the_processes_of_an_older_one(
    project: Project, folder: Path
) -> None:
    copy_flow("messages", folder)
    engine = await project.engine()
    started = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await engine.reader.wait([started.workflow_id], until="any")
    pid = engine.connection.pid
    _claim_version(project.settings, engine.connection, "0.0.1")
    engine = await project.engine()
    assert engine.connection.pid != pid
    assert not processes.is_alive(pid)
    await engine.send(started.workflow_id, "t", "still there")
    result = await engine.reader.wait([started.workflow_id], timeout_seconds=30)
    assert result.done[0].output == "still there"


@pytest.mark.long
async def test_a_checkout_with_newer_tables_takes_over_too(project: Project) -> None:
    engine = await project.engine()
    pid, versions = engine.connection.pid, engine.connection.versions | {"schema": "1"}
    state.write_connection(
        project.settings, engine.connection.model_copy(update={"versions": versions})
    )
    assert (await project.engine()).connection.pid != pid


@pytest.mark.long
async def test_an_older_installation_uses_the_processes_of_a_newer_one(project: Project) -> None:
    engine = await project.engine()
    pid = engine.connection.pid
    _claim_version(project.settings, engine.connection, "1000.0")
    assert (await project.engine()).connection.pid == pid


def _claim_version(settings: Settings, connection: Connection, version: str) -> None:
    versions = connection.versions | {"durable-workflows": version}
    state.write_connection(settings, connection.model_copy(update={"versions": versions}))

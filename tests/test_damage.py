"""Damage to the state directory, file by file: no run is lost, no process but ours is ended, and what is to be done is said."""

import inspect
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import damage
from durable_workflows.engine.project import Project
from durable_workflows.errors import (
    DataDirectoryDamaged,
    DataDirectoryLost,
    DurableWorkflowsError,
    SetupError,
)
from durable_workflows.models import StartRequest
from durable_workflows.processes import http_access, lifecycle, problems
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, state
from helpers import copy_flow, processes_of, run_without_rights, until
from namespaces import run_isolated
from requirements import long, proves

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was killed while a run waited, with all files that a running one has."""
    folder = (tmp_path_factory.mktemp("damage") / "project").resolve()
    folder.mkdir()
    copy_flow("messages", folder)
    settings = Settings(project=folder)
    project = Project(settings)
    engine = await project.engine()
    http_access.token(settings)
    with locks.shared_lock(places.clients_lock(settings)):
        request = StartRequest(name="wait_for", args={"topic": "t"}, workflow_id="waits")
        await engine.start(request)
        await engine.reader.wait(["waits"], until="any")
    await project.aclose()
    connection = (settings.state / "connection.json").read_bytes()
    await lifecycle.shut_down(settings)
    (settings.state / "connection.json").write_bytes(connection)
    assert not processes_of(folder)
    return folder


@pytest.fixture
def copy(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


@pytest.mark.long
@proves("damage:nothing-lost", "process:only-ours")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("when", "kind"),
    [(when, kind) for when in ("running", "stopped") for kind in damage.KINDS],
)
async def test_a_run_survives_the_damage_of_every_small_file(
    when: str, kind: str, copy: Path
) -> None:
    source = inspect.getsource(damage)
    await anyio.to_thread.run_sync(lambda: run_isolated(source, str(copy), when, kind, seconds=280))


@pytest.mark.parametrize("kind", list(damage.KINDS))
async def test_each_damaged_file_is_read_as_none_or_named(kind: str, pristine: Path) -> None:
    settings = Settings(project=pristine)
    for path in damage.files_of(settings.state):
        before = path.read_bytes()
        damage.KINDS[kind](path)
        said = _read_all(settings)
        assert all(str(path) in one for one in said), said
        if path.is_dir():
            path.rmdir()
        path.write_bytes(before)


_FORBIDDEN = """
import sys
from pathlib import Path
import anyio
from durable_workflows.processes import lifecycle, problems
from durable_workflows.system import state
from durable_workflows.errors import StateDirectoryUnusable
from durable_workflows.settings import Settings
settings = Settings(project=Path(sys.argv[1]))
state.prepare(settings)
lock = settings.state / "lock"
lock.touch(mode=0)
for call in (lifecycle.ensure_running, lifecycle.shut_down):
    try:
        anyio.run(call, settings)
    except StateDirectoryUnusable as error:
        assert error.message == f"{lock} cannot be used: Permission denied.", error
    else:
        raise AssertionError(call)
lock.unlink()
code = settings.state / "code"
code.chmod(0)
try:
    anyio.run(lifecycle.ensure_running, settings)
except StateDirectoryUnusable as error:
    assert error.message == f"{code} cannot be used: Permission denied.", error
else:
    raise AssertionError(code)
code.chmod(0o700)
data = settings.state / "pgdata"
data.mkdir()
for folder, within in ((data, "pgdata/PG_VERSION"), (settings.state, "kept")):
    folder.chmod(0)
    (said,) = problems.of_processes(settings, running=False)
    assert said.startswith(f"{settings.state / within} cannot be used: Permission denied."), said
    folder.chmod(0o700)
"""


@proves("damage:nothing-lost")
def test_a_lock_or_folder_that_this_user_may_not_open_is_named(tmp_path: Path) -> None:
    run_without_rights(_FORBIDDEN, str(tmp_path))


def _read_all(settings: Settings) -> list[str]:
    """The texts of everything that reads the files of the state directory while nothing runs."""
    said: list[str] = []
    readers: list[Callable[[Settings], object]] = [
        state.prepare,
        state.identity,
        state.read_connection,
        state.read_report,
        state.moved_to,
        http_access.token,
        partial(problems.of_processes, running=False),
    ]
    for read in readers:
        try:
            read(settings)
        except SetupError as error:
            said.append(error.message)
    return said


def _emptied(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def _no_version(data: Path) -> None:
    (data / "PG_VERSION").unlink()


def _garbage_version(data: Path) -> None:
    (data / "PG_VERSION").write_bytes(b"\xff\xfe")


def _garbage_control(data: Path) -> None:
    (data / "global" / "pg_control").write_bytes(b"junk" * 2048)


DATA: list[tuple[Callable[[Path], None], type[SetupError]]] = [
    (shutil.rmtree, DataDirectoryLost),
    (_emptied, DataDirectoryLost),
    (_no_version, DataDirectoryDamaged),
    (_garbage_version, DataDirectoryDamaged),
    (_garbage_control, DataDirectoryDamaged),
]


@pytest.mark.long
@proves("damage:nothing-lost")
@pytest.mark.parametrize(("harm", "kind"), [DATA[0], *long(*DATA[1:])])
async def test_a_lost_database_is_said_at_every_start_and_never_replaced(
    harm: Callable[[Path], None], kind: type[SetupError], copy: Path, pristine: Path
) -> None:
    settings = Settings(project=copy)
    data = settings.state / "pgdata"
    harm(data)
    with pytest.raises(kind):
        await lifecycle.ensure_running(settings)
    with pytest.raises(kind, match=r"pgdata\.made") as again:
        await lifecycle.ensure_running(settings)
    (problem,) = problems.of_processes(settings, running=False)
    assert str(again.value) in problem
    assert not processes_of(copy)
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(pristine / ".dbos" / "pgdata", data)
    project = Project(settings)
    try:
        assert (await (await project.engine()).reader.run("waits")).workflow_id == "waits"
    finally:
        await project.aclose()
        await lifecycle.shut_down(settings)


@pytest.mark.long
@proves("damage:nothing-lost")
async def test_a_database_that_is_removed_while_it_runs_is_said_and_goes_on_when_it_is_back(
    copy: Path,
) -> None:
    settings = Settings(project=copy)
    data, away = settings.state / "pgdata", settings.state / "away"
    project = Project(settings)
    engine = await project.engine()
    try:
        data.rename(away)
        await until(
            lambda: "is gone" in str(problems.of_processes(settings, running=True)),
            "it is said",
            seconds=60,
        )
        with pytest.raises(DurableWorkflowsError, match=r"is gone.*Put the directory back"):
            await engine.reader.run("waits")
        away.rename(data)
        await damage.finish(project)
    finally:
        await project.aclose()
        await lifecycle.shut_down(settings)

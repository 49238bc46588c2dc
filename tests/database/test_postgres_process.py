"""A real Postgres in the project's folder: starting, stopping and dying, of all its processes and of the one that started it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio.to_thread
import psutil
import psycopg
import pytest

from database.fronts import eventually
from durable_workflows.errors import (
    DataDirectoryDamaged,
    DataDirectoryIncompatible,
    DataDirectoryLocked,
    DataDirectoryLost,
    DurableWorkflowsError,
    OtherEngine,
    PortTaken,
    PostgresFailed,
    PostgresNotInstalled,
)
from durable_workflows.postgres import programs
from durable_workflows.postgres.server import left_behind, running_postgres
from durable_workflows.processes import databases, lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, state
from requirements import proves

pytestmark = pytest.mark.anyio

PARENT = """
import sys, anyio
from pathlib import Path
from durable_workflows.postgres.server import running_postgres
from durable_workflows.settings import Settings

async def main():
    settings = Settings(project=Path(sys.argv[1]), engine="postgres")
    async with running_postgres(settings, password="secret", port=0) as process:
        print(process.pid, process.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)

anyio.run(main)
"""
IS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not IS_ROOT, reason="only root may be another user")
only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="others have no signal for the end of a parent"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose database is made; initdb takes seconds."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
async def settings(made: Path, tmp_path: Path) -> Settings:
    """A project with a copy of that database."""
    source = Settings(project=made, engine="postgres")
    if not places.data(source).exists():
        async with running_postgres(source, password="secret", port=0):
            pass
    settings = Settings(project=tmp_path / "project", engine="postgres")
    settings.state.mkdir(parents=True)
    copy(places.data(source), places.data(settings))
    state.note_database(settings)
    return settings


def copy(source: Path, target: Path) -> None:
    """Copy a directory with its owners."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def reached_by(become: list[str]) -> str | None:
    """A Python like this one that another user may run; this environment's own may be below root's home, and Postgres with it."""
    if subprocess.run(
        [*become, "test", "-x", programs.program("postgres")], check=False
    ).returncode:
        return None
    own = [sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
    for path in own:
        if subprocess.run([*become, "test", "-x", path], check=False).returncode == 0:
            return path
    return None


def ask(url: str, statement: str = "select 1") -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


def tree(pid: int) -> list[psutil.Process]:
    keeper = psutil.Process(pid)
    return [keeper, *keeper.children(recursive=True)]


def users_of(those: list[psutil.Process]) -> set[int]:
    """Their users. Postgres's own processes come and go."""
    found: set[int] = set()
    for one in those:
        with suppress(psutil.NoSuchProcess):
            found.add(one.uids().effective)
    return found


def are_gone(those: list[psutil.Process]) -> bool:
    return not any(map(is_there, those))


def is_there(one: psutil.Process) -> bool:
    """Whether it lives. It may end between the two looks."""
    with suppress(psutil.NoSuchProcess):
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    return False


def listening(those: list[psutil.Process]) -> set[object]:
    """Where they listen. Postgres's own processes come and go, and have its socket until they have begun."""
    found: set[object] = set()
    for one in those:
        with suppress(psutil.NoSuchProcess):
            found |= {
                connection.laddr
                for connection in one.net_connections("all")
                if connection.status == psutil.CONN_LISTEN
            }
    return found


@contextmanager
def parent(settings: Settings, *python: str) -> Generator[tuple[subprocess.Popen[str], int, str]]:
    """A process that runs the database: itself, the id of the keeper, the URL."""
    command = [*(python or [sys.executable]), "-c", PARENT, str(settings.project)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        pid, url = process.stdout.readline().split()
        yield process, int(pid), url
    finally:
        process.kill()
        process.communicate()


async def test_it_is_made_starts_serves_and_stops(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, engine="postgres")
    async with running_postgres(settings, password="pass/word?", port=0) as process:
        assert ask(process.url, "select lower('É'), current_setting('fsync')") == ("é", "on")
        assert locks.named_holder(places.database_lock(settings)) == process.pid
        assert settings.state.stat().st_mode & 0o777 == 0o700
        assert places.data(settings).stat().st_mode & 0o777 == 0o700
        those = tree(process.pid)
    assert are_gone(those)
    assert await process.wait() == 0
    assert "database system is shut down" in state.log_tail(settings, "postgres")


@proves("rung:sessions")
async def test_a_transaction_keeps_no_other_client_waiting(settings: Settings) -> None:
    async with running_postgres(settings, password="secret", port=0) as process:
        ask(process.url, "create table t (a int)")
        with psycopg.connect(process.url) as first:
            first.execute("insert into t values (1)")
            assert ask(process.url, "select count(*) from t") == (0,)
        assert ask(process.url, "select count(*) from t") == (1,)


async def test_the_password_is_in_no_command_line_environment_or_log(settings: Settings) -> None:
    async with running_postgres(settings, password="very-secret", port=0) as process:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(process.url.replace("very-secret", "secret"))
        ask(process.url)
        for one in tree(process.pid)[:2]:  # the others are forked from the second
            assert "very-secret" not in " ".join(one.cmdline()) + str(one.environ())
    log = places.log_file(settings, "postgres").read_text(encoding="utf-8")
    assert "very-secret" not in log


async def test_what_is_in_the_environment_for_postgres_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"PGDATA": str(tmp_path), "PGPORT": "1", "PGOPTIONS": "-c jit=on"}.items():
        monkeypatch.setenv(name, value)
    async with running_postgres(settings, password="secret", port=0) as process:
        monkeypatch.delenv("PGOPTIONS")
        assert ask(process.url, "show data_directory") == (str(places.data(settings)),)


async def test_it_listens_on_the_loopback_interface_only(settings: Settings) -> None:
    async with running_postgres(settings, password="secret", port=0) as process:
        assert listening(tree(process.pid)) == {("127.0.0.1", process.port)}
        assert ask(process.url, "show unix_socket_directories") == ("",)


async def test_a_port_in_use_is_named_as_the_problem(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            async with running_postgres(settings, password="secret", port=port):
                pass
    async with running_postgres(settings, password="secret", port=port) as process:
        assert process.port == port


@proves("database:one")
async def test_a_second_start_is_refused_while_the_first_runs(settings: Settings) -> None:
    async with running_postgres(settings, password="secret", port=0) as process:
        with pytest.raises(DataDirectoryLocked):
            async with running_postgres(settings, password="secret", port=0):
                pass
        ask(process.url)


@proves("database:one")
async def test_a_second_start_is_refused_where_locks_do_not_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_postgres(settings, password="secret", port=0) as process:
        with monkeypatch.context() as patch:
            patch.setattr(locks, "_try", lambda _descriptor, _kind: True)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
            with pytest.raises(DataDirectoryLocked, match="holds the data directory"):
                async with running_postgres(settings, password="secret", port=0):
                    pass
        ask(process.url)


@proves("rung:ends-with-its-supervisor")
async def test_it_ends_with_the_process_that_started_it(settings: Settings) -> None:
    with parent(settings) as (process, keeper, url):
        those = tree(keeper)
        await anyio.to_thread.run_sync(ask, url, "create table kept as select 1 as a")
        process.kill()
        eventually(lambda: are_gone(those), "all of its processes are gone")
    async with running_postgres(settings, password="secret", port=0) as again:
        assert ask(again.url, "select a from kept") == (1,)


@only_linux
@proves("rung:ends-with-its-supervisor")
async def test_it_ends_when_its_keeper_is_killed_and_nothing_is_lost(settings: Settings) -> None:
    async with running_postgres(settings, password="secret", port=0) as process:
        those = tree(process.pid)
        ask(process.url, "create table kept as select 1 as a")
        those[0].kill()
        assert await process.wait() == -signal.SIGKILL
        eventually(lambda: are_gone(those), "all of its processes are gone")
    async with running_postgres(settings, password="secret", port=0) as again:
        assert ask(again.url, "select a from kept") == (1,)


@proves("recovery:database-killed")
async def test_it_recovers_after_it_was_killed(settings: Settings) -> None:
    async with running_postgres(settings, password="secret", port=0) as process:
        those = tree(process.pid)
        ask(process.url, "create table kept as select 1 as a")
        those[1].kill()
        assert await process.wait() != 0
        eventually(lambda: are_gone(those), "all of its processes are gone")
    async with running_postgres(settings, password="secret", port=0) as again:
        assert ask(again.url, "select a from kept") == (1,)
    assert "automatic recovery in progress" in places.log_file(settings, "postgres").read_text()


@proves("rung:ends-with-its-supervisor")
async def test_what_cannot_end_by_itself_is_ended_by_the_next_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_PREDECESSOR_SECONDS", 0.5)
    with parent(settings) as (process, keeper, _):
        those = tree(keeper)
        for one in those:
            one.suspend()
        process.kill()
        process.wait()
        assert left_behind(settings) == those[1:]
        await anyio.to_thread.run_sync(databases.end_left_behind, settings)
        eventually(lambda: are_gone(those), "all of its processes are gone")
    async with running_postgres(settings, password="secret", port=0) as again:
        ask(again.url)


async def test_the_file_of_a_killed_server_is_no_obstacle(settings: Settings) -> None:
    stale = places.data(settings) / "postmaster.pid"
    # Another process has the id by now, as in a container that was started again.
    with process_of(programs.owner(settings)) as pid:
        stale.write_text(f"{pid}\n{places.data(settings)}\n", encoding="utf-8")
        async with running_postgres(settings, password="secret", port=0) as process:
            ask(process.url)


@contextmanager
def process_of(owner: programs.Owner) -> Generator[int]:
    command = owner.command(["/bin/sh", "-c", "echo begun; read line"])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize("lost", ["global/pg_control", "global", "PG_VERSION", "pg_wal"])
@proves("damage:nothing-lost")
async def test_a_damaged_directory_is_named_and_left_as_it_is(
    settings: Settings, lost: str
) -> None:
    path = places.data(settings) / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DurableWorkflowsError) as raised:
        async with running_postgres(settings, password="secret", port=0):
            pass
    assert raised.type is DataDirectoryDamaged, raised.value
    assert ".dbos/postgres" in raised.value.hint
    assert "pgdata" not in raised.value.hint
    assert not path.exists() or not any(path.iterdir())


@proves("upgrade:refused")
async def test_a_directory_of_another_major_version_is_an_error_of_its_own(
    settings: Settings,
) -> None:
    version = places.data(settings) / "PG_VERSION"
    version.write_text("19\n", encoding="utf-8")
    with pytest.raises(DataDirectoryIncompatible, match=r"version 19, .* version 18"):
        async with running_postgres(settings, password="secret", port=0):
            pass
    assert version.read_text(encoding="utf-8") == "19\n"


@proves("damage:nothing-lost")
async def test_a_lost_directory_is_not_replaced_by_an_empty_one(settings: Settings) -> None:
    shutil.rmtree(places.data(settings))
    with pytest.raises(DataDirectoryLost, match=r"postgres, which is gone") as raised:
        async with running_postgres(settings, password="secret", port=0):
            pass
    assert ".dbos/postgres.made" in raised.value.hint


@pytest.mark.parametrize("engine", ["pglite", "postgres"])
@proves("rung:no-empty-one")
async def test_no_empty_database_hides_the_one_of_the_other_engine(
    tmp_path: Path, engine: str
) -> None:
    settings = Settings.model_validate({"project": tmp_path, "engine": engine})
    other = state.of_engine(settings, "postgres" if engine == "pglite" else "pglite")
    settings.state.mkdir()
    state.note_database(other)
    with pytest.raises(OtherEngine, match=str(places.data(other))):
        await lifecycle.ensure_running(settings)
    assert not places.data(settings).exists()
    state.note_move(other, "there")
    state.check_engine(settings)


async def test_without_the_wheel_it_is_said_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_PACKAGE", "no_such_package")
    with pytest.raises(PostgresNotInstalled) as raised:
        async with running_postgres(settings, password="secret", port=0):
            pass
    assert "durable-workflows[postgres]" in raised.value.hint


async def test_what_initdb_says_is_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_workflows.postgres.making._INITDB", ("--no-such-option",))
    settings = Settings(project=tmp_path, engine="postgres")
    with pytest.raises(PostgresFailed, match="no-such-option"):
        async with running_postgres(settings, password="secret", port=0):
            pass
    assert not places.data(settings).exists()


@only_root
@pytest.mark.parametrize("owned", [False, True])
@proves("rung:any-user")
async def test_for_root_it_runs_as_another_user_also_below_a_closed_folder(
    tmp_path: Path, owned: bool
) -> None:
    (tmp_path / "closed" / "project").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    settings = Settings(project=tmp_path / "closed" / "project", engine="postgres")
    user = 12_345 if owned else programs.owner(settings).user
    os.chown(settings.project, user if owned else 0, user if owned else 0)
    assert user != 0
    if owned:  # a user that the machine does not know: initdb asks for its name
        assert programs.owner(settings) == programs.Owner(user, user)
        return
    async with running_postgres(settings, password="secret", port=0) as process:
        ask(process.url)
        users = users_of(tree(process.pid)[1:])
    assert users == {user}
    assert places.data(settings).stat().st_uid == user


@only_root
@proves("rung:any-user")
async def test_for_root_its_programs_may_be_below_a_closed_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(programs.program("postgres")).parents[2]
    closed = tmp_path / "closed"
    for folder in (package, package.with_suffix(".libs")):
        shutil.copytree(folder, closed / folder.name)
    closed.chmod(0o700)
    monkeypatch.setattr(sys, "path", [str(closed), *sys.path])
    assert closed in Path(programs.program("postgres")).parents
    settings = Settings(project=tmp_path, engine="postgres")
    async with running_postgres(settings, password="secret", port=0) as process:
        ask(process.url)


@only_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@proves("rung:any-user")
async def test_an_ordinary_user_runs_it_as_that_user(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("of-nobody")
    for above in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in above.parents:
            above.chmod(0o755)
    nobody = programs.owner(Settings(project=folder))
    os.chown(folder, nobody.user, nobody.group)
    rights = ["--inh-caps=-all", "--bounding-set=-all"]
    user = [f"--reuid={nobody.user}", f"--regid={nobody.group}", "--clear-groups"]
    become = ["setpriv", *rights, *user]
    python = reached_by(become)
    if python is None:
        pytest.skip("other users reach no Python of this version")
    with parent(Settings(project=folder), *become, python) as (_, keeper, url):
        await anyio.to_thread.run_sync(ask, url)
        assert users_of(tree(keeper)) == {nobody.user}

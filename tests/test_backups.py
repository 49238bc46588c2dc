"""Backups of the embedded database: made while runs go on, whole or not there, and restored without a doubt about what is lost."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from durable_workflows import content
from durable_workflows.database import recorded, tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import (
    BackupDamaged,
    BackupTooNew,
    DatabaseUnavailable,
    DataDirectoryDamaged,
    DataDirectoryIncompatible,
    DataDirectoryLost,
    NoSpaceLeft,
    ProjectMoved,
    UsageError,
)
from durable_workflows.models import BackupContents, Restored, StartRequest
from durable_workflows.pglite.node import lock_hash
from durable_workflows.processes import backing_up, databases, lifecycle, problems, restoring, ring
from durable_workflows.settings import Database, Settings
from durable_workflows.system import backups, places, snapshots, state
from helpers import processes_of, running_project, until, until_found
from requirements import proves

pytestmark = pytest.mark.anyio

FLOW = """
from pathlib import Path

from dbos import DBOS


@DBOS.step()
def line(file: str, number: int) -> int:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{number}\\n")
    return number


@DBOS.workflow()
def backed_up(file: str, steps: int) -> int:
    for number in range(steps):
        line(file, number)
    return steps


@DBOS.workflow()
def backed_up_waits(file: str) -> str:
    line(file, 0)
    message = DBOS.recv("go", timeout_seconds=3600)
    line(file, 1)
    return str(message)
"""


STEPS = {"waits": 2}  # the line, and until when it waits
STEPS_OF_EACH = 600  # more than are done during a backup


def write_flow(project: Path) -> None:
    (project / "workflows").mkdir(parents=True, exist_ok=True)
    (project / "workflows" / "backed_up.py").write_text(FLOW, encoding="utf-8")


@pytest.fixture(scope="module")
async def stopped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A project that was shut down while the run `waits` waited, with a backup from just before."""
    folder = (tmp_path_factory.mktemp("backups") / "project").resolve()
    settings = Settings(project=folder)
    write_flow(folder)
    project = Project(settings)
    engine = await project.engine()
    request = StartRequest(
        name="backed_up_waits", args={"file": str(folder / "waits.txt")}, workflow_id="waits"
    )
    await engine.start(request)
    await until_found(lambda: waits(engine), "the run waits")
    await backing_up.back_up(settings, folder / "running.tar.gz")
    await project.aclose()
    await lifecycle.shut_down(settings)
    yield folder
    assert not processes_of(folder)


async def waits(engine: Engine) -> bool:
    found = await engine.reader.run("waits")
    return bool(found.waiting)


@pytest.fixture
async def copy(stopped: Path, tmp_path: Path) -> AsyncIterator[Settings]:
    """A copy of the stopped project, with the backup in its own folder."""
    settings = Settings(project=Path(shutil.copytree(stopped, tmp_path / "copy")))
    state.claim_identity(settings)
    path = backups.place(settings, datetime.now(UTC) - timedelta(minutes=1), "manual")
    shutil.copyfile(stopped / "running.tar.gz", path)
    yield settings
    await lifecycle.shut_down(settings)
    assert not processes_of(settings.project)


async def restored(settings: Settings, path: Path | None = None) -> Restored:
    choice = [restoring.choose(settings, path)] if path else restoring.newest(settings)[0]
    return await restoring.restore(settings, choice)


async def runs_in(settings: Settings, path: Path, folder: Path) -> dict[str, int]:
    """How many steps of each run are in a backup."""
    os.mkdir(folder, mode=0o700)
    await anyio.to_thread.run_sync(backups.unpack, path, folder)
    async with databases.opened(settings, folder) as process:
        return await runs_at(Database(process.url))


async def runs_at(database: Database) -> dict[str, int]:
    async with await tables.connect(database, role="test") as connection:
        return {run: one.steps for run, one in (await recorded.runs(connection)).items()}


async def goes_on(settings: Settings) -> None:
    """The run `waits` comes to its end."""
    project = Project(settings)
    try:
        engine = await project.engine()
        await engine.send("waits", "go", "on")
        (found,) = (await engine.reader.wait(["waits"], until="all")).done
        assert (found.status, found.output) == ("SUCCESS", "on")
    finally:
        await project.aclose()


@pytest.mark.long
@pytest.mark.timeout(900)
@proves("backup:while-runs-go-on", "backup:restored")
async def test_a_backup_among_twenty_runs_has_all_that_was_acknowledged_and_they_go_on_from_it(
    tmp_path: Path,
) -> None:
    settings = Settings(project=(tmp_path / "project").resolve())
    async with running_project(settings, []) as engine:
        write_flow(settings.project)
        names = [f"writes-{number}" for number in range(20)]
        for name in names:
            args = {"file": str(tmp_path / name), "steps": STEPS_OF_EACH}
            await engine.start(StartRequest(name="backed_up", args=args, workflow_id=name))
        database = engine.connection.database
        await until_found(lambda: _more_than(database, 100), "100 steps are recorded")
        before = await runs_at(database)
        done = await backing_up.back_up(settings, tmp_path / "file.tar.gz")
        after = await runs_at(database)
        assert oct(os.stat(done.file).st_mode)[-3:] == "600"
        inside = await runs_in(settings, Path(done.file), tmp_path / "unpacked")
        assert all(before[name] <= inside[name] <= after[name] for name in names)
        assert sum(inside[name] for name in names) < 20 * STEPS_OF_EACH, "they had not ended"
        first = await engine.reader.wait(names, until="all", timeout_seconds=300)
        assert not first.timed_out
        said = await restored(settings, Path(done.file))
        assert (said.lost_runs, said.reopened) == (0, 20)
        assert said.lost_steps == 20 * STEPS_OF_EACH - sum(inside.values())
        project = Project(settings)
        again = await project.engine()
        ended = (await again.reader.wait(names, until="all", timeout_seconds=300)).done
        assert [run.status for run in ended] == ["SUCCESS"] * 20
        await project.aclose()
        for name in names:
            lines = [int(one) for one in (tmp_path / name).read_text().split()]
            twice = {number for number in range(STEPS_OF_EACH) if lines.count(number) == 2}
            assert all(lines.count(number) in (1, 2) for number in range(STEPS_OF_EACH))
            assert twice == set(range(inside[name], STEPS_OF_EACH)), (
                "what is in the backup was done once"
            )


async def _more_than(database: Database, steps: int) -> bool:
    return sum((await runs_at(database)).values()) > steps


@proves("backup:restored", "backup:set-aside")
async def test_a_restored_project_goes_on_and_what_was_there_is_set_aside(copy: Settings) -> None:
    said = await restored(copy)
    assert (said.runs, said.lost_runs, said.lost_steps, said.unknown) == (1, 0, 0, "")
    assert said.set_aside is not None
    assert (Path(said.set_aside) / "PG_VERSION").is_file()
    assert sorted(path.name for path in copy.state.glob("*.restored*")) == []


@pytest.mark.long
@proves("backup:damaged", "backup:restored")
@pytest.mark.parametrize("harm", ["pg_control", "PG_VERSION", "all"])
async def test_a_damaged_database_names_the_newest_backup_and_goes_on_from_it(
    harm: str, copy: Settings
) -> None:
    data = places.data(copy)
    if harm == "pg_control":
        (data / "global" / "pg_control").write_bytes(b"junk" * 2048)
    elif harm == "PG_VERSION":
        (data / "PG_VERSION").unlink()
    else:
        shutil.rmtree(data)
    with pytest.raises(
        (DataDirectoryDamaged, DataDirectoryLost), match=r"restore --newest.*\.made"
    ):
        await lifecycle.ensure_running(copy)
    assert any("restore --newest" in one for one in problems.of_processes(copy, running=False))
    said = await restored(copy)
    assert said.lost_runs is None
    assert said.unknown
    await goes_on(copy)


@proves("backup:set-aside")
async def test_a_restore_that_was_killed_between_its_two_renames_is_finished_by_the_next_start(
    copy: Settings,
) -> None:
    data = places.data(copy)
    shutil.copytree(data, places.restored(copy, "now"))
    (places.restored(copy, "now") / "mark").touch()
    data.rename(places.set_aside(copy, "now"))
    state.finish_restore(copy)
    assert (data / "mark").is_file()
    assert not places.restored(copy, "now").exists()
    assert places.set_aside(copy, "now").is_dir()


@proves("backup:set-aside")
def test_a_restore_that_was_killed_before_its_first_rename_counts_for_nothing(
    tmp_path: Path,
) -> None:
    settings = Settings(project=tmp_path)
    places.restored(settings, "then").mkdir(parents=True)
    places.set_aside(settings, "earlier").mkdir()
    state.finish_restore(settings)
    assert not places.data(settings).exists()


def cli(settings: Settings, *words: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "durable_workflows",
        *words,
        "--project",
        str(settings.project),
    ]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def killed_when(process: "subprocess.Popen[str]", folder: Path, pattern: str) -> None:
    """Kill it as soon as there is such a file."""
    while process.poll() is None and not any(folder.glob(pattern)):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.long
@proves("backup:whole")
@pytest.mark.parametrize("pattern", ["staged", "staged/pg_wal", "*.part"])
async def test_a_killed_backup_leaves_no_file_and_disturbs_nothing(
    pattern: str, copy: Settings
) -> None:
    project = Project(copy)
    engine = await project.engine()
    file = places.backups(copy) / "asked.tar.gz"
    try:
        await anyio.to_thread.run_sync(
            killed_when, cli(copy, "backup", str(file)), places.backups(copy), pattern
        )
        assert not file.exists()
        assert await waits(engine)
        assert len(backups.kept(copy)) == 1
        done = await backing_up.back_up(copy, None)
        assert await runs_in(copy, Path(done.file), copy.project / "unpacked") == STEPS
        assert not places.staged(copy).exists()
    finally:
        await project.aclose()


@pytest.mark.long
@proves("backup:set-aside", "backup:whole")
@pytest.mark.parametrize("pattern", ["*.restored-*.new", "*.restored-*/global", "*.before-*"])
async def test_a_killed_restore_leaves_the_old_database_or_the_new_one(
    pattern: str, copy: Settings
) -> None:
    process = cli(copy, "restore", "--newest", "--yes")
    await anyio.to_thread.run_sync(killed_when, process, copy.state, pattern)
    await restored(copy)
    assert list(copy.state.glob("*.restored-*")) == []
    await goes_on(copy)


@pytest.mark.long
@proves("backup:whole")
async def test_a_backup_of_a_stopped_project_starts_nothing(copy: Settings, tmp_path: Path) -> None:
    done = await backing_up.back_up(copy, tmp_path / "stopped.tar.gz")
    assert not processes_of(copy.project)
    assert await runs_in(copy, Path(done.file), tmp_path / "unpacked") == STEPS
    with pytest.raises(UsageError, match="is there already"):
        await backing_up.back_up(copy, tmp_path / "stopped.tar.gz")


@proves("backup:whole")
async def test_a_backup_whose_database_dies_is_no_backup(copy: Settings, tmp_path: Path) -> None:
    project = Project(copy)
    engine = await project.engine()
    try:
        async with (
            await tables.connect(engine.connection.database, role="test") as holder,
            anyio.create_task_group() as group,
        ):
            await holder.execute("begin")
            await holder.execute("select 1")  # the backup waits for a turn
            group.start_soon(refused, copy, tmp_path / "file.tar.gz")
            await until(lambda: places.staged(copy).exists(), "it has begun")
            (node,) = processes_of(copy.project, "pglite.mjs")
            node.kill()
    finally:
        await project.aclose()
    assert not {"file.tar.gz", "file.tar.gz.part"} & set(os.listdir(tmp_path))


async def refused(settings: Settings, path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="No backup was made"):
        await backing_up.back_up(settings, path)


@proves("backup:while-runs-go-on")
async def test_nobody_writes_while_the_last_changes_are_copied(
    copy: Settings, tmp_path: Path
) -> None:
    project = Project(copy)
    engine = await project.engine()
    written: list[tuple[datetime, datetime]] = []
    try:
        async with (
            await tables.connect(engine.connection.database, role="test") as writer,
            anyio.create_task_group() as group,
        ):
            await writer.execute("create table public.written (at timestamptz)")
            done = anyio.Event()

            async def write() -> None:
                while not done.is_set():
                    began = datetime.now(UTC)
                    await writer.execute("insert into public.written values (now())")
                    written.append((began, datetime.now(UTC)))

            group.start_soon(write)
            await until(lambda: written, "it writes")
            made = await backing_up.back_up(copy, tmp_path / "file.tar.gz")
            end = made.at + timedelta(milliseconds=made.paused_ms - 1)
            await until(lambda: written[-1][1] > end, "it goes on writing")
            done.set()
            assert written[0][1] < made.at
            assert not [began for began, at in written if began > made.at and at < end]
    finally:
        await project.aclose()


async def small_disk(folder: Path, size: str) -> None:
    disk = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (await anyio.run_process(disk, check=False)).returncode != 0:
        pytest.skip("file systems cannot be mounted here")


@proves("backup:full-disk")
async def test_a_backup_onto_a_full_disk_leaves_no_file(copy: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    await small_disk(folder, "1m")
    try:
        with pytest.raises(NoSpaceLeft):
            await backing_up.back_up(copy, folder / "file.tar.gz")
        assert list(folder.iterdir()) == []
    finally:
        await anyio.run_process(["umount", str(folder)])


@proves("backup:full-disk")
async def test_on_a_short_disk_nothing_is_backed_up_or_restored_and_that_is_said(
    copy: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    await small_disk(folder, "120m")
    try:
        shutil.copytree(copy.project, folder / "project")
        short = Settings(project=folder / "project")
        state.claim_identity(short)
        with pytest.raises(NoSpaceLeft, match=r"MB must be free"):
            await backing_up.back_up(short, None)
        with pytest.raises(NoSpaceLeft, match=r"MB must be free"):
            await restored(short)
        assert "MB must be free" in await ring.Ring(due(short)).look(Database(""), busy=False)
        assert not list(short.state.glob("*.*-*"))
    finally:
        await anyio.run_process(["umount", str(folder)])


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def without_end(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2000)


def flipped(path: Path) -> None:
    written = bytearray(path.read_bytes())
    written[len(written) // 2] ^= 0x10
    path.write_bytes(bytes(written))


def other_text(path: Path) -> None:
    path.write_text("no backup", encoding="utf-8")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@proves("backup:whole")
@pytest.mark.parametrize("harm", [truncated, without_end, flipped, other_text, emptied])
async def test_a_damaged_file_is_refused_and_changes_nothing(
    harm: Callable[[Path], None], stopped: Path, tmp_path: Path
) -> None:
    settings = Settings(project=stopped)
    path = tmp_path / "damaged.tar.gz"
    shutil.copyfile(stopped / "running.tar.gz", path)
    harm(path)
    before = sorted(one.name for one in settings.state.iterdir())
    with pytest.raises(BackupDamaged, match=r"damaged\.tar\.gz is damaged"):
        await restored(settings, path)
    assert sorted(one.name for one in settings.state.iterdir()) == before


@proves("backup:whole")
def test_a_file_never_writes_outside_of_the_directory_or_makes_links(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, kind in (("pgdata/../out", tarfile.REGTYPE), ("pgdata/link", tarfile.SYMTYPE)):
        path = tmp_path / "crafted.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            about = tmp_path / "backup.json"
            about.write_text(about_now().model_dump_json(), encoding="utf-8")
            archive.add(about, "backup.json")
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc"
            archive.addfile(member)
        with pytest.raises(BackupDamaged):
            backups.unpack(path, data)
        assert list(data.iterdir()) == []
        assert not (tmp_path / "out").exists()


@proves("backup:whole")
@pytest.mark.parametrize("harm", ["changed", "left out", "none"])
def test_a_readable_archive_is_refused_if_a_file_in_it_is_another_or_missing(
    harm: str, tmp_path: Path
) -> None:
    data, target = tmp_path / "data", tmp_path / "target"
    data.mkdir()
    target.mkdir()
    for name in ("one", "two"):
        (data / name).write_text(name, encoding="utf-8")
    backups.write(data, about_now(), tmp_path / "file.tar.gz")
    with (
        tarfile.open(tmp_path / "file.tar.gz") as whole,
        tarfile.open(tmp_path / "other.tar.gz", "w:gz") as other,
    ):
        for member in whole:
            written = whole.extractfile(member)
            text = written.read() if written else b""
            if member.name == "pgdata/one":
                if harm == "left out":
                    continue
                text = b"eno" if harm == "changed" else text
            other.addfile(member, io.BytesIO(text))
    if harm == "none":
        backups.unpack(tmp_path / "other.tar.gz", target)
        assert files_text(target / "one") == "one"
        return
    with pytest.raises(BackupDamaged):
        backups.unpack(tmp_path / "other.tar.gz", target)


def about_now(**changed: object) -> BackupContents:
    return BackupContents(
        format=backups.FORMAT,
        at=datetime.now(UTC),
        identity="",
        project="other",
        package=content.package_version(),
        schema_version=content.schema_version(),
        bytes=0,
    ).model_copy(update=changed)


@proves("backup:versions")
@pytest.mark.parametrize(
    ("changed", "accepted"),
    [
        ({}, True),
        ({"package": "0.1.0", "schema_version": 3}, True),
        ({"package": "99.0"}, False),
        ({"schema_version": 9999}, False),
        ({"format": 2}, False),
    ],
)
def test_a_backup_of_newer_software_is_refused(
    changed: dict[str, object], accepted: bool, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path = tmp_path / "file.tar.gz"
    backups.write(data, about_now(**changed), path)
    settings = Settings(project=tmp_path)
    if accepted:
        assert restoring.choose(settings, path).path == path
        return
    with pytest.raises(BackupTooNew, match="Update durable-workflows"):
        restoring.choose(settings, path)


@pytest.mark.long
@proves("backup:restored")
async def test_the_newest_backup_that_is_whole_is_taken(copy: Settings) -> None:
    newer = backups.place(copy, datetime.now(UTC), "daily")
    shutil.copyfile(backups.kept(copy)[0].file, newer)
    flipped(newer)
    said = await restored(copy)
    assert said.file != str(newer)
    assert len(said.skipped) == 1


@proves("backup:versions")
def test_a_project_that_was_moved_or_is_external_is_not_restored(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path)
    settings.state.mkdir()
    external = Settings(project=tmp_path, database_url="postgresql://me@db.example/app")
    with pytest.raises(UsageError, match=r"pg_dump.*--schema=dbos_"):
        restoring.choose(external, tmp_path)
    with pytest.raises(UsageError, match="no backup to restore"):
        restoring.newest(settings)
    state.note_move(settings, "db.example")
    with pytest.raises(ProjectMoved):
        restoring.choose(settings, tmp_path)
    (said,) = problems.of_processes(settings, running=False)
    assert said.startswith("The runs of this project were moved to db.example.")


@proves("backup:versions")
def test_the_backup_of_another_project_is_restored_only_when_one_agrees(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path / "here")
    settings.project.mkdir()
    (tmp_path / "data").mkdir()
    backups.write(tmp_path / "data", about_now(), tmp_path / "file.tar.gz")
    process = cli(settings, "restore", str(tmp_path / "file.tar.gz"))
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "backup of another project, other" in said
    assert "With --yes it does not ask" in said
    assert not settings.state.exists()


# The automatic ones.


def due(settings: Settings, **more: object) -> Settings:
    """Settings by which an automatic backup is due at any time."""
    return settings.model_copy(update={"backup_hours": 1e-9, **more})


def fill(settings: Settings, *ages: timedelta, size: int = 1000) -> None:
    """Automatic backups of these ages; for the ring only names and sizes count."""
    for age in ages:
        backups.place(settings, datetime.now(UTC) - age, ring.DAILY).write_bytes(b"x" * size)


def hours(*numbers: float) -> list[timedelta]:
    return [timedelta(hours=one) for one in numbers]


@pytest.mark.long
@proves("backup:ring")
async def test_the_last_automatic_backups_are_kept_and_those_that_were_asked_for(
    copy: Settings, tmp_path: Path
) -> None:
    fill(copy, *hours(24, 48, 72))
    project = Project(copy)
    engine = await project.engine()
    try:
        database = engine.connection.database
        assert await ring.Ring(due(copy)).look(database, busy=False) == ""
        ages = [datetime.now(UTC) - one.at for one in backups.kept(copy, ring.DAILY)]
        assert [round(age / timedelta(hours=1)) for age in ages] == [0, 24, 48]
        assert len(backups.kept(copy, "manual")) == 1
        newest = backups.kept(copy)[0]
        assert await runs_in(copy, Path(newest.file), tmp_path / "unpacked") == STEPS
        found = await engine.reader.status()
        assert found.backup == newest
        # Too large for what is allowed: said, and not kept.
        before = backups.kept(copy, ring.DAILY)
        small = ring.Ring(due(copy, backup_megabytes=1))
        await until(lambda: backups.stamp(datetime.now(UTC)) not in newest.file, "a second later")
        assert "more than is allowed" in await small.look(database, busy=False)
        assert backups.kept(copy, ring.DAILY) == before
        assert "more than is allowed" in await small.look(database, busy=False)
    finally:
        await project.aclose()


@proves("backup:ring")
async def test_automatic_backups_take_no_more_space_than_is_allowed(copy: Settings) -> None:
    fill(copy, *hours(24, 48), size=4_000_000)
    project = Project(copy)
    engine = await project.engine()
    try:
        allowed = ring.Ring(due(copy, backup_megabytes=10))
        assert await allowed.look(engine.connection.database, busy=False) == ""
        assert len(backups.kept(copy, ring.DAILY)) == 2
    finally:
        await project.aclose()


@proves("backup:ring")
@pytest.mark.parametrize(
    ("age", "busy", "tried"),
    [(23, False, False), (24.5, True, False), (24.5, False, True), (25.5, True, True)],
)
async def test_a_backup_is_due_once_a_day_and_waits_a_while_for_a_quiet_moment(
    age: float, busy: bool, tried: bool, copy: Settings
) -> None:
    fill(copy, *hours(age))
    closed = Database("postgresql://postgres@127.0.0.1:1/postgres")
    problem = await ring.Ring(copy).look(closed, busy=busy)
    assert ("No backup was made" in problem) == tried


@pytest.mark.long
@proves("backup:ring")
async def test_before_an_upgrade_the_database_is_backed_up_for_the_older_version(
    copy: Settings, tmp_path: Path
) -> None:
    places.opened(copy).write_text("0.1.0 5 dbos 3.0", encoding="utf-8")
    await lifecycle.ensure_running(copy)
    await until(lambda: backups.kept(copy, ring.UPGRADE), "it is a file", seconds=60)
    (kept,) = backups.kept(copy, ring.UPGRADE)
    about = backups.look(Path(kept.file))
    assert (about.package, about.schema_version) == ("0.1.0", 5)
    assert files_text(places.opened(copy)) == databases.software(copy)
    await until(
        lambda: not list(places.backups(copy).glob("*-upgrade")), "the copied directory is gone"
    )
    assert await runs_in(copy, Path(kept.file), tmp_path / "unpacked") == STEPS


def files_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@proves("backup:ring", "upgrade:backup")
async def test_another_pglite_alone_is_an_upgrade_before_which_the_database_is_copied(
    copy: Settings,
) -> None:
    places.opened(copy).write_text(databases.software(copy), encoding="utf-8")
    await ring.Ring(copy).copy_before_upgrade()
    assert copied(copy) == []
    earlier = databases.software(copy).replace(lock_hash(), "b0400cdfc1b6")
    places.opened(copy).write_text(earlier, encoding="utf-8")
    await ring.Ring(copy).copy_before_upgrade()
    (folder,) = copied(copy)
    assert (folder / "pgdata" / "PG_VERSION").read_text(encoding="utf-8") == "18\n"


def copied(settings: Settings) -> list[Path]:
    """The copies from before an upgrade that are no files yet."""
    return list(places.backups(settings).glob("*-upgrade"))


@pytest.mark.long
@proves("upgrade:backup")
async def test_starts_that_fail_after_an_upgrade_copy_the_database_once(copy: Settings) -> None:
    places.opened(copy).write_text("0.1.0 5 dbos 3.0", encoding="utf-8")
    version = places.data(copy) / "PG_VERSION"
    version.write_text("17\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(DataDirectoryIncompatible, match="PostgreSQL version 17"):
            await lifecycle.ensure_running(copy)
    (folder,) = copied(copy)
    assert (folder / "pgdata" / "PG_VERSION").read_text(encoding="utf-8") == "17\n"
    assert files_text(places.opened(copy)) == "0.1.0 5 dbos 3.0"


@pytest.mark.long
@proves("upgrade:refused")
async def test_a_backup_of_another_postgres_is_refused_and_nothing_is_changed(
    copy: Settings, tmp_path: Path
) -> None:
    unpacked = tmp_path / "pgdata"
    made = backups.look(Path(backups.kept(copy)[0].file))
    shutil.copytree(places.data(copy), unpacked)
    (unpacked / "PG_VERSION").write_text("19\n", encoding="utf-8")
    other = tmp_path / "other.tar.gz"
    backups.write(unpacked, made, other)
    with pytest.raises(DataDirectoryIncompatible, match=r"cannot restore .*other\.tar\.gz.* 19,"):
        await restoring.restore(copy, [restoring.choose(copy, other)])
    assert (places.data(copy) / "PG_VERSION").read_text(encoding="utf-8") == "18\n"
    names = {path.name for path in copy.state.glob("pgdata*")}
    assert names - {"pgdata.lock"} == {"pgdata", "pgdata.made", "pgdata.opened"}


@proves("backup:ring")
async def test_no_automatic_backup_is_made_where_none_is_wanted(copy: Settings) -> None:
    places.opened(copy).write_text("0.1.0 5", encoding="utf-8")
    off = ring.Ring(due(copy, backups=0))
    await off.copy_before_upgrade()
    assert await off.look(Database(""), busy=False) == ""
    assert [path.name for path in places.backups(copy).iterdir()] == [
        Path(one.file).name for one in backups.kept(copy)
    ]


@proves("backup:ring")
def test_a_failed_automatic_backup_is_a_problem_in_status(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path)
    settings.state.mkdir()
    places.report(settings).write_text('{"backup": "too little space"}', encoding="utf-8")
    assert "backup: too little space" in problems.of_processes(settings, running=True)


# Copies of directories in use.


@proves("backup:while-runs-go-on")
def test_what_changed_between_the_two_passes_is_copied_again(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "old").mkdir(parents=True)
    target.mkdir()
    long_ago = 1_600_000_000
    for name in ("still", "grows", "same size", "gone", "old/gone", "left out"):
        (source / name).write_text(name, encoding="utf-8")
        os.utime(source / name, (long_ago, long_ago))
    (source / "young").write_text("a", encoding="utf-8")
    snapshot = snapshots.Snapshot(source, target, but=["left out"])
    snapshot.copy_ahead()
    young = (source / "young").stat()
    (source / "young").write_text("b", encoding="utf-8")
    os.utime(
        source / "young", ns=(young.st_atime_ns, young.st_mtime_ns)
    )  # within one grain of time
    (source / "grows").write_text("longer than before", encoding="utf-8")
    (source / "same size").write_text("SAME SIZE", encoding="utf-8")
    (source / "gone").unlink()
    shutil.rmtree(source / "old")
    (source / "new").mkdir()
    (source / "new" / "one").touch()
    (target / "still").write_text("not copied again", encoding="utf-8")
    snapshot.copy_rest()
    found = {str(p.relative_to(target)): p.is_dir() or files_text(p) for p in target.rglob("*")}
    assert found == {
        "still": "not copied again",
        "grows": "longer than before",
        "same size": "SAME SIZE",
        "young": "b",
        "new": True,
        "new/one": "",
    }

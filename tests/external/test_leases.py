"""Machines that vanish, stand still or are cut off, and come back: their runs go on elsewhere, and no step is begun twice."""

import signal
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import native
from durable_workflows.database import leases
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from external.machines import executors, helping, identity, query
from external.networks import network_with
from helpers import copy_flow, processes_of, until, until_found
from requirements import proves
from test_recovery import assert_each_step_once, kill, lines_of

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.timeout(300)]

# Until a silent worker is noticed, and for what a busy machine needs to begin its runs.
AT_MOST_SECONDS = leases.LOST_SECONDS + leases.BEAT_SECONDS + 10
PROCESSES = ["supervisor", "worker"]
# Of one the code stands still between two steps, of the other a step is tried again and again. They leave a word when an execution of them is ended.
WORKFLOWS = """

@DBOS.workflow()
def stands_still(file: str, gate: str) -> int:
    found = write_line(file, 1, 0.0)
    while not Path(gate).exists():
        time.sleep(0.02)
    try:
        return found + sum(write_line(file, number, 0.3) for number in range(2, 11))
    except BaseException as error:
        Path(f"{file}-ended").write_text(type(error).__name__)
        raise


@DBOS.step(retries_allowed=True, max_attempts=1000, interval_seconds=0.5, backoff_rate=1)
def tried(file: str, gate: str) -> int:
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(f"{os.getpid()}\\n")
    if not Path(gate).exists():
        raise ValueError("not yet")
    return 55


@DBOS.workflow()
def tries_again(file: str, gate: str) -> int:
    try:
        return tried(file, gate)
    except BaseException as error:
        Path(f"{file}-ended").write_text(type(error).__name__)
        raise
"""


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that wait stay with the machine that has taken them up, and none has all of eight runs."""
    monkeypatch.setenv("DURABLE_WORKFLOWS_PARK_AFTER_SECONDS", "0")
    monkeypatch.setenv("DURABLE_WORKFLOWS_CONCURRENCY", "4")


def text_of(file: Path) -> str:
    """What has been written into a file: it is there a moment before its text is."""
    return file.read_text(encoding="utf-8") if file.exists() else ""


async def is_alive(engine: Engine, directory: Path) -> bool:
    """Whether the worker of the machine was heard of lately."""
    statement = f"""select 1 from {{ours}}.workers where executor_id like '{identity(directory)}-%'
        and seen_at > now() - interval '{leases.BEAT_SECONDS} seconds'"""
    return bool(await query(engine.connection, statement))


async def is_steady(engine: Engine, directory: Path) -> bool:
    """Whether the worker of the machine may judge others."""
    if not (directory / ".dbos" / "id").exists():
        return False
    return bool(
        await query(
            engine.connection,
            f"""select 1 from {{ours}}.workers where executor_id like '{identity(directory)}-%'
            and unbroken_since < now() - interval '{leases.LOST_SECONDS} seconds'""",
        )
    )


async def until_steady(engine: Engine, directory: Path) -> None:
    await until_found(lambda: is_steady(engine, directory), "the other one is there", seconds=90)


async def seconds_until_only_there(engine: Engine, directory: Path) -> float:
    """Wait until this machine has all the runs, and return how long that took."""
    began = time.monotonic()

    async def has_all() -> bool:
        return await executors(engine.connection) == {identity(directory)}

    await until_found(has_all, "it has taken the runs over", seconds=90)
    return time.monotonic() - began


@contextmanager
def stopped(directory: Path) -> Generator[None]:
    """The workers of the machine stand still meanwhile; its supervisor would end them afterwards, since they have nothing to do."""
    processes = processes_of(directory, "worker")
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@proves("lease:taken-over", "lease:no-step", "recovery:machine-gone")
async def test_a_machine_that_stood_still_comes_back_and_begins_no_step(
    engine: Engine, folder: Path, elsewhere: Path
) -> None:
    with copy_flow("ten_steps", folder).open("a", encoding="utf-8") as file:
        file.write(f"import os\n{WORKFLOWS}")
    lines, gate = folder / "lines", folder / "gate"
    args = {"file": str(lines), "gate": str(gate)}
    started = await engine.start(StartRequest(name="stands_still", args=args))
    await until(lambda: lines_of(lines) == [1], "its first step is done", seconds=60)
    with helping(elsewhere):
        await until_steady(engine, elsewhere)
        with stopped(folder):
            seconds = await seconds_until_only_there(engine, elsewhere)
            assert leases.HELD_SECONDS < seconds < AT_MOST_SECONDS
        gate.touch()  # for both of them
        result = await engine.reader.wait([started.workflow_id], timeout_seconds=60)
        assert result.done[0].output == 55
        await until(lambda: text_of(folder / "lines-ended"), "the one that came back has noticed")
        assert text_of(folder / "lines-ended") == "DBOSWorkflowConflictIDError"
        assert Counter(lines_of(lines)) == Counter(range(1, 11))
        assert await executors(engine.connection) == {identity(elsewhere)}


@proves("lease:no-step")
async def test_a_machine_that_stood_still_between_two_attempts_makes_no_further_one(
    engine: Engine, folder: Path, elsewhere: Path
) -> None:
    with copy_flow("ten_steps", folder).open("a", encoding="utf-8") as file:
        file.write(f"import os\n{WORKFLOWS}")
    attempts, gate = folder / "lines", folder / "gate"
    args = {"file": str(attempts), "gate": str(gate)}
    started = await engine.start(StartRequest(name="tries_again", args=args))
    await until(lambda: lines_of(attempts), "its step is tried", seconds=60)
    [here] = set(lines_of(attempts))
    with helping(elsewhere):
        await until_steady(engine, elsewhere)
        tried = lines_of(attempts).count(here)
        # Half a second before its next attempt: one that was allowed and had not begun would begin afterwards.
        await until(lambda: lines_of(attempts).count(here) > tried, "it has just tried")
        with stopped(folder):
            before = lines_of(attempts).count(here)
            await until(lambda: len(set(lines_of(attempts))) == 2, "the other tries", seconds=90)
        await until(lambda: text_of(folder / "lines-ended"), "the one that came back has noticed")
        assert text_of(folder / "lines-ended") == "DBOSWorkflowConflictIDError"
        gate.touch()
        result = await engine.reader.wait([started.workflow_id], timeout_seconds=60)
        assert result.done[0].output == 55
        assert lines_of(attempts).count(here) == before


@proves("lease:taken-over", "recovery:machine-gone")
async def test_the_runs_of_a_killed_machine_go_on_elsewhere_within_half_a_minute_or_so(
    engine: Engine, folder: Path, elsewhere: Path
) -> None:
    with helping(elsewhere):
        files = await start_on_both(engine, folder, seconds=50.0)
        await until_steady(engine, elsewhere)
        kill(folder, PROCESSES)
        assert await seconds_until_only_there(engine, elsewhere) < AT_MOST_SECONDS
        await until_done(engine, files)
    for lines in files.values():
        assert_each_step_once(lines, 1)


@proves("lease:taken-over", "lease:no-step")
async def test_a_machine_that_was_cut_off_comes_back_and_repeats_at_most_the_step_it_was_in(
    project: Project,
    folder: Path,
    elsewhere: Path,
    postgres: native.Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DURABLE_WORKFLOWS_CONCURRENCY", "1")
    copy_flow("messages", folder)
    copy_flow("ten_steps", folder)
    engine = await project.engine()
    waits = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await engine.reader.wait([waits.workflow_id], until="any")  # and takes the place here
    with (
        network_with(postgres.port) as network,
        helping(elsewhere, within=network.within),
    ):
        await until_steady(engine, elsewhere)
        [[run, lines]] = (await start_ten_steps(engine, folder, 1, seconds=15.0)).items()
        await until(lambda: len(lines_of(lines)) >= 2, "it is under way there", seconds=60)
        network.cut()
        await engine.send(waits.workflow_id, "t", "the place is free")
        assert await seconds_until_only_there(engine, folder) < AT_MOST_SECONDS
        await until_done(engine, {run: lines})
        network.mend()
        await until_found(lambda: is_alive(engine, elsewhere), "the other is back", seconds=90)
        assert_each_step_once(lines, 1)
        assert await executors(engine.connection) == {identity(folder)}


@proves("lease:taken-over", "recovery:database-killed")
async def test_a_database_that_restarts_in_the_midst_of_a_take_over_loses_no_run(
    folder: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = native.programs()
    assert programs is not None
    with native.cluster(programs) as postgres:
        monkeypatch.setenv("DBOS_DATABASE_URL", postgres.database("own"))
        project = Project(Settings(project=folder))
        engine = await project.engine()
        with helping(elsewhere):
            files = await start_on_both(engine, folder, seconds=50.0)
            await until_steady(engine, elsewhere)
            kill(folder, PROCESSES)
            await until_found(lambda: is_queued(engine, folder), "they are taken over", seconds=60)
            postgres.stop()
            postgres.start()
            await until_done(engine, files)
        await project.aclose()
    for lines in files.values():
        assert_each_step_once(lines, 2)


@proves("lease:no-false-alarm", "recovery:all-killed")
async def test_of_two_machines_that_are_killed_and_restart_at_once_each_goes_on_with_its_own_runs(
    project: Project, folder: Path, elsewhere: Path
) -> None:
    engine = await project.engine()
    with helping(elsewhere):
        files = await start_on_both(engine, folder, seconds=20.0)
        before = await whose(engine)
        for directory in (folder, elsewhere):
            kill(directory, PROCESSES)
    with helping(elsewhere):
        engine = await project.engine()
        await until_done(engine, files)
        assert await whose(engine) == before
    for lines in files.values():
        assert_each_step_once(lines, 1)


async def is_queued(engine: Engine, directory: Path) -> bool:
    """Whether no run is left with the workers of that machine."""
    statement = f"""select count(*) from {{dbos}}.workflow_status
        where status = 'PENDING' and executor_id like '{identity(directory)}-%'"""
    return await query(engine.connection, statement) == [(0,)]


async def start_on_both(engine: Engine, folder: Path, *, seconds: float) -> dict[str, Path]:
    """Eight runs, of which each machine has four, that take so long each."""
    files = await start_ten_steps(engine, folder, 8, seconds=seconds)

    async def are_both_at_work() -> bool:
        return len(await executors(engine.connection)) == 2 and all(map(lines_of, files.values()))

    await until_found(are_both_at_work, "both are at work", seconds=60)
    return files


async def whose(engine: Engine) -> set[tuple[object, ...]]:
    """Which run each executor has."""
    statement = "select workflow_uuid, executor_id from {dbos}.workflow_status"
    return set(await query(engine.connection, statement))


async def start_ten_steps(
    engine: Engine, folder: Path, number: int, *, seconds: float
) -> dict[str, Path]:
    """So many runs of ten steps, which take `seconds` each; the file of lines of each."""
    copy_flow("ten_steps", folder)
    lines = [folder / f"lines-{one}" for one in range(number)]
    requests = [
        StartRequest(name="ten_steps", args={"file": str(one), "seconds": seconds / 10})
        for one in lines
    ]
    started = await engine.start_all(requests)
    return {one.workflow_id: file for one, file in zip(started, lines, strict=True)}


async def until_done(engine: Engine, files: Mapping[str, Path]) -> None:
    """Wait until they have ended, and well."""
    result = await engine.reader.wait(list(files), timeout_seconds=120)
    assert [run.output for run in result.done] == [55] * len(files)

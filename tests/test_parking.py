# pyright: reportPrivateUsage=false
"""A run that waits for long is parked: it is a row, no process holds it, and it goes on when what it waits for is there."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, StartRequest
from durable_workflows.settings import Settings
from durable_workflows.telling.causes import cause
from helpers import (
    copy_flow,
    is_parked,
    kill_worker,
    log_of,
    parking_project,
    processes_of,
    until,
    until_found,
    until_parked,
    value,
)
from requirements import proves

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def parking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project in which runs are parked soon."""
    async with parking_project(tmp_path_factory, "parking") as engine:
        yield engine


@pytest.fixture
def changes() -> dict[str, Any]:
    """The settings that differ in a test, by `parametrize`."""
    return {}


@pytest.fixture
def settings(folder: Path, changes: dict[str, Any]) -> Settings:
    copy_flow("parking", folder)
    return Settings(project=folder, park_after_seconds=0.2).model_copy(update=changes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


async def start(engine: Engine, name: str, file: Path, **more: Any) -> str:
    args: dict[str, JsonValue] = {"file": str(file), **more.pop("args", {})}
    return (await engine.start(StartRequest(name=f"parked_{name}", args=args, **more))).workflow_id


async def output(engine: Engine, workflow_id: str) -> object:
    async def done() -> list[Ended]:  # a wait for a run that asks for a message comes back at once
        return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done

    [ended] = await until_found(done, "it has ended")
    assert ended.status == "SUCCESS", ended
    return ended.output


async def pass_time(engine: Engine, workflow_id: str) -> None:
    """Let the wait of a parked run be over."""
    past = "update dbos.operation_outputs set output = '1' where workflow_uuid = %s and function_name = 'DBOS.sleep'"
    await value(engine, past, workflow_id)
    await bring_back(engine, workflow_id)


async def bring_back(engine: Engine, workflow_id: str) -> None:
    due = "update durable_workflows.parked set due_at = clock_timestamp() where workflow_id = %s"
    await value(engine, due, workflow_id)
    await value(engine, "insert into durable_workflows.woken select workflow_id, version from durable_workflows.parked where workflow_id = %s", workflow_id)  # fmt: skip
    notify = "select pg_notify('durable_workflows_runs', concat_ws(E'\\t', 'WOKEN', application_version, workflow_uuid)) from dbos.workflow_status where workflow_uuid = %s"
    await value(engine, notify, workflow_id)


async def send(engine: Engine, workflow_id: str) -> None:
    await engine.send(workflow_id, "go", "went")


async def answer(engine: Engine, workflow_id: str) -> None:
    run = await engine.reader.run(workflow_id)
    [wait] = await engine.reader.waits(run.workflow_id)
    await engine.answer(wait, "went", who="somebody", how="terminal")


async def send_to_child(engine: Engine, workflow_id: str) -> None:
    await engine.send(f"{workflow_id}-2", "go", "went")


@pytest.mark.long
async def test_a_run_waits_longer_in_memory_the_more_a_replay_would_take(
    parking: Engine, file: Path
) -> None:
    workflow_id = await start(parking, "after_steps", file, args={"steps": 1500})
    await until_parked(parking, workflow_id)
    ended = "select extract(epoch from clock_timestamp()) * 1000 - max(completed_at_epoch_ms) from dbos.operation_outputs where workflow_uuid = %s and function_name = 'small'"
    assert await value(parking, ended, workflow_id) > 1500
    await send(parking, workflow_id)
    assert await output(parking, workflow_id) == "went"


Bring = Callable[[Engine, str], Awaitable[None]]
WAYS: dict[str, tuple[Bring, str, list[str]]] = {
    "receives": (send, "went", ["a", "went"]),
    "receives_async": (send, "went", ["a", "went"]),
    "sleeps": (pass_time, "slept", ["a", "slept"]),
    "sleeps_async": (pass_time, "slept", ["a", "slept"]),
    "times_out": (pass_time, "nothing came", ["a", "nothing came"]),
    "calls": (send_to_child, "child: went", ["caller", "a", "went", "child: went"]),
    "starts": (send_to_child, "child: went", ["caller", "a", "went", "child: went"]),
    "holds_on": (send, "went", ["a", "went"]),
    "converts": (send, "went", ["a", "went"]),
    "swallows": (send, "went", ["a", "went"]),
}


@proves("park:goes-on")
@pytest.mark.parametrize("name", WAYS)
async def test_a_parked_run_goes_on_when_what_it_waits_for_is_there_and_does_no_step_twice(
    parking: Engine, file: Path, name: str
) -> None:
    bring, result, steps = WAYS[name]
    workflow_id = await start(parking, name, file)
    await until_parked(parking, workflow_id)
    await bring(parking, workflow_id)
    assert await output(parking, workflow_id) == result
    assert lines_of(file) == steps
    assert not await value(parking, "select 1 from durable_workflows.parked where workflow_id = %s", workflow_id)  # fmt: skip


async def test_a_run_that_waits_for_an_event_is_parked_says_so_and_gets_it(
    parking: Engine, file: Path
) -> None:
    workflow_id = await start(parking, "gets", file, args={"of": "setter"})
    await until_parked(parking, workflow_id)
    run = await parking.reader.run(workflow_id)
    why = cause(run, run.updated_at)
    assert why.text.startswith("waits for an event: 'go' of setter since ")
    assert "until " in why.text
    await start(parking, "sets", file, workflow_id="setter")
    assert await output(parking, workflow_id) == "set"
    assert lines_of(file) == ["a", "set"]


async def test_an_async_run_that_waits_for_several_things_is_parked_as_a_whole(
    parking: Engine, file: Path
) -> None:
    workflow_id = await start(parking, "branches", file)
    for topic in ("two", "one"):
        await until_parked(parking, workflow_id)
        await parking.send(workflow_id, topic, topic)
    assert await output(parking, workflow_id) == "one two"
    assert lines_of(file) == ["a", "one two"]


@pytest.mark.long
async def test_a_run_that_gathers_others_is_parked_with_them(parking: Engine, file: Path) -> None:
    workflow_id = await start(parking, "gathers", file)
    children = [f"{workflow_id}-2", f"{workflow_id}-3"]
    await until_parked(parking, workflow_id, *children)
    for child in children:
        await parking.send(child, "go", "went")
    assert await output(parking, workflow_id) == "children: went went"
    assert sorted(lines_of(file)) == ["a", "a", "caller", "children: went went", "went", "went"]


LINES = {
    "receives": ["before", "noted a", "between", "after", "noted went"],
    "calls": ["noted caller", "calling", "called", "noted child: went"],
    "starts": ["noted caller", "started", "ended", "noted child: went"],
}


@pytest.mark.parametrize("name", LINES)
async def test_the_log_of_a_parked_run_has_each_line_once(
    parking: Engine, file: Path, name: str
) -> None:
    workflow_id = await start(parking, name, file)
    await until_parked(parking, workflow_id)
    await WAYS[name][0](parking, workflow_id)
    await output(parking, workflow_id)
    log = await log_of(parking, workflow_id, count=len(LINES[name]))
    assert [line.text for line in log] == LINES[name]


async def test_a_run_that_differs_when_it_is_replayed_after_a_wait_says_so_and_what_to_do(
    parking: Engine, file: Path
) -> None:
    workflow_id = await start(parking, "forgets", file)
    await until_parked(parking, workflow_id)
    await send(parking, workflow_id)
    [ended] = (await parking.reader.wait([workflow_id], timeout_seconds=30)).done
    assert ended.status == "ERROR"
    run = await parking.reader.run(workflow_id)
    assert run.error is not None
    for part in (
        "step 1",
        "note_again",
        "had waited",
        "@does_not_park",
        "fork the run from step 1",
    ):
        assert part in run.error.text
    assert lines_of(file) == ["a"]


async def test_a_parked_run_can_be_cancelled_and_resumed(parking: Engine, file: Path) -> None:
    workflow_id = await start(parking, "receives", file)
    await until_parked(parking, workflow_id)
    await parking.cancel([workflow_id])
    assert not await value(parking, "select 1 from durable_workflows.parked where workflow_id = %s", workflow_id)  # fmt: skip
    assert (await parking.reader.run(workflow_id)).status == "CANCELLED"
    await parking.resume([workflow_id])
    await until_parked(parking, workflow_id)
    await send(parking, workflow_id)
    assert await output(parking, workflow_id) == "went"
    assert lines_of(file) == ["a", "went"]


@pytest.mark.long
async def test_the_time_of_a_parked_run_may_be_over(parking: Engine, file: Path) -> None:
    workflow_id = await start(parking, "receives", file, timeout_seconds=1000)
    await until_parked(parking, workflow_id)
    over = "update dbos.workflow_status set workflow_deadline_epoch_ms = 1 where workflow_uuid = %s"
    await value(parking, over, workflow_id)
    await bring_back(parking, workflow_id)

    async def cancelled() -> bool:
        return (await parking.reader.run(workflow_id)).status == "CANCELLED"

    await until_found(cancelled, "it is cancelled", seconds=40)
    assert lines_of(file) == ["a"]


@pytest.mark.parametrize("name", ["stays", "has_a_timer"])
async def test_a_run_stays_in_memory_that_must_not_or_cannot_be_parked(
    parking: Engine, file: Path, name: str
) -> None:
    stays = await start(parking, name, file)
    await until(lambda: lines_of(file), "it has begun")
    other = await start(parking, "receives", file.with_name("other"))
    await until_parked(parking, other)
    assert not await is_parked(parking, stays)
    for workflow_id in (stays, other):
        await send(parking, workflow_id)
        assert await output(parking, workflow_id) == "went"


async def test_a_message_that_comes_while_its_run_is_being_parked_is_not_lost(
    parking: Engine, file: Path
) -> None:
    """At all moments around the time at which it is parked."""
    runs = [await start(parking, "receives", file.with_name(f"notes-{n}")) for n in range(40)]
    async with anyio.create_task_group() as group:
        for number, workflow_id in enumerate(runs):
            group.start_soon(_send_later, parking, workflow_id, number / 80)
    for workflow_id in runs:
        assert await output(parking, workflow_id) == "went"
    assert [lines_of(file.with_name(f"notes-{n}")) for n in range(40)] == [["a", "went"]] * 40


async def _send_later(engine: Engine, workflow_id: str, seconds: float) -> None:
    await anyio.sleep(seconds)
    await send(engine, workflow_id)


@proves("park:no-place")
@pytest.mark.parametrize("changes", [{"concurrency": 2}])
async def test_runs_that_wait_keep_no_other_run_from_running(engine: Engine, file: Path) -> None:
    waiting = [await start(engine, "receives", file) for _ in range(8)]
    assert await output(engine, await start(engine, "quick", file)) == "quick"
    await until_parked(engine, *waiting)


@proves("park:no-place")
@pytest.mark.parametrize("changes", [{"concurrency": 2}])
@pytest.mark.long
async def test_runs_that_found_no_place_have_those_that_become_free_at_the_same_moment(
    engine: Engine, file: Path
) -> None:
    """One that was woken, and two in the queue. They do not wait for the next look of their worker, a quarter of a minute later."""
    woken = await start(engine, "receives", file)
    await until_parked(engine, woken)
    until_ = file.with_name("until")
    works = [file.with_name(f"works-{number}") for number in range(2)]
    for one in works:
        await start(engine, "works", one, args={"until": str(until_)})
    await until(lambda: all(map(lines_of, works)), "no place is free")
    queued = [await start(engine, "quick", file.with_name(f"quick-{n}")) for n in range(2)]
    await send(engine, woken)
    await anyio.sleep(1)  # how long there is no place, not a wait for something
    until_.touch()
    outputs = await engine.reader.wait([woken, *queued], timeout_seconds=8)
    assert [one.output for one in outputs.done] == ["went", "quick", "quick"]


# A step of a worker that was killed and does not come back.
LEFT = "insert into durable_workflows.running_steps (workflow_id, function_id, executor_id, name, since, attempt, max_attempts) values (%s, 7, 'gone', 'work', now(), 1, 1)"


@pytest.mark.long
async def test_a_killed_worker_costs_a_parked_run_nothing(
    engine: Engine, folder: Path, file: Path
) -> None:
    workflow_id = await start(engine, "receives", file)
    await until_parked(engine, workflow_id)
    await value(engine, LEFT, workflow_id)
    kill_worker(folder)
    await send(engine, workflow_id)
    assert await output(engine, workflow_id) == "went"
    assert lines_of(file) == ["a", "went"]
    assert (await engine.reader.run(workflow_id)).recovery_attempts <= 1

    async def none_is_left() -> bool:  # a step that has ended is taken out a moment later
        return await value(engine, "select count(*) from durable_workflows.running_steps") == 0

    await until_found(none_is_left, "no step runs, and none is left of the worker that is gone")


@proves("park:no-process")
@pytest.mark.long
async def test_a_worker_without_work_leaves_and_a_message_brings_it_back(
    engine: Engine, folder: Path, file: Path
) -> None:
    workflow_id = await start(engine, "receives", file)
    await until_parked(engine, workflow_id)
    await until(lambda: not processes_of(folder, "worker"), "the worker has left", seconds=60)
    code = folder / ".dbos" / "code"
    await until(lambda: not list(code.iterdir()), "its copy of the code is removed")
    run = await engine.reader.run(workflow_id)
    assert cause(run, run.updated_at).text.startswith("waits for a message on topic 'go'")
    await send(engine, workflow_id)
    assert await output(engine, workflow_id) == "went"
    assert lines_of(file) == ["a", "went"]


@proves("park:old-versions")
@pytest.mark.parametrize("changes", [{"old_workers": 1}])
@pytest.mark.long
async def test_runs_of_many_old_versions_wait_without_a_worker_and_go_on_on_their_own_code(
    engine: Engine, folder: Path, file: Path
) -> None:
    flow = folder / "workflows" / "parking.py"
    source, runs = flow.read_text("utf-8"), dict[str, str]()
    for number in range(4):
        flow.write_text(
            source.replace('note(file, "a")', f'note(file, "a of {number}")'), encoding="utf-8"
        )
        notes = file.with_name(f"notes-{number}")
        runs[str(number)] = await start(engine, "receives", notes)
        await until_parked(engine, runs[str(number)])
    for number, workflow_id in runs.items():
        await send(engine, workflow_id)
        assert await output(engine, workflow_id) == "went"
        assert lines_of(file.with_name(f"notes-{number}")) == [f"a of {number}", "went"]


@pytest.mark.parametrize("changes", [{"park_after_seconds": 0.0}])
@pytest.mark.long
async def test_with_0_seconds_nothing_is_parked(engine: Engine, file: Path) -> None:
    workflow_id = await start(engine, "receives", file)
    await until_found(lambda: engine.reader.waits(workflow_id), "it waits")
    slept = await start(engine, "sleeps_for", file.with_name("other"), args={"seconds": 2})
    assert await output(engine, slept) == "slept"  # two seconds have passed
    assert not await is_parked(engine, workflow_id)
    await send(engine, workflow_id)
    assert await output(engine, workflow_id) == "went"


@pytest.mark.long
async def test_a_woken_run_that_ends_its_worker_is_accused(
    engine: Engine, folder: Path, file: Path
) -> None:
    workflow_id = await start(engine, "ends_its_worker", file)
    await until_parked(engine, workflow_id)
    await send(engine, workflow_id)

    async def accused() -> bool:
        return (await engine.reader.run(workflow_id)).suspect is not None

    await until_found(accused, "it is a suspect")

"""Waits that poll: each look and each pause is recorded, and the last look is at the deadline."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dbos import WorkflowStatus
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, StartRequest
from helpers import dbos_client_of, kill_worker, parking_project, until, until_found, until_parked
from requirements import proves

pytestmark = pytest.mark.anyio
WAYS = pytest.mark.parametrize("way", ["polls", "polls_async"])


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with parking_project(tmp_path_factory, "many") as engine:
        yield engine


def looks(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


def let_it_be_there(file: Path, text: str = "it") -> None:
    """In one moment, also for who reads it meanwhile."""
    made = file.with_suffix(".made")
    made.write_text(text, encoding="utf-8")
    made.rename(f"{file}.there")


async def start(engine: Engine, workflow: str, workflow_id: str, **args: JsonValue) -> None:
    await engine.start(StartRequest(name=workflow, args=args, workflow_id=workflow_id))


async def ended(engine: Engine, workflow_id: str) -> WorkflowStatus:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=10)).done

    await until_found(done, f"{workflow_id} has ended")
    with dbos_client_of(engine) as client:
        (run,) = await client.list_workflows_async(workflow_ids=[workflow_id])
    return run


async def steps(engine: Engine, workflow_id: str) -> list[Any]:
    with dbos_client_of(engine) as client:
        return await client.list_workflow_steps_async(workflow_id)


@WAYS
async def test_it_looks_until_something_is_there_and_returns_that(
    engine: Engine, tmp_path: Path, way: str
) -> None:
    file = tmp_path / "looks"
    await start(engine, way, f"found-{way}", file=str(file), every=0.1)
    await until(lambda: looks(file) >= 3, "some looks")
    let_it_be_there(file)
    assert (await ended(engine, f"found-{way}")).output == "found it"
    name = {"polls": "check", "polls_async": "look"}[way]
    expected = [name, *["DBOS.sleep", name] * (looks(file) - 1)]
    assert [one["function_name"] for one in await steps(engine, f"found-{way}")] == expected


async def test_what_is_there_at_the_first_look_takes_no_pause(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "looks"
    let_it_be_there(file)
    await start(engine, "polls", "at-once", file=str(file), every=300)
    assert (await ended(engine, "at-once")).output == "found it"
    assert looks(file) == 1


@WAYS
@proves("poll:deadline")
async def test_the_last_look_is_at_the_deadline(engine: Engine, tmp_path: Path, way: str) -> None:
    file = tmp_path / "looks"
    began = time.time()
    await start(engine, way, f"late-{way}", file=str(file), every=200, deadline=1.0)
    run = await ended(engine, f"late-{way}")
    assert run.status == "ERROR"
    assert (
        "returned nothing true before the deadline, in 2 looks; the last one returned None"
        in str(run.error)
    )
    assert getattr(run.error, "name", "").endswith("DeadlinePassed")
    assert looks(file) == 2
    assert time.time() - began >= 1.0


@proves("poll:durable")
async def test_after_a_crash_it_goes_on_and_repeats_no_recorded_look(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "looks"
    await start(engine, "polls", "crash", file=str(file), every=0.2)
    await until(lambda: looks(file) >= 3, "some looks")
    kill_worker(engine.project)
    at_the_crash = looks(file)
    await until(lambda: looks(file) >= at_the_crash + 2, "further looks")
    let_it_be_there(file)
    assert (await ended(engine, "crash")).output == "found it"
    recorded = [one for one in await steps(engine, "crash") if "sleep" not in one["function_name"]]
    assert looks(file) - len(recorded) <= 1  # the look during which the worker was killed


@proves("poll:durable")
async def test_a_long_pause_is_parked_and_its_end_is_kept(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "looks"
    await start(engine, "polls", "parks", file=str(file), every=300)
    await until_parked(engine, "parks")
    assert looks(file) == 1
    await engine.cancel(["parks"])


async def test_a_step_keeps_its_own_retries(engine: Engine) -> None:
    file = engine.project / "step.looks"
    file.with_name("step.looks.breaks").touch()
    let_it_be_there(file)
    await start(engine, "polls_step", "retries")
    assert (await ended(engine, "retries")).output == "found it"
    assert looks(file) == 2
    [step] = await steps(engine, "retries")
    assert step["function_name"] == "look_step"


async def test_pauses_become_longer_up_to_the_longest(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "looks"
    await start(engine, "polls_longest", "longest", file=str(file))
    await until(lambda: looks(file) >= 4, "some looks")
    let_it_be_there(file)
    assert (await ended(engine, "longest")).output == "it"
    pauses = [
        one["completed_at_epoch_ms"] - one["started_at_epoch_ms"]
        for one in await steps(engine, "longest")
        if one["function_name"] == "DBOS.sleep"
    ]
    first, *others = pauses
    assert first >= 50
    assert others
    assert all(200 <= pause < 50_000 for pause in others), pauses


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("no pause", "A pause of wait_until is not longer than 0 seconds."),
        ("shorter", "`backoff` is less than 1"),
        ("no zone", "The deadline has no time zone."),
    ],
)
async def test_a_wait_that_is_not_possible_is_refused(engine: Engine, how: str, text: str) -> None:
    name = how.replace(" ", "-")
    await start(engine, "many_wrong", name, how=how)
    run = await ended(engine, name)
    assert text in str(run.error)


async def test_a_deadline_can_be_a_time(engine: Engine) -> None:
    await start(engine, "many_wrong", "a-time", how="a time")
    assert "nothing true before the deadline, in 1 looks" in str(
        (await ended(engine, "a-time")).error
    )

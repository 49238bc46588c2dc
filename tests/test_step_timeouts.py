"""`@step(timeout=…)`: a step that is not done in time is cancelled; where nothing could stop it, the time-out is refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from durable_workflows.authoring import step
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import StepTimeout, UsageError
from durable_workflows.models import Ended, StartRequest
from helpers import kill_worker, parking_project, until_found
from requirements import proves

pytestmark = pytest.mark.anyio
LATE = "The step {} was not done after 0.2 seconds."


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with parking_project(tmp_path_factory, "timeouts") as engine:
        yield engine


async def start(engine: Engine, file: Path, **args: JsonValue) -> None:
    args = {"file": str(file), "hangs": 1, **args}
    await engine.start(StartRequest(name="timed", args=args, workflow_id=file.name))


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=10)).done

    return (await until_found(done, f"{workflow_id} has ended"))[0]


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


@proves("step:timeout")
async def test_a_step_that_is_not_done_in_time_is_cancelled(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "cancelled"
    await start(engine, file)
    result = await ended(engine, "cancelled")
    assert result.status == "ERROR"
    assert LATE.format("limited") in (result.error or "")
    assert "StepTimeout" in (result.error or "")
    assert lines(file) == ["begun", "cleaned up"]


async def test_a_step_in_time_returns(engine: Engine, tmp_path: Path) -> None:
    await start(engine, tmp_path / "in-time", hangs=0)
    assert (await ended(engine, "in-time")).status == "SUCCESS"


@proves("step:timeout")
async def test_each_attempt_has_its_time(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "often"
    await start(engine, file, how="often", hangs=2)
    assert (await ended(engine, "often")).status == "SUCCESS"
    assert lines(file) == ["begun", "cleaned up", "begun", "cleaned up", "begun"]
    attempts = (await engine.reader.run("often")).attempts
    said = LATE.format("limited_often")
    failed = [one.error or "" for one in attempts if one.outcome == "failed"]
    assert len(failed) == 2
    assert all(one.startswith(f"StepTimeout: {said}") for one in failed)


@pytest.mark.parametrize(("how", "begun"), [("often", 3), ("not on it", 1)])
async def test_a_time_out_is_an_error_that_a_retry_may_name(
    engine: Engine, tmp_path: Path, how: str, begun: int
) -> None:
    file = tmp_path / how.replace(" ", "-")
    file = file.with_name(f"all-{file.name}")
    await start(engine, file, how=how, hangs=9)
    assert "StepTimeout" in ((await ended(engine, file.name)).error or "")
    assert lines(file).count("begun") == begun


async def test_a_time_out_of_the_step_itself_stays_what_it_is(
    engine: Engine, tmp_path: Path
) -> None:
    await start(engine, tmp_path / "own", how="its own")
    error = (await ended(engine, "own")).error or ""
    assert "of its own" in error
    assert "StepTimeout" not in error


@pytest.mark.long
@proves("step:timeout")
async def test_a_replay_catches_the_recorded_time_out(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "replayed"
    await start(engine, file, waits=True)

    async def waits() -> object:
        return (await engine.reader.run("replayed")).waiting

    await until_found(waits, "it waits")
    kill_worker(engine.project)
    await engine.send("replayed", "word", "go")
    result = await ended(engine, "replayed")
    assert (result.status, lines(file)) == ("SUCCESS", ["begun", "cleaned up"])
    assert LATE.format("limited") in str(result.output)


@proves("step:timeout-refused")
@pytest.mark.parametrize("effect", ["repeatable", "once"])
def test_a_time_out_that_could_not_be_kept_is_refused_when_the_file_is_loaded(effect: str) -> None:
    with pytest.raises(UsageError, match=r"nothing can stop sync code|may have had its effect"):

        @step(timeout=3, effect="once" if effect == "once" else "repeatable")
        def sync() -> None: ...


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_out_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="The time-out of the step"):

        @step(timeout=seconds)
        async def late() -> None: ...


async def test_outside_of_a_run_a_step_has_its_time_too() -> None:
    @step(timeout=0.05, name="alone")
    async def alone() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StepTimeout, match=r"The step alone was not done after 0\.05 seconds\."):
        await alone()

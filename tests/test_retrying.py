# pyright: reportPrivateUsage=false
"""Steps with `Retry`: which errors are tried again, how often and when, also across the end of a process."""

import inspect
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from durable_workflows.authoring import retrying, step
from durable_workflows.authoring.retrying import Retry
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UsageError
from durable_workflows.models import Ended, Run, RunningStep, StartRequest
from durable_workflows.telling import trace_json
from durable_workflows.telling.causes import cause, failure
from durable_workflows.telling.pages import payload
from durable_workflows.telling.traces import markdown
from durable_workflows.wording import time
from helpers import (
    is_taken_up_again,
    kill_worker,
    parking_project,
    until,
    until_found,
    value,
)
from requirements import proves

pytestmark = pytest.mark.anyio

# The runs whose worker is killed within an attempt: the workflow, its arguments, and the attempt.
HELD: dict[str, tuple[str, dict[str, JsonValue], int]] = {
    "second": ("quickly", {"fails": 1}, 2),
    "second-async": ("quickly_async", {"fails": 1}, 2),
    "first": ("quickly", {"fails": 3}, 1),
    "last": ("quickly", {"fails": 9}, 3),
    "last-async": ("quickly_async", {"fails": 9}, 3),
}
# The runs whose worker is killed while they wait for their next attempt.
WAITING = ("later", "later_async")
# The runs whose worker is killed after an error that they have caught.
CAUGHT = ("and_catches", "and_catches_async")


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project whose worker was killed within attempts, and between them."""
    async with parking_project(tmp_path_factory, "retrying") as engine:
        for name, (workflow, args, number) in HELD.items():
            (engine.project / f"{name}.hold-{number}").touch()
            await start(engine, name, workflow, **args)
        for name in (*WAITING, *CAUGHT):
            await start(engine, name, name)
        for name in HELD:
            await until((engine.project / f"{name}.held").exists, f"{name} is held")
        for name in WAITING:
            await retrying_step(engine, name)
        for name in CAUGHT:
            await until_found(lambda one=name: waits_of(engine, one), f"{name} waits")
        kill_worker(engine.project)
        for held in engine.project.glob("*.hold-*"):
            held.unlink()
        yield engine


async def start(engine: Engine, name: str, workflow: str, **args: JsonValue) -> None:
    args = {"file": str(engine.project / name), **args}
    request = StartRequest(name=f"retries_{workflow}", args=args, workflow_id=name)
    await engine.start(request)


def tried(engine: Engine, name: str) -> int:
    """How often the step of the run has begun."""
    file = engine.project / name
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


async def ended(engine: Engine, name: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([name], timeout_seconds=30)).done

    return (await until_found(done, f"{name} has ended"))[0]


async def run_to_end(engine: Engine, name: str, workflow: str, **args: JsonValue) -> Ended:
    await start(engine, name, workflow, **args)
    return await ended(engine, name)


async def waits_of(engine: Engine, name: str) -> object:
    return (await engine.reader.run(name)).waiting


async def retrying_step(engine: Engine, name: str) -> RunningStep:
    """The step of the run, once a living worker has taken the run up, and it is shown to wait for its next attempt."""

    async def found() -> RunningStep | None:
        run = await engine.reader.run(name)
        waits = run.running and run.running[0].retry_at is not None
        return run.running[0] if waits and is_taken_up_again(run, ()) else None

    return await until_found(found, f"{name} waits for its next attempt")


async def outcomes(engine: Engine, name: str) -> list[str]:
    """What became of the attempts of the run's step, in their order."""
    found = (await engine.reader.run(name)).attempts
    return [f"{one.attempt} {one.outcome}" for one in reversed(found)]


@proves("retry:counted")
@pytest.mark.parametrize("name", ["second", "second-async"])
async def test_after_the_end_of_its_process_in_attempt_2_of_3_a_step_goes_on_with_3(
    engine: Engine, name: str
) -> None:
    assert (await ended(engine, name)).output == 3
    assert tried(engine, name) == 3
    assert await outcomes(engine, name) == ["1 failed", "2 interrupted", "3 succeeded"]


@proves("retry:counted")
@pytest.mark.parametrize("name", ["last", "last-async"])
async def test_after_the_end_of_its_process_in_the_last_attempt_the_last_error_is_raised(
    engine: Engine, name: str
) -> None:
    found = await ended(engine, name)
    assert (found.status, tried(engine, name)) == ("ERROR", 3)
    run = await engine.reader.run(name)
    error = failure(run.error)
    assert error is not None
    assert error.message == "refused 2"
    assert error.name.endswith("Refused")
    assert "Attempt 3 of 3 began at" in error.traceback
    assert "and its process ended before it had returned." in error.traceback
    assert await outcomes(engine, name) == ["1 failed", "2 failed", "3 interrupted"]


@proves("retry:counted")
async def test_a_first_attempt_that_left_no_trace_is_the_first_one_again(engine: Engine) -> None:
    assert (await ended(engine, "first")).output == 4
    assert tried(engine, "first") == 4
    assert await outcomes(engine, "first") == ["1 failed", "2 failed", "3 succeeded"]


@proves("retry:wait")
@pytest.mark.parametrize("name", WAITING)
async def test_the_time_of_the_next_attempt_is_kept_and_a_cancel_ends_the_wait(
    engine: Engine, name: str
) -> None:
    left = engine.project / f"{name}.left"
    for _ in range(2):  # after the end of the process, and after a cancel
        await assert_kept(engine, name, await retrying_step(engine, name))
        assert not left.exists()
        await engine.cancel([name])
        assert (await ended(engine, name)).status == "CANCELLED"
        await until(left.exists, "its code has ended")
        left.unlink()
        await engine.resume([name])
    await assert_kept(engine, name, await retrying_step(engine, name))
    await engine.cancel([name])


async def assert_kept(engine: Engine, name: str, shown: RunningStep) -> None:
    [failed] = (await engine.reader.run(name)).attempts
    assert failed.failed_at is not None
    assert failed.next_at is not None
    assert shown.retry_at is not None
    assert abs(failed.next_at - failed.failed_at - timedelta(seconds=30)) < timedelta(seconds=1)
    assert abs(shown.retry_at - failed.next_at) < timedelta(seconds=0.5)
    assert (shown.attempt, shown.max_attempts, shown.error) == (1, 3, "Refused: refused 1")
    assert tried(engine, name) == 1


@proves("retry:wait")
@pytest.mark.parametrize("name", ["much_later", "much_later_async"])
async def test_a_run_that_waits_long_for_an_attempt_is_parked_and_says_so(
    engine: Engine, name: str
) -> None:
    await start(engine, name, name)

    async def parked() -> Run | None:
        run = await engine.reader.run(name)
        due = [one.next_at for one in run.attempts]  # until it is parked, its worker tells the time
        return run if run.rest and [one.retry_at for one in run.running] == due else None

    run = await until_found(parked, f"{name} is parked")
    [shown] = run.running
    assert (shown.step, shown.attempt, shown.max_attempts) == (1, 1, 3)
    assert shown.error == "Refused: refused 1"
    assert cause(run, run.updated_at).text.startswith(f"will retry step 1 retry_{name}")
    assert run.rest is not None
    assert run.rest.until is not None
    assert shown.retry_at is not None
    assert abs(run.rest.until - shown.retry_at) < timedelta(seconds=1)
    await hasten(engine, name)
    assert (await ended(engine, name)).output == 2
    assert tried(engine, name) == 2
    assert await outcomes(engine, name) == ["1 failed", "2 succeeded"]


async def hasten(engine: Engine, name: str) -> None:
    """Let the time of the next attempt have come."""
    for statement in (
        "update durable_workflows.attempts set next_at = now() where workflow_id = %s",
        "update durable_workflows.parked set due_at = now() where workflow_id = %s",
        "insert into durable_workflows.woken (workflow_id, version) select workflow_id, version from durable_workflows.parked where workflow_id = %s",
        "select pg_notify('durable_workflows_runs', concat_ws(E'\\t', 'WOKEN', version, workflow_id)) from durable_workflows.parked where workflow_id = %s",
    ):
        await value(engine, statement, name)


@proves("retry:error")
@pytest.mark.parametrize("name", CAUGHT)
async def test_the_error_of_the_last_attempt_is_raised_with_all_attempts_in_its_notes_also_by_a_replay(
    engine: Engine, name: str
) -> None:
    await engine.send(name, "go", "gone")
    assert (await ended(engine, name)).output == "gone"
    caught = engine.project / f"{name}.caught"
    first, *replays = map(json.loads, caught.read_text(encoding="utf-8").splitlines())
    assert replays
    assert all(one == first for one in replays)
    kind, message, number, notes = first
    assert (kind, message, number) == ("Refused", "refused 3", 3)
    assert [note.partition(" failed at ")[0] for note in notes] == [
        f"Attempt {n} of 3" for n in (1, 2, 3)
    ]
    assert notes[1].endswith(": Refused: refused 2")
    assert tried(engine, name) == 3


@proves("retry:shown")
async def test_failed_attempts_are_shown_with_their_errors_and_times_after_success_too(
    engine: Engine,
) -> None:
    assert (await run_to_end(engine, "shown", "quickly", fails=1)).output == 2
    run = await engine.reader.run("shown")
    second, first = run.attempts
    assert (first.step, first.name, first.max_attempts) == (1, "retry_quick", 3)
    assert first.failed_at is not None
    assert first.next_at is not None
    assert first.began_at <= first.failed_at < first.next_at <= second.began_at
    line = f"step 1 retry_quick: attempt 1 of 3 failed at {time(first.failed_at)}: Refused: refused 1 · the next one at {time(first.next_at)}"
    assert f"- {line}" in markdown(run)
    assert "- step 1 retry_quick: attempt 2 of 3 succeeded, began" in markdown(run)
    assert line in payload(run, which="attempts")
    shown = json.loads(trace_json.text(run, [], 0))["attempts"]
    assert [one["error"] for one in shown] == [None, "Refused: refused 1"]


async def test_a_step_that_succeeds_at_once_leaves_no_attempt(engine: Engine) -> None:
    assert (await run_to_end(engine, "at-once", "quickly", fails=0)).output == 1
    assert (await engine.reader.run("at-once")).attempts == []


@proves("retry:cost")
async def test_an_attempt_costs_statements_only_if_one_has_failed(engine: Engine) -> None:
    plain, successful, failing = counts = (await run_to_end(engine, "costs", "cost")).output  # type: ignore[misc]
    assert plain == successful == 20, counts
    assert failing == 40, counts


@proves("retry:classes")
@pytest.mark.parametrize(("kind", "times"), [("on", 2), ("sub", 2), ("not-on", 1), ("other", 1)])
async def test_the_class_of_an_error_decides_whether_it_is_tried_again(
    engine: Engine, kind: str, times: int
) -> None:
    found = await run_to_end(engine, f"some-{kind}", "some", kind=kind)
    assert tried(engine, f"some-{kind}") == times
    assert found.status == ("SUCCESS" if times == 2 else "ERROR")
    shown = ["1 failed", "2 succeeded"] if times == 2 else []
    assert await outcomes(engine, f"some-{kind}") == shown


@proves("retry:classes")
async def test_an_error_that_is_not_tried_again_ends_later_attempts_too(engine: Engine) -> None:
    found = await run_to_end(engine, "until-other", "until_other")
    assert "KeyError" in str(found.error)
    assert tried(engine, "until-other") == 2
    assert await outcomes(engine, "until-other") == ["1 failed", "2 failed"]


async def test_a_step_within_a_step_is_tried_once(engine: Engine) -> None:
    found = await run_to_end(engine, "within", "within")
    assert "refused 1" in str(found.error)
    assert tried(engine, "within") == 1
    assert (await engine.reader.run("within")).attempts == []


async def test_a_fork_shows_the_attempts_of_the_steps_that_it_took_over(engine: Engine) -> None:
    await run_to_end(engine, "forked", "quickly", fails=1)
    fork = await engine.fork("forked", 2)
    assert (await ended(engine, fork.workflow_id)).output == 2
    assert await outcomes(engine, fork.workflow_id) == ["1 failed", "2 succeeded"]
    anew = await engine.fork("forked", 1)
    assert (await ended(engine, anew.workflow_id)).output == 3
    assert await outcomes(engine, anew.workflow_id) == []


async def test_a_deleted_run_leaves_no_attempts(engine: Engine) -> None:
    await run_to_end(engine, "deleted", "quickly", fails=1)
    count = "select count(*) from durable_workflows.attempts where workflow_id = 'deleted'"
    assert await value(engine, count) == 2
    await engine.delete(["deleted"])
    assert await value(engine, count) == 0


# Without a run


async def test_the_time_between_attempts_grows_to_its_bound_and_varies_within_its_part() -> None:
    retry = Retry(attempts=1000, initial=1, backoff=2, max_delay=60, jitter=0)
    found = [retrying._delay(retry, number) for number in (1, 2, 6, 7, 999)]
    assert found == [1, 2, 32, 60, 60]
    assert retrying._delay(Retry(initial=1, backoff=1e300, max_delay=60, jitter=0), 9) == 60
    assert retrying._delay(Retry(initial=0), 5) == 0
    varied = [retrying._delay(Retry(initial=10, jitter=0.2), 1) for _ in range(1000)]
    assert 8 <= min(varied) < 8.5
    assert 11.5 < max(varied) <= 12
    bounded = [retrying._delay(Retry(initial=10, max_delay=10, jitter=0.2), 1) for _ in range(1000)]
    assert max(bounded) == 10


@pytest.mark.parametrize(
    "given",
    [
        {"attempts": 0},
        {"attempts": 1001},
        {"attempts": True},
        {"attempts": 2.0},
        {"initial": -1},
        {"initial": "1"},
        {"max_delay": float("inf")},
        {"max_delay": 1e9},
        {"backoff": 0.5},
        {"backoff": float("nan")},
        {"jitter": 1.5},
        {"on": BaseException},
        {"on": "ValueError"},
        {"not_on": (ValueError, KeyboardInterrupt)},
    ],
    ids=str,
)
async def test_a_value_out_of_its_bounds_is_refused_with_its_name(given: dict[str, Any]) -> None:
    [name] = given
    with pytest.raises(UsageError, match=f"Retry has {name}=") as refused:
        Retry(**given)
    assert refused.value.hint.startswith(f"Give {name} as ")


async def test_what_must_not_happen_twice_is_not_tried_again() -> None:
    for find in (None, lambda: None):
        with pytest.raises(UsageError, match="does not run again, and `retry` runs it again"):
            step(effect="once", retry=Retry(), find=find)


async def test_a_step_of_an_async_function_is_an_async_function() -> None:
    @step(retry=Retry(), name="is_async")
    async def is_async() -> int:
        return 1

    assert inspect.iscoroutinefunction(is_async)
    assert await is_async() == 1


async def test_outside_of_a_run_a_step_is_a_plain_function(tmp_path: Path) -> None:
    @step(retry=Retry(attempts=3, initial=0), name="outside_of_a_run")
    def fails() -> None:
        with (tmp_path / "tried").open("a", encoding="utf-8") as out:
            out.write("tried\n")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert (tmp_path / "tried").read_text(encoding="utf-8") == "tried\n"

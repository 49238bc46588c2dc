"""Names in the trace: what a sleep is for, and the scopes that steps are in. They are recorded with the step, and change nothing else."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, Run, StartRequest
from durable_workflows.telling.causes import cause
from durable_workflows.telling.traces import markdown
from helpers import kill_worker, parking_project, until_found, until_parked, value
from requirements import proves

pytestmark = pytest.mark.anyio
SLEEPERS = pytest.mark.parametrize("workflow", ["named_sleeper", "named_sleeper_async"])
NAME = "the market to open"


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with parking_project(tmp_path_factory, "naming") as engine:
        yield engine


async def start(engine: Engine, workflow: str, workflow_id: str, **args: JsonValue) -> None:
    await engine.start(StartRequest(name=workflow, args=args, workflow_id=workflow_id))


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=10)).done

    return (await until_found(done, f"{workflow_id} has ended"))[0]


async def run_to_end(engine: Engine, workflow: str, workflow_id: str, **args: JsonValue) -> Ended:
    await start(engine, workflow, workflow_id, **args)
    return await ended(engine, workflow_id)


async def asleep(engine: Engine, workflow_id: str) -> Run:
    async def found() -> Run | None:
        run = await engine.reader.run(workflow_id)
        return run if run.steps else None

    return await until_found(found, f"{workflow_id} sleeps")


async def called(engine: Engine, workflow_id: str) -> list[tuple[str, str | None]]:
    """The steps of a run, each with its scope."""
    return [(one.name, one.scope) for one in (await engine.reader.run(workflow_id)).steps]


@SLEEPERS
@proves("sleep:named")
async def test_what_a_run_sleeps_for_is_shown_in_its_cause_its_trace_and_in_lists(
    engine: Engine, workflow: str
) -> None:
    await start(engine, workflow, f"shown-{workflow}")
    run = await asleep(engine, f"shown-{workflow}")
    assert run.steps[0].label == NAME
    assert f" for {NAME!r} (for another " in cause(run, datetime.now(UTC)).text
    assert f"DBOS.sleep · for {NAME!r}" in markdown(run)
    [listed] = (await engine.reader.page(limit=1, cursor=None, name=workflow)).runs
    assert listed.asleep is not None
    assert listed.asleep.endswith(f" for {NAME}")
    await engine.cancel([f"shown-{workflow}"])
    [listed] = (await engine.reader.page(limit=1, cursor=None, name=workflow)).runs
    assert listed.asleep is None


@SLEEPERS
@proves("sleep:durable")
async def test_a_named_sleep_is_parked_and_ends_at_its_recorded_time_after_a_crash(
    engine: Engine, workflow: str
) -> None:
    name = f"crash-{workflow}"
    await start(engine, workflow, name, seconds=600)
    before = (await asleep(engine, name)).steps[0]
    await until_parked(engine, name)
    kill_worker(engine.project)
    early = "update {} set due_at = now() where workflow_id = %s"
    await value(engine, early.format("durable_workflows.parked") + " returning 1", name)
    # It is woken before its time, and sleeps on until the recorded one.
    again = await asleep(engine, name)
    assert (again.steps[0].output, again.steps[0].label) == (before.output, NAME)
    assert len(again.steps) == 1
    await engine.cancel([name])


async def test_a_sleep_without_a_name_is_one_of_dbos(engine: Engine) -> None:
    await run_to_end(engine, "named_sleeper", "nameless", name=None, seconds=0.01)
    steps = (await engine.reader.run("nameless")).steps
    assert [(one.name, one.label) for one in steps] == [("DBOS.sleep", None), ("note", None)]


@pytest.mark.parametrize("how", ["a moment", "the past", "a length", "no time"])
async def test_a_sleep_of_any_length_is_one_step(engine: Engine, how: str) -> None:
    name = how.replace(" ", "-")
    assert (await run_to_end(engine, "sleeps_until", name, how=how)).status == "SUCCESS"
    assert [one[0] for one in await called(engine, name)] == ["DBOS.sleep", "note"]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("no zone", "The end of a sleep has no time zone."),
        ("for ever", "A sleep cannot be inf long."),
        ("two lines", "The name of a sleep is 'one\\ntwo'."),
        ("an empty scope", "The name of a scope is ''."),
        ("in a step", "sleep was called outside of a workflow's body."),
    ],
)
async def test_what_is_not_possible_is_refused(engine: Engine, how: str, text: str) -> None:
    result = await run_to_end(engine, "sleeps_until", how.replace(" ", "-"), how=how)
    assert result.status == "ERROR"
    assert text in (result.error or "")


@proves("sleep:durable")
async def test_a_deadline_that_has_passed_at_the_replay_is_the_same_step(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "deadline"
    file.write_text((datetime.now(UTC) + timedelta(seconds=0.3)).isoformat(), encoding="utf-8")
    await start(engine, "deadline_is_over", "over", file=str(file))
    await until_parked(engine, "over")
    await engine.send("over", "word", "go")
    result = await ended(engine, "over")
    assert (result.status, result.error) == ("SUCCESS", None)
    assert [one[0] for one in await called(engine, "over")] == [
        "DBOS.sleep",
        "DBOS.recv",
        "DBOS.sleep",
        "note",
    ]


SCOPED = [
    ("note", None),
    ("note", "outer"),
    ("note_once", "outer/inner"),
    ("DBOS.setEvent", "outer/inner"),
    ("scoped_child", "outer/inner"),
    ("DBOS.getResult", "outer/inner"),
    ("scoped_child", "outer/inner"),
    ("DBOS.getResult", "outer/inner"),
    ("DBOS.sleep", "outer/inner"),
    ("DBOS.send", "outer"),
    ("DBOS.recv", "outer"),
    ("DBOS.sleep", "outer"),
    ("note", None),
]


@proves("scope:recorded")
async def test_each_step_is_recorded_with_the_scopes_around_it(engine: Engine) -> None:
    assert (await run_to_end(engine, "scoped", "scopes")).status == "SUCCESS"
    assert await called(engine, "scopes") == SCOPED
    run = await engine.reader.run("scopes")
    assert "3. outer/inner/ note_once" in markdown(run)
    assert run.steps[8].label == "a blink"
    child = run.steps[4].child_workflow_id
    assert child is not None
    assert await called(engine, child) == [("note", None)]


@proves("scope:recorded")
async def test_steps_that_run_at_the_same_time_are_each_in_their_own_scope(engine: Engine) -> None:
    await run_to_end(engine, "scoped_async", "at-once")
    steps = (await engine.reader.run("at-once")).steps
    scopes = {one.output.text: one.scope for one in steps if one.output}
    assert scopes == {
        '"1 a"': "both/a",
        '"2 a"': "both/a",
        '"1 b"': "both/b",
        '"2 b"': "both/b",
        '"after"': None,
    }


@proves("scope:changes-nothing")
async def test_a_scope_may_be_renamed_while_a_run_is_under_way(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "renamed"
    await start(engine, "scopes_that_change", "renamed", file=str(file))
    await until_parked(engine, "renamed")
    file.touch()
    await engine.send("renamed", "word", "go")
    assert (await ended(engine, "renamed")).error is None
    assert await called(engine, "renamed") == [
        ("note", "old"),
        ("DBOS.recv", "new"),
        ("DBOS.sleep", "old"),
        ("note", "new"),
    ]


@proves("scope:changes-nothing")
async def test_a_step_outside_of_scopes_makes_no_row(engine: Engine) -> None:
    await run_to_end(engine, "scoped", "rows")
    count = "select count(*) from durable_workflows.labels where workflow_id = %s"
    assert await value(engine, count, "rows") == sum(scope is not None for _, scope in SCOPED)


async def test_a_fork_takes_over_what_its_steps_are_called(engine: Engine) -> None:
    await run_to_end(engine, "scoped", "origin")
    fork = (await engine.fork("origin", 6)).workflow_id
    await ended(engine, fork)
    assert await called(engine, fork) == SCOPED

"""A cancelled run ends at once if it waits, keeps its results, and continues without doing a step twice at a time."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from pydantic_core import from_json

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.mcp import answers
from durable_workflows.models import Run, StartRequest
from durable_workflows.telling import traces
from helpers import copy_flow, until, until_found
from requirements import proves

pytestmark = pytest.mark.anyio

WAYS = ["sleep", "message", "event", "attempt", "child", "polled child", "first child"]


async def started(engine: Engine, name: str, **args: str) -> str:
    return (await engine.start(StartRequest(name=name, args=args))).workflow_id


async def seen(engine: Engine, workflow_id: str, ready: Callable[[Run], object]) -> Run:
    async def found() -> Run | None:
        run = await engine.reader.run(workflow_id)
        return run if ready(run) else None

    return await until_found(found, "the run is seen so")


async def output(engine: Engine, workflow_id: str) -> object:
    [ended] = (await engine.reader.wait([workflow_id], timeout_seconds=30)).done
    return ended.output


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


async def step_of(engine: Engine, folder: Path, name: str = "works", then: str = "") -> str:
    """A run in whose step a file says that it has begun, and another one lets it go on."""
    args = {"begun": str(folder / "begun"), "go_on": str(folder / "go-on")}
    workflow_id = await started(engine, name, **args, **({"then": then} if then else {}))
    await until(lambda: lines_of(folder / "begun"), "the step has begun")
    return workflow_id


async def ends_after_one_step(engine: Engine, workflow_id: str, folder: Path) -> None:
    """Let the step of `step_of` go on, and its run to the end: it has done the step once."""
    (folder / "go-on").touch()
    await seen(engine, workflow_id, lambda run: run.waiting)
    await engine.send(workflow_id, "go", "on")
    assert await output(engine, workflow_id) == "done"
    assert lines_of(folder / "begun") == ["begun", "ended"]


async def follow_next(engine: Engine, workflow_id: str) -> None:
    """Do what `inspect` says, to the letter."""
    text = traces.markdown(await engine.reader.run(workflow_id))
    found = re.search(r"\*\*Next:?\*\*:? (\w+)\((.*?)\)", text)
    assert found is not None, text
    tool, arguments = found.groups()
    given: dict[str, Any] = from_json("{" + re.sub(r"(\w+)=", r'"\1": ', arguments) + "}")
    await getattr(engine, tool)(**given)


@proves("cancel:ends-waits")
@pytest.mark.parametrize("name", ["waits", "waits_async"])
async def test_a_cancelled_run_stops_waiting(shared: Engine, tmp_path: Path, name: str) -> None:
    left = {how: tmp_path / how for how in WAYS}
    runs = [await started(shared, name, how=how, file=str(left[how])) for how in WAYS]
    for run, how in zip(runs, WAYS, strict=True):
        await seen(shared, run, lambda run: run.steps or run.waiting or run.running)
        assert not left[how].exists()
    await shared.cancel(runs)
    for how in WAYS:
        await until(left[how].exists, f"the wait for a {how} has ended", seconds=15)
    for run in runs:
        for child in (await shared.reader.run(run)).children:
            assert child.status == "PENDING"
            await shared.cancel([child.workflow_id])


@proves("cancel:ends-waits")
async def test_the_end_of_a_run_does_not_end_the_wait_for_its_event(
    shared: Engine, tmp_path: Path
) -> None:
    """Cancelled, the run whose event it is may be resumed, and set it."""
    await shared.start(StartRequest(name="rests", workflow_id="the-silent-one"))
    waits = await started(shared, "waits", how="event", file=str(tmp_path / "left"))
    await seen(shared, waits, lambda run: run.steps)
    await shared.cancel(["the-silent-one"])
    late = await started(shared, "waits", how="sleep", file=str(tmp_path / "late"))
    await seen(shared, late, lambda run: run.steps)
    await shared.cancel([late])
    await until((tmp_path / "late").exists, "a later cancellation was heard of")
    assert (await shared.reader.run(waits)).status == "PENDING"
    await shared.cancel([waits])


@proves("cancel:ends-waits")
async def test_who_awaits_a_cancelled_run_goes_on_at_once(shared: Engine, tmp_path: Path) -> None:
    args = {"begun": str(tmp_path / "begun"), "go_on": str(tmp_path / "go-on")}
    runs = [
        await started(shared, name, kind=kind, **args)
        for name in ("awaits_timed_child", "awaits_timed_child_async")
        for kind in ("sleep", "step")
    ]
    runs.append(await started(shared, "calls_timed_child"))
    result = await shared.reader.wait(runs, timeout_seconds=20)
    assert [one.output for one in result.done] == ["cancelled"] * len(runs)
    (tmp_path / "go-on").touch()


@proves("cancel:keeps-step", "resume:not-twice-at-once")
@pytest.mark.parametrize("name", ["works", "works_async"])
async def test_a_resumed_run_takes_over_the_step_that_it_was_cancelled_in(
    shared: Engine, tmp_path: Path, name: str
) -> None:
    workflow_id = await step_of(shared, tmp_path, name)
    await shared.cancel([workflow_id])
    await shared.resume([workflow_id])
    await seen(shared, workflow_id, lambda run: run.status == "PENDING")
    other = await started(shared, "awaits_timed_child_async", kind="sleep", begun="", go_on="")
    assert await output(shared, other) == "cancelled"  # the worker goes on with others
    assert lines_of(tmp_path / "begun") == ["begun"]
    (tmp_path / "go-on").touch()
    if name == "works":
        await seen(shared, workflow_id, lambda run: run.waiting)
        await shared.send(workflow_id, "go", "on")
    assert await output(shared, workflow_id) == "done"
    assert lines_of(tmp_path / "begun") == ["begun", "ended"]


@proves("cancel:keeps-step")
@pytest.mark.parametrize(("then", "expected"), [("", "done"), ("badly", "failed: badly")])
async def test_the_result_of_a_step_is_kept_whose_run_was_cancelled_meanwhile(
    shared: Engine, tmp_path: Path, then: str, expected: str
) -> None:
    workflow_id = await step_of(shared, tmp_path, then=then)
    run = await seen(shared, workflow_id, lambda run: run.running)
    [cancelled] = (await shared.cancel([workflow_id])).workflows
    kept = "step 1 work still runs until it returns, and its result is kept"
    assert cancelled.note == f"cancelled; {kept}"
    run = await shared.reader.run(workflow_id)
    assert f"cancelled; {kept}." in traces.markdown(run)
    (tmp_path / "go-on").touch()
    run = await seen(shared, workflow_id, lambda run: run.steps)
    assert run.status == "CANCELLED"
    await follow_next(shared, workflow_id)
    await seen(shared, workflow_id, lambda run: run.waiting)
    await shared.send(workflow_id, "go", "on")
    assert await output(shared, workflow_id) == expected
    assert lines_of(tmp_path / "begun") == ["begun", "ended"]


@proves("resume:not-twice-at-once")
async def test_a_run_may_be_cancelled_and_resumed_again_and_again(
    shared: Engine, tmp_path: Path
) -> None:
    workflow_id = await step_of(shared, tmp_path)
    for _ in range(3):
        await shared.cancel([workflow_id])
        [resumed] = (await shared.resume([workflow_id])).workflows
        assert resumed.changed
        await seen(shared, workflow_id, lambda run: run.status == "PENDING")
    await ends_after_one_step(shared, workflow_id, tmp_path)


@proves("resume:not-twice-at-once")
async def test_a_run_that_another_worker_might_take_is_not_resumed_while_its_step_still_runs(
    shared: Engine, tmp_path: Path
) -> None:
    workflow_id = await step_of(shared, tmp_path)
    version = (await seen(shared, workflow_id, lambda run: run.running)).version
    await shared.cancel([workflow_id])
    other = "insert into durable_workflows.workers (executor_id, version, pid, host, state) values ('other', %s, 1, 'elsewhere', 'ready')"
    async with await tables.connect(shared.connection.database, role="test") as connection:
        await connection.execute(other, [version])
        try:
            [refused] = (await shared.resume([workflow_id])).workflows
        finally:
            await connection.execute(
                "delete from durable_workflows.workers where executor_id = 'other'"
            )
    assert not refused.changed
    assert refused.note.startswith("step 1 work still runs from before")
    (tmp_path / "go-on").touch()


@proves("resume:with-children")
async def test_after_a_cancellation_with_children_the_next_call_brings_all_to_their_ends(
    shared: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "done"
    waiting = (2, 3, 4)
    items: list[JsonValue] = [
        {"name": str(number), "waits": number in waiting} for number in range(6)
    ]
    common: JsonValue = {"file": str(file)}
    args: dict[str, JsonValue] = {
        "workflow": "gated",
        "items": items,
        "common": common,
        "concurrency": 3,
    }
    request = StartRequest(name="fan_out", args=args)
    fan = (await shared.start(request)).workflow_id
    await until(lambda: len(lines_of(file)) == 2, "the first items are done")
    await seen(shared, fan, lambda run: len(run.children) == 5)
    cancelled = await shared.cancel([fan], children=True)
    changed = {one.workflow_id for one in cancelled.workflows}
    assert changed == {fan, *(f"{fan}-{number}" for number in waiting)}
    assert cancelled.note == "2 runs that these started had already ended."
    run = await shared.reader.run(fan)
    assert run.stopped_children == 3
    assert "cancelled; 3 runs that it started are stopped too." in traces.markdown(run)
    await follow_next(shared, fan)
    for number in waiting:
        await shared.send(f"{fan}-{number}", "gate", "open")
    report = await output(shared, fan)
    assert isinstance(report, dict)
    assert (report["ok"], report["succeeded"]) == (True, 6)
    assert sorted(lines_of(file)) == [str(number) for number in range(6)]


@proves("resume:with-children")
async def test_a_resumed_parent_says_that_its_children_stay_stopped(
    shared: Engine, tmp_path: Path
) -> None:
    parent = await started(shared, "waits", how="child", file=str(tmp_path / "left"))
    await seen(shared, parent, lambda run: run.children)
    await shared.cancel([parent], children=True)
    [resumed] = (await shared.resume([parent])).workflows
    assert resumed.note.startswith(f"resumed; {parent}-1, which it started, stays stopped")
    assert "children=true" in resumed.note


async def test_what_a_cancellation_left_as_it_was_is_counted(shared: Engine) -> None:
    items: list[JsonValue] = [{"by": 1}] * 40
    args: dict[str, JsonValue] = {"workflow": "divides", "items": items, "concurrency": 40}
    request = StartRequest(name="fan_out", args=args)
    fan = (await shared.start(request)).workflow_id
    await output(shared, fan)
    answer = answers.fit_changed(await shared.cancel([fan], children=True))
    assert [one.workflow_id for one in answer.workflows] == [fan]
    assert answer.note == "40 runs that these started had already ended."
    assert len(answer.model_dump_json()) < 400


SLOW = """
import time

from dbos._sys_db import SystemDatabase

claim = SystemDatabase.start_queued_workflows


def late(self, *given, **named):
    found = claim(self, *given, **named)
    time.sleep(2 if found[0] else 0)
    return found


SystemDatabase.start_queued_workflows = late
"""


@pytest.mark.long
@proves("cancel:keeps-step", "resume:not-twice-at-once")
async def test_the_result_of_a_step_is_kept_that_returns_before_its_resumed_run_has_begun(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    """Taken up from the queue, as the database has it, and not begun in the worker: on a busy machine that takes a while."""
    copy_flow("cancelling", folder)
    with (folder / "workflows" / "cancelling.py").open("a", encoding="utf-8") as file:
        file.write(SLOW)
    engine = await project.engine()
    workflow_id = await step_of(engine, tmp_path)
    await engine.cancel([workflow_id])
    await engine.resume([workflow_id])
    await seen(engine, workflow_id, lambda run: run.status == "PENDING")
    await ends_after_one_step(engine, workflow_id, tmp_path)

"""Runs over a list and several workflows at once: in order, within their limits, with what failures are tolerated, and none started twice."""

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

import psutil
import pytest
from dbos import WorkflowStatus

from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, StartRequest
from durable_workflows.settings import MAX_PAYLOAD_BYTES, Settings
from helpers import (
    dbos_client_of,
    is_parked,
    kill_worker,
    processes_of,
    running_project,
    until,
    until_found,
)
from helpers import value as sql
from requirements import proves

pytestmark = pytest.mark.anyio
Items = list[dict[str, Any]]

WAYS = pytest.mark.parametrize("way", ["many_over", "many_over_async"])


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project whose worker has a place for one run only, and parks soon."""
    folder = (tmp_path_factory.mktemp("many") / "project").resolve()
    settings = Settings(project=folder, concurrency=1, park_after_seconds=0.2)
    async with running_project(settings, ["many"]) as engine:
        yield engine


def lines(engine: Engine, name: str) -> list[str]:
    file = engine.project / name
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


async def start(engine: Engine, workflow: str, workflow_id: str, **args: Any) -> None:
    await engine.start(StartRequest(name=workflow, args=args, workflow_id=workflow_id))


async def ended(engine: Engine, workflow_id: str, *, seconds: float = 60.0) -> WorkflowStatus:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=10)).done

    await until_found(done, f"{workflow_id} has ended", seconds=seconds)
    with dbos_client_of(engine) as client:
        (run,) = await client.list_workflows_async(workflow_ids=[workflow_id])
    return run


async def output(engine: Engine, workflow_id: str, *, seconds: float = 60.0) -> Any:
    run = await ended(engine, workflow_id, seconds=seconds)
    assert run.status == "SUCCESS", (run.status, run.error)
    return run.output


async def problem(engine: Engine, workflow_id: str) -> str:
    run = await ended(engine, workflow_id)
    assert run.status == "ERROR", run.output
    return f"{getattr(run.error, 'name', '')}: {run.error}"


async def children(engine: Engine, workflow_id: str) -> dict[str, WorkflowStatus]:
    with dbos_client_of(engine) as client:
        found = await client.list_workflows_async(parent_workflow_id=workflow_id)
    return {child.workflow_id: child for child in found}


async def over(
    engine: Engine, workflow_id: str, items: Items, way: str = "many_over", **limits: Any
) -> Any:
    await start(engine, way, workflow_id, items=items, limits=limits)
    return await output(engine, workflow_id)


def numbered(count: int, *, failing: int = 0, **more: Any) -> Items:
    """Items of which the first ones fail."""
    return [{"number": number, "fail": number < failing, **more} for number in range(count)]


# --- What comes back


@WAYS
@proves("many:in-order")
async def test_outcomes_come_in_the_order_of_the_items_whichever_ends_first(
    engine: Engine, way: str
) -> None:
    workflow_id = f"order-{way}"
    items = numbered(4, wait=True)
    await start(engine, way, workflow_id, items=items, limits={"concurrency": 3})
    for left in (3, 3, 2, 1):
        current = await until_waiting(engine, workflow_id, left)
        await engine.send(current[-1], "go", 1)
        await until_found(lambda one=current[-1]: is_over(engine, one), "it has ended")
    report = await output(engine, workflow_id)
    assert [one["output"] for one in report["runs"]] == [0, 2, 4, 6]
    assert (report["ok"], report["succeeded"], report["failed"]) == (True, 4, 0)
    ids = [one["workflow_id"] for one in report["runs"]]
    assert ids == in_order(await children(engine, workflow_id))


async def until_waiting(engine: Engine, workflow_id: str, count: int) -> list[str]:
    """The unfinished children, in the order of their starts, once there are so many, and the call waits for them."""

    async def waiting() -> list[str]:
        found = await children(engine, workflow_id)
        unfinished = [run for run in in_order(found) if found[run].status == "PENDING"]
        assert len(unfinished) <= count
        ready = len(unfinished) == count and await is_parked(engine, workflow_id)
        return unfinished if ready else []

    return await until_found(waiting, f"{count} runs of {workflow_id} wait")


def in_order(runs: Iterable[str]) -> list[str]:
    """In the order of their starts: the id ends with the number of the step."""
    return sorted(runs, key=lambda run: int(run.rpartition("-")[2]))


@WAYS
async def test_a_failure_is_an_outcome_with_its_error_and_stops_no_other(
    engine: Engine, way: str
) -> None:
    report = await over(engine, f"fails-{way}", numbered(3, failing=1), way)
    assert (report["ok"], report["succeeded"], report["failed"]) == (False, 2, 1)
    first, *rest = report["runs"]
    assert (first["status"], first["output"]) == ("ERROR", None)
    assert first["error"] == "KeyError: 'no 0'"
    assert [one["output"] for one in rest] == [2, 4]


async def test_the_error_is_of_the_class_that_the_run_raised(engine: Engine) -> None:
    await start(engine, "many_catches", "catches", items=numbered(1, failing=1))
    assert await output(engine, "catches") == "caught ('no 0',)"


async def test_no_items_are_no_runs(engine: Engine) -> None:
    report = await over(engine, "nothing", [])
    assert (report["ok"], report["runs"]) == (True, [])


async def test_what_one_call_returns_goes_into_the_next(engine: Engine) -> None:
    await start(engine, "many_twice", "twice", items=numbered(4))
    assert await output(engine, "twice") == [0, 4, 8, 12]


async def test_async_workflows_run_over_items_and_outputs_raise_if_one_failed(
    engine: Engine,
) -> None:
    await start(engine, "many_async_items", "async-items", items=numbered(3))
    assert await output(engine, "async-items") == [0, 2, 4]
    await start(engine, "many_async_items", "async-fails", items=numbered(3, failing=1))
    said = await problem(engine, "async-fails")
    assert "RunsFailed: 1 of 3 runs failed, 2 succeeded." in said
    assert "KeyError: 'no 0'" in said


async def test_a_cancelled_child_has_failed(engine: Engine) -> None:
    items: Items = [{"number": 0, "wait": True}, {"number": 1}]
    await start(engine, "many_over", "child-cancelled", items=items, limits={})
    await until_running(engine, "child-cancelled", 1)
    [waiting] = [
        run
        for run, child in (await children(engine, "child-cancelled")).items()
        if child.status == "PENDING"
    ]
    await engine.cancel([waiting])
    report = await output(engine, "child-cancelled")
    assert (report["failed"], report["stopped"]) == (1, 0)
    assert "was cancelled" in report["runs"][0]["error"]


async def until_running(engine: Engine, workflow_id: str, count: int) -> None:
    """Wait until the progress says that so many are still running."""

    async def running() -> bool:
        told = await progress(engine, workflow_id)
        return told is not None and told["running"] == count

    await until_found(running, f"{count} runs of {workflow_id} are under way")


async def progress(engine: Engine, workflow_id: str) -> Any:
    with dbos_client_of(engine) as client:
        return await client.get_event_async(workflow_id, "progress", timeout_seconds=0)


@proves("many:progress")
@pytest.mark.long
async def test_the_progress_is_an_event_of_at_most_a_hundred_values(engine: Engine) -> None:
    report = await over(engine, "progress", numbered(120, failing=1), concurrency=1)
    assert report["succeeded"] == 119
    counts = {"total": 120, "succeeded": 119, "failed": 1, "running": 0}
    assert await progress(engine, "progress") == counts
    count = "select count(*) from dbos.workflow_events_history where workflow_uuid = %s"
    assert 1 <= await sql(engine, count, "progress") <= 100


# --- Policies


POLICIES: dict[str, tuple[dict[str, Any], int, bool]] = {
    # The limits, how many of ten fail, whether the call returns.
    "enough-succeed": ({"min_successful": 7}, 3, True),
    "too-few-succeed": ({"min_successful": 8}, 3, False),
    "as-many-as-tolerated": ({"tolerated_failures": 3}, 3, True),
    "more-than-tolerated": ({"tolerated_failures": 2}, 3, False),
    "none-is-tolerated": ({"tolerated_failures": 0}, 1, False),
    "as-many-percent": ({"tolerated_percentage": 30}, 3, True),
    "more-percent": ({"tolerated_percentage": 29.9}, 3, False),
    "the-strictest-counts": ({"tolerated_failures": 5, "min_successful": 9}, 2, False),
    "more-than-there-are": ({"min_successful": 11}, 0, False),
}


@pytest.mark.parametrize("name", POLICIES)
@proves("many:policies")
async def test_a_policy_decides_whether_the_call_returns(engine: Engine, name: str) -> None:
    limits, failing, returns = POLICIES[name]
    items = numbered(10, failing=failing)
    await start(engine, "many_over", name, items=items, limits={**limits, "concurrency": 4})
    if returns:
        report = await output(engine, name)
        assert (report["succeeded"], report["failed"]) == (10 - failing, failing)
        return
    said = await problem(engine, name)
    assert re.search(r"RunsFailed: \d of 10 runs failed, \d+ succeeded", said)
    assert (failing == 0) == ("KeyError" not in said)


@WAYS
@proves("many:stops")
async def test_too_many_failures_cancel_the_rest_and_start_no_more(
    engine: Engine, way: str
) -> None:
    workflow_id = f"gives-up-{way}"
    items = [{"number": 0, "fail": True}, *numbered(9, wait=True)]
    limits = {"tolerated_failures": 0, "concurrency": 3}
    await start(engine, way, workflow_id, items=items, limits=limits)
    said = await problem(engine, workflow_id)
    assert "1 of 10 runs failed, 0 succeeded, 2 stopped, 7 not started." in said
    statuses = Counter(one.status for one in (await children(engine, workflow_id)).values())
    assert statuses == {"ERROR": 1, "CANCELLED": 2}


@WAYS
@proves("many:stops")
async def test_enough_successes_end_an_early_call_and_cancel_the_rest(
    engine: Engine, way: str
) -> None:
    items = [*numbered(2), *numbered(8, wait=True)]
    report = await over(
        engine, f"early-{way}", items, way, min_successful=2, stop_early=True, concurrency=4
    )
    assert (report["succeeded"], report["failed"]) == (2, 0)
    assert report["stopped"] + report["not_started"] == 8
    assert {one["status"] for one in report["runs"][2:]} == {"STOPPED", "NOT_STARTED"}
    found = await children(engine, f"early-{way}")
    assert all(one.status in ("SUCCESS", "CANCELLED") for one in found.values())


async def test_without_stop_early_all_go_on_to_their_ends(engine: Engine) -> None:
    report = await over(engine, "to-the-end", numbered(6), min_successful=1, concurrency=2)
    assert report["succeeded"] == 6


WRONG: dict[str, dict[str, Any]] = {
    "`concurrency` is less than 1": {"concurrency": 0},
    "cannot be negative": {"tolerated_failures": -1},
    "more than 100": {"tolerated_percentage": 101},
    "nothing says when enough runs have succeeded": {"stop_early": True},
}


@pytest.mark.parametrize("text", WRONG)
async def test_a_limit_that_is_not_possible_is_refused_before_anything_starts(
    engine: Engine, text: str
) -> None:
    name = f"wrong-{list(WRONG).index(text)}"
    await start(engine, "many_over", name, items=numbered(2), limits=WRONG[text])
    said = await problem(engine, name)
    assert "InvalidArguments" in said
    assert text in said
    assert await children(engine, name) == {}


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("a step", "many_not_a_workflow is not a workflow."),
        ("in a step", "map_runs was called outside of a workflow's body."),
    ],
)
async def test_a_wrong_use_is_named(engine: Engine, how: str, text: str) -> None:
    name = how.replace(" ", "-")
    await start(engine, "many_wrong", name, how=how)
    assert text in await problem(engine, name)


# --- Several workflows


@proves("many:by-name")
async def test_several_workflows_run_at_once_and_are_found_by_their_names(engine: Engine) -> None:
    await start(engine, "many_gather", "gathers", wait=False, limits={})
    report = await output(engine, "gathers")
    outputs = {name: one["output"] for name, one in report["runs"].items()}
    assert outputs == {"sync": 2, "async": 4, "nested": 3, "last": 8}
    assert list(outputs) == ["sync", "async", "nested", "last"]
    await start(engine, "many_gather_async", "gathers-async", limits={"concurrency": 1})
    report = await output(engine, "gathers-async")
    assert {name: one["output"] for name, one in report["runs"].items()} == {"one": 2, "two": 4}


async def test_several_workflows_have_the_same_policies(engine: Engine) -> None:
    limits = {"min_successful": 3, "stop_early": True}
    await start(engine, "many_gather", "gathers-early", wait=True, limits=limits)
    report = await output(engine, "gathers-early")
    assert (report["succeeded"], report["runs"]["last"]["status"]) == (3, "STOPPED")


# --- Nesting, waits, crashes


@proves("many:nested")
@pytest.mark.long
async def test_calls_inside_of_calls_never_keep_each_other_from_starting(engine: Engine) -> None:
    for number in range(3):
        await start(engine, "many_nested", f"nested-{number}", depth=4)
    for number in range(3):
        assert await output(engine, f"nested-{number}") == 2**5 - 1


@WAYS
async def test_a_call_whose_runs_wait_is_parked_and_goes_on(engine: Engine, way: str) -> None:
    workflow_id = f"parked-{way}"
    items = numbered(3, wait=True)
    await start(engine, way, workflow_id, items=items, limits={"concurrency": 2})
    for left in (2, 2, 1):
        child, *_ = await until_waiting(engine, workflow_id, left)
        await engine.send(child, "go", 1)
        await until_found(lambda one=child: is_over(engine, one), f"{child} has ended")
    report = await output(engine, workflow_id)
    assert report["succeeded"] == 3
    assert len(await children(engine, workflow_id)) == 3


async def is_over(engine: Engine, workflow_id: str) -> bool:
    over_ = "select status = 'SUCCESS' from dbos.workflow_status where workflow_uuid = %s"
    return bool(await sql(engine, over_, workflow_id))


@pytest.mark.long
@WAYS
@proves("many:crash")
async def test_after_a_crash_nothing_is_started_twice_and_the_outcomes_are_right(
    engine: Engine, way: str
) -> None:
    file = f"crash-{way}"
    items = numbered(20, seconds=0.2, file=file)
    await start(engine, way, file, items=items, limits={"concurrency": 4})
    for so_far in (8, 24):
        await until(lambda n=so_far: len(lines(engine, file)) > n, f"{so_far} lines of {file}")
        kill_worker(engine.project)
    report = await output(engine, file)
    assert [one["output"] for one in report["runs"]] == list(range(0, 40, 2))
    assert len(await children(engine, file)) == 20
    began = Counter(line for line in lines(engine, file) if line.startswith("begin"))
    assert set(began) == {f"begin {number}" for number in range(20)}
    # At most four were in the middle of their step at each of the two crashes.
    assert sum(began.values()) <= 20 + 8, began


@proves("many:crash")
@pytest.mark.long
async def test_a_replay_of_every_gap_takes_the_same_path(engine: Engine) -> None:
    """A fork from each step repeats what comes after it: it starts only the children that were not recorded, and no step differs."""
    report = await over(engine, "gaps", numbered(4, failing=1), concurrency=2)
    with dbos_client_of(engine) as client:
        steps = await client.list_workflow_steps_async("gaps")
    for step in [*(one["function_id"] for one in steps), len(steps) + 1]:
        before = sum(
            one["child_workflow_id"] is not None for one in steps if one["function_id"] < step
        )
        fork = (await engine.fork("gaps", step)).workflow_id
        again = await output(engine, fork)
        assert [one["output"] for one in again["runs"]] == [one["output"] for one in report["runs"]]
        assert len(await children(engine, fork)) == 4 - before


# --- Large


@proves("many:bounded")
async def test_no_recorded_value_is_larger_than_the_limit(engine: Engine) -> None:
    await start(engine, "many_thousands", "large", count=30, text="x" * 150)
    assert (await output(engine, "large"))["characters"] == 30 * 150_000
    largest = "select max(length(output)) from dbos.operation_outputs where workflow_uuid = %s"
    assert await sql(engine, largest, "large") < 1.1 * MAX_PAYLOAD_BYTES


@pytest.mark.long
@pytest.mark.timeout(900)
@proves("many:bounded")
async def test_ten_thousand_items_run_in_order_and_in_bounded_memory(engine: Engine) -> None:
    await start(engine, "many_thousands", "warm-up", count=200, text="")
    await output(engine, "warm-up")
    [worker] = processes_of(engine.project, "worker")
    before, began = memory_of(worker), time.monotonic()
    await start(engine, "many_thousands", "thousands", count=10_000, text="")
    report = await output(engine, "thousands", seconds=900)
    said = f"{time.monotonic() - began:.0f} s, {(memory_of(worker) - before) / 1e6:.0f} MB"
    assert (report["succeeded"], report["in_order"]) == (10_000, True)
    assert memory_of(worker) - before < 150e6, said
    assert len(await children(engine, "thousands")) == 10_000


def memory_of(process: psutil.Process) -> int:
    return process.memory_info().rss

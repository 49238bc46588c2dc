"""Runs over a list: in order, bounded, with their failures, and none started twice."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dbos import WorkflowHandleAsync

from durable_workflows.cli import printing
from durable_workflows.engine import following
from durable_workflows.errors import InvalidArguments
from durable_workflows.mcp.server import build_server
from helpers import until, until_found
from mcp import Client

from .home import Home, a_home

pytestmark = pytest.mark.anyio

FLOWS = '''
import time
from pathlib import Path
from dbos import DBOS

@DBOS.step()
def work(file: str, line: str, seconds: float) -> None:
    with Path(file).open("a") as lines:
        lines.write(f"begin {line}\\n")
    time.sleep(seconds)
    with Path(file).open("a") as lines:
        lines.write(f"end {line}\\n")

@DBOS.workflow()
def double(number: int, file: str = "noise", seconds: float = 0.0, fail: bool = False) -> int:
    """Double a number."""
    work(file, str(number), seconds)
    if fail:
        raise KeyError(f"no {number}")
    return 2 * number

@DBOS.workflow()
def long_text(length: int) -> str:
    """Return a long text."""
    return "x" * length

@DBOS.workflow()
def with_options(options: dict[str, int], cls: str = "none") -> str:
    """Has arguments that DBOS itself has."""
    return f"{cls} {options}"

@DBOS.workflow()
def verdict(ok: bool) -> dict[str, bool]:
    """Return whether all is well."""
    return {"ok": ok}

@DBOS.workflow()
def edition(wait: bool = False) -> str:
    """Tell from which edition of the file it is."""
    if wait:
        DBOS.recv("go", timeout_seconds=300)
    return "first"

@DBOS.workflow()
def tells(length: int) -> None:
    """Say much of its progress, and sleep."""
    DBOS.set_event("progress", "x" * length)
    DBOS.sleep(300)

@DBOS.workflow()
def waits(seconds: float = 300.0) -> None:
    """Wait for a message."""
    DBOS.recv("go", timeout_seconds=seconds)
'''
Args = dict[str, Any]
# How many runs the queue of the project takes: no more than wait for others in some tests.
AT_ONCE = 3


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    folder = tmp_path_factory.mktemp("fan_out") / "project"
    async with a_home(folder, FLOWS, concurrency=AT_ONCE) as home:
        yield home


def most_at_once(lines: list[str]) -> int:
    """How many pieces of work were under way at most."""
    now = most = 0
    for line in lines:
        now += 1 if line.startswith("begin") else -1
        most = max(most, now)
    return most


async def test_results_come_in_the_order_of_the_items_whichever_ends_first(home: Home) -> None:
    items = [{"number": number, "seconds": (5 - number) / 10} for number in range(6)]
    args = {"workflow": "double", "items": items, "common": {"file": "order", "number": 99}}
    report = await home.run("fan_out", args | {"concurrency": 3}, "in-order")
    assert report["ok"] is True
    assert (report["succeeded"], report["failed"], report["not_started"]) == (6, 0, 0)
    assert report["results"] == [
        {"status": "SUCCESS", "workflow_id": f"in-order-{number}", "output": 2 * number}
        for number in range(6)
    ]
    assert most_at_once(home.lines("order")) == 3


async def test_the_runs_are_children_on_the_same_version(home: Home) -> None:
    items = [{"number": 1}, {"number": 2}]
    await home.run("fan_out", {"workflow": "double", "items": items}, "parent")
    children = await home.children("parent")
    assert set(children) == {"parent-0", "parent-1"}
    version = (await home.look("parent")).app_version
    assert {child.app_version for child in children.values()} == {version}
    tree = await home.engine.reader.tree("parent")
    assert {child.workflow_id for child in tree} == {"parent-0", "parent-1"}


async def test_a_wait_tells_how_many_runs_have_ended_and_the_progress_that_the_run_tells(
    home: Home,
) -> None:
    items: list[Args] = [{}, {"wait": True}, {}]
    await home.start("fan_out", {"workflow": "edition", "items": items}, "told")

    async def is_told() -> bool:
        [running] = (await home.engine.reader.wait(["told"], timeout_seconds=0)).running
        return running.children_done == 2 and '"succeeded":2' in (running.progress or "")

    await until_found(is_told, "two of three are told")
    said: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        said.append(message or "")

    arguments: Args = {"workflow_ids": ["told"], "timeout_seconds": 0.5}
    async with Client(build_server(home.project.settings)) as client:
        answer = await client.call_tool("wait_for_workflows", arguments, progress_callback=note)
    assert answer.structured_content is not None
    [running] = answer.structured_content["running"]
    assert (running["children"], running["children_done"]) == (1, 2)
    counts = {"total": 3, "succeeded": 2, "failed": 0, "running": 1}
    assert json.loads(running["progress"]) == counts
    how = f"{running['step']} · 2 of 3 runs ended · progress {running['progress']}"
    assert f"0 done; told: {how}" in said
    shown = await following.wait(
        home.engine.reader, ["told"], until="all", seconds=0.5, tell=said.append, show=said.append
    )
    assert printing.waited_text(shown) == f"told  PENDING  {how}"
    await home.engine.send("told-1", "go", 1)
    assert (await home.output("told"))["succeeded"] == 3


async def test_what_a_run_says_of_its_progress_is_cut(home: Home) -> None:
    await home.start("tells", {"length": 100_000}, "tells")

    async def told() -> str | None:
        return (await home.engine.reader.wait(["tells"], timeout_seconds=0)).running[0].progress

    progress = await until_found(told, "its progress")
    assert len(progress) == 200
    assert progress.endswith("xx…")
    await home.engine.cancel(["tells"])


async def test_a_failure_is_listed_and_stops_no_other(home: Home) -> None:
    items = [{"number": 0}, {"number": 1, "fail": True}, {"number": 2}]
    args = {"workflow": "double", "items": items, "concurrency": 1}
    report = await home.run("fan_out", args, "one-fails")
    assert (report["ok"], report["succeeded"], report["failed"]) == (False, 2, 1)
    assert report["failures"] == [
        {
            "index": 1,
            "workflow_id": "one-fails-1",
            "status": "ERROR",
            "error": {"name": "KeyError", "message": "'no 1'"},
        }
    ]
    statuses = [result["status"] for result in report["results"]]
    assert statuses == ["SUCCESS", "ERROR", "SUCCESS"]
    assert await home.event("one-fails", "progress") == {
        "total": 3,
        "succeeded": 2,
        "failed": 1,
        "running": 0,
    }


async def test_a_run_that_returns_ok_false_has_failed(home: Home) -> None:
    report = await home.run(
        "fan_out", {"workflow": "verdict", "items": [{"ok": True}, {"ok": False}]}
    )
    assert (report["ok"], report["succeeded"], report["failed"]) == (False, 1, 1)
    assert report["failures"][0]["error"] == {
        "name": "NotOk",
        "message": "it returned `ok` false",
    }
    assert report["results"][1]["output"] == {"ok": False}
    assert [result["status"] for result in report["results"]] == ["SUCCESS", "NOT_OK"]


async def test_with_stop_on_failure_nothing_more_is_started(home: Home) -> None:
    items = [{"number": 0}, {"number": 1, "fail": True}, {"number": 2}, {"number": 3}]
    args = {"workflow": "double", "items": items, "concurrency": 1, "stop_on_failure": True}
    report = await home.run("fan_out", args, "stopped")
    assert (report["ok"], report["failed"], report["not_started"]) == (False, 1, 2)
    assert report["results"][2:] == [{"status": "NOT_STARTED"}, {"status": "NOT_STARTED"}]
    assert set(await home.children("stopped")) == {"stopped-0", "stopped-1"}


async def test_a_run_that_takes_too_long_is_cancelled_and_listed(home: Home) -> None:
    args: Args = {"workflow": "waits", "items": [{}], "timeout_seconds": 0.5}
    report = await home.run("fan_out", args, "too-long")
    (failure,) = report["failures"]
    assert (failure["status"], failure["workflow_id"]) == ("CANCELLED", "too-long-0")


async def test_an_empty_list_is_done(home: Home) -> None:
    report = await home.run("fan_out", {"workflow": "double", "items": []})
    assert (report["ok"], report["results"]) == (True, [])


async def test_arguments_may_have_the_names_that_dbos_uses_itself(home: Home) -> None:
    items: list[Args] = [{"options": {"a": 1}}, {"options": {}, "cls": "some"}]
    report = await home.run("fan_out", {"workflow": "with_options", "items": items})
    outputs = [result["output"] for result in report["results"]]
    assert outputs == ["none {'a': 1}", "some {}"]


async def test_a_long_output_is_cut_and_whole_in_its_own_run(home: Home) -> None:
    items = [{"length": 150_000}, {"length": 10}]
    report = await home.run("fan_out", {"workflow": "long_text", "items": items}, "long")
    long, short = report["results"]
    assert short["output"] == "x" * 10
    assert "output" not in long
    assert long["output_characters"] == 150_002  # as JSON, so with quotes
    assert long["output_start"] == '"' + "x" * 99_999
    assert (await home.look("long-0")).output == "x" * 150_000


# --- Before anything starts


async def test_an_unknown_workflow_is_named_with_what_comes_close(home: Home) -> None:
    problem = await home.problem("fan_out", {"workflow": "duoble", "items": [{"number": 1}]})
    assert "UnknownWorkflow: There is no workflow 'duoble'. Did you mean 'double'?" in problem


async def test_items_that_do_not_fit_are_named_and_nothing_starts(home: Home) -> None:
    items: list[Args] = [{"number": 1}, {"number": "two"}, {"numbre": 3}]
    problem = await home.problem("fan_out", {"workflow": "double", "items": items})
    assert "InvalidArguments: items[1]: The arguments of double are wrong" in problem
    assert "number: 'two' is not of type 'integer'" in problem
    assert "items[2]:" in problem
    assert "did you mean 'number'?" in problem
    assert "items[0]" not in problem


async def test_the_tool_refuses_what_the_schema_forbids(home: Home) -> None:
    for wrong in ({"concurrency": 0}, {"concurrency": 501}, {"items": [1]}, {"timeout_seconds": 0}):
        with pytest.raises(InvalidArguments, match=next(iter(wrong))):
            await home.start("fan_out", {"workflow": "double", "items": [], **wrong})


async def test_a_start_that_passed_no_tool_is_checked_too(home: Home) -> None:
    options: Any = {"workflow_name": "fan_out", "queue_name": "workflows"}
    options |= {"app_version": (await home.engine.catalog()).version}
    arguments: Any = {"workflow": "double", "items": [], "concurrency": 0}
    handle: WorkflowHandleAsync[Any] = await home.client.enqueue_async(options, **arguments)
    run = await home.ended(handle.workflow_id)
    assert (
        "'concurrency' of fan_out does not fit: Input should be greater than or equal to 1"
        in str(run.error)
    )


async def test_a_run_that_has_the_id_already_is_not_taken_for_a_result(home: Home) -> None:
    await home.run("double", {"number": 21}, "taken-0")
    workflow_id = await home.start(
        "fan_out", {"workflow": "double", "items": [{"number": 1}]}, "taken"
    )
    run = await home.ended(workflow_id)
    assert "taken-0 is already in use" in str(run.error)


async def test_the_catalog_tells_a_model_all_it_needs(home: Home) -> None:
    (entry,) = [e for e in (await home.engine.catalog("fan_out")).workflows if e.name == "fan_out"]
    assert entry.summary.startswith("Run one workflow for each item of a list")
    properties = entry.args_schema["properties"]
    assert entry.args_schema["required"] == ["workflow", "items"]
    assert all("description" in properties[name] for name in properties)
    assert (properties["concurrency"]["maximum"], properties["items"]["maxItems"]) == (500, 10_000)


# --- Waiting, cancelling, crashes


async def test_runs_that_wait_for_others_never_keep_them_from_starting(home: Home) -> None:
    inner = {"workflow": "double", "items": [{"number": 1}, {"number": 2}]}
    middle = {"workflow": "fan_out", "items": [inner, inner]}
    outer = {"workflow": "fan_out", "items": [middle]}
    started = [await home.start("fan_out", outer) for _ in range(AT_ONCE)]
    for workflow_id in started:
        report = await home.output(workflow_id)
        assert report["ok"], report
        deepest = report["results"][0]["output"]["results"][1]["output"]["results"]
        assert [result["output"] for result in deepest] == [2, 4]


async def test_cancelling_it_with_its_children_ends_all_and_a_resume_goes_on(home: Home) -> None:
    args: Args = {"workflow": "waits", "items": [{}] * 3, "concurrency": 2}
    workflow_id = await home.start("fan_out", args)
    first = {f"{workflow_id}-0", f"{workflow_id}-1"}
    await until_waiting(home, first)
    await home.engine.cancel([workflow_id], children=True)
    children = await home.children(workflow_id)
    assert {one: child.status for one, child in children.items()} == dict.fromkeys(
        first, "CANCELLED"
    )
    assert (await home.look(workflow_id)).status == "CANCELLED"
    for one in first:
        await home.client.send_async(one, "yes", "go")
    await home.engine.resume([workflow_id], children=True)
    await until_waiting(home, {f"{workflow_id}-2"})
    await home.engine.send(f"{workflow_id}-2", "go", "yes")
    assert (await home.output(workflow_id))["succeeded"] == 3


async def until_waiting(home: Home, workflow_ids: set[str]) -> None:
    async def waiting() -> bool:
        runs = (await home.engine.reader.runs(name="waits", waiting=True)).workflows
        return workflow_ids <= {run.workflow_id for run in runs}

    await until_found(waiting, "the runs wait for their messages")


async def test_a_fork_starts_again_only_what_comes_after_the_step(home: Home) -> None:
    items = [{"number": number, "file": "forked"} for number in range(3)]
    args = {"workflow": "double", "items": items, "concurrency": 1}
    report = await home.run("fan_out", args, "original")
    steps = await home.steps("original")
    second = [step for step, name in steps.items() if name == "double"][1]
    fork = await home.engine.fork("original", second)
    again = await home.output(fork.workflow_id)
    assert [r["output"] for r in again["results"]] == [r["output"] for r in report["results"]]
    ids = [result["workflow_id"] for result in again["results"]]
    assert ids == ["original-0", f"{fork.workflow_id}-1", f"{fork.workflow_id}-2"]
    assert Counter(home.lines("forked")) == {
        "begin 0": 1, "end 0": 1, "begin 1": 2, "end 1": 2, "begin 2": 2, "end 2": 2,
    }  # fmt: skip


async def test_after_a_crash_nothing_is_started_twice_and_the_result_is_right(home: Home) -> None:
    items = [{"number": number, "file": "crash", "seconds": 0.2} for number in range(20)]
    args = {"workflow": "double", "items": items, "concurrency": 4}
    workflow_id = await home.start("fan_out", args)
    await until(lambda: len(home.lines("crash")) > 15, "the middle of the list")
    await home.kill_worker()
    report = await home.output(workflow_id)
    assert [result.get("output") for result in report["results"]] == list(range(0, 40, 2))
    children = await home.children(workflow_id)
    assert set(children) == {f"{workflow_id}-{number}" for number in range(20)}
    began = Counter(line for line in home.lines("crash") if line.startswith("begin"))
    assert set(began) == {f"begin {number}" for number in range(20)}
    # At most four were in the middle of their step at the crash.
    assert sum(began.values()) <= 20 + 4, began


async def test_an_edit_in_the_middle_changes_nothing_for_runs_started_later(home: Home) -> None:
    items: list[Args] = [{"wait": True}, {}]
    args: Args = {"workflow": "edition", "items": items, "concurrency": 1}
    workflow_id = await home.start("fan_out", args)

    async def has_begun() -> bool:
        return f"{workflow_id}-0" in await home.children(workflow_id)

    await until_found(has_begun, "the first run of the list has begun")
    flows = home.folder / "workflows" / "flows.py"
    flows.write_text(FLOWS.replace('"first"', '"second"'), encoding="utf-8")
    assert await home.run("edition", {}) == "second"
    await home.engine.send(f"{workflow_id}-0", "go", "yes")
    report = await home.output(workflow_id)
    assert [result["output"] for result in report["results"]] == ["first", "first"]

"""The reports of a wait: on runs, on their child runs, and on messages for which no run waits."""

import time
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.rows import Rows
from durable_workflows.models import StartRequest
from helpers import until_found

pytestmark = pytest.mark.anyio


async def started(engine: Engine, name: str, **args: str | float | None) -> str:
    return (await engine.start(StartRequest(name=name, args=args))).workflow_id


async def child_waits(engine: Engine, parent: str) -> str:
    """The id of its child, once that waits."""
    child = f"{parent}-child"

    async def waits() -> bool:
        there = [one.workflow_id for one in await engine.reader.tree(parent)]
        return child in there and bool(await engine.reader.waits(child))

    await until_found(waits, "the child waits")
    return child


@pytest.mark.long
async def test_a_wait_for_a_run_ends_when_one_that_it_started_asks(shared: Engine) -> None:
    parent = await started(shared, "starts_one_that_asks", prompt="Shall I?")
    found = await shared.reader.wait([parent], timeout_seconds=60)
    [asked] = found.waiting
    assert (asked.workflow_id, asked.child_of) == (f"{parent}-child", parent)
    assert (asked.topic, asked.prompt, asked.example) == ("word", "Shall I?", "yes")
    assert found.running == []
    assert not found.timed_out
    await shared.send(asked.workflow_id, asked.topic, asked.example)
    ended = await shared.reader.wait([parent], timeout_seconds=60)
    assert [one.output for one in ended.done] == ["yes"]


async def test_a_message_between_runs_ends_no_wait(shared: Engine) -> None:
    parent = await started(shared, "starts_one_that_asks", prompt=None)
    child = await child_waits(shared, parent)
    found = await shared.reader.wait([parent], timeout_seconds=0.5)
    assert found.timed_out
    assert [(one.workflow_id, one.step) for one in found.running] == [(parent, f"its run {child}")]
    both = await shared.reader.wait([parent, child], timeout_seconds=0.5)
    assert [(one.workflow_id, one.child_of) for one in both.waiting] == [(child, None)]
    await shared.cancel([parent], children=True)


async def test_looks_at_many_runs_that_end_one_after_another_take_a_part_of_the_time(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, looks = Rows.fetch, list[float]()

    async def timed(rows: Rows, name: str, /, **values: object) -> list[tables.Row]:
        began = time.monotonic()
        try:
            return await fetch(rows, name, **values)
        finally:
            if name == "run_states":
                looks.append(time.monotonic() - began)

    monkeypatch.setattr(Rows, "fetch", timed)
    runs = await shared.start_all(
        [StartRequest(name="sleeps", args={"seconds": number / 200}) for number in range(200)]
    )
    began = time.monotonic()
    found = await shared.reader.wait([run.workflow_id for run in runs], timeout_seconds=60)
    assert len(found.done) == 200
    assert sum(looks[:-1]) <= (time.monotonic() - began) / 4


async def test_a_run_that_sleeps_says_until_when(shared: Engine) -> None:
    workflow_id = await started(shared, "sleeps", seconds=3600)

    async def asleep() -> str | None:
        [running] = (await shared.reader.wait([workflow_id], timeout_seconds=0.1)).running
        return running.step if (running.step or "").startswith("sleeps until 20") else None

    assert await until_found(asleep, "it says until when it sleeps")
    await shared.cancel([workflow_id])


async def test_a_message_for_which_a_run_does_not_wait_is_kept_and_that_is_said(
    shared: Engine,
) -> None:
    parent = await started(shared, "starts_one_that_asks", prompt="Shall I?")
    child = await child_waits(shared, parent)
    to_parent = await shared.send(parent, "word", "yes")
    assert to_parent.note == (
        f"{parent} gets this message when it receives on 'word'. Now {child}, which it started, waits on that topic:"
        " if you meant that run, send it there too."
    )
    other_topic = await shared.send(child, "wrod", "yes")
    assert other_topic.note is not None
    assert other_topic.note.endswith("Now it waits on 'word'.")
    nothing = await shared.send(parent, "elsewhere", "yes")
    assert nothing.note is not None
    assert nothing.note.endswith("it does not wait for a message now.")
    assert (await shared.send(child, "word", "no")).note is None
    assert (await shared.reader.wait([parent], timeout_seconds=60)).done[0].output == "no"


async def test_a_start_with_an_id_that_is_taken_says_that_nothing_was_started(
    shared: Engine,
) -> None:
    request = StartRequest(name="sleeps", args={"seconds": 3600}, workflow_id="sleeps-once")
    first = await shared.start(request)
    again = await shared.start(request)
    assert (first.existing, again.existing) == (False, True)
    await shared.cancel([first.workflow_id])


async def test_a_fork_says_where_it_began_and_that_its_original_goes_on(shared: Engine) -> None:
    parent = await started(shared, "starts_one_that_asks", prompt="Shall I?")
    await child_waits(shared, parent)
    fork = await shared.fork(parent, 1)
    assert (
        fork.note == f"{parent} goes on too (PENDING): cancel it if only one of the two is wanted."
    )
    assert (await shared.reader.run(fork.workflow_id)).forked_at == 1
    assert [one.workflow_id for one in (await shared.reader.run(parent)).forks] == [
        fork.workflow_id
    ]
    ids = [parent, fork.workflow_id]
    await shared.cancel(ids, children=True)
    assert (await shared.fork(parent, 1)).note is None
    forks = [one.workflow_id for one in (await shared.reader.run(parent)).forks]
    await shared.cancel(forks, children=True)


async def test_the_list_tells_who_waits_and_who_belongs_to_whom(shared: Engine) -> None:
    before = (await shared.reader.runs()).waiting
    parent = await started(shared, "starts_one_that_asks", prompt="Shall I?")
    child = await child_waits(shared, parent)
    page = await shared.reader.runs()
    assert page.waiting == before + 1
    parents = {run.workflow_id: run.parent_workflow_id for run in page.workflows}
    assert (parents[child], parents[parent]) == (parent, None)
    await shared.cancel([parent], children=True)


async def test_a_wait_for_a_change_lasts_until_something_changes(shared: Engine) -> None:
    parent = await started(shared, "starts_one_that_asks", prompt="Shall I?")
    await child_waits(shared, parent)
    same = await shared.reader.wait([parent], until="change", timeout_seconds=1)
    assert same.timed_out
    assert len(same.waiting) == 1
    changes: list[bool] = []
    looked = anyio.Event()

    async def progress(_: str) -> None:
        looked.set()

    async def waited() -> None:
        found = await shared.reader.wait(
            [parent], until="change", timeout_seconds=60, progress=progress
        )
        changes.append(not found.timed_out)

    async with anyio.create_task_group() as group:
        group.start_soon(waited)
        await looked.wait()
        await shared.send(f"{parent}-child", "word", "yes")
    assert changes == [True]
    await shared.reader.wait([parent], timeout_seconds=60)


@pytest.mark.parametrize("name", ["exits_in_step", "exits_in_async_step", "exits_in_body"])
async def test_code_that_calls_exit_fails_its_run(shared: Engine, name: str) -> None:
    workflow_id = await started(shared, name, status="usage: nothing")
    [ended] = (await shared.reader.wait([workflow_id], timeout_seconds=60)).done
    assert ended.status == "ERROR"
    assert ended.error == "RuntimeError: The code called sys.exit('usage: nothing')."


async def test_a_fork_says_that_a_step_of_its_original_still_runs(
    shared: Engine, tmp_path: Path
) -> None:
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    workflow_id = await started(shared, "slow_step", begun=str(begun), go_on=str(go_on))

    async def shown() -> bool:
        return bool((await shared.reader.run(workflow_id)).running)

    await until_found(shown, "the step is seen to run")
    await shared.cancel([workflow_id])
    fork = await shared.fork(workflow_id, 1)
    assert fork.note == f"step 1 work_slowly of {workflow_id} still runs."
    await shared.cancel([fork.workflow_id])
    go_on.touch()


async def test_a_cancelled_parent_says_what_goes_on(shared: Engine) -> None:
    parent = await started(shared, "starts_one_that_asks", prompt="Shall I?")
    child = await child_waits(shared, parent)
    [cancelled] = (await shared.cancel([parent])).workflows
    assert (
        cancelled.note == f"cancelled; {child} goes on (children=true also cancels what it started)"
    )
    await shared.cancel([child])


async def test_a_message_repeated_with_its_key_is_known_also_after_the_end(shared: Engine) -> None:
    workflow_id = await started(shared, "asks", prompt=None)
    first = await shared.send(workflow_id, "word", "yes", "key-1")
    assert (await shared.reader.wait([workflow_id], timeout_seconds=60)).done[0].output == "yes"
    again = await shared.send(workflow_id, "word", "yes", "key-1")
    assert (first.delivered, again.delivered) == (True, True)
    assert again.note == (
        "A message with this key was already sent: step 1 has received it. Nothing new was sent."
    )
    other = await shared.send(workflow_id, "word", "no", "key-1")
    assert not other.delivered
    assert other.note is not None
    assert other.note.startswith("A different message was already sent with this key")
    assert len(await shared.reader.messages(workflow_id)) == 1


async def test_an_output_that_says_that_it_did_not_succeed_is_seen_in_lists(
    shared: Engine,
) -> None:
    commands: JsonValue = [{"name": "fails", "run": "false"}]
    request = StartRequest(name="run_commands", args={"commands": commands})
    not_ok = (await shared.start(request)).workflow_id
    items: JsonValue = [{"commands": commands}]
    args: dict[str, JsonValue] = {"workflow": "run_commands", "items": items}
    many = (await shared.start(StartRequest(name="fan_out", args=args))).workflow_id
    done = (await shared.reader.wait([not_ok, many], timeout_seconds=60)).done
    assert [one.status for one in done] == ["SUCCESS", "SUCCESS"]
    listed = {run.workflow_id: run.ok for run in (await shared.reader.runs()).workflows}
    assert (listed[not_ok], listed[many]) == (False, False)
    assert [child.ok for child in await shared.reader.tree(many)] == [False]
    report = done[1].output
    assert isinstance(report, dict)
    assert 'it returned `ok` false, failed: ["fails"]' in str(report["failures"])

"""Messages, and what a run waits for."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.models import Run, StartRequest
from helpers import is_taken_up_again, kill_worker, until, until_found
from requirements import proves

pytestmark = pytest.mark.anyio


@proves("wait:visible")
async def test_a_plain_recv_shows_its_topic_since_when_and_until_when(shared: Engine) -> None:
    began = datetime.now(UTC) - timedelta(milliseconds=1)
    args = {"topic": "decision", "timeout_seconds": 300}
    started = await shared.start(StartRequest(name="wait_for", args=args))
    result = await shared.reader.wait([started.workflow_id], until="any")
    waiting = result.waiting[0]
    assert waiting.topic == "decision"
    assert waiting.since is not None
    assert began <= waiting.since <= datetime.now(UTC)
    assert waiting.deadline is not None
    assert abs(waiting.deadline - waiting.since - timedelta(seconds=300)) < timedelta(seconds=30)
    listed = await shared.reader.runs(waiting=True)
    assert (started.workflow_id, "decision") in [
        (r.workflow_id, r.waiting_on) for r in listed.workflows
    ]
    await shared.send(started.workflow_id, "decision", "yes")
    result = await shared.reader.wait([started.workflow_id])
    assert (result.done[0].output, result.waiting) == ("yes", [])


@pytest.mark.long
@proves("wait:visible", "recovery:worker-killed")
async def test_a_wait_keeps_its_since_and_deadline_over_a_killed_worker(
    engine: Engine, folder: Path
) -> None:
    (folder / "workflows").mkdir()
    source = Path(__file__).parent / "flows" / "messages.py"
    (folder / "workflows" / "messages.py").write_text(
        source.read_text(encoding="utf-8"), encoding="utf-8"
    )
    started = await engine.start(StartRequest(name="wait_for", args={"topic": "decision"}))
    before = (await engine.reader.wait([started.workflow_id], until="any")).waiting[0]
    killed = kill_worker(folder)

    async def waits_again() -> Run | None:
        run = await engine.reader.run(started.workflow_id)
        return run if run.waiting and is_taken_up_again(run, killed) else None

    after = await until_found(waits_again, "the new worker waits")
    assert (after.waiting[0].since, after.waiting[0].deadline) == (before.since, before.deadline)


@proves("wait:visible")
async def test_the_step_that_runs_now_is_shown(shared: Engine, folder: Path) -> None:
    go_on = folder / "go on"
    args = {"begun": str(folder / "begun"), "go_on": str(go_on)}
    started = await shared.start(StartRequest(name="works_async", args=args))

    async def running() -> Run | None:
        run = await shared.reader.run(started.workflow_id)
        return run if run.running else None

    run = await until_found(running, "the step is shown")
    go_on.touch()
    assert (run.running[0].step, run.running[0].name) == (1, "work_async")
    assert run.running[0].attempt == 1
    await shared.reader.wait([started.workflow_id])
    assert (await shared.reader.run(started.workflow_id)).running == []


@proves("wait:visible")
async def test_the_attempt_of_a_step_that_is_tried_again_is_shown(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="retries"))

    async def tried_again() -> Run | None:
        run = await shared.reader.run(started.workflow_id)
        return run if run.running and run.running[0].attempt >= 3 else None

    run = await until_found(tried_again, "the third attempt is shown")
    assert (run.running[0].name, run.running[0].max_attempts) == ("fail_slowly", 20)
    await shared.cancel([started.workflow_id])


@proves("message:once")
async def test_a_message_with_an_idempotency_key_arrives_once(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="collect", args={"topic": "t", "count": 2}))
    for _ in range(3):
        await shared.send(started.workflow_id, "t", "first", idempotency_key="a")
    await shared.send(started.workflow_id, "t", "second", idempotency_key="b")
    result = await shared.reader.wait([started.workflow_id])
    assert result.done[0].output == ["first", "second"]


@proves("message:in-order")
async def test_messages_of_one_topic_arrive_in_their_order(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="collect", args={"topic": "t", "count": 20}))
    for number in range(20):
        await shared.send(started.workflow_id, "t", number)
    result = await shared.reader.wait([started.workflow_id])
    assert result.done[0].output == list(range(20))


async def test_a_cancelled_run_that_waits_ends_now_and_not_at_its_deadline(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await shared.reader.wait([started.workflow_id], until="any")
    await shared.cancel([started.workflow_id])
    await shared.resume([started.workflow_id])
    await shared.send(started.workflow_id, "t", "go on")
    result = await shared.reader.wait([started.workflow_id], timeout_seconds=30)
    assert result.done[0].output == "go on"


@pytest.mark.long
@pytest.mark.parametrize("until_", ["all", "any", "change"])
async def test_a_wait_that_times_out_is_an_answer(
    until_: str, shared: Engine, folder: Path
) -> None:
    go_on = folder / "go on"
    args = {"begun": str(folder / "begun"), "go_on": str(go_on)}
    started = await shared.start(StartRequest(name="works_async", args=args))
    await until(lambda: (folder / "begun").exists(), "the step runs")
    while (
        result := await shared.reader.wait([started.workflow_id], until=until_, timeout_seconds=0.5)
    ).timed_out is False:
        assert until_ == "change"  # the step became visible
    assert result.running[0].workflow_id == started.workflow_id
    go_on.touch()
    await shared.reader.wait([started.workflow_id])


@pytest.mark.parametrize("name", ["wait_for", "collect"], ids=["sync", "async"])
async def test_a_receive_that_is_woken_without_a_message_waits_on(
    shared: Engine, name: str
) -> None:
    """So it is woken when the notification of a message comes after that was received, and the run receives on that topic again."""
    args = {"topic": "t"} | ({"count": 1} if name == "collect" else {})
    run = (await shared.start(StartRequest(name=name, args=args))).workflow_id
    await shared.reader.wait([run], until="any")
    async with await tables.connect(shared.connection.database, role="test") as connection:
        for _ in range(3):
            await connection.execute(
                "select pg_notify('dbos_notifications_channel', %s)", [f"{run}::t"]
            )
    await shared.send(run, "other", None)  # behind the notifications, in the same session
    [waiting] = (await shared.reader.wait([run], until="any")).waiting
    assert waiting.topic == "t"
    await shared.send(run, "t", None)
    [done] = (await shared.reader.wait([run])).done
    assert done.output == ([None] if name == "collect" else None)
    messages = [one for one in await shared.reader.messages(run) if one.topic == "t"]
    assert [one.consumed_by_step is not None for one in messages] == [True]

"""Callbacks: a run waits for what a program outside says, once, with a token that nothing shows."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dbos import WorkflowStatus
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.errors import (
    AlreadyAnswered,
    InvalidArguments,
    MessageTooLarge,
    NotWaiting,
    WorkflowFinished,
)
from durable_workflows.models import Ended, StartRequest
from durable_workflows.telling.causes import cause
from durable_workflows.telling.traces import markdown
from helpers import (
    dbos_client_of,
    kill_worker,
    parking_project,
    processes_of,
    until,
    until_found,
    until_parked,
)
from helpers import value as sql
from requirements import proves

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with parking_project(tmp_path_factory, "callbacks") as engine:
        yield engine


def file_of(engine: Engine, name: str) -> Path:
    return engine.project / name


async def start(engine: Engine, workflow: str, name: str, **args: JsonValue) -> None:
    given = {"file": str(file_of(engine, name)), **args}
    await engine.start(StartRequest(name=workflow, args=given, workflow_id=name))


async def tokens_of(engine: Engine, name: str, number: int = 1) -> list[str]:
    """The tokens that a run has handed over, once there are so many."""
    file = file_of(engine, name)

    def handed() -> list[str]:
        lines = file.read_text(encoding="utf-8").splitlines(True) if file.exists() else []
        return [line.split()[0] for line in lines if line.endswith("\n")]

    await until(lambda: len(handed()) >= number, f"{name} has handed over {number}")
    return handed()


async def asked(engine: Engine, workflow: str, name: str, **args: JsonValue) -> str:
    """The token of a new run."""
    await start(engine, workflow, name, **args)
    return (await tokens_of(engine, name))[0]


async def ended(engine: Engine, name: str) -> WorkflowStatus:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([name], timeout_seconds=20)).done

    await until_found(done, f"{name} has ended")
    with dbos_client_of(engine) as client:
        (run,) = await client.list_workflows_async(workflow_ids=[name])
    return run


async def output(engine: Engine, name: str) -> Any:
    run = await ended(engine, name)
    assert run.status == "SUCCESS", run.error
    return run.output


async def steps(engine: Engine, name: str) -> list[str]:
    with dbos_client_of(engine) as client:
        found: list[Any] = await client.list_workflow_steps_async(name)
    return [one["function_name"] for one in found]


async def held(engine: Engine, name: str, moment: str) -> None:
    """Start a run, and wait until it is held at that moment; what holds it is gone then."""
    file_of(engine, f"{name}.hold-{moment}").touch()
    await start(engine, "callback_plain", name)
    await until(file_of(engine, f"{name}.held").exists, f"{name} is held")


def release(engine: Engine, name: str, moment: str) -> None:
    file_of(engine, f"{name}.hold-{moment}").unlink()


# Answers


@proves("callback:answer")
@pytest.mark.parametrize("result", [{"paid": 3}, None, False, "text"], ids=str)
async def test_a_result_ends_the_wait(engine: Engine, result: JsonValue) -> None:
    name = f"result-{result}"
    token = await asked(engine, "callback_plain", name)
    assert await engine.call_back(token, {"result": result}) == "taken"
    assert await output(engine, name) == {"result": result, "again": result}


@proves("callback:answer")
async def test_an_error_raises_with_its_message(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "error")
    assert await engine.call_back(token, {"error": "the card is not valid"}) == "taken"
    raised = {"raised": "CallbackFailed", "said": "the card is not valid"}
    assert await output(engine, "error") == raised


async def test_an_error_that_nobody_catches_fails_the_run(engine: Engine) -> None:
    token = await asked(engine, "callback_unhandled", "unhandled")
    await engine.call_back(token, {"error": "no card"})
    run = await ended(engine, "unhandled")
    assert run.status == "ERROR"
    assert getattr(run.error, "name", "").endswith("CallbackFailed")


@proves("callback:answer")
async def test_a_result_comes_in_the_type_of_the_schema_and_one_that_does_not_fit_is_refused(
    engine: Engine,
) -> None:
    token = await asked(engine, "callback_typed", "typed")
    with pytest.raises(InvalidArguments, match=r"does not fit: its result: .*number"):
        await engine.call_back(token, {"result": {"shop": "theirs"}})
    assert await engine.call_back(token, {"result": {"number": 7}}) == "taken"
    assert await output(engine, "typed") == "7 from ours"


async def test_async_workflows_wait_too(engine: Engine) -> None:
    token = await asked(engine, "callback_awaited", "async")
    with pytest.raises(InvalidArguments):
        await engine.call_back(token, {"result": "seven"})
    await engine.call_back(token, {"result": 7})
    assert await output(engine, "async") == 7
    assert (await steps(engine, "async"))[:2] == ["callback", "submit"]


async def test_callbacks_of_one_name_are_told_apart(engine: Engine) -> None:
    await start(engine, "callback_two", "two")
    first, second = await tokens_of(engine, "two", 2)
    assert await engine.call_back(first, {"result": "first"}) == "taken"
    assert await engine.call_back(second, {"result": "second"}) == "taken"
    assert await output(engine, "two") == ["second", "first"]


@proves("callback:once")
async def test_an_answer_counts_once(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "once")
    assert await engine.call_back(token, {"result": 1}, "key") == "taken"
    assert await engine.call_back(token, {"result": 1}, "key") == "repeated"
    assert await engine.call_back(token, {"result": 2}, "key") == "answered"
    assert await engine.call_back(token, {"result": 1}, "other") == "answered"
    assert await engine.call_back(token, {"result": 1}) == "answered"
    assert await engine.call_back(token, {"heartbeat": True}) == "answered"
    assert (await output(engine, "once"))["result"] == 1
    assert await engine.call_back(token, {"result": 1}, "key") == "repeated"  # after the end


@proves("callback:once")
async def test_a_false_token_answers_nothing(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "false")
    other = "A" if token[-3] != "A" else "B"
    for wrong in ("", "x", token[:-1], token[:-3] + other + token[-2:], "A" * len(token)):
        assert await engine.call_back(wrong, {"result": 1}) == "unknown"
    await engine.cancel(["false"])
    assert await engine.call_back(token, {"result": 1}) == "ended"


@pytest.mark.parametrize(
    "value",
    ["done", None, {}, {"result": 1, "error": "no"}, {"error": 1}, {"heartbeat": 1}, [1]],
    ids=str,
)
async def test_what_is_no_answer_is_refused(engine: Engine, value: JsonValue) -> None:
    await start(engine, "callback_plain", "form")
    token = (await tokens_of(engine, "form"))[0]
    with pytest.raises(InvalidArguments, match="another form"):
        await engine.call_back(token, value)


async def test_an_answer_that_is_too_large_is_refused(engine: Engine) -> None:
    await start(engine, "callback_plain", "form")
    token = (await tokens_of(engine, "form"))[0]
    with pytest.raises(MessageTooLarge):
        await engine.call_back(token, {"result": "x" * 1_000_001})


@proves("callback:answer")
async def test_an_agent_answers_by_a_message(engine: Engine) -> None:
    token = await asked(engine, "callback_typed", "agent")
    [wait] = await until_found(lambda: engine.reader.waits("agent"), "it waits")
    assert wait.topic == "callback:1:receipt"
    run = await engine.reader.run("agent")
    assert "send_message" in str(cause(run, run.updated_at).next)
    with pytest.raises(InvalidArguments):
        await engine.send("agent", wait.topic, {"result": {}})
    sent = await engine.send("agent", wait.topic, {"result": {"number": 8}}, "key")
    assert sent.delivered
    again = await engine.send("agent", wait.topic, {"result": {"number": 8}}, "key")
    assert again.note is not None
    assert "already sent" in again.note
    with pytest.raises(AlreadyAnswered):
        await engine.send("agent", wait.topic, {"result": {"number": 9}})
    assert await engine.call_back(token, {"result": {"number": 9}}) == "answered"
    assert await output(engine, "agent") == "8 from ours"


async def test_a_message_to_a_run_that_has_ended_or_given_up_is_refused(engine: Engine) -> None:
    await asked(engine, "callback_plain", "late", timeout=0.2)
    await ended(engine, "late")
    with pytest.raises(NotWaiting):
        await engine.send("late", "callback:1:payment", {"result": 1})
    await asked(engine, "callback_plain", "gone")
    await engine.cancel(["gone"])
    with pytest.raises(WorkflowFinished):
        await engine.send("gone", "callback:1:payment", {"result": 1})


async def test_without_an_http_server_the_url_is_a_path(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "path")
    handed = file_of(engine, "path").read_text(encoding="utf-8")
    assert handed.split() == [token, f"/callbacks/{token}"]
    await engine.cancel(["path"])


# Time


@proves("callback:time")
async def test_without_an_answer_in_time_the_wait_ends(engine: Engine) -> None:
    began = time.time()
    token = await asked(engine, "callback_plain", "timeout", timeout=1.0)
    assert (await output(engine, "timeout"))["raised"] == "CallbackTimeout"
    assert time.time() - began >= 1.0
    assert await engine.call_back(token, {"result": 1}) == "given up"
    assert await engine.call_back(token, {"heartbeat": True}) == "given up"


@proves("callback:time")
async def test_without_a_heartbeat_in_time_the_wait_ends(engine: Engine) -> None:
    await asked(engine, "callback_plain", "silent", heartbeat=0.5, timeout=300)
    assert (await output(engine, "silent"))["raised"] == "HeartbeatTimeout"


@pytest.mark.long
@proves("callback:time")
async def test_heartbeats_keep_the_wait_and_add_no_steps_of_their_own(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "beats", heartbeat=2.0)
    began, beats = time.time(), 0

    async def beat() -> bool:
        nonlocal beats
        beats += 1
        assert await engine.call_back(token, {"heartbeat": True}) == "taken"
        return time.time() - began > 5.0

    await until_found(beat, "more than two silences have passed")
    assert beats > 20
    assert await engine.call_back(token, {"result": "done"}) == "taken"
    assert (await output(engine, "beats"))["result"] == "done"
    looks = (await steps(engine, "beats")).count("callback_answer")
    assert 3 <= looks <= 7


@proves("callback:time")
async def test_a_deadline_outlives_the_worker(engine: Engine) -> None:
    began = time.time()
    await asked(engine, "callback_plain", "outlives", timeout=2.0)
    kill_worker(engine.project)
    assert (await output(engine, "outlives"))["raised"] == "CallbackTimeout"
    assert time.time() - began >= 2.0


@proves("callback:parks")
async def test_a_run_that_waits_is_parked_and_goes_on(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "parks", timeout=3000, heartbeat=600)
    await until_parked(engine, "parks")
    assert await engine.call_back(token, {"heartbeat": True}) == "taken"
    assert await engine.call_back(token, {"result": "back"}) == "taken"
    assert (await output(engine, "parks"))["result"] == "back"
    assert await tokens_of(engine, "parks") == [token]


# The end of a process, in each gap


@proves("callback:crash")
async def test_a_crash_before_submit_keeps_the_token(engine: Engine) -> None:
    await held(engine, "between", "between")
    select = "select id from durable_workflows.callbacks where workflow_id = %s"
    before = await sql(engine, select, "between")
    kill_worker(engine.project)
    release(engine, "between", "between")
    [token] = await tokens_of(engine, "between")
    assert token.startswith(before)
    assert await engine.call_back(token, {"result": 1}) == "taken"
    assert (await output(engine, "between"))["result"] == 1


@proves("callback:crash")
@pytest.mark.parametrize(("moment", "handed"), [("before", 1), ("after", 2)])
async def test_a_crash_within_submit_submits_again_with_the_same_token(
    engine: Engine, moment: str, handed: int
) -> None:
    name = f"within-{moment}"
    await held(engine, name, moment)
    kill_worker(engine.project)
    release(engine, name, moment)
    found = await tokens_of(engine, name, handed)
    assert len(set(found)) == 1
    assert await engine.call_back(found[0], {"result": 1}) == "taken"
    assert (await output(engine, name))["result"] == 1


@proves("callback:crash")
async def test_an_answer_that_comes_while_submit_runs_is_not_lost(engine: Engine) -> None:
    await held(engine, "early", "after")
    [token] = await tokens_of(engine, "early")
    assert await engine.call_back(token, {"result": "early"}) == "taken"
    kill_worker(engine.project)
    release(engine, "early", "after")
    assert (await output(engine, "early"))["result"] == "early"


@proves("callback:crash")
async def test_a_crash_between_an_answer_and_its_record_loses_nothing(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "recorded", timeout=20)
    await until_found(lambda: engine.reader.waits("recorded"), "it waits")
    workers = processes_of(engine.project, "worker")
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    assert await engine.call_back(token, {"result": "kept"}) == "taken"
    assert "callback_answer" not in (await steps(engine, "recorded"))[4:]
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    assert (await output(engine, "recorded"))["result"] == "kept"


@pytest.mark.long
@proves("callback:crash")
async def test_submit_can_happen_at_most_once(engine: Engine) -> None:
    hold = file_of(engine, "submit-once.once.hold-after")
    hold.touch()
    await engine.start(StartRequest(name="callback_once", workflow_id="submit-once"))
    held_file = file_of(engine, "submit-once.once.held")
    await until(held_file.exists, "it is held")
    kill_worker(engine.project)
    hold.unlink()
    [token] = await tokens_of(engine, "submit-once.once")
    assert await engine.call_back(token, {"result": 1}) == "taken"
    run = await until_found(lambda: in_doubt(engine, "submit-once"), "it is in doubt")
    assert run.effects[0].doubt_since
    assert await tokens_of(engine, "submit-once.once") == [token]
    await engine.cancel(["submit-once"])


async def in_doubt(engine: Engine, name: str) -> Any:
    run = await engine.reader.run(name)
    return run if run.waiting and run.effects else None


# Forks


@proves("callback:fork")
async def test_a_fork_that_makes_the_callback_again_has_another_token(engine: Engine) -> None:
    token = await asked(engine, "callback_plain", "original")
    fork = (await engine.fork("original", 1)).workflow_id
    other = (await tokens_of(engine, "original", 2))[1]
    assert other != token
    assert await engine.call_back(other, {"result": "fork"}) == "taken"
    assert (await output(engine, fork))["result"] == "fork"
    assert await engine.call_back(token, {"result": "original"}) == "taken"
    assert (await output(engine, "original"))["result"] == "original"


@proves("callback:fork")
async def test_a_fork_that_takes_the_callback_over_is_answered_with_its_token(
    engine: Engine,
) -> None:
    token = await asked(engine, "callback_plain", "shared")
    await until_found(lambda: engine.reader.waits("shared"), "it waits")
    open_fork = (await engine.fork("shared", 3)).workflow_id
    assert await engine.call_back(token, {"result": "both"}) == "taken"
    assert (await output(engine, "shared"))["result"] == "both"
    assert (await output(engine, open_fork))["result"] == "both"
    answered_fork = (await engine.fork("shared", 3)).workflow_id
    assert (await output(engine, answered_fork))["result"] == "both"
    assert await tokens_of(engine, "shared") == [token]


# Secrecy


@proves("callback:secret")
async def test_nothing_that_is_kept_or_shown_of_a_run_has_the_token(engine: Engine) -> None:
    token = await asked(engine, "callback_shown", "shown")
    await until_found(lambda: engine.reader.waits("shown"), "it waits")
    waiting = await engine.reader.run("shown")
    assert await engine.call_back(token, {"result": 1}) == "taken"
    assert "Callback(" in await output(engine, "shown")
    run = await engine.reader.run("shown")
    signature = token[22:]
    for shown in (waiting.model_dump_json(), run.model_dump_json(), markdown(run)):
        assert signature not in shown
    database = """
    select string_agg(x::text, ' ') from (
        select to_jsonb(t) from dbos.operation_outputs as t union all select to_jsonb(t) from dbos.workflow_status as t
        union all select to_jsonb(t) from dbos.workflow_output as t union all select to_jsonb(t) from dbos.notifications as t
        union all select to_jsonb(t) from durable_workflows.callbacks as t union all select to_jsonb(t) from durable_workflows.waits as t
        union all select to_jsonb(t) from durable_workflows.logs as t
    ) as all_rows (x)
    """
    everything = str(await sql(engine, database))
    assert token[:22] in everything
    assert signature not in everything
    logs = list((engine.project / ".dbos").rglob("*.log"))
    assert logs
    assert all(signature not in log.read_text(encoding="utf-8") for log in logs)


@proves("callback:secret")
async def test_a_callback_itself_is_not_recorded(engine: Engine) -> None:
    token = await asked(engine, "callback_returned", "returned")
    run = await ended(engine, "returned")
    assert run.status == "ERROR"
    assert token[22:] not in (await engine.reader.run("returned")).model_dump_json()


async def test_a_run_waits_for_its_own_callbacks_only(engine: Engine) -> None:
    await start(engine, "callback_kept", "keeps")
    assert (await ended(engine, "keeps")).status == "SUCCESS"
    await start(engine, "callback_kept", "takes")
    assert "is a callback of another run" in str((await ended(engine, "takes")).error)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("no time", "The timeout of a callback is not above 0 seconds."),
        ("no silence", "The heartbeat of a callback is not above 0 seconds."),
        ("in a step", "callback was called outside of a workflow's body."),
        ("no schema", "not a JSON schema"),
    ],
)
async def test_a_callback_that_is_not_possible_is_refused(
    engine: Engine, how: str, text: str
) -> None:
    name = how.replace(" ", "-")
    await engine.start(StartRequest(name="callback_wrong", args={"how": how}, workflow_id=name))
    assert text in str((await ended(engine, name)).error)

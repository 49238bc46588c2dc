"""Bad input gets a clear error and changes nothing."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.errors import (
    InvalidArguments,
    MessageTooLarge,
    UnknownStep,
    UnknownWorkflow,
    UnknownWorkflowId,
    UsageError,
    WorkflowFinished,
    WorkflowIdTaken,
)
from durable_workflows.models import StartRequest
from helpers import newest_start
from requirements import proves

pytestmark = [pytest.mark.anyio, proves("request:refused")]


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        ({"name": "ten_step"}, UnknownWorkflow, "'ten_steps'"),
        ({"name": "ten_steps"}, InvalidArguments, "'file' is a required property"),
        (
            {"name": "ten_steps", "args": {"file": 3}},
            InvalidArguments,
            "file: 3 is not of type 'string'",
        ),
        (
            {"name": "ten_steps", "args": {"file": "x", "second": 1}},
            InvalidArguments,
            "'second' is not an argument (did you mean 'seconds'?)",
        ),
        (
            {"name": "ten_steps", "args": {"file": "x"}, "queue": "workflow"},
            InvalidArguments,
            "'workflows'",
        ),
        ({"name": "ten_steps", "args": {"file": "x"}, "priority": 0}, InvalidArguments, "priority"),
        (
            {"name": "ten_steps", "args": {"file": "x"}, "delay_seconds": -1},
            InvalidArguments,
            "delay_seconds",
        ),
        (
            {"name": "ten_steps", "args": {"file": "x"}, "timeout_seconds": 0},
            InvalidArguments,
            "timeout_seconds",
        ),
        (
            {"name": "ten_steps", "args": {"file": "x"}, "workflow_id": " "},
            InvalidArguments,
            "workflow_id",
        ),
        ({"name": "ten_steps", "args": {"file": "x" * 1_000_001}}, MessageTooLarge, "1,000,"),
    ],
)
async def test_a_start_with_bad_input_says_what_is_wrong_and_starts_nothing(
    request_: dict[str, Any], error: type[UsageError], said: str, shared: Engine
) -> None:
    before = await newest_start(shared)
    with pytest.raises(error) as caught:
        await shared.start(StartRequest(**request_))
    assert said in str(caught.value)
    assert caught.value.hint
    assert await newest_start(shared) == before


async def test_one_bad_start_of_a_batch_starts_none(shared: Engine) -> None:
    before = await newest_start(shared)
    good = StartRequest(name="ten_steps", args={"file": "x"})
    with pytest.raises(UnknownWorkflow):
        await shared.start_all([good, StartRequest(name="nothing")])
    assert await newest_start(shared) == before


async def test_a_workflow_id_of_another_workflow_is_refused(shared: Engine, folder: Path) -> None:
    args = {"file": str(folder / "lines")}
    await shared.start(StartRequest(name="ten_steps", args=args, workflow_id="taken"))
    with pytest.raises(WorkflowIdTaken):
        await shared.start(StartRequest(name="noisy", workflow_id="taken"))


@pytest.mark.parametrize(
    "what", ["run", "send", "fork", "cancel", "resume", "wait", "messages", "tree"]
)
async def test_an_unknown_workflow_id_is_refused_everywhere_with_the_closest(
    what: str, shared: Engine, folder: Path
) -> None:
    args = {"file": str(folder / "lines")}
    await shared.start(StartRequest(name="ten_steps", args=args, workflow_id="nightly-report"))
    calls: dict[str, Callable[[str], Awaitable[object]]] = {
        "run": shared.reader.run,
        "send": lambda one: shared.send(one, "topic", 1),
        "fork": lambda one: shared.fork(one, 1),
        "cancel": lambda one: shared.cancel(["nightly-report", one]),
        "resume": lambda one: shared.resume([one]),
        "wait": lambda one: shared.reader.wait([one]),
        "messages": shared.reader.messages,
        "tree": shared.reader.tree,
    }
    with pytest.raises(UnknownWorkflowId, match="nightly-report"):
        await calls[what]("nightly-reprot")
    await shared.reader.wait(["nightly-report"])
    assert (
        await shared.reader.run("nightly-report")
    ).status == "SUCCESS"  # not cancelled with the unknown one


@pytest.mark.parametrize("step", [0, 12, 999])
async def test_a_fork_from_a_step_that_is_not_there_is_refused(
    step: int, shared: Engine, folder: Path
) -> None:
    started = await shared.start(
        StartRequest(name="ten_steps", args={"file": str(folder / "lines")})
    )
    await shared.reader.wait([started.workflow_id])
    with pytest.raises(UnknownStep, match="from 1 to 11"):
        await shared.fork(started.workflow_id, step)
    assert (await shared.reader.run(started.workflow_id)).forks == []


async def test_a_message_to_a_finished_run_is_refused(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="noisy"))
    await shared.reader.wait([started.workflow_id])
    with pytest.raises(WorkflowFinished, match="SUCCESS"):
        await shared.send(started.workflow_id, "topic", 1)
    assert await shared.reader.messages(started.workflow_id) == []


async def test_a_message_over_one_megabyte_is_refused(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="wait_for", args={"topic": "t"}))
    with pytest.raises(MessageTooLarge, match="1,000,"):
        await shared.send(started.workflow_id, "t", "x" * 1_000_001)
    assert await shared.reader.messages(started.workflow_id) == []
    await shared.cancel([started.workflow_id])


async def test_a_cursor_of_ones_own_invention_is_refused(shared: Engine) -> None:
    with pytest.raises(InvalidArguments, match="cursor"):
        await shared.reader.runs(cursor="page 2")


async def test_finished_runs_are_neither_cancelled_nor_resumed(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="noisy"))
    await shared.reader.wait([started.workflow_id])
    for answer in (
        await shared.cancel([started.workflow_id]),
        await shared.resume([started.workflow_id]),
    ):
        assert not answer.workflows[0].changed
        assert answer.workflows[0].status == "SUCCESS"

"""The tasks of an agent in an evaluation, the state of the project before, and the check afterwards."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest

from .players import Agent

Arrange = Callable[[Engine], Awaitable[None]]
Script = Callable[[Agent, Path], Awaitable[str]]
Check = Callable[[Engine, str], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """`goal` is what a model is told; `script` does it as a good agent would, and returns what that agent says at the end."""

    name: str
    goal: str
    arrange: Arrange
    script: Script
    check: Check


async def _start(engine: Engine, workflow_id: str, name: str, **args: JsonValue) -> None:
    await engine.start(StartRequest(name=name, args=args, workflow_id=workflow_id))


async def _output(engine: Engine, workflow_id: str) -> JsonValue:
    return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done[0].output


# Find why a run failed


async def _arrange_failed(engine: Engine) -> None:
    await _start(engine, "order-1", "order", item="apple")
    await _start(engine, "order-2", "order", item="plum")
    await engine.reader.wait(["order-1", "order-2"], timeout_seconds=30)


async def _script_why(agent: Agent, _folder: Path) -> str:
    failed = await agent.call("list_workflows", status="ERROR")
    return await agent.call(
        "inspect", workflow_id=agent.field(failed, "workflows", 0, "workflow_id")
    )


async def _check_why(_engine: Engine, said: str) -> None:
    assert "order-2" in said
    assert "plum" in said
    assert "price" in said


# Approve and finish


async def _arrange_purchase(engine: Engine) -> None:
    await _start(engine, "purchase-1", "purchase", amount=12)
    await engine.reader.wait(["purchase-1"], until="any", timeout_seconds=30)


async def _script_approve(agent: Agent, _folder: Path) -> str:
    waiting = await agent.call("list_workflows", waiting=True)
    workflow_id = agent.field(waiting, "workflows", 0, "workflow_id")
    topic = agent.field(waiting, "workflows", 0, "waiting_on")
    await agent.call("send_message", workflow_id=workflow_id, topic=topic, message="yes")
    return await agent.call("wait_for_workflows", workflow_ids=[workflow_id])


async def _check_approved(engine: Engine, _said: str) -> None:
    assert await _output(engine, "purchase-1") == "bought"


# Fork a failing run after repairing its code


async def _script_repair(agent: Agent, folder: Path) -> str:
    await agent.call("inspect", workflow_id="order-2")
    source = folder / "workflows" / "shop.py"
    code = source.read_text(encoding="utf-8")
    source.write_text(code.replace('"pear": 4', '"pear": 4, "plum": 5'), encoding="utf-8")
    forked = await agent.call("fork", workflow_id="order-2", from_step=2)
    return await agent.call("wait_for_workflows", workflow_ids=[agent.field(forked, "workflow_id")])


async def _check_repaired(engine: Engine, _said: str) -> None:
    runs = (await engine.reader.runs(name="order", status="SUCCESS")).workflows
    outputs = [await _output(engine, run.workflow_id) for run in runs]
    assert "reserved plum for 5" in outputs
    newest = await engine.reader.run(runs[0].workflow_id)
    assert newest.forked_from == "order-2"


# Repair a failed run with other arguments


async def _script_other_arguments(agent: Agent, _folder: Path) -> str:
    await agent.call("inspect", workflow_id="order-2")
    forked = await agent.call("fork", workflow_id="order-2", from_step=2, args={"item": "pear"})
    return await agent.call("wait_for_workflows", workflow_ids=[agent.field(forked, "workflow_id")])


async def _check_other_arguments(engine: Engine, _said: str) -> None:
    [fork] = (await engine.reader.run("order-2")).forks
    assert await _output(engine, fork.workflow_id) == "reserved plum for 4"


# Resolve a doubt


async def _arrange_doubt(engine: Engine) -> None:
    await _start(engine, "payment-1", "payment", amount=12)
    await engine.reader.wait(["payment-1"], until="any", timeout_seconds=60)


async def _script_doubt(agent: Agent, folder: Path) -> str:
    await agent.call("inspect", workflow_id="payment-1")
    happened = "paid 12" in (folder / "ledger.txt").read_text(encoding="utf-8")
    await agent.call(
        "resolve_step", workflow_id="payment-1", step=1, happened=happened, result="paid"
    )
    return await agent.call("wait_for_workflows", workflow_ids=["payment-1"])


async def _check_doubt(engine: Engine, _said: str) -> None:
    assert await _output(engine, "payment-1") == "paid"
    ledger = engine.project / "ledger.txt"
    assert ledger.read_text(encoding="utf-8") == "paid 12\n"


# Fan out and collect


async def _arrange_nothing(_engine: Engine) -> None:
    """The catalog is all that is there."""


async def _script_fan_out(agent: Agent, _folder: Path) -> str:
    await agent.call("workflow_catalog", query="order")
    started = await agent.call(
        "start_workflow",
        batch=[
            {"name": "order", "args": {"item": item}, "workflow_id": f"many-{number}"}
            for number, item in enumerate(["apple", "pear", "apple", "pear"])
        ],
    )
    assert "many-3" in started
    ids = [f"many-{number}" for number in range(4)]
    return await agent.call("wait_for_workflows", workflow_ids=ids)


async def _check_fanned_out(engine: Engine, said: str) -> None:
    runs = (await engine.reader.runs(name="order", status="SUCCESS")).workflows
    assert len(runs) >= 4
    assert "reserved pear for 4" in said


# Stop a run away


async def _arrange_runaway(engine: Engine) -> None:
    await _start(engine, "poll-1", "poll_for_ever")
    await _start(engine, "order-1", "order", item="apple")
    await engine.reader.wait(["order-1"], timeout_seconds=30)  # the other one alone is unfinished
    await engine.reader.wait(["poll-1"], until="change", timeout_seconds=30)


async def _script_stop(agent: Agent, _folder: Path) -> str:
    running = await agent.call("list_workflows", status="PENDING")
    workflow_id = agent.field(running, "workflows", 0, "workflow_id")
    return await agent.call("cancel", workflow_ids=[workflow_id])


async def _check_stopped(engine: Engine, _said: str) -> None:
    assert (await engine.reader.run("poll-1")).status == "CANCELLED"
    assert (await engine.reader.run("order-1")).status == "SUCCESS"


# Move waiting runs to new code


async def _arrange_purchases(engine: Engine) -> None:
    """Three runs that wait, and have left their process."""
    ids = [f"purchase-{number}" for number in (1, 2, 3)]
    for number, workflow_id in enumerate(ids, 1):
        await _start(engine, workflow_id, "purchase", amount=number)
    with anyio.fail_after(60):
        while not all([(await engine.reader.run(one)).rest for one in ids]):  # noqa: ASYNC110 - nobody is told
            await anyio.sleep(0.1)


async def _script_move(agent: Agent, folder: Path) -> str:
    source = folder / "workflows" / "shop.py"
    code = source.read_text(encoding="utf-8")
    source.write_text(code.replace('return "bought"', 'return "paid"'), encoding="utf-8")
    looked = await agent.call("move_to_version", filter={"name": "purchase"})
    ids = [one["workflow_id"] for one in agent.field(looked, "workflows")]
    return await agent.call("move_to_version", workflow_ids=ids, dry_run=False)


async def _check_moved(engine: Engine, _said: str) -> None:
    for number in (1, 2, 3):
        await engine.send(f"purchase-{number}", "approval", "yes")
        assert await _output(engine, f"purchase-{number}") == "paid"


SCENARIOS = (
    Scenario(
        "why_failed",
        "One of this project's order runs has failed. Find out which one, in which step, and why, and tell me.",
        _arrange_failed,
        _script_why,
        _check_why,
    ),
    Scenario(
        "approve",
        "A purchase waits for an approval. I say yes to it. See to it that it is finished.",
        _arrange_purchase,
        _script_approve,
        _check_approved,
    ),
    Scenario(
        "repair",
        "The run order-2 failed: plums cost 5. Repair workflows/shop.py, and let the run go on from the step that failed, "
        "without reserving again.",
        _arrange_failed,
        _script_repair,
        _check_repaired,
    ),
    Scenario(
        "other_arguments",
        "The run order-2 failed: there are no plums. Let it go on with a pear from the step that failed, without reserving again.",
        _arrange_failed,
        _script_other_arguments,
        _check_other_arguments,
    ),
    Scenario(
        "doubt",
        "The run payment-1 does not know whether it has paid. The file ledger.txt has all payments. "
        'If it has paid, its step returns "paid". See to it that it is finished.',
        _arrange_doubt,
        _script_doubt,
        _check_doubt,
    ),
    Scenario(
        "fan_out",
        "Order an apple, a pear, an apple and a pear, each as a durable run of its own, and tell me all four results.",
        _arrange_nothing,
        _script_fan_out,
        _check_fanned_out,
    ),
    Scenario(
        "run_away",
        "Something in this project polls without an end. Find it and stop it; leave everything else alone.",
        _arrange_runaway,
        _script_stop,
        _check_stopped,
    ),
    Scenario(
        "move",
        'Three purchases wait for their approvals. In workflows/shop.py an approved purchase shall return "paid" in place of "bought". '
        "Change that, and see to it that the three get the new code without being started again. Do not approve them.",
        _arrange_purchases,
        _script_move,
        _check_moved,
    ),
)

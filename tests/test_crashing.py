"""Runs that end their worker: each is found and set apart, and the others do not suffer from it."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.telling import traces
from helpers import copy_flow, processes_of, until_found
from hints import alternatives, calls
from requirements import proves

pytestmark = pytest.mark.anyio

WAITING: dict[str, tuple[str, dict[str, str | float]]] = {
    "receives": ("receives", {"topic": "go"}),
    "receives-too": ("receives", {"topic": "go"}),
    "sleeps": ("dozes", {"seconds": 600}),
    "parent": ("waits_for_child", {}),
}
STEPPING = [f"steps-{number}" for number in range(10)]


async def start(engine: Engine, workflow_id: str, name: str, **args: str | float) -> None:
    await engine.start(StartRequest(name=name, args=args, workflow_id=workflow_id))


async def start_waiting(engine: Engine) -> list[str]:
    """Start runs that wait, and return them with the child of one once all do."""
    for workflow_id, (name, args) in WAITING.items():
        await start(engine, workflow_id, name, **args)

    await until_started(engine, "parent", children=1)

    async def all_wait() -> bool:
        causes = [await why(engine, one) for one in (*WAITING, "parent-1")]
        return all(cause.startswith(("waits for", "sleeping")) for cause in causes)

    await until_found(all_wait, "all of them wait", seconds=60)
    return [*WAITING, "parent-1"]


async def until_started(engine: Engine, workflow_id: str, *, children: int) -> None:
    """Return once the run has started so many others."""

    async def found() -> bool:
        return len(await engine.reader.tree(workflow_id)) == children

    await until_found(found, f"{workflow_id} has started {children} runs", seconds=120)


async def why(engine: Engine, workflow_id: str) -> str:
    """The first sentence of `inspect`."""
    text = traces.markdown(await engine.reader.run(workflow_id))
    return text.partition("**Why:** ")[2].partition("\n")[0]


async def following(engine: Engine, workflow_id: str) -> str:
    """The text of `inspect` after **Next:**."""
    text = traces.markdown(await engine.reader.run(workflow_id))
    return text.partition("**Next:** ")[2].partition("\n")[0]


async def cancelling(engine: Engine, workflow_id: str) -> str:
    """The text after **Next:** if it says to cancel the run, else nothing."""
    text = await following(engine, workflow_id)
    return text if text.startswith("cancel(") else ""


async def outputs(engine: Engine, workflow_ids: Collection[str]) -> set[str]:
    result = await engine.reader.wait(list(workflow_ids), timeout_seconds=120)
    assert len(result.done) == len(workflow_ids), result
    return {str(one.output) for one in result.done}


async def until_says(engine: Engine, workflow_id: str, text: str) -> None:
    async def said() -> bool:
        return text in await why(engine, workflow_id)

    await until_found(said, f"{workflow_id}: {text}", seconds=120)


@proves("crash:set-apart", "crash:innocent", "crash:ends")
@pytest.mark.timeout(300)
@pytest.mark.long
async def test_a_run_that_ends_its_worker_is_named_and_ends_and_no_other_suffers(
    engine: Engine, folder: Path
) -> None:
    copy_flow("crashing", folder)
    waiting = await start_waiting(engine)
    for workflow_id in STEPPING:
        await start(engine, workflow_id, "steps_along", steps=4, seconds=0.5)
    await start(engine, "culprit", "crashes", healed=str(folder / "healed"))
    assert await outputs(engine, STEPPING) == {"4"}
    assert (await engine.reader.run("culprit")).status in ("PENDING", "ENQUEUED")
    await until_says(engine, "culprit", "it runs in a worker of its own")
    [problem] = (await engine.reader.status()).problems
    assert problem.startswith("culprit (crashes) ")
    assert "(exit status 3), " in problem
    named = "(exit status 3), in the step leave_at_once, after step 1."
    await until_says(engine, "culprit", named)
    assert (await why(engine, "culprit")).startswith("dead-lettered: it ended its worker ")
    for one in waiting:
        run = await engine.reader.run(one)
        assert run.suspect is None
        assert run.recovery_attempts <= 1, one  # 0: it was parked
    await until_left_alone(engine, folder)
    repaired, resumed = alternatives(await following(engine, "culprit"))
    (folder / "healed").touch()
    assert repaired[0] == ("inspect", {"workflow_id": "culprit", "detail": "source"})
    assert repaired[1:] == [("fork", {"workflow_id": "culprit", "from_step": 2})]
    fork = (await engine.fork("culprit", 2)).workflow_id
    assert resumed == [("resume", {"workflow_ids": ["culprit"]})]
    await engine.resume(["culprit"])
    assert await outputs(engine, ["culprit", fork]) == {"healed"}


async def until_left_alone(engine: Engine, folder: Path) -> None:
    left: list[object] = []

    async def alone() -> bool:
        apart = processes_of(folder, "--apart")
        left[:] = [*apart, *(await engine.reader.status()).problems]
        return not left

    with suppress(AssertionError):
        await until_found(alone, "workers of suspects have ended", seconds=60)
    assert left == []


@pytest.mark.long
@proves("crash:set-apart", "crash:ends")
@pytest.mark.timeout(300)
async def test_several_kinds_of_crashes_at_once_are_told_apart_and_one_heals(
    engine: Engine, folder: Path
) -> None:
    """In an async step, in a workflow's own code, in a queue of partitions; by signals and by exit status 0. A MemoryError fails only its own run."""
    copy_flow("crashing", folder)
    healed = folder / "healed"
    await start(engine, "in-step", "segfaults", healed=str(folder / "repaired"))
    await start(engine, "in-body", "crashes_in_body")
    await start(engine, "spreads", "spreads", healed=str(healed))
    text = await until_found(lambda: cancelling(engine, "in-step"), "it is alone", seconds=120)
    calls_made = calls(text)
    await until_says(engine, "in-body", "dead-lettered: it ended its worker ")
    assert "(exit status 0), after step 1." in await why(engine, "in-body")
    await until_says(engine, "in-step", "killed by SIGSEGV), in the step segfault_soon")
    await until_started(engine, "spreads", children=3)
    assert await outputs(engine, ["in-other-partition", "behind-in-partition"]) == {"1"}
    assert "(killed by SIGKILL)" in await why(engine, "in-partition")
    healed.touch()
    assert await outputs(engine, ["in-partition"]) == {"healed"}
    await start(engine, "limited", "lacks_memory")
    (limited,) = (await engine.reader.wait(["limited"], timeout_seconds=30)).done
    assert limited.status == "ERROR"
    assert "MemoryError" in str(limited.error)
    assert (await engine.reader.run("limited")).suspect is None
    cancelled, looked, forked = calls_made
    assert (cancelled, looked[0]) == (("cancel", {"workflow_ids": ["in-step"]}), "inspect")
    await engine.cancel(["in-step"])
    (folder / "repaired").touch()
    fork = await engine.fork(**forked[1])
    assert await outputs(engine, [fork.workflow_id]) == {"healed"}
    await until_left_alone(engine, folder)

"""More workers do more, where steps wait for something outside."""

import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from external.wide import directories
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long]

AT_ONCE = 4  # runs of a worker
STEPS = 5
SECONDS = 0.5  # of a step, in which it only waits: long enough that what a slow machine needs beside it counts little
ROUNDS = 4  # of runs that a worker has one after the other


async def _steps_a_second(engine: Engine, workers: int) -> float:
    """From the begin of the first step to the end of the last one, of as many runs as so many workers have in some rounds."""
    args = {"steps": STEPS, "seconds": SECONDS}
    runs = [StartRequest(name="wide_steps", args=args)] * (workers * AT_ONCE * ROUNDS)
    waiting = [one.workflow_id for one in await engine.start_all(runs)]
    steps: list[dict[str, Any]] = []
    while waiting:
        done = (await engine.reader.wait(waiting[:50], timeout_seconds=90)).done
        outputs: list[Any] = [run.output for run in done]
        steps += [step for output in outputs for step in output]
        waiting = waiting[50:]
    assert len({step["pid"] for step in steps}) == workers
    seconds = max(step["ended"] for step in steps) - min(step["began"] for step in steps)
    return len(steps) / seconds


@pytest.mark.timeout(300)
@proves("scale:more-workers")
async def test_eight_workers_do_several_times_as_many_steps_as_one(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> None:
    url = postgres.database(f"scaling_{secrets.token_hex(4)}")
    rates: dict[int, float] = {}
    root: Path = tmp_path_factory.mktemp("scaling").resolve()
    async with AsyncExitStack() as stack:
        engines: list[Engine] = []
        for more in (1, 1, 2, 4):
            part = directories(more, root / str(len(engines)), url, concurrency=AT_ONCE)
            engines += await stack.enter_async_context(part)
            rates[len(engines)] = await _steps_a_second(engines[0], len(engines))
    # Of at most 8 a second for each worker. With steps of 0.2 s, so of at most 20, there were 18, 35, 72 and 131 on two busy processors.
    assert rates[2] > 1.5 * rates[1], rates
    assert rates[8] > 4 * rates[1], rates

"""Runs that end their worker, in several ways, and runs that must not suffer from it."""

import asyncio
import ctypes
import os
import resource
import signal
import time
from pathlib import Path

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID


@DBOS.step()
def fine(number: int) -> int:
    return number


@DBOS.step()
def leave_at_once(healed: str) -> str:
    if not Path(healed).exists():
        os._exit(3)
    return "healed"


@DBOS.workflow()
def crashes(healed: str) -> str:
    """End the process in the second step, until a file is there."""
    fine(1)
    return leave_at_once(healed)


def segfault_unless(healed: str) -> str:
    if not Path(healed).exists():
        ctypes.string_at(0)
    return "healed"


@DBOS.step()
async def segfault_soon(healed: str) -> str:
    await asyncio.sleep(0.5)
    return segfault_unless(healed)


@DBOS.workflow()
async def segfaults(healed: str) -> str:
    """A segmentation fault in an async step that takes half a second, until a file is there."""
    return await segfault_soon(healed)


@DBOS.workflow(max_recovery_attempts=3)
def crashes_in_body() -> None:
    """End the process in the workflow's own code."""
    fine(1)
    os._exit(0)


@DBOS.step()
def take_all_memory(healed: str) -> str:
    if not Path(healed).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "healed"


@DBOS.workflow()
def is_killed(healed: str) -> str:
    """End as by the kernel, where the machine has no memory left, until a file is there."""
    return take_all_memory(healed)


@DBOS.step()
def run_into_limit() -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 28), limits[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)  # of the whole worker, with all other runs


@DBOS.workflow()
def lacks_memory() -> None:
    """Fail where Python is refused memory."""
    run_into_limit()


@DBOS.step()
def work(seconds: float) -> None:
    time.sleep(seconds)


@DBOS.workflow()
def steps_along(steps: int, seconds: float) -> int:
    """Steps one after the other."""
    for _ in range(steps):
        work(seconds)
    return steps


@DBOS.workflow()
def spreads(healed: str) -> None:
    """Put runs into a queue that does one at a time in each partition; the first ends its worker."""
    DBOS.register_queue("parts", partition_concurrency=1, polling_interval_sec=0.2)
    with SetEnqueueOptions(queue_partition_key="one"):
        with SetWorkflowID("in-partition"):
            DBOS.enqueue_workflow("parts", is_killed, healed)
        with SetWorkflowID("behind-in-partition"):
            DBOS.enqueue_workflow("parts", steps_along, 1, 0.0)
    with SetEnqueueOptions(queue_partition_key="other"), SetWorkflowID("in-other-partition"):
        DBOS.enqueue_workflow("parts", steps_along, 1, 0.0)


@DBOS.workflow()
async def receives(topic: str) -> str:
    """Wait for a message."""
    return await DBOS.recv_async(topic, timeout_seconds=600)


@DBOS.workflow()
def dozes(seconds: float) -> str:
    """Sleep."""
    DBOS.sleep(seconds)
    return "slept"


@DBOS.workflow()
async def waits_for_child() -> str:
    """Wait for a run that waits."""
    child = await DBOS.start_workflow_async(receives, "child")
    return await child.get_result()

"""Runs for many workers: steps that wait, and queues that several workers share. Each run says when it ran, and where."""

import os
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, SetEnqueueOptions, WorkflowHandle

Ran = dict[str, Any]

# Without a limit of its own the worker that looks first may have all runs.
LIMITS: dict[str, dict[str, Any]] = {
    "wide_rate": {"limiter": {"limit": 4, "period": 2.0}, "worker_concurrency": 2},
    "wide_partitions": {"partition_concurrency": 1, "worker_concurrency": 3},
    "wide_priorities": {"global_concurrency": 1},
    "wide_total": {"global_concurrency": 3, "worker_concurrency": 2},
    "wide_each": {"worker_concurrency": 2},
}


@DBOS.step()
def wide_wait(seconds: float) -> Ran:
    began = time.time()
    time.sleep(seconds)
    return {"began": began, "ended": time.time(), "worker": DBOS.executor_id, "pid": os.getpid()}


@DBOS.workflow()
def wide_steps(steps: int, seconds: float) -> list[Ran]:
    """Some steps, each of which waits."""
    return [wide_wait(seconds) for _ in range(steps)]


@DBOS.workflow()
def wide_item(key: str, priority: int, seconds: float) -> Ran:
    """One run of a queue."""
    return wide_wait(seconds) | {"key": key, "priority": priority}


@DBOS.step()
def wide_await_file(file: str) -> None:
    while not Path(file).exists():
        time.sleep(0.02)


@DBOS.workflow()
def wide_gate(file: str) -> None:
    """Take a place of its queue until the file is there."""
    wide_await_file(file)


@DBOS.workflow()
def wide_enqueue(
    queue: str, items: list[tuple[str, int]], seconds: float, gate: str | None = None
) -> list[Ran]:
    """Put items, each a partition or "" and a priority or 0, into a queue, behind a gate if one is named; return what they say."""
    DBOS.register_queue(queue, polling_interval_sec=0.5, **LIMITS[queue])
    if gate is not None:
        with SetEnqueueOptions(priority=1):
            DBOS.enqueue_workflow(queue, wide_gate, gate)
    handles: list[WorkflowHandle[Ran]] = []
    for key, priority in items:
        with SetEnqueueOptions(queue_partition_key=key or None, priority=priority or None):
            handles.append(DBOS.enqueue_workflow(queue, wide_item, key, priority, seconds))
    return [handle.get_result() for handle in handles]

# pyright: reportPrivateUsage=false
"""Due work in a quiet project happens at its time, without a look at the database each second."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dbos import _core as dbos_core
from dbos import _queue as dbos_queue
from dbos import _workflow_commands as dbos_commands
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.seam.patches import places, wakeups
from helpers import copy_flow, until, until_found

pytestmark = [pytest.mark.anyio, pytest.mark.long]


async def test_a_delayed_run_begins_at_its_time_and_one_whose_time_is_over_ends(
    engine: Engine, folder: Path
) -> None:
    copy_flow("messages", folder)
    asked = time.time()
    args: dict[str, JsonValue] = {"topic": "t", "timeout_seconds": 0.1}
    delayed = await engine.start(StartRequest(name="wait_for", args=args, delay_seconds=7))
    ended = await engine.reader.wait([delayed.workflow_id], timeout_seconds=60)
    assert ended.done[0].status == "SUCCESS"
    first, *_ = (await engine.reader.run(delayed.workflow_id)).steps
    assert first.started_at is not None
    assert first.started_at > datetime.fromtimestamp(asked + 7, UTC)
    late = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}, timeout_seconds=1))

    async def ended_by_its_timeout() -> bool:
        return (await engine.reader.run(late.workflow_id)).status == "CANCELLED"

    await until_found(ended_by_its_timeout, "its time is over")


class Jobs:
    """The thread of dbos's jobs, run by hand: each round waits as long as it is told, until the bell rings."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, until_due: Callable[[float], float]
    ) -> None:
        self.bell = wakeups.Doorbell()
        self.rounds = 0
        self._stop = threading.Event()
        replaced: dict[Any, Any] = {}
        monkeypatch.setattr(wakeups, "replace_in_dbos", replaced.__setitem__)
        monkeypatch.setattr(wakeups, "_until_due", until_due)
        monkeypatch.setattr(dbos_commands, "background_jobs_thread", self._work)
        self.look = wakeups.look_when_due(self.bell)
        run = replaced[self._work]
        self._thread = threading.Thread(target=run, args=(self._stop, None), daemon=True)
        self._thread.start()

    def _work(self, stop: Any, _dbos: object) -> None:
        while not stop.is_set():
            self.rounds += 1
            stop.wait(1.0)
            stop.wait(0.0)

    def end(self) -> None:
        """End the thread."""
        self._stop.set()
        self.bell.ring_all()
        self._thread.join()


async def test_a_quiet_thread_looks_when_a_run_enters_a_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def until_due(least: float) -> float:
        asked.append(least)
        return 3600.0

    jobs = Jobs(monkeypatch, until_due)
    await until(lambda: asked, "it waits")
    for number in range(1, 4):
        await until(lambda: jobs.rounds == len(asked) == number, "it waits again")  # noqa: B023
        jobs.look()
    jobs.end()
    assert set(asked) == {1.0}


async def test_a_thread_that_looks_each_second_is_not_woken_by_every_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = Jobs(monkeypatch, lambda least: least)
    await until(lambda: "\0jobs" in jobs.bell._listening, "it waits")
    rang = jobs.bell.wait("\0jobs", 0, 0.0)
    for _ in range(100):
        jobs.look()
    assert jobs.bell.wait("\0jobs", rang, 0.0) == rang
    jobs.end()


async def test_whoever_may_have_left_a_run_for_want_of_a_place_is_rung_for_one_that_becomes_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    active = dbos_core.ActiveWorkflowById
    for owner, name in (
        (active, "_remove"),
        (active, "add"),
        (dbos_core, "_execute_workflow_wthread"),
        (dbos_core, "_execute_workflow_async"),
        (dbos_queue, "execute_dequeued_workflow"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # and back
    bell, runs = wakeups.Doorbell(), active()
    places_ = places.Places(bell)
    places_.install()

    def rings() -> int:
        runs.add("run").release()
        return bell.wait("queue", 0, 0.0)

    assert rings() == 0
    places_.look("queue")
    assert [rings(), rings()] == [1, 2]
    places_.has_all("queue")
    assert rings() == 2


def test_a_ring_for_a_queue_that_has_no_thread_here_wakes_the_thread_that_makes_it() -> None:
    """Another worker has registered the queue: its runs are for this one too."""
    bell = wakeups.Doorbell()
    manager = wakeups._MANAGER
    heard = bell.wait(manager, -1, 0.0)
    bell.ring("elsewhere")
    assert bell.wait(manager, heard, 0.0) == heard + 1
    bell.wait("elsewhere", 0, 0.0)  # its thread is there
    bell.ring("elsewhere")
    assert bell.wait(manager, heard, 0.0) == heard + 1

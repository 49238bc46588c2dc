"""All kinds of operations in two workflows, each of which leaves a line in a file when it happens; and what a run may wait for."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from durable_workflows import Retry, gather_runs, map_runs, map_runs_async, step, wait_until
from durable_workflows.authoring import project_datasource, project_datasource_async

datasource = project_datasource()
datasource_async = project_datasource_async()
_LOCK = threading.Lock()


def happens(file: str, word: str) -> str:
    with _LOCK:
        path = Path(file)
        with path.open("a", encoding="utf-8") as lines:  # deterministic: what happens is counted
            lines.write(f"{word}\n")
    return word


@DBOS.step()
def kind_step(file: str, word: str) -> str:
    return happens(file, word)


@DBOS.step()
async def kind_step_async(file: str, word: str) -> str:
    return happens(file, word)


@step(effect="once")
def kind_once(file: str) -> str:
    return happens(file, "once")


@step(effect="once")
async def kind_once_async(file: str) -> str:
    return happens(file, "once")


@step(retry=Retry(attempts=2, initial=0))
def kind_retried(file: str) -> str:
    if happens(file, f"attempt {random.random()}") and _count(file, "attempt") % 2:
        raise OSError("again")
    return "tried"


def _count(file: str, word: str) -> int:
    return Path(file).read_text(encoding="utf-8").count(word)


@datasource.transaction
def kind_transaction(file: str) -> str:
    return happens(file, "transaction")


@datasource_async.transaction
async def kind_transaction_async(file: str) -> str:
    return happens(file, "transaction")


@DBOS.workflow()
def kind_child(file: str) -> str:
    DBOS.set_event("told", "by the child")
    return happens(file, "child")


@DBOS.workflow()
async def kind_child_async(file: str) -> str:
    return happens(file, "child")


@dataclass(frozen=True)
class Kind:
    """A value of a class of one's own."""

    names: set[str]
    at: datetime


@DBOS.step()
def kind_value(file: str) -> Kind:
    return Kind({happens(file, "value")}, datetime(2026, 1, 1, tzinfo=UTC))


@DBOS.workflow()
def kinds(file: str) -> list[object]:
    """All that a sync workflow does."""
    found: list[object] = [kind_step(file, "step"), kind_once(file), kind_retried(file)]
    found += [kind_transaction(file), DBOS.run_step({"name": "run"}, happens, file, "run_step")]
    assert kind_value(file) == Kind({"value"}, datetime(2026, 1, 1, tzinfo=UTC))
    child = DBOS.start_workflow(kind_child, file)
    with SetWorkflowID(f"{DBOS.workflow_id} queued"):
        queued = DBOS.enqueue_workflow("_dbos_internal_queue", kind_child, file)
    first = DBOS.wait_first([child, queued])
    found += [child.get_result(), queued.get_result(), kind_child(file)]
    found += [first.workflow_id == child.workflow_id]
    found += [DBOS.get_event(child.workflow_id, "told", 5), len(map_runs(kind_child, [file] * 3))]
    found += [len(gather_runs({"a": (kind_child, file)}))]
    found += [wait_until(lambda: happens(file, "looked"), every=0.1, deadline=5)]
    DBOS.send(child.workflow_id, "sent", "topic")
    assert DBOS.workflow_id is not None
    DBOS.send(DBOS.workflow_id, "to itself", "self")
    found += [DBOS.recv("self", timeout_seconds=5), DBOS.recv("nothing", timeout_seconds=0)]
    DBOS.set_event("event", 1)
    DBOS.write_stream("stream", 1)
    DBOS.close_stream("stream")
    found += list(DBOS.read_stream(DBOS.workflow_id, "stream"))
    DBOS.sleep(0.01)
    found += [DBOS.patch("patched"), DBOS.deprecate_patch("never")]
    with ThreadPoolExecutor(1) as pool:  # deterministic: no step runs in it
        reserved = DBOS.reserve_step()
        found += [reserved.run(None, happens, file, "reserved")]
        found += [pool.submit(str, "in a thread").result()]
    DBOS.cancel_workflow(child.workflow_id)
    return found


@DBOS.workflow()
async def kinds_async(file: str) -> list[object]:
    """All that an async workflow does."""
    found: list[object] = [await kind_step_async(file, "step"), await kind_once_async(file)]
    found += [await kind_transaction_async(file)]
    found += await asyncio.gather(*(kind_step_async(file, f"at once {n}") for n in range(3)))
    found += [await asyncio.to_thread(str, "in a thread")]  # deterministic: no step runs in it
    child = await DBOS.start_workflow_async(kind_child_async, file)
    await DBOS.wait_first_async([child])
    found += [await child.get_result(), await kind_child_async(file)]
    found += [len(await map_runs_async(kind_child_async, [file] * 2))]
    done, _ = await DBOS.asyncio_wait([kind_step_async(file, "waited for")])
    assert DBOS.workflow_id is not None
    await DBOS.send_async(DBOS.workflow_id, "to itself", "self")
    found += [len(done), await DBOS.recv_async("self", timeout_seconds=5)]
    await DBOS.set_event_async("event", 1)
    await DBOS.write_stream_async("stream", 1)
    await DBOS.close_stream_async("stream")
    found += [one async for one in DBOS.read_stream_async(DBOS.workflow_id, "stream")]
    await DBOS.sleep_async(0.01)
    return found


@DBOS.workflow()
def waits_for_go(file: str) -> object:
    kind_step(file, "before")
    return DBOS.recv("go", timeout_seconds=3000)


@DBOS.workflow()
def waits_for_go_and_ends(file: str) -> str:
    kind_step(file, "before")
    return f"{DBOS.recv('go', timeout_seconds=30)} and more"


@DBOS.workflow()
def waits_for_other_topic(file: str) -> object:
    kind_step(file, "before")
    return DBOS.recv("another", timeout_seconds=3000)


@DBOS.workflow()
def step_before_wait(file: str) -> object:
    kind_step(file, "before")
    kind_step(file, "new")
    return DBOS.recv("go", timeout_seconds=3000)


@DBOS.workflow()
def patch_before_wait(file: str) -> object:
    kind_step(file, "before")
    if DBOS.patch("new"):
        kind_step(file, "new")
    return DBOS.recv("go", timeout_seconds=3000)


@DBOS.workflow()
def waits_for_event(file: str) -> object:
    kind_step(file, "before")
    return DBOS.get_event("nobody", "go", timeout_seconds=3000)


@DBOS.workflow()
def waits_no_longer(file: str) -> str:
    return kind_step(file, "before")


@DBOS.workflow()
def sleeps_instead(file: str) -> str:
    kind_step(file, "before")
    DBOS.sleep(3000)
    return "slept"


@DBOS.workflow()
def kinds_wait_for_child(file: str) -> object:
    return waits_for_go(file)


@DBOS.workflow()
async def waits_at_once(file: str) -> tuple[object, ...]:
    """A wait and finished steps beside it."""
    return await asyncio.gather(
        DBOS.recv_async("go", timeout_seconds=3000),
        kind_step_async(file, "beside"),
        kind_step_async(file, "beside it too"),
    )

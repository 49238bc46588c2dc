"""Runs to be cancelled while they wait, and while a step of theirs runs."""

import asyncio
import time
from pathlib import Path

from dbos import DBOS, SetWorkflowTimeout, WorkflowHandleAsync
from dbos import error as dbos_error

LONG = 3600.0


@DBOS.workflow()
def rests() -> None:
    """Sleep for an hour."""
    DBOS.sleep(LONG)


@DBOS.workflow()
async def rests_async() -> None:
    """Sleep for an hour."""
    await DBOS.sleep_async(LONG)


@DBOS.step(retries_allowed=True, interval_seconds=LONG, max_attempts=2)
def fails_once(file: str) -> None:
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write("attempt\n")
    if len(Path(file).read_text(encoding="utf-8").splitlines()) == 1:
        raise ValueError("not yet")


@DBOS.step(retries_allowed=True, interval_seconds=LONG, max_attempts=2)
async def fails_once_async(file: str) -> None:
    await asyncio.to_thread(fails_once, file)


@DBOS.workflow()
def waits(how: str, file: str) -> None:
    """Wait in one of the ways there are, and tell that it has left."""
    try:
        match how:
            case "sleep":
                DBOS.sleep(LONG)
            case "message":
                DBOS.recv("nothing", timeout_seconds=LONG)
            case "event":
                DBOS.get_event("the-silent-one", "nothing", timeout_seconds=LONG)
            case "attempt":
                fails_once(f"{file}-attempts")
            case "child":
                DBOS.start_workflow(rests).get_result()
            case "polled child":
                child = DBOS.start_workflow(rests)
                DBOS.retrieve_workflow(child.workflow_id, existing_workflow=False).get_result()
            case _:
                DBOS.wait_first([DBOS.start_workflow(rests)])
    finally:
        Path(file).touch()  # deterministic: the test looks at it


async def result_of(workflow_id: str) -> None:
    handle: WorkflowHandleAsync[None] = await DBOS.retrieve_workflow_async(
        workflow_id, existing_workflow=False
    )
    await handle.get_result()


@DBOS.workflow()
async def waits_async(how: str, file: str) -> None:
    """Wait in one of the ways there are, and tell that it has left."""
    try:
        match how:
            case "sleep":
                await DBOS.sleep_async(LONG)
            case "message":
                await DBOS.recv_async("nothing", timeout_seconds=LONG)
            case "event":
                await DBOS.get_event_async("the-silent-one", "nothing", timeout_seconds=LONG)
            case "attempt":
                await fails_once_async(f"{file}-attempts")
            case "child":
                await (await DBOS.start_workflow_async(rests_async)).get_result()
            case "polled child":
                child = await DBOS.start_workflow_async(rests_async)
                await result_of(child.workflow_id)
            case _:
                await DBOS.wait_first_async([await DBOS.start_workflow_async(rests_async)])
    finally:
        Path(file).touch()  # deterministic: the test looks at it  # noqa: ASYNC240


@DBOS.step()
def work(begun: str, go_on: str, then: str = "") -> str:
    with Path(begun).open("a", encoding="utf-8") as lines:
        lines.write("begun\n")
    while not Path(go_on).exists():
        time.sleep(0.02)
    with Path(begun).open("a", encoding="utf-8") as lines:
        lines.write("ended\n")
    if then:
        raise ValueError(then)
    return "done"


@DBOS.workflow()
def works(begun: str, go_on: str, then: str = "") -> str:
    """Do one step until a file is there, then wait for a message."""
    try:
        result = work(begun, go_on, then)
    except ValueError as error:
        result = f"failed: {error}"
    DBOS.recv("go", timeout_seconds=LONG)
    return result


@DBOS.workflow()
def awaits_timed_child(kind: str, begun: str, go_on: str) -> str:
    """Start a child that is given half a second."""
    with SetWorkflowTimeout(0.5):
        if kind == "step":
            handle = DBOS.start_workflow(works, begun, go_on)
        else:
            handle = DBOS.start_workflow(rests)
    try:
        handle.get_result()
    except dbos_error.DBOSAwaitedWorkflowCancelledError:
        return "cancelled"
    return "ended"


@DBOS.workflow()
async def awaits_timed_child_async(kind: str, begun: str, go_on: str) -> str:
    """Start a child that is given half a second."""
    with SetWorkflowTimeout(0.5):
        if kind == "step":
            handle = await DBOS.start_workflow_async(works_async, begun, go_on)
        else:
            handle = await DBOS.start_workflow_async(rests_async)
    try:
        await handle.get_result()
    except dbos_error.DBOSAwaitedWorkflowCancelledError:
        return "cancelled"
    return "ended"


@DBOS.step()
async def work_async(begun: str, go_on: str) -> str:
    return await asyncio.to_thread(work, begun, go_on)


@DBOS.workflow()
async def works_async(begun: str, go_on: str) -> str:
    """Do one step until a file is there."""
    return await work_async(begun, go_on)


@DBOS.workflow()
def calls_timed_child() -> str:
    """Call a child that is given half a second."""
    with SetWorkflowTimeout(0.5):
        try:
            rests()
        except dbos_error.DBOSAwaitedWorkflowCancelledError:
            return "cancelled"
    return "ended"


@DBOS.step()
def note(file: str, name: str) -> str:
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(f"{name}\n")
    return name


@DBOS.workflow()
def gated(name: str, waits: bool, file: str) -> str:
    """Do something, once a message says so."""
    if waits:
        DBOS.recv("gate", timeout_seconds=LONG)
    return note(file, name)

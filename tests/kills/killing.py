"""Runs that wait again and again, until the message `LAST` comes or there is a file `over`, and write down what they do: `kills/ledger.py` reads it.

Each step writes when it begins and when it ends, and the body that its result is recorded: it gets it only then.
"""

import asyncio
import os
import random
import time
from pathlib import Path

from dbos import DBOS, SetWorkflowID, WorkflowHandleAsync

from durable_workflows import ask_human, ask_human_async, receive, receive_async

LAST = 0
FOREVER = 86_400.0
_SECONDS = (0.0, 0.01, 0.02, 0.05, 0.2)  # that a step takes


def write(folder: str, what: str, step: int) -> None:
    """Write a line to the run's file."""
    line = (
        f"{what} {step} {os.getpid()} {time.time():.3f}\n"  # deterministic: nothing depends on it
    )
    with (Path(folder) / str(DBOS.workflow_id)).open("a", encoding="utf-8") as out:
        out.write(line)


@DBOS.step()
def work(folder: str, step: int) -> bool:
    """Take a moment; return whether it is over."""
    write(folder, "begins", step)
    time.sleep(random.choice(_SECONDS))
    write(folder, "ends", step)
    return (Path(folder) / "over").exists()


@DBOS.step()
async def work_async(folder: str, step: int) -> bool:
    """`work` of an async run."""
    write(folder, "begins", step)
    await asyncio.sleep(random.choice(_SECONDS))
    write(folder, "ends", step)
    return (Path(folder) / "over").exists()


def done(folder: str, step: int) -> bool:
    """Do a step, and note that it is recorded."""
    is_over = work(folder, step)
    write(folder, "recorded", step)
    return is_over


async def done_async(folder: str, step: int) -> bool:
    """`done` of an async run."""
    is_over = await work_async(folder, step)
    write(folder, "recorded", step)
    return is_over


@DBOS.workflow()
def kept_receives(folder: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        came.append(receive("go", schema=int))
        done(folder, len(came))
    return came


@DBOS.workflow()
async def kept_receives_async(folder: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        came.append(await DBOS.recv_async("go", FOREVER))
        await done_async(folder, len(came))
    return came


@DBOS.workflow()
async def kept_branches(folder: str) -> list[int]:
    """Two waits at once; the message comes on one of the two topics, and then on the other."""
    came: list[int] = []
    while LAST not in came:
        waits = receive_async("one", schema=int), receive_async("two", schema=int)
        came += await asyncio.gather(*waits)
        await done_async(folder, len(came))
    return came


@DBOS.workflow()
def kept_asks(folder: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        came.append(ask_human("Go on?", schema=int))
        done(folder, len(came))
    return came


@DBOS.workflow()
async def kept_asks_async(folder: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        came.append(await ask_human_async("Go on?", schema=int))
        await done_async(folder, len(came))
    return came


@DBOS.workflow()
def kept_sleeps(folder: str, seconds: float) -> int:
    rounds, is_over = 0, False
    while not is_over:
        DBOS.sleep(seconds)
        rounds += 1
        is_over = done(folder, rounds)
    return rounds


@DBOS.workflow()
async def kept_sleeps_async(folder: str, seconds: float) -> int:
    rounds, is_over = 0, False
    while not is_over:
        await DBOS.sleep_async(seconds)
        rounds += 1
        is_over = await done_async(folder, rounds)
    return rounds


@DBOS.workflow()
def kept_times_out(folder: str, seconds: float) -> int:
    rounds, is_over = 0, False
    while not is_over:
        assert receive("never", timeout=seconds, default="late") == "late"
        rounds += 1
        is_over = done(folder, rounds)
    return rounds


@DBOS.workflow()
def kept_expires() -> None:
    """It is cancelled when its time is over."""
    receive("never")


@DBOS.workflow()
def kept_sets(folder: str) -> list[int]:
    """Set an event for each message."""
    came: list[int] = []
    while LAST not in came:
        came.append(receive("go", schema=int))
        done(folder, len(came))
        DBOS.set_event(str(len(came)), came[-1])
    return came


@DBOS.workflow()
def kept_gets(folder: str, of: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        came.append(DBOS.get_event(of, str(len(came) + 1), FOREVER))
        done(folder, len(came))
    return came


@DBOS.workflow()
async def kept_gets_async(folder: str, of: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        came.append(await DBOS.get_event_async(of, str(len(came) + 1), FOREVER))
        await done_async(folder, len(came))
    return came


@DBOS.workflow()
def kept_child(folder: str) -> int:
    message = receive("go", schema=int)
    done(folder, 1)
    return message


@DBOS.workflow()
async def kept_child_async(folder: str) -> int:
    message = await receive_async("go", schema=int)
    await done_async(folder, 1)
    return message


@DBOS.workflow()
def kept_calls(folder: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        with SetWorkflowID(f"{DBOS.workflow_id}-{len(came) + 1}"):
            came.append(kept_child(folder))
        done(folder, len(came))
    return came


@DBOS.workflow()
def kept_starts(folder: str) -> list[int]:
    came: list[int] = []
    while LAST not in came:
        with SetWorkflowID(f"{DBOS.workflow_id}-{len(came) + 1}"):
            child = DBOS.start_workflow(kept_child, folder)
        came.append(child.get_result())
        done(folder, len(came))
    return came


@DBOS.workflow()
async def kept_gathers(folder: str) -> list[int]:
    """Two children at once."""
    came: list[int] = []
    while LAST not in came:
        children = [await start(folder, f"{DBOS.workflow_id}-{len(came) + n}") for n in (1, 2)]
        came += await asyncio.gather(*[child.get_result() for child in children])
        await done_async(folder, len(came))
    return came


async def start(folder: str, workflow_id: str) -> WorkflowHandleAsync[int]:
    """Start a child."""
    with SetWorkflowID(workflow_id):
        return await DBOS.start_workflow_async(kept_child_async, folder)


@DBOS.workflow()
def kept_ticks(folder: str) -> str:
    """What a schedule starts."""
    done(folder, 1)
    return "ticked"

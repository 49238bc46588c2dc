"""Callbacks: each hands its token to a file, as to a program outside, and can be held at the moments at which a process may die."""

import time
from pathlib import Path
from typing import Any

from dbos import DBOS
from pydantic import BaseModel

from durable_workflows import (
    Callback,
    CallbackFailed,
    CallbackTimeout,
    callback,
    callback_async,
    step,
    wait_for_callback,
    wait_for_callback_async,
)


class Receipt(BaseModel):
    number: int
    shop: str = "ours"


def hold(file: str, moment: str) -> None:
    """Stay here while the file says so, for the process to be killed."""
    while Path(f"{file}.hold-{moment}").exists():  # deterministic: a test holds it
        Path(f"{file}.held").touch()  # deterministic: a test holds it
        time.sleep(0.02)  # deterministic: a test holds it


def hand_over(file: str, made: Callback[Any]) -> None:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{made.token} {made.url}\n")


@DBOS.step()
def callback_ask(file: str, made: Callback[Any]) -> None:
    hold(file, "before")
    hand_over(file, made)
    hold(file, "after")


@step(effect="once")
def callback_ask_once(made: Callback[Any]) -> None:
    file = f"{made.workflow_id}.once"
    hand_over(file, made)
    hold(file, "after")


@DBOS.workflow()
def callback_plain(
    file: str, timeout: float | None = None, heartbeat: float | None = None
) -> dict[str, Any]:
    made = callback("payment", timeout=timeout, heartbeat=heartbeat)
    hold(file, "between")
    callback_ask(file, made)
    try:
        result = made.wait()
    except (CallbackTimeout, CallbackFailed) as error:
        return {"raised": type(error).__name__, "said": error.message}
    return {"result": result, "again": made.wait()}


@DBOS.workflow()
def callback_typed(file: str) -> str:
    """The result has a type, and the function that submits is no step."""

    def submit(made: Callback[Receipt]) -> None:
        hand_over(file, made)

    receipt = wait_for_callback(submit, topic="receipt", schema=Receipt)
    return f"{receipt.number} from {receipt.shop}"


@DBOS.workflow()
async def callback_awaited(file: str) -> Any:
    async def submit(made: Callback[Any]) -> None:
        hand_over(file, made)

    return await wait_for_callback_async(submit, schema={"type": "integer"}, heartbeat=300)


@DBOS.workflow()
async def callback_two(file: str) -> list[Any]:
    """Two callbacks of one name, awaited in the other order."""
    first = await callback_async("same")
    second = await callback_async("same")
    await DBOS.run_step_async({"name": "one"}, hand_over, file, first)
    await DBOS.run_step_async({"name": "two"}, hand_over, file, second)
    return [await second.wait_async(), await first.wait_async()]


@DBOS.workflow()
def callback_once() -> Any:
    return wait_for_callback(callback_ask_once)


@DBOS.workflow()
def callback_unhandled(file: str, timeout: float | None = None) -> Any:
    made = callback("payment", timeout=timeout)
    callback_ask(file, made)
    return made.wait()


@DBOS.workflow()
def callback_wrong(how: str) -> None:
    if how == "no time":
        callback("wrong", timeout=0)
    if how == "no silence":
        callback("wrong", heartbeat=-1)
    if how == "in a step":
        DBOS.run_step({"name": "inner"}, callback, "wrong")
    if how == "no schema":
        callback("wrong", schema={"type": "no such type"})


@DBOS.workflow()
def callback_shown(file: str) -> str:
    made = callback("shown")
    callback_ask(file, made)
    print(made)
    made.wait()
    return repr(made)


KEPT: list[Callback[Any]] = []


@DBOS.workflow()
def callback_kept(file: str) -> None:
    """The second run waits for the callback of the first one."""
    if not KEPT:
        KEPT.append(callback("kept"))  # deterministic: a test looks at it
    else:
        KEPT[0].wait()


@DBOS.workflow()
def callback_returned(file: str) -> None:
    """What submits returns the callback, which would record it."""

    def submit(made: Callback[Any]) -> Callback[Any]:
        hand_over(file, made)
        return made

    wait_for_callback(submit)

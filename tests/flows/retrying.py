"""Steps that are tried again: each attempt is a line in a file, and can be held, so that its process is killed within it."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from dbos import DBOS

from durable_workflows import Retry, receive, receive_async, step

QUICK = Retry(attempts=3, initial=0.05, jitter=0)
statements: Counter[int] = Counter()  # by thread
execute = psycopg.Cursor.execute


def counted(self: Any, *given: Any, **named: Any) -> Any:
    statements[threading.get_ident()] += 1
    return execute(self, *given, **named)


psycopg.Cursor.execute = counted


class Refused(ValueError):
    """An error with an attribute."""

    def __init__(self, number: int) -> None:
        super().__init__(f"refused {number}")
        self.number = number


def attempt(file: str, fails: int) -> int:
    """Do it, which fails the first times; return the number of all executions."""
    with Path(file).open("a", encoding="utf-8") as out:
        out.write("tried\n")
    number = len(Path(file).read_text(encoding="utf-8").splitlines())
    while Path(f"{file}.hold-{number}").exists():
        Path(f"{file}.held").touch()
        time.sleep(0.02)
    if number <= fails:
        raise Refused(number)
    return number


@step(retry=QUICK)
def retry_quick(file: str, fails: int) -> int:
    return attempt(file, fails)


@step(retry=QUICK, name="quick_async")
async def retry_quick_async(file: str, fails: int) -> int:
    return await asyncio.to_thread(attempt, file, fails)


@step(retry=Retry(attempts=3, initial=30, jitter=0))
def retry_later(file: str) -> int:
    return attempt(file, 1)


@step(retry=Retry(attempts=3, initial=30, jitter=0))
async def retry_later_async(file: str) -> int:
    return await asyncio.to_thread(attempt, file, 1)


@step(retry=Retry(attempts=3, initial=3000, jitter=0))
def retry_much_later(file: str) -> int:
    return attempt(file, 1)


@step(retry=Retry(attempts=3, initial=3000, jitter=0))
async def retry_much_later_async(file: str) -> int:
    return await asyncio.to_thread(attempt, file, 1)


@step(retry=Retry(attempts=3, initial=0, on=(Refused, OSError), not_on=FileNotFoundError))
def retry_some(file: str, kind: str) -> int:
    number = attempt(file, 0)
    if number == 1:
        raise {
            "on": Refused(1),
            "sub": ConnectionError("away"),
            "not-on": FileNotFoundError("no"),
            "other": KeyError("no"),
        }[kind]
    return number


@step(retry=Retry(attempts=3, initial=0, on=Refused))
def retry_until_other(file: str) -> None:
    if attempt(file, 1) == 2:
        raise KeyError("other")


@DBOS.workflow()
def retries_quickly(file: str, fails: int) -> int:
    return retry_quick(file, fails)


@DBOS.workflow()
async def retries_quickly_async(file: str, fails: int) -> int:
    return await retry_quick_async(file, fails)


def leave(file: str) -> None:
    """Tell the test that the code of the run has ended."""
    Path(f"{file}.left").touch()  # deterministic: the test has to see that its code was left


@DBOS.workflow()
def retries_later(file: str) -> int:
    try:
        return retry_later(file)
    finally:
        leave(file)


@DBOS.workflow()
async def retries_later_async(file: str) -> int:
    try:
        return await retry_later_async(file)
    finally:
        leave(file)


@DBOS.workflow()
def retries_much_later(file: str) -> int:
    return retry_much_later(file)


@DBOS.workflow()
async def retries_much_later_async(file: str) -> int:
    return await retry_much_later_async(file)


@DBOS.workflow()
def retries_some(file: str, kind: str) -> int:
    return retry_some(file, kind)


@DBOS.workflow()
def retries_until_other(file: str) -> None:
    retry_until_other(file)


def tell(file: str, error: Exception) -> None:
    """Say what was caught, in each execution of the run."""
    said = [type(error).__name__, str(error), getattr(error, "number", 0), error.__notes__]
    with Path(f"{file}.caught").open(
        "a", encoding="utf-8"
    ) as out:  # deterministic: the test has to see each replay
        out.write(f"{json.dumps(said)}\n")


@DBOS.workflow()
def retries_and_catches(file: str) -> str:
    try:
        retry_quick(file, 9)
    except Refused as error:
        tell(file, error)
    return receive("go", schema=str)


@DBOS.workflow()
async def retries_and_catches_async(file: str) -> str:
    try:
        await retry_quick_async(file, 9)
    except Refused as error:
        tell(file, error)
    return await receive_async("go", schema=str)


@step()
def retry_nested(file: str) -> int:
    return retry_quick(file, 1)  # deterministic: a step in a step is what is tested


@DBOS.workflow()
def retries_within(file: str) -> int:
    return retry_nested(file)


@step()
def not_retried(file: str) -> int:
    return 1


def cost(step_: Callable[[str], object], file: str) -> int:
    """The statements of ten steps, in this thread."""
    before = statements[threading.get_ident()]
    for _ in range(10):
        step_(file)
    return statements[threading.get_ident()] - before


@step(retry=QUICK)
def retry_never(file: str) -> int:
    return 1


@step(retry=Retry(attempts=2, initial=0))
def retry_once(file: str) -> int:
    number = attempt(file, 0)
    if number % 2:
        raise Refused(number)
    return number


@DBOS.workflow()
def retries_cost(file: str) -> list[int]:
    not_retried(file)  # the first step also reads the window
    return [cost(one, file) for one in (not_retried, retry_never, retry_once)]

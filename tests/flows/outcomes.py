"""Runs that handle errors, and that raise what is no ordinary one."""

import asyncio
import errno
import subprocess
import urllib.error
from email.message import Message
from pathlib import Path

from dbos import DBOS
from dbos import error as dbos_error
from pydantic import BaseModel, ValidationError


class Model(BaseModel):
    number: int


class WithKeywords(Exception):
    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@DBOS.step()
def fail_as(kind: str) -> None:
    match kind:
        case "os":
            Path("/nonexistent/file").read_text(encoding="utf-8")
        case "called":
            subprocess.run("echo oops >&2; exit 4", shell=True, check=True, stderr=subprocess.PIPE)
        case "http":
            raise urllib.error.HTTPError("http://a.example", 404, "Not Found", Message(), None)
        case "invalid":
            Model.model_validate({"number": "a"})
        case "group":
            raise ExceptionGroup("several", [ValueError("a"), OSError(errno.EIO, "b")])
        case "keywords":
            raise WithKeywords("failed", status=503)
        case _:
            raise KeyError(kind)


@DBOS.step()
def go_on() -> None:
    pass


@DBOS.workflow()
def handles(kind: str) -> str:
    """Handle an error by what it says."""
    try:
        fail_as(kind)
        way = "no error"
    except subprocess.CalledProcessError as error:
        way = f"called {error.returncode} {error.stderr!r}"
    except urllib.error.HTTPError as error:
        way = f"http {error.code} {error.reason}"
    except OSError as error:
        way = "not there" if error.errno == errno.ENOENT else f"another: {error.errno}"
    except ValidationError as error:
        way = f"invalid {error.errors()[0]['type']}"
    except WithKeywords as error:
        way = f"keywords {error.status}"
    except ExceptionGroup as error:
        way = f"group {error.split(OSError)}"
    except KeyError as error:
        way = f"key {error.args[0]} {error}"
    go_on()
    return way


@DBOS.step(retries_allowed=True, interval_seconds=0.01, max_attempts=2)
def divide(by: int) -> float:
    return 1 / by


@DBOS.workflow()
def divides(by: int) -> float:
    """Fail in all attempts of a step."""
    return divide(by)


@DBOS.workflow()
def awaits_divides(by: int) -> list[str]:
    """Handle the error of a child that came from a queue."""
    DBOS.register_queue("divisions", polling_interval_sec=1, on_conflict="never_update")
    try:
        DBOS.enqueue_workflow("divisions", divides, by).get_result()
    except dbos_error.DBOSMaxStepRetriesExceeded as error:
        return [type(error).__name__, *map(str, error.errors)]
    return []


def raise_as(kind: str) -> None:
    match kind:
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "GeneratorExit":
            raise GeneratorExit
        case "Panic":
            raise type("Panic", (BaseException,), {})("of a library")
        case "BaseExceptionGroup":
            raise BaseExceptionGroup("several", [KeyboardInterrupt()])
        case _:
            raise asyncio.CancelledError


@DBOS.step()
def raises(kind: str) -> None:
    raise_as(kind)


@DBOS.workflow()
def raises_in_step(kind: str) -> None:
    """Raise what is no Exception in a step."""
    raises(kind)


@DBOS.workflow()
def raises_in_body(kind: str) -> None:
    """Raise what is no Exception in the workflow's own code."""
    raise_as(kind)


@DBOS.step()
async def raises_async(kind: str) -> None:
    raise_as(kind)


@DBOS.workflow()
async def raises_in_async_step(kind: str) -> None:
    """Raise what is no Exception in an async step."""
    await raises_async(kind)


@DBOS.workflow()
async def raises_in_async_body(kind: str) -> None:
    """Raise what is no Exception in an async workflow's own code."""
    raise_as(kind)


@DBOS.step()
async def cancels_a_task() -> None:
    task = asyncio.create_task(asyncio.sleep(30))
    await asyncio.sleep(0.01)
    task.cancel()
    await task


def next_of_nothing() -> object:
    return next(iter([]))


@DBOS.workflow()
async def awaits_cancelled(kind: str) -> None:
    """Await what was cancelled."""
    if kind == "task in a step":
        await cancels_a_task()
    if kind == "itself":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
    if kind == "nothing":
        await DBOS.run_step_async(None, next_of_nothing)


@DBOS.workflow()
async def sleeps_long() -> None:
    """Sleep for a minute."""
    await asyncio.sleep(60)  # deterministic: it is cancelled before its end


@DBOS.workflow()
async def gives_up() -> str:
    """Give up a child that takes too long."""
    try:
        await asyncio.wait_for(sleeps_long(), 0.5)  # deterministic: the child takes far longer
    except TimeoutError:
        return "gave up"
    return "waited"

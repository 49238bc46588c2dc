"""Runs that bring values which something on their way cannot take."""

import logging
import time
from typing import Any

from dbos import DBOS, SetWorkflowID

from durable_workflows import receive


@DBOS.step()
def echo(value: Any) -> Any:
    return value


@DBOS.step()
def fails(text: str) -> None:
    raise ValueError(text)


@DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0.5)
def fails_twice(text: str) -> None:
    time.sleep(0.3)
    raise ValueError(text)


@DBOS.workflow()
def gives(value: Any) -> Any:
    """Give a value back, as the output of a step, as an event and as the result."""
    DBOS.set_event("value", value)
    return echo(value)


@DBOS.workflow()
def makes(kind: str) -> Any:
    """Make what JSON on its way to a run cannot hold."""
    value: Any = {"long": 10**5000}.get(kind, [])
    for _ in range(int(kind) if kind.isdecimal() else 0):
        value = [value]
    return echo(value)


@DBOS.workflow()
def says(text: str) -> None:
    """Say a text in all ways, and fail with it at last."""
    print(text)
    logging.getLogger("flow").warning("%s", text)
    try:
        fails_twice(text)
    except Exception as error:  # noqa: BLE001 - any that dbos makes of it
        print(error)
    fails(text)


@DBOS.workflow()
def names(what: str, text: str) -> str:
    """Use a text as a name."""
    match what:
        case "step":
            return DBOS.run_step({"name": text}, lambda: (time.sleep(0.5), "done")[1])
        case "event":
            DBOS.set_event(text, 1)
        case "topic":
            DBOS.send(DBOS.workflow_id or "", 1, text)
            return DBOS.recv(text, 5)
        case _:
            with SetWorkflowID(text):
                return DBOS.start_workflow(gives, 1).workflow_id
    return "done"


@DBOS.workflow()
def asks(text: str) -> Any:
    """Ask with a text."""
    return receive(text[:20], prompt=text, schema={"enum": [text, 1.0]}, timeout=600)


@DBOS.workflow()
def waits() -> Any:
    """Another run that has nothing to do with it."""
    return DBOS.recv("go", timeout_seconds=600)

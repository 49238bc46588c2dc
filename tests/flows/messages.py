"""Runs that wait for messages."""

from typing import Any

from dbos import DBOS


@DBOS.step()
def note(text: str) -> str:
    return text


@DBOS.workflow()
def wait_for(topic: str, timeout_seconds: float = 600) -> Any:
    """Wait for one message on a topic and return it."""
    note("before")
    message = DBOS.recv(topic, timeout_seconds=timeout_seconds)
    note("after")
    return message


@DBOS.workflow()
async def collect(topic: str, count: int) -> list[Any]:
    """Collect messages in the order in which they arrive."""
    return [await DBOS.recv_async(topic, timeout_seconds=600) for _ in range(count)]

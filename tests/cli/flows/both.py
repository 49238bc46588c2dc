"""A workflow that waits for two things at once."""

import asyncio
from typing import Any

from dbos import DBOS

from durable_workflows import receive_async


@DBOS.workflow()
async def wait_for_both() -> list[Any]:
    """Wait for two messages, whichever comes first."""
    left = receive_async("left", prompt="Which?", schema={"type": "boolean"})
    return list(await asyncio.gather(left, DBOS.recv_async("right", timeout_seconds=600)))

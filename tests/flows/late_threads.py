# pyright: reportPrivateUsage=false
"""A worker whose threads and tasks begin late, as on a machine with much to do, and a queue with few places."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from dbos import DBOS, WorkflowHandle
from dbos import _core as dbos_core
from dbos._error import DBOSNotAuthorizedError

Ran = tuple[float, float]

_SECONDS = 0.5
_execute = dbos_core._execute_workflow_wthread
_execute_async = dbos_core._execute_workflow_async


def _late(*given: Any) -> object:
    time.sleep(_SECONDS)
    return _execute(*given)


async def _late_async(*given: Any) -> object:
    await asyncio.sleep(_SECONDS)
    return await _execute_async(*given)


dbos_core._execute_workflow_wthread = _late
dbos_core._execute_workflow_async = _late_async


@DBOS.step()
def late_step() -> Ran:
    began = time.time()
    time.sleep(_SECONDS)
    return began, time.time()


@DBOS.workflow()
def late_item() -> Ran:
    """Say when it ran."""
    return late_step()


@DBOS.step()
async def late_async_step() -> Ran:
    began = time.time()
    await asyncio.sleep(_SECONDS)
    return began, time.time()


@DBOS.workflow()
async def late_async_item() -> Ran:
    """The same, as a task."""
    return await late_async_step()


@DBOS.required_roles(["nobody"])
@DBOS.workflow()
def late_denied() -> Ran:
    """It fails before it begins."""
    raise AssertionError


ITEMS: dict[str, Callable[..., Any]] = {
    "late_item": late_item,
    "late_async_item": late_async_item,
    "late_denied": late_denied,
}


@DBOS.workflow()
def late_enqueue(items: list[str]) -> list[Ran | str]:
    """Put runs into a queue for two at once, one after the other, and return what they say."""
    DBOS.register_queue("late", polling_interval_sec=0.05, worker_concurrency=2)
    handles: list[WorkflowHandle[Ran]] = [
        DBOS.enqueue_workflow("late", ITEMS[item]) for item in items
    ]
    return [_said(handle) for handle in handles]


def _said(handle: WorkflowHandle[Ran]) -> Ran | str:
    try:
        return handle.get_result()
    except DBOSNotAuthorizedError as error:
        return type(error).__name__

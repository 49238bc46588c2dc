"""Whether a run may be taken out of memory while it waits."""

from collections.abc import Callable
from typing import Any, TypeVar

from durable_workflows.settings import NEVER_PARKS

Function = TypeVar("Function", bound=Callable[..., Any])


def does_not_park(function: Function) -> Function:
    """Keep runs of a workflow in memory while they wait. Put it below `@DBOS.workflow()`.

    A run that has waited for some seconds is taken out of memory: its code is left by an exception, and when what it waits for is there, a replay of the
    recorded steps brings it back. A workflow that cannot bear that, because its body holds something across a wait or is not deterministic, stays in memory
    with this, and takes one of the places of its worker for as long as it waits.
    """
    setattr(function, NEVER_PARKS, True)
    return function

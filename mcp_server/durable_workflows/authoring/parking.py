"""Whether a run may be taken out of memory while it waits."""

from collections.abc import Callable
from typing import Any, TypeVar

from durable_workflows.settings import NEVER_PARKS

Function = TypeVar("Function", bound=Callable[..., Any])


def does_not_park(function: Function) -> Function:
    """Keep runs of a workflow in memory while they wait. Put it below `@DBOS.workflow()`.

    A run that has waited for some seconds is taken out of memory: an exception ends its code. When its wait is over, a replay of the
    recorded steps brings it back. This decorator is for a workflow that does not survive that, because its body holds something across a
    wait or
    is not deterministic. Its run stays in memory and takes a place of its worker for the whole wait.
    """
    setattr(function, NEVER_PARKS, True)
    return function

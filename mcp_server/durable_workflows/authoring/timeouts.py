"""Time-outs of steps: the step, or each of its attempts, is cancelled when its time is over."""

import asyncio
import functools
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar, cast

from durable_workflows.errors import StepTimeout, UsageError

P = ParamSpec("P")
R = TypeVar("R")


def limited(function: Callable[P, R], name: str, seconds: float) -> Callable[P, R]:
    """The function of an async step, which is cancelled after so many seconds.

    Raises:
        UsageError: the function is sync, or the seconds are not above 0; when it is called, `StepTimeout`.
    """
    if not math.isfinite(seconds) or seconds <= 0:
        raise UsageError(
            f"The time-out of the step {name} is {seconds!r}.",
            hint="Give `timeout` as seconds above 0.",
        )
    if not inspect.iscoroutinefunction(function):
        raise UsageError(
            f"The step {name} is sync and has a `timeout`, and nothing can stop sync code in a process.",
            hint="Make it `async def`; or run what may hang as a command with run_command; or set the time-out of the call that may hang.",
        )

    @functools.wraps(function)
    async def called(*args: P.args, **kwargs: P.kwargs) -> object:
        call = cast("Awaitable[object]", function(*args, **kwargs))
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await call
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StepTimeout(f"The step {name} was not done after {seconds:g} seconds.") from error

    return cast("Callable[P, R]", called)

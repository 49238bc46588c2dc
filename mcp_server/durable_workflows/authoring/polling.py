"""A wait for something that no message tells: a run looks, sleeps, and looks again."""

import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from durable_workflows import limits, wording
from durable_workflows.authoring.acts import Acts, Sleep, Step, named, play, play_async, recorded
from durable_workflows.errors import DeadlinePassed, InvalidArguments

T = TypeVar("T")


def wait_until(
    check: Callable[[], T],
    *,
    every: float,
    backoff: float = 1.0,
    longest: float | None = None,
    deadline: float | datetime | None = None,
) -> T:
    """Call `check` until it returns something true, and return that.

    Each call is recorded: `check` is a step, or a function that is run as one. Between two calls the run sleeps `every` seconds, durably;
    each pause is `backoff` times the one before, up to `longest` seconds. With `deadline`, seconds from now or a time with a time zone, the last
    look is at the deadline.

    An exception of `check` ends the wait: give a step retries if it may fail. Call it in the body of a workflow.

    Raises:
        DeadlinePassed: nothing true came before the deadline.
        InvalidArguments: a pause, or the deadline, is not possible.
        UsageError: the caller is not in the body of a workflow.
    """
    return play("wait_until", _look(check, every, backoff, longest, deadline))


async def wait_until_async(
    check: Callable[[], Awaitable[T]] | Callable[[], T],
    *,
    every: float,
    backoff: float = 1.0,
    longest: float | None = None,
    deadline: float | datetime | None = None,
) -> T:
    """`wait_until` for async workflows; `check` may be async."""
    return await play_async("wait_until_async", _look(check, every, backoff, longest, deadline))


def _look(
    check: Callable[[], object],
    every: float,
    backoff: float,
    longest: float | None,
    deadline: float | datetime | None,
) -> Acts[Any]:
    _check(every, backoff, longest, deadline)
    name = named(check, "check")
    look = recorded(check, name)
    ends: float | None = None
    if isinstance(deadline, datetime):
        ends = deadline.timestamp()
    elif deadline is not None:
        ends = yield Step("deadline", lambda: time.time() + deadline)
    pause, looks = every, 0
    while not (found := (yield look)):
        looks += 1
        seconds = pause
        if ends is not None:
            left: float = yield Step("time_left", partial(_left, ends))
            if left <= 0:
                last = wording.line(repr(found), limits.NAME)
                raise DeadlinePassed(
                    f"{name} has returned nothing true before the deadline, in {looks} looks; the last one returned {last}."
                )
            seconds = min(pause, left)
        yield Sleep(seconds)
        pause = min(pause * backoff, math.inf if longest is None else longest)
    return found


def _left(ends: float) -> float:
    return ends - time.time()


def _check(
    every: float, backoff: float, longest: float | None, deadline: float | datetime | None
) -> None:
    if every <= 0 or (longest is not None and longest <= 0):
        raise InvalidArguments(
            "A pause of wait_until is not longer than 0 seconds.",
            hint="Give `every`, and `longest` if you need it, as seconds above 0.",
        )
    if backoff < 1:
        raise InvalidArguments(
            "`backoff` is less than 1, so the pauses would become ever shorter.",
            hint="Give 1 for pauses of one length, or more, such as 2.",
        )
    if isinstance(deadline, datetime) and deadline.tzinfo is None:
        raise InvalidArguments(
            "The deadline has no time zone.",
            hint="Give a datetime with a time zone, or the seconds from now.",
        )

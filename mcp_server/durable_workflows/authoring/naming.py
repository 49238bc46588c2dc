"""Names in a trace: a sleep that says what it is for, and scopes that group steps. Neither is part of what a replay compares."""

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

from dbos import DBOS

from durable_workflows import wording
from durable_workflows.authoring.acts import check_in_body
from durable_workflows.errors import InvalidArguments
from durable_workflows.seam.patches import labels

Length = float | timedelta | datetime

_LONGEST_NAME = 200
_LONGEST_SECONDS = 100 * 366 * 86_400.0
_SHORTEST_SECONDS = 1e-6  # dbos records no sleep of no length, and a replay needs its step


def sleep(length: Length, *, name: str | None = None) -> None:
    """Sleep durably: so many seconds, a `timedelta`, or until a `datetime` with a time zone.

    The end is recorded when the sleep begins, so a run that is interrupted wakes when it would have. The trace, `inspect` and lists show the
    `name`: what the run sleeps for. A sleep is always one step, also one whose end has passed, which returns at once.

    Raises:
        InvalidArguments: the length is not possible, or the name is not a line of at most 200 characters.
        UsageError: the caller is not in the body of a workflow.
    """
    with _named("sleep", length, name) as seconds:
        DBOS.sleep(seconds)


async def sleep_async(length: Length, *, name: str | None = None) -> None:
    """`sleep` for async workflows."""
    with _named("sleep_async", length, name) as seconds:
        await DBOS.sleep_async(seconds)


@contextmanager
def scope(name: str) -> Generator[None]:
    """Group the steps that begin in the body of a `with` statement, in sync and in async code.

    The trace, `inspect` and the page show the scope of each step; scopes within scopes make a path, such as `checks/spelling`. It is recorded with
    the step, and changes nothing else: steps keep their numbers, and scopes may be added, renamed and removed while runs are under way.

    Raises:
        InvalidArguments: the name is not a line of at most 200 characters.
        UsageError: the caller is not in the body of a workflow.
    """
    workflow_id = check_in_body("scope")
    _check_name("scope", name)
    with labels.scoped(workflow_id, name):
        yield


@contextmanager
def _named(helper: str, length: Length, name: str | None) -> Generator[float]:
    """Surrounds a sleep of the seconds that it gives."""
    workflow_id = check_in_body(helper)
    if name is not None:
        _check_name("sleep", name)
    seconds = max(_seconds(length), _SHORTEST_SECONDS)
    with labels.named(workflow_id, name):
        yield seconds


def _seconds(length: Length) -> float:
    if isinstance(length, datetime):
        if length.tzinfo is None:
            raise InvalidArguments(
                "The end of a sleep has no time zone.",
                hint="Give a datetime with a time zone, a timedelta, or seconds.",
            )
        seconds = length.timestamp() - time.time()
    else:
        seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if not math.isfinite(seconds) or seconds > _LONGEST_SECONDS:
        raise InvalidArguments(
            f"A sleep cannot be {wording.line(repr(length), 100)} long.",
            hint="Give at most 100 years, as seconds, as a timedelta, or as the datetime at which it ends.",
        )
    return seconds


def _check_name(of: str, name: object) -> None:
    is_line = isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME
    if not is_line:
        raise InvalidArguments(
            f"The name of a {of} is {wording.line(repr(name), 100)}.",
            hint=f"Give a text of 1 to {_LONGEST_NAME} characters, in one line.",
        )

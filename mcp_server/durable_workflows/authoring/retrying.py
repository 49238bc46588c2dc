"""Attempts of a step: which errors are tried again, how often and when. They are counted across the end of a process."""

import asyncio
import functools
import inspect
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar, cast

from durable_workflows import wording
from durable_workflows.errors import UsageError
from durable_workflows.seam import attempts, dbos_calls
from durable_workflows.seam.attempts import Attempt, Attempts, Retried

P = ParamSpec("P")
R = TypeVar("R")
Kinds = type[Exception] | tuple[type[Exception], ...]

_MOST_ATTEMPTS = 1000
_LONGEST_DELAY_SECONDS = 366 * 86_400.0
_NOTED = 10  # attempts, in the notes of an error


@dataclass(frozen=True)
class Retry:
    """How often a step is tried, and when: `@step(retry=Retry(attempts=5, initial=1.0))`.

    After the first attempt it waits `initial` seconds, then `backoff` times as long after each further one, at most `max_delay`. Each of these
    times is made longer or shorter at random, by at most the part `jitter` of it. Errors of the classes `on` are tried again, except for those of
    `not_on`; any other ends the step at once.

    Raises:
        UsageError: a value is out of its bounds. At most 1000 attempts, and a delay of at most 366 days; `backoff` is at least 1, `jitter` from 0 to 1.
    """

    attempts: int = 3
    initial: float = 1.0
    max_delay: float = 3600.0
    backoff: float = 2.0
    jitter: float = 0.1
    on: Kinds = Exception
    not_on: Kinds = ()

    def __post_init__(self) -> None:
        """Check all values."""
        if type(self.attempts) is not int or not 1 <= self.attempts <= _MOST_ATTEMPTS:
            raise _wrong("attempts", self.attempts, f"a whole number from 1 to {_MOST_ATTEMPTS}")
        for name, least, most in (
            ("initial", 0.0, _LONGEST_DELAY_SECONDS),
            ("max_delay", 0.0, _LONGEST_DELAY_SECONDS),
            ("backoff", 1.0, math.inf),
            ("jitter", 0.0, 1.0),
        ):
            value: object = getattr(self, name)
            is_number = isinstance(value, int | float) and math.isfinite(value)
            if not is_number or not least <= cast("float", value) <= most:
                bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"from {least:g}"
                raise _wrong(name, value, f"a number {bounds}")
        for name in ("on", "not_on"):
            given: object = getattr(self, name)
            if not _are_errors(given):
                raise _wrong(name, given, "a class of errors, an Exception, or a tuple of such")


def retried(function: Callable[P, R], name: str, retry: Retry) -> Callable[P, R]:
    """The function of a step, which tries as often as `retry` says."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def called_async(*args: Any, **kwargs: Any) -> object:
            call = functools.partial(function, *args, **kwargs)
            tries = _Tries.of_caller(name, call, retry)
            return await (call() if tries is None else tries.run_async())

        return cast("Callable[P, R]", called_async)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(function, *args, **kwargs)
        tries = _Tries.of_caller(name, call, retry)
        return call() if tries is None else cast("R", tries.run())

    return called


def plain_in_steps(step: Callable[P, R], function: Callable[P, R]) -> Callable[P, R]:
    """The step; called from another step, it is the plain function, as any step is to dbos."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(step)
        async def called_async(*args: Any, **kwargs: Any) -> object:
            which = step if dbos_calls.current_step() is None else function
            return await cast("Callable[..., Awaitable[object]]", which)(*args, **kwargs)

        return cast("Callable[P, R]", called_async)

    @functools.wraps(step)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        which = step if dbos_calls.current_step() is None else function
        return which(*args, **kwargs)

    return called


class _Tries:
    """One execution of a step with `Retry`."""

    def __init__(
        self, offered: Attempts, step: Retried, call: Callable[[], Any], retry: Retry
    ) -> None:
        self._offered = offered
        self._step = step
        self._call = call
        self._retry = retry
        self._tried: list[Attempt] = []
        self._began_at = datetime.now(UTC)

    @classmethod
    def of_caller(cls, name: str, call: Callable[[], Any], retry: Retry) -> "_Tries | None":
        """The step in which the caller is; None: it is in no run, where a step is a plain function."""
        place = dbos_calls.current_step()
        if place is None:
            return None
        owner = dbos_calls.owner_of(place[0])
        offered = attempts.offer.taken()
        return cls(offered, Retried(*place, name, retry.attempts, owner), call, retry)

    def run(self) -> object:
        if self._offered.has_earlier(self._step):
            self._tried = self._offered.earlier(self._step)
        while True:
            if self._tried:
                self._raise_if_over()
                self._offered.wait(self._step, self._tried[-1])
                self._offered.begin(self._step, self._next())
            self._began_at = datetime.now(UTC)
            try:
                with attempts.under_way(self._number, self._retry.attempts):
                    return self._call()
            except Exception as error:
                self._note_failure(error)
                if self._is_over:
                    raise

    async def run_async(self) -> object:
        if self._offered.has_earlier(self._step):
            self._tried = await asyncio.to_thread(self._offered.earlier, self._step)
        while True:
            if self._tried:
                self._raise_if_over()
                await self._offered.wait_async(self._step, self._tried[-1])
                await asyncio.to_thread(self._offered.begin, self._step, self._next())
            self._began_at = datetime.now(UTC)
            try:
                with attempts.under_way(self._number, self._retry.attempts):
                    return await self._call()
            except Exception as error:
                await asyncio.to_thread(self._note_failure, error)
                if self._is_over:
                    raise

    @property
    def _number(self) -> int:
        """The number of the attempt that comes next."""
        return len(self._tried) + 1

    @property
    def _is_over(self) -> bool:
        last = self._tried[-1]
        was_final = last.failed_at is not None and last.next_at is None
        return was_final or last.number >= self._retry.attempts

    def _next(self) -> Attempt:
        return Attempt(self._number, datetime.now(UTC))

    def _raise_if_over(self) -> None:
        """Raise the last known error, if an earlier execution has ended after its last attempt."""
        if self._is_over:
            record = next(one.error for one in reversed(self._tried) if one.error is not None)
            error = attempts.error_of(record)
            self._annotate(error)
            raise error

    def _note_failure(self, error: Exception) -> None:
        """Keep an attempt that failed. What the step's own result says needs no row: a first attempt that is the last one."""
        failed = attempts.failure(self._number, self._began_at, self._next_at(error), error)
        self._tried.append(failed)
        if not self._is_over or failed.number > 1:
            self._offered.failed(self._step, failed, error)
        if self._is_over:
            self._annotate(error)

    def _next_at(self, error: Exception) -> datetime | None:
        """When the next attempt begins; None: there is none."""
        retry = self._retry
        is_tried_again = isinstance(error, retry.on) and not isinstance(error, retry.not_on)
        if not is_tried_again or self._number >= retry.attempts:
            return None
        return datetime.now(UTC) + timedelta(seconds=_delay(retry, self._number))

    def _annotate(self, error: Exception) -> None:
        """Add the attempts to an error as notes."""
        if len(self._tried) == 1:
            return
        if (hidden := len(self._tried) - _NOTED) > 0:
            error.add_note(f"{wording.counted(hidden, 'earlier attempt')} failed, too.")
        for one in self._tried[-_NOTED:]:
            error.add_note(_noted(one, self._retry.attempts))


def _noted(attempt: Attempt, most: int) -> str:
    which = f"Attempt {attempt.number} of {most}"
    if attempt.failed_at is None:
        return f"{which} began at {wording.time(attempt.began_at)}, and its process ended before it had returned."
    return f"{which} failed at {wording.time(attempt.failed_at)}: {attempt.said}"


def _delay(retry: Retry, attempt: int) -> float:
    """The seconds between this attempt and the next one."""
    try:
        seconds = retry.initial * retry.backoff ** (attempt - 1)
    except OverflowError:
        seconds = retry.max_delay if retry.initial else 0.0
    varied = min(seconds, retry.max_delay) * random.uniform(1 - retry.jitter, 1 + retry.jitter)
    return min(varied, retry.max_delay)


def _are_errors(given: object) -> bool:
    kinds = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (given,)
    return all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)


def _wrong(name: str, value: object, expected: str) -> UsageError:
    return UsageError(
        f"Retry has {name}={wording.line(repr(value), 100)}, which is not {expected}.",
        hint=f"Give {name} as {expected}.",
    )

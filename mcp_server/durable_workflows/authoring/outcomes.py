"""What came of the runs that a workflow started together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NoReturn, TypeVar, cast, overload

from durable_workflows import wording
from durable_workflows.errors import RunsFailed

T = TypeVar("T")
_SHOWN = 3
_SHOWN_CHARACTERS = 300  # of the error of a run

OutcomeStatus = Literal[
    "SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "STOPPED", "NOT_STARTED"
]
_NOT_NEEDED = ("STOPPED", "NOT_STARTED")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of one run that `map_runs` or `gather_runs` was to start.

    `status` is the status of the run; or STOPPED if it was cancelled because the outcome of all was decided, or NOT_STARTED.
    `output` is what the run returned. `error` is what `get_result` raises for a run that failed; None for any other.
    """

    workflow_id: str | None
    status: OutcomeStatus
    output: T | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether the run succeeded."""
        return self.status == "SUCCESS"

    @property
    def failed(self) -> bool:
        """Whether the run failed: it ended without success, and not because it was no longer needed."""
        return not self.ok and self.status not in _NOT_NEEDED


class _Summary(Generic[T]):
    """How many runs had which outcome."""

    def _all(self) -> Iterable[Outcome[T]]:
        raise NotImplementedError

    @property
    def ok(self) -> bool:
        """Whether all runs succeeded."""
        return all(one.ok for one in self._all())

    @property
    def succeeded(self) -> int:
        """How many runs succeeded."""
        return sum(one.ok for one in self._all())

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(one.failed for one in self._all())

    @property
    def stopped(self) -> int:
        """How many runs were cancelled because the outcome of all was decided."""
        return sum(one.status == "STOPPED" for one in self._all())

    @property
    def not_started(self) -> int:
        """How many runs were not started because the outcome of all was decided."""
        return sum(one.status == "NOT_STARTED" for one in self._all())

    @property
    def failures(self) -> list[Outcome[T]]:
        """The outcomes of the runs that failed, in order."""
        return [one for one in self._all() if one.failed]

    def check(self) -> None:
        """Return if all runs succeeded.

        Raises:
            RunsFailed: at least one did not; the message has the numbers, and the first errors.
        """
        if not self.ok:
            self.fail()

    def fail(self) -> NoReturn:
        """Raise `RunsFailed` about these runs."""
        raise RunsFailed(self._said())

    def _said(self) -> str:
        total = sum(1 for _ in self._all())
        rest = "".join(
            f", {number} {what}"
            for number, what in ((self.stopped, "stopped"), (self.not_started, "not started"))
            if number
        )
        failures = self.failures
        shown = "".join(f"\n{_line(one)}" for one in failures[:_SHOWN])
        more = f"\n(and {len(failures) - _SHOWN} more)" if len(failures) > _SHOWN else ""
        return (
            f"{self.failed} of {total} runs failed, {self.succeeded} succeeded{rest}.{shown}{more}"
        )


def _line(failed: Outcome[T]) -> str:
    error = failed.error
    said = failed.status if error is None else f"{type(error).__name__}: {error}"
    return f"{failed.workflow_id}: {wording.line(said, _SHOWN_CHARACTERS)}"


class Outcomes(_Summary[T], Sequence[Outcome[T]]):
    """The outcomes of `map_runs`: a sequence, in the order of the items, with numbers for all of them."""

    def __init__(self, outcomes: Iterable[Outcome[T]]) -> None:
        self._outcomes = tuple(outcomes)

    @overload
    def __getitem__(self, index: int) -> Outcome[T]: ...
    @overload
    def __getitem__(self, index: slice) -> "Outcomes[T]": ...
    def __getitem__(self, index: int | slice) -> "Outcome[T] | Outcomes[T]":
        if isinstance(index, slice):
            return Outcomes(self._outcomes[index])
        return self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"Outcomes({list(self._outcomes)!r})"

    @property
    def outputs(self) -> list[T]:
        """What the runs returned, in the order of the items, if all succeeded.

        Raises:
            RunsFailed: at least one did not.
        """
        self.check()
        return [cast("T", one.output) for one in self._outcomes]

    def _all(self) -> Iterable[Outcome[T]]:
        return self._outcomes


class NamedOutcomes(_Summary[T], Mapping[str, Outcome[T]]):
    """The outcomes of `gather_runs`: a mapping by the names of the runs, in the order given, with numbers for all of them."""

    def __init__(self, outcomes: Mapping[str, Outcome[T]]) -> None:
        self._outcomes = dict(outcomes)

    def __getitem__(self, name: str) -> Outcome[T]:
        return self._outcomes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"NamedOutcomes({self._outcomes!r})"

    @property
    def outputs(self) -> dict[str, T]:
        """What the runs returned, by their names, if all succeeded.

        Raises:
            RunsFailed: at least one did not.
        """
        self.check()
        return {name: cast("T", one.output) for name, one in self._outcomes.items()}

    def _all(self) -> Iterable[Outcome[T]]:
        return self._outcomes.values()

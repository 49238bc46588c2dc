"""What is recorded of a run, and how its replay on other code compares with it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn

_RECV, _GET_EVENT, _SLEEP = "DBOS.recv", "DBOS.getEvent", "DBOS.sleep"
# Waits without a record of their own; the end of their time is recorded as the step after them.
_WAITS = {_RECV: "message", _GET_EVENT: "event"}
THE_END = "the end of the workflow"


class Left(BaseException):
    """Ends the code of a rehearsed run: there is no more to compare. Each further operation raises it again."""


class Step(NamedTuple):
    """A recorded step; values are as they are recorded."""

    name: str
    output: str | None
    error: str | None
    serialization: str | None
    child_workflow_id: str | None


class Awaited(NamedTuple):
    """What the run waits for, as far as it is known: the step and topic of a message, or a `kind` without a step."""

    kind: Literal["message", "event", "end", "doubt"]
    key: str
    step: int | None = None


@dataclass(frozen=True)
class Verdict:
    """How the replay compares with the record; see `models.Rehearsal`."""

    verdict: Literal["safe", "differs", "unknown"]
    step: int | None = None
    recorded: str | None = None
    called: str | None = None
    note: str | None = None


@dataclass
class Record:
    """The record of one run. The code that is rehearsed may ask from several threads."""

    workflow_id: str
    steps: Mapping[int, Step]
    awaited: Sequence[Awaited] = ()
    outcome: Literal["SUCCESS", "ERROR"] | None = None  # None: the run goes on after its last step
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _replayed: set[int] = field(default_factory=set[int])
    _beyond: dict[int, str] = field(default_factory=dict[int, str])  # calls without a record
    _differs: list[Verdict] = field(default_factory=list[Verdict])
    _problem: str | None = None
    _has_left: bool = False

    @property
    def replayed(self) -> int:
        """How many steps were replayed."""
        return len(self._replayed)

    @property
    def is_used_up(self) -> bool:
        """Whether the code has called all that is recorded."""
        return len(self._replayed) == len(self.steps)

    def take(self, workflow_id: str, step: int, name: str, topic: str | None = None) -> Step:
        """The record of a step that the code calls; `topic` is that of a receive.

        Raises:
            Left: it is not recorded, or otherwise.
        """
        with self._lock:
            if self._has_left or workflow_id != self.workflow_id:
                raise Left
            found = self.steps.get(step)
            if found is None:
                self._go_beyond(step, name, topic)
            if found.name != name:
                self._differ(step, found.name, name)
            self._replayed.add(step)
            return found

    def name_at(self, workflow_id: str, step: int, name: str) -> str | None:
        """The name of what is recorded there, which counts as replayed if it is `name`: a marker in the record."""
        with self._lock:
            if self._has_left or workflow_id != self.workflow_id:
                raise Left
            found = self.steps.get(step)
            if found is not None and found.name == name:
                self._replayed.add(step)
            return found.name if found else None

    def result_of(self, child: str) -> Step | None:
        """The recorded end of a child."""
        rows = self.steps.values()
        found = (
            one for one in rows if one.child_workflow_id == child and one.name == "DBOS.getResult"
        )
        return next(found, None)

    def refuse(self, problem: str) -> NoReturn:
        """Leave the code, which does what a rehearsal must not do; `problem` says what."""
        with self._lock:
            self._problem = self._problem or problem
            self._leave()

    def verdict(self, ended_by: str | None = None, *, has_ended: bool) -> Verdict:
        """How the replay compares. `has_ended`: the code reached its end, with an exception if there is `ended_by`."""
        with self._lock:
            if self._differs:
                return min(self._differs, key=lambda one: one.step or 0)
            if self._problem:
                return Verdict("unknown", note=self._problem)
            left = sorted(self.steps.keys() - self._replayed)
            if self._has_left:
                return self._verdict_at_present(left)
            if not has_ended:
                return Verdict("unknown", note="The code did not come to an end.")
            return self._verdict_at_end(left, ended_by)

    def _verdict_at_present(self, left: Sequence[int]) -> Verdict:
        """The code has called more than is recorded."""
        place = min(self._beyond, default=0)
        if left and left[0] - 1 in self._beyond and self.steps[left[0]].name == _SLEEP:
            step = left[0] - 1
            return Verdict("differs", step, self._wait_at(step), self._beyond[step])
        if left:
            note = f"Step {left[0]} is recorded, and the code has not called it before step {place}, which is not recorded: they may run at the same time."
            return Verdict("unknown", note=note)
        if self.outcome is not None:
            return Verdict("differs", place, THE_END, self._beyond[place])
        return Verdict("safe")

    def _verdict_at_end(self, left: Sequence[int], ended_by: str | None) -> Verdict:
        called = f"{THE_END}, with {ended_by}" if ended_by else THE_END
        if left:
            step = left[0]
            recorded = self.steps[step].name
            if recorded == _SLEEP and step - 1 not in self.steps and step > 1:
                step, recorded = step - 1, self._wait_at(step - 1)
            return Verdict("differs", step, recorded, called)
        if ended_by and self.outcome != "ERROR":
            recorded = THE_END if self.outcome else None
            return Verdict("differs", max(self.steps, default=0) + 1, recorded, called)
        return Verdict("safe")

    def _go_beyond(self, step: int, name: str, topic: str | None) -> NoReturn:
        """The code calls what is not recorded: the run is there now, or waits there."""
        after = self.steps.get(step + 1)
        if name in _WAITS and after is not None and after.name == _SLEEP:
            self._replayed.add(step + 1)
            if not self._may_wait(step, _WAITS[name], topic):
                called = f"{name} on the topic {topic!r}" if name == _RECV else name
                self._differ(step, self._wait_at(step), called)
        self._beyond[step] = name
        self._leave()

    def _may_wait(self, step: int, kind: str, topic: str | None) -> bool:
        """Whether the wait of that kind may be the one of the run there."""
        here = [one for one in self.awaited if one.step == step]
        if here:
            return kind == "message" and any(one.key == (topic or "") for one in here)
        kinds = {one.kind for one in self.awaited}
        return not kinds or kind in kinds

    def _wait_at(self, step: int) -> str:
        for one in self.awaited:
            if one.step == step and one.kind == "message":
                return f"{_RECV} on the topic {one.key!r}"
        for one in self.awaited:
            if one.kind == "event":
                return f"{_GET_EVENT} of {one.key!r}"
        return f"{_RECV} or {_GET_EVENT}"

    def _differ(self, step: int, recorded: str, called: str) -> NoReturn:
        self._differs.append(Verdict("differs", step, recorded, called))
        self._leave()

    def _leave(self) -> NoReturn:
        self._has_left = True
        raise Left

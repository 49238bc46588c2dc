"""Following runs: the live events of one run, and waiting for several runs.

Following changes nothing: the runs continue without it.
"""

import shlex
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import anyio

from durable_workflows import fitting, limits, topics, wording
from durable_workflows.engine.reading import Reader
from durable_workflows.models import (
    UNFINISHED,
    Ended,
    Event,
    LogLine,
    Run,
    RunningStep,
    Step,
    WaitResult,
)
from durable_workflows.settings import PERSON
from durable_workflows.telling import causes

_SHORTEST_PAUSE = 0.1  # seconds between two looks; longer while nothing happens
_LONGEST_PAUSE = 1.0
_TELL_SECONDS = 2.0  # a wait of one of several runs is reported within this time
_CONCURRENT_STEPS = 100  # they may finish in any order
_PAGE = 1000  # steps in one look
_LOG_LINES = 5000
_NAME = 60
_PROMPT = 100

Until = Literal["all", "any", "change", "ended"]
Tell = Callable[[str], None]


async def follow(reader: Reader, workflow_id: str, tell: Tell, show: Tell) -> Ended:
    """Report each event of a run, in a line, and show its current activity; return when it has ended."""
    follower = _Follower(reader, workflow_id, tell, show)
    pause = _SHORTEST_PAUSE
    while await follower.look():
        pause = _SHORTEST_PAUSE if follower.has_news else min(pause * 1.5, _LONGEST_PAUSE)
        await anyio.sleep(pause)
    result = await reader.wait([workflow_id])
    return result.done[0]


async def log(reader: Reader, workflow_id: str, *, lines: int) -> AsyncGenerator[list[LogLine]]:
    """The newest `lines` of a run's log, then each new line until the run has ended."""
    last, limit, pause = 0, lines, _SHORTEST_PAUSE
    while True:
        has_ended = await reader.has_ended(workflow_id)
        found = await reader.log(workflow_id, after=last, limit=limit)
        if found:
            yield found
            last = found[-1].id
        if has_ended:  # its last lines are there
            return
        limit, pause = _LOG_LINES, _SHORTEST_PAUSE if found else min(pause * 1.5, _LONGEST_PAUSE)
        await anyio.sleep(pause)


async def wait(
    reader: Reader,
    workflow_ids: Sequence[str],
    *,
    until: Until,
    seconds: float,
    tell: Tell,
    show: Tell,
) -> WaitResult:
    """Wait as `Reader.wait`; with "ended", until all have ended, whatever they wait for meanwhile.

    Reports each message that a run waits for, and shows the progress of the waiting.
    """

    async def progress(text: str) -> None:
        show(text)

    told: set[tuple[str, str]] = set()
    deadline = time.monotonic() + seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        result = await reader.wait(
            workflow_ids,
            until="all" if until == "ended" else until,
            timeout_seconds=min(left, _TELL_SECONDS) if until == "ended" else left,
            progress=progress,
        )
        if until != "ended" or not (result.waiting or result.running):
            return result
        if left == 0:
            return result.model_copy(update={"timed_out": True})
        for one in result.waiting:
            if (one.workflow_id, one.topic) not in told:
                told.add((one.workflow_id, one.topic))
                tell(wait_line(one.workflow_id, one.topic, one.prompt))
        if not result.running:
            await anyio.sleep(min(left, _LONGEST_PAUSE))


def wait_line(workflow_id: str, topic: str, prompt: str | None) -> str:
    """The wait of a run, and the command that answers it."""
    what = "a person" if topic.startswith(PERSON) else "a message"
    named = topic.removeprefix(PERSON)
    on = f" on {named!r}" if named and not (topic.startswith(PERSON) and named.isdigit()) else ""
    asks = f" ({wording.line(prompt, _PROMPT)})" if prompt else ""
    return f"{fitting.shown_line(workflow_id)} waits for {what}{on}{asks}: {answer_command(workflow_id, topic)}"


def answer_command(workflow_id: str, topic: str) -> str:
    """The command that gives a run its message or answer."""
    own = shlex.quote(workflow_id)
    if topic.startswith(PERSON):
        return f"durable-workflows approve {own}"
    if (step := topics.doubted_step(topic)) is not None:
        return f"durable-workflows resolve {own} {step} --happened|--not-happened"
    on = f" --topic {shlex.quote(topic)}" if topic else ""
    return f"durable-workflows send --id {own}{on} --message JSON"


@dataclass(frozen=True)
class _News:
    """A line about an event, and its time."""

    at: datetime
    text: str


class _Follower:
    """Looks at a run again and again, and reports the news since the last look."""

    def __init__(self, reader: Reader, workflow_id: str, tell: Tell, show: Tell) -> None:
        self._reader = reader
        self._workflow_id = workflow_id
        self._tell = tell
        self._show = show
        self._steps: set[int] = set()
        self._settled = 0  # all steps up to this one have been reported
        self._states: set[str] = set()  # events and waits as they were reported
        self._last_line = 0
        self.has_news = False

    async def look(self) -> bool:
        """Report finished steps and log lines in order, then the waits of the run. Return whether there may be more."""
        run = await self._reader.run(self._workflow_id, after_step=self._settled)
        log = await self._reader.log(self._workflow_id, after=self._last_line, limit=_LOG_LINES)
        steps = run.steps[:_PAGE]  # beyond them are samples, which are reported in their turn
        news = sorted([*self._new_steps(run, steps), *self._new_lines(log)], key=lambda one: one.at)
        lines = [one.text for one in news] + self._new_states(run)
        for text in lines:
            self._tell(text)
        self._show(_under_way(run))
        self.has_news = bool(lines)
        return run.status in UNFINISHED or len(run.steps) >= _PAGE

    def _new_steps(self, run: Run, steps: Sequence[Step]) -> Iterator[_News]:
        for step in steps:
            if step.step not in self._steps:
                self._steps.add(step.step)
                yield _News(step.completed_at or run.updated_at, _step_line(step))
        # Steps may finish in any order, and not every number is a step: later steps settle it.
        while self._settled + 1 in self._steps:
            self._settled += 1
        self._settled = max([self._settled, *(one.step - _CONCURRENT_STEPS for one in steps)])

    def _new_lines(self, log: Iterable[LogLine]) -> Iterator[_News]:
        for line in log:
            self._last_line = line.id
            yield _News(line.at, f"  | {line.text}")

    def _new_states(self, run: Run) -> list[str]:
        found = [_event_line(one) for one in reversed(run.events)]
        found += [wait_line(one.workflow_id, one.topic, one.prompt) for one in run.waiting]
        new = [text for text in found if text not in self._states]
        self._states = set(found)  # a run may wait again for the same thing
        return new


def _event_line(event: Event) -> str:
    return f"event {wording.line(event.key, _NAME)}: {wording.line(event.value.said, limits.EVENT)}"


def _step_line(step: Step) -> str:
    name = wording.line(step.name, _NAME)
    took = wording.took(step)
    parts = [f"step {step.step}  {name}"]
    if step.child_workflow_id:
        parts.append(f"run {fitting.shown_line(step.child_workflow_id)}")
    if took:
        parts.append(took)
    if failure := causes.failure(step.error):
        parts.append(f"failed: {failure.line}")
    return "  ".join(parts)


def _under_way(run: Run) -> str:
    now = datetime.now(UTC)
    steps = [_running_line(one, now) for one in run.running]
    return wording.some(steps) or f"{fitting.shown_line(run.workflow_id)}: {run.status}"


def _running_line(step: RunningStep, now: datetime) -> str:
    attempt = f", attempt {step.attempt} of {step.max_attempts}" if step.attempt > 1 else ""
    return f"step {step.step} {wording.line(step.name, _NAME)} since {wording.span(now - step.since)}{attempt}"

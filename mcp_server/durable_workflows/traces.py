"""Runs as Markdown, for whoever reads them: a model through `inspect`, a person in a client or a terminal.

Pure functions from models to text. No text is longer than its budget, whatever the data; each begins with what matters most, says what
it left out, and names the call that brings it.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pydantic_core import from_json

from durable_workflows.models import UNFINISHED, Child, Message, Preview, Run, Step, Waiting

BUDGET = 7900  # characters, with a margin under 8,000: about 2,000 tokens, a fifth of where clients begin to warn
PAGE = 6900  # characters of one payload in one answer; the rest of the budget is for what is said about it
_NAME = 100
_ERROR = 600
_TRACEBACK = 1500
_PAYLOAD = 800
_SHOWN = 6  # of waits, running steps, children and forks in a summary
_RESULT_WIDTHS = (160, 60, 25)  # characters of a step's result; narrower ones let more steps fit
_GAP = 60  # characters of a line about left-out steps, beside the call in it
_STEP_PAYLOAD = 2000  # characters of one step's result in `full`
_LONGEST_FENCE = 12
_SLEEP = "DBOS.sleep"


@dataclass(frozen=True)
class Cause:
    """Why a run is where it is, and what to call next."""

    text: str
    next: str


@dataclass(frozen=True)
class _Failure:
    """A recorded error."""

    name: str
    message: str
    traceback: str

    @property
    def line(self) -> str:
        return _line(f"{self.name}: {self.message}", _ERROR)


# Whole answers


def markdown(run: Run, *, budget: int = BUDGET, now: datetime | None = None) -> str:
    """The summary of a run: why it is where it is, what to call next, and its steps, cut short."""
    head = "\n".join(_head(run, now or datetime.now(UTC)))
    steps = _steps(run, budget - len(head) - 1)
    return _clamp(f"{head}\n{steps}" if steps else head, budget)


def full_markdown(
    run: Run, *, after_step: int = 0, budget: int = BUDGET, now: datetime | None = None
) -> str:
    """The steps after `after_step`, each with more of its result; as many as fit, and the call that brings the next ones."""
    moment = now or datetime.now(UTC)
    lines = _head(run, moment) if after_step == 0 else [_title(run), *_why(run, moment)]
    text = _clamp("\n".join([*lines, ""]), budget // 2)
    wanted = [step for step in run.steps if step.step > after_step]
    last = after_step
    for step in wanted:
        more = _more_steps(run, last)
        room = budget - len(text) - len(more) - 2
        block = _step_block(run, step)
        if last == after_step:
            block = _clamp(block, room)
        if len(block) > room:
            return _clamp(text + more, budget)
        text, last = f"{text}{block}\n", step.step
    complete = after_step == 0 and len(run.steps) >= run.total_steps
    end = "These are all finished steps." if complete else f"No finished step comes after {last}."
    if not complete and wanted:
        end = _more_steps(run, last)
    return _clamp(text + end, budget)


def step_markdown(workflow_id: str, step: Step, *, offset: int = 0, budget: int = BUDGET) -> str:
    """One step, whose payload's preview begins at character `offset` of the whole."""
    head = [
        f"# Step {step.step} {_line(step.name, _NAME)} of {workflow_id}",
        _joined(
            "failed" if step.error else "finished",
            f"began {_time(step.started_at)}" if step.started_at else None,
            f"took {_took(step)}" if _took(step) else None,
        ),
    ]
    if step.child_workflow_id:
        head.append(f"Child run: {_call('inspect', workflow_id=step.child_workflow_id)}")
    payload = step.error or step.output

    def again(cursor: int) -> str:
        return _call("inspect", workflow_id=workflow_id, step=step.step, cursor=str(cursor))

    title = "Error" if step.error else "Output"
    return _payload_page("\n".join(head), title, payload, offset, budget, again)


def payload_markdown(run: Run, *, which: str, offset: int = 0, budget: int = BUDGET) -> str:
    """The run's own `input`, `output` or `error` from character `offset` on; its preview begins at the beginning."""
    payloads = {"input": run.input, "output": run.output, "error": run.error}
    whole = payloads[which]
    part = Preview(text=whole.text[offset:], length=whole.length) if whole else None

    def again(cursor: int) -> str:
        return _call("inspect", workflow_id=run.workflow_id, step=0, cursor=f"{which}:{cursor}")

    return _payload_page(_title(run), which.capitalize(), part, offset, budget, again)


def tree_markdown(
    workflow_id: str, children: Sequence[Child], *, offset: int = 0, budget: int = BUDGET
) -> str:
    """The runs that a run started, and theirs, as a tree; `offset` runs are left out at the beginning."""
    counts: dict[str, int] = {}
    for child in children:
        counts[child.status] = counts.get(child.status, 0) + 1
    total = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    head = f"# Runs started by {workflow_id}\n{len(children)} runs: {total or 'none'}\n"
    lines = [
        f"{'  ' * min(depth, 10)}- {child.workflow_id} {_line(child.name, _NAME)} {child.status}"
        for depth, child in _in_depth_first_order(workflow_id, children)
    ]
    return _list_page(head, lines, offset, budget, _pager(workflow_id, "tree"))


def messages_markdown(
    workflow_id: str, messages: Sequence[Message], *, offset: int = 0, budget: int = BUDGET
) -> str:
    """The messages sent to a run, oldest first; `offset` of them are left out at the beginning."""
    head = f"# Messages to {workflow_id}\n{len(messages)} messages\n"
    lines = [_message(number, message) for number, message in enumerate(messages, 1)]
    return _list_page(head, lines, offset, budget, _pager(workflow_id, "messages"))


def source_markdown(
    workflow_id: str, path: str, text: str, *, offset: int = 0, budget: int = BUDGET
) -> str:
    """The file that the run's version has of its workflow, from character `offset` on."""
    head = f"# {path}, as {workflow_id} runs it"
    part = Preview(text=text[offset:], length=len(text))
    return _payload_page(
        head, "Source", part, offset, budget, _pager(workflow_id, "source"), language="python"
    )


# Why a run is where it is


def cause(run: Run, now: datetime | None = None) -> Cause:
    """Why the run is where it is, in one sentence, and the next call in another."""
    moment = now or datetime.now(UTC)
    if run.status in UNFINISHED and run.unavailable is not None:
        return _unavailable(run)
    return _CAUSES[run.status](run, moment)


def _succeeded(run: Run, _now: datetime) -> Cause:
    if run.output is not None and len(run.output.text) < _PAYLOAD and not run.output.cut:
        return Cause("it has ended; its output is below.", "nothing: this run needs no more.")
    again = _call("inspect", workflow_id=run.workflow_id, step=0)
    return Cause("it has ended.", f"{again} for its output.")


def _failed(run: Run, _now: datetime) -> Cause:
    error = _failure(run.error)
    line = error.line if error else "no error was recorded"
    step = _failing_step(run)
    if step is None:
        if len(run.steps) < run.total_steps:
            return Cause(
                f"failed: {line}", _call("inspect", workflow_id=run.workflow_id, detail="full")
            )
        last = run.steps[-1].step if run.steps else 0
        return Cause(
            f"failed in the workflow's own code after step {last}: {line}",
            f"repair the code ({_call('inspect', workflow_id=run.workflow_id, detail='source')}), then "
            + _call("fork", workflow_id=run.workflow_id, from_step=last + 1),
        )
    name = _line(step.name, _NAME)
    if step.child_workflow_id:
        return Cause(
            f"its child run {step.child_workflow_id} failed (step {step.step} {name}): {line}",
            _call("inspect", workflow_id=step.child_workflow_id),
        )
    return Cause(
        f"failed in step {step.step} {name}: {line}",
        f"{_call('inspect', workflow_id=run.workflow_id, step=step.step)} for the whole error; once repaired, "
        + _call("fork", workflow_id=run.workflow_id, from_step=step.step),
    )


def _cancelled(run: Run, now: datetime) -> Cause:
    again = _call("resume", workflow_ids=[run.workflow_id])
    if run.deadline is not None and run.deadline <= (run.completed_at or now):
        return Cause(
            f"cancelled: its time-out passed at {_time(run.deadline)}.",
            f"start it again with more time, or {again} to go on after its last finished step.",
        )
    return Cause("cancelled.", f"{again} to go on after its last finished step.")


def _dead_lettered(run: Run, _now: datetime) -> Cause:
    after = f" after step {run.steps[-1].step}" if run.steps else " in its first step"
    return Cause(
        f"dead-lettered after {run.recovery_attempts} attempts: its worker ended each time{after}, before the run did.",
        "find what ends the worker (server_status() names the logs), then "
        + _call("resume", workflow_ids=[run.workflow_id]),
    )


def _delayed(run: Run, now: datetime) -> Cause:
    until = run.delayed_until
    when = f" until {_time(until)} (in {_span(until - now)})" if until else ""
    return Cause(f"delayed{when}.", _wait_call(run))


def _queued(run: Run, _now: datetime) -> Cause:
    if not _has_worker(run):
        return Cause(
            _no_worker(run, "queued"), "server_status() for the workers and their problems."
        )
    return Cause(
        f"queued in {run.queue}: its worker takes it up when there is room.",
        f'{_wait_call(run)}; list_workflows(status="PENDING") shows what is ahead of it.',
    )


def _pending(run: Run, now: datetime) -> Cause:
    if not _has_worker(run):
        doing = _no_worker(run, "interrupted")
        return Cause(doing, "server_status() for the workers; it goes on by itself once one runs.")
    if run.waiting:
        return _waits(run, now)
    if run.running:
        return _runs(run, now)
    asleep = _asleep_until(run, now)
    if asleep is not None:
        text = f"sleeping until {_time(asleep)} (for another {_span(asleep - now)})."
        return Cause(text, _wait_call(run))
    children = [c for c in run.children if _is_unfinished_child(run, c)]
    if children:
        names = _some(f"{c.workflow_id} ({c.status})" for c in children)
        text = f"waits for child runs, or runs beside them: {names}"
        return Cause(text, _call("inspect", workflow_id=children[0].workflow_id))
    last = f"after step {run.steps[-1].step}" if run.steps else "before its first step"
    return Cause(f"running its own code {last}.", _wait_call(run))


def _waits(run: Run, now: datetime) -> Cause:
    first = run.waiting[0]
    more = f" (and {len(run.waiting) - 1} more)" if len(run.waiting) > 1 else ""
    text = f"waits for a message on topic {_wait(first, now)}{more}"
    return Cause(text, _send_call(first))


def _runs(run: Run, now: datetime) -> Cause:
    steps = _some(
        f"step {step.step} {_line(step.name, _NAME)} since {_time(step.since)} ({_span(now - step.since)})"
        + (f", attempt {step.attempt} of {step.max_attempts}" if step.max_attempts > 1 else "")
        for step in run.running
    )
    return Cause(f"running {steps}", _wait_call(run))


def _unavailable(run: Run) -> Cause:
    lines = (run.unavailable or "").strip().splitlines()
    return Cause(
        f"its file does not load in version {run.version}: {_line(lines[-1] if lines else '', _ERROR)}",
        f"{_call('inspect', workflow_id=run.workflow_id, detail='source')}; repair the file, then "
        + _call("fork", workflow_id=run.workflow_id, from_step=_next_step(run)),
    )


_CAUSES: dict[str, Callable[[Run, datetime], Cause]] = {
    "SUCCESS": _succeeded,
    "ERROR": _failed,
    "CANCELLED": _cancelled,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": _dead_lettered,
    "DELAYED": _delayed,
    "ENQUEUED": _queued,
    "PENDING": _pending,
}


def _has_worker(run: Run) -> bool:
    return run.worker is not None and run.worker.alive


def _no_worker(run: Run, state: str) -> str:
    age = "" if run.version == run.newest_version else ", which is not the newest"
    where = ""
    if run.waiting:
        where = f"; it waited for topic {_line(run.waiting[0].topic, _NAME)!r}"
    elif run.running:
        where = f"; step {run.running[0].step} {_line(run.running[0].name, _NAME)} was under way"
    return f"{state}: no worker of its version {run.version}{age} runs now{where}."


def _asleep_until(run: Run, now: datetime) -> datetime | None:
    """DBOS records a sleep when it begins, with the time at which it will end."""
    last = run.steps[-1] if run.steps else None
    if last is None or last.name != _SLEEP or last.completed_at is None:
        return None
    return last.completed_at if last.completed_at > now else None


def _is_unfinished_child(run: Run, child: Child) -> bool:
    return child.parent_workflow_id == run.workflow_id and child.status in UNFINISHED


def _failing_step(run: Run) -> Step | None:
    """The last step whose error is the run's; a step may also have failed and been caught."""
    error = _failure(run.error)
    for step in reversed(run.steps):
        own = _failure(step.error)
        if error and own and own.name == error.name and _same_start(own.message, error.message):
            return step
    return None


def _same_start(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)  # either may be cut


def _next_step(run: Run) -> int:
    return run.steps[-1].step + 1 if run.steps else 1


# The parts of a summary


def _head(run: Run, now: datetime) -> list[str]:
    lines = [_title(run), *_why(run, now), _facts(run, now)]
    lines += _error_section(run)
    lines += _section("Waits", [f"topic {_wait(one, now)}" for one in run.waiting[1:]])
    lines += _section("Children", [f"{c.workflow_id} {c.name} {c.status}" for c in run.children])
    if len(run.children) > _SHOWN:
        lines.append(f"All: {_call('inspect', workflow_id=run.workflow_id, detail='tree')}")
    lines += _payload_line(run, "input", run.input)
    lines += _payload_line(run, "output", run.output)
    return lines


def _title(run: Run) -> str:
    return f"# {run.workflow_id}: {_line(run.name, _NAME)} {run.status}"


def _why(run: Run, now: datetime) -> list[str]:
    found = cause(run, now)
    return [f"**Why:** {found.text}", f"**Next:** {found.next}"]


def _facts(run: Run, now: datetime) -> str:
    until = run.completed_at or now
    took = _span(until - run.created_at)
    newest = "" if run.version == run.newest_version else f" (the newest is {run.newest_version})"
    ended = f"ended {_time(run.completed_at)} (took {took})" if run.completed_at else f"{took} ago"
    return _joined(
        f"started {_time(run.created_at)}",
        ended,
        f"version {run.version}{newest}" if run.version else None,
        f"recovered {run.recovery_attempts - 1} times" if run.recovery_attempts > 1 else None,
        f"time-out at {_time(run.deadline)}" if run.deadline else None,
        f"forked from {run.forked_from}" if run.forked_from else None,
        f"started by {run.parent_workflow_id}" if run.parent_workflow_id else None,
        f"forks: {_some(run.forks)}" if run.forks else None,
        f"{run.unread_messages} unread messages" if run.unread_messages else None,
    )


def _error_section(run: Run) -> list[str]:
    """The end of the traceback; the error itself is in the cause."""
    traceback = run.unavailable if run.status in UNFINISHED else None
    failure = _failure(run.error)
    if traceback is None and failure is not None:
        traceback = failure.traceback
    if not traceback:
        return []
    end = traceback[-_TRACEBACK:]
    cut = "…" if len(end) < len(traceback) else ""
    return ["", _fenced(cut + end)]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = [f"- … {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return ["", f"{title}:", *(f"- {line}" for line in lines[:_SHOWN]), *more]


def _payload_line(run: Run, which: str, payload: Preview | None) -> list[str]:
    if payload is None:
        return []
    shown = _line(_arguments(payload.text) if which == "input" else payload.text, _PAYLOAD)
    rest = ""
    if payload.cut or len(payload.text) > _PAYLOAD:
        again = _call("inspect", workflow_id=run.workflow_id, step=0, cursor=f"{which}:0")
        rest = f" ({payload.length:,} characters: {again})"
    return ["", f"{which.capitalize()}: {shown}{rest}"]


def _wait(wait: Waiting, now: datetime) -> str:
    return _joined(
        repr(_line(wait.topic, _NAME)),
        f"since {_time(wait.since)} ({_span(now - wait.since)})" if wait.since else None,
        f"until {_time(wait.deadline)}" if wait.deadline else "without a deadline",
        f"asks: {_line(wait.prompt, 300)}" if wait.prompt else None,
    )


def _message(number: int, message: Message) -> str:
    step = message.consumed_by_step
    read = f"received by step {step}" if step is not None else "not received yet"
    text = _line(message.message.text, _PAYLOAD)
    more = f" ({message.message.length:,} characters)" if message.message.cut else ""
    topic = _line(message.topic, _NAME)
    return f"{number}. topic {topic!r}, sent {_time(message.sent_at)}, {read}: {text}{more}"


# Steps


def _steps(run: Run, room: int) -> str:
    """The list of steps in at most `room` characters: all if they fit, else failed ones, last ones and first ones."""
    if not run.steps:
        return ""
    head = f"\nSteps ({run.total_steps:,}; one in full: {_call('inspect', workflow_id=run.workflow_id, step=0).replace('step=0', 'step=N')}):"
    room -= len(head) + 1
    complete = len(run.steps) >= run.total_steps
    for width in _RESULT_WIDTHS:
        lines = [_step_line(step, width) for step in run.steps]
        if complete and sum(map(len, lines)) + len(lines) <= room:
            return "\n".join([head, *lines])
    gap = len(_more_steps(run, run.steps[-1].step)) + _GAP
    chosen = _chosen(run.steps, room - 2 * gap, gap)
    return "\n".join([head, *_with_gaps(run, chosen)])


def _chosen(steps: Sequence[Step], room: int, gap: int) -> list[Step]:
    width = _RESULT_WIDTHS[1]
    failed = [step for step in reversed(steps) if step.error][:_SHOWN]
    chosen: dict[int, Step] = {}
    for step in [*failed, *_from_both_ends(steps)]:
        if step.step in chosen:
            continue
        room -= len(_step_line(step, width)) + 1 + (gap if step.error else 0)
        if room < 0:
            break
        chosen[step.step] = step
    return [chosen[number] for number in sorted(chosen)]


def _from_both_ends(steps: Sequence[Step]) -> Iterable[Step]:
    for number in range((len(steps) + 1) // 2):
        yield steps[-1 - number]
        yield steps[number]


def _with_gaps(run: Run, chosen: Sequence[Step]) -> list[str]:
    places = {step.step: place for place, step in enumerate(run.steps)}
    paged = (
        len(run.steps) < run.total_steps
    )  # then steps may also be missing between those of the run
    lines: list[str] = []
    place, last = -1, 0
    for step in chosen:
        if places[step.step] > place + 1 or (paged and step.step > last + 2):
            lines.append(f"… left out before {step.step}: {_full_call(run, last)}")
        lines.append(_step_line(step, _RESULT_WIDTHS[1]))
        place, last = places[step.step], step.step
    if place + 1 < len(run.steps) or (paged and len(run.steps) - place == 1):
        lines.append(f"… left out after {last}: {_full_call(run, last)}")
    return lines


def _step_line(step: Step, width: int) -> str:
    name = _line(step.name, _NAME)
    failure = _failure(step.error)
    if failure is not None:
        result = f"FAILED {_line(failure.line, max(width, 60))}"
    elif step.name == _SLEEP and step.output is not None:
        result = _wake_up(step.output.text)
    else:
        result = _result(step.output, width)
    child = f"(child {step.child_workflow_id})" if step.child_workflow_id else None
    return f"{step.step}. " + _joined(name, _took(step), child, result)


def _result(output: Preview | None, width: int) -> str | None:
    if output is None:
        return None
    text = _line(output.text, width)
    cut = output.cut or len(output.text) > width
    return f"{text} ({output.length:,} characters)" if cut else text


def _wake_up(text: str) -> str:
    """DBOS records of a sleep when it will end, in seconds since 1970."""
    try:
        return f"until {_time(datetime.fromtimestamp(float(text), UTC))}"
    except (ValueError, OverflowError):
        return _line(text, _NAME)


def _arguments(text: str) -> str:
    """Arguments as they were given, from the form in which DBOS keeps them."""
    try:
        given: Any = json.loads(text)
        named, positional = given["namedArgs"], given["positionalArgs"]
    except (ValueError, TypeError, KeyError):
        return text
    return " ".join(_json(one) for one in (*positional, named) if one) or "none"


def _step_block(run: Run, step: Step) -> str:
    payload = step.error or step.output
    text = payload.text[:_STEP_PAYLOAD] if payload else ""
    failure = _failure(step.error)
    if failure is not None:
        text = f"{failure.line}\n{failure.traceback[-_TRACEBACK:]}".rstrip()
    if step.error is None and len(text) <= _RESULT_WIDTHS[0] and "\n" not in text:
        return f"## {_step_line(step, _RESULT_WIDTHS[0])}"
    title = f"## {_step_line(step.model_copy(update={'output': None}), 0)}"
    rest = ""
    if payload is not None and step.error is None and len(text) < payload.length:
        again = _call("inspect", workflow_id=run.workflow_id, step=step.step)
        rest = f"\n({payload.length:,} characters: {again})"
    return f"{title}\n{_fenced(text)}{rest}" if text else title


def _more_steps(run: Run, last: int) -> str:
    return f"Next steps: {_full_call(run, last)}"


def _full_call(run: Run, last: int) -> str:
    return _call("inspect", workflow_id=run.workflow_id, detail="full", cursor=str(last))


# Pages


def _payload_page(
    head: str,
    title: str,
    part: Preview | None,
    offset: int,
    budget: int,
    again: Callable[[int], str],
    *,
    language: str = "",
) -> str:
    """A part of a payload that begins at `offset`, and the call that brings the next one."""
    if part is None:
        return _clamp(f"{head}\n{title}: nothing was recorded.", budget)
    if not part.text:
        return _clamp(
            f"{head}\n{title}: it has {part.length:,} characters, none from {offset} on.", budget
        )
    if offset == 0 and not part.cut:
        readable = f"{head}\n\n{title}:\n{_fenced(_readable(part.text), language)}"
        if len(readable) <= budget:
            return readable
    room = budget - len(head) - len(title) - len(again(part.length)) - 120 - 2 * _LONGEST_FENCE
    text = part.text[: max(1, room)]
    end = offset + len(text)
    rest = f"Next part: {again(end)}" if end < part.length else "This is its end."
    span = f"{title}, characters {offset:,} to {end:,} of {part.length:,}:"
    return _clamp(f"{head}\n\n{span}\n{_fenced(text, language)}\n{rest}", budget)


def _list_page(
    head: str, lines: Sequence[str], offset: int, budget: int, again: Callable[[int], str]
) -> str:
    rest = f"Next: {again(len(lines))}"
    room = budget - len(head) - len(rest) - 2
    shown: list[str] = []
    for line in lines[offset:]:
        room -= len(line) + 1
        if room < 0 and shown:
            break
        shown.append(line)
    end = offset + len(shown)
    tail = [f"Next: {again(end)}"] if end < len(lines) else []
    return _clamp("\n".join([head, *shown, *tail]), budget)


def _pager(workflow_id: str, detail: str) -> Callable[[int], str]:
    def again(cursor: int) -> str:
        return _call("inspect", workflow_id=workflow_id, detail=detail, cursor=str(cursor))

    return again


def _in_depth_first_order(root: str, children: Sequence[Child]) -> list[tuple[int, Child]]:
    by_parent: dict[str, list[Child]] = {}
    for child in children:
        by_parent.setdefault(child.parent_workflow_id, []).append(child)
    ordered: list[tuple[int, Child]] = []
    stack = [(0, child) for child in reversed(by_parent.get(root, []))]
    while stack:
        depth, child = stack.pop()
        ordered.append((depth, child))
        below = by_parent.get(child.workflow_id, [])
        stack += [(depth + 1, one) for one in reversed(below)]
    return ordered


# Words


def _failure(error: Preview | None) -> _Failure | None:
    """A recorded error, of whose JSON the end may be missing."""
    if error is None:
        return None
    try:
        recorded: Any = from_json(error.text, allow_partial="trailing-strings")
    except ValueError:
        return _Failure("Error", error.text, "")
    if not isinstance(recorded, dict):
        return _Failure("Error", str(recorded), "")
    fields = cast("dict[str, Any]", recorded)
    return _Failure(
        str(fields.get("name") or "Error"),
        str(fields.get("message") or ""),
        str(fields.get("traceback") or "").rstrip(),
    )


def _readable(text: str) -> str:
    """JSON as a person reads it: a text as such, a recorded error with its traceback's lines."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "traceback" in value and "message" in value:
        fields = cast("dict[str, Any]", value)
        extra = {key: fields[key] for key in ("code", "data") if fields.get(key) is not None}
        more = f"\n{_json(extra)}" if extra else ""
        return f"{fields.get('name')}: {fields['message']}{more}\n\n{fields['traceback']}".rstrip()
    return text


def _fenced(text: str, language: str = "") -> str:
    """A code block; its fence is longer than any in the text, within reason."""
    longest = max((len(found) for found in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * min(longest + 1, _LONGEST_FENCE)
    return f"{fence}{language}\n{text}\n{fence}"


def _call(tool: str, **arguments: str | int | list[str]) -> str:
    """A tool's call as a model may repeat it."""
    given = ", ".join(f"{name}={_json(value)}" for name, value in arguments.items())
    return f"{tool}({given})"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _wait_call(run: Run) -> str:
    return _call("wait_for_workflows", workflow_ids=[run.workflow_id])


def _send_call(wait: Waiting) -> str:
    sent = _call("send_message", workflow_id=wait.workflow_id, topic=_line(wait.topic, _NAME))
    return f"{sent[:-1]}, message=…)"


def _some(words: Iterable[str]) -> str:
    found = list(words)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def _joined(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part)


def _line(text: str, width: int) -> str:
    """One line of at most `width` characters; what is far beyond it is not even looked at."""
    flat = " ".join(text[: width * 4].split())
    if len(flat) <= width and len(text) <= width * 4:
        return flat
    return flat[: max(0, width - 1)] + "…"


def _clamp(text: str, budget: int) -> str:
    """The last guard of a budget."""
    note = "\n… (cut)"
    return text if len(text) <= budget else text[: max(0, budget - len(note))] + note


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _took(step: Step) -> str | None:
    if step.started_at is None or step.completed_at is None:
        return None
    return _span(step.completed_at - step.started_at)


def _span(span: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"

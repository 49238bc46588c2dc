"""The trace of a run as Markdown: for a model through `inspect`, and for a person in a client or a terminal.

Pure functions from a `Run` to text. No text is longer than its budget, whatever the data. Each begins with the most important part, says
what it left out, and names the call that brings the rest.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from durable_workflows import fitting, limits
from durable_workflows.actions import NUMBER, inspect
from durable_workflows.models import (
    MOST_EVENTS,
    UNFINISHED,
    Answer,
    Child,
    Preview,
    Run,
    Step,
    StepEffect,
)
from durable_workflows.settings import FOREVER_SECONDS
from durable_workflows.telling.causes import SLEEP, cause, failure, wait_line
from durable_workflows.telling.pages import attempt_line, list_page, size
from durable_workflows.wording import (
    SHOWN,
    as_json,
    clamp,
    counted,
    fenced,
    joined,
    line,
    some,
    span,
    time,
    times,
    title_of,
    took,
    traceback_of_project,
    wake_up,
)

_TRACEBACK = 1500
_RESULT_WIDTHS = (160, 60, 25)  # characters of a step's result; narrower ones let more steps fit
_MOST_STEPS = 40  # in a summary: a loop repeats itself
_GAP = 170  # characters of a line about left-out steps, apart from the call in it
_OFTEN = 3  # names of left-out steps that are counted
_OFTEN_NAME = 30
_STEP_PAYLOAD = 2000  # characters of one step's result in `full_markdown`
_PROMPT = 300  # characters of a question in a cause
_HOW = {
    "terminal": "in a terminal",
    "elicitation": "in the form of a client",
    "page": "on the page",
    "app": "on the page inside a client",
    "tool": "by a tool",
    "command": "by a command",
}
_NOT_BEGUN = ("ENQUEUED", "DELAYED")
_FAILED = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def markdown(run: Run, *, budget: int = limits.ANSWER, now: datetime | None = None) -> str:
    """The summary of a run: why it is where it is, what to call next, and its steps in short form."""
    run = _without_timeout(run)
    head = "\n".join(_head(run, now or datetime.now(UTC)))
    steps = _steps(run, budget - len(head) - 1)
    return clamp(f"{head}\n{steps}" if steps else head, budget)


def full_markdown(run: Run, *, after_step: int = 0) -> str:
    """The steps after `after_step`, each with more of its result; as many as fit, and the call that brings the next ones."""
    now, run = datetime.now(UTC), _without_timeout(run)
    lines = [title_of(run), *_why(run, now)] if after_step else _head(run, now)
    head = clamp("\n".join(lines), limits.ANSWER // 2)
    steps = [step for step in run.steps if step.step > after_step]
    if after_step == 0 and len(run.steps) >= run.total_steps:
        end = "All finished steps are shown."
    elif steps:
        end = f"Next: {_full_call(run, steps[-1].step)}"
    else:
        end = f"No finished step comes after {after_step}."
    blocks = [_step_block(run, step) for step in steps]
    return list_page(head, blocks, lambda n: _full_call(run, steps[n - 1].step), end=end)


# The parts of a summary


def _head(run: Run, now: datetime) -> list[str]:
    lines = [title_of(run), *_why(run, now), _facts(run, now), *_error_section(run)]
    if any(len(one.prompt or "") > _PROMPT for one in run.waiting):
        lines.append(f"What it asks: {inspect(run.workflow_id, step=0, cursor='prompt:0')}")
    lines += _section("Waits", [f"topic {wait_line(one, now)}" for one in run.waiting[1:]])
    lines += _answers(run)
    lines += _section("Steps that happen at most once", [_effect(one) for one in run.effects])
    lines += _attempts(run)
    lines += _events(run)
    children = sorted(run.children, key=_concern)
    lines += _section("Children", [_child(one) for one in children])
    if len(run.children) > SHOWN:
        lines.append(f"All: {inspect(run.workflow_id, detail='tree')}")
    lines += _payload_line(run, "input", run.input)
    lines += _payload_line(run, "output", run.output)
    return lines


def _why(run: Run, now: datetime) -> list[str]:
    found = cause(run, now)
    return [f"**Why:** {found.text}", f"**Next:** {found.next}"]


def _facts(run: Run, now: datetime) -> str:
    age = span((run.completed_at or now) - run.created_at)
    newest = "" if run.version == run.newest_version else f" (the newest is {run.newest_version})"
    return joined(
        f"{'created' if run.status in _NOT_BEGUN else 'started'} {time(run.created_at)}",
        f"ended {time(run.completed_at)} (took {age})" if run.completed_at else f"{age} ago",
        f"version {run.version}{newest}" if run.version else None,
        f"recovered {times(run.recovery_attempts - 1)}" if run.recovery_attempts > 1 else None,
        f"timeout at {time(run.deadline)}" if run.deadline else None,
        _origin(run),
        f"this is what {fitting.shown_line(run.rewound_from)} had done when it was rewound to step {run.rewound_to}"
        if run.rewound_from
        else None,
        f"started by {fitting.shown_line(run.parent_workflow_id)}"
        if run.parent_workflow_id
        else None,
        f"forks: {some(f'{fitting.shown_line(one.workflow_id)} ({one.status})' for one in run.forks)}"
        if run.forks
        else None,
        f"rewound: {some(f'to step {one.to_step} (before: {fitting.shown_line(one.workflow_id)}, {one.status})' for one in run.rewinds)}"
        if run.rewinds
        else None,
        _unread(run),
    )


def _unread(run: Run) -> str | None:
    """The number of unread messages, their topics, and whether the run receives on another topic."""
    if not run.unread_messages:
        return None
    number = counted(run.unread_messages, "unread message")
    topics = some(repr(line(topic, limits.NAME)) for topic in run.unread_topics)
    awaited = [one.topic for one in run.waiting if one.workflow_id == run.workflow_id]
    others = some(
        repr(line(topic, limits.NAME)) for topic in awaited if topic not in run.unread_topics
    )
    missed = f" (it waits on {others})" if others else ""
    return f"{number} on {topics}{missed}" if topics else number


def _origin(run: Run) -> str | None:
    if run.forked_from is None:
        return None
    own = f" at step {run.forked_at}: the steps before it were taken over" if run.forked_at else ""
    return f"forked from {run.forked_from}{own}"


def _without_timeout(run: Run) -> Run:
    """The run without DBOS's record of an active wait: its timeout, as a sleep at the next number."""
    if not (run.waiting and run.steps and run.steps[-1].name == SLEEP):
        return run
    fewer = {"steps": run.steps[:-1], "total_steps": run.total_steps - 1}
    return run.model_copy(update=fewer)


def _error_section(run: Run) -> list[str]:
    """The end of the traceback; the error itself is in the cause."""
    error = failure(run.error)
    traceback = (run.unavailable if run.status in UNFINISHED else None) or (
        error.traceback if error else ""
    )
    traceback = traceback_of_project(traceback)
    end = traceback[-_TRACEBACK:]
    shown = ["", fenced(end if end == traceback else f"…{end}")] if end else []
    if run.error is not None and run.error.cut:
        shown.append(f"The whole error: {inspect(run.workflow_id, step=0)}")
    return shown


def _concern(child: Child) -> int:
    """Failed children come before running ones, and these before finished ones."""
    if child.ok is False:
        return 0
    return 0 if child.status in _FAILED else 1 if child.status in UNFINISHED else 2


def _child(child: Child) -> str:
    ok = ", ok false" if child.ok is False else ""
    return f"{fitting.shown_line(child.workflow_id)} {line(child.name, limits.NAME)} {child.status}{ok}"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = [f"- … {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return ["", f"{title}:", *(f"- {one}" for one in lines[:SHOWN]), *more]


def _events(run: Run) -> list[str]:
    shown = [
        f"{line(one.key, limits.NAME)}: {line(one.value.said, limits.EVENT)}" for one in run.events
    ]
    title = "Events" if len(shown) < MOST_EVENTS else f"Events, the newest {MOST_EVENTS}"
    lines = _section(title, shown)
    if len(shown) > SHOWN or any(one.value.length > limits.EVENT for one in run.events):
        lines.append(f"All: {inspect(run.workflow_id, step=0, cursor='events:0')}")
    return lines


def _answers(run: Run) -> list[str]:
    """The answers of people; all that was shown to them has a page of its own."""
    lines = _section("Answers from people", [answer_line(one) for one in run.answers])
    if any(not _is_whole(one) for one in run.answers):
        lines.append(f"All: {inspect(run.workflow_id, step=0, cursor='answers:0')}")
    return lines


def answer_line(answer: Answer) -> str:
    """Who answered what, when and how, and the run that was asked, if this run took the answer over."""
    where = answer.taken_from
    return joined(
        f"step {answer.step}: {line(answer.answer.text, limits.EVENT)}",
        f"by {line(answer.who, limits.NAME)} ({_HOW.get(answer.how, answer.how)})",
        time(answer.at),
        f"shown: {line(answer.shown, limits.EVENT)!r}",
        f"taken over from {where}: not asked again; a fork from step {answer.step} asks again"
        if where
        else None,
    )


def _effect(effect: StepEffect) -> str:
    """A step that happens at most once, and what was said of its doubts."""
    return joined(
        f"step {effect.step} {line(effect.name, limits.NAME)}",
        f"in doubt since {time(effect.doubt_since)}" if effect.doubt_since else None,
        "only a person may resolve a doubt" if effect.person_only else None,
        *(
            f"{line(one.who, limits.NAME)} said at {time(one.at)} ({_HOW.get(one.how, one.how)}) that it has {'' if one.happened else 'not '}happened"
            for one in effect.decisions
        ),
    )


def _attempts(run: Run) -> list[str]:
    """The newest attempts of steps that did not succeed at once."""
    shown = [line(attempt_line(one), limits.EVENT) for one in run.attempts]
    lines = _section("Attempts, the newest first", shown)
    if len(shown) > SHOWN or any(len(attempt_line(one)) > limits.EVENT for one in run.attempts):
        lines.append(f"All: {inspect(run.workflow_id, step=0, cursor='attempts:0')}")
    return lines


def _is_whole(answer: Answer) -> bool:
    return max(len(answer.shown), answer.answer.length) <= limits.EVENT and "\n" not in answer.shown


def _payload_line(run: Run, which: str, payload: Preview | None) -> list[str]:
    if payload is None:
        return []
    shown = line(_arguments(payload.said) if which == "input" else payload.said, limits.PAYLOAD)
    rest = ""
    if payload.cut or len(payload.text) > limits.PAYLOAD:
        again = inspect(run.workflow_id, step=0, cursor=f"{which}:0")
        rest = f" ({payload.length:,} characters: {again})"
    return ["", f"{which.capitalize()}: {shown}{rest}"]


def _arguments(text: str) -> str:
    """Arguments as they were given, from DBOS's form."""
    try:
        given: Any = fitting.part_of_json(text)
        named, positional = given["namedArgs"], given["positionalArgs"]
    except (ValueError, TypeError, KeyError):
        return text
    return " ".join(as_json(one) for one in (*positional, named) if one) or "none"


# Steps


def _steps(run: Run, room: int) -> str:
    """The list of steps in at most `room` characters: all if they fit, else failed ones, last ones and first ones."""
    if not run.steps:
        return ""
    one = inspect(run.workflow_id, step=NUMBER)
    head = f"\nSteps ({run.total_steps:,}; one in full: {one}):"
    room -= len(head) + 1
    if run.total_steps <= min(len(run.steps), _MOST_STEPS):
        for width in _RESULT_WIDTHS:
            lines = [_step_line(step, width) for step in run.steps]
            if sum(map(len, lines)) + len(lines) <= room:
                return "\n".join([head, *lines])
    gap = len(_full_call(run, run.steps[-1].step)) + _GAP
    chosen = _chosen(run.steps, room - 2 * gap, gap)
    return "\n".join([head, *_with_gaps(run, chosen)])


def _chosen(steps: Sequence[Step], room: int, gap: int) -> list[Step]:
    failed = [step for step in reversed(steps) if step.error][:SHOWN]
    chosen: dict[int, Step] = {}
    for step in [*failed, *_from_both_ends(steps)]:
        if step.step in chosen:
            continue
        room -= len(_step_line(step, _RESULT_WIDTHS[1])) + 1 + (gap if step.error else 0)
        if room < 0 or len(chosen) == _MOST_STEPS:
            break
        chosen[step.step] = step
    return [chosen[number] for number in sorted(chosen)]


def _from_both_ends(steps: Sequence[Step]) -> Iterable[Step]:
    for number in range((len(steps) + 1) // 2):
        yield steps[-1 - number]
        yield steps[number]


def _with_gaps(run: Run, chosen: Sequence[Step]) -> list[str]:
    places = {step.step: place for place, step in enumerate(run.steps)}
    paged = len(run.steps) < run.total_steps  # steps may also be missing within those of the run
    lines: list[str] = []
    place, last = -1, 0
    for step in chosen:
        if places[step.step] > place + 1 or (paged and step.step > last + 2):
            left = _often(run.steps[place + 1 : places[step.step]])
            lines.append(f"… left out before {step.step}{left}: {_full_call(run, last)}")
        lines.append(_step_line(step, _RESULT_WIDTHS[1]))
        place, last = places[step.step], step.step
    if place + 1 < len(run.steps) or (paged and len(run.steps) - place == 1):
        left = _often(run.steps[place + 1 :])
        lines.append(f"… left out after {last}{left}: {_full_call(run, last)}")
    return lines


def _often(steps: Sequence[Step]) -> str:
    """The most frequent names of the steps."""
    names = Counter(line(step.name, _OFTEN_NAME) for step in steps).most_common(_OFTEN)
    shown = ", ".join(f"{name} ×{number:,}" for name, number in names)
    return f" ({shown})" if shown else ""


def _step_line(step: Step, width: int) -> str:
    child = (
        f"(child {fitting.shown_line(step.child_workflow_id)})" if step.child_workflow_id else None
    )
    scope = f"{line(step.scope, limits.NAME)}/ " if step.scope else ""
    label = f"for {line(step.label, limits.NAME)!r}" if step.label else None
    name = f"{scope}{line(step.name, limits.NAME)}"
    return f"{step.step}. {joined(name, label, took(step), child, _result(step, width))}"


def _result(step: Step, width: int) -> str | None:
    error, output = failure(step.error), step.output
    if error is not None:
        return f"FAILED {line(error.line, max(width, 60))}"
    if output is None:
        return None
    if step.name == SLEEP:
        return _until(step, output.text)
    cut = output.cut or len(output.text) > width
    return line(output.said, width) + (f" ({size(output)})" if cut else "")


def _until(step: Step, recorded: str) -> str:
    until = wake_up(recorded)
    if until is None:
        return line(recorded, limits.NAME)
    if step.started_at and (until - step.started_at).total_seconds() > FOREVER_SECONDS / 2:
        return "without a time limit"
    return f"until {time(until)}"


def _step_block(run: Run, step: Step) -> str:
    error, output = failure(step.error), step.output
    title = f"## {_step_line(step.model_copy(update={'output': None}), 0)}"
    if error is not None:
        end = f"{error.line}\n{traceback_of_project(error.traceback)[-_TRACEBACK:]}".rstrip()
        return f"{title}\n{fenced(end)}"
    if output is None:
        return title
    text = output.text[:_STEP_PAYLOAD]
    if len(text) <= _RESULT_WIDTHS[0] and "\n" not in text:
        return f"## {_step_line(step, _RESULT_WIDTHS[0])}"
    again = inspect(run.workflow_id, step=step.step)
    rest = f"\n({size(output)}: {again})" if len(text) < output.length else ""
    return f"{title}\n{fenced(text)}{rest}"


def _full_call(run: Run, last: int) -> str:
    return inspect(run.workflow_id, detail="full", cursor=str(last))

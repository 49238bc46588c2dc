"""One part of a run in pages, as Markdown: a payload, its children, its messages, its code.

A page is no longer than the budget; it begins at `offset`, and its last line is the call that brings the next page.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import cast

from durable_workflows import fitting, limits, wording
from durable_workflows.actions import call, inspect
from durable_workflows.models import Attempt, Child, LogLine, Message, Preview, Run, Step
from durable_workflows.wording import LONGEST_FENCE, clamp, fenced, line

_NOTHING = "Nothing was printed. Runs that it started have their own logs."
_DEEPEST = 10  # levels of a tree that are shown
_RUNS = 1000  # runs of a tree that are read
_BECAME = {
    "interrupted": "was interrupted: its process ended",
    "succeeded": "succeeded",
    "running": "is running",
}
_LEAST = 600  # characters of a payload that are read, if it is that long

NextPage = Callable[[int], str]


def step(workflow_id: str, found: Step, *, offset: int = 0) -> str:
    """One step; the preview of its payload begins at character `offset` of the whole."""
    head = (
        f"# Step {found.step} {line(found.name, limits.NAME)} of {fitting.shown_line(workflow_id)}\n"
        + wording.joined(
            "failed" if found.error else "finished",
            f"began {wording.time(found.started_at)}" if found.started_at else None,
            f"took {took}" if (took := wording.took(found)) else None,
        )
    )
    if found.child_workflow_id:
        head += f"\nChild run: {inspect(found.child_workflow_id)}"
    return _payload_page(
        head,
        "Error" if found.error else "Output",
        found.error or found.output,
        offset,
        lambda end: inspect(workflow_id, step=found.step, cursor=str(end)),
    )


def payload(run: Run, *, which: str, offset: int = 0) -> str:
    """A payload of the run from character `offset` on.

    It is the run's own `input`, `output` or `error`, the `prompt` of its wait, its `events`, the `answers` of people, or the
    `attempts` of its steps. A preview begins
    at the
    beginning, and has `offset` and `limits.PART` characters or all.
    """
    known = {
        "input": run.input,
        "output": run.output,
        "error": run.error,
        "prompt": _prompts(run),
        "events": _events(run),
        "answers": _answers(run),
        "attempts": _attempts(run),
    }
    whole = known[which]
    # If there are several values in one text, the first may be cut; up to here it is not.
    text = whole.text[offset : offset + limits.PART] if whole else ""
    part = Preview(text=text, length=whole.length) if whole else None
    return _payload_page(
        wording.title_of(run),
        which.capitalize(),
        part,
        offset,
        lambda end: inspect(run.workflow_id, step=0, cursor=f"{which}:{end}"),
    )


def source(workflow_id: str, path: str, text: str, *, offset: int = 0) -> str:
    """The file of the run's workflow in the run's version, from character `offset` on."""
    head = f"# {fitting.shown_line(path)}, as {fitting.shown_line(workflow_id)} runs it"
    part = Preview(text=text[offset:], length=len(text))
    following = _next_page(workflow_id, "source")
    return _payload_page(head, "Source", part, offset, following, language="python")


def tree(workflow_id: str, children: Sequence[Child], *, offset: int = 0) -> str:
    """The runs that a run started, and their children, as a tree, without the first `offset` runs."""
    counts = Counter(child.status for child in children)
    total = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    more = (
        ""
        if len(children) < _RUNS
        else f"; only the first {_RUNS:,}: {call('list_workflows', parent=workflow_id)} lists all that it started itself"
    )
    none = "none (a fork lists only its own: runs started by steps that it took over belong to the run it was forked from)"
    head = f"# Runs started by {fitting.shown_line(workflow_id)}\n{wording.counted(len(children), 'run')}: {total or none}{more}\n"
    lines = [
        f"{'  ' * min(depth, _DEEPEST)}- {fitting.shown_line(child.workflow_id)} {line(child.name, limits.NAME)} {child.status}"
        + (f", waits on {line(child.waiting_on, limits.NAME)!r}" if child.waiting_on else "")
        + (", ok false" if child.ok is False else "")
        for depth, child in _in_depth_first_order(workflow_id, children)
    ]
    return list_page(head, lines[offset:], _next_page(workflow_id, "tree", offset))


def messages(workflow_id: str, found: Sequence[Message], *, offset: int = 0) -> str:
    """The messages sent to a run, oldest first, without the first `offset`."""
    first = "" if len(found) < limits.MESSAGES else ", the oldest"
    head = f"# Messages to {fitting.shown_line(workflow_id)}\n{wording.counted(len(found), 'message')}{first}\n"
    lines = [_message(workflow_id, number, message) for number, message in enumerate(found, 1)]
    return list_page(head, lines[offset:], _next_page(workflow_id, "messages", offset))


def log(workflow_id: str, lines: Sequence[LogLine], *, before: int = 0) -> str:
    """The output and log of a run: the newest lines that fit, oldest first, of those before the line with the id `before` (0: of all)."""
    asked = [one for one in lines if not before or one.id < before]
    room = limits.ANSWER - 500 - len(workflow_id)
    shown: list[str] = []
    for one in reversed(asked):
        text = log_line(one)
        room -= len(text) + 1
        if room < 0 and shown:
            break
        shown.insert(0, clamp(text, room + len(text)))
    head = f"# Log of {fitting.shown_line(workflow_id)}\n{len(shown):,} of {wording.counted(len(lines), 'kept line')}"
    if len(shown) < len(asked):
        oldest = asked[-len(shown)].id
        head += f"; older ones: {inspect(workflow_id, detail='log', cursor=str(oldest))}"
    return f"{head}\n{fenced(chr(10).join(shown))}" if shown else f"{head}\n{_NOTHING}"


def log_line(found: LogLine) -> str:
    """A line of a log: when, in which step, and from which stream."""
    where = f"step {found.step}" if found.step is not None else "workflow"
    return fitting.shown(
        f"{found.at.astimezone(UTC):%H:%M:%S} {where} {found.stream}: {found.text}"
    )


def size(cut: Preview) -> str:
    """The length of a payload that was cut.

    If it is far longer than the cut, it is in bytes: to count characters it would have to be read.
    """
    unit = "byte" if cut.length > 4 * max(len(cut.text), _LEAST) else "character"
    return wording.counted(cut.length, unit)


def _message(workflow_id: str, number: int, message: Message) -> str:
    reader = message.consumed_by_step
    read = f"received by step {reader}" if reader is not None else "not received yet"
    if message.of_nobody and reader is not None:
        read = f"skipped by step {reader}: not given by a person"
    text = line(message.message.said, limits.PAYLOAD)
    whole = f": {inspect(workflow_id, step=reader)}" if reader is not None else ""
    more = f" ({size(message.message)}{whole})" if message.message.cut else ""
    topic = line(message.topic, limits.NAME)
    return f"{number}. topic {topic!r}, sent {wording.time(message.sent_at)}, {read}: {text}{more}"


def _prompts(run: Run) -> Preview | None:
    """The complete questions of the run."""
    asked = [f"Topic {one.topic!r}: {one.prompt}" for one in run.waiting if one.prompt]
    text = "\n\n".join(asked)
    return Preview(text=text, length=len(text)) if asked else None


def _events(run: Run) -> Preview | None:
    text = "\n\n".join(f"{one.key}: {one.value.text}" for one in run.events)
    left_out = sum(one.value.length - len(one.value.text) for one in run.events)
    return Preview(text=text, length=len(text) + left_out) if text else None


def _answers(run: Run) -> Preview | None:
    """The answers of people, and all that was shown to them."""
    text = "\n\n".join(
        f"Step {one.step}, answered by {one.who}: {one.answer.text}\nShown:\n{one.shown}"
        for one in run.answers
    )
    left_out = sum(one.answer.length - len(one.answer.text) for one in run.answers)
    return Preview(text=text, length=len(text) + left_out) if text else None


def attempt_line(attempt: Attempt) -> str:
    """What became of an attempt."""
    which = f"step {attempt.step} {line(attempt.name, limits.NAME)}: attempt {attempt.attempt} of {attempt.max_attempts}"
    if attempt.failed_at is None:
        return f"{which} {_BECAME[attempt.outcome]}, began {wording.time(attempt.began_at)}"
    return wording.joined(
        f"{which} failed at {wording.time(attempt.failed_at)}: {attempt.error}",
        f"the next one at {wording.time(attempt.next_at)}" if attempt.next_at else None,
    )


def _attempts(run: Run) -> Preview | None:
    """The attempts of steps that did not succeed at once, the newest first."""
    text = "\n".join(map(attempt_line, run.attempts))
    return Preview(text=text, length=len(text)) if text else None


def _in_depth_first_order(root: str, children: Sequence[Child]) -> list[tuple[int, Child]]:
    by_parent: dict[str, list[Child]] = {}
    for child in reversed(children):
        by_parent.setdefault(child.parent_workflow_id, []).append(child)
    ordered: list[tuple[int, Child]] = []
    stack = [(0, child) for child in by_parent.get(root, [])]
    while stack:
        depth, child = stack.pop()
        ordered.append((depth, child))
        stack += [(depth + 1, one) for one in by_parent.get(child.workflow_id, [])]
    return ordered


# Pages


def list_page(head: str, blocks: Sequence[str], next_page: NextPage, *, end: str = "") -> str:
    """As many blocks as fit, at least one, and the call that brings the next blocks, or `end`."""
    room = limits.ANSWER - len(head) - len(f"Next: {next_page(len(blocks))}") - 2 if blocks else 0
    shown: list[str] = []
    for block in blocks:
        room -= len(block) + 1
        if room < 0 and shown:
            break
        shown.append(clamp(block, room + len(block)))
    tail = f"Next: {next_page(len(shown))}" if len(shown) < len(blocks) else end
    return "\n".join([head, *shown, *([tail] if tail else [])])


def _next_page(workflow_id: str, detail: str, offset: int = 0) -> NextPage:
    return lambda end: inspect(workflow_id, detail=detail, cursor=str(offset + end))


def _payload_page(
    head: str,
    title: str,
    part: Preview | None,
    offset: int,
    next_page: NextPage,
    language: str = "",
) -> str:
    """The part of a payload that begins at `offset`, and the call that brings the next part."""
    if part is None:
        return f"{head}\n{title}: nothing was recorded."
    if not part.text:
        return f"{head}\n{title}: it has {wording.counted(part.length, 'character')}, none from {offset} on."
    if offset == 0 and not part.cut:
        whole = fitting.shown(_readable(part.text))
        readable = f"{head}\n\n{title}:\n{fenced(whole, language)}"
        if len(readable) <= limits.ANSWER:
            return readable
    said = len(head) + len(title) + len(next_page(part.length)) + 120 + 2 * LONGEST_FENCE
    text = part.text[: max(1, limits.ANSWER - said)]
    end = offset + len(text)
    rest = f"Next part: {next_page(end)}" if end < part.length else "This is the end."
    span = f"{title}, characters {offset:,} to {end:,} of {part.length:,}:"
    return f"{head}\n\n{span}\n{fenced(text, language)}\n{rest}"


def _readable(text: str) -> str:
    """JSON in a readable form: a text as text, a recorded error with the lines of its traceback."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "traceback" in value and "message" in value:
        fields = cast("dict[str, object]", value)
        extra = {key: fields[key] for key in ("code", "data") if fields.get(key) is not None}
        more = f"\n{wording.as_json(extra)}" if extra else ""
        return f"{fields.get('name')}: {fields['message']}{more}\n\n{fields['traceback']}".rstrip()
    return text

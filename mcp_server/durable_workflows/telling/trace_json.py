"""A run as JSON for programs: always complete JSON, of bounded length, with the missing parts listed in one field."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from durable_workflows.actions import inspect
from durable_workflows.models import MOST_ATTEMPTS, MOST_EFFECTS, MOST_EVENTS, Message, Model, Run
from durable_workflows.telling.plain import plain

LONGEST = 3_000_000  # characters, which no model reads
_READ = 1000  # the most children, messages and first steps that are read
_LONGEST_ID = 256
_IDS = ("workflow_id", "forked_from", "taken_from")
# How many items of each list, and how many characters of each text: the first pair that is short enough. The last pair always is.
_SIZES = ((1100, 20_000), (1100, 2000), (1100, 600), (400, 200), (50, 50))

Json = dict[str, Any]


class LeftOut(Model):
    """A missing part of a trace: its `count`, if known, its `steps`, if known, and the first call that brings it."""

    what: str
    count: int | None = None
    steps: str | None = None
    get: str


def text(run: Run, messages: Sequence[Message], log_lines: int) -> str:
    """The trace. `log_lines` is the number of lines in the run's log, which is never part of the trace."""
    whole = _dumped(run, messages)
    found = ""
    for most, width in _SIZES:
        shown = {name: _cut(value, most, width, name) for name, value in whole.items()}
        left_out = [*_of_payloads(shown), *_of_lists(run, whole, shown), *_of_texts(whole, shown)]
        if log_lines:
            call = inspect(run.workflow_id, detail="log")
            left_out.append(LeftOut(what="log", count=log_lines, get=call))
        entries = [one.model_dump(exclude_none=True) for one in left_out]
        found = json.dumps({"left_out": entries, **shown}, ensure_ascii=False)
        if len(found) <= LONGEST:
            break
    return found


def _dumped(run: Run, messages: Sequence[Message]) -> Json:
    """All of it as JSON that every client can read."""
    parts = {**dict(run), "messages": list(messages)}
    return {name: plain(value) for name, value in parts.items()}


def _cut(value: object, most: int, width: int, name: str) -> object:
    """A value with that many items of each list, the first and the last ones, and that many characters of each text."""
    match value:
        case str():
            return value[: max(width, _LONGEST_ID) if name.endswith(_IDS) else width]
        case list():
            items = cast("list[object]", value)
            if len(items) > most:
                items = items[: _head(most)] + items[-(most - _head(most)) :]
            return [_cut(one, most, width, name) for one in items]
        case dict():
            fields = cast("Json", value)
            return {key: _cut(one, most, width, key) for key, one in fields.items()}
        case _:
            return value


def _head(most: int) -> int:
    return most - most // 4


def _of_payloads(shown: Json) -> Iterator[LeftOut]:
    """The missing parts of values that are cut."""
    run = str(shown["workflow_id"])
    for name in ("input", "output", "error"):
        if _is_cut(shown[name]):
            cursor = f"{name}:{len(shown[name]['text'])}"
            yield LeftOut(what=name, count=1, get=inspect(run, step=0, cursor=cursor))
    for name in ("output", "error"):
        numbers = [one["step"] for one in shown["steps"] if _is_cut(one[name])]
        if numbers:
            yield LeftOut(
                what=f"steps' {name}s",
                count=len(numbers),
                steps=_ranges(numbers),
                get=inspect(run, step=numbers[0]),
            )
    if cut := [one for one in shown["messages"] if _is_cut(one["message"])]:
        yield _of_messages(run, cut)
    for name, part in (("events", "value"), ("answers", "answer")):
        count = sum(_is_cut(one[part]) for one in shown[name])
        if count:
            call = inspect(run, step=0, cursor=f"{name}:0")
            yield LeftOut(what=f"{name}' {part}s", count=count, get=call)


def _of_messages(run: str, cut: Sequence[Json]) -> LeftOut:
    readers = [number for one in cut if (number := one["consumed_by_step"]) is not None]
    call = inspect(run, step=readers[0]) if readers else inspect(run, detail="messages")
    steps = _ranges(sorted(readers)) if readers else None
    return LeftOut(what="messages' texts", count=len(cut), steps=steps, get=call)


def _of_lists(run: Run, whole: Json, shown: Json) -> Iterator[LeftOut]:
    """The missing items of lists. If the maximum was read, there may be more."""
    steps = shown["steps"]
    if missing := run.total_steps - len(steps):
        head = min(_READ, len(steps), _head(len(steps)) if len(steps) < len(run.steps) else _READ)
        last = steps[head - 1]["step"] if head else 0
        call = inspect(run.workflow_id, detail="full", cursor=str(last))
        yield LeftOut(what="steps", count=missing, get=call)
    calls = {
        "children": (_READ, inspect(run.workflow_id, detail="tree")),
        "messages": (_READ, inspect(run.workflow_id, detail="messages")),
        "events": (MOST_EVENTS, inspect(run.workflow_id, step=0, cursor="events:0")),
        "answers": (None, inspect(run.workflow_id, step=0, cursor="answers:0")),
        "effects": (MOST_EFFECTS, inspect(run.workflow_id)),
        "attempts": (MOST_ATTEMPTS, inspect(run.workflow_id, step=0, cursor="attempts:0")),
        "waiting": (None, inspect(run.workflow_id)),
        "running": (None, inspect(run.workflow_id)),
        "forks": (None, inspect(run.workflow_id)),
    }
    for name, (read, call) in calls.items():
        more = len(whole[name]) == read
        if missing := len(whole[name]) - len(shown[name]):
            yield LeftOut(what=name, count=None if more else missing, get=call)
        elif more:
            yield LeftOut(what=f"{name} beyond {read:,}, if there are more", get=call)


def _of_texts(whole: Json, shown: Json) -> Iterator[LeftOut]:
    """The missing parts of names, questions and other texts."""
    run = str(shown["workflow_id"])
    calls = {
        "waiting": {"cursor": "prompt:0"},
        "answers": {"cursor": "answers:0"},
        "attempts": {"cursor": "attempts:0"},
    }
    for name, value in shown.items():
        if count := _shorter(whole[name], value):
            more = {"step": 0, **calls[name]} if name in calls else {}
            yield LeftOut(what=f"texts in {name}", count=count, get=inspect(run, **more))


def _shorter(whole: Any, shown: Any) -> int:
    """The number of cut texts that are not payloads: payloads give their own length."""
    if isinstance(whole, str):
        return len(whole) > len(shown)
    if isinstance(whole, dict):
        parts = cast("Json", whole)
        if parts.keys() == {"text", "length"}:
            return 0
        return sum(_shorter(part, shown[name]) for name, part in parts.items())
    if isinstance(whole, list):
        head = _head(len(shown)) if len(shown) < len(cast("list[Any]", whole)) else len(shown)
        items = cast("list[Any]", whole)
        kept = items[:head] + items[len(items) - (len(shown) - head) :]
        return sum(map(_shorter, kept, shown))
    return 0


def _is_cut(preview: Json | None) -> bool:
    return preview is not None and len(preview["text"]) < preview["length"]


def _ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7` for ascending numbers."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in found)

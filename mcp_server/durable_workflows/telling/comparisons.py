"""Two runs side by side as Markdown: what they share, the first difference, and the steps that differ, in pages."""

from collections.abc import Iterator
from datetime import timedelta

from durable_workflows import fitting, limits
from durable_workflows.actions import NUMBER, call, inspect
from durable_workflows.models import (
    MOST_COMPARED,
    UNFINISHED,
    Change,
    Compared,
    ComparedRun,
    ComparedStep,
    ComparedValue,
    Preview,
    Step,
)
from durable_workflows.telling.causes import failure
from durable_workflows.telling.pages import list_page, size
from durable_workflows.wording import (
    clamp,
    counted,
    joined,
    line,
    some,
    span,
    time,
    took,
)

_VALUE = 120  # characters of a differing value
_PATH = 80
_CHANGES = 8  # places in an input or output that are listed
_SHIFT = timedelta(milliseconds=100)  # steps whose duration has changed by less are not listed
_RATIO = 1.5  # nor steps with a smaller factor
_HOW = {"missing": "", "output": "another output", "error": "another error"}


def markdown(found: Compared, *, offset: int = 0) -> str:
    """The differences of two runs, without the first `offset` steps that differ."""
    different = [one for one in found.steps if one.differs]
    head = "\n".join(_head(found, different) if offset == 0 else ["# Two runs compared, continued"])
    head = clamp(head, limits.ANSWER * 2 // 3)
    if different:
        head += f"\n\nSteps that differ ({len(different):,}; one in full: {_whole(found)}):"
    blocks = [_step(one) for one in different[offset:]]
    end = "All steps that differ are shown." if offset else ""
    return list_page(head, blocks, lambda shown: _again(found, offset + shown), end=end)


def _again(found: Compared, offset: int) -> str:
    return call(
        "compare",
        workflow_id=found.a.workflow_id,
        other=found.b.workflow_id,
        cursor=str(offset),
    )


def _whole(found: Compared) -> str:
    return inspect(found.a.workflow_id, step=NUMBER)


def _head(found: Compared, different: list[ComparedStep]) -> list[str]:
    return [
        "# Two runs compared",
        f"a: {_run(found.a)}",
        f"b: {_run(found.b)}",
        *_fork(found),
        f"**First difference:** {_first(found)}",
        _counts(found, different),
        *_slower(found),
        *_value_lines(found, "input", found.input),
        *_value_lines(found, "output", found.output),
        *_error(found),
    ]


def _run(run: ComparedRun) -> str:
    span_ = span(run.completed_at - run.created_at) if run.completed_at else None
    return joined(
        f"{fitting.shown_line(run.workflow_id)}: {line(run.name, limits.NAME)} {run.status}",
        f"started {time(run.created_at)}",
        f"took {span_}" if span_ else "has not ended" if run.status in UNFINISHED else None,
        f"version {run.version}" if run.version else None,
        counted(run.total_steps, "step"),
    )


def _fork(found: Compared) -> Iterator[str]:
    if (taken := found.taken_over) is not None:
        other = "b" if taken.fork == "a" else "a"
        at = f" at step {taken.from_step}" if taken.from_step else ""
        yield f"{taken.fork} is a fork of {other}{at}: it took over {counted(taken.steps, 'step')}"


def _first(found: Compared) -> str:
    for name in ("name", "input", "version"):
        if name in found.differs:
            return f"the {name}{_also(found)}"
    if found.first_difference is not None:
        return _where(found)
    if found.differs:
        return f"the {found.differs[-1]}"
    return "none: they did the same, with the same results"


def _also(found: Compared) -> str:
    return f"; among the steps {_where(found)}" if found.first_difference is not None else ""


def _where(found: Compared) -> str:
    assert found.first_difference is not None
    one = found.steps[found.first_difference]
    return f"{_place(one)} {_named(one)}: {_how(one, found)}"


def _how(one: ComparedStep, found: Compared) -> str:
    if "missing" not in one.differs:
        return " and ".join(_HOW[how] for how in one.differs)
    there, run = ("a", found.b) if one.b is None else ("b", found.a)
    other = "b" if there == "a" else "a"
    yet = f", and {other} has not ended" if run.status in UNFINISHED else ""
    return f"only in {there}{yet}"


def _value_lines(found: Compared, which: str, value: ComparedValue) -> Iterator[str]:
    if value.same:
        if value.a is not None:
            yield f"{which.capitalize()}: the same"
        return
    sides = [f"a: {_text(value.a)}", f"b: {_text(value.b)}"]
    lines = [_change(one) for one in value.changes[:_CHANGES]] or sides
    is_whole = len(value.changes) <= _CHANGES and not any("…" in one for one in lines)
    run = found.a.workflow_id if value.a else found.b.workflow_id
    whole = "" if is_whole else f" ({inspect(run, step=0, cursor=f'{which}:0')})"
    yield f"{which.capitalize()}, where it differs{whole}:"
    yield from (f"- {one}" for one in lines)


def _error(found: Compared) -> Iterator[str]:
    if found.error.same and found.error.a is None:
        return
    a, b = failure(found.error.a), failure(found.error.b)
    if found.error.same:
        yield f"Error of both: {line(a.line if a else '', limits.EVENT)}"
        return
    yield "Error:"
    for name, one in (("a", a), ("b", b)):
        yield f"- {name}: {line(one.line, limits.EVENT) if one else 'none'}"


def _counts(found: Compared, different: list[ComparedStep]) -> str:
    only_a = sum(one.b is None for one in different)
    only_b = sum(one.a is None for one in different)
    changed = len(different) - only_a - only_b
    left = f"; {counted(found.left_out, 'step')} above number {MOST_COMPARED:,} not compared"
    return (
        f"Steps: {len(found.steps) - len(different):,} the same, {changed:,} with another result, "
        f"{only_a:,} only in a, {only_b:,} only in b{left if found.left_out else ''}"
    )


def _slower(found: Compared) -> Iterator[str]:
    """The steps with the largest changes of duration."""
    shifts = [(shift, one) for one in found.steps if (shift := _shift(one)) is not None]
    shifts.sort(key=lambda shifted: shifted[0], reverse=True)
    if shifts:
        shown = some(f"{_place(one)} {_named(one)} {_durations(one)}" for _, one in shifts)
        yield f"Other durations: {shown}"


def _shift(one: ComparedStep) -> timedelta | None:
    """The change of a step's duration, if it is worth mentioning."""
    a, b = (_length(side) for side in (one.a, one.b))
    if a is None or b is None or abs(a - b) < _SHIFT or max(a, b) < _RATIO * min(a, b):
        return None
    return abs(a - b)


def _length(step: Step | None) -> timedelta | None:
    if step is None or step.started_at is None or step.completed_at is None:
        return None
    return step.completed_at - step.started_at


# Steps


def _place(one: ComparedStep) -> str:
    """The number of a step in both runs."""
    numbers = [side.step for side in (one.a, one.b) if side is not None]
    return f"step {' and '.join(map(str, dict.fromkeys(numbers)))}"


def _named(one: ComparedStep) -> str:
    again = f" #{one.occurrence}" if one.occurrence > 1 else ""
    return f"{line(one.name, limits.NAME)}{again}"


def _step(one: ComparedStep) -> str:
    """A step that differs, and its differences."""
    alone = one.a if one.b is None else one.b if one.a is None else None
    if alone is not None:
        only = f"only in {'a' if one.b is None else 'b'}"
        return joined(f"- {_place(one)} {_named(one)}", only, took(alone), _result(alone))
    said = joined(f"- {_place(one)} {_named(one)}", _durations(one))
    if one.changes:
        return "\n".join([said, *(f"  - {_change(change)}" for change in one.changes)])
    return "\n".join([said, f"  - a: {_result(one.a)}", f"  - b: {_result(one.b)}"])


def _durations(one: ComparedStep) -> str | None:
    a, b = (took(side) if side else None for side in (one.a, one.b))
    return f"{a} → {b}" if a and b and a != b else a or b


def _result(step: Step | None) -> str:
    if step is None:
        return "nothing"
    error = failure(step.error)
    return f"FAILED {line(error.line, limits.EVENT)}" if error else _text(step.output)


def _change(change: Change) -> str:
    where = line(change.path, _PATH) or "the whole"
    return f"{where}: {_text(change.a)} → {_text(change.b)}"


def _text(value: Preview | None) -> str:
    if value is None:
        return "nothing"
    cut = value.cut or len(value.text) > _VALUE
    return line(value.said, _VALUE) + (f" ({size(value)})" if cut else "")

"""Two runs side by side: their steps, aligned by name and occurrence, and the differences."""

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from durable_workflows.database.tables import Fetch, Row
from durable_workflows.engine import records
from durable_workflows.models import (
    MOST_COMPARED,
    MOST_VALUES,
    Compared,
    ComparedRun,
    ComparedStep,
    ComparedValue,
    Step,
    TakenOver,
)
from durable_workflows.telling import differences
from durable_workflows.telling.causes import SLEEP

_RUN_PREVIEW = 6000  # characters of the input, output and error of a run
_MOST_CHANGES = 20  # places in one of them
_STEP_CHANGES = 5

_Values = Mapping[int, Step]


async def read(
    fetch: Fetch, workflow_ids: tuple[str, str], *, preview: int, after: int
) -> Compared | str:
    """Two runs, or the id of a run that does not exist. `fetch` runs a named statement, all in one snapshot.

    Outputs and errors are read for the first `MOST_VALUES` steps that differ after the first `after` of these, cut to `preview` characters.
    """
    runs: list[dict[str, Any]] = []
    for workflow_id in workflow_ids:
        rows = await fetch("run_details", workflow_id=workflow_id, limit=_RUN_PREVIEW)
        if not rows:
            return workflow_id
        runs.append(records.own_fields(rows[0]))
    a, b = workflow_ids
    [same] = await fetch("same_values", a=a, b=b)
    rows = await fetch("compared_steps", a=a, b=b, most=MOST_COMPARED)
    fork = _fork(*runs)
    steps = [_step(row, related=fork is not None) for row in _in_order(rows)]
    wanted = [place for place, one in enumerate(steps) if one.differs][after : after + MOST_VALUES]
    read_values = functools.partial(fetch, "step_values", limit=preview)
    ours = await _values(read_values, a, [steps[place].a for place in wanted])
    theirs = await _values(read_values, b, [steps[place].b for place in wanted])
    for place in wanted:
        steps[place] = _with_values(steps[place], ours, theirs)
    return _compared(runs, same, steps, fork)


def _compared(
    runs: Sequence[dict[str, Any]],
    same: Row,
    steps: Sequence[ComparedStep],
    fork: Literal["a", "b"] | None,
) -> Compared:
    a, b = (ComparedRun.model_validate(one) for one in runs)
    values = {name: _value(runs, name, same=same[name]) for name in ("input", "output", "error")}
    first = next((place for place, one in enumerate(steps) if one.differs), None)
    facts = {name: getattr(a, name) == getattr(b, name) for name in ("name", "version", "status")}
    facts |= {name: value.same for name, value in values.items()}
    compared = sum((one.a is not None) + (one.b is not None) for one in steps)
    return Compared.model_validate(
        {
            "a": a,
            "b": b,
            "differs": [
                *(name for name, is_same in facts.items() if not is_same),
                *(["steps"] if first is not None else []),
            ],
            **values,
            "taken_over": _taken_over(fork, a if fork == "a" else b, steps) if fork else None,
            "steps": steps,
            "first_difference": first,
            "left_out": a.total_steps + b.total_steps - compared,
        }
    )


def _value(runs: Sequence[dict[str, Any]], name: str, *, same: bool) -> ComparedValue:
    a, b = (one[name] for one in runs)
    is_input = name == "input"
    found = [] if same else differences.changes(a, b, most=_MOST_CHANGES, given=is_input)
    return ComparedValue(a=a, b=b, same=same, changes=found if name != "error" else [])


def _fork(a: Mapping[str, Any], b: Mapping[str, Any]) -> Literal["a", "b"] | None:
    """Which of two runs is a fork of the other."""
    if a["forked_from"] == b["workflow_id"]:
        return "a"
    return "b" if b["forked_from"] == a["workflow_id"] else None


def _taken_over(
    fork: Literal["a", "b"], run: ComparedRun, steps: Iterable[ComparedStep]
) -> TakenOver:
    return TakenOver(fork=fork, from_step=run.forked_at, steps=sum(one.taken_over for one in steps))


def _in_order(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of `compared_steps` in the order in which the runs did the steps.

    Steps that only `b` has come before the next common step of `b`.
    """
    found = list(rows)
    alone = deque(row for row in found if row["a_step"] is None)
    for row in found:
        if row["a_step"] is None:
            continue
        while row["b_step"] is not None and alone and alone[0]["b_step"] < row["b_step"]:
            yield alone.popleft()
        yield row
    yield from alone


def _step(row: Row, *, related: bool) -> ComparedStep:
    """A row of `compared_steps`. DBOS's record of a sleep is its end."""
    a, b = _side(row, "a"), _side(row, "b")
    differs = list[str]()
    if a is None or b is None:
        differs.append("missing")
    else:
        is_sleep = row["name"] == SLEEP
        differs += ["output"] if not (row["same_output"] or is_sleep) else []
        differs += ["error"] if not row["same_error"] else []
    return ComparedStep.model_validate(
        {
            "name": row["name"],
            "occurrence": row["occurrence"],
            "a": a,
            "b": b,
            "differs": differs,
            "taken_over": related and a is not None and a == b,
        }
    )


def _side(row: Row, side: str) -> Step | None:
    """The step of one run, without its output and error."""
    if row[f"{side}_step"] is None:
        return None
    return Step(
        step=row[f"{side}_step"],
        name=row["name"],
        started_at=records.moment_or_none(row[f"{side}_started_at"]),
        completed_at=records.moment_or_none(row[f"{side}_completed_at"]),
        child_workflow_id=row[f"{side}_child"],
    )


async def _values(read_values: Fetch, workflow_id: str, steps: Iterable[Step | None]) -> _Values:
    """The steps of a run with their outputs and errors, by number."""
    numbers = [one.step for one in steps if one is not None]
    rows = await read_values(workflow_id=workflow_id, steps=numbers) if numbers else []
    return {row["step"]: records.step(row) for row in rows}


def _with_values(step: ComparedStep, ours: _Values, theirs: _Values) -> ComparedStep:
    a = step.a and ours.get(step.a.step, step.a)
    b = step.b and theirs.get(step.b.step, step.b)
    found = differences.changes(a and a.output, b and b.output, most=_STEP_CHANGES)
    return step.model_copy(update={"a": a, "b": b, "changes": found})

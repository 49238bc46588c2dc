"""Rehearsals in words."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from durable_workflows import wording
from durable_workflows.models import Rehearsal

_STAY = "Unfinished runs stay on their version; new runs and forks use this code."


def line(found: Rehearsal) -> str:
    """What was found of one run, as a line."""
    return f"{found.workflow_id} ({found.name}): {_said(found)}"


def of_edit(found: Sequence[Rehearsal]) -> list[str]:
    """What the last runs of each workflow in a file would do after an edit of it."""
    by_name = groupby(sorted(found, key=lambda one: one.name), key=lambda one: one.name)
    lines = [text for name, runs in by_name for text in _of_workflow(name, list(runs))]
    return [*lines, _STAY] if any(one.verdict == "differs" for one in found) else lines


def _of_workflow(name: str, runs: Sequence[Rehearsal]) -> Iterator[str]:
    others = [one for one in runs if one.verdict != "safe"]
    if not others:
        last = "The last run" if len(runs) == 1 else f"The last {len(runs)} runs"
        yield f"{last} of {name} {'replays' if len(runs) == 1 else 'replay'} on this code."
    yield from map(line, others)


def _said(found: Rehearsal) -> str:
    note = f" {found.note}" if found.note else ""
    if found.verdict == "safe":
        return f"safe: {wording.counted(found.steps, 'recorded step')} replayed.{note}"
    if found.verdict == "unknown":
        return f"unknown.{note}"
    recorded = f"recorded is {found.recorded}, " if found.recorded else ""
    return f"differs at step {found.step}: {recorded}the code calls {found.called}.{note}"

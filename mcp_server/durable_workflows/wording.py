"""The wording of a trace: texts on one line and of bounded length, numbers, and times."""

import difflib
import json
import re
import signal
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import cast

from durable_workflows import fitting, limits, tags
from durable_workflows.models import Moved, Run, Running, Step, Suspect

SHOWN = 6  # of several things of one kind: waits, running steps, children, forks
LONGEST_FENCE = 12
NO_PLACE = (
    "other older versions use all the workers that --old-workers allows"  # why a run has no worker
)
# Parts of paths; the second part is in recorded errors of 0.1.0.
_FOREIGN = ("-packages/dbos/", "/durable_workflows/dbos_internals.py", "/durable_workflows/seam/")
# The folder in which a worker keeps the files of a version.
_SNAPSHOT = re.compile(r'"[^"\n]*/\.dbos/code/[^/"\n]+/')


def line(text: str, width: int) -> str:
    """One line of at most `width` characters; text far beyond it is not even looked at."""
    flat = fitting.shown(" ".join(text[: width * 4].split()))
    if len(flat) <= width and len(text) <= width * 4:
        return flat
    return flat[: max(0, width - 1)] + "…"


def first_line(text: str | None) -> str:
    """The first line of a docstring; empty if there is none."""
    return (text or "").strip().split("\n", 1)[0]


def short(text: str, width: int) -> str:
    """A text of at most `width` characters, with its lines unchanged."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def clamp(text: str, budget: int) -> str:
    """The last check of a budget."""
    note = "\n… (cut)"
    return text if len(text) <= budget else text[: max(0, budget - len(note))] + note


def joined(*parts: str | None) -> str:
    """The facts that are not empty, in one line."""
    return " · ".join(part for part in parts if part)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, in the singular for one: `1 run`, `1,000 runs`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def megabytes(number: int) -> str:
    """A number of bytes: `9.4 MB`."""
    return f"{number / 1_000_000:.1f} MB"


def times(number: int) -> str:
    """How often: `once`, `2 times`."""
    return "once" if number == 1 else f"{number:,} times"


def some(words: Iterable[str]) -> str:
    """The first of several words, and the number of the rest."""
    found = list(words)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def fenced(text: str, language: str = "") -> str:
    """A code block; its fence is longer than any fence in the text, within reason."""
    longest = max((len(found) for found in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * min(longest + 1, LONGEST_FENCE)
    return f"{fence}{language}\n{text}\n{fence}"


def traceback_of_project(text: str) -> str:
    """A traceback without the surrounding frames of dbos and of ours; files have their names in the project."""
    kept: list[str] = []
    foreign = False
    for row in text.splitlines(keepends=True):
        if row.startswith('  File "'):
            foreign = any(part in row for part in _FOREIGN)
        elif not row.startswith("    "):  # no more code of that frame
            foreign = False
        if not foreign:
            kept.append(row)
    return _SNAPSHOT.sub('"', "".join(kept))


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """` Did you mean …?` with at most three known words that are like the given one; empty if there are none."""
    found = difflib.get_close_matches(word, list(known), n=3, cutoff=cutoff)
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def as_json(value: object) -> str:
    """A value as the JSON that a model would write."""
    return json.dumps(value, ensure_ascii=False)


def move(moved: Moved) -> str:
    """What a move means for a run, without its note."""
    if moved.verdict != "differs":
        return moved.verdict
    recorded = line(moved.recorded or "nothing", limits.NAME)
    called = line(moved.called or "nothing", limits.NAME)
    return f"differs at step {moved.step}: recorded {recorded}, the code calls {called}"


def how_it_goes(running: Running) -> str:
    """A run's current activity, the number of its ended child runs, and its own report of progress."""
    started = running.children + running.children_done
    return joined(
        line(running.step, limits.STEP) if running.step else None,
        f"{running.children_done:,} of {counted(started, 'run')} ended" if started else None,
        f"progress {running.progress}" if running.progress else None,
    )


def not_ok(output: object) -> str | None:
    """The failed parts of an output whose `ok` is false, as those of run_commands, fan_out and plan have it.

    "" if it does not name them; None for any other output.
    """
    fields = cast("dict[str, object]", output) if isinstance(output, dict) else {}
    if fields.get("ok") is not False:
        return None
    return as_json(fields["failed"]) if fields.get("failed") else ""


def recorded_not_ok(output: str | None) -> str | None:
    """As `not_ok`, for an output as it is recorded, or for its start."""
    if not output:
        return None
    try:
        return not_ok(_plain(output))
    except (ValueError, RecursionError):
        return None


def _plain(recorded: str) -> object:
    value = fitting.part_of_json(recorded, with_cut=False)
    return tags.plain(value) if tags.is_tagged(recorded) else value


def suspicion(suspect: Suspect) -> str:
    """The facts about a run that may end its worker, as the end of a sentence that begins with the run."""
    place = "a worker of its own"
    if suspect.others:
        other = "another run" if suspect.others == 1 else counted(suspect.others, "other run")
        place = f"a worker with {other}, to find out which one ends it"
    runs = f"; it runs in {place}" if suspect.apart else ""
    return f"{ended_worker(suspect)}{runs}"


def ended_worker(suspect: Suspect) -> str:
    """How often a run ended its worker, how, and where in its code."""
    known = "ended its worker" if suspect.alone else "was running when its worker ended"
    return f"{known} {times(suspect.ends)} ({how_ended(suspect.status)}), {_where(suspect)}"


def _where(suspect: Suspect) -> str:
    after = f"after step {suspect.after_step}" if suspect.after_step else "at its beginning"
    return (
        after if suspect.step is None else f"in the step {line(suspect.step, limits.NAME)}, {after}"
    )


def how_ended(status: int) -> str:
    """How a process ended, by its exit status or, negative, its signal."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a signal without a name
        return f"killed by signal {-status}"


def wake_up(recorded: str) -> datetime | None:
    """The end of a sleep: DBOS records it when the sleep begins, in seconds since 1970."""
    try:
        return datetime.fromtimestamp(float(recorded), UTC)
    except (ValueError, OverflowError):
        return None


def time(moment: datetime) -> str:
    """A moment to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(length: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def title_of(run: Run) -> str:
    """The heading of a run's report."""
    return f"# {fitting.shown_line(run.workflow_id)}: {line(run.name, limits.NAME)} {run.status}"


def took(step: Step) -> str | None:
    """The duration of a step, if it is recorded."""
    if step.started_at is None or step.completed_at is None:
        return None
    return span(step.completed_at - step.started_at)

"""The overview of a project: its runs by status, the newest runs, waits, queues, workers, and the newest log lines."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from durable_workflows import fitting, wording
from durable_workflows.cli import columns
from durable_workflows.models import (
    Overview,
    QueueInfo,
    RunLine,
    WaitingRun,
    WorkerInfo,
)

_TEXT = 200  # characters of a prompt, an error or a log line, if there is room


class Line(NamedTuple):
    """A line of the overview."""

    text: str
    heading: bool = False


def overview_lines(
    overview: Overview,
    said: Sequence[RunLine] = (),
    *,
    width: int | None,
    height: int | None = None,
) -> list[Line]:
    """The overview in lines, cut to `width` if there is one; with a `height`, the newest log lines fill the rest of it."""
    now = datetime.now(UTC)
    counts = ", ".join(f"{number} {status}" for status, number in overview.counts.items())
    lines = [Line("RUNS", True), Line(columns.cut(counts or "none yet", width or _TEXT))]
    lines += _table(_run_rows(overview, now), _RUN_SHRINKING, width)
    lines += _table(_waiting_rows(overview.waiting, now), _WAITING_SHRINKING, width)
    lines += _table(_queue_rows(overview.queues), _QUEUE_SHRINKING, width)
    lines += _table(_worker_rows(overview.workers, now), _WORKER_SHRINKING, width)
    if said:
        lines += [Line(""), Line("LOG", True)]
        room = max(3, height - len(lines)) if height else len(said)
        texts = [
            f"{fitting.shown_line(one.workflow_id)}  {wording.line(one.line.text, _TEXT)}"
            for one in _fair(said, room)
        ]
        lines += [Line(columns.cut(text, width or len(text))) for text in texts]
    return lines


def _fair(said: Sequence[RunLine], room: int) -> list[RunLine]:
    """That many of the newest lines, shared fairly: the last line of each run, then the last but one of each."""
    later: Counter[str] = Counter()  # the number of newer lines of each run
    turns: list[tuple[int, int]] = []
    for place, one in reversed([*enumerate(said)]):
        turns.append((later[one.workflow_id], -place))
        later[one.workflow_id] += 1
    return [said[place] for place in sorted(-place for _, place in sorted(turns)[:room])]


def age(moment: datetime, now: datetime) -> str:
    """The time since then, in its largest unit."""
    seconds = (now - moment).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


_RUN_SHRINKING = ((4, 12), (1, 10), (2, 9), (4, 0), (1, 4), (0, 12))
_WAITING_SHRINKING = ((4, 8), (1, 10), (0, 36), (4, 0), (1, 4), (0, 12))
_QUEUE_SHRINKING = ((0, 8),)
_WORKER_SHRINKING = ((3, 8), (4, 8))

Row = Sequence[str]


def _table(rows: Iterable[Row], shrinking: columns.Shrinking, width: int | None) -> Iterator[Line]:
    """A blank line, then the rows; empty for a table with only its heading."""
    found = list(rows)
    if len(found) > 1:
        yield Line("")
        for place, text in enumerate(columns.lines(found, width, shrinking)):
            yield Line(text, heading=place == 0)


def _run_rows(overview: Overview, now: datetime) -> Iterator[Row]:
    yield ("NEWEST RUNS", "NAME", "STATUS", "AGE", "NOTE")
    for run in overview.newest:
        note = overview.doing.get(run.workflow_id) or run.error or ""
        yield (
            run.workflow_id,
            run.name,
            run.status,
            age(run.created_at, now),
            wording.line(f"waits: {run.waiting_on}" if run.waiting_on is not None else note, _TEXT),
        )


def _waiting_rows(waiting: Iterable[WaitingRun], now: datetime) -> Iterator[Row]:
    yield ("WAITING", "TOPIC", "SINCE", "UNTIL", "PROMPT")
    for one in waiting:
        left = wording.span(one.deadline - now) if one.deadline else "any time"
        yield (
            one.workflow_id,
            wording.line(one.topic, _TEXT),
            age(one.since, now),
            f"in {left}" if one.deadline else left,
            wording.line(one.prompt or "", _TEXT),
        )


def _queue_rows(queues: Iterable[QueueInfo]) -> Iterator[Row]:
    yield ("QUEUE", "RUNNING", "ENQUEUED", "LIMIT")
    for one in queues:
        limits = [
            f"{one.concurrency}" if one.concurrency else "",
            f"{one.worker_concurrency} per worker" if one.worker_concurrency else "",
        ]
        limit = ", ".join(filter(None, limits)) or "none"
        yield (one.name, str(one.running), str(one.enqueued), limit)


def _worker_rows(workers: Iterable[WorkerInfo], now: datetime) -> Iterator[Row]:
    yield ("WORKER", "PROCESS", "SINCE", "STATE", "HOST")
    for one in workers:
        yield (one.version, str(one.pid), age(one.started_at, now), one.state, one.host)

"""From rows to models: the database's records of runs, in the form that the engine returns.

DBOS keeps values as JSON text beside a label of their format. Text in a format that is not JSON (Python's pickle, which
executes what it reads) is not read.
"""

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import psutil
from pydantic import JsonValue

from durable_workflows import fitting, limits, tags, wording
from durable_workflows.database.tables import Row
from durable_workflows.models import (
    READ,
    UNFINISHED,
    Answer,
    Child,
    Ended,
    Event,
    Fork,
    Message,
    OpenWait,
    Preview,
    Question,
    QueuePlace,
    RunHead,
    Running,
    RunSummary,
    Step,
    Suspect,
    Waiting,
    WaitingRun,
    WaitResult,
    WorkerInfo,
)
from durable_workflows.schemas import arguments

_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_NULL_TOPIC = "__null__topic__"


def run_summary(row: Row) -> RunSummary:
    """A row of `list_runs`."""
    unfinished = row["status"] in UNFINISHED
    return RunSummary(
        workflow_id=row["workflow_id"],
        name=row["name"],
        status=row["status"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        waiting_on=row["waiting_on"] if unfinished else None,
        asleep=_asleep(row) if row["sleeps_for"] is not None else None,
        ok=_ok(row),
        error=error_text(row["error"], row["serialization"]),
        started_by=row["started_by"],
        parent_workflow_id=row["parent_workflow_id"],
        forked_from=row["forked_from"],
        rewound_from=row["rewound_from"],
        forks=[Fork.model_validate(one) for one in _listed(row, "forks")],
    )


def child(row: Row) -> Child:
    """A row of `run_descendants`."""
    return Child(
        workflow_id=row["workflow_id"],
        name=row["name"],
        status=row["status"],
        parent_workflow_id=row["parent_workflow_id"],
        waiting_on=row["waiting_on"],
        ok=_ok(row),
    )


def wait_result(
    rows: Iterable[Row], asking: Iterable[Row], workflow_ids: Sequence[str], *, timed_out: bool
) -> WaitResult:
    """Rows of `run_states`, in the order asked for, with those of `asking_descendants`."""
    by_id = {row["workflow_id"]: row for row in rows}
    ordered = [by_id[one] for one in dict.fromkeys(workflow_ids) if one in by_id]
    unfinished = [row for row in ordered if row["status"] in UNFINISHED]
    waiting = [open_in(row, wait) for row in unfinished for wait in _listed(row, "waits")]
    own = {one.workflow_id for one in waiting}
    waiting += [
        open_in(row, row).model_copy(update={"child_of": row["child_of"]})
        for row in asking
        if row["workflow_id"] not in own
    ]
    settled = own | {one.child_of for one in waiting}
    return WaitResult(
        done=[_ended(row) for row in ordered if row["status"] not in UNFINISHED],
        waiting=waiting,
        running=[_running(row) for row in unfinished if row["workflow_id"] not in settled],
        timed_out=timed_out,
    )


def is_enough(result: WaitResult, until: str, first: WaitResult | None) -> bool:
    """Whether the awaited event has come; `first` is the earlier state of the runs, to detect a change."""
    if until == "change":
        return result != first or not (result.running or result.waiting)
    if until == "any":
        return bool(result.done or result.waiting)
    return not result.running


def progress_line(result: WaitResult) -> str:
    """The progress of the waiting, for a person."""
    parts = [f"{len(result.done)} done"]
    parts += [
        f"{fitting.shown_line(one.workflow_id)} waits for {one.topic!r}"
        for one in result.waiting[:3]
    ]
    parts += [
        f"{fitting.shown_line(one.workflow_id)}: {wording.how_it_goes(one) or one.status}"
        for one in result.running[:3]
    ]
    more = len(result.waiting[3:]) + len(result.running[3:])
    return "; ".join(parts) + (f"; {more} more" if more else "")


def own_fields(row: Row) -> dict[str, Any]:
    """The fields of a `Run` in a row of `run_details`."""
    label = row["serialization"]
    return {
        **{key: row[key] for key in _SAME},
        "unread_topics": [topic(one) for one in row["unread_topics"]],
        "created_at": moment(row["created_at"]),
        "updated_at": moment(row["updated_at"]),
        "completed_at": moment_or_none(row["completed_at"]),
        "deadline": moment_or_none(row["deadline"]),
        "delayed_until": moment_or_none(row["delayed_until"]),
        "recovery_attempts": row["recovery_attempts"] or 0,
        "input": Preview.recorded(row["input"], row["input_length"], label),
        "output": Preview.recorded(row["output"], row["output_length"], label),
        "error": Preview.recorded(row["error"], row["error_length"], label),
    }


_SAME = (
    "workflow_id",
    "name",
    "status",
    "version",
    "queue",
    "forked_from",
    "forked_at",
    "rewound_from",
    "rewound_to",
    "started_by",
    "parent_workflow_id",
    "ended_with",
    "total_steps",
    "unread_messages",
)


def queue_place(row: Row) -> QueuePlace:
    """A row of `queue_place`."""
    return QueuePlace.model_validate(row | {"next_start": moment_or_none(row["next_start"])})


def event(row: Row) -> Event:
    """A row of `run_events`."""
    found = Preview.recorded(row["value"], row["value_length"], row["serialization"])
    return Event(key=row["key"], value=found or Preview(text="", length=0))


def step(row: Row) -> Step:
    """A row of `run_steps`, or a similar row."""
    label: Mapping[str, str | None] = row["label"] or {}
    return Step(
        step=row["step"],
        name=row["name"],
        started_at=moment_or_none(row["started_at"]),
        completed_at=moment_or_none(row["completed_at"]),
        output=Preview.recorded(row["output"], row["output_length"], row["serialization"]),
        error=Preview.recorded(row["error"], row["error_length"], row["serialization"]),
        child_workflow_id=row["child_workflow_id"],
        scope=label.get("scope"),
        label=label.get("label"),
    )


def message(row: Row) -> Message:
    """A row of `run_messages`."""
    found = Preview.recorded(row["message"], row["message_length"], row["serialization"])
    assert found is not None
    return Message(
        topic=topic(row["topic"]),
        sent_at=moment(row["sent_at"]),
        consumed_by_step=row["consumed_by_step"],
        message=found,
        of_nobody=row["of_nobody"],
    )


def answer(row: Row) -> Answer:
    """A row of `run_answers`."""
    given = Preview(text=row["answer"], length=row["answer_length"])
    return Answer.model_validate(row | {"topic": topic(row["topic"]), "answer": given})


def open_wait(row: Row) -> OpenWait:
    """A row of `run_waits`."""
    return OpenWait(
        workflow_id=row["workflow_id"],
        step=row["function_id"],
        topic=topic(row["topic"]),
        prompt=row["prompt"],
        message_schema=arguments.usable(row["schema"]),
        since=row["since"],
        deadline=row["deadline"],
        person_only=row["person_only"],
    )


def question(wait: OpenWait, row: Row) -> Question:
    """An open wait with its row of `question_states`."""
    turned = row["action"] in ("decline", "cancel")
    return Question(
        wait=wait,
        attempt=row["attempts"] + 1,
        closed=f"{row['who']} said {row['action']}" if turned else None,
        refused=row["why"] if row["action"] == "unfit" else None,
    )


def run_head(row: Row) -> RunHead:
    """A row of `run_heads`."""
    times = {key: moment(row[key]) for key in ("created_at", "updated_at")}
    return RunHead.model_validate(row | times)


def waiting_run(row: Row) -> WaitingRun:
    """A row of `all_waits`."""
    return WaitingRun.model_validate(row | {"topic": topic(row["topic"])})


def topic(text: str | None) -> str:
    """A topic as it was given: DBOS has its own name for no topic."""
    return "" if text in (None, _NULL_TOPIC) else text


def recorded_topic(given: str) -> str:
    """A topic in DBOS's recorded form."""
    return given or _NULL_TOPIC


def suspect(row: Row) -> Suspect:
    """A row of `run_suspect` or `suspects_apart`."""
    return Suspect.model_validate(row | {"apart": row["executor_id"] is not None})


def worker_of(version: str | None, apart: str | None, rows: Iterable[Row]) -> WorkerInfo | None:
    """The newest common worker of a version, from rows of `workers`; or the worker with the executor id `apart`."""
    theirs = [
        row
        for row in rows
        if row["version"] == version
        and (row["executor_id"] == apart if apart else not row["apart"])
    ]
    return next(iter(workers(theirs)), None)


def workers(rows: Iterable[Row]) -> list[WorkerInfo]:
    """Rows of `workers`. A worker of this machine is alive if its process is; a worker of another machine, if it has reported recently."""
    here = socket.gethostname()
    return [
        WorkerInfo(
            version=row["version"],
            pid=row["pid"],
            host=row["host"],
            state=row["state"],
            started_at=row["started_at"],
            seen_at=row["seen_at"],
            alive=psutil.pid_exists(row["pid"]) if row["host"] == here else row["seen_lately"],
        )
        for row in rows
    ]


def value(text: str | None, length: int | None, label: str | None) -> JsonValue:
    """A recorded value. If it is too long, or in another format, a text that says so."""
    found = Preview.recorded(text, length, label)
    if found is None:
        return None
    if found.cut:
        return f"{found.text}… (cut; inspect gives the rest)"
    try:
        recorded = json.loads(found.text)
        has_types = label in (None, tags.LABEL) and tags.is_tagged(found.text)
        return fitting.answer(tags.plain(recorded) if has_types else recorded)
    except (ValueError, RecursionError):
        return found.text


def error_text(text: str | None, label: str | None) -> str | None:
    """`Name: message` of a recorded error; `text` may be a part of it."""
    if text is None:
        return None
    if label not in READ:
        return f"(not shown: recorded in the format {label})"
    try:
        recorded: object = fitting.part_of_json(text)
    except ValueError:
        return text
    if not isinstance(recorded, dict):
        return text
    recorded = cast("dict[str, object]", recorded)
    return f"{recorded.get('name', 'Error')}: {recorded.get('message', '')}"


def moment(milliseconds_: int) -> datetime:
    """DBOS keeps times as milliseconds since 1970. A time outside of the calendar becomes the first or the last one in it."""
    try:
        return datetime.fromtimestamp(milliseconds_ / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return _EARLIEST if milliseconds_ < 0 else _LATEST


def moment_or_none(milliseconds_: int | None) -> datetime | None:
    """As `moment`."""
    return None if milliseconds_ is None else moment(milliseconds_)


def milliseconds(value_: datetime | None) -> int | None:
    """The reverse."""
    return None if value_ is None else int(value_.timestamp() * 1000)


def _ended(row: Row) -> Ended:
    return Ended(
        workflow_id=row["workflow_id"],
        status=row["status"],
        output=value(row["output"], row["output_length"], row["serialization"]),
        error=_error(row),
    )


def _error(row: Row) -> str | None:
    """The error of a run, whose message may lack its end."""
    text = error_text(row["error"], row["serialization"])
    found = Preview.recorded(row["error"], row["error_length"], row["serialization"])
    cut = found is not None and found.cut and '"traceback":' not in found.text
    return f"{text}… (cut; inspect gives the rest)" if cut else text


def open_in(row: Row, wait: Mapping[str, Any]) -> Waiting:
    """A wait, of the run that the row names."""
    schema = arguments.usable(wait["schema"])
    return Waiting(
        workflow_id=row["workflow_id"],
        topic=topic(wait["topic"]),
        prompt=wait["prompt"],
        since=wait["since"],
        deadline=wait["deadline"],
        example=arguments.example(schema) if schema and arguments.has_example(schema) else None,
    )


def _running(row: Row) -> Running:
    steps = [_under_way(one) for one in _listed(row, "running")]
    now = ", ".join(steps) or _asleep(row) or _awaiting(row)
    now = now or (f"steps done: {row['steps']}" if row["steps"] else None)
    return Running(
        workflow_id=row["workflow_id"],
        status=row["status"],
        step=now,
        children=row["children"],
        children_done=row["children_done"],
        progress=_progress(row["progress"]),
    )


def _under_way(step_: Mapping[str, Any]) -> str:
    """A step that is running, or that failed and will be retried."""
    named = f"step {step_['function_id']} {step_['name']}"
    if step_["retry_at"] is None:
        return named
    tried = f"attempt {step_['attempt']} of {step_['max_attempts']} failed"
    at = wording.time(datetime.fromisoformat(step_["retry_at"]))
    said = f": {wording.line(step_['error'], limits.NAME)}" if step_["error"] else ""
    return f"{named} ({tried}, the next at {at}{said})"


def _progress(event_: Mapping[str, Any] | None) -> str | None:
    """A run's own report of its progress, in one line."""
    if event_ is None:
        return None
    found = Preview.recorded(event_["value"], event_["length"], event_["serialization"])
    return wording.line(found.said + "…" * found.cut, limits.EVENT) if found else None


def _asleep(row: Row) -> str | None:
    until = wording.wake_up(row["sleeps_until"] or "")
    if until is None or until <= datetime.now(UTC):
        return None
    what = f" for {wording.line(row['sleeps_for'], limits.NAME)}" if row["sleeps_for"] else ""
    return f"sleeps until {wording.time(until)}{what}"


def _awaiting(row: Row) -> str | None:
    number, which = row["children"], row["child"]
    if not number:
        return None
    return f"{number:,} runs that it started are under way" if number > 1 else f"its run {which}"


def _ok(row: Row) -> bool | None:
    return None if wording.recorded_not_ok(row["output_start"]) is None else False


def _listed(row: Row, key: str) -> list[dict[str, object]]:
    """The result of `jsonb_agg`: null if there was nothing."""
    return row[key] or []

"""Structured answers that keep within the budget, whatever the data: what is cut or left out is said in `note`, with the call that brings it."""

import json
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import JsonValue

from durable_workflows.models import (
    Catalog,
    CatalogEntry,
    ChangedList,
    Ended,
    Model,
    RunList,
    Running,
    ServerStatus,
    Started,
    Status,
    Waiting,
    WaitResult,
    Written,
)
from durable_workflows.wording import short

ROOM = 7500  # characters for the items of an answer; the rest of the budget is for what is said about them
_CUT = "… (cut)"
_WHOLE = "inspect(workflow_id, step=0) brings what is cut or missing."
_SHARES = (4000, 3000, 2000, 1500, 1000, 700, 500, 300, 200, 100, 50, 25)
_WIDTHS = [
    *zip(_SHARES, _SHARES, strict=True),
    *((0, width) for width in _SHARES),
    (0, 0),
]  # of outputs, of errors
_LOADING_ERROR = 800
_WARNINGS, _ERROR_END = 8, 2000  # of a written file
_WORKERS, _VERSIONS, _PROBLEMS = 12, 20, 5  # in a status


class StartedRun(Ended):
    """A run of a batch; its version is here if the runs of the batch have several."""

    version: str | None = None


class StartAnswer(Model):
    """One run that was started, or those of a batch in `workflows`; `note` says what was left out and what to do."""

    workflow_id: str | None = None
    status: Status | None = None
    version: str | None = None
    output: JsonValue = None
    error: str | None = None
    workflows: list[StartedRun] | None = None
    note: str | None = None


class WaitAnswer(WaitResult):
    """How things stand; `note` says what was left out."""

    note: str | None = None


class ChangedAnswer(ChangedList):
    """What became of each; `note` says what was left out."""

    note: str | None = None


class CatalogAnswer(Catalog):
    """The workflows that can be started; `note` says what was left out."""

    note: str | None = None


M = TypeVar("M", bound=Model)
Outcome = TypeVar("Outcome", bound=Ended)


def length(item: Model) -> int:
    """Characters of a model as it is sent."""
    return len(item.model_dump_json(exclude_defaults=True))


# One function per answer


def fit_started(
    started: Sequence[Started], result: WaitResult | None, *, single: bool
) -> StartAnswer:
    """What became of a start; of a batch, what all runs have in common is said once."""
    waits = _waiting_note(result.waiting) if result else ""
    versions = {one.version for one in started}
    version = versions.pop() if len(versions) == 1 else None
    items = _outcomes(started, result, with_version=version is None)
    shown, left = _fit(items, ROOM - len(waits))
    hidden = f"{left} more were started and are not shown; list_workflows lists them."
    note = _note(hidden if left else "", _WHOLE if shown != items[: len(shown)] else "", waits)
    if single:
        return StartAnswer(**shown[0].model_dump(exclude={"version"}), version=version, note=note)
    return StartAnswer(workflows=shown, version=version, note=note)


def _outcomes(
    started: Sequence[Started], result: WaitResult | None, *, with_version: bool
) -> list[StartedRun]:
    """The runs with their status as it is after the waiting, and what came of them."""
    told = {"status", "output", "error"}
    after = [*result.done, *result.running] if result else []
    known = {one.workflow_id: one.model_dump(include=told) for one in after}
    for one in result.waiting if result else ():
        known[one.workflow_id] = {"status": "PENDING"}
    own = set[str]() if with_version else {"version"}
    return [
        StartedRun.model_validate(one.model_dump(exclude=own) | known.get(one.workflow_id, {}))
        for one in started
    ]


def _waiting_note(waiting: Sequence[Waiting]) -> str:
    if not waiting:
        return ""
    wait = waiting[0]
    prompt = f" It asks: {short(wait.prompt, 300)}" if wait.prompt else ""
    more = f" {len(waiting) - 1} more wait too." if len(waiting) > 1 else ""
    return f"{wait.workflow_id} waits for a message on topic {short(wait.topic, 100)!r}: send_message.{prompt}{more}"


def fit_waited(result: WaitResult) -> WaitAnswer:
    """All runs, with as much about each as there is room for; those that need an answer or failed come before the rest."""
    done = sorted(result.done, key=lambda one: one.status == "SUCCESS")
    room = ROOM - min(ROOM // 3, _sizes(_cut(one, 0, 0) for one in done))
    waiting, running = _with_texts(result, prompt=500, step=200)
    if _sizes(waiting) + _sizes(running) > room:
        waiting, running = _with_texts(result, prompt=60, step=0)
    waiting, left_waiting = _first(waiting, room)
    running, left_running = _first(running, room - _sizes(waiting))
    shown, left_done = _fit(done, ROOM - _sizes(waiting) - _sizes(running))
    order = {one.workflow_id: place for place, one in enumerate(result.done)}
    left = {"waiting": left_waiting, "done": left_done, "running": left_running}
    hidden = _left_out(left, "ask for fewer workflow_ids at once, or use list_workflows.")
    return WaitAnswer(
        done=sorted(shown, key=lambda one: order[one.workflow_id]),
        waiting=waiting,
        running=running,
        timed_out=result.timed_out,
        note=_note(hidden, _WHOLE if shown != done[: len(shown)] else ""),
    )


def _with_texts(
    result: WaitResult, *, prompt: int, step: int
) -> tuple[list[Waiting], list[Running]]:
    waiting = [_shortened(one, topic=256, prompt=prompt) for one in result.waiting]
    return waiting, [_shortened(one, step=step) for one in result.running]


def fit_changed(result: ChangedList) -> ChangedAnswer:
    """Those that were left as they were come first: they are what the caller does not expect."""
    ordered = sorted(result.workflows, key=lambda one: one.changed)
    shown, left = _first(ordered, ROOM)
    if not left:
        return ChangedAnswer(workflows=result.workflows)
    changed = sum(one.changed for one in ordered[len(shown) :])
    note = f"{left} more are not shown: {changed} changed, {left - changed} left as they were."
    return ChangedAnswer(workflows=shown, note=note)


def fit_catalog(catalog: Catalog) -> CatalogAnswer:
    """Schemas are the first to go, then the entries at the end."""
    templates = [_shortened(one, use_when=200) for one in catalog.templates]
    templates, left_templates = _first(templates, ROOM // 4)
    room = ROOM - _sizes(templates)
    entries = [_with_short_texts(entry) for entry in catalog.workflows]
    too_much = _sizes(entries) - room
    for place in reversed(range(len(entries))):
        if too_much > 0:
            whole, entries[place] = entries[place], _without_schema(entries[place])
            too_much -= length(whole) - length(entries[place])
    shown, left = _first(entries, room)
    hidden = _left_out(
        {"workflows": left, "templates": left_templates}, "narrow the list with query."
    )
    return CatalogAnswer(
        workflows=shown, templates=templates, version=catalog.version, note=_note(hidden)
    )


def _with_short_texts(entry: CatalogEntry) -> CatalogEntry:
    error = entry.error
    if error is not None and len(error) > _LOADING_ERROR:
        error = f"…{error[-_LOADING_ERROR:]}"  # a traceback tells at its end
    return _shortened(entry, summary=400).model_copy(update={"error": error})


def _without_schema(entry: CatalogEntry) -> CatalogEntry:
    text = f'Left out for length: workflow_catalog(query="{entry.name}") brings it, or read {entry.source}.'
    schema = {"description": text}
    return entry if length(entry) < 300 else entry.model_copy(update={"args_schema": schema})


def fit_runs(runs: RunList) -> RunList:
    """The page with its texts cut short."""
    shown = [_shortened(one, waiting_on=100, error=200) for one in runs.workflows]
    return runs.model_copy(update={"workflows": shown})


def fit_written(written: Written) -> Written:
    """What matters of a written file: the error with its end, the first warnings."""
    shown = [short(one, 500) for one in written.warnings[:_WARNINGS]]
    if written.warnings[_WARNINGS:]:
        more = len(written.warnings) - _WARNINGS
        shown.append(f"{more} more: `durable-workflows check {written.file}` lists them all.")
    error = written.error
    if error is not None and len(error) > _ERROR_END:
        error = f"… {error[-_ERROR_END:]}"
    fitted = written.model_copy(update={"warnings": shown, "error": error})
    if length(fitted) <= ROOM:
        return fitted
    bare = [one.model_copy(update={"args_schema": {}}) for one in written.workflows[:20]]
    note = "Schemas were left out for length: workflow_catalog brings them."
    return fitted.model_copy(update={"workflows": bare, "note": note})


def fit_status(status: ServerStatus) -> ServerStatus:
    """The first of what there may be any number of."""
    versions = list(status.versions_with_unfinished_runs.items())
    shown = dict(versions[:_VERSIONS])
    if versions[_VERSIONS:]:
        shown["others"] = sum(runs for _, runs in versions[_VERSIONS:])
    return status.model_copy(
        update={
            "workers": status.workers[:_WORKERS],
            "versions_with_unfinished_runs": shown,
            "problems": [short(problem, 800) for problem in status.problems[:_PROBLEMS]],
        }
    )


# Payloads, and what else there may be much of


def _fit(items: Sequence[Outcome], room: int) -> tuple[list[Outcome], int]:
    """As many items as fit, their payloads as long as there is room for, and the number of those left out.

    That a run is listed matters more than its payload, and an error more than an output.
    """
    shown = items
    for output, error in _WIDTHS:
        shown = [_cut(item, output, error) for item in items]
        if _sizes(shown) <= room:
            break
    return _first(shown, room)


def _cut(item: Outcome, output: int, error: int) -> Outcome:
    """The item with a payload of at most so many characters; with 0 it is left out."""
    if item.error is not None:
        return item.model_copy(update={"error": _cut_text(item.error, error)})
    text = item.output if isinstance(item.output, str) else _json(item.output)
    if item.output is None or len(text) <= output:
        return item
    return item.model_copy(update={"output": _cut_text(text, output)})


def _cut_text(text: str, width: int) -> str | None:
    if len(text) <= width:
        return text
    return text[:width] + _CUT if width else None


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _size(item: Model) -> int:
    return length(item) + 1


def _sizes(items: Iterable[Model]) -> int:
    return sum(map(_size, items))


def _first(items: Sequence[M], room: int) -> tuple[list[M], int]:
    """As many items as there is room for, and the number of those left out."""
    for count, item in enumerate(items):
        room -= _size(item)
        if room < 0:
            return list(items[:count]), len(items) - count
    return list(items), 0


def _shortened(item: M, **widths: int) -> M:
    """The item with its texts cut to these widths; a text of width 0 is left out."""
    texts = {field: getattr(item, field) for field in widths}
    update = {
        field: short(text, widths[field]) if widths[field] else None
        for field, text in texts.items()
        if text is not None
    }
    return item.model_copy(update=update)


def _left_out(left: dict[str, int], how: str) -> str:
    words = ", ".join(f"{number} {what}" for what, number in left.items() if number)
    return f"Left out for length: {words}; {how}" if words else ""


def _note(*sentences: str) -> str | None:
    return " ".join(filter(None, sentences)) or None

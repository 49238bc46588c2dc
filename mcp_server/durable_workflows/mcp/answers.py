"""Structured answers that keep within the budget, whatever the data: `note` says what is cut or left out, and the call that brings it."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

from pydantic import Field, JsonValue

from durable_workflows import fitting, limits, topics
from durable_workflows.models import (
    Catalog,
    CatalogEntry,
    ChangedList,
    Ended,
    Forked,
    ForkedList,
    Model,
    MovedList,
    RunId,
    RunList,
    Running,
    RunStatus,
    ScheduleInfo,
    ScheduleResult,
    Schema,
    ServerStatus,
    Started,
    Version,
    Waiting,
    WaitResult,
    Written,
)
from durable_workflows.wording import counted, line, short

_CUT = "… (cut)"
_WHOLE = "inspect(workflow_id, step=0) shows what is cut or missing."
_PROMPT = 'inspect(workflow_id, step=0, cursor="prompt:0") shows a whole prompt.'
_EXAMPLE = "A long example was left out; inspect(workflow_id) shows the start of it."
_SHARES = (4000, 3000, 2000, 1500, 1000, 700, 500, 300, 200, 100, 50, 25)
_SCHEDULES = 10
_ARGS, _PROBLEM = 300, 400  # of a schedule
_WIDTHS = [
    *zip(_SHARES, _SHARES, strict=True),
    *((0, width) for width in _SHARES),
    (0, 0),
]  # of outputs, of errors
_LOADING_ERROR = 800
_MARGIN = 1000  # characters for the other fields beside a schema in its entry
_ONCE = 300  # characters of the names of steps
_LONGEST_SCHEMA = 4000  # characters of a schema; of a longer schema only the fields are given
_LEFT_OUT = 'Left out for length: workflow_catalog(query="{name}") shows it, or read {source}.'
_NAMES = 2500  # characters of the names of workflows that are not shown
_WARNINGS, _REPLAYS, _ERROR_END = 8, 4, 2000  # of a written file
_WORKERS, _VERSIONS, _PROBLEMS, _DOTENV = 12, 20, 5, 30  # in a status
_PROBLEM_WIDTHS = (800, 400, 200, 100)


Note = Annotated[str | None, Field(description="What was left out, and what to do.")]
Existing = Annotated[
    bool, Field(description="Whether it was there before; then nothing was started.")
]


class StartedRun(Ended):
    """A run of a batch; its version is here if the runs of the batch have several."""

    version: Version | None = None
    existing: Existing = False


class StartAnswer(Model):
    """One started run, or the runs of a batch in `workflows`; `note` says what was left out and what to do."""

    workflow_id: RunId | None = None
    status: RunStatus | None = None
    version: Version | None = None
    existing: Existing = False
    output: JsonValue = Field(default=None, description="What it returned.")
    error: str | None = Field(default=None, description="The error with which it failed.")
    workflows: list[StartedRun] | None = Field(default=None, description="The runs of a batch.")
    note: Note = None


class WaitAnswer(WaitResult):
    """How the runs stand; `note` says what was left out."""

    note: Note = None


class ChangedAnswer(ChangedList):
    """What happened to each run; `note` says what was left out."""

    note: Note = None


class MoveAnswer(MovedList):
    """What a move means for each run; `note` has the numbers, and says what was left out."""

    note: Note = None


class ForkAnswer(Forked):
    """A new run that was forked from another one; how it ended, if that is known."""

    status: RunStatus | None = None
    output: JsonValue = Field(default=None, description="What it returned.")
    error: str | None = Field(default=None, description="The error with which it failed.")


class ForkedAnswer(ForkedList):
    """What became of each run; `note` says what was left out."""

    note: Note = None


class ResumeAnswer(ChangedAnswer):
    """What happened to each run; `done` has how a resumed run ended, if that is known."""

    done: list[Ended] = Field(default=[], description="Runs that have ended since.")


class CatalogAnswer(Catalog):
    """The workflows that can be started; `note` says what was left out."""

    note: Note = None


class ScheduleAnswer(ScheduleResult):
    """The schedules that were listed, or the one that was changed; `note` says what was left out."""

    note: Note = None


class StatusAnswer(ServerStatus):
    """What is running here and any problems; `note` says what was left out."""

    note: Note = None


M = TypeVar("M", bound=Model)
Outcome = TypeVar("Outcome", bound=Ended)


def length(item: Model) -> int:
    """Characters of a model as it is sent."""
    return len(item.model_dump_json(exclude_defaults=True))


# One function per answer


def fit_started(
    started: Sequence[Started], result: WaitResult | None, *, single: bool
) -> StartAnswer:
    """The outcome of a start. For a batch, facts common to all runs are given once."""
    waits = _waiting_note(result.waiting) if result else ""
    versions = {one.version for one in started}
    version = versions.pop() if len(versions) == 1 else None
    items = _outcomes(started, result, with_version=version is None)
    shown, left = _fit(items, limits.ITEMS - len(waits))
    were = "was started and is" if left == 1 else "were started and are"
    hidden = f"{left:,} more {were} not shown; list_workflows lists the rest."
    cut = _WHOLE if shown != items[: len(shown)] else ""
    note = _note(hidden if left else "", cut, waits, _existing_note(started))
    if single:
        return StartAnswer(**shown[0].model_dump(exclude={"version"}), version=version, note=note)
    return StartAnswer(workflows=shown, version=version, note=note)


def _outcomes(
    started: Sequence[Started], result: WaitResult | None, *, with_version: bool
) -> list[StartedRun]:
    """The runs with their status after the waiting, and their outcomes."""
    told = {"status", "output", "error"}
    after = [*result.done, *result.running] if result else []
    known = {one.workflow_id: one.model_dump(include=told) for one in after}
    for one in result.waiting if result else ():
        known[one.child_of or one.workflow_id] = {"status": "PENDING"}
    own = set[str]() if with_version else {"version"}
    return [
        StartedRun.model_validate(one.model_dump(exclude=own) | known.get(one.workflow_id, {}))
        for one in started
    ]


def _existing_note(started: Sequence[Started]) -> str:
    existing = [one.workflow_id for one in started if one.existing]
    if not existing:
        return ""
    if len(started) == 1:
        return "A run with this id already exists with its original arguments; nothing new was started."
    its, they = ("its", "it was") if len(existing) == 1 else ("their", "they were")
    return f"{len(existing):,} of these runs already existed, with {its} original arguments; {they} not started again."


def _waiting_note(waiting: Sequence[Waiting]) -> str:
    if not waiting:
        return ""
    wait = waiting[0]
    prompt = f" It asks: {short(wait.prompt, 300)}" if wait.prompt else ""
    others = len(waiting) - 1
    more = f" {others:,} more {'waits' if others == 1 else 'wait'} too." if others else ""
    whole = f" {_PROMPT}" if len(wait.prompt or "") > 300 else ""
    return f"{fitting.shown_line(wait.workflow_id)} waits for a message on topic {short(wait.topic, 100)!r}: {topics.tool(wait.topic)}.{prompt}{whole}{more}"


def fit_waited(result: WaitResult) -> WaitAnswer:
    """All runs, each with as much as there is room for; runs that need an answer or failed come first."""
    done = sorted(result.done, key=lambda one: one.status == "SUCCESS")
    room = limits.ITEMS - min(limits.ITEMS // 3, _sizes(_cut(one, 0, 0) for one in done))
    waiting, running = _with_texts(result, prompt=500, step=200)
    if _sizes(waiting) + _sizes(running) > room:
        waiting, running = _with_texts(result, prompt=60, step=0)
    pairs = list(zip(waiting, result.waiting, strict=True))
    prompts = _PROMPT if any(one.prompt != whole.prompt for one, whole in pairs) else ""
    examples = _EXAMPLE if any(one.example != whole.example for one, whole in pairs) else ""
    waiting, left_waiting = _first(waiting, room)
    running, left_running = _first(running, room - _sizes(waiting))
    shown, left_done = _fit(done, limits.ITEMS - _sizes(waiting) - _sizes(running))
    order = {one.workflow_id: place for place, one in enumerate(result.done)}
    left = {"waiting": left_waiting, "done": left_done, "running": left_running}
    hidden = _left_out(left, "wait for fewer workflow_ids at once, or use list_workflows.")
    return WaitAnswer(
        done=sorted(shown, key=lambda one: order[one.workflow_id]),
        waiting=waiting,
        running=running,
        timed_out=result.timed_out,
        note=_note(hidden, _WHOLE if shown != done[: len(shown)] else "", prompts, examples),
    )


def _with_texts(
    result: WaitResult, *, prompt: int, step: int
) -> tuple[list[Waiting], list[Running]]:
    waiting = [_shortened(one, topic=256, prompt=prompt) for one in result.waiting]
    waiting = [_with_short_example(one, prompt) for one in waiting]
    return waiting, [_shortened(one, step=step, progress=step) for one in result.running]


def _with_short_example(wait: Waiting, width: int) -> Waiting:
    """Shorten or drop an example: a part of an example would not be valid."""
    is_long = len(_json(wait.example)) > width
    return wait.model_copy(update={"example": None}) if is_long else wait


def fit_changed(result: ChangedList) -> ChangedAnswer:
    """Unchanged runs come first: the caller does not expect them."""
    ordered = sorted(result.workflows, key=lambda one: one.changed)
    shown, left = _first(ordered, limits.ITEMS)
    if not left:
        return ChangedAnswer(workflows=result.workflows, note=result.note)
    changed = sum(one.changed for one in ordered[len(shown) :])
    are = "is" if left == 1 else "are"
    note = f"{left:,} more {are} not shown: {changed:,} changed, {left - changed:,} unchanged. list_workflows shows their status."
    return ChangedAnswer(workflows=shown, note=_note(result.note, note))


def fit_moved(result: MovedList) -> MoveAnswer:
    """Runs that stay come first."""
    order = ("differs", "stays", "safe", "moved")
    ordered = sorted(result.workflows, key=lambda one: order.index(one.verdict))
    fields = {"recorded": limits.NAME, "called": limits.NAME, "note": limits.PREVIEW}
    shown, left = _first([_shortened(one, **fields) for one in ordered], limits.ITEMS)
    more = f"{left:,} more are not shown: list_workflows has their version." if left else None
    return MoveAnswer(
        version=result.version,
        dry_run=result.dry_run,
        workflows=shown,
        note=_note(result.note, more),
    )


def fit_forked(forked: Forked, result: WaitResult | None = None) -> ForkAnswer:
    """A fork, and how it ended."""
    answer = ForkAnswer(**dict(forked))
    if result is None or not result.done:
        return answer
    [ended], _ = _fit(result.done, limits.ITEMS - length(answer))
    cut = _WHOLE if ended != result.done[0] else ""
    outcome = ended.model_dump(include={"status", "output", "error"})
    return answer.model_copy(update={**outcome, "note": _note(forked.note, cut)})


def fit_forks(forked: ForkedList) -> ForkedAnswer:
    """Verdicts, those without a fork first."""
    ordered = sorted(forked.workflows, key=lambda one: one.refused is None)
    lines = [
        one.model_copy(update={"refused": one.refused and short(one.refused, limits.STEP)})
        for one in ordered
    ]
    shown, left = _first(lines, limits.ITEMS)
    more = (
        f"{left:,} more are not shown: list_workflows shows the forks of each run." if left else ""
    )
    note = _note(forked.note, more)
    return ForkedAnswer(workflows=shown, forked=forked.forked, dry_run=forked.dry_run, note=note)


def fit_resumed(changed: ChangedAnswer, result: WaitResult) -> ResumeAnswer:
    """Resumed runs, and how they ended."""
    answer = ResumeAnswer(**dict(changed))
    done, _ = _fit(result.done, limits.ITEMS - length(answer))
    cut = _WHOLE if done != result.done else ""
    return answer.model_copy(update={"done": done, "note": _note(changed.note, cut)})


def fit_catalog(catalog: Catalog, query: str | None = None) -> CatalogAnswer:
    """The workflow of that name comes first, with its whole schema.

    Other schemas are dropped first, from the end on; at last only names are left.
    """
    exact = any(one.name == query for one in catalog.workflows)
    templates = [] if exact else [_shortened(one, use_when=200) for one in catalog.templates]
    templates, left_templates = _first(templates, limits.ITEMS // 4)
    room, note = limits.ITEMS - _sizes(templates), ""
    whole = limits.ITEMS - _MARGIN
    named = [_with_short_texts(one, whole) for one in catalog.workflows if one.name == query]
    others = [_undescribed(one) for one in catalog.workflows if one.name != query]
    short_ones = [_with_short_texts(entry) for entry in others]
    shown = [*named, *_without_schemas(short_ones, room - _sizes(named))]
    if _sizes(shown) > room:
        bare = [*named, *map(_bare, others)]
        shown, _ = _first(bare, max(room - _NAMES, _sizes(named)))
        note = _left_names([one.name for one in bare[len(shown) :]], room - _sizes(shown))
    hidden = _left_out({"templates": left_templates}, "read them as resources.")
    return CatalogAnswer(
        workflows=shown, templates=templates, version=catalog.version, note=_note(note, hidden)
    )


def _without_schemas(entries: Sequence[CatalogEntry], room: int) -> list[CatalogEntry]:
    """The entries; if there is no room, the last ones have a text instead of a schema."""
    shown, too_much = list(entries), _sizes(entries) - room
    for place in reversed(range(len(shown))):
        whole = shown[place]
        said = {"description": _LEFT_OUT.format(name=whole.name, source=whole.source)}
        bare = whole.model_copy(update={"args_schema": said})
        if too_much > 0 and length(bare) < length(whole):
            shown[place] = bare
            too_much -= length(whole) - length(bare)
    return shown


def _left_names(names: Sequence[str], room: int) -> str:
    """The note about a catalog without schemas."""
    how = "Schemas and `once` were left out for length: workflow_catalog(query=NAME) shows one."
    if not names:
        return how
    told, room = 0, room - 200
    while told < len(names) and room >= len(names[told]) + 2:
        room -= len(names[told]) + 2
        told += 1
    more = f" and {len(names) - told} more" if told < len(names) else ""
    return f"{how} Left out for length: {counted(len(names), 'workflow')}: {', '.join(names[:told])}{more}; narrow the list with query."


def _undescribed(entry: CatalogEntry) -> CatalogEntry:
    """Without the docstring beyond the summary."""
    schema = {key: value for key, value in entry.args_schema.items() if key != "description"}
    return entry.model_copy(update={"args_schema": schema})


def _with_short_texts(entry: CatalogEntry, longest: int = _LONGEST_SCHEMA) -> CatalogEntry:
    schema = entry.args_schema
    if len(_json(schema)) > longest:
        schema = _outline(schema, f"read {entry.source}")
    update = {
        "error": _end(entry.error, _LOADING_ERROR),
        "args_schema": schema,
        "once": _few(entry.once),
    }
    return _shortened(entry, name=200, summary=400).model_copy(update=update)


def _bare(entry: CatalogEntry) -> CatalogEntry:
    """The fields that identify a workflow."""
    update: dict[str, object] = {
        "error": _end(entry.error, 80),
        "args_schema": {"description": "left out"},
        "once": [],
    }
    return _shortened(entry, name=200, summary=80).model_copy(update=update)


def _few(names: Sequence[str]) -> list[str]:
    """The first names, as far as there is room, and how many there are more."""
    told, room = 0, _ONCE
    while told < len(names) and room >= len(names[told]):
        room -= len(names[told]) + 3
        told += 1
    left = len(names) - told
    return [*names[:told], *([f"… and {left} more"] if left else [])]


def _end(text: str | None, width: int) -> str | None:
    """The end of a traceback, which says most."""
    return text if text is None or len(text) <= width else f"…{text[-width:]}"


def _outline(schema: Schema, where: str) -> Schema:
    """The names and types in a schema, as far as there is room."""
    fields: dict[str, Schema] = schema.get("properties", {})
    needed: list[str] = schema.get("required", [])
    names = [name for name in [*needed, *fields] if name in fields and len(name) <= 100]
    shown: dict[str, Schema] = {}
    room = _LONGEST_SCHEMA - 500
    for name in dict.fromkeys(names):
        field = {key: fields[name][key] for key in ("type",) if key in fields[name]}
        room -= len(_json({name: field})) + (len(name) + 3 if name in needed else 0)
        if room < 0:
            break
        shown[name] = field
    left = len(fields) - len(shown)
    more = f", and {counted(left, 'field')}" if left else ""
    said = f"Descriptions and inner schemas{more} were left out for length: {where} for the rest."
    return {
        "description": said,
        "type": "object",
        "properties": shown,
        "required": [name for name in needed if name in shown],
    }


def fit_runs(runs: RunList) -> RunList:
    """The page with its texts cut short."""
    shown = [_shortened(one, waiting_on=100, asleep=100, error=200) for one in runs.workflows]
    return runs.model_copy(update={"workflows": shown})


def _first_lines(lines: Sequence[str], most: int, command: str) -> list[str]:
    """The first lines, and the command that shows them all."""
    shown = [short(one, 500) for one in lines[:most]]
    if lines[most:]:
        more = len(lines) - most
        shown.append(f"{more} more: `durable-workflows {command}` lists them all.")
    return shown


def fit_written(written: Written) -> Written:
    """The important parts of a written file: the error with its end, the first warnings."""
    warnings = _first_lines(written.warnings, _WARNINGS, f"check {written.file}")
    replays = _first_lines(written.replays, _REPLAYS, "check --replay-last 3")
    error, note = _end(written.error, _ERROR_END), short(written.note, _ERROR_END)
    texts = {"warnings": warnings, "replays": replays, "error": error, "note": note}
    workflows = [_shortened(one, summary=400) for one in written.workflows]
    fitted = written.model_copy(update={**texts, "workflows": workflows})
    if length(fitted) <= limits.ITEMS:
        return fitted
    bare = [_shortened(one, summary=80).model_copy(update={"args_schema": {}}) for one in workflows]
    kept, left = _first(
        bare, limits.ITEMS - 300 - length(fitted.model_copy(update={"workflows": []}))
    )
    more = f", and {counted(left, 'workflow')}" if left else ""
    said = f"Schemas{more} were left out for length: workflow_catalog(query=NAME) shows them."
    return fitted.model_copy(
        update={"workflows": kept, "note": f"{fitted.note} {said}" if fitted.note else said}
    )


def fit_status(status: ServerStatus) -> StatusAnswer:
    """The first items of unbounded lists; `note` says which lists have more."""
    versions = list(status.versions_with_unfinished_runs.items())
    shown = dict(versions[:_VERSIONS])
    if versions[_VERSIONS:]:
        shown["others"] = sum(runs for _, runs in versions[_VERSIONS:])
    cut = {
        "workers": status.workers[:_WORKERS],
        "dotenv": [line(name, 40) for name in status.dotenv[:_DOTENV]],
        "sessions": [_shortened(one, client=40, version=20) for one in status.sessions],
        "http": status.http[:_PROBLEMS],
        "schedules": [_brief(one) for one in status.schedules[:_SCHEDULES]],
    }
    left = {name: len(getattr(status, name)) - len(kept) for name, kept in cut.items()}
    left["problems"] = len(status.problems[_PROBLEMS:])
    note = _left_out(left, "`durable-workflows status` in a terminal shows everything.")
    answer = StatusAnswer(**dict(status), note=note or None)
    for width in _PROBLEM_WIDTHS:
        problems = [short(problem, width) for problem in status.problems[:_PROBLEMS]]
        update = {**cut, "versions_with_unfinished_runs": shown, "problems": problems}
        answer = answer.model_copy(update=update)
        if length(answer) <= limits.ITEMS:
            break
    return answer


def _brief(schedule: ScheduleInfo) -> ScheduleInfo:
    """A schedule without what `problems` and the tool `schedule` say."""
    names = _shortened(schedule, name=60, workflow=60, cron=60, queue=60, last_workflow_id=120)
    return names.model_copy(update={"args": None, "problem": None})


def fit_schedules(result: ScheduleResult) -> ScheduleAnswer:
    """As many schedules as fit."""
    shown = [
        _shortened(one, workflow=100, cron=100, queue=100, args=_ARGS, problem=_PROBLEM)
        for one in result.schedules
    ]
    kept, left = _first(shown, limits.ITEMS)
    more = f"{counted(left, 'more schedule')}: `durable-workflows schedule list` in a terminal shows them all."
    return ScheduleAnswer(
        schedules=kept,
        existing=result.existing,
        workflow_id=result.workflow_id,
        note=more if left else None,
    )


# Payloads, and other long lists


def _fit(items: Sequence[Outcome], room: int) -> tuple[list[Outcome], int]:
    """As many items as fit, with payloads as long as there is room for, and the number of those left out.

    Listing a run matters more than its payload, and an error more than an output.
    """
    shown = items
    for output, error in _WIDTHS:
        shown = [_cut(item, output, error) for item in items]
        if _sizes(shown) <= room:
            break
    return _first(shown, room)


def _cut(item: Outcome, output: int, error: int) -> Outcome:
    """The item with a payload of at most that many characters; with 0 the payload is left out."""
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


def _note(*sentences: str | None) -> str | None:
    return " ".join(filter(None, sentences)) or None

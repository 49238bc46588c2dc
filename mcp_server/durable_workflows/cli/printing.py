"""The results of the command line, on a terminal and in a pipe."""

import json
import re
import shlex
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from durable_workflows import fitting, limits, wording
from durable_workflows.cli import columns, command_words, terminal
from durable_workflows.cli.dashboard import Line, age
from durable_workflows.engine import following
from durable_workflows.models import (
    Autostart,
    BackupKept,
    Catalog,
    CatalogEntry,
    ChangedList,
    Ended,
    ForkedList,
    ForkVerdict,
    LogLine,
    MovedList,
    Run,
    RunList,
    RunSummary,
    ScheduleInfo,
    ServerStatus,
    Started,
    Step,
    Storage,
    TemplateEntry,
    WaitingRuns,
    WaitResult,
    WorkerInfo,
    Written,
)
from durable_workflows.processes import lifecycle
from durable_workflows.schemas import arguments
from durable_workflows.settings import Settings
from durable_workflows.system import state

if TYPE_CHECKING:
    from durable_workflows.code.checks.checking import Finding

_EMPHASIZED = re.compile(r"#+ (.*)|\*\*([^*]+)\*\*")  # at the beginning of a line of a trace
# Of a list. An id is never cut, since a person copies it.
_SHRINKING = ((4, 12), (1, 10), (2, 9), (4, 0))
_RUN_HEADING = ("ID", "NAME", "STATUS", "AGE", "NOTE")
_ERROR = 200  # characters of an error in a line
_USE = 300  # of a workflow's purpose
_OUTPUT = 200  # of the output of one of several runs

errors_console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def progress(text: str) -> Generator[lifecycle.Progress]:
    """Show slow work in progress: on one changing line of a terminal, otherwise on separate lines."""
    if not errors_console.is_terminal:
        yield say
        return
    with errors_console.status(Text(text)) as line:
        yield lambda news: line.update(Text(fitting.shown_line(news)))


def say(text: str) -> None:
    """Tell a person something apart from the result."""
    errors_console.print(fitting.shown(text))


def show(progress: lifecycle.Progress) -> lifecycle.Progress:
    """A function that shows the current activity, on a terminal only: otherwise it would print a line each time."""
    return progress if errors_console.is_terminal else lifecycle.no_progress


def width() -> int | None:
    """The width of standard output; None: it is not a terminal, and nothing must be cut."""
    console = Console()
    return console.width if console.is_terminal else None


def fail(message: str, hint: str) -> NoReturn:
    """End the command with status 1, the error, and the remedy."""
    errors_console.print(fitting.shown(f"Error: {message}"), style="red")
    say(command_words.in_terminal(hint))
    raise typer.Exit(1)


def print_model(model: BaseModel, as_json: bool, text: str) -> None:
    """A result, as a sentence or as JSON."""
    terminal.out(model.model_dump_json(indent=2) if as_json else text)


def print_trace(markdown: str) -> None:
    """A trace, with its headings and labels in bold on a terminal.

    The rest is unchanged: it holds recorded data, whose underscores and asterisks are not Markdown.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        terminal.out(markdown)
        return
    for line in fitting.shown(markdown).splitlines():
        found = _EMPHASIZED.match(line)
        bold, rest = (found[1] or found[2], line[found.end() :]) if found else ("", line)
        console.print(Text.assemble((bold, "bold"), rest), soft_wrap=True)


def print_overview(lines: Iterable[Line]) -> None:
    """The overview of a project."""
    console = Console(highlight=False)
    for line in lines:
        if console.is_terminal:
            console.print(styled(line), soft_wrap=True)
        else:
            terminal.out(fitting.shown_line(line.text))


def styled(line: Line) -> Text:
    """A line of the overview as a terminal shows it."""
    return Text(fitting.shown_line(line.text), style="bold" if line.heading else "")


def print_log(lines: Sequence[LogLine], as_json: bool) -> None:
    """The output and log of a run."""
    if as_json:
        terminal.out(json.dumps([one.model_dump(mode="json") for one in lines], indent=2))
        return
    for one in lines:
        where = f"step {one.step}" if one.step is not None else "workflow"
        terminal.out(
            f"{wording.time(one.at)}  {where:<9} {one.stream:<7} {fitting.shown_line(one.text)}"
        )


def print_templates(templates: Sequence[TemplateEntry], as_json: bool) -> None:
    """The templates, each with its purpose."""
    if as_json:
        terminal.out(json.dumps([one.model_dump(mode="json") for one in templates], indent=2))
        return
    rows = [("TEMPLATE", "USE WHEN"), *((one.name, one.use_when) for one in templates)]
    for line in columns.lines(rows, width(), ((1, 20),)):
        terminal.out(line)


def print_catalog(catalog: Catalog, query: str | None) -> None:
    """The workflows, each with its purpose; the workflow of that name with its arguments."""
    named = [one for one in catalog.workflows if one.name == query]
    for one in named:
        _print_entry(one)
    if named:
        return
    if not catalog.workflows:
        terminal.out("No workflows match.")
        return
    rows = [("WORKFLOW", "WHAT IT DOES"), *((one.name, _use(one)) for one in catalog.workflows)]
    for line in columns.lines(rows, width(), ((1, 20),)):
        terminal.out(line)
    say("The arguments of one: durable-workflows catalog NAME. Templates: durable-workflows new")


def _use(entry: CatalogEntry) -> str:
    if wrong := entry.error or entry.not_startable:
        return f"cannot be started: {wrong.strip().splitlines()[-1]}"
    return wording.line(entry.summary.partition("\n\n")[0], _USE)


def _print_entry(entry: CatalogEntry) -> None:
    once = [("once", ", ".join(entry.once))] if entry.once else []
    print_pairs([("workflow", entry.name), ("file", entry.source), *once])
    terminal.out(f"\n{entry.summary}\n")
    if wrong := entry.error or entry.not_startable:
        terminal.out(f"It cannot be started: {wrong}")
        return
    terminal.out(f"Arguments:\n{json.dumps(entry.args_schema, indent=2, ensure_ascii=False)}")
    given = json.dumps(arguments.example(entry.args_schema), ensure_ascii=False)
    say(f"Start it: durable-workflows start {entry.name} --args {shlex.quote(given)}")


def written_text(written: Written) -> str:
    """The outcome of writing a workflow file."""
    names = ", ".join(one.name for one in written.workflows)
    lines = [
        written.file,
        *written.warnings,
        *([f"It does not load:\n{written.error}"] if written.error else []),
        *([f"Can be started: {names}"] if names else []),
        *written.replays,
        *([written.note] if written.note else []),
    ]
    return "\n".join(lines)


def say_checked(files: int, found: "Sequence[Finding]") -> None:
    """Sum up the findings of a check."""
    numbers = Counter(one.severity for one in found)
    kinds = [
        wording.counted(numbers[kind], kind)
        for kind in ("error", "warning", "note")
        if numbers[kind]
    ]
    say(f"Checked {wording.counted(files, 'file')}: {', '.join(kinds) or 'nothing is wrong'}.")


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Lines of a label and its value."""
    for label, text in pairs:
        terminal.out(f"{label:<11}{text}")


def print_ready(found: ServerStatus, catalog: Catalog, url: str) -> None:
    """What `bootstrap` has made ready; of the URL only the address."""
    address = urlsplit(url)
    place = f"{address.hostname or 'localhost'}:{address.port or 5432}"
    terminal.out(f"Ready: durable workflows in {found.project}")
    print_pairs([("database", f"{found.mode} Postgres at {place}"), *_code_pairs(catalog)])
    print_pairs(("problem", one) for one in found.problems)


def _code_pairs(catalog: Catalog) -> list[tuple[str, str]]:
    names = [one.name for one in catalog.workflows if not (one.error or one.not_startable)]
    return [("version", catalog.version), ("workflows", ", ".join(names))]


def print_stopped(settings: Settings, problems: Sequence[str], *, running: bool) -> None:
    """A project whose database does not answer, or whose processes do not run."""
    if running:
        terminal.out(
            f"The supervisor of {settings.project} is running, but its database does not answer."
        )
    elif not settings.state.is_dir():
        terminal.out(f"{settings.project} has no durable workflows yet.")
        terminal.out(
            "Run `durable-workflows bootstrap` to set it up; the first use of any command does so too."
        )
    else:
        due = state.rest(settings)
        terminal.out(f"Nothing is running for {settings.project}; what was recorded is kept.")
        if due is not None:
            terminal.out(
                f"All runs wait. The processes start again at {wording.time(due)}, when the first of them is due."
            )
        terminal.out(
            "Run `durable-workflows bootstrap` to start it; the first use of any command does so too."
        )
    print_pairs(("problem", problem) for problem in problems)


def print_status(found: ServerStatus, catalog: Catalog | None) -> None:
    """The state of a project."""
    runs = [f"{number} {status}" for status, number in found.counts.items()]
    print_pairs(
        [
            ("project", found.project),
            (
                "database",
                f"{found.mode}, {found.database}, {wording.megabytes(found.database_bytes)}",
            ),
            ("supervisor", f"process {found.supervisor_pid}"),
            *(("worker", _worker(one, found.mode)) for one in found.workers),
            *(_code_pairs(catalog) if catalog else [("version", found.version or "none")]),
            ("runs", ", ".join(runs) or "none yet"),
            *([("waiting", _waiting(found.waiting))] if found.waiting.parked else []),
            *([("kept", _kept(found.storage))] if found.storage.older_runs else []),
            *([("backup", _backup(found.backup))] if found.backup else []),
            ("logs", found.logs),
            *(("http", f"{url}, with the token in .dbos/token") for url in found.http),
            *(("schedule", _schedule(one)) for one in found.schedules),
            *([("from .env", ", ".join(found.dotenv))] if found.dotenv else []),
            *(("problem", one) for one in found.problems),
        ]
    )


def _worker(one: WorkerInfo, mode: str) -> str:
    said = f"process {one.pid} on {one.host}, version {one.version}, {one.state}"
    if mode == "embedded":
        return said
    return f"{said}, last sign of life {wording.span(datetime.now(UTC) - one.seen_at)} ago"


def _schedule(one: ScheduleInfo) -> str:
    said = f"{one.name}: {one.workflow} {one.cron} {one.timezone} {one.status}"
    return f"{said}, next {wording.time(one.next_times[0])}" if one.next_times else said


def _backup(found: BackupKept) -> str:
    return f"{wording.time(found.at)}, {wording.megabytes(found.bytes)}, {found.file}"


def _kept(found: Storage) -> str:
    days = f"{found.older_than_days:g}"
    runs = f"{wording.counted(found.older_runs, 'run')} ended more than {days} days ago, about {wording.megabytes(found.older_bytes)}"
    if found.keep_days is not None:
        return f"{runs}; they are deleted within the hour, but for what unfinished runs need"
    return f"{runs}: durable-workflows prune --older-than {days}d --dry-run"


def _waiting(found: WaitingRuns) -> str:
    due = f"; the next is due at {wording.time(found.next_due)}" if found.next_due else ""
    return f"{wording.counted(found.parked, 'run')} without a process{due}"


def print_autostart(found: Autostart) -> None:
    """Whether the service manager starts a project."""
    if not found.on:
        terminal.out("Autostart is off.")
        return
    whens = {
        "boot": ": the processes start at boot",
        "login": ": the processes start when you log in",
    }
    terminal.out(f"Autostart is on{whens.get(found.starts or '', '')}.")
    print_pairs([("file", found.file), *(("problem", one) for one in found.problems)])
    if found.note:
        say(found.note)


def print_runs(runs: RunList) -> None:
    """A list of runs; their total number goes to standard error."""
    if not runs.workflows:
        terminal.out(_no_runs(runs))
        return
    _print_run_rows([_RUN_HEADING, *_run_rows(runs.workflows)])
    counts = ", ".join(f"{number} {status}" for status, number in runs.counts.items())
    more = f"; more: --cursor {runs.next_cursor}" if runs.next_cursor else ""
    waiting = f"; waiting for a message: {runs.waiting}" if runs.waiting else ""
    errors_console.print(fitting.shown(f"Total: {counts}{waiting}{more}"), style="dim")


def _no_runs(runs: RunList) -> str:
    if not runs.counts:
        return "There are no runs yet."
    if runs.next_cursor is None:
        return "No runs match."
    return (
        f"None of the first {runs.looked_through:,} runs matches; more: --cursor {runs.next_cursor}"
    )


async def print_all_runs(pages: AsyncGenerator[list[RunSummary]], as_json: bool) -> None:
    """Lists of runs as one, each printed when it comes, with columns as wide as that list needs. As JSON, a run is a line."""
    heading = [_RUN_HEADING]
    async with aclosing(pages):
        async for runs in pages:
            if as_json:
                terminal.lines(run.model_dump_json() for run in runs)
            elif runs:
                _print_run_rows([*heading, *_run_rows(runs)])
                heading.clear()
    if heading and not as_json:
        terminal.out("No runs match.")


def _run_rows(runs: Iterable[RunSummary]) -> Iterator[Sequence[str]]:
    now = datetime.now(UTC)
    for one in runs:
        yield (one.workflow_id, one.name, one.status, age(one.created_at, now), _note(one))


def _print_run_rows(rows: Sequence[Sequence[str]]) -> None:
    terminal.lines(columns.lines(rows, width(), _SHRINKING))


def _note(run: RunSummary) -> str:
    if run.waiting_on is not None:
        return f"waits: {run.waiting_on}"
    if run.asleep is not None:
        return run.asleep
    if run.ok is False:
        return "output says ok: false"
    return (run.error or "").split("\n", 1)[0]


def print_payload(run: Run, as_json: bool) -> None:
    """The whole error or output of a run, or its arguments if there is neither yet."""
    body = run.error or run.output or run.input
    text = body.text if body else "(nothing was recorded)"
    print_model(run, as_json, text)


def step_text(step: Step) -> str:
    """The output of a step, or its error, as recorded."""
    body = step.error or step.output
    return body.text if body else "(no output)"


def changed_text(changed: ChangedList) -> str:
    """A line for each run."""
    lines = [
        f"{fitting.shown_line(one.workflow_id)}  {one.status}  {one.note}"
        for one in changed.workflows
    ]
    return "\n".join([*lines, *([changed.note] if changed.note else [])])


def moved_text(moved: MovedList) -> str:
    """A line for each run, the numbers, and what to do next."""
    lines = [
        f"{fitting.shown_line(one.workflow_id)}  {wording.joined(wording.move(one), one.note)}"
        for one in moved.workflows
    ]
    able = moved.dry_run and any(one.verdict == "safe" for one in moved.workflows)
    more = " Run it again with --apply to move what is safe." if able else ""
    return "\n".join([*lines, f"{moved.note}{more}"])


def forked_text(forked: ForkedList) -> str:
    """A line for each run, and how many were forked."""
    lines = [
        f"{fitting.shown_line(one.workflow_id)}  {_fork_line(one, dry_run=forked.dry_run)}"
        for one in forked.workflows
    ]
    would = "Would fork" if forked.dry_run else "Forked"
    lines.append(f"{would} {wording.counted(forked.forked, 'run')}.")
    return "\n".join([*lines, *([forked.note] if forked.note else [])])


def _fork_line(one: ForkVerdict, *, dry_run: bool) -> str:
    if one.fork is None:
        return f"not forked: {wording.line(one.refused or '', limits.STEP)}"
    fork = f"step {one.from_step}: {fitting.shown_line(one.fork)}"
    was = (
        "was forked before from"
        if one.existing
        else "would be forked from"
        if dry_run
        else "forked from"
    )
    return f"{was} {fork}"


def print_ended(ended: Ended, as_json: bool) -> None:
    """The output of a run; a run that did not succeed fails the command."""
    if ended.status == "SUCCESS" or as_json:
        text = json.dumps(ended.output, indent=2, ensure_ascii=False)
        print_model(ended, as_json, text)
    if ended.status != "SUCCESS":
        hint = f"Run `durable-workflows inspect {ended.workflow_id}` to see what happened."
        fail(f"{ended.workflow_id} ended with {ended.status}: {ended.error or ''}", hint)


def say_existing(started: Sequence[Started]) -> None:
    """Name the runs that already existed."""
    for own in (one.workflow_id for one in started if one.existing):
        say(
            f"A run with the id {own} already exists with its original arguments; nothing new was started."
        )


def print_started(started: Sequence[Started], as_json: bool) -> None:
    """The runs of a batch, a line for each."""
    if as_json:
        terminal.out(json.dumps([one.model_dump(mode="json") for one in started], indent=2))
        return
    terminal.lines(f"{fitting.shown_line(one.workflow_id)}  {one.status}" for one in started)


def waited_text(result: WaitResult) -> str:
    """The state after waiting, a line for each run; the output of a single run is not cut."""
    runs = len(result.done) + len(result.waiting) + len(result.running)
    ended = [
        f"{fitting.shown_line(one.workflow_id)}  {one.status}  {_outcome(one, cut=runs > 1)}"
        for one in result.done
    ]
    waiting = [
        following.wait_line(one.workflow_id, one.topic, one.prompt) for one in result.waiting
    ]
    running = [
        f"{fitting.shown_line(one.workflow_id)}  {one.status}  {wording.how_it_goes(one)}".rstrip()
        for one in result.running
    ]
    return "\n".join([*ended, *waiting, *running])


def _outcome(ended: Ended, *, cut: bool) -> str:
    """The error of a run, or its output in a line."""
    if ended.status != "SUCCESS":
        return wording.line(ended.error or "", _ERROR)
    output = json.dumps(ended.output, ensure_ascii=False)
    return wording.line(output, _OUTPUT) if cut else output

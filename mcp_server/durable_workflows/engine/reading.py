"""Reading a project's runs. It reads by SQL: nothing is unpickled, and only what was asked for is loaded."""

import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, Unpack

import anyio

from durable_workflows import actions, fitting, limits, topics, wording
from durable_workflows.database import facts, leases, tables
from durable_workflows.database.changes import changes
from durable_workflows.engine import comparing, details, listing, records, timetable
from durable_workflows.engine.listing import Page
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import (
    DatabaseUnavailable,
    UnknownStep,
    UnknownWorkflowId,
    UsageError,
)
from durable_workflows.models import (
    UNFINISHED,
    Answer,
    Child,
    Compared,
    Fact,
    LogLine,
    Message,
    News,
    OpenWait,
    Overview,
    QueueInfo,
    Run,
    RunHead,
    RunLine,
    RunList,
    RunSummary,
    ScheduleInfo,
    ServerStatus,
    SessionInfo,
    Step,
    Storage,
    WaitingRuns,
    WaitResult,
    Wanted,
    WorkerInfo,
)
from durable_workflows.parts import Parts
from durable_workflows.processes import http_access
from durable_workflows.settings import APPLICATION
from durable_workflows.system import backups, places, state

_SESSIONS = 10
_DOUBTS = 10  # steps in doubt that are listed
_SUSPECTS = 10
_ASKING = 500  # questions that are read of one run's descendants
_COUNTED = 1_000  # runs; above that, `storage` gives an estimate
_SHARE = 4  # looks of one caller that waits take a quarter of the time at most, however often runs change
_OLD_DAYS = 30.0  # the age that `storage` uses if runs are kept forever

# The parts of a status that failed.
_UNTOLD: Mapping[str, Any] = {
    "version": None,
    "workers": [],
    "versions_with_unfinished_runs": {},
    "counts": {},
    "database_bytes": 0,
    "problems": [],
}

Progress = Callable[[str], Awaitable[None]]
Questions = dict[str, Callable[[], Awaitable[Any]]]
T = TypeVar("T")


class Reader:
    """The runs of one project, and its status."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._settings = rows.settings

    async def aclose(self) -> None:
        """Close the connection at once."""
        await self._rows.aclose()

    async def runs(
        self, *, limit: int = 20, cursor: str | None = None, **wanted: Unpack[Wanted]
    ) -> RunList:
        """A page of runs, newest first by default; `cursor` is the `next_cursor` of the page before.

        Raises:
            InvalidArguments, UnknownWorkflowId, DatabaseUnavailable
        """
        page = await self.page(limit=limit, cursor=cursor, **wanted)
        waits = await self._rows.fetch("count_waiting")
        return RunList(
            workflows=page.runs,
            counts=await self.counts(),
            waiting=waits[0]["runs"],
            next_cursor=page.next_cursor,
            looked_through=page.looked_through,
        )

    async def page(
        self, *, limit: int, cursor: str | None = None, **wanted: Unpack[Wanted]
    ) -> Page:
        """As `runs`, without the numbers of all runs."""
        return await listing.page(self._rows, limit=limit, cursor=cursor, **wanted)

    def all_runs(self, **wanted: Unpack[Wanted]) -> AsyncGenerator[list[RunSummary]]:
        """All runs, in parts, as they are when each part is read; errors as for `runs`."""
        return listing.pages(self._rows, **wanted)

    async def counts(self) -> dict[str, int]:
        """The numbers of runs, by status."""
        rows = await self._rows.fetch("count_runs", application=APPLICATION)
        return {str(row["status"]): row["runs"] for row in rows}

    async def wait(
        self,
        workflow_ids: Sequence[str],
        *,
        until: str = "all",
        timeout_seconds: float = 45.0,
        progress: Progress | None = None,
    ) -> WaitResult:
        """Wait until all, or any, of the runs have ended or wait for a message, or until anything about them changes.

        A run whose child asks for something (a wait with a prompt) counts as waiting too. Current activity is reported to `progress` from
        time to time.
        A timeout is an answer, not an error.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        await self._rows.heads(workflow_ids)
        deadline = time.monotonic() + timeout_seconds
        first = await self._states(workflow_ids) if until == "change" else None
        while True:
            try:
                return await self._wait(workflow_ids, until, first, deadline, progress)
            except DatabaseUnavailable:  # it is restarted; the wait continues
                if time.monotonic() >= deadline:
                    raise

    async def _wait(
        self,
        workflow_ids: Sequence[str],
        until: str,
        first: WaitResult | None,
        deadline: float,
        progress: Progress | None,
    ) -> WaitResult:
        listeners = self._rows.listeners
        async with changes(self._rows.database, workflow_ids, listeners) as hints:
            while True:
                looked = anyio.current_time()
                result = await self._states(workflow_ids)
                if records.is_enough(result, until, first):
                    return result
                again = looked + _SHARE * (anyio.current_time() - looked)
                left = deadline - time.monotonic()
                if left <= 0:
                    return result.model_copy(update={"timed_out": True})
                if progress is not None:
                    await progress(records.progress_line(result))
                # No hint about a child reaches a caller that waits for its parent.
                parents = any(one.children for one in result.running)
                await hints.next(left, often=parents or until == "change")
                await anyio.sleep_until(again)

    async def look(self, workflow_ids: Sequence[str]) -> WaitResult:
        """The present state of the runs, in the form of `wait`; errors as for `wait`."""
        await self._rows.heads(workflow_ids)
        return await self._states(workflow_ids)

    async def heads(self, workflow_ids: Sequence[str]) -> list[RunHead]:
        """The identities of the runs, in the given order; errors as for `wait`."""
        found = await self._rows.heads(workflow_ids)
        return [records.run_head(found[one]) for one in workflow_ids]

    async def _states(self, workflow_ids: Sequence[str]) -> WaitResult:
        rows = await self._rows.fetch(
            "run_states",
            workflow_ids=list(workflow_ids),
            limit=limits.INLINE,
            progress=limits.EVENT,
        )
        if gone := set(workflow_ids) - {row["workflow_id"] for row in rows}:
            raise UnknownWorkflowId(f"{min(gone)} was deleted meanwhile.")
        parents = [row["workflow_id"] for row in rows if row["children"] or row["children_done"]]
        asking = await self._asking(parents, limit=limits.INLINE) if parents else []
        return records.wait_result(rows, asking, workflow_ids, timed_out=False)

    async def run(
        self, workflow_id: str, *, preview: int = limits.PREVIEW, after_step: int = 0
    ) -> Run:
        """All about a run, payloads cut to `preview` characters, errors to 6,000.

        Of more than 1,000 steps after `after_step`: the first thousand, the last ones, and the last that failed.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        report = state.read_report(self._settings)
        found = await self._rows.in_snapshot(
            lambda fetch: details.read(
                fetch, report, workflow_id, preview=preview, after_step=after_step
            )
        )
        if found is None:
            raise await self._rows.unknown(workflow_id)
        return found

    async def compare(
        self, workflow_id: str, other: str, *, preview: int = limits.PREVIEW, after: int = 0
    ) -> Compared:
        """Two runs side by side, the first as `a`: their differences, and their steps, aligned by name and occurrence.

        Outputs and errors are there for the first 200 steps that differ after the first `after` of these, cut to `preview` characters.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        found = await self._rows.in_snapshot(
            lambda fetch: comparing.read(fetch, (workflow_id, other), preview=preview, after=after)
        )
        if isinstance(found, str):
            raise await self._rows.unknown(found)
        return found

    async def step(self, workflow_id: str, step: int, *, offset: int, length: int) -> Step:
        """One finished step, with `length` characters of its output or error from `offset` on.

        Raises:
            UnknownWorkflowId, UnknownStep, DatabaseUnavailable
        """
        await self._rows.head(workflow_id)
        rows = await self._rows.fetch(
            "step_part", workflow_id=workflow_id, step=step, offset=offset, limit=length
        )
        if not rows:
            raise await self._no_step(workflow_id, step)
        return records.step(rows[0])

    async def has_ended(self, workflow_id: str) -> bool:
        """Whether a run has ended; errors as for `run`."""
        return (await self._rows.head(workflow_id))["status"] not in UNFINISHED

    async def last_step(self, workflow_id: str) -> int:
        """The highest number of a finished step; 0 if there is none."""
        return (await self._rows.fetch("highest_step", workflow_id=workflow_id))[0]["step"]

    async def messages(self, workflow_id: str, *, count: int = 100) -> list[Message]:
        """The messages sent to a run, oldest first; errors as for `run`."""
        await self._rows.head(workflow_id)
        rows = await self._rows.fetch(
            "run_messages", workflow_id=workflow_id, limit=limits.PREVIEW, count=count
        )
        return [records.message(row) for row in rows]

    async def answers(self, workflow_id: str) -> list[Answer]:
        """The answers of people to a run, and to the runs whose steps it took over as a fork, by step; errors as for `run`."""
        await self._rows.head(workflow_id)
        rows = await self._rows.fetch("run_answers", workflow_id=workflow_id, limit=limits.PREVIEW)
        return [records.answer(row) for row in rows]

    async def tree(self, workflow_id: str) -> list[Child]:
        """The runs that a run started, and their child runs, at most 1,000; errors as for `run`."""
        await self._rows.head(workflow_id)
        rows = await self._rows.fetch("run_descendants", workflow_id=workflow_id)
        return [records.child(row) for row in rows]

    async def source(self, workflow_id: str) -> tuple[str, str]:
        """Path and text of the file of a run's workflow in the run's version; errors as for `run`."""
        head = await self._rows.head(workflow_id)
        rows = await self._rows.fetch("version_source", version=head["version"], name=head["name"])
        if not rows:
            raise UsageError(
                f"Version {head['version']} of the code has no workflow {head['name']!r}, or is not stored here.",
                hint="Call inspect without detail to see what the run did, or workflow_catalog for the current workflows.",
            )
        return rows[0]["path"], bytes(rows[0]["content"]).decode(errors="replace")

    async def status(self, problems: Iterable[str] = ()) -> ServerStatus:
        """What runs, and any problems; `problems` are those that the caller knows. It always answers: a part that fails is a problem."""
        parts = Parts()
        told = dict(_UNTOLD)
        beside: Questions = {"database_bytes": self._rows.database_bytes}
        in_turn = self._parts_of_status()
        if self._rows.connection.mode == "external":  # both would wait for a database that is away
            beside, in_turn = {}, in_turn | beside
        async with anyio.create_task_group() as group:
            # The file system is asked while the first and longest statement runs.
            group.start_soon(_ask, parts, beside, told)
            await _ask(parts, in_turn, told)
        if not parts.away:
            with parts.part("problems"):
                told["problems"] = await self._problems(told["workers"], told.get("schedules", []))
        with parts.part("http"):
            told["http"] = http_access.urls(self._settings)
        with parts.part("backups"):
            told["backup"] = next(iter(backups.kept(self._settings)), None)
        with parts.part("dotenv"):
            told["dotenv"] = state.read_report(self._settings).get("dotenv", "").split()
        known = {
            "project": fitting.text(str(self._settings.project)),
            "mode": self._rows.connection.mode,
            "database": "away" if parts.away else "up",
            "supervisor_pid": self._rows.connection.pid,
            "logs": fitting.text(str(places.logs(self._settings))),
            "problems": [*problems, *parts.problems, *told["problems"]],
        }
        return ServerStatus.model_validate(told | known)

    def _parts_of_status(self) -> Questions:
        return {
            "counts": self.counts,
            "version": self.newest_version,
            "workers": self._living_workers,
            "versions_with_unfinished_runs": self._unfinished_versions,
            "waiting": self._waiting_runs,
            "storage": self._storage,
            "schedules": self._schedules,
            "sessions": self.sessions,
        }

    async def newest_version(self) -> str | None:
        """The newest version of the code, if one is saved.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        return await details.newest_version(self._rows.fetch)

    async def _living_workers(self) -> list[WorkerInfo]:
        return [one for one in records.workers(await self._rows.fetch("workers")) if one.alive]

    async def _unfinished_versions(self) -> dict[str, int]:
        rows = await self._rows.fetch("unfinished_versions", application=APPLICATION)
        return {str(row["version"]): row["runs"] for row in rows}

    async def _waiting_runs(self) -> WaitingRuns:
        rows = await self._rows.fetch("waiting_runs", application=APPLICATION)
        return WaitingRuns.model_validate(rows[0])

    async def _storage(self) -> Storage:
        days = self._settings.keep_days or _OLD_DAYS
        older_than = datetime.now(UTC) - timedelta(days=days)
        older = await self._older_runs(records.milliseconds(older_than))
        row = (await self._rows.fetch("stored"))[0]
        share = older / max(older, row["runs"], 1)
        return Storage(
            keep_days=self._settings.keep_days,
            older_than_days=days,
            older_runs=older,
            older_bytes=int(row["bytes"] * share),
        )

    async def _older_runs(self, older_than: int | None) -> int:
        rows = await self._rows.fetch("count_older", older_than=older_than, limit=_COUNTED)
        if rows[0]["runs"] < _COUNTED:
            return rows[0]["runs"]
        rows = await self._rows.fetch("estimate_older", older_than=older_than)
        [plan] = rows[0]["QUERY PLAN"]
        return max(plan["Plan"]["Plan Rows"], _COUNTED)

    async def _schedules(self) -> list[ScheduleInfo]:
        return [timetable.shown(row) for row in await timetable.rows_of(self._rows)]

    async def _problems(
        self, workers: Iterable[WorkerInfo], schedules: Iterable[ScheduleInfo]
    ) -> list[str]:
        orphans = await self._rows.fetch("orphans")
        loading = await self._loading(workers)
        doubts = await self._rows.fetch("doubts", limit=_DOUBTS)
        return [
            *loading,
            *await self._suspects(),
            *map(_doubt_line, doubts),
            *map(_orphan_line, orphans),
            *await self._without_worker(),
            *[_schedule_line(one) for one in schedules if one.problem is not None],
        ]

    async def _suspects(self) -> list[str]:
        """The runs that end their worker, and the runs that may."""
        rows = await self._rows.fetch("suspects_apart", limit=_SUSPECTS)
        return [
            f"{wording.line(row['workflow_id'], limits.NAME)} ({wording.line(row['name'], limits.NAME)}) {wording.suspicion(records.suspect(row))}: {actions.inspect(row['workflow_id'])}"
            for row in rows
        ]

    async def _without_worker(self) -> list[str]:
        """Runs that no worker goes on with. Of an embedded database the supervisor says so; its versions may still be lost."""
        seconds = leases.LOST_SECONDS
        abandoned = await self._rows.fetch("abandoned_versions", seconds=2 * seconds)
        if self._rows.connection.mode == "embedded":
            return [_abandoned_line(row) for row in abandoned if not row["saved"]]
        silent = await self._rows.fetch("silent_workers", seconds=seconds)
        return [*map(_silent_line, silent), *map(_abandoned_line, abandoned)]

    async def _loading(self, workers: Iterable[WorkerInfo]) -> list[str]:
        """Slow work before a worker of this machine can take up runs."""
        report = state.read_report(self._settings)
        up = {worker.version for worker in workers}
        return [
            f"Version {row['version']} is being loaded: {row['progress']}"
            for row in await self._rows.fetch("loading_versions")
            if row["version"] not in up
            and report.get(state.worker_entry(row["version"]), "").startswith("running")
        ]

    async def waits(self, workflow_id: str) -> list[OpenWait]:
        """The present waits of a run, with the schemas of valid messages; errors as for `run`."""
        head = await self._rows.head(workflow_id)
        if head["status"] not in UNFINISHED:
            return []
        return await self.open_waits(workflow_id)

    async def open_waits(self, workflow_id: str) -> list[OpenWait]:
        """As `waits`, for a run that has not ended."""
        rows = await self._rows.fetch("run_waits", workflow_id=workflow_id)
        return [records.open_wait(row) for row in rows]

    async def questions(self, workflow_id: str) -> list[OpenWait]:
        """The present waits of a run, then the questions of its child runs and their children; errors as for `run`."""
        asked = await self._asking([workflow_id], limit=None)
        return [*await self.waits(workflow_id), *map(records.open_wait, asked)]

    async def asked_of_people(self, workflow_ids: Sequence[str]) -> list[OpenWait]:
        """The present questions of these runs and their child runs to people, the oldest question first."""
        own = await self._rows.fetch("waits_for_people", workflow_ids=list(workflow_ids))
        asked = [*own, *await self._asking(workflow_ids, limit=None)]
        found = {(row["workflow_id"], row["function_id"]): row for row in asked}
        waits = [records.open_wait(row) for row in found.values() if row["person_only"]]
        return sorted(waits, key=lambda one: (one.since, one.workflow_id, one.step))

    async def _asking(self, workflow_ids: Sequence[str], *, limit: int | None) -> list[tables.Row]:
        """The questions of the child runs of these runs and of their children; prompts are cut to `limit` characters, if there is one."""
        return await self._rows.fetch(
            "asking_descendants", workflow_ids=list(workflow_ids), limit=limit, count=_ASKING
        )

    async def log(self, workflow_id: str, *, after: int = 0, limit: int = 200) -> list[LogLine]:
        """The output and log of a run: the newest `limit` lines with an id above `after`, oldest first; errors as for `run`."""
        await self._rows.head(workflow_id)
        rows = await self._rows.fetch(
            "log_lines", workflow_id=workflow_id, after=after, limit=limit
        )
        return [LogLine.model_validate(row) for row in rows]

    async def sessions(self) -> list[SessionInfo]:
        """The clients that are connected to MCP servers of this project, and the last ones that were."""
        rows = await self._rows.fetch("sessions", seconds=facts.CONNECTED_SECONDS, limit=_SESSIONS)
        return [SessionInfo.model_validate(row) for row in rows]

    async def news(self) -> News:
        """The unfinished runs, the open questions, the runs that ended last, and the last visits of clients."""
        return await self._rows.in_snapshot(facts.news)

    async def facts(self, after: datetime) -> list[Fact]:
        """The events of root runs since then, the oldest first."""
        return await self._rows.in_snapshot(lambda fetch: facts.since(fetch, after))

    async def overview(self, *, newest: int = 10) -> Overview:
        """The state of the project: counts, the newest runs, waits, queues, workers."""
        runs = await self.runs(limit=newest)
        waits = await self._rows.fetch("all_waits", limit=newest)
        return Overview(
            counts=runs.counts,
            newest=runs.workflows,
            doing=await self._doing(runs.workflows),
            waiting=[records.waiting_run(row) for row in waits],
            queues=await self.queues(),
            workers=[
                one for one in records.workers(await self._rows.fetch("workers")) if one.alive
            ],
        )

    async def queues(self) -> list[QueueInfo]:
        """The queues with the numbers of their runs; errors as for `newest_version`."""
        return [QueueInfo.model_validate(row) for row in await self._rows.fetch("queues")]

    async def _doing(self, runs: Iterable[RunSummary]) -> dict[str, str]:
        """The current activity of unfinished runs that do not wait for a message."""
        ids = [one.workflow_id for one in runs if one.status in UNFINISHED]
        rows = await self._rows.fetch(
            "run_states", workflow_ids=ids, limit=limits.NAME, progress=limits.EVENT
        )
        result = records.wait_result(rows, [], ids, timed_out=False)
        return {one.workflow_id: one.step for one in result.running if one.step}

    async def newest_lines(self, *, limit: int, of_one: int) -> list[RunLine]:
        """The newest log lines of all runs, oldest first: at most `of_one` of each run with recent lines."""
        rows = await self._rows.fetch("newest_lines", limit=limit, of_one=of_one)
        return [
            RunLine(workflow_id=row["workflow_id"], line=LogLine.model_validate(row))
            for row in rows
        ]

    # Words for completion

    async def ids_beginning(self, text: str, *, limit: int) -> list[str]:
        """The workflow_ids with this prefix, newest runs first."""
        rows = await self._rows.fetch(
            "ids_beginning", beginning=text, application=APPLICATION, limit=limit
        )
        return [row["workflow_id"] for row in rows]

    async def versions_beginning(self, text: str, *, limit: int) -> list[str]:
        """The versions of the code with this prefix that a worker has loaded, the newest first."""
        rows = await self._rows.fetch("versions_beginning", beginning=text, limit=limit)
        return [row["version"] for row in rows]

    async def startable_names(self) -> list[str]:
        """The workflows that can be started: of the newest version that a worker has loaded, not of the present files."""
        return [row["name"] for row in await self._rows.fetch("startable_names")]

    async def open_topics(self, workflow_id: str | None, *, limit: int) -> list[str]:
        """The topics on which runs wait, or on which this run waits."""
        rows = await self._rows.fetch("open_topics", workflow_id=workflow_id, limit=limit)
        return [row["topic"] for row in rows]

    async def steps_under_way(self, workflow_ids: Sequence[str]) -> dict[str, str]:
        """The steps that run now, whatever the status of their runs."""
        rows = await self._rows.fetch("steps_under_way", workflow_ids=list(workflow_ids))
        return {
            row["workflow_id"]: f"step {row['step']} {row['name']}"
            for row, worker in zip(rows, records.workers(rows), strict=True)
            if worker.alive
        }

    # Helpers

    async def _no_step(self, workflow_id: str, step: int) -> UnknownStep:
        fetch = functools.partial(self._rows.fetch, workflow_id=workflow_id)
        for wait in await fetch("run_waits"):
            if wait["function_id"] == step:
                said = f"it waits on {records.topic(wait['topic'])!r}"
                return UnknownStep(f"Step {step} of {workflow_id} has not finished: {said}.")
        for running in await fetch("run_running"):
            if running["step"] == step:
                said = f"it runs ({running['name']})"
                return UnknownStep(f"Step {step} of {workflow_id} has not finished: {said}.")
        last = await self.last_step(workflow_id)
        which = f"its last one is {last}" if last else "none has finished"
        return UnknownStep(f"{workflow_id} has no finished step {step}: {which}.")


async def _ask(parts: Parts, questions: Questions, told: dict[str, Any]) -> None:
    """Add the answers to `told`, one after the other, until the database is away."""
    for name, ask in questions.items():
        if not parts.away:
            with parts.part(name):
                told[name] = await ask()


def _doubt_line(row: tables.Row) -> str:
    """A row of `doubts`."""
    workflow_id, step = row["workflow_id"], row["step"]
    topic = topics.of_doubt(step, person_only=row["person_only"])
    name = wording.line(row["name"], limits.NAME)
    since = wording.time(row["doubt_since"])
    return f"Step {step} ({name}) of {wording.line(workflow_id, limits.NAME)} is in doubt since {since}: {topics.answering(workflow_id, topic)}"


def _schedule_line(schedule: ScheduleInfo) -> str:
    return f"Schedule {wording.line(schedule.name, limits.NAME)}: {schedule.problem}"


def _silent_line(row: tables.Row) -> str:
    """A row of `silent_workers`."""
    runs = wording.counted(row["runs"], "run")
    return (
        f"The worker of version {row['version']} on {fitting.shown_line(row['host'])} (process {row['pid']}) has given no sign of life"
        f" for {row['silent']:.0f} s: another machine takes over its {runs}."
    )


def _abandoned_line(row: tables.Row) -> str:
    """A row of `abandoned_versions`."""
    runs = wording.counted(row["runs"], "unfinished run")
    said = f"Version {wording.line(row['version'], limits.NAME)} has {runs} and no worker"
    if not row["saved"]:
        return f"{said}, and its files are not in the database: move its runs to another version (`move_to_version`), or cancel them."
    return f"{said}: no machine has started one. The log of the supervisor, or of its last worker, says why."


def _orphan_line(row: tables.Row) -> str:
    runs = wording.counted(row["runs"], "unfinished run")
    them = "it" if row["runs"] == 1 else "them"
    return (
        f"{runs} of {row['name']!r}, which version {row['version']} does not have:"
        f" cancel {them}, and pause or delete the schedule that starts {them}."
    )

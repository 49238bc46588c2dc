"""The façade: all that can be done with workflows, for tools, resources and the command line alike.

What DBOS owns is changed through `DBOSClient` and read by SQL, so that reading neither unpickles nor loads what nobody
asked for. All errors of dbos and psycopg are translated here into those of `errors.py`.
"""

import difflib
import functools
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import sqlalchemy.exc
from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions
from dbos._error import DBOSConflictingWorkflowError
from pydantic import JsonValue

from durable_workflows import arguments, catalog, dbos_internals, records, state
from durable_workflows.changes import changes
from durable_workflows.database import tables, versions
from durable_workflows.errors import (
    DatabaseUnavailable,
    DurableWorkflowsError,
    InvalidArguments,
    MessageTooLarge,
    NoSpaceLeft,
    UnknownStep,
    UnknownWorkflow,
    UnknownWorkflowId,
    UsageError,
    WorkflowFinished,
    WorkflowIdTaken,
    WorkflowUnavailable,
)
from durable_workflows.models import (
    UNFINISHED,
    Catalog,
    CatalogEntry,
    Changed,
    ChangedList,
    Child,
    Connection,
    Delivered,
    Forked,
    Message,
    Run,
    RunList,
    ServerStatus,
    Started,
    StartRequest,
    Status,
    Step,
    WaitResult,
)
from durable_workflows.settings import MAX_PAYLOAD_BYTES, QUEUE, Settings

_CATALOG_SECONDS = 40.0  # a worker needs some seconds to start; clients give up after sixty
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0  # in which the supervisor starts a database again
_THREADS = 8
_PREVIEW = 600  # characters of a payload in a run's details
_MAX_STEPS = 1000  # in one answer
_LAST_STEPS = 20

T = TypeVar("T")
logger = logging.getLogger(__name__)
Progress = Callable[[str], Awaitable[None]]


class Engine:
    """Workflows of one project, in the database that `connection` names. Close it after use (`aclose`)."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self._settings = settings
        self.connection = connection
        self._session = tables.Session(
            connection.url,
            role="engine",
            patience_seconds=_PATIENCE_SECONDS,
            explain=self._explain,
        )
        self._limiter = anyio.CapacityLimiter(_THREADS)  # never the threads that stdio uses
        self._folder = catalog.Folder(settings)
        self._reading = anyio.Lock()
        self._ready: set[str] = set()
        self._entries: dict[
            tuple[str, str], CatalogEntry
        ] = {}  # of ready versions, which do not change
        self._migrated = False
        dbos_internals.refuse_pickle()
        self._client = DBOSClient(
            system_database_url=connection.url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=settings.application,
            system_database_pool_size=_THREADS,
            retry_connection_errors=False,
            lazy=True,
        )

    def _explain(self) -> DurableWorkflowsError | None:
        """Why the database does not answer, as far as it can be known from here."""
        if self._settings.embedded and state.is_full(self._settings):
            return NoSpaceLeft()
        note = state.read_report(self._settings).get("database", "up")
        return None if note == "up" else DatabaseUnavailable(f"The database {note}.")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._in_thread(self._client.destroy)

    # The catalog

    async def catalog(self, query: str | None = None) -> Catalog:
        """The workflows of the newest version whose name or summary contains `query`, and the templates."""
        version = await self._newest()
        rows = await self._fetch("catalog", version=version)
        entries = [CatalogEntry.model_validate(row) for row in rows]
        if query:
            entries = [e for e in entries if query.lower() in f"{e.name} {e.summary}".lower()]
        return Catalog(workflows=entries, templates=catalog.templates(), version=version)

    async def _newest(self) -> str:
        """The version of the files as they are now, with its catalog published."""
        try:
            async with self._reading:
                snapshot = await self._in_thread(self._folder.snapshot)
        except OSError as error:
            raise WorkflowUnavailable(f"The workflow folder cannot be read: {error}") from error
        if snapshot.version not in self._ready:
            async with self._session.connection() as connection:
                await versions.save(connection, snapshot)
            await self._until_published(snapshot.version)
            self._ready.add(snapshot.version)
        return snapshot.version

    async def _until_published(self, version: str) -> None:
        reason: str | None = None
        with anyio.move_on_after(_CATALOG_SECONDS):
            while True:
                async with self._session.connection() as connection:
                    stage, reason = await versions.state(connection, version) or ("", None)
                if stage == "ready":
                    return
                if stage == "failed":
                    break
                await anyio.sleep(_POLL_SECONDS)
        raise WorkflowUnavailable(
            f"No worker could load version {version} of the code:\n{reason or 'none has started yet'}",
            hint="`durable-workflows status` names the logs of supervisor and worker.",
        )

    async def _entry(self, name: str, version: str) -> CatalogEntry:
        if (version, name) not in self._entries:
            self._entries[version, name] = await self._startable(name, version)
        return self._entries[version, name]

    async def _startable(self, name: str, version: str) -> CatalogEntry:
        rows = await self._fetch("catalog_entry", version=version, name=name)
        if not rows:
            known = await self._fetch("catalog", version=version)
            raise UnknownWorkflow(
                f"There is no workflow {name!r}." + _closest(name, [row["name"] for row in known])
            )
        entry = CatalogEntry.model_validate(rows[0])
        if entry.error is not None:
            raise WorkflowUnavailable(
                f"{name} cannot be started: its file {entry.source} does not load:\n{entry.error}"
            )
        return entry

    # Starting, and what follows

    async def start(self, request: StartRequest) -> Started:
        """Start a run on the newest version of the code. With the workflow_id of an earlier run, that run is returned.

        Raises:
            UsageError: what is wrong with the request; nothing was changed.
            DatabaseUnavailable: the database does not answer.
        """
        return (await self.start_all([request]))[0]

    async def start_all(self, requests: Sequence[StartRequest]) -> list[Started]:
        """Start several runs, in their order; errors as for `start`. All are checked before the first is started."""
        version = await self._newest()
        for request in requests:
            await self._check(request, version)
        return [await self._enqueue(request, version) for request in requests]

    async def _check(self, request: StartRequest, version: str) -> None:
        entry = await self._entry(request.name, version)
        arguments.check(entry, request.args)
        arguments.check_options(request)
        _check_size(request.args, "The arguments")
        if request.queue is not None:
            queues = [row["name"] for row in await self._fetch("queue_names")]
            if request.queue not in queues:
                raise InvalidArguments(
                    f"There is no queue {request.queue!r}." + _closest(request.queue, queues),
                    hint=f"Leave `queue` out to use {QUEUE!r}, or register the queue in a workflow.",
                )

    async def _enqueue(self, request: StartRequest, version: str) -> Started:
        options: EnqueueOptions = {
            "workflow_name": request.name,
            "queue_name": request.queue or QUEUE,
            "app_version": version,
        }
        options["workflow_id"] = request.workflow_id or str(uuid.uuid4())
        if request.delay_seconds is not None:
            options["delay_seconds"] = request.delay_seconds
        if request.timeout_seconds is not None:
            options["workflow_timeout"] = request.timeout_seconds
        if request.priority is not None:
            options["priority"] = request.priority
        workflow_id = await self._certainly(
            functools.partial(dbos_internals.enqueue, self._client, options, request.args)
        )
        status: Status = "DELAYED" if request.delay_seconds else "ENQUEUED"
        if request.workflow_id is not None:
            head = await self._head(request.workflow_id)
            status, version = head["status"], head["version"]
        return Started(workflow_id=workflow_id, status=status, version=version)

    async def send(
        self, workflow_id: str, topic: str, message: JsonValue, idempotency_key: str | None = None
    ) -> Delivered:
        """Send a message to an unfinished run. With an idempotency key it arrives once, however often it is sent.

        Raises:
            UnknownWorkflowId, WorkflowFinished, MessageTooLarge, DatabaseUnavailable
        """
        _check_size(message, "The message")
        head = await self._head(workflow_id)
        if head["status"] not in UNFINISHED:
            raise WorkflowFinished(f"{workflow_id} has ended with status {head['status']}.")
        key = idempotency_key or str(uuid.uuid4())
        send = functools.partial(self._client.send, workflow_id, message, topic or None, key)
        await self._certainly(send)
        return Delivered(workflow_id=workflow_id, topic=topic, delivered=True)

    async def fork(self, workflow_id: str, from_step: int, *, same_version: bool = False) -> Forked:
        """Start a new run with the finished steps before `from_step`, on the newest version of the code or on that of the original.

        Raises:
            UnknownWorkflowId, UnknownStep, UnknownWorkflow, WorkflowUnavailable, DatabaseUnavailable
        """
        head = await self._head(workflow_id)
        rows = await self._fetch("highest_step", workflow_id=workflow_id)
        last = rows[0]["step"] + 1  # the one that runs now, or would come next
        if not 1 <= from_step <= last:
            raise UnknownStep(f"{workflow_id} has no step {from_step}: give one from 1 to {last}.")
        version = head["version"] if same_version else await self._newest()
        if not same_version:
            await self._entry(head["name"], version)
        fork_id = str(uuid.uuid4())
        fork = functools.partial(
            self._client.fork_workflow,
            workflow_id,
            from_step,
            application_version=version,
            queue_name=QUEUE,
        )
        await self._certainly(functools.partial(dbos_internals.once, self._client, fork_id, fork))
        return Forked(
            workflow_id=fork_id, forked_from=workflow_id, from_step=from_step, version=version
        )

    async def cancel(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """Cancel runs: what runs now ends at its next step. Each is answered for; unknown ids raise before anything is changed."""
        targets = await self._with_descendants(workflow_ids) if children else list(workflow_ids)
        heads = await self._heads(targets)
        active = [one for one in targets if heads[one]["status"] in UNFINISHED]
        if active:
            await self._in_thread(functools.partial(self._client.cancel_workflows, active))
        return await self._changed(targets, set(active), "cancelled", "it had ended before")

    async def resume(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """Let cancelled and dead-lettered runs go on after their last finished step. Answers as `cancel`."""
        targets = await self._with_descendants(workflow_ids) if children else list(workflow_ids)
        heads = await self._heads(targets)
        stopped = ("CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
        able = [one for one in targets if heads[one]["status"] in stopped]
        if able:
            await self._in_thread(
                functools.partial(self._client.resume_workflows, able, queue_name=QUEUE)
            )
        note = "only cancelled and dead-lettered runs can be resumed; fork a failed one"
        return await self._changed(targets, set(able), "resumed", note)

    async def _changed(
        self, workflow_ids: Sequence[str], changed: set[str], done: str, not_done: str
    ) -> ChangedList:
        heads = await self._heads(workflow_ids)
        return ChangedList(
            workflows=[
                Changed(
                    workflow_id=one,
                    changed=one in changed,
                    status=heads[one]["status"],
                    note=done if one in changed else not_done,
                )
                for one in workflow_ids
            ]
        )

    async def _with_descendants(self, workflow_ids: Sequence[str]) -> list[str]:
        found = dict.fromkeys(workflow_ids)
        for workflow_id in workflow_ids:
            found.update(dict.fromkeys(child.workflow_id for child in await self.tree(workflow_id)))
        return list(found)

    # Looking

    async def runs(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        waiting: bool | None = None,
        since: datetime | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> RunList:
        """A page of runs, newest first; `cursor` is the `next_cursor` of the page before.

        Raises:
            InvalidArguments, DatabaseUnavailable
        """
        before, before_id = records.read_cursor(cursor)
        rows = await self._fetch(
            "list_runs",
            application=self._settings.application,
            status=status,
            name=name,
            waiting=waiting,
            since=records.milliseconds(since),
            before=before,
            before_id=before_id,
            limit=limit + 1,
        )
        page = rows[:limit]
        return RunList(
            workflows=[records.run_summary(row) for row in page],
            counts=await self.counts(),
            next_cursor=records.write_cursor(page[-1]) if len(rows) > limit else None,
        )

    async def counts(self) -> dict[str, int]:
        """How many runs there are, by status."""
        rows = await self._fetch("count_runs", application=self._settings.application)
        return {row["status"]: row["runs"] for row in rows}

    async def wait(
        self,
        workflow_ids: Sequence[str],
        *,
        until: str = "all",
        timeout_seconds: float = 45.0,
        progress: Progress | None = None,
    ) -> WaitResult:
        """Wait until all, or any, of the runs have ended or wait for a message, or until anything about them changes.

        Reports what is under way to `progress` from time to time. A time-out is an answer, not an error.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        await self._heads(workflow_ids)
        deadline = time.monotonic() + timeout_seconds
        first = await self._states(workflow_ids)
        while True:
            try:
                return await self._wait(workflow_ids, until, first, deadline, progress)
            except DatabaseUnavailable:  # it is started again; the wait goes on
                if time.monotonic() >= deadline:
                    raise

    async def _wait(
        self,
        workflow_ids: Sequence[str],
        until: str,
        first: WaitResult,
        deadline: float,
        progress: Progress | None,
    ) -> WaitResult:
        async with changes(self.connection.url, workflow_ids) as hints:
            while True:
                result = await self._states(workflow_ids)
                if records.is_enough(result, until, first):
                    return result
                left = deadline - time.monotonic()
                if left <= 0:
                    return result.model_copy(update={"timed_out": True})
                if progress is not None:
                    await progress(records.progress_line(result))
                await hints.next(left, often=until == "change")

    async def _states(self, workflow_ids: Sequence[str]) -> WaitResult:
        rows = await self._fetch(
            "run_states", workflow_ids=list(workflow_ids), limit=records.INLINE
        )
        return records.wait_result(rows, workflow_ids, timed_out=False)

    async def run(self, workflow_id: str, *, preview: int = _PREVIEW, after_step: int = 0) -> Run:
        """All about a run, payloads cut to `preview` characters, errors to 6,000.

        Of more than 1,000 steps after `after_step`: the first thousand, the last ones, and the last that failed.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        fetch = functools.partial(self._fetch, workflow_id=workflow_id)
        rows = await fetch("run_details", limit=preview)
        if not rows:
            raise await self._unknown(workflow_id)
        row = rows[0]
        steps = await fetch("run_steps", after=after_step, limit=preview, count=_MAX_STEPS)
        if len(steps) == _MAX_STEPS:  # what matters most may lie beyond
            steps += await fetch("failed_steps", limit=preview)
            steps += await fetch("last_steps", limit=preview, count=_LAST_STEPS)
            steps = list({step["step"]: step for step in steps}.values())
            steps.sort(key=lambda step: step["step"])
        newest = await self._fetch("newest_version")
        return records.run(
            row,
            steps=steps,
            waits=await fetch("run_waits"),
            running=await fetch("run_running"),
            children=await fetch("run_descendants"),
            forks=await fetch("run_forks"),
            workers_=await self._fetch("workers"),
            newest=newest[0]["version"] if newest else None,
            unavailable=await self._why_unavailable(row),
        )

    async def _why_unavailable(self, row: tables.Row) -> str | None:
        if row["status"] not in UNFINISHED or row["version"] is None:
            return None
        rows = await self._fetch("catalog_entry", version=row["version"], name=row["name"])
        return rows[0]["error"] if rows else None

    async def step(self, workflow_id: str, step: int, *, offset: int, length: int) -> Step:
        """One finished step, with `length` characters of its output or error from `offset` on.

        Raises:
            UnknownWorkflowId, UnknownStep, DatabaseUnavailable
        """
        await self._head(workflow_id)
        rows = await self._fetch(
            "step_part", workflow_id=workflow_id, step=step, offset=offset, limit=length
        )
        if not rows:
            raise UnknownStep(f"{workflow_id} has no finished step {step}.")
        return records.step(rows[0])

    async def messages(self, workflow_id: str, *, count: int = 100) -> list[Message]:
        """The messages sent to a run, oldest first; errors as for `run`."""
        await self._head(workflow_id)
        rows = await self._fetch(
            "run_messages", workflow_id=workflow_id, limit=_PREVIEW, count=count
        )
        return [records.message(row) for row in rows]

    async def tree(self, workflow_id: str) -> list[Child]:
        """The runs that a run started, and those that they started, at most 1,000; errors as for `run`."""
        await self._head(workflow_id)
        rows = await self._fetch("run_descendants", workflow_id=workflow_id)
        return [Child.model_validate(row) for row in rows]

    async def source(self, workflow_id: str) -> tuple[str, str]:
        """Path and text of the file that a run's version has of its workflow; errors as for `run`."""
        head = await self._head(workflow_id)
        rows = await self._fetch("version_source", version=head["version"], name=head["name"])
        if not rows:
            raise UsageError(f"The code of version {head['version']} is not saved here.")
        return rows[0]["path"], rows[0]["text"]

    async def status(self, problems: Iterable[str] = ()) -> ServerStatus:
        """What runs, and what is wrong; `problems` are those that the caller knows of."""
        application = self._settings.application
        unfinished = await self._fetch("unfinished_versions", application=application)
        newest = await self._fetch("newest_version")
        size = await self._fetch("database_bytes")
        workers = records.workers(await self._fetch("workers"))
        return ServerStatus(
            project=str(self._settings.project),
            mode=self.connection.mode,
            database="up",
            supervisor_pid=self.connection.pid,
            version=newest[0]["version"] if newest else None,
            workers=[worker for worker in workers if worker.alive],
            versions_with_unfinished_runs={row["version"]: row["runs"] for row in unfinished},
            counts=await self.counts(),
            database_bytes=size[0]["bytes"],
            logs=str(self._settings.state / "logs"),
            problems=list(problems),
        )

    # Helpers

    async def _fetch(self, name: str, /, **values: object) -> list[tables.Row]:
        """Run a named statement, once the first worker of this database has made DBOS's tables."""
        if not self._migrated:
            await self._until_migrated()
        return await self._session.fetch(name, **values)

    async def _until_migrated(self) -> None:
        with anyio.move_on_after(_CATALOG_SECONDS):
            while not self._migrated:
                rows = await self._session.fetch("has_dbos_tables")
                self._migrated = rows[0]["there"]
                await anyio.sleep(0 if self._migrated else _POLL_SECONDS)
        if not self._migrated:
            raise DatabaseUnavailable("The database is still being set up.")

    async def _head(self, workflow_id: str) -> tables.Row:
        return (await self._heads([workflow_id]))[workflow_id]

    async def _heads(self, workflow_ids: Sequence[str]) -> Mapping[str, tables.Row]:
        rows = await self._fetch("run_heads", workflow_ids=list(workflow_ids))
        found = {row["workflow_id"]: row for row in rows}
        for workflow_id in workflow_ids:
            if workflow_id not in found:
                raise await self._unknown(workflow_id)
        return found

    async def _unknown(self, workflow_id: str) -> UnknownWorkflowId:
        rows = await self._fetch("similar_ids")
        known = [row["workflow_id"] for row in rows]
        return UnknownWorkflowId(f"There is no run {workflow_id!r}." + _closest(workflow_id, known))

    async def _certainly(self, function: Callable[[], T]) -> T:
        """Call into dbos, and again if the database was lost meanwhile: nobody knows then whether it was done.

        `function` may be repeated without doing anything twice.
        """
        try:
            return await self._in_thread(function)
        except DatabaseUnavailable:
            await self._heads([])  # has the patience for a restart
            return await self._in_thread(function)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Call into dbos, whose client blocks; its errors become ours."""
        try:
            return await anyio.to_thread.run_sync(
                function, limiter=self._limiter, abandon_on_cancel=True
            )
        except DBOSConflictingWorkflowError as error:
            raise WorkflowIdTaken(str(error)) from error
        except sqlalchemy.exc.DBAPIError as error:
            logger.warning("dbos could not use the database: %s", error.orig)
            raise tables.unavailable(error.orig, self._explain) from error


def _check_size(value: Any, what: str) -> None:
    size = len(json.dumps(value, ensure_ascii=False).encode())
    if size > MAX_PAYLOAD_BYTES:
        raise MessageTooLarge(f"{what} have {size:,} bytes; the limit is {MAX_PAYLOAD_BYTES:,}.")


def _closest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""

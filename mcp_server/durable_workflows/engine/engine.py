"""The façade: all that can be done with workflows, for tools, resources and the command line alike.

What DBOS owns is changed through `DBOSClient` and read by SQL, so that reading neither unpickles nor loads what nobody
asked for. All errors of dbos and psycopg are translated here into those of `errors.py`.
"""

import functools
import itertools
import json
import logging
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import sqlalchemy.exc
from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions
from pydantic import JsonValue

from durable_workflows import fitting, wording
from durable_workflows.code import catalog, versions
from durable_workflows.database import tables
from durable_workflows.database.addresses import own_url
from durable_workflows.engine import reading, records
from durable_workflows.engine.reading import Reader
from durable_workflows.errors import (
    AlreadyAnswered,
    DatabaseSilent,
    DatabaseUnavailable,
    InvalidArguments,
    NotWaiting,
    PeopleOnly,
    UnknownStep,
    UnknownWorkflow,
    UsageError,
    WorkflowFinished,
    WorkflowIdTaken,
    WorkflowUnavailable,
)
from durable_workflows.models import (
    STOPPED,
    UNFINISHED,
    Answer,
    Catalog,
    CatalogEntry,
    Changed,
    ChangedList,
    Connection,
    Delivered,
    Forked,
    OpenWait,
    Started,
    StartRequest,
)
from durable_workflows.schemas import arguments
from durable_workflows.seam import dbos_internals
from durable_workflows.settings import APPLICATION, PERSON, QUEUE, Settings
from durable_workflows.system import processes

_NOT_KNOWN = "The database has not answered for half a minute. It is not known whether this was done; it may still happen."
_STILL_LOADING = "no worker has begun to load it, or reported its progress, yet."
_CATALOG_SECONDS = 40.0  # a worker needs some seconds to start; clients give up after sixty
_POLL_SECONDS = 0.05
_THREADS = 8
_SEEN_SECONDS = 1.0  # after which the steps are known that the workers of other machines are in

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Engine(Reader):
    """Workflows of one project, in the database that `connection` names. Close it after use (`aclose`)."""

    def __init__(
        self, settings: Settings, connection: Connection, progress: Callable[[str], None]
    ) -> None:
        """`progress` is told what takes long before a version's code can be started."""
        super().__init__(settings, connection)
        self._progress = progress
        self._limiter = anyio.CapacityLimiter(_THREADS)  # never the threads that stdio uses
        self._folder = catalog.Folder(settings)
        self._reading = anyio.Lock()
        self._ready: set[str] = set()
        self._moment = 0  # of the last start, in milliseconds since 1970
        self._entries: dict[
            tuple[str, str], CatalogEntry
        ] = {}  # of ready versions, which do not change
        dbos_internals.refuse_pickle()
        dbos_internals.connect_alone()
        dbos_internals.record_any_text()
        self._client = DBOSClient(
            system_database_url=own_url(self._database),
            dbos_system_schema=self._database.dbos_schema,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            system_database_pool_size=_THREADS,
            retry_connection_errors=False,
            lazy=True,
        )

    async def aclose(self) -> None:
        """Close all connections at once; a call into dbos that has been given up closes its own when it returns."""
        await super().aclose()
        self._client.destroy()

    # The catalog

    async def catalog(self, query: str | None = None) -> Catalog:
        """The workflows of the newest version, and the templates, in whose name or summary `query` is."""
        version = await self._newest()
        rows = await self._fetch("catalog", version=version)
        entries = [CatalogEntry.model_validate(row) for row in rows]
        templates = catalog.templates()
        if query:
            word = query.lower()
            entries = [one for one in entries if word in f"{one.name} {one.summary}".lower()]
            templates = [one for one in templates if word in f"{one.name} {one.use_when}".lower()]
        return Catalog(workflows=entries, templates=templates, version=version)

    async def _newest(self) -> str:
        """The version of the files as they are now, with its catalog published."""
        async with self._reading:
            snapshot = await self._in_thread(self._folder.snapshot)
        if snapshot.version not in self._ready:
            async with self._session.connection() as connection:
                await versions.save(connection, snapshot)
            await self._until_published(snapshot.version)
            self._ready.add(snapshot.version)
        return snapshot.version

    async def _until_published(self, version: str) -> None:
        stage, reason, said = "", None, None
        with anyio.move_on_after(_CATALOG_SECONDS):
            while stage != "failed":
                async with self._session.connection() as connection:
                    stage, reason = await versions.state(connection, version) or ("", None)
                if stage == "ready":
                    return
                if stage == "saved" and reason and reason != said:
                    self._progress(reason)
                    said = reason
                await anyio.sleep(_POLL_SECONDS)
        if stage == "saved" and reason:
            raise WorkflowUnavailable(
                f"Version {version} of the code is being prepared: {reason}",
                hint="Call again in a few seconds; the preparation goes on. Nothing was started.",
            )
        raise WorkflowUnavailable(
            f"No worker could load version {version} of the code:\n{reason or _STILL_LOADING}",
            hint="Call server_status (or `durable-workflows status`) for the folder of the logs. Nothing was started.",
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
                f"There is no workflow {name!r}."
                + wording.closest(name, [row["name"] for row in known])
            )
        entry = CatalogEntry.model_validate(rows[0])
        if entry.error is not None:
            raise WorkflowUnavailable(
                f"{name} cannot be started: its file {entry.source} does not load:\n{entry.error}"
            )
        if entry.not_startable is not None:
            raise WorkflowUnavailable(
                f"{name} cannot be started. {entry.not_startable}",
                hint=f"Write a workflow function in {entry.source} that calls the method, and start that. Nothing was started.",
            )
        return entry

    # Starting, and what follows

    async def start(self, request: StartRequest, *, session: str | None = None) -> Started:
        """Start a run on the newest version of the code, for a session. With the workflow_id of an earlier run, that run is returned.

        Raises:
            UsageError: what is wrong with the request; nothing was changed.
            DatabaseUnavailable: the database does not answer.
        """
        return (await self.start_all([request], session=session))[0]

    async def start_all(
        self, requests: Sequence[StartRequest], *, session: str | None = None
    ) -> list[Started]:
        """Start several runs, in their order; errors as for `start`. Either all start or none does."""
        version = await self._newest()
        queues = await self._queue_names() if any(one.queue for one in requests) else ()
        ids: list[str] = []
        rows: dict[str, Mapping[str, Any]] = {}
        for place, request in enumerate(requests):
            with _of_batch(place, len(requests)):
                await self._check(request, version, queues)
                workflow_id = request.workflow_id or str(uuid.uuid4())
                if workflow_id not in rows:
                    rows[workflow_id] = self._row(workflow_id, request, version, session)
                _check_workflow(workflow_id, rows[workflow_id]["name"], request)
                ids.append(workflow_id)
        runs = await self._start_rows(list(rows.values()))
        for place, (workflow_id, request) in enumerate(zip(ids, requests, strict=True)):
            if workflow_id in runs:
                with _of_batch(place, len(requests)):
                    _check_workflow(workflow_id, runs[workflow_id]["name"], request)
        return [_started(runs[one], again=one in ids[:place]) for place, one in enumerate(ids)]

    async def _check(self, request: StartRequest, version: str, queues: Collection[str]) -> None:
        arguments.check_texts(name=request.name, queue=request.queue)
        arguments.check_size(dict(request.args), "arguments")
        entry = await self._entry(request.name, version)
        arguments.check(entry, request.args)
        arguments.check_options(request)
        if request.queue is not None and request.queue not in queues:
            raise InvalidArguments(
                f"There is no queue {request.queue!r}."
                + wording.closest(request.queue, queues)
                + " Nothing was started.",
                hint=f"Use one of {', '.join(queues)}, omit `queue` to use {QUEUE!r}, or register another one in a workflow.",
            )

    async def _queue_names(self) -> list[str]:
        return [row["name"] for row in await self._fetch("queue_names")]

    def _row(
        self, workflow_id: str, request: StartRequest, version: str, session: str | None
    ) -> Mapping[str, Any]:
        options: EnqueueOptions = {
            "workflow_name": request.name,
            "queue_name": request.queue or QUEUE,
            "app_version": version,
            "workflow_id": workflow_id,
        }
        if session is not None:
            options["attributes"] = {"session": session}
        if request.delay_seconds is not None:
            options["delay_seconds"] = request.delay_seconds
        if request.timeout_seconds is not None:
            options["workflow_timeout"] = request.timeout_seconds
        if request.priority is not None:
            options["priority"] = request.priority
        # A queue takes runs up by this time: no two have the same.
        self._moment = max(self._moment + 1, time.time_ns() // 1_000_000)
        row = dbos_internals.queued(self._client, options, request.args)
        return {**row, "created_at": self._moment, "creator_xid": str(uuid.uuid4())}

    async def _start_rows(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, tables.Row]:
        """Start all, or none if an id is that of a run of another workflow; return the runs of these ids, or only those others."""
        try:
            found = await self._fetch("start_runs", runs=json.dumps(rows))
        except DatabaseSilent as error:
            raise DatabaseSilent(_NOT_KNOWN) from error
        return {row["workflow_id"]: row for row in found}

    async def note_session(
        self, session_id: str, client: str, version: str, transport: str
    ) -> None:
        """Note that a client is connected; to be repeated every 30 seconds while it is."""
        await self._session.run(
            "session_seen",
            session_id=session_id,
            client=fitting.text(client),
            version=fitting.text(version),
            transport=transport,
            pid=os.getpid(),
            host=socket.gethostname(),
        )

    async def note_sessions_left(self, session_ids: Sequence[str]) -> None:
        """Note that these clients have gone."""
        await self._session.run("sessions_left", session_ids=list(session_ids))

    async def send(
        self, workflow_id: str, topic: str, message: JsonValue, idempotency_key: str | None = None
    ) -> Delivered:
        """Send a message to an unfinished run. With an idempotency key it arrives once, however often it is sent.

        Raises:
            UnknownWorkflowId, WorkflowFinished, MessageTooLarge, DatabaseUnavailable
            PeopleOnly: only a person may answer on this topic.
            InvalidArguments: the run waits for a message of another shape.
        """
        arguments.check_texts(topic=topic, idempotency_key=idempotency_key)
        if topic.startswith(PERSON):
            raise PeopleOnly(f"The topic {topic!r} accepts answers from people only.")
        if idempotency_key is not None:
            earlier = await self._sent_before(workflow_id, topic, message, idempotency_key)
            if earlier is not None:
                return earlier
        waits = await self._awaited(workflow_id, message)
        for wait in waits:
            if wait.topic == topic:
                message = arguments.meant(wait, message)
                arguments.check_message(wait, message)
        sent = await self._send(workflow_id, topic, message, idempotency_key or str(uuid.uuid4()))
        note = await self._not_awaited(workflow_id, topic, [wait.topic for wait in waits])
        return sent.model_copy(update={"note": note})

    async def _sent_before(
        self, workflow_id: str, topic: str, message: JsonValue, key: str
    ) -> Delivered | None:
        """What became of the message that was sent with this key; the run may have ended since."""
        rows = await self._fetch("message_of_key", workflow_id=workflow_id, key=key)
        if not rows:
            return None
        row = rows[0]
        same = (records.topic(row["topic"]), json.loads(row["message"])) == (topic, message)
        read = row["consumed_by_step"]
        received = (
            f"step {read} has received it" if read is not None else "it has not been received yet"
        )
        note = f"A message with this key was already sent: {received}. Nothing new was sent."
        if not same:
            note = f"A different message was already sent with this key: {received}. This one was not sent; give it its own key."
        return Delivered(workflow_id=workflow_id, topic=topic, delivered=same, note=note)

    async def _not_awaited(
        self, workflow_id: str, topic: str, awaited: Sequence[str]
    ) -> str | None:
        """What to say of a message for which the run does not wait now."""
        if topic in awaited:
            return None
        kept = f"{workflow_id} gets this message when it receives on {topic!r}"
        if awaited:
            return f"{kept}. Now it waits on {' and '.join(map(repr, awaited))}."
        children = await self._fetch("descendant_waiting_on", workflow_id=workflow_id, topic=topic)
        if children:
            return f"{kept}. Now {children[0]['workflow_id']}, which it started, waits on that topic: if you meant that run, send it there too."
        return f"{kept}; it does not wait for a message now."

    async def answer(
        self, wait: OpenWait, value: JsonValue, *, who: str, how: str, shown: str | None = None
    ) -> Delivered:
        """Give a run the answer of a person to what it waits for; noted is who gave it, how, when, and the text that was shown (default: the prompt).

        Raises:
            PeopleOnly: a step of a run has started this process.
            NotWaiting: the run does not wait at that step any more.
            AlreadyAnswered: somebody was quicker.
            InvalidArguments: the answer does not fit the schema.
            UnknownWorkflowId, WorkflowFinished, MessageTooLarge, DatabaseUnavailable
        """
        processes.refuse_in_worker()
        open_waits = await self._awaited(wait.workflow_id, value)
        earlier = await self._fetch("find_answer", workflow_id=wait.workflow_id, step=wait.step)
        if not earlier and wait.step not in [one.step for one in open_waits]:
            raise NotWaiting(f"{wait.workflow_id} no longer waits for {wait.topic!r}.")
        arguments.check_message(wait, value)
        rows = await self._fetch(
            "note_answer",
            workflow_id=wait.workflow_id,
            step=wait.step,
            topic=wait.topic,
            who=who,
            how=how,
            shown=fitting.json_text(
                {**wait.model_dump(mode="json"), "text": shown or wait.prompt or ""}
            ),
            answer=fitting.json_text(value),
        )
        # Noted and sent are two transactions: whoever finds a note sends what it says, once for all by its key.
        noted = rows[0]
        sent = await self._send(wait.workflow_id, wait.topic, noted["answer"], noted["message_key"])
        if (noted["who"], noted["answer"]) != (who, value):
            at = noted["answered_at"].isoformat(timespec="seconds")
            raise AlreadyAnswered(f"{noted['who']} already answered this at {at}.")
        return sent

    async def _awaited(self, workflow_id: str, message: JsonValue) -> list[OpenWait]:
        """What an unfinished run waits for."""
        arguments.check_size(message, "message")
        head = await self._head(workflow_id)
        if head["status"] not in UNFINISHED:
            said = f"{workflow_id} has ended with status {head['status']}."
            raise WorkflowFinished(said, hint=_receiving_again(workflow_id, head["status"]))
        return await self.waits(workflow_id)

    async def _send(self, workflow_id: str, topic: str, message: Any, key: str) -> Delivered:
        send = functools.partial(self._client.send, workflow_id, message, topic or None, key)
        await self._certainly(send)
        return Delivered(workflow_id=workflow_id, topic=topic, delivered=True)

    async def fork(
        self,
        workflow_id: str,
        from_step: int,
        *,
        same_version: bool = False,
        session: str | None = None,
    ) -> Forked:
        """Start a new run with the finished steps before `from_step`, on the newest version of the code or on that of the original, for a session.

        Raises:
            UnknownWorkflowId, UnknownStep, UnknownWorkflow, WorkflowUnavailable, DatabaseUnavailable
        """
        head = await self._head(workflow_id)
        last = await self.last_step(workflow_id) + 1  # the one that runs now, or would come next
        if not 1 <= from_step <= last:
            raise UnknownStep(f"{workflow_id} has no step {from_step}: give one from 1 to {last}.")
        version = head["version"] if same_version else await self._newest()
        if not same_version:
            await self._forkable(head, from_step, version)
        fork_id = str(uuid.uuid4())
        fork = functools.partial(
            self._client.fork_workflow,
            workflow_id,
            from_step,
            application_version=version,
            queue_name=QUEUE,
        )
        await self._certainly(functools.partial(dbos_internals.once, self._client, fork_id, fork))
        about = {"forked_at": from_step, "session": session}  # else it has those of the original
        await self._certainly(
            functools.partial(self._client.update_workflow_attributes, fork_id, about, merge=True)
        )
        under_way = (await self._steps_under_way([workflow_id])).get(workflow_id)
        note = f"{under_way} of {workflow_id} still runs." if under_way else None
        if head["status"] in UNFINISHED:
            note = f"{workflow_id} goes on too ({head['status']}): cancel it if only one of the two is wanted."
        taken = [one for one in await self.answers(workflow_id) if one.step < from_step]
        note = " ".join([*([note] if note else []), *map(_taken_over, taken)]) or None
        return Forked(
            workflow_id=fork_id,
            forked_from=workflow_id,
            from_step=from_step,
            version=version,
            note=note,
        )

    async def _forkable(self, head: tables.Row, from_step: int, version: str) -> None:
        """That the code as it is now has the workflow."""
        try:
            await self._entry(head["name"], version)
        except (UnknownWorkflow, WorkflowUnavailable) as error:
            if await self._loads(head):
                again = wording.call(
                    "fork", workflow_id=head["workflow_id"], from_step=from_step, version="same"
                )
                error.hint += f" Or {again}, on the code that the original runs."
            raise

    async def _loads(self, head: tables.Row) -> bool:
        """Whether the version of a run has its workflow."""
        rows = await self._fetch("catalog_entry", version=head["version"], name=head["name"])
        return bool(rows) and rows[0]["error"] is None

    async def cancel(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """Cancel runs: what runs now ends at its next step. Each is answered for; unknown ids raise before anything is changed."""
        active = await self._cancel(workflow_ids)
        targets = list(workflow_ids)
        if children:  # now that they start no more
            targets = await self._with_descendants(workflow_ids)
            active |= await self._cancel(targets)
        notes = dict.fromkeys(active, "cancelled")
        for one, step in (await self._steps_under_way(list(active))).items():
            notes[one] += f"; {step} still runs until it returns, and its result is kept"
        if not children:
            going_on = await self._descendants_in(list(active), UNFINISHED)
            for one, (number, first) in going_on.items():
                more = f"{first} goes on" if number == 1 else f"{number:,} runs go on"
                notes[one] += f"; {more} (children=true also cancels what it started)"
        left = dict.fromkeys((one for one in targets if one not in active), "it had already ended")
        return await self._changed(notes, left, workflow_ids, "had already ended")

    async def _steps_under_way(self, workflow_ids: Sequence[str]) -> dict[str, str]:
        """The steps that run now, whatever the status of their runs is."""
        rows = await self._fetch("steps_under_way", workflow_ids=list(workflow_ids))
        return {
            row["workflow_id"]: f"step {row['step']} {row['name']}"
            for row, worker in zip(rows, records.workers(rows), strict=True)
            if worker.alive
        }

    async def _descendants_in(
        self, workflow_ids: Sequence[str], statuses: Iterable[str]
    ) -> dict[str, tuple[int, str]]:
        """For each run that started such ones: how many, and one of them."""
        rows = await self._fetch(
            "descendants_in", workflow_ids=list(workflow_ids), statuses=list(statuses)
        )
        return {row["root"]: (row["runs"], row["first"]) for row in rows}

    async def _cancel(self, workflow_ids: Sequence[str]) -> set[str]:
        """Cancel those that have not ended; return which."""
        heads = await self._heads(workflow_ids)
        active = [one for one in workflow_ids if heads[one]["status"] in UNFINISHED]
        if active:
            await self._limited(functools.partial(self._client.cancel_workflows, active))
        return set(active)

    async def resume(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """Let cancelled and dead-lettered runs go on after their last finished step. Answers as `cancel`."""
        targets = await self._with_descendants(workflow_ids) if children else list(workflow_ids)
        heads = await self._heads(targets)
        able = [one for one in targets if heads[one]["status"] in STOPPED]
        busy, left = await self._busy([heads[one] for one in able])
        able = [one for one in able if one not in left]
        await self._resume([heads[one] for one in able])
        notes = dict.fromkeys(able, "resumed")
        for one, step in busy.items():
            notes[one] += f"; it goes on once {step}, which still runs from before, has returned"
        if not children:
            stopped = await self._descendants_in(able, STOPPED)
            for one, (number, first) in stopped.items():
                which = (
                    f"{first}, which it started, stays"
                    if number == 1
                    else f"{number:,} runs that it started stay"
                )
                notes[one] += (
                    f"; {which} stopped, and it takes that as their end (children=true also resumes what it started)"
                )
        other = "only cancelled and dead-lettered runs can be resumed; fork a failed one"
        left = dict.fromkeys((one for one in targets if one not in notes), other) | left
        return await self._changed(notes, left, workflow_ids, "were not stopped")

    async def _busy(self, heads: Sequence[tables.Row]) -> tuple[dict[str, str], dict[str, str]]:
        """The runs a step of which still runs: those that can begin after it, with the step, and those that cannot, with a note.

        A worker knows its own steps. Another one might take the run, and would do the step at the same time.
        """
        known = records.workers(await self._fetch("workers"))
        workers = Counter(worker.version for worker in known if worker.alive)
        shared = {head["workflow_id"] for head in heads if workers[head["version"]] > 1}
        if shared:
            await anyio.sleep(_SEEN_SECONDS)
        steps = await self._steps_under_way([head["workflow_id"] for head in heads])
        busy = {one: step for one, step in steps.items() if one not in shared}
        note = "{} still runs from before; resume it once that has returned"
        return busy, {one: note.format(step) for one, step in steps.items() if one in shared}

    async def _resume(self, heads: Sequence[tables.Row]) -> None:
        """Resume runs, in the opposite order: a run must find those going on that it waits for.

        Each goes into its queue: in a limited one, runs that wait for others must not take all places.
        """
        for queue, group in itertools.groupby(reversed(heads), lambda head: head["queue"]):
            theirs = [head["workflow_id"] for head in group]
            await self._limited(
                functools.partial(self._client.resume_workflows, theirs, queue_name=queue)
            )

    async def _changed(
        self,
        changed: dict[str, str],
        left: Mapping[str, str],
        named: Sequence[str],
        why_left: str,
    ) -> ChangedList:
        """What was said of each run, and why others were left as they were; of those that nobody named only how many."""
        said = {**left, **changed}
        notes = {one: said[one] for one in named if one in said} | changed
        heads = await self._heads(list(notes))
        unnamed = len(left.keys() - set(named))
        runs = f"{wording.counted(unnamed, 'run')} that these started"
        return ChangedList(
            workflows=[
                Changed(
                    workflow_id=one,
                    changed=one in changed,
                    status=heads[one]["status"],
                    note=note,
                )
                for one, note in notes.items()
            ],
            note=f"{runs} {why_left}." if unnamed else None,
        )

    async def _with_descendants(self, workflow_ids: Sequence[str]) -> list[str]:
        found = dict.fromkeys(workflow_ids)
        for workflow_id in workflow_ids:
            rows = await self._fetch("descendant_ids", workflow_id=workflow_id)
            found.update(dict.fromkeys(row["workflow_id"] for row in rows))
        return list(found)

    # Helpers

    async def _certainly(self, function: Callable[[], T]) -> T:
        """Call into dbos, and again if the database was lost meanwhile: nobody knows then whether it was done.

        `function` may be repeated without doing anything twice.
        """
        try:
            return await self._limited(function)
        except DatabaseSilent:
            raise
        except DatabaseUnavailable:
            await self._heads([])  # has the patience for a restart
            return await self._limited(function)

    async def _limited(self, function: Callable[[], T]) -> T:
        """Call into dbos, and give up after a time; the call itself goes on then."""
        try:
            with anyio.fail_after(reading.ANSWER_SECONDS):
                return await self._in_thread(function)
        except TimeoutError as error:
            raise DatabaseSilent(_NOT_KNOWN) from error

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Call into dbos, whose client blocks; its errors become ours."""
        try:
            return await anyio.to_thread.run_sync(
                function, limiter=self._limiter, abandon_on_cancel=True
            )
        except (
            sqlalchemy.exc.DataError
        ) as error:  # a text with NUL in it, a number beyond all bounds
            raise InvalidArguments(
                f"The database rejected this: {error.orig}. Nothing was done.",
                hint="Correct that argument and call again.",
            ) from error
        except sqlalchemy.exc.DBAPIError as error:
            logger.warning("dbos could not use the database: %s", error.orig)
            raise tables.unavailable(error.orig, self._explain) from error


def _taken_over(answer: Answer) -> str:
    """What is said of an answer that a fork takes over instead of asking."""
    question = wording.line(answer.shown, wording.NAME)
    given = wording.line(answer.answer.text, wording.NAME)
    return f"It takes over what {answer.who} answered at step {answer.step} ({question!r}: {given}) and does not ask again; a fork from step {answer.step} asks again."


def _receiving_again(workflow_id: str, status: str) -> str:
    """How a run that has ended, or one in its place, takes a message after all."""
    if status in STOPPED:
        resumed = wording.call("resume", workflow_ids=[workflow_id])
        return f"Call {resumed} to let it go on, then call again. Nothing was sent."
    found = wording.inspect(workflow_id, detail="messages")
    again = f"{wording.call('fork', workflow_id=workflow_id)[:-1]}, from_step=N)"
    return f"Call {found} to see which step received a message on which topic; then {again} from that step, and send the message to the fork. If no step received one, start a new run. Nothing was sent."


def _started(run: tables.Row, *, again: bool) -> Started:
    return Started(
        workflow_id=run["workflow_id"],
        status=run["status"],
        version=run["version"],
        existing=run["existing"] or again,
    )


def _check_workflow(workflow_id: str, name: str, request: StartRequest) -> None:
    if name != request.name:
        raise WorkflowIdTaken(
            f"{workflow_id!r} is the id of a run of {name}, not of {request.name}."
        )


@contextmanager
def _of_batch(place: int, requests: int) -> Generator[None]:
    """Say of an error in which item of a batch it is."""
    try:
        yield
    except UsageError as error:
        if requests == 1:
            raise
        none = " Nothing was started."  # which the hint says of the whole batch
        message = f"batch[{place}]: {error.message.removesuffix(none)}"
        hint = f"{error.hint.removesuffix(none)} Nothing of the batch was started."
        raise type(error)(message, hint=hint) from error

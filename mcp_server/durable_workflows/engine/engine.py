"""The façade: everything that can be done with workflows, for tools, resources and the command line alike.

SQL reads DBOS's tables, starts runs and sends messages: nothing is unpickled, and only what was asked for is loaded. dbos's client makes
all other
changes. All errors of dbos and psycopg become errors of `errors.py`.
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from pydantic import JsonValue

from durable_workflows import fitting
from durable_workflows.code.catalog import BUNDLED
from durable_workflows.engine import authoring_files
from durable_workflows.engine.calling_back import CallbackAnswers, Verdict
from durable_workflows.engine.calls import Calls
from durable_workflows.engine.carrying import Carrier, Unfinished
from durable_workflows.engine.contents import Contents
from durable_workflows.engine.deleting import Deleter
from durable_workflows.engine.forking import Forker
from durable_workflows.engine.inspecting import Pages
from durable_workflows.engine.many_forks import ManyForks
from durable_workflows.engine.messaging import Messenger
from durable_workflows.engine.moving import Mover
from durable_workflows.engine.published import Published
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rehearsing import REHEARSAL_SECONDS, Rehearser
from durable_workflows.engine.repeating import Repeats
from durable_workflows.engine.rewinding import Rewinder
from durable_workflows.engine.rows import Rows
from durable_workflows.engine.scheduling import Scheduler
from durable_workflows.engine.starting import Starter
from durable_workflows.engine.stopping import Stopper
from durable_workflows.models import (
    Catalog,
    ChangedList,
    Connection,
    Delivered,
    Exported,
    ForkChoice,
    Forked,
    ForkedList,
    ForkOptions,
    Imported,
    MovedList,
    MoveFilter,
    OpenWait,
    Pruned,
    Question,
    Rehearsal,
    Resolution,
    Rewound,
    ScheduleAction,
    ScheduleInfo,
    ScheduleRequest,
    ScheduleResult,
    Started,
    StartRequest,
    Unanswered,
    Written,
)
from durable_workflows.settings import LATEST, Settings

_AS_IT_WAS = ForkOptions()


class Engine:
    """Workflows of one project, in the database of `connection`. Close it after use (`aclose`).

    `reader` looks at the runs, `pages` tells of them in text, `contents` has everything that is in them.
    """

    def __init__(
        self, settings: Settings, connection: Connection, progress: Callable[[str], None]
    ) -> None:
        """`progress` is told about slow work before a version's code can be started."""
        self._rows = Rows(settings, connection)
        self._calls = Calls(self._rows)
        self.reader = Reader(self._rows)
        self.pages = Pages(self.reader)
        self.contents = Contents(self._rows)
        self._published = Published(self._rows, self._calls, progress)
        self._starter = Starter(self._rows, self._published)
        self._callbacks = CallbackAnswers(self._rows)
        self._messenger = Messenger(self._rows, self.reader, self._callbacks)
        self._stopper = Stopper(self._rows, self._calls, self.reader)
        repeats = Repeats(self._rows, self._published)
        self._forker = Forker(self._rows, self._published, self.reader, self._stopper, repeats)
        self._many_forks = ManyForks(self._rows, self.reader, self._forker, repeats)
        self._rewinder = Rewinder(self._rows, self.reader, repeats)
        self._deleter = Deleter(self._rows)
        self._scheduler = Scheduler(self._rows, self._calls, self._published, self._starter)
        self._rehearser = Rehearser(self._rows)
        self._mover = Mover(self._rows, self._published, self.reader, self._rehearser)
        self._carrier = Carrier(self._rows, progress)

    @property
    def project(self) -> Path:
        """The project's directory."""
        return self._rows.settings.project

    @property
    def connection(self) -> Connection:
        """How to reach the project's database."""
        return self._rows.connection

    def reconnected(self, connection: Connection) -> None:
        """Note that the same database has another supervisor."""
        self._rows.connection = connection

    async def aclose(self) -> None:
        """Close all connections at once."""
        await self._rows.aclose()
        self._calls.close()

    async def catalog(self, query: str | None = None) -> Catalog:
        """The workflows of the newest version, and the templates, with `query` in their name or summary.

        Raises:
            WorkflowUnavailable: no worker could load that version, or has not yet.
            DatabaseUnavailable: the database does not answer.
        """
        return await self._published.catalog(query)

    async def write(
        self, name: str, source: str | None, template: str | None, *, overwrite: bool
    ) -> Written:
        """Write the workflow file NAME.py, from a text or a template, and wait until a worker has loaded it.

        Raises:
            UsageError: the text or the name cannot be used; nothing was written.
            SetupError: the workflow folder cannot be written.
        """
        settings = self._rows.settings
        return await authoring_files.write(
            settings, self._published, self._rehearser, name, source, template, overwrite=overwrite
        )

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
        """Start several runs, in the given order; errors as for `start`. Either all start or none does."""
        return await self._starter.start_all(requests, session=session)

    async def send(
        self, workflow_id: str, topic: str, message: JsonValue, idempotency_key: str | None = None
    ) -> Delivered:
        """Send a message to an unfinished run. With an idempotency key it arrives once, however often it is sent.

        Raises:
            UnknownWorkflowId, WorkflowFinished, MessageTooLarge, DatabaseUnavailable
            PeopleOnly: only a person may answer on this topic.
            InvalidArguments: the run waits for a message of another shape.
        """
        return await self._messenger.send(workflow_id, topic, message, idempotency_key)

    async def call_back(
        self, token: str, value: JsonValue, idempotency_key: str | None = None
    ) -> Verdict:
        """Answer a callback with its token: `{"result": …}`, `{"error": "…"}` or `{"heartbeat": true}`. What becomes of it is returned.

        An answer counts once, for the run and for its forks that took the callback over. With an idempotency key a sender can repeat its own.

        Raises:
            InvalidArguments: the value has another form, or its result does not fit.
            MessageTooLarge, DatabaseUnavailable
        """
        return await self._callbacks.by_token(token, value, idempotency_key)

    async def answer(
        self, wait: OpenWait, value: JsonValue, *, who: str, how: str, shown: str | None = None
    ) -> Delivered:
        """Give a run a person's answer to its wait. Recorded are who gave it, how, when, and the text that was shown (default: the prompt).

        Raises:
            PeopleOnly: a step of a run has started this process.
            NotWaiting: the run no longer waits at that step.
            AlreadyAnswered: another person was quicker.
            InvalidArguments: the answer does not fit the schema.
            UnknownWorkflowId, WorkflowFinished, MessageTooLarge, DatabaseUnavailable
        """
        return await self._messenger.answer(wait, value, who=who, how=how, shown=shown)

    async def resolve_step(
        self, workflow_id: str, step: int, said: Resolution, *, who: str, how: str
    ) -> Delivered:
        """Say of a step in doubt whether it has happened: then it has that result, else it runs again. `who` says so, in the way `how`.

        Raises:
            NotInDoubt: the step is not in doubt (any more).
            PeopleOnly: only a person may say so.
            AlreadyAnswered: it was said before.
            InvalidArguments: a result of a step that has not happened.
            UnknownWorkflowId, MessageTooLarge, DatabaseUnavailable
        """
        return await self._messenger.resolve(workflow_id, step, said, who=who, how=how)

    async def questions(self, workflow_ids: Sequence[str]) -> list[Question]:
        """The present questions of these runs and their child runs to people, the oldest question first.

        If a process was killed after it noted an answer and before it sent it, the answer is sent now, and its question is left out.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        return await self._messenger.questions(workflow_ids)

    async def leave_open(
        self, wait: OpenWait, action: Unanswered, *, who: str, how: str, why: str | None = None
    ) -> None:
        """Note what a person did with a question instead of answering it: declined it, closed it, or gave a refused answer, and `why`.

        The run keeps waiting, and any person may still answer.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        await self._messenger.leave_open(wait, action, who=who, how=how, why=why)

    async def fork(
        self,
        workflow_id: str,
        from_step: int,
        *,
        same_version: bool = False,
        options: ForkOptions = _AS_IT_WAS,
        session: str | None = None,
    ) -> Forked:
        """Start a new run with the finished steps before `from_step`, on the newest version of the code or on that of the original, for a session.

        With the id of an earlier fork of the run from that step, that fork is returned.

        Raises:
            WouldRepeat: a step that happens at most once would happen again, and is not among those to `repeat`.
            InvalidArguments: other arguments do not fit. MessageTooLarge: they, or an output, are too large.
            UnknownWorkflowId, UnknownStep, UnknownWorkflow, WorkflowUnavailable, WorkflowIdTaken, DatabaseUnavailable
        """
        return await self._forker.fork(
            workflow_id, from_step, same_version=same_version, options=options, session=session
        )

    async def move_to_version(
        self,
        workflow_ids: Sequence[str] | None = None,
        chosen: MoveFilter | None = None,
        *,
        version: str = LATEST,
        dry_run: bool = True,
    ) -> MovedList:
        """Let unfinished runs, and those that they started, go on with another version of the code, if their recorded steps fit it.

        The steps are replayed there first, which executes nothing. A run that a process executes now stays, and so does one whose steps do not fit; the
        answer says why. With `dry_run` nothing is changed.

        Raises:
            InvalidArguments: neither or both of `workflow_ids` and `chosen`, or an unknown version.
            UnknownWorkflowId, WorkflowUnavailable, DatabaseUnavailable
        """
        return await self._mover.move(workflow_ids, chosen, version, dry_run=dry_run)

    async def fork_failed(
        self,
        choice: ForkChoice,
        *,
        same_version: bool = False,
        dry_run: bool = False,
        session: str | None = None,
    ) -> ForkedList:
        """Fork failed runs, each from the step that failed. A repeated call forks none twice: each fork has the id `RUN-fork-STEP`.

        The result has a verdict for each run: a run that cannot be forked does not keep the others from it. With `dry_run` it only says.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        return await self._many_forks.fork(
            choice, same_version=same_version, dry_run=dry_run, session=session
        )

    async def rewind(
        self,
        workflow_id: str,
        to_step: int,
        *,
        same_version: bool = True,
        repeat: Sequence[int] = (),
    ) -> Rewound:
        """Let the same run go again from a step, on its own code or the newest, whether it has ended or waits.

        What it had done is kept as another run, with the runs that these steps had started. A run that was rewound so before, and has not
        begun since, stays as it is.

        Raises:
            StillRunning: a worker has the run, or one that it would start again has not ended.
            WouldRepeat: a step that happens at most once would happen again, and is not among those to `repeat`.
            UnknownWorkflowId, UnknownStep, UnknownWorkflow, WorkflowUnavailable, DatabaseUnavailable
        """
        return await self._rewinder.rewind(
            workflow_id, to_step, same_version=same_version, repeat=repeat
        )

    async def cancel(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """Cancel runs: an active run ends at its next step. The result covers each run; unknown ids raise before anything is changed.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        return await self._stopper.cancel(workflow_ids, children=children)

    async def resume(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """Let cancelled and dead-lettered runs continue after their last finished step. Results and errors as for `cancel`."""
        return await self._stopper.resume(workflow_ids, children=children)

    async def delete(self, workflow_ids: Sequence[str], *, children: bool = False) -> ChangedList:
        """Delete ended runs, with their steps, messages, events and log lines. Results and errors as for `cancel`.

        With `children` the runs that they started are deleted too. A run is kept if its children are kept, or if another run needs it: its
        note says why.
        Answers of people to it are kept too.
        """
        return await self._deleter.delete(workflow_ids, children=children)

    async def prune(
        self,
        older_than: timedelta,
        *,
        status: str | None = None,
        name: str | None = None,
        keep_last: int = 0,
        dry_run: bool = False,
    ) -> Pruned:
        """Delete root runs, with all runs that they started, if none of these has changed for that long.

        `status` and `name` are those of the first run of each tree; the newest `keep_last` of each workflow are kept. Versions of the code
        without runs
        are also deleted. With `dry_run` it only counts.

        Raises:
            DatabaseUnavailable: the database does not answer; some may be deleted.
        """
        return await self._deleter.prune(
            older_than, status=status, name=name, keep_last=keep_last, dry_run=dry_run
        )

    async def schedule(
        self, action: ScheduleAction, name: str | None, given: Mapping[str, JsonValue]
    ) -> ScheduleResult:
        """List schedules, or do with one what the action says; `given` is the rest of a `ScheduleRequest`, for create.

        Raises:
            UsageError: nothing was done.
            DatabaseUnavailable: the database does not answer.
        """
        return await self._scheduler.act(action, name, given)

    async def create_schedule(self, request: ScheduleRequest) -> ScheduleResult:
        """Have a workflow started at given times. The same request again changes nothing.

        Raises:
            ScheduleTaken: there is another schedule with that name, and the request does not replace it.
            UnknownWorkflow, WorkflowUnavailable, InvalidArguments, MessageTooLarge, DatabaseUnavailable
        """
        return await self._scheduler.create(request)

    async def delete_schedule(self, name: str) -> ScheduleInfo:
        """Delete a schedule, and return how it was. The runs that it started stay.

        Raises:
            UnknownSchedule, DatabaseUnavailable
        """
        return await self._scheduler.delete(name)

    async def rehearse(
        self,
        workflow_ids: Sequence[str],
        *,
        version: str | None = None,
        shaken: bool = False,
        seconds: float = REHEARSAL_SECONDS,
    ) -> list[Rehearsal]:
        """Replay the recorded steps of runs on the newest version of the code, or on that one, without executing anything.

        The code of each run has that many seconds. `shaken`: several times, each time with another clock, hash seed, random numbers, time zone, directory and environment.

        Raises:
            UnknownWorkflowId, WorkflowUnavailable, DatabaseUnavailable
        """
        version = version or await self._published.newest()
        return await self._rehearser.rehearse(workflow_ids, version, shaken=shaken, seconds=seconds)

    async def rehearse_last(self, count: int, *, shaken: bool = False) -> list[Rehearsal]:
        """As `rehearse`, of the last so many runs of each workflow of the project's files."""
        found = await self._published.catalog()
        own = [one.name for one in found.workflows if not one.source.startswith(f"{BUNDLED}/")]
        return await self._rehearser.rehearse_last(own, found.version, count, shaken=shaken)

    async def export(
        self, workflow_id: str, path: Path, unfinished: Unfinished | None = None
    ) -> Exported:
        """Write a run, all that it started, and the code of these into a new file, as they are at one moment.

        What has not ended is cancelled here in the same moment, or goes on here, as `unfinished` says.

        Raises:
            UsageError: it has not ended, and it was not said what then; it waits for a run that is not in the file; the file exists.
            NoSpaceLeft, StateDirectoryUnusable: the file cannot be written.
            UnknownWorkflowId, DatabaseUnavailable
        """
        return await self._carrier.export(workflow_id, path, unfinished)

    async def import_run(self, path: Path) -> Imported:
        """Insert the runs of a file: all or nothing. What had not ended goes on here, with the code that is in the file.

        Raises:
            ExportDamaged: the file is not as it was written.
            WorkflowIdTaken: an id of it belongs to another run here.
            SetupError: a newer release has written it.
            NoSpaceLeft, StateDirectoryUnusable, DatabaseUnavailable
        """
        return await self._carrier.load(path)

    async def pause_schedule(self, name: str) -> ScheduleInfo:
        """Pause a schedule until it is resumed. Workers notice it within 30 seconds. A paused schedule stays paused.

        Raises:
            UnknownSchedule, DatabaseUnavailable
        """
        return await self._scheduler.pause(name)

    async def resume_schedule(self, name: str) -> ScheduleInfo:
        """Resume a paused schedule, at its next time. Workers notice it within 30 seconds. An active schedule stays active.

        Raises:
            UnknownSchedule, DatabaseUnavailable
        """
        return await self._scheduler.resume(name)

    async def run_schedule(self, name: str) -> Started:
        """Start a schedule's workflow now, on the newest version of the code, even while it is paused.

        It gets the schedule's arguments; one that workflow code made, the present time and the schedule's context.

        Raises:
            UnknownSchedule, UnknownWorkflow, WorkflowUnavailable, InvalidArguments, DatabaseUnavailable
        """
        return await self._scheduler.run(name)

    async def note_session(
        self, session_id: str, client: str, version: str, transport: str, *, tasks: bool
    ) -> None:
        """Note that a client is connected; repeat it every 30 seconds while it is.

        A client with `tasks` reports the ends of its runs itself.
        """
        await self._rows.run(
            "session_seen",
            session_id=session_id,
            client=fitting.text(client),
            version=fitting.text(version),
            transport=transport,
            tasks=tasks,
            pid=os.getpid(),
            host=socket.gethostname(),
        )

    async def note_sessions_left(self, session_ids: Sequence[str]) -> None:
        """Note that these clients have gone."""
        await self._rows.run("sessions_left", session_ids=list(session_ids))

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""dbos in a process that rehearses runs: its system database answers from the record of one run, and has no connection.

Whatever dbos would write, and whatever it would read beyond the record, ends the code of the run.
"""

import asyncio
import contextlib
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, cast

from dbos import DBOS
from dbos import _context as dbos_context
from dbos import _queue as dbos_queue
from dbos import _serialization as dbos_serialization
from dbos._sys_db import EventSetupResult, RecordedResult, WorkflowStatusInternal
from dbos._sys_db_sqlite import SQLiteSystemDatabase

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.records import Record, Step, Verdict

_AFTERWARDS_SECONDS = 1.0  # for threads and tasks that the code has left behind
_POLL_SECONDS = 0.005
_MEMORY = "sqlite:///:memory:"
_BEYOND = "Outside of its steps the code asks the database, which is not recorded."


class _NoConnection:
    """Stands for a connection: no statement can be made."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __getattr__(self, name: str) -> NoReturn:
        self._record.refuse(_BEYOND)


class _NoEngine:
    """Stands for the connections of a system database."""

    def __init__(self, database: "RecordedDatabase") -> None:
        self._database = database

    @contextlib.contextmanager
    def begin(self) -> Generator[_NoConnection]:
        """A transaction without statements."""
        yield _NoConnection(self._database.record)

    def __getattr__(self, name: str) -> NoReturn:
        self._database.record.refuse(_BEYOND)


class RecordedDatabase(SQLiteSystemDatabase):
    """The system database of a process that rehearses."""

    record: Record

    def __init__(self, serializer: dbos_serialization.Serializer) -> None:
        super().__init__(
            system_database_url=_MEMORY,
            engine_kwargs={},
            engine=None,
            schema=None,
            serializer=serializer,
            executor_id=None,
            use_listen_notify=False,
        )
        self.engine = cast("Any", _NoEngine(self))
        self.ended: str | None = None  # the status with which the run has ended
        self.error: str | None = None

    def rehearse(self, record: Record) -> None:
        """Answer from this record from now on."""
        self.record, self.ended, self.error = record, None, None

    def check_operation_execution(
        self,
        workflow_id: str,
        function_id: int,
        function_name: str,
        *,
        owner_key: str | None = None,
    ) -> RecordedResult | None:
        """The record of a step."""
        return _result(self.record.take(workflow_id, function_id, function_name))

    def _check_operation_execution_txn(
        self, workflow_id: str, function_id: int, function_name: str, conn: object
    ) -> RecordedResult | None:
        return self.check_operation_execution(workflow_id, function_id, function_name)

    def recv_setup(
        self,
        workflow_uuid: str,
        function_id: int,
        timeout_function_id: int,
        topic: str | None,
        timeout_seconds: float = 60,
    ) -> EventSetupResult:
        """The message that was received."""
        found = self.record.take(workflow_uuid, function_id, "DBOS.recv", topic)
        # The end of the wait, if it began before its message was there.
        self.record.name_at(workflow_uuid, timeout_function_id, "DBOS.sleep")
        return True, self._replay_recorded(_result(found), "DBOS.recv")

    def get_event_setup(
        self,
        target_uuid: str,
        key: str,
        timeout_seconds: float = 60,
        caller_ctx: Any = None,
    ) -> EventSetupResult:
        """The event that was found."""
        if caller_ctx is None:
            self.record.refuse(_BEYOND)
        run, step = caller_ctx["workflow_uuid"], caller_ctx["function_id"]
        found = self.record.take(run, step, "DBOS.getEvent")
        self.record.name_at(run, caller_ctx["timeout_function_id"], "DBOS.sleep")
        return True, self._replay_recorded(_result(found), "DBOS.getEvent")

    def record_sleep(
        self,
        workflow_uuid: str,
        function_id: int,
        seconds: float,
        *,
        project_completion_time: bool = False,
    ) -> float:
        """No time is left to wait."""
        self.record.take(workflow_uuid, function_id, "DBOS.sleep")
        return 0.0

    def await_workflow_result(
        self, workflow_id: str, polling_interval: float, *, fail_if_missing: bool = False
    ) -> Any:
        """The recorded result of a child."""
        found = self.record.result_of(workflow_id)
        if found is None:
            self._await_unrecorded()
        return self._replay_recorded(_result(found), "DBOS.getResult")

    async def await_workflow_result_async(
        self, workflow_id: str, polling_interval: float, *, fail_if_missing: bool = False
    ) -> Any:
        """As `await_workflow_result`."""
        return self.await_workflow_result(workflow_id, polling_interval)

    def _await_unrecorded(self) -> NoReturn:
        """The code waits for a child whose result is not recorded."""
        context = dbos_context.assert_current_dbos_context()
        run, step = context.workflow_id, context.function_id + 1
        if run != self.record.workflow_id:  # the child's, called as a function
            run, step = context.parent_workflow_id, context.parent_workflow_fid + 1
        self.record.take(run, step, "DBOS.getResult")
        self.record.refuse("The code waits for another run than the one whose result is recorded.")

    def record_get_result(
        self,
        result_workflow_id: str,
        output: str | None,
        error: str | None,
        serialization: str | None,
        ctx: dbos_context.DBOSContext | None = None,
        *,
        started_at_epoch_ms: int,
    ) -> None:
        """Compare the place of a result."""
        if ctx is None:
            ctx = dbos_context.get_local_dbos_context()
            if ctx is None or not ctx.is_workflow():
                return
            ctx.function_id += 1
        self.record.take(ctx.workflow_id, ctx.function_id, "DBOS.getResult")

    def patch(self, *, workflow_id: str, function_id: int, patch_name: str) -> bool:
        """Whether the marker is recorded. Where nothing is, the run would get it now."""
        found = self.record.name_at(workflow_id, function_id, patch_name)
        if found is None:
            self.record.take(workflow_id, function_id, patch_name)
        return found == patch_name

    def deprecate_patch(self, *, workflow_id: str, function_id: int, patch_name: str) -> bool:
        """Whether the marker is recorded."""
        return self.record.name_at(workflow_id, function_id, patch_name) == patch_name

    def get_checkpoint_name(self, *, workflow_id: str, function_id: int) -> str | None:
        """The name of what is recorded there."""
        return self.record.name_at(workflow_id, function_id, "")

    def get_workflow_status(self, workflow_uuid: str) -> WorkflowStatusInternal | None:
        """None: nobody has cancelled the run."""
        if workflow_uuid != self.record.workflow_id:
            self.record.refuse(_BEYOND)
        return None

    def update_workflow_outcome(self, workflow_id: str, status: Any, **outcome: Any) -> bool:
        """Note how the code has ended."""
        if workflow_id == self.record.workflow_id:
            self.ended, self.error = status, outcome.get("error")
        return True


class Stage:
    """dbos in this process, for rehearsals of one version's code. Make it before the files are imported."""

    def __init__(self, name: str, version: str, serializer: dbos_serialization.Serializer) -> None:
        self._dbos = DBOS(
            config={
                "name": name,
                "system_database_url": _MEMORY,
                "application_version": version,
                "serializer": serializer,
                "log_level": "CRITICAL",
            }
        )
        self._database = RecordedDatabase(serializer)

    def open(self) -> None:
        """Let the workflows run. Nothing is launched that would look for runs."""
        self._dbos._launched = True
        self._dbos._sys_db_field = self._database
        self._dbos._executor_field = ThreadPoolExecutor(max_workers=500)
        self._dbos._background_event_loop.start(self._dbos._executor_field)

    def play(self, status: WorkflowStatusInternal, record: Record, seconds: float) -> Verdict:
        """Call the run's workflow, as after a crash, and compare what it calls.

        Raises:
            TimeoutError: it takes longer than that; its code still runs.
        """
        self._database.rehearse(record)
        deadline = time.monotonic() + seconds
        try:
            handle = dbos_queue.execute_dequeued_workflow(self._dbos, status, "rehearsal")
        except Exception as error:  # noqa: BLE001 - no such workflow, or arguments that cannot be read: its reason is the answer
            return Verdict("unknown", note=f"The run cannot be called: {error}")
        future = getattr(handle, "future", None)
        if future is not None:
            with contextlib.suppress(BaseException):  # of the code: what it raises is noted
                future.result(timeout=seconds)
        while self._dbos._workflow_tasks or (future is not None and not future.done()):
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(_POLL_SECONDS)
        self._await_rest(record)
        has_ended = self._database.ended is not None
        return record.verdict(self._said() if has_ended else None, has_ended=has_ended)

    def _await_rest(self, record: Record) -> None:
        """Give other threads and tasks of the code a moment to call what is recorded; then end the tasks."""
        deadline = time.monotonic() + _AFTERWARDS_SECONDS
        while not record.is_used_up and self._has_rest() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        loop = self._dbos._background_event_loop.target_loop()
        assert loop is not None
        for task in asyncio.all_tasks(loop):
            loop.call_soon_threadsafe(task.cancel)

    def _has_rest(self) -> bool:
        loop = self._dbos._background_event_loop.target_loop()
        return loop is not None and bool(asyncio.all_tasks(loop))

    def _said(self) -> str | None:
        """The exception with which the code has ended."""
        if self._database.ended != "ERROR" or self._database.error is None:
            return None
        error = dbos_calls.error_of(self._database.error)
        return f"{type(error).__name__}: {error}"


def status_of(row: dict[str, Any]) -> WorkflowStatusInternal:
    """A run as dbos would have claimed it."""
    names = WorkflowStatusInternal.__annotations__
    blank = dict.fromkeys(names, None)
    known = {key: value for key, value in row.items() if key in names}
    return cast(
        "Any", {**blank, "priority": 0, "is_debounced": False, **known, "status": "PENDING"}
    )


def _result(step: Step) -> RecordedResult:
    return {
        "output": step.output,
        "error": step.error,
        "serialization": step.serialization,
        "child_workflow_id": step.child_workflow_id,
        "child_shard_key": None,
    }

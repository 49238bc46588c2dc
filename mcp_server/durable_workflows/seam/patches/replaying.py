# pyright: reportPrivateUsage=false
"""A replay reads the recorded steps of its run in windows. dbos looks up one after the other.

A window also brings the run's status, so a run that was cancelled ends at its next window, or at its first step that is not recorded.
"""

import threading
from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from dbos import _context as dbos_context
from dbos import _error as dbos_error
from dbos._sys_db import RecordedResult, SystemDatabase, WorkflowStatusString, db_retry

from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.patches.replacing import replace

WINDOW = 200  # steps
WINDOW_BYTES = 2_000_000  # of results; the first step of a window is read, however large it is
_TOKEN = "outer_replay"  # an attribute of the scope of a workflow: what `REPLAY` was before

_READ = """
SELECT run.status, step.function_id, step.function_name, step.output, step.error, step.serialization, step.child_workflow_id
FROM {schema}.workflow_status AS run LEFT JOIN (
    SELECT * FROM (
        SELECT *, sum(coalesce(octet_length(output), octet_length(error), 0)) OVER (
            ORDER BY function_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
        FROM (
            SELECT function_id, function_name, output, error, serialization, child_workflow_id FROM {schema}.operation_outputs
            WHERE workflow_uuid = %(run)s AND function_id >= %(step)s ORDER BY function_id LIMIT %(steps)s
        ) AS next
    ) AS measured WHERE coalesce(bytes_before, 0) <= %(bytes)s
) AS step ON true
WHERE run.workflow_uuid = %(run)s ORDER BY step.function_id
"""


class LookUp(Protocol):
    """How a recorded step is looked up."""

    def __call__(
        self,
        system_database: SystemDatabase,
        workflow_id: str,
        function_id: int,
        function_name: str,
        /,
        *,
        owner_key: str | None = None,
    ) -> RecordedResult | None:
        """What is recorded of the step; None: nothing."""
        ...


class _Step(NamedTuple):
    name: str
    result: RecordedResult


@dataclass
class Replay:
    """What one execution of a run still has to pass of what is recorded."""

    workflow_id: str
    outer: "Replay | None"  # of the run whose code this one is in
    steps: dict[int, _Step] = field(default_factory=dict[int, _Step])
    read_to: int = 0
    is_over: bool = False  # there is nothing after `read_to`
    lock: threading.Lock = field(default_factory=threading.Lock)

    def has_to_read(self, step: int) -> bool:
        return step > self.read_to and not self.is_over


REPLAY: ContextVar[Replay | None] = ContextVar("replay", default=None)


def install() -> None:
    """Change dbos for this process. To be called once, before `DBOS.launch()`."""
    by_step = SystemDatabase.check_operation_execution
    replace(SystemDatabase, check_operation_execution=looking_up_in_windows(by_step))
    _follow_executions()


def looking_up_in_windows(look_up: LookUp) -> LookUp:
    """In place of `SystemDatabase.check_operation_execution`, which `look_up` is."""

    def looked_up(
        self: SystemDatabase,
        workflow_id: str,
        function_id: int,
        function_name: str,
        *,
        owner_key: str | None = None,
    ) -> RecordedResult | None:
        replay = _replay_of(workflow_id)
        if replay is not None:
            with replay.lock:
                is_read = replay.has_to_read(function_id) and _read_on(self, replay, function_id)
                step = replay.steps.pop(function_id, None)
            if step is None and is_read:
                return None
            if step is not None and step.name == function_name:
                return step.result
        return look_up(self, workflow_id, function_id, function_name, owner_key=owner_key)

    return looked_up


def _follow_executions() -> None:
    scope = dbos_context.EnterDBOSWorkflow
    enter, leave = scope.__enter__, scope.__exit__

    def entered(self: dbos_context.EnterDBOSWorkflow) -> dbos_context.DBOSContext:
        context = enter(self)
        replay = Replay(context.workflow_id, REPLAY.get())
        setattr(self, _TOKEN, REPLAY.set(replay))
        return context

    def left(self: dbos_context.EnterDBOSWorkflow, *raised: *dbos_calls.Raised) -> Literal[False]:
        token: Token[Replay | None] = getattr(self, _TOKEN)
        REPLAY.reset(token)
        return leave(self, *raised)

    replace(scope, __enter__=entered, __exit__=left)


def _replay_of(workflow_id: str) -> Replay | None:
    replay = REPLAY.get()
    while replay is not None and replay.workflow_id != workflow_id:
        replay = replay.outer
    return replay


def _read_on(database: SystemDatabase, replay: Replay, step: int) -> bool:
    """Read the window that begins with a step; return whether the run is there."""
    rows = _read(database, replay.workflow_id, step)
    found = {row[1]: _step(row) for row in rows if row[1] is not None}
    replay.steps |= found
    replay.read_to = max(found, default=step)
    replay.is_over = not found
    return bool(rows)


def _step(row: statements.Row) -> _Step:
    _, _, name, output, error, serialization, child = row
    return _Step(
        name,
        {
            "output": output,
            "error": error,
            "serialization": serialization,
            "child_workflow_id": child,
            "child_shard_key": None,
        },
    )


@db_retry()
def _read(database: SystemDatabase, workflow_id: str, step: int) -> Sequence[statements.Row]:
    values = {"run": workflow_id, "step": step, "steps": WINDOW, "bytes": WINDOW_BYTES}
    rows = statements.run(database, _READ, values)
    if rows and rows[0][0] == WorkflowStatusString.CANCELLED.value:
        raise dbos_error.DBOSWorkflowCancelledError(
            f"Workflow {workflow_id} is cancelled. Aborting function."
        )
    return rows

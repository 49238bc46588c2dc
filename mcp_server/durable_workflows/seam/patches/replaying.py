"""A replay reads the recorded steps of its run in windows. dbos looks them up one by one.

The first window also tells whether there are attempts of earlier executions, so that steps with attempts need not ask.
A window also brings the run's status and owner, so a run that is cancelled, or that another process has taken over, ends at its next window,
or at its first step that is not recorded.
"""

from collections.abc import Sequence
from typing import Protocol

from dbos import _error as dbos_error
from dbos._sys_db import RecordedResult, SystemDatabase, db_retry

from durable_workflows.seam import statements
from durable_workflows.seam.patches import bodies, step_statements
from durable_workflows.seam.patches.replacing import replace

WINDOW = 200  # steps
WINDOW_BYTES = 2_000_000  # of results; the first step of a window is read at any size

_AFTER_A_WAIT = (
    " The run had waited, was taken out of memory, and was replayed from its beginning. Put what differs into a step, or keep the workflow in memory"
    " with @does_not_park; then fork the run from step {step}."
)
_READ = """
SELECT run.status, run.owner_xid, EXISTS (SELECT FROM {own}.attempts WHERE workflow_id = %(run)s), step.function_id, step.function_name, step.output, step.error, step.serialization, step.child_workflow_id
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
    """Looks up a recorded step."""

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
        """The record of the step; None: there is none."""
        ...


def install(schema: str) -> None:
    """Change dbos for this process; `schema` has our own tables. Call it once, before `DBOS.launch()`."""
    by_step = SystemDatabase.check_operation_execution
    replace(SystemDatabase, check_operation_execution=looking_up_in_windows(by_step, schema))


def looking_up_in_windows(look_up: LookUp, schema: str) -> LookUp:
    """Replaces `SystemDatabase.check_operation_execution`, which is `look_up`."""
    statement = _READ.replace("{own}", statements.quoted(schema))

    def looked_up(
        self: SystemDatabase,
        workflow_id: str,
        function_id: int,
        function_name: str,
        *,
        owner_key: str | None = None,
    ) -> RecordedResult | None:
        body = bodies.of_run(workflow_id)
        if body is not None:
            recorded = body.recorded
            with recorded.lock:
                has_to_read = function_id > recorded.read_to and not recorded.is_over
                is_read = has_to_read and _read_on(
                    self, statement, workflow_id, recorded, function_id
                )
                step = recorded.steps.pop(function_id, None)
            if step is None and is_read:
                return None
            if step is not None and step.name == function_name:
                return step.result
        try:
            return look_up(self, workflow_id, function_id, function_name, owner_key=owner_key)
        except dbos_error.DBOSUnexpectedStepError as error:
            if body is not None and body.muted_below:
                error.message += _AFTER_A_WAIT.format(step=function_id)
            raise

    return looked_up


def _read_on(
    database: SystemDatabase,
    statement: str,
    workflow_id: str,
    recorded: bodies.Recorded,
    step: int,
) -> bool:
    """Read the window that begins with a step; return whether the run exists."""
    rows = _read(database, statement, workflow_id, step)
    found = {
        number: bodies.RecordedStep(name, step_statements.as_recorded(*rest))
        for _, _, _, number, name, *rest in rows
        if number is not None
    }
    recorded.steps |= found
    recorded.read_to = max(found, default=step)
    recorded.is_over = not found
    recorded.has_attempts = any(row[2] for row in rows)
    return bool(rows)


@db_retry()
def _read(
    database: SystemDatabase, statement: str, workflow_id: str, step: int
) -> Sequence[statements.Row]:
    values = {"run": workflow_id, "step": step, "steps": WINDOW, "bytes": WINDOW_BYTES}
    rows = statements.run(database, statement, values)
    if rows:
        status, owner, *_ = rows[0]
        step_statements.refuse_cancelled(workflow_id, status)
        step_statements.refuse_others(workflow_id, owner)
    return rows

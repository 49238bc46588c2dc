# pyright: reportPrivateUsage=false
"""A step is looked up in one statement and recorded in another. dbos uses a transaction of two statements for each.

So a step costs two round trips to the database instead of eight. The rows afterwards and the errors raised are the same as those of dbos's
own code: `tests/test_step_statements.py` compares the two.
"""

import time
from collections.abc import Sequence

from dbos import _context as dbos_context
from dbos import _error as dbos_error
from dbos._sys_db import (
    OperationResultInternal,
    RecordedResult,
    SystemDatabase,
    WorkflowStatusString,
    db_retry,
)

from durable_workflows.seam import statements
from durable_workflows.seam.patches.replacing import replace

Values = dict[str, str | int | None]

_LOOK_UP = """
SELECT run.status, step.function_name, step.output, step.error, step.serialization, step.child_workflow_id
FROM {schema}.workflow_status AS run
LEFT JOIN {schema}.operation_outputs AS step ON step.workflow_uuid = run.workflow_uuid AND step.function_id = %(step)s
WHERE run.workflow_uuid = %(run)s
"""
# The lock on the run's row lasts until the step is written: no other process can take over the run in between.
_OWNED = """
WITH owned AS (
    SELECT 1 FROM {schema}.workflow_status WHERE workflow_uuid = %(run)s AND owner_xid = %(owner)s FOR NO KEY UPDATE
)
"""
_RECORD = """
INSERT INTO {schema}.operation_outputs AS step (
    workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id,
    started_at_epoch_ms, completed_at_epoch_ms, application_name, retention_timestamp
)
SELECT
    %(run)s, %(step)s::integer, %(name)s, %(output)s, %(error)s, %(serialization)s, %(child)s,
    %(began)s::bigint, %(ended)s::bigint, %(application)s, (extract(epoch FROM now()) * 1000)::bigint
{owned}
ON CONFLICT (workflow_uuid, function_id) DO UPDATE SET completed_at_epoch_ms = step.completed_at_epoch_ms
RETURNING completed_at_epoch_ms
"""
_RECORD_AS_OWNER = _OWNED + _RECORD.replace("{owned}", "FROM owned")
_RECORD_UNCHECKED = _RECORD.replace("{owned}", "")  # outside of the run's own execution


def install() -> None:
    """Change dbos for this process. Call it once, before `DBOS.launch()`."""
    replace(SystemDatabase, check_operation_execution=looked_up, record_operation_result=recorded)


@db_retry()
def looked_up(
    database: SystemDatabase,
    workflow_id: str,
    function_id: int,
    function_name: str,
    *,
    owner_key: str | None = None,
) -> RecordedResult | None:
    """Replaces `SystemDatabase.check_operation_execution`. Keys of shards, such as `owner_key`, are for databases that we do not have."""
    rows = statements.run(database, _LOOK_UP, {"run": workflow_id, "step": function_id})
    assert rows, f"Error: Workflow {workflow_id} does not exist"
    status, name, *step = rows[0]
    refuse_cancelled(workflow_id, status)
    if name is None:
        return None
    if name != function_name:
        raise dbos_error.DBOSUnexpectedStepError(
            workflow_id=workflow_id,
            step_id=function_id,
            expected_name=function_name,
            recorded_name=name,
        )
    return as_recorded(*step)


def refuse_cancelled(workflow_id: str, status: str) -> None:
    """The check of dbos before a step of a run with this status.

    Raises:
        DBOSWorkflowCancelledError: the run is cancelled.
    """
    if status == WorkflowStatusString.CANCELLED.value:
        raise dbos_error.DBOSWorkflowCancelledError(
            f"Workflow {workflow_id} is cancelled. Aborting function."
        )


def as_recorded(
    output: str | None, error: str | None, serialization: str | None, child: str | None
) -> RecordedResult:
    """The recorded result of a step, in dbos's form."""
    return {
        "output": output,
        "error": error,
        "serialization": serialization,
        "child_workflow_id": child,
        "child_shard_key": None,
    }


def recorded(
    database: SystemDatabase,
    result: OperationResultInternal,
    *,
    completed_at_epoch_ms: int | None = None,
    owner_xid: str | None = None,
    owner_key: str | None = None,
) -> None:
    """Replaces `SystemDatabase.record_operation_result`."""
    assert result["error"] is None or result["output"] is None, (
        "Only one of error or output can be set"
    )
    workflow_id, step = result["workflow_uuid"], result["function_id"]
    owner = dbos_context.current_owner_xid(workflow_id) if owner_xid is None else owner_xid
    ended = int(time.time() * 1000) if completed_at_epoch_ms is None else completed_at_epoch_ms
    values = _values(database, result, ended) | {"owner": owner}
    statement = _RECORD_UNCHECKED if owner is None else _RECORD_AS_OWNER

    @db_retry(sys_db=database)
    def write() -> Sequence[statements.Row]:
        return statements.run(database, statement, values)

    rows = write()
    if not rows:
        raise dbos_error.DBOSWorkflowConflictIDError(workflow_id)
    if rows[0][0] != ended:  # a repeated statement finds its own row
        raise dbos_error.DBOSStepNondeterminismError(workflow_id, step)


def _values(database: SystemDatabase, result: OperationResultInternal, ended: int) -> Values:
    return {
        "run": result["workflow_uuid"],
        "step": result["function_id"],
        "name": result["function_name"],
        "output": result["output"],
        "error": result["error"],
        "serialization": result["serialization"],
        "child": result["child_workflow_id"],
        "began": result["started_at_epoch_ms"],
        "ended": ended,
        "application": database.app_name,
    }

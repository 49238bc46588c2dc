# pyright: reportPrivateUsage=false
"""A step is looked up in one statement and recorded in another. dbos uses a transaction of two statements for each.

So a step costs two round trips to the database instead of eight. The rows afterwards and the errors raised are the same as those of dbos's
own code: `tests/test_step_statements.py` compares the two.
"""

import time
from collections.abc import Callable, Sequence

from dbos import _context as dbos_context
from dbos import _error as dbos_error
from dbos._sys_db import (
    OperationResultInternal,
    RecordedResult,
    SystemDatabase,
    WorkflowStatusString,
    db_retry,
)

from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.patches import labels
from durable_workflows.seam.patches.replacing import replace

Values = dict[str, str | int | None]

_LOOK_UP = """
SELECT run.status, run.owner_xid, step.function_name, step.output, step.error, step.serialization, step.child_workflow_id
FROM {schema}.workflow_status AS run
LEFT JOIN {schema}.operation_outputs AS step ON step.workflow_uuid = run.workflow_uuid AND step.function_id = %(step)s
WHERE run.workflow_uuid = %(run)s
"""
_OWNER = "SELECT owner_xid FROM {schema}.workflow_status WHERE workflow_uuid = %(run)s"
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
# For a step with a label. A repeated statement finds its own row, and that of its label.
_LABEL = """
recorded AS ({record}), labelled AS (
    INSERT INTO {own}.labels (workflow_id, function_id, scope, name) SELECT %(run)s, %(step)s::integer, %(scope)s, %(label)s FROM recorded
    ON CONFLICT (workflow_id, function_id) DO UPDATE SET scope = excluded.scope, name = excluded.name
)
SELECT completed_at_epoch_ms FROM recorded
"""
_RECORD_AS_OWNER = _OWNED + _RECORD.replace("{owned}", "FROM owned")
_RECORD_UNCHECKED = _RECORD.replace("{owned}", "")  # outside of the run's own execution
_LABELLED_AS_OWNER = (
    _OWNED + ", " + _LABEL.replace("{record}", _RECORD.replace("{owned}", "FROM owned"))
)
_LABELLED_UNCHECKED = "WITH " + _LABEL.replace("{record}", _RECORD_UNCHECKED)


def install(schema: str) -> None:
    """Change dbos for this process; `schema` has our own tables. Call it once, before `DBOS.launch()`."""
    replace(
        SystemDatabase,
        check_operation_execution=looked_up,
        record_operation_result=recording(schema),
    )


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
    status, owner, name, *step = rows[0]
    refuse_cancelled(workflow_id, status)
    if name is None:
        refuse_others(workflow_id, owner)
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


def refuse_others(workflow_id: str, owner: str | None) -> None:
    """Let no step begin in an execution that has lost its run: another process has taken it over. dbos notices when it records the step.

    Raises:
        DBOSWorkflowConflictIDError: the run belongs to another execution than the caller's.
    """
    own = dbos_context.current_owner_xid(workflow_id)
    if own is not None and own != owner:
        raise dbos_error.DBOSWorkflowConflictIDError(workflow_id)


def check_owner(workflow_id: str) -> None:
    """As `refuse_others`, of the run as it is now."""
    database = dbos_calls.system_database()
    rows = statements.certainly(database, _OWNER, {"run": workflow_id})
    refuse_others(workflow_id, rows[0][0] if rows else None)


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


def recording(schema: str) -> Callable[..., None]:
    """What replaces `SystemDatabase.record_operation_result`; `schema` has our own tables."""
    own = statements.quoted(schema)
    labelled_as_owner = _LABELLED_AS_OWNER.replace("{own}", own)
    labelled_unchecked = _LABELLED_UNCHECKED.replace("{own}", own)

    def recorded(
        database: SystemDatabase,
        result: OperationResultInternal,
        *,
        completed_at_epoch_ms: int | None = None,
        owner_xid: str | None = None,
        owner_key: str | None = None,
    ) -> None:
        assert result["error"] is None or result["output"] is None, (
            "Only one of error or output can be set"
        )
        workflow_id, step = result["workflow_uuid"], result["function_id"]
        owner = dbos_context.current_owner_xid(workflow_id) if owner_xid is None else owner_xid
        ended = int(time.time() * 1000) if completed_at_epoch_ms is None else completed_at_epoch_ms
        values = _values(database, result, ended) | {"owner": owner}
        statement = _RECORD_UNCHECKED if owner is None else _RECORD_AS_OWNER
        if label := labels.of_run(workflow_id):
            statement = labelled_unchecked if owner is None else labelled_as_owner
            values |= labels.values_of(label, step)

        @db_retry(sys_db=database)
        def write() -> Sequence[statements.Row]:
            return statements.run(database, statement, values)

        rows = write()
        if not rows:
            raise dbos_error.DBOSWorkflowConflictIDError(workflow_id)
        if rows[0][0] != ended:  # a repeated statement finds its own row
            raise dbos_error.DBOSStepNondeterminismError(workflow_id, step)

    return recorded


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

# pyright: reportPrivateUsage=false
"""Claims from a queue without limits of its own take one statement. dbos takes a transaction of three.

Afterwards the tables hold the same as after dbos's own code: `tests/test_claims.py` compares the two.
"""

import time
from collections.abc import Callable

from dbos import Queue
from dbos._sys_db import _MAX_BIGINT, DequeueStopReason, SystemDatabase

from durable_workflows.seam import statements
from durable_workflows.seam.patches.replacing import replace

# Runs without a version belong to the newest version. The last row says whether runs were skipped because another transaction has locked
# them.
_CLAIM = """
WITH newest AS (
    SELECT version_name FROM (
        (SELECT version_name, version_timestamp FROM {schema}.application_versions
        WHERE application_name = %(application)s ORDER BY application_name, version_timestamp DESC LIMIT 1)
        UNION ALL
        (SELECT version_name, version_timestamp FROM {schema}.application_versions
        WHERE application_name IS NULL ORDER BY application_name, version_timestamp DESC LIMIT 1)
    ) AS newest_of_each ORDER BY version_timestamp DESC LIMIT 1
), found AS (
    SELECT workflow_uuid, priority, created_at FROM {schema}.workflow_status AS run
    WHERE {is_wanted}
    ORDER BY priority, created_at LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE {schema}.workflow_status AS run SET
        status = 'PENDING', owner_xid = %(owner)s, application_version = %(version)s, executor_id = %(executor)s,
        application_name = %(application)s, rate_limited = false, recovery_attempts = run.recovery_attempts + 1,
        started_at_epoch_ms = (extract(epoch FROM now()) * 1000)::bigint, updated_at = (extract(epoch FROM now()) * 1000)::bigint,
        workflow_deadline_epoch_ms = CASE
            WHEN run.workflow_timeout_ms IS NULL OR run.workflow_deadline_epoch_ms IS NOT NULL THEN run.workflow_deadline_epoch_ms
            WHEN run.workflow_timeout_ms > %(latest)s::bigint - %(now)s::bigint THEN %(latest)s::bigint
            ELSE %(now)s::bigint + run.workflow_timeout_ms
        END
    FROM found WHERE run.workflow_uuid = found.workflow_uuid
    RETURNING run.workflow_uuid
)
(SELECT workflow_uuid, false FROM found JOIN claimed USING (workflow_uuid) ORDER BY priority, created_at)
UNION ALL
SELECT NULL, EXISTS (
    SELECT FROM {schema}.workflow_status AS run WHERE {is_wanted} AND workflow_uuid NOT IN (SELECT workflow_uuid FROM found)
)
"""
_IS_WANTED = """queue_name = %(queue)s AND status = 'ENQUEUED'
        AND (application_name = %(application)s OR application_name IS NULL)
        AND (application_version = %(version)s OR application_version IS NULL
            AND %(version)s = coalesce((SELECT version_name FROM newest), %(version)s))
        AND {is_ours}"""

# For suspects, the workers that may take a run: this worker apart, and any common worker.
_APART = "EXISTS (SELECT FROM {own}.suspects WHERE workflow_id = run.workflow_uuid AND executor_id = %(apart)s)"
_COMMON = "NOT EXISTS (SELECT FROM {own}.suspects WHERE workflow_id = run.workflow_uuid AND executor_id IS NOT NULL)"


def install(
    apart_for: str | None,
    schema: str,
    has_all: Callable[[str], object],
    again: Callable[[str], object],
) -> None:
    """Change dbos for this process. `queues.claim_only`, whose gate is the same condition, explains the arguments."""
    claim = SystemDatabase.start_queued_workflows
    is_ours = (_APART if apart_for else _COMMON).replace("{own}", statements.quoted(schema))
    statement = _CLAIM.replace("{is_wanted}", _IS_WANTED).replace("{is_ours}", is_ours)

    def claimed(
        self: SystemDatabase,
        queue: Queue,
        executor_id: str,
        app_version: str,
        queue_partition_key: str | None,
        local_running_count: int = 0,
        partition_local_running_count: int = 0,
        *,
        owner_xid: str | None = None,
        is_latest_version: bool | None = None,
    ) -> tuple[list[str], DequeueStopReason | None]:
        if queue_partition_key is not None or _is_limited(queue):
            return claim(
                self,
                queue,
                executor_id,
                app_version,
                queue_partition_key,
                local_running_count,
                partition_local_running_count,
                owner_xid=owner_xid,
                is_latest_version=is_latest_version,
            )
        places = queue._worker_concurrency
        most = None if places is None else places - local_running_count
        if most is not None and most <= 0:
            return [], "worker_concurrency"
        here = {"application": self.app_name, "version": app_version, "executor": executor_id}
        those = {"queue": queue.name, "owner": owner_xid, "apart": apart_for, "most": most}
        times = {"now": int(time.time() * 1000), "latest": _MAX_BIGINT}
        *rows, (_, some_are_locked) = statements.run(self, statement, here | those | times)
        if most is None or len(rows) < most:
            has_all(queue.name)
            if some_are_locked:  # nothing announces the release of these locks
                again(queue.name)
        return [workflow_id for workflow_id, _ in rows], None

    replace(SystemDatabase, start_queued_workflows=claimed)


def _is_limited(queue: Queue) -> bool:
    """Whether the queue has a limit that only the database can check: over all workers, or of a partition."""
    limits = (queue._concurrency, queue._limiter)
    return any(limit is not None for limit in limits) or queue._has_partition_limits()

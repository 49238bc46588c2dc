# pyright: reportPrivateUsage=false
"""Queues: which worker takes which runs, and what a recovery counts."""

import logging
import sys
from collections.abc import Callable, Collection
from typing import TypedDict, Unpack

import sqlalchemy
import sqlalchemy.exc
from dbos import Queue
from dbos._sys_db import SystemDatabase, db_retry
from dbos._utils import INTERNAL_QUEUE_NAME

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches import claim_statement
from durable_workflows.seam.patches.replacing import replace

logger = logging.getLogger(__name__)

Recover = Callable[[str, str], None]  # a run, and its previous executor


class _Claim(TypedDict, total=False):
    """How dbos claims the runs that it finds in a queue."""

    owner_xid: str | None
    is_latest_version: bool | None


def retry_queues() -> None:
    """Make the registration of a queue survive a short outage of the database, as all other calls of workflow code do."""
    replace(
        SystemDatabase,
        upsert_queue=db_retry()(SystemDatabase.upsert_queue),
        get_queue=db_retry()(SystemDatabase.get_queue),
    )


def claim_only(
    apart_for: str | None,
    schema: str,
    has_all: Callable[[str], object] = lambda _: None,
    again: Callable[[str], object] = lambda _: None,
) -> None:
    """Take only the runs from queues that are set apart for this executor; None: all runs that are not set apart.

    `schema` has the table `suspects`, which says which runs are set apart. A run keeps its place in its queue meanwhile. `has_all` is
    called with the name of a queue if no run was left there for want of a place here. `again` is called with a queue to look into again
    soon: a run was skipped because its row was locked.
    """
    suspects = sqlalchemy.table(
        "suspects",
        sqlalchemy.column("workflow_id"),
        sqlalchemy.column("executor_id"),
        schema=schema,
    )
    whose = suspects.c.executor_id
    apart = whose == apart_for if apart_for else whose.is_not(None)

    def gate(
        self: SystemDatabase, queue_name: str, partition_key: str | None
    ) -> list[sqlalchemy.ColumnElement[bool]]:
        run = self.tables.workflow_status.c.workflow_uuid
        found = sqlalchemy.exists().where(suspects.c.workflow_id == run, apart)
        return [found if apart_for else ~found]

    sweep = SystemDatabase.start_queued_partitioned_workflows

    def swept(
        self: SystemDatabase,
        queue: Queue,
        executor_id: str,
        app_version: str,
        max_tasks: int = sys.maxsize,
        **how: Unpack[_Claim],
    ) -> list[str]:
        """The sweep over all partitions ignores the gate."""
        with self.engine.connect() as connection:
            some = connection.execute(
                sqlalchemy.select(sqlalchemy.exists().where(whose.is_not(None)))
            ).scalar()
        claim = _partition_by_partition if apart_for or some else sweep
        return claim(self, queue, executor_id, app_version, max_tasks, **how)

    replace(SystemDatabase, _claim_gate=gate, start_queued_partitioned_workflows=swept)
    claim_statement.install(apart_for, schema, has_all, again)


def _partition_by_partition(
    system_database: SystemDatabase,
    queue: Queue,
    executor_id: str,
    app_version: str,
    max_tasks: int = sys.maxsize,
    **how: Unpack[_Claim],
) -> list[str]:
    claimed: list[str] = []
    for key in system_database.get_queue_partitions(queue.name):
        if len(claimed) >= max_tasks:
            break
        running = max((queue._worker_concurrency or 0) - max_tasks + len(claimed), 0)
        try:
            found, _ = system_database.start_queued_workflows(
                queue, executor_id, app_version, key, running, **how
            )
        except sqlalchemy.exc.DBAPIError as error:  # others have it now; the claimed runs must run
            logger.info("Partition %s of queue %s is busy: %s", key, queue.name, error.orig)
            continue
        claimed += found
    return claimed


def recover_without_counting(suspects: Collection[str], condemned: Collection[str]) -> Recover:
    """Do not count the recovery of a run as an attempt.

    DBOS counts each recovery, whatever ended the worker, and dead-letters a run with too many. Runs that are `condemned` are dead-lettered
    at once.
    Runs that are `suspects` are left to the function returned, which takes one of them up, and counts it.
    """
    counting = SystemDatabase.reenqueue_for_recovery
    left = set(suspects)

    def recovered(
        self: SystemDatabase, workflow_id: str, executor_ids: list[str], queue: str
    ) -> bool:
        if workflow_id in condemned:
            self.dead_letter_workflows([workflow_id], min_recovery_attempts=0)
        if workflow_id in left or workflow_id in condemned:
            return False
        return _reenqueue(self, workflow_id, executor_ids, queue)

    def recover_suspect(workflow_id: str, executor_id: str) -> None:
        left.discard(workflow_id)
        counting(dbos_calls.system_database(), workflow_id, [executor_id], INTERNAL_QUEUE_NAME)

    replace(SystemDatabase, reenqueue_for_recovery=recovered)
    return recover_suspect


@db_retry()
def _reenqueue(
    system_database: SystemDatabase, workflow_id: str, executor_ids: list[str], queue: str
) -> bool:
    """As `SystemDatabase.reenqueue_for_recovery`, but it gives back the attempt that DBOS counts when the run is taken up."""
    run = system_database.tables.workflow_status
    mine = (run.c.workflow_uuid == workflow_id, run.c.executor_id.in_(executor_ids))
    with system_database.engine.begin() as connection:
        done = connection.execute(
            sqlalchemy.update(run)
            .where(*mine, run.c.status == "PENDING")
            .values(
                status="ENQUEUED",
                owner_xid=None,
                started_at_epoch_ms=None,
                updated_at=system_database._now_ms_sql(),
                queue_name=sqlalchemy.func.coalesce(run.c.queue_name, queue),
                recovery_attempts=sqlalchemy.func.greatest(run.c.recovery_attempts - 1, 0),
            )
        )
    return done.rowcount > 0

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""The places for runs of this process. A thread that may have skipped a run for want of a place looks again when a place is free.

dbos reports here when an execution has given up its place. The database's hint that a run has ended comes at another time: before that, or
after other runs have ended as well.

A run has its place from its dispatch on. dbos counts it only when its thread or its task has begun: meanwhile a ring could make a queue take
more runs than `worker_concurrency` allows.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from dbos import DBOS
from dbos import _core as dbos_core
from dbos import _queue as dbos_queue
from dbos._sys_db import WorkflowStatusInternal

from durable_workflows.seam.patches.replacing import replace
from durable_workflows.seam.patches.wakeups import Doorbell

Run = tuple[str, str | None, str | None]  # its workflow_id, its queue, and the partition there
Add = Callable[
    [dbos_core.ActiveWorkflowById, str, str | None, str | None], dbos_core.ActiveWorkflowEntry
]


class Places:
    """The threads that need a place. `install` makes dbos report to it, once, before `DBOS.launch()`."""

    def __init__(self, bell: Doorbell) -> None:
        self._bell = bell
        self._lock = threading.Lock()
        self._looking: set[str] = set()
        self._dispatched: defaultdict[Run, list[dbos_core.ActiveWorkflowEntry]] = defaultdict(list)

    def install(self) -> None:
        """Change dbos for this process."""
        active = dbos_core.ActiveWorkflowById
        remove = active._remove
        add: Add = active.add

        def removed(
            self_: dbos_core.ActiveWorkflowById, key: str, bucket: dbos_core.QueueBucket
        ) -> None:
            remove(self_, key, bucket)
            self._freed()

        def added(
            self_: dbos_core.ActiveWorkflowById,
            key: str,
            queue_name: str | None = None,
            queue_partition_key: str | None = None,
        ) -> dbos_core.ActiveWorkflowEntry:
            entry = self._taken((key, queue_name, queue_partition_key))
            return entry or add(self_, key, queue_name, queue_partition_key)

        replace(active, _remove=removed, add=added)
        self._count_from_dispatch(add)

    def look(self, name: str) -> None:
        """The listener to the bell of this name looks for runs. Call it before it counts the places."""
        with self._lock:
            self._looking.add(name)

    def has_all(self, name: str) -> None:
        """It has skipped no run."""
        with self._lock:
            self._looking.discard(name)

    def _freed(self) -> None:
        with self._lock:
            looking = list(self._looking)
        for name in looking:
            self._bell.ring(name)

    def _count_from_dispatch(self, add: Add) -> None:
        """Give a run its entry at its dispatch. Its execution takes the entry over, or gives it up if it fails before that."""
        dispatch = dbos_queue.execute_dequeued_workflow
        execute = dbos_core._execute_workflow_wthread
        execute_async = dbos_core._execute_workflow_async

        def dispatched(dbos: DBOS, status: WorkflowStatusInternal, owner_xid: str) -> object:
            if status["status"] != "PENDING":  # it will not be executed
                return dispatch(dbos, status, owner_xid)
            run = _run(status)
            entry = add(dbos._active_workflows_set, *run)
            with self._lock:
                self._dispatched[run].append(entry)
            try:
                return dispatch(dbos, status, owner_xid)
            except BaseException:
                self._give_up(run)
                raise

        def executed(dbos: DBOS, status: WorkflowStatusInternal, *given: Any) -> object:
            try:
                return execute(dbos, status, *given)
            finally:
                self._give_up(_run(status))

        async def executed_async(dbos: DBOS, status: WorkflowStatusInternal, *given: Any) -> object:
            try:
                return await execute_async(dbos, status, *given)
            finally:
                self._give_up(_run(status))

        replace(dbos_queue, execute_dequeued_workflow=dispatched)
        replace(
            dbos_core, _execute_workflow_wthread=executed, _execute_workflow_async=executed_async
        )

    def _taken(self, run: Run) -> dbos_core.ActiveWorkflowEntry | None:
        with self._lock:
            entries = self._dispatched.get(run)
            if not entries:
                return None
            entry = entries.pop()
            if not entries:
                del self._dispatched[run]
            return entry

    def _give_up(self, run: Run) -> None:
        if entry := self._taken(run):
            entry.release()


def _run(status: WorkflowStatusInternal) -> Run:
    return status["workflow_uuid"], status.get("queue_name"), status.get("queue_partition_key")

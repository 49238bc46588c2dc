# pyright: reportPrivateUsage=false
"""The places for runs of this process. A thread that may have skipped a run for want of a place looks again when a place is free.

dbos reports here when an execution has given up its place. The database's hint that a run has ended comes at another time: before that, or
after other runs have ended as well.
"""

import threading

from dbos import _core as dbos_core

from durable_workflows.seam.patches.replacing import replace
from durable_workflows.seam.patches.wakeups import Doorbell


class Places:
    """The threads that need a place. `install` makes dbos report free places to it, once, before `DBOS.launch()`."""

    def __init__(self, bell: Doorbell) -> None:
        self._bell = bell
        self._lock = threading.Lock()
        self._looking: set[str] = set()

    def install(self) -> None:
        """Change dbos for this process."""
        active = dbos_core.ActiveWorkflowById
        remove = active._remove

        def removed(
            self_: dbos_core.ActiveWorkflowById, key: str, bucket: dbos_core.QueueBucket
        ) -> None:
            remove(self_, key, bucket)
            self._freed()

        replace(active, _remove=removed)

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

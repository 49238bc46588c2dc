# pyright: reportPrivateUsage=false
"""The places for runs of this process. A thread that may have left a run behind, because no place was free, looks again when one becomes free.

It is told here, by dbos, when an execution has given up its place. The hint from the database that a run has ended comes at another time: before that, or
when others have ended as well.
"""

import threading

from dbos import _core as dbos_core

from durable_workflows.seam.patches.replacing import replace
from durable_workflows.seam.patches.wakeups import Doorbell


class Places:
    """Who needs a place. `install` makes dbos tell it of those that become free, once, before `DBOS.launch()`."""

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
        """What listens to the bell by this name looks for runs. To be called before it counts the places."""
        with self._lock:
            self._looking.add(name)

    def has_all(self, name: str) -> None:
        """It has left none."""
        with self._lock:
            self._looking.discard(name)

    def _freed(self) -> None:
        with self._lock:
            looking = list(self._looking)
        for name in looking:
            self._bell.ring(name)

# pyright: reportPrivateUsage=false
"""What this process claims from queues and of parked runs; a process that is about to leave claims nothing."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from dbos._sys_db import SystemDatabase

from durable_workflows.seam.patches.replacing import replace

P = ParamSpec("P")
T = TypeVar("T")
_SECONDS = 5.0  # for a claim that is on its way


class Claims:
    """Counts the claims that are on their way. `install` makes dbos ask it, once, before `DBOS.launch()`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopped = False
        self._number = 0

    def install(self) -> None:
        """Change dbos for this process."""
        whole = SystemDatabase.start_queued_workflows
        swept = SystemDatabase.start_queued_partitioned_workflows
        replace(
            SystemDatabase,
            start_queued_workflows=self._counted(whole, lambda: ([], None)),
            start_queued_partitioned_workflows=self._counted(swept, lambda: []),
        )

    @contextmanager
    def claim(self) -> Generator[bool]:
        """Around a claim; whether it may be made."""
        with self._changed:
            allowed = not self._stopped
            self._number += allowed
        try:
            yield allowed
        finally:
            with self._changed:
                self._number -= allowed
                self._changed.notify_all()

    def stop(self) -> bool:
        """Let no further claim be made; return whether those on their way have come back. What they brought is in the database."""
        with self._changed:
            self._stopped = True
            return self._changed.wait_for(lambda: not self._number, _SECONDS)

    def go_on(self) -> None:
        """Let claims be made again."""
        with self._changed:
            self._stopped = False

    def _counted(self, claim: Callable[P, T], nothing: Callable[[], T]) -> Callable[P, T]:
        def counted(*given: P.args, **named: P.kwargs) -> T:
            with self.claim() as allowed:
                return claim(*given, **named) if allowed else nothing()

        return counted

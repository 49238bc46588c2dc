# pyright: reportPrivateUsage=false
"""Claims of this process, from queues and of parked runs.

A claim whose answer was lost is found again, and a process that is about to exit claims nothing.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from dbos import Queue
from dbos._sys_db import DequeueStopReason, SystemDatabase

from durable_workflows.seam import statements
from durable_workflows.seam.patches.replacing import replace

P = ParamSpec("P")
T = TypeVar("T")
Claim = Callable[Concatenate[SystemDatabase, Queue, P], T]

_SECONDS = 5.0  # for a claim that is in progress
_REGAIN = """
UPDATE {schema}.workflow_status SET owner_xid = %(owner)s
WHERE queue_name = %(queue)s AND status = 'PENDING' AND owner_xid = ANY(%(lost)s)
RETURNING workflow_uuid
"""


class Claims:
    """The claims of this process. `install` makes dbos report claims from queues to it, once, before `DBOS.launch()`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopped = False
        self._number = 0  # claims in progress
        self._lost: defaultdict[str, list[str]] = defaultdict(list)  # tokens, by queue

    def install(self) -> None:
        """Change dbos for this process."""
        claim = SystemDatabase.start_queued_workflows
        sweep = SystemDatabase.start_queued_partitioned_workflows

        def claimed(
            found: tuple[list[str], DequeueStopReason | None] | None, before: list[str]
        ) -> tuple[list[str], DequeueStopReason | None]:
            return (before, None) if found is None else (before + found[0], found[1])

        def swept(found: list[str] | None, before: list[str]) -> list[str]:
            return before + (found or [])

        replace(
            SystemDatabase,
            start_queued_workflows=self._watched(claim, claimed),
            start_queued_partitioned_workflows=self._watched(sweep, swept),
        )

    @contextmanager
    def claim(self) -> Generator[bool]:
        """Surrounds a claim; gives whether it may be made."""
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
        """Allow no further claim; return whether the claims in progress have come back. The claimed runs are in the database."""
        with self._changed:
            self._stopped = True
            return self._changed.wait_for(lambda: not self._number, _SECONDS)

    def go_on(self) -> None:
        """Allow claims again."""
        with self._changed:
            self._stopped = False

    def _watched(
        self, claim: Claim[P, T], joined: Callable[[T | None, list[str]], T]
    ) -> Claim[P, T]:
        """The claim; `joined` adds what was claimed before, without an answer, to its result."""

        def watched(database: SystemDatabase, queue: Queue, *given: P.args, **named: P.kwargs) -> T:
            owner = str(named.get("owner_xid"))
            with self.claim() as allowed:
                before = self._regained(database, queue.name, owner) if allowed else []
                if not allowed:
                    return joined(None, before)
                with self._noting_loss(queue.name, owner):
                    found = claim(database, queue, *given, **named)
                return joined(found, before)

        return watched

    def _regained(self, database: SystemDatabase, queue: str, owner: str) -> list[str]:
        """The runs of earlier claims of the queue whose answers were lost, now under this token."""
        lost = self._lost.pop(queue, None)
        if not lost:
            return []
        try:
            values = {"owner": owner, "queue": queue, "lost": lost}
            rows: Sequence[statements.Row] = statements.run(database, _REGAIN, values)
        except BaseException:
            self._lost[queue] += [*lost, owner]
            raise
        return [run for [run] in rows]

    @contextmanager
    def _noting_loss(self, queue: str, owner: str) -> Generator[None]:
        try:
            yield
        except BaseException:  # whatever it was: the claim may have been made
            self._lost[queue].append(owner)
            raise

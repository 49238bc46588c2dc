# pyright: reportPrivateUsage=false
"""Attempts of steps: what is kept of them, and the wait between two, in which the run may be parked."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from dbos import _context as dbos_context
from dbos import _error as dbos_error
from dbos import _logger as dbos_logger_module
from dbos import _serialization as dbos_serialization

from durable_workflows import wording
from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.offers import Offer
from durable_workflows.seam.patches import bodies, recorded_errors
from durable_workflows.seam.patches.executions import Executions
from durable_workflows.seam.patches.observing import Observer
from durable_workflows.seam.patches.parking import Parking

_SAID = 600  # characters of an error in a line
_EARLIER = """
SELECT attempt, began_at, failed_at, next_at, said, error FROM {own}.attempts
WHERE workflow_id = %(run)s AND function_id = %(step)s ORDER BY attempt
"""
# The lock on the run's row lasts until the attempt is written, as for the result of a step.
_WRITE = """
WITH owned AS (
    SELECT 1 FROM {schema}.workflow_status WHERE workflow_uuid = %(run)s AND owner_xid = %(owner)s FOR NO KEY UPDATE
)
INSERT INTO {own}.attempts (workflow_id, function_id, attempt, attempts, name, began_at, failed_at, next_at, said, error)
SELECT
    %(run)s, %(step)s::integer, %(attempt)s::integer, %(attempts)s::integer, %(name)s,
    %(began)s::timestamptz, %(failed)s::timestamptz, %(next)s::timestamptz, %(said)s, %(error)s
FROM owned
ON CONFLICT (workflow_id, function_id, attempt) DO UPDATE
SET failed_at = excluded.failed_at, next_at = excluded.next_at, said = excluded.said, error = excluded.error
RETURNING 1
"""


@dataclass(frozen=True)
class Retried:
    """A step that is tried at most so many times, in one execution of its run."""

    workflow_id: str
    step: int
    name: str
    attempts: int
    owner: str | None


class Attempt(NamedTuple):
    """An attempt, with its number from 1. Without `failed_at` it is under way, or its process has ended; without `next_at` none follows.

    `said` is its error in a line, `error` the record of it.
    """

    number: int
    began_at: datetime
    failed_at: datetime | None = None
    next_at: datetime | None = None
    said: str | None = None
    error: str | None = None


def under_way(number: int, attempts: int) -> AbstractContextManager[None]:
    """Surrounds an attempt, which is seen as one of dbos's own."""
    return dbos_context.EnterDBOSStepRetry(number - 1, attempts)


def failure(number: int, began_at: datetime, next_at: datetime | None, error: Exception) -> Attempt:
    """An attempt that has failed now."""
    said = f"{type(error).__name__}: {recorded_errors.text_of(error)}"
    serializer = dbos_calls.instance()._serializer
    record, _ = dbos_serialization.serialize_exception(error, None, serializer)
    now = datetime.now(UTC)
    return Attempt(number, began_at, now, next_at, wording.line(said, _SAID), record)


def error_of(record: str) -> Exception:
    """The error of an attempt of an earlier execution, as of a replayed step."""
    serializer = dbos_calls.instance()._serializer
    return dbos_serialization.deserialize_exception(record, None, serializer)


class Attempts:
    """The attempts of steps that this process executes. They are rows of our tables."""

    def __init__(
        self, schema: str, executions: Executions, parking: Parking, observer: Observer
    ) -> None:
        own = statements.quoted(schema)
        self._earlier = _EARLIER.replace("{own}", own)
        self._write = _WRITE.replace("{own}", own)
        self._executions = executions
        self._parking = parking
        self._observer = observer

    def has_earlier(self, step: Retried) -> bool:
        """Whether there may be attempts of earlier executions; no statement is made."""
        body = bodies.of_run(step.workflow_id)
        return body is None or body.recorded.has_attempts

    def earlier(self, step: Retried) -> list[Attempt]:
        """The attempts of earlier executions, in their order."""
        values = {"run": step.workflow_id, "step": step.step}
        rows = statements.certainly(dbos_calls.system_database(), self._earlier, values)
        return [Attempt(*row) for row in rows]

    def begin(self, step: Retried, attempt: Attempt) -> None:
        """Note an attempt after the first one before it begins.

        Raises:
            DBOSWorkflowConflictIDError: the run is cancelled, or another execution has it.
        """
        if not self._noted(step, attempt):
            raise dbos_error.DBOSWorkflowConflictIDError(step.workflow_id)

    def failed(self, step: Retried, attempt: Attempt, error: Exception) -> None:
        """Note an attempt that has failed; raises as `begin` if another one follows."""
        is_noted = self._noted(step, attempt)
        if attempt.next_at is None:
            return  # its error is the result of the step, about which dbos decides
        if not is_noted:
            raise dbos_error.DBOSWorkflowConflictIDError(step.workflow_id)
        dbos_logger_module.dbos_logger.warning(
            "Attempt %s of %s of step %s %s failed; the next one begins at %s.",
            attempt.number,
            step.attempts,
            step.step,
            step.name,
            wording.time(attempt.next_at),
            exc_info=error,
        )

    def wait(self, step: Retried, attempt: Attempt) -> None:
        """Wait until the attempt after this one begins. The run may be parked meanwhile.

        Raises:
            DBOSWorkflowConflictIDError: as for `begin`.
        """
        if seconds := self._until_next(step, attempt):
            body = bodies.of_run(step.workflow_id)
            with self._executions.watch_step(body) as watch, self._parking.aside(body):
                watch.sleep(seconds, step.step)

    async def wait_async(self, step: Retried, attempt: Attempt) -> None:
        """As `wait`."""
        if seconds := self._until_next(step, attempt):
            body = bodies.of_run(step.workflow_id)
            with self._executions.watch_step(body) as watch, self._parking.aside(body):
                await watch.sleep_async(seconds, step.step)

    def _until_next(self, step: Retried, attempt: Attempt) -> float:
        """The seconds that are left, which the observer is told; 0: none."""
        if attempt.next_at is None:  # its process ended
            return 0.0
        seconds = attempt.next_at.timestamp() - time.time()
        if seconds <= 0:
            return 0.0
        run, number = step.workflow_id, step.step
        self._observer.step_attempted(run, number, attempt.number, step.attempts)
        self._observer.step_failed(run, number, attempt.said or "", seconds)
        return seconds

    def _noted(self, step: Retried, attempt: Attempt) -> bool:
        """Write the attempt; return whether this execution has the run."""
        values = {
            "run": step.workflow_id,
            "step": step.step,
            "owner": step.owner,
            "attempts": step.attempts,
            "name": step.name,
            "attempt": attempt.number,
            "began": attempt.began_at,
            "failed": attempt.failed_at,
            "next": attempt.next_at,
            "said": attempt.said,
            "error": attempt.error,
        }
        return bool(statements.certainly(dbos_calls.system_database(), self._write, values))


offer: Offer[Attempts] = Offer("A step with `retry`")

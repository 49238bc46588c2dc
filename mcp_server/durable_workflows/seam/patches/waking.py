# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Parked runs continue: when something has come for them, or their time is over, a worker of their version claims and executes them."""

import logging
import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from dbos import _queue as dbos_queue
from dbos._utils import GlobalParams

from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.patches import bodies
from durable_workflows.seam.patches.claiming import Claims
from durable_workflows.seam.patches.parking import Parking
from durable_workflows.seam.patches.places import Places
from durable_workflows.seam.patches.wakeups import Doorbell

BELL = "\0parked"  # in place of a queue's name: rings when a run is woken
_QUIET_SECONDS = 15.0  # the longest pause between looks: a hint may be lost
_RETRY_SECONDS = 1.0
_AT_ONCE = 100
_CLAIM = """
SELECT workflow_id, muted_below
FROM {own}.claim_parked(%(version)s, %(executor)s, %(owner)s, %(apart)s, %(most)s, %(spared)s)
"""
_CLAIMED = "SELECT workflow_uuid, 0 FROM {schema}.workflow_status WHERE status = 'PENDING' AND owner_xid = %(owner)s"
# A woken run that was not claimed is due. Its row may have been locked, and nothing announces the release.
_NEXT = """
SELECT CASE WHEN EXISTS (
    SELECT FROM {own}.woken JOIN {own}.parked USING (workflow_id, version) LEFT JOIN {own}.suspects USING (workflow_id)
    WHERE version = %(version)s AND suspects.executor_id IS NOT DISTINCT FROM %(apart)s
) THEN 0 ELSE (
    SELECT extract(epoch FROM min(due_at))::double precision FROM {own}.parked WHERE version = %(version)s
) END
"""

logger = logging.getLogger(__name__)


class _Claim(NamedTuple):
    """A claim, whose answer may be lost."""

    owner: str
    is_repeated: bool = False


class Waker:
    """Claims parked runs for this process. `keep_waking` is the work of a thread, after DBOS is launched."""

    def __init__(
        self,
        parking: Parking,
        claims: Claims,
        bell: Doorbell,
        places: Places,
        schema: str,
        room: int,
        apart_for: str | None,
    ) -> None:
        """`room` gives the number of free places. With `apart_for` only the suspects that are set apart for this executor are claimed."""
        own = statements.quoted(schema)
        self._claim, self._next = _CLAIM.replace("{own}", own), _NEXT.replace("{own}", own)
        self._parking = parking
        self._claims = claims
        self._bell = bell
        self._places = places
        self._room = room
        self._apart_for = apart_for

    def keep_waking(self) -> None:
        """Claim due runs, forever."""
        heard, claim = 0, _Claim(str(uuid.uuid4()))
        while True:
            try:
                found = self._claimed(claim)
                self._execute(found)
                seconds = 0.0 if found else self._until_due()
                claim = _Claim(str(uuid.uuid4()))
            except Exception as error:  # noqa: BLE001 - of a thread that must not end
                logger.warning("Parked runs cannot be claimed: %s", error)
                claim = claim._replace(is_repeated=True)
                seconds = _RETRY_SECONDS
            if seconds:
                heard = self._bell.wait(BELL, heard, seconds)

    def _claimed(self, claim: _Claim) -> dict[str, tuple[str, int]]:
        """By run, the token of its execution, and the part of its output that is a repetition."""
        database = dbos_calls.system_database()
        rows: Sequence[statements.Row] = []
        if claim.is_repeated:
            rows = statements.run(database, _CLAIMED, {"owner": claim.owner})
        self._places.look(BELL)
        free = self._room - len(dbos_calls.instance()._active_workflows_set.activeList())
        if not rows and free > 0:
            values = {
                "version": GlobalParams.app_version,
                "executor": GlobalParams.executor_id,
                "owner": claim.owner,
                "apart": self._apart_for,
                "most": min(free, _AT_ONCE),
                "spared": self._parking.leaving(),
            }
            with self._claims.claim() as allowed:
                rows = statements.run(database, self._claim, values) if allowed else []
            if not rows:
                self._places.has_all(BELL)
        return {run: (claim.owner, below) for run, below in rows}

    def _execute(self, claimed: dict[str, tuple[str, int]]) -> None:
        if not claimed:
            return
        dbos = dbos_calls.instance()
        for status in dbos._sys_db.get_workflow_statuses(list(claimed)):
            owner, below = claimed[status["workflow_uuid"]]
            bodies.mute(status["workflow_uuid"], below)
            try:
                dbos_queue.execute_dequeued_workflow(dbos, status, owner)
            except Exception:
                logger.exception(
                    "%s cannot be executed.", status["workflow_uuid"]
                )  # as dbos's queues do

    def _until_due(self) -> float:
        """The seconds until the next look."""
        if self._parking.leaving():
            return _RETRY_SECONDS
        values = {"version": GlobalParams.app_version, "apart": self._apart_for}
        [[at]] = statements.run(dbos_calls.system_database(), self._next, values)
        left = _QUIET_SECONDS if at is None else at - time.time()
        return min(max(left, 0.0), _QUIET_SECONDS) or _RETRY_SECONDS

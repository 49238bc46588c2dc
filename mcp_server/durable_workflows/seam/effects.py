# pyright: reportPrivateUsage=false
"""Effects of steps that happen at most once: the intent before a step's first line, and the wait of a step that is in doubt."""

import asyncio
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from dbos import _error as dbos_error
from dbos._utils import LoopAwareEvent

from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.offers import Offer
from durable_workflows.seam.patches import bodies
from durable_workflows.seam.patches.bodies import Condition
from durable_workflows.seam.patches.observing import Observer
from durable_workflows.seam.patches.parking import Parking, Waiting

_ROUND_SECONDS = 2.0  # between looks of a wait in memory
# No lock: an execution that loses its run at this moment has begun, and the next one is in doubt.
_BEGIN_FIRST = """
INSERT INTO {own}.effects (workflow_id, function_id, name, attempt, person_only)
SELECT %(run)s, %(step)s::integer, %(name)s, %(attempt)s, %(person_only)s
FROM {schema}.workflow_status WHERE workflow_uuid = %(run)s AND status = 'PENDING' AND owner_xid = %(owner)s
ON CONFLICT DO NOTHING RETURNING 'begun', NULL, 0, began_at, NULL
"""
_BEGIN = """
SELECT verdict, result, looks, began_at, problem FROM {own}.begin_effect(
    %(run)s, %(step)s, %(name)s, %(owner)s, %(attempt)s, %(person_only)s, %(not_done)s, %(problem)s
)
"""
_IS_SETTLED = """
SELECT run.status <> 'PENDING' OR run.owner_xid IS DISTINCT FROM %(owner)s OR effect.happened IS NOT NULL
FROM {schema}.workflow_status AS run LEFT JOIN {own}.effects AS effect ON effect.workflow_id = run.workflow_uuid AND effect.function_id = %(step)s
WHERE run.workflow_uuid = %(run)s
"""
_ORIGIN = """
SELECT run.created_at, (
    SELECT count(*) FROM jsonb_array_elements(coalesce(run.attributes -> 'rewound', '[]')) AS to_step WHERE to_step::integer <= %(step)s
) FROM {schema}.workflow_status AS run WHERE run.workflow_uuid = %(run)s
"""


@dataclass(frozen=True)
class Effect:
    """The effect of a step, in one execution of its run; `attempt` is that execution's own token. `topic` names its doubt."""

    workflow_id: str
    step: int
    name: str
    person_only: bool
    topic: str
    owner: str | None
    attempt: str = field(default_factory=lambda: str(uuid.uuid4()))


class Standing(NamedTuple):
    """How an effect stands: it may begin now; it is in doubt; it has happened, with a result as JSON. `looks` counts look-ups that have failed."""

    verdict: Literal["begun", "doubt", "happened"]
    result: str | None
    looks: int
    began_at: datetime
    problem: str | None


class Effects:
    """The effects of steps that this process executes. The intents are rows of our tables."""

    def __init__(self, schema: str, parking: Parking, observer: Observer) -> None:
        own = statements.quoted(schema)
        self._begin_first = _BEGIN_FIRST.replace("{own}", own)
        self._begin = _BEGIN.replace("{own}", own)
        self._is_settled = _IS_SETTLED.replace("{own}", own)
        self._parking = parking
        self._observer = observer

    def begin(
        self, effect: Effect, *, not_done: bool = False, problem: str | None = None
    ) -> Standing:
        """Begin an effect. `not_done`: a look-up says that it has not happened; `problem`: why a look-up has failed.

        Raises:
            DBOSWorkflowCancelledError: the run is cancelled.
            DBOSWorkflowConflictIDError: another execution has the run.
        """
        values = {
            "run": effect.workflow_id,
            "step": effect.step,
            "name": effect.name,
            "owner": effect.owner,
            "attempt": effect.attempt,
            "person_only": effect.person_only,
            "not_done": not_done,
            "problem": problem,
        }
        database = dbos_calls.system_database()
        rows = statements.certainly(database, self._begin_first, values) or statements.certainly(
            database, self._begin, values
        )
        [[verdict, *rest]] = rows
        if verdict == "cancelled":
            said = f"Workflow {effect.workflow_id} is cancelled. Aborting function."
            raise dbos_error.DBOSWorkflowCancelledError(said)
        if verdict == "lost":
            raise dbos_error.DBOSWorkflowConflictIDError(effect.workflow_id)
        return Standing(verdict, *rest)

    def wait(self, effect: Effect, until: float | None) -> None:
        """Wait until the doubt is resolved, or until that time (seconds since 1970). The run may be parked meanwhile."""
        event = LoopAwareEvent()
        with self._waiting(effect, event, until) as waiting:
            while not (_is_over(until) or self._settled(effect)):
                event.wait(_ROUND_SECONDS)
                waiting.check()
            waiting.end()

    async def wait_async(self, effect: Effect, until: float | None) -> None:
        """As `wait`."""
        event = LoopAwareEvent()
        with self._waiting(effect, event, until) as waiting:
            while not (_is_over(until) or await asyncio.to_thread(self._settled, effect)):
                await event.wait_async(_ROUND_SECONDS)
                await waiting.check_async()
            await waiting.end_async()

    @contextmanager
    def _waiting(
        self, effect: Effect, event: LoopAwareEvent, until: float | None
    ) -> Generator[Waiting]:
        body = bodies.of_run(effect.workflow_id)
        condition = Condition("doubt", effect.workflow_id, str(effect.step))
        with (
            self._observer.waits(effect.workflow_id, effect.step, effect.topic),
            self._parking.aside(body),
            self._parking.waiting([condition], body) as waiting,
        ):
            waiting.begin(event, until, muted_below=effect.step)
            yield waiting

    def _settled(self, effect: Effect) -> bool:
        values = {"run": effect.workflow_id, "step": effect.step, "owner": effect.owner}
        rows = statements.certainly(dbos_calls.system_database(), self._is_settled, values)
        return not rows or rows[0][0]


def _is_over(until: float | None) -> bool:
    return until is not None and time.time() >= until


def origin(workflow_id: str, step: int) -> tuple[int, int]:
    """When a run was made, in milliseconds since 1970, and how often it was rewound to this step or an earlier one."""
    values = {"run": workflow_id, "step": step}
    [[made, rewinds]] = statements.certainly(dbos_calls.system_database(), _ORIGIN, values)
    return made, rewinds


offer: Offer[Effects] = Offer('A step with effect="once"')

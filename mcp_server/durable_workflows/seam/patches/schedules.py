# pyright: reportPrivateUsage=false
"""dbos's scheduler starts what schedules without code say, and no schedule keeps it from the others.

A schedule of workflow code starts its workflow with the time and a context. One without code (`planned`) starts any workflow with arguments of
its own. The id of a run tells its schedule and its time, so that each time starts one run, however many workers do so.
"""

import copy
import functools
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dbos import _dbos as dbos_module
from dbos import _scheduler
from dbos._serialization import Serializer
from dbos._sys_db import SystemDatabase, WorkflowSchedule, WorkflowStatusInternal

from durable_workflows.seam import cron, planned, queued_runs, statements
from durable_workflows.seam.patches.replacing import replace
from durable_workflows.seam.planned import Plan
from durable_workflows.tags import LABEL

logger = logging.getLogger(__name__)

_BRIEFLY = timedelta(minutes=1)  # a worker that ended is there again by then
# dbos's own, however often they are replaced.
_enqueue = _scheduler._enqueue_scheduled_workflow
_Thread = _scheduler._ScheduleThread
_IS_GONE = """
SELECT 1 FROM {own}.versions WHERE version = %(version)s AND state = 'ready' AND NOT EXISTS (
    SELECT FROM {own}.catalog WHERE catalog.version = versions.version AND name = %(name)s AND error IS NULL
)
"""

IsGone = Callable[[SystemDatabase, WorkflowStatusInternal], bool]


def install(schema: str) -> None:
    """Change dbos for this process; `schema` has our own tables. Call it once, before `DBOS.launch()`."""
    statement = _IS_GONE.replace("{own}", statements.quoted(schema))

    def is_gone(database: SystemDatabase, status: WorkflowStatusInternal) -> bool:
        about = {"version": status["app_version"], "name": status["name"]}
        return bool(statements.certainly(database, statement, about))

    replace(
        _scheduler,
        _enqueue_scheduled_workflow=functools.partial(start, is_gone),
        _ScheduleThread=_OwnThread,
    )
    replace(SystemDatabase, update_last_fired_at=_note_last(SystemDatabase.update_last_fired_at))


def start(
    is_gone: IsGone,
    database: SystemDatabase,
    workflow_name: str,
    at: datetime,
    workflow_id: str,
    schedule_name: str,
    context: object = None,
    *rest: str | None,
) -> None:
    """Start the run of a schedule for a time, as dbos's own function does; with the schedule's own arguments, if it has any.

    Nothing is started if the workflow is gone: no worker would ever take the run up.
    """
    plan = planned.plan_in(context)

    def init(status: WorkflowStatusInternal, *, creator_xid: str | None) -> None:
        if is_gone(database, status):
            logger.warning(
                "The schedule %s starts nothing: there is no workflow %s that can be started.",
                schedule_name,
                workflow_name,
            )
            return
        if plan is not None:
            _give(plan, status)
        database.init_workflow(status, creator_xid=creator_xid)

    starting = copy.copy(database)
    vars(starting)["init_workflow"] = init
    _enqueue(starting, workflow_name, at, workflow_id, schedule_name, context, *rest)


def never(_database: SystemDatabase, _status: WorkflowStatusInternal) -> bool:
    """As `is_gone` of `start`, where the workflow has been looked for before."""
    return False


def _give(plan: Plan, status: WorkflowStatusInternal) -> None:
    """Give a run the arguments of its schedule, as `start_workflow` records them."""
    status["inputs"] = queued_runs.recorded_arguments(plan.args)
    status["serialization"] = LABEL
    status["priority"] = plan.priority or 0


class _OwnThread(_Thread):
    """A schedule at work. It also starts what was missed, as its plan says: after it has begun, so that no time falls in between.

    The last time that it started a run is noted only when it has caught up: whatever ends this process before, the next one begins
    where this one did.
    """

    def __init__(self, schedule: WorkflowSchedule, serializer: Serializer) -> None:
        self._schedule = schedule
        self._catching_up = threading.Lock()
        self._has_caught_up = False
        try:
            super().__init__(schedule, serializer)
            self.catch_up()
        except Exception:  # of any kind: dbos would end the thread that looks at all schedules
            logger.exception("The schedule %s cannot be kept.", schedule["schedule_name"])
            self.signature = self.compute_signature(schedule)

    def catch_up(self) -> None:
        """Start what was missed before this schedule began to work here, if that is not done yet."""
        with self._catching_up:
            plan = planned.plan_in_text(self._schedule["context"])
            if plan is not None and not self._has_caught_up:
                _catch_up(self._schedule, plan)
            self._has_caught_up = True

    def _loop(self) -> None:
        _here.schedule = self
        super()._loop()

    def stop(self, join: bool = False) -> None:
        if hasattr(self, "_thread"):  # else it never began
            super().stop(join)


class _Here(threading.local):
    """The schedule of this thread."""

    schedule: _OwnThread | None = None


_here = _Here()


def _note_last(
    note: Callable[[SystemDatabase, str, str], None],
) -> Callable[[SystemDatabase, str, str], None]:
    """Replaces `SystemDatabase.update_last_fired_at`, which is `note`."""

    def noted(database: SystemDatabase, name: str, at: str) -> None:
        if _here.schedule is not None:
            _here.schedule.catch_up()  # an error leaves the note as it is; the next time tries again
        note(database, name, at)

    return noted


def _catch_up(schedule: WorkflowSchedule, plan: Plan) -> None:
    """Start runs for times that have passed. Those that were started have their runs already.

    Recent times are looked at again, even before the last one that is noted: a worker may have ended between two that it caught up with.
    """
    since, recent = plan.since, datetime.now(UTC) - _BRIEFLY
    if schedule["last_fired_at"]:
        since = max(since, min(recent, datetime.fromisoformat(schedule["last_fired_at"])))
    if plan.missed == "skip":
        since = max(since, recent)
    times = cron.last_times(
        schedule["schedule"],
        schedule["cron_timezone"],
        since=since,
    )
    if plan.missed == "last":
        times = [time for time in times if time > recent or time == times[-1]]
    if times:
        _scheduler.backfill_schedule(
            dbos_module._get_dbos_instance()._sys_db,
            schedule["schedule_name"],
            times[0] - timedelta(seconds=1),
            times[-1] + timedelta(seconds=1),
        )

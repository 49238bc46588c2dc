"""Schedules, which workflow code creates: pausing them, resuming them, and starting their workflows now."""

from datetime import UTC, datetime

from durable_workflows import wording
from durable_workflows.engine.calls import Calls
from durable_workflows.engine.published import Published
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import UnknownSchedule
from durable_workflows.models import ScheduleInfo, Started


class Scheduler:
    """Changes schedules."""

    def __init__(self, rows: Rows, calls: Calls, published: Published) -> None:
        self._rows = rows
        self._calls = calls
        self._published = published

    async def pause(self, name: str) -> ScheduleInfo:
        """As `Engine.pause_schedule`."""
        await self._known(name)
        await self._calls.certainly(lambda client: client.pause_schedule(name))
        return await self._known(name)

    async def resume(self, name: str) -> ScheduleInfo:
        """As `Engine.resume_schedule`."""
        await self._known(name)
        await self._calls.certainly(lambda client: client.resume_schedule(name))
        return await self._known(name)

    async def run(self, name: str) -> Started:
        """As `Engine.run_schedule`."""
        await self._known(name)
        version = await self._published.newest()
        now = datetime.now(UTC)
        workflow_id = f"sched-{name}-trigger-{now.isoformat()}"  # as dbos names such runs
        await self._calls.certainly(
            lambda client: client.run_schedule(name, workflow_id, now, version)
        )
        head = await self._rows.head(workflow_id)
        return Started(workflow_id=workflow_id, status=head["status"], version=head["version"])

    async def _known(self, name: str) -> ScheduleInfo:
        rows = await self._rows.fetch("schedule", name=name)
        if not rows:
            known = [row["name"] for row in await self._rows.fetch("schedule_names")]
            raise UnknownSchedule(f"There is no schedule {name!r}." + wording.closest(name, known))
        return ScheduleInfo.model_validate(rows[0])

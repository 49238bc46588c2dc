"""Schedules: making them without code, pausing and resuming them, starting their workflows now, and deleting them."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from durable_workflows import wording
from durable_workflows.database import tables
from durable_workflows.engine import timetable
from durable_workflows.engine.calls import Calls
from durable_workflows.engine.published import Published
from durable_workflows.engine.rows import Rows
from durable_workflows.engine.starting import Starter
from durable_workflows.errors import InvalidArguments, ScheduleTaken, UnknownSchedule
from durable_workflows.models import (
    ScheduleAction,
    ScheduleInfo,
    ScheduleRequest,
    ScheduleResult,
    Started,
    StartRequest,
)
from durable_workflows.schemas import arguments
from durable_workflows.seam.planned import Plan
from durable_workflows.settings import APPLICATION, QUEUE

_MAX_NAME = 100  # characters: the ids of its runs have it
_MAX_ARGS = 10_000  # characters of JSON: each look at the schedules reads them


class Scheduler:
    """Looks at schedules, and changes them."""

    def __init__(self, rows: Rows, calls: Calls, published: Published, starter: Starter) -> None:
        self._rows = rows
        self._calls = calls
        self._published = published
        self._starter = starter

    async def act(
        self, action: ScheduleAction, name: str | None, given: Mapping[str, JsonValue]
    ) -> ScheduleResult:
        """As `Engine.schedule`."""
        if given and action != "create":
            raise InvalidArguments(
                f"{', '.join(given)}: only for the action create. Nothing was done.",
                hint="Omit that, or use the action create.",
            )
        if name is None:
            if action != "list":
                raise InvalidArguments(
                    f"The action {action} needs the name of a schedule. Nothing was done.",
                    hint="Give `name`. Call schedule to see the schedules.",
                )
            return ScheduleResult(schedules=await self.all())
        return await self._act_on(action, name, given)

    async def _act_on(
        self, action: ScheduleAction, name: str, given: Mapping[str, JsonValue]
    ) -> ScheduleResult:
        match action:
            case "create":
                return await self.create(_request(name, given))
            case "run":
                started = await self.run(name)
                found = await self.one(name)
                return ScheduleResult(schedules=[found], workflow_id=started.workflow_id)
            case "list":
                found = await self.one(name)
            case "pause":
                found = await self.pause(name)
            case "resume":
                found = await self.resume(name)
            case "delete":
                found = await self.delete(name)
        return ScheduleResult(schedules=[found])

    async def all(self) -> list[ScheduleInfo]:
        """The schedules; errors as of `Rows.fetch`."""
        return [timetable.shown(row) for row in await timetable.rows_of(self._rows)]

    async def one(self, name: str) -> ScheduleInfo:
        """A schedule.

        Raises:
            UnknownSchedule, DatabaseUnavailable
        """
        return timetable.shown(await self._row(name))

    async def create(self, request: ScheduleRequest) -> ScheduleResult:
        """As `Engine.create_schedule`."""
        await self._check(request)
        plan = Plan(request.args, request.missed, datetime.now(UTC), request.priority)
        columns = {
            "name": request.name,
            "workflow": request.workflow,
            "cron": request.cron,
            "timezone": request.timezone,
            "queue": request.queue or QUEUE,
            "context": plan.context(),
        }
        about = {**columns, "id": str(uuid.uuid4()), "application": APPLICATION}
        new = await self._rows.change("create_schedule", **about)
        existing = False
        if not new:
            differences = _differences(await self._row(request.name), request)
            existing = not differences
            if differences:
                if not request.replace:
                    raise ScheduleTaken(
                        f"There is already a schedule {request.name!r}: {'; '.join(differences)}. Nothing was done."
                    )
                await self._rows.change("replace_schedule", **columns)
        return ScheduleResult(schedules=[await self.one(request.name)], existing=existing)

    async def _check(self, request: ScheduleRequest) -> None:
        arguments.check_texts(name=request.name, workflow=request.workflow, cron=request.cron)
        if not request.name.strip() or len(request.name) > _MAX_NAME:
            raise InvalidArguments(
                f"The name of a schedule must have 1 to {_MAX_NAME} characters, and not only spaces. Nothing was done.",
                hint="Choose a name that tells what it does, such as nightly-report.",
            )
        cron = timetable.cron()
        cron.check(request.cron)
        cron.check_zone(request.timezone)
        await self._starter.check(
            StartRequest(
                name=request.workflow,
                args=request.args,
                queue=request.queue,
                priority=request.priority,
            )
        )
        if len(wording.as_json(dict(request.args))) > _MAX_ARGS:
            raise InvalidArguments(
                f"The arguments of a schedule may have {_MAX_ARGS:,} characters of JSON at most. Nothing was done.",
                hint="Write the data to a file in the project and pass its path instead.",
            )

    async def pause(self, name: str) -> ScheduleInfo:
        """As `Engine.pause_schedule`."""
        await self._row(name)
        await self._calls.certainly(lambda client: client.pause_schedule(name))
        return await self.one(name)

    async def resume(self, name: str) -> ScheduleInfo:
        """As `Engine.resume_schedule`."""
        plan = timetable.plan_of(await self._row(name))
        if plan is None:
            await self._calls.certainly(lambda client: client.resume_schedule(name))
        else:
            now = Plan(plan.args, plan.missed, datetime.now(UTC), plan.priority)
            await self._rows.change("resume_schedule", name=name, context=now.context())
        return await self.one(name)

    async def run(self, name: str) -> Started:
        """As `Engine.run_schedule`."""
        row = await self._row(name)
        version = await self._published.newest()
        plan = timetable.plan_of(row)
        if plan is not None:
            await self._starter.check(StartRequest(name=row["workflow"], args=plan.args))
        now = datetime.now(UTC)
        workflow_id = f"sched-{name}-trigger-{now.isoformat()}"  # as dbos names such runs
        await self._calls.certainly(
            lambda client: client.run_schedule(name, workflow_id, now, version)
        )
        head = await self._rows.head(workflow_id)
        return Started(workflow_id=workflow_id, status=head["status"], version=head["version"])

    async def delete(self, name: str) -> ScheduleInfo:
        """As `Engine.delete_schedule`."""
        found = await self.one(name)
        await self._calls.certainly(lambda client: client.delete_schedule(name))
        return found

    async def _row(self, name: str) -> tables.Row:
        rows = await timetable.rows_of(self._rows, name)
        if not rows:
            known = [row["name"] for row in await self._rows.fetch("schedule_names")]
            raise UnknownSchedule(f"There is no schedule {name!r}." + wording.closest(name, known))
        return rows[0]


def _request(name: str, given: Mapping[str, JsonValue]) -> ScheduleRequest:
    missing = [one for one in ("workflow", "cron") if one not in given]
    if missing:
        raise InvalidArguments(
            f"The action create needs {' and '.join(missing)}. Nothing was done.",
            hint='Pass the workflow\'s name in `workflow`, and in `cron` when it starts, such as "0 3 * * *".',
        )
    return ScheduleRequest.model_validate({"name": name, **given})


def _differences(row: tables.Row, request: ScheduleRequest) -> list[str]:
    """What of a schedule is not as requested.

    Raises:
        ScheduleTaken: workflow code made it.
    """
    plan = timetable.plan_of(row)
    if plan is None:
        raise ScheduleTaken(
            f"Workflow code made the schedule {request.name!r}. Nothing was done.",
            hint="Choose another name, or delete that schedule first, and remove it from the code.",
        )
    pairs: dict[str, tuple[JsonValue, JsonValue]] = {
        "workflow": (row["workflow"], request.workflow),
        "cron": (row["cron"], request.cron),
        "timezone": (row["timezone"], request.timezone),
        "args": (dict(plan.args), dict(request.args)),
        "missed": (plan.missed, request.missed),
        "queue": (row["queue"], request.queue or QUEUE),
        "priority": (plan.priority, request.priority),
    }
    return [
        f"its {name} is {_short(found)}, not {_short(asked)}"
        for name, (found, asked) in pairs.items()
        if found != asked
    ]


def _short(value: JsonValue) -> str:
    return wording.short(wording.as_json(value), 200)

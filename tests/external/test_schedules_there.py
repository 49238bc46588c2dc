"""A schedule without code on a native Postgres, where a project has schemas of its own."""

from pathlib import Path

import pytest

from durable_workflows.models import ScheduleRequest
from durable_workflows.settings import Settings
from helpers import running_project, until_found
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@proves("schedule:each-time-once")
async def test_each_second_has_a_run_with_the_arguments_of_the_schedule(
    tmp_path: Path, database_url: str
) -> None:
    folder = (tmp_path / "project").resolve()
    settings = Settings(project=folder, database_url=database_url)
    async with running_project(settings, ["planned"]) as engine:
        await engine.create_schedule(
            ScheduleRequest(
                name="words",
                workflow="planned_words",
                cron="* * * * * *",
                args={"word": "there"},
                missed="all",
            )
        )

        async def started() -> list[str] | None:
            found = await engine.reader.runs(name="planned_words")
            ids = [one.workflow_id for one in found.workflows]
            return ids if len(ids) >= 3 else None

        ids = await until_found(started, "it has started three runs", seconds=60)
        result = await engine.reader.wait(ids)
        assert {str(one.output) for one in result.done} == {"there"}
        [shown] = (await engine.schedule("list", None, {})).schedules
        assert (shown.problem, shown.args) == (None, '{"word": "there"}')

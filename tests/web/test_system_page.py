"""The view of the system, in Chromium."""

from datetime import UTC, datetime

import pytest

from durable_workflows.models import ScheduleInfo
from helpers import until_found
from web.browser import Page
from web.conftest import Site, check_looks
from web.test_inbox_page import button, field

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def schedule(site: Site) -> str:
    """A schedule, whose workflow file also makes a queue."""
    await site.ended("page_set_up", "set-up", schedule="page-report", queue="page-exports")
    return "page-report"


async def schedule_of(site: Site, name: str, status: str) -> ScheduleInfo:
    """The schedule, once it has this status."""

    async def found() -> ScheduleInfo | None:
        shown = (await site.engine.reader.status()).schedules
        return next((one for one in shown if (one.name, one.status) == (name, status)), None)

    return await until_found(found, f"the schedule {name} is {status}")


async def test_a_schedule_is_paused_resumed_and_run_now(
    page: Page, site: Site, schedule: str
) -> None:
    await page.goto(site.at("system"))
    await page.click(button(f"Pause {schedule}"))
    await page.see(button(f"Resume {schedule}"))
    await schedule_of(site, schedule, "PAUSED")
    await page.click(button(f"Resume {schedule}"))
    await page.see(button(f"Pause {schedule}"))
    await schedule_of(site, schedule, "ACTIVE")
    before = datetime.now(UTC)
    await page.click(button(f"Run now {schedule}"))
    await page.sees_text("page_nightly")
    await page.see("h1")

    async def started() -> object:
        listed = await site.engine.reader.runs(name="page_nightly", since=before, limit=10)
        return listed.workflows

    assert await until_found(started, "the schedule's workflow was started")


async def test_a_schedule_is_made_where_its_workflow_is_started_and_deleted(
    page: Page, site: Site, schedule: str
) -> None:
    await page.goto(site.at("start/page_steps"))
    await page.fill(field("/count"), "1")
    await page.click("text=At given times")
    await page.fill(field("/name"), "by-form")
    await page.fill(field("/cron"), "0 3 1 1 *")
    await page.fill(field("/timezone"), "Asia/Tokyo")
    await page.click(button("Make a schedule"))
    await page.see(button("Run now by-form"))
    made = await schedule_of(site, "by-form", "ACTIVE")
    assert (made.workflow, made.args, made.timezone) == ("page_steps", '{"count": 1}', "Asia/Tokyo")
    await page.click(button("Delete by-form"))
    await page.click(button("Delete schedule"))
    await page.sees_text("by-form is deleted.")

    async def is_gone() -> bool:
        shown = (await site.engine.reader.status()).schedules
        return [one.name for one in shown] == [schedule]

    await until_found(is_gone, "it is deleted")


async def test_the_system_shows_workers_queues_and_versions(
    page: Page, site: Site, schedule: str
) -> None:
    run = await site.waits("page_confirms", "confirm-system", order="system")
    await page.goto(site.at("system"))
    await page.see('role=region[name="Workers"]')
    assert "page-exports" in await page.text('role=region[name="Queues"]')
    version = (await site.engine.reader.run(run)).version
    assert version is not None
    assert version[:10] in await page.text('role=region[name="Versions of the code"]')
    assert str(site.served.settings.project) in await page.text(".facts-list")


async def test_the_system_looks_right(page: Page, site: Site, schedule: str) -> None:
    await page.goto(site.at("system"))
    await page.see(button(f"Run now {schedule}"))
    await check_looks(page, "system")

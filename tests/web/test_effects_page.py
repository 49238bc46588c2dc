"""Steps in doubt on the page, in Chromium: a person says what has happened, and decides whether a fork does it again."""

from collections.abc import AsyncIterator

import pytest

from durable_workflows.settings import Settings
from durable_workflows.system import users
from durable_workflows.web import building
from helpers import kill_worker, running_project, until
from requirements import proves
from transports import serving
from web.browser import Page
from web.conftest import Site, check_looks

pytestmark = pytest.mark.anyio

RUNS = {"pay-1": "pays", "pay-2": "pays_in_person"}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The page of a project whose worker was killed within a step of each of `RUNS`."""
    settings = Settings(project=(tmp_path_factory.mktemp("doubts") / "bank").resolve())
    await building.page(settings)
    async with running_project(settings, ["effects"]) as engine:
        with serving(settings) as served:
            site = Site(engine, served)
            for run, workflow in RUNS.items():
                (engine.project / f"{run}.hold-after").touch()
                await site.start(f"effects_{workflow}", run, file=str(engine.project / run))
                await until((engine.project / f"{run}.held").exists, f"{run} is held")
            kill_worker(engine.project)
            for run in RUNS:
                (engine.project / f"{run}.hold-after").unlink()
            yield site


@proves("page:doubts")
@pytest.mark.parametrize("run", RUNS)
async def test_a_person_says_in_the_inbox_that_a_step_has_happened(
    page: Page, site: Site, run: str
) -> None:
    await page.goto(site.run(run))
    await page.sees_text("which is in doubt")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.sees_text("A step is in doubt")
    await page.sees_text("Find out whether it has happened.")
    assert await page.count('role=button[name="Decline …"]') == 0
    if run == "pay-1":
        await check_looks(page, "inbox-doubt")
    await page.click('role=radio[name="Yes"]')
    await page.click('role=button[name="Send answer"]')
    await page.sees_text(f"Answered: effects_{RUNS[run]} goes on.")
    assert await site.output(run) is None
    [effect] = (await site.engine.reader.run(run)).effects
    [said] = effect.decisions
    assert (said.who, said.how, said.happened) == (users.login(), "page", True)
    await page.goto(site.run(run, "?step=2"))
    await page.sees_text("at most once")
    await page.sees_text("that it has happened")


@proves("page:doubts")
async def test_a_fork_that_would_do_it_twice_asks_first(page: Page, site: Site) -> None:
    run = await site.ended("effects_pays", "pay-3", file=str(site.engine.project / "pay-3"))
    await page.goto(site.run(run, "?step=2"))
    await page.forgive_failed_requests()  # the browser notes that the server refuses something
    await page.click('role=button[name="Fork from here"]')
    await page.click('role=button[name="Fork"]')
    await page.sees_text("Do it twice?")
    await page.sees_text("which has happened")
    await page.click('role=button[name="Leave as is"]')
    assert (await site.engine.reader.run(run)).forks == []
    await page.click('role=button[name="Fork from here"]')
    await page.click('role=button[name="Fork"]')
    await page.click('role=button[name="Fork, and do it again"]')
    await page.sees_text("Forked: this is the new run.")
    [fork] = (await site.engine.reader.run(run)).forks
    assert await site.output(fork.workflow_id) == {"receipt": 1}
    paid = (site.engine.project / "pay-3").read_text(encoding="utf-8")
    assert paid.splitlines() == ["paid", "paid"]

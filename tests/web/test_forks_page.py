"""Forks with other values, and rewinds, on the page, in Chromium."""

from collections.abc import AsyncIterator

import pytest

from durable_workflows.settings import Settings
from durable_workflows.web import building
from helpers import running_project
from requirements import proves
from transports import serving
from web.browser import Page
from web.conftest import Site

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The page of a project with runs that fail until a file is there."""
    settings = Settings(project=(tmp_path_factory.mktemp("forks") / "project").resolve())
    await building.page(settings)
    async with running_project(settings, ["rewinds"]) as engine:
        with serving(settings) as served:
            yield Site(engine, served)


@proves("page:forks")
async def test_a_fork_has_the_arguments_that_the_form_was_filled_with(
    page: Page, site: Site
) -> None:
    path = site.engine.project / "there"
    path.touch()
    await site.start("rewound_try", "try-1", path="nowhere")
    await site.engine.reader.wait(["try-1"], timeout_seconds=30)
    await page.goto(site.run("try-1", "?step=2"))
    await page.click('role=button[name="Fork from here"]')
    await page.click('role=button[name="With other values …"]')
    await page.fill('role=textbox[name="path"]', str(path))
    await page.click('role=button[name="Fork"]')
    await page.sees_text("Forked: this is the new run.")
    [fork] = (await site.engine.reader.run("try-1")).forks
    assert await site.output(fork.workflow_id) == [1, "found"]


@proves("page:forks")
async def test_a_run_is_rewound_to_a_step(page: Page, site: Site) -> None:
    path = site.engine.project / "later"
    await site.start("rewound_try", "try-2", path=str(path))
    await site.engine.reader.wait(["try-2"], timeout_seconds=30)
    path.touch()
    await page.goto(site.run("try-2", "?step=2"))
    await page.click('role=button[name="Rewind to here"]')
    await page.click('role=button[name="Rewind"]')
    await page.sees_text("Rewound to step 2.")
    assert await site.output("try-2") == [1, "found"]
    await page.sees_text("try-2-rewound-1")

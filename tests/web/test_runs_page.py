"""The list of runs, in Chromium: filters, children, changes of many, keys, and 10,000 of them."""

import shutil
from collections.abc import AsyncIterator
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest

from durable_workflows.settings import Settings
from helpers import running_project, until_found
from requirements import proves
from transports import serving
from web.browser import Browser, Page
from web.conftest import HERE, Site, check_looks
from web.test_inbox_page import button
from web.test_run_page import status

pytestmark = pytest.mark.anyio

MANY = 10_000
_MANY: LiteralString = """
insert into dbos.workflow_status (
    workflow_uuid, name, status, created_at, updated_at, executor_id, application_version, application_name, queue_name, serialization, recovery_attempts
)
select 'many-' || n, 'page_steps', 'SUCCESS', created_at - n * 1000, created_at - n * 1000 + 500, executor_id, application_version, application_name,
    queue_name, serialization, 0
from dbos.workflow_status, generate_series(1, %s) as n where workflow_uuid = 'first'
"""


_COUNTED = "text=/^[0-9,]+ runs?$/"  # below the last row


def row(workflow_id: str) -> str:
    """A run's row."""
    return f'role=row >> a.row-link[href="#/run/{workflow_id}"]'


def tick(workflow_id: str) -> str:
    return f'role=checkbox[name="Select {workflow_id}"]'


async def focused(page: Page) -> str:
    """The address of the link that has the focus."""
    return await page.evaluate("document.activeElement.getAttribute('href') ?? ''")


# Which runs


async def test_filters_are_in_the_address_and_survive_a_reload(page: Page, site: Site) -> None:
    failed = await site.ended("page_order", "filter-failed", order={"amount": 3})
    done = await site.ended("page_steps", "filter-done", count=1)
    await page.goto(site.at("runs"))
    await page.see(row(done))
    await page.click("role=link[name=/^Error/]")
    await page.choose('role=combobox[name="Workflow"]', "page_order")
    await page.choose('role=combobox[name="Time"]', "1h")
    await page.see(row(done), "detached")
    await page.see(row(failed))
    address = await page.url()
    assert {"status=ERROR", "name=page_order", "since=1h"} <= set(
        address.partition("?")[2].split("&")
    )
    await page.goto(site.root)
    await page.goto(address)
    await page.see(row(failed))
    assert await page.value('role=combobox[name="Workflow"]') == "page_order"
    assert await page.count(row(done)) == 0
    await page.click('role=link[name="Clear"]')
    await page.see(row(done))


async def test_runs_are_found_by_a_text_in_what_they_were_given_and_by_who_started_them(
    page: Page, site: Site
) -> None:
    found = await site.waits("page_confirms", "found-by-text", order="needle in a haystack")
    other = await site.ended("page_steps", "not-found-by-text", count=1)
    await page.goto(site.at("runs"))
    await page.see(row(other))
    await page.press("/")
    await page.type("NEEDLE in a")
    await page.see(row(other), "detached")
    await page.see(row(found))
    await page.goto(site.at("runs?started_by=page"))
    await page.see(row(found), "detached")
    version = (await site.engine.reader.run(found)).version
    await page.goto(site.at(f"runs?version={version}&waiting=1"))
    await page.see(row(found))


async def test_children_are_folded_into_the_run_that_started_them(page: Page, site: Site) -> None:
    family = await site.ended("page_family", "folded", count=2)
    alone = await site.ended("page_steps", "childless", count=1)
    await page.goto(site.at("runs"))
    await page.see(row(alone))
    child = row(f"{family}-child-1")
    assert await page.count(child) == 0
    assert await page.count(button(f"Runs that {alone} started")) == 0
    await page.click(button(f"Runs that {family} started"))
    await page.see(child)
    await page.click(button(f"Runs that {family} started"))
    await page.see(child, "detached")
    await page.click("text=Children as rows")
    await page.see(child)
    assert "all=1" in await page.url()


async def test_runs_appear_and_change_without_a_reload(page: Page, site: Site) -> None:
    await site.ended("page_steps", "before", count=1)
    await page.goto(site.at("runs"))
    await page.see(row("before"))
    run = await site.waits("page_confirms", "appears", order="appears")
    await page.see(f'role=row >> text="{run}"')
    state = f'.vlist-row:has(a[href="#/run/{run}"]) [data-status]'
    await page.see(f'{state}:has-text("Waiting")')
    await site.engine.send(run, "confirm", True)
    await page.see(f'{state}:has-text("Success")')


# Changes of many


@proves("page:many")
async def test_many_runs_are_cancelled_resumed_and_deleted_at_once(page: Page, site: Site) -> None:
    runs = [await site.waits("page_takes_anything", f"bulk-{number}") for number in range(3)]
    kept = await site.waits("page_takes_anything", "bulk-kept")
    await page.goto(site.at("runs?name=page_takes_anything&waiting=1"))
    await page.see(row(kept))
    for run in runs:
        await page.click(tick(run))
    await page.sees_text("3 selected")
    await page.click(button("Cancel"))
    await page.click(button("Leave as is"))
    assert (await site.engine.reader.run(runs[0])).status == "PENDING"
    await page.click(button("Cancel"))
    await page.click(button("Cancel 3 runs"))
    await page.sees_text("3 runs cancelled.")
    for run in runs:
        await status(site, run, "CANCELLED")
    assert (await site.engine.reader.run(kept)).status == "PENDING"
    await page.goto(site.at("runs?name=page_takes_anything&status=CANCELLED"))
    await page.click(tick(runs[0]))
    await page.click(button("Resume"))
    await page.click(button("Resume run"))
    await page.sees_text("1 run resumed.")
    await page.see(row(runs[0]), "detached")
    await page.click(tick(runs[1]))
    await page.click(button("Delete"))
    await page.click(button("Delete run"))
    await page.sees_text("1 run deleted.")
    await page.see(row(runs[1]), "detached")


async def test_why_nothing_was_changed_is_said(page: Page, site: Site) -> None:
    run = await site.ended("page_steps", "ended-already", count=1)
    await page.goto(site.at("runs"))
    await page.click(tick(run))
    await page.click(button("Cancel"))
    await page.click(button("Cancel run"))
    await page.sees_text("Nothing was cancelled.")


# Keys


async def test_keys_lead_through_the_list_and_between_the_views(page: Page, site: Site) -> None:
    runs = [await site.ended("page_steps", f"keys-{number}", count=1) for number in range(2)]
    await page.goto(site.at("runs"))
    await page.see(row(runs[1]))
    await page.press("j")
    first = await focused(page)
    await page.press("j")
    second = await focused(page)
    assert first != second
    await page.press("k")
    assert await focused(page) == first
    await page.press("x")
    await page.sees_text("1 selected")
    await page.press("Escape")
    await page.see("text=1 selected", "detached")
    await page.press("Enter")
    assert (await page.url()).endswith(first)
    await page.press("g", "i")
    assert (await page.url()).endswith("#/inbox")
    await page.press("g", "y")
    await page.see('h1 >> text="System"')
    await page.press("?")
    await page.sees_text("Go to Inbox")
    await page.press("Escape")
    await page.see("dialog", "detached")
    await page.press("/")
    await page.press("g", "r")
    await page.see("input[type=search]")
    await page.press("/", "j")
    assert await page.value("input[type=search]") == "j", "a key in a field is a letter"


async def test_what_is_typed_as_soon_as_the_search_is_there_stays(page: Page, site: Site) -> None:
    await page.goto(site.at("system"))
    await page.see('h1 >> text="System"')
    assert await page.evaluate(TYPED_AT_ONCE) == "early"


# A person's first letter, in the moment in which the view is drawn; what is in the field two frames later.
TYPED_AT_ONCE = """new Promise((resolve) => {
  const frames = (count, then) => (count ? requestAnimationFrame(() => setTimeout(frames, 0, count - 1, then)) : then());
  new MutationObserver((_, drawing) => {
    const field = document.querySelector("input[type=search]");
    if (!field) return;
    drawing.disconnect();
    field.value = "early";
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
    frames(2, () => resolve(field.value));
  }).observe(document.body, { childList: true, subtree: true });
  location.hash = "#/runs";
})"""


async def test_the_palette_finds_views_workflows_and_runs(page: Page, site: Site) -> None:
    run = await site.waits("page_confirms", "by-palette", order="palette needle")
    await page.goto(site.at("system"))
    await page.press("Control+k")
    await page.type("palette needle")
    await page.click(f'role=option >> text="page_confirms · {run}"')
    assert (await page.url()).endswith(f"#/run/{run}")
    await page.press("Control+k")
    await page.type("start page_order_f")
    await page.see('role=option[selected] >> text="page_order_form"')
    await page.press("Enter")
    assert (await page.url()).endswith("#/start/page_order_form")


# The frame


@pytest.mark.long
async def test_a_server_that_is_away_is_a_banner_and_the_page_goes_on_when_another_one_is_there(
    browser: Browser, site: Site
) -> None:
    await site.ended("page_steps", "before-away", count=1)
    async with browser.page() as page:
        await page.forgive_failed_requests()  # the browser notes what it cannot load
        with serving(site.served.settings) as served:
            port = urlsplit(served.url).port or 0
            await page.goto(Site(site.engine, served).link())
            await page.see(_COUNTED)
        await page.sees_text("The server does not answer.")
        run = await site.ended("page_steps", "while-away", count=1)
        with serving(site.served.settings, port=port):
            await page.see("text=The server does not answer.", "detached")
            await page.see(row(run))
            await page.goto("about:blank")


async def test_the_theme_that_somebody_chooses_stays(page: Page, site: Site) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    await page.goto(site.at("runs"))
    light = await page.evaluate(background)
    await page.click('role=button[name="Theme: system. Change it"]')
    await page.click('role=button[name="Theme: light. Change it"]')
    dark = await page.evaluate(background)
    assert light != dark
    await page.goto(site.root)
    assert await page.evaluate(background) == dark


@pytest.mark.long
async def test_the_list_of_runs_looks_right(page: Page, site: Site) -> None:
    await site.ended("page_order", "looks-failed", order={"amount": 3})
    await site.ended("page_family", "looks-family", count=1)
    await site.waits("page_confirms", "looks-waits", order="looks")
    await page.goto(site.at("runs"))
    await page.click(button("Runs that looks-family started"))
    await page.see(row("looks-family-child-0"))
    await check_looks(page, "runs")
    await page.click(tick("looks-failed"))
    await page.click(button("Delete"))
    await check_looks(page, "runs-confirm")
    await page.press("Escape", "Control+k")
    await page.see(".palette-item")
    await check_looks(page, "palette")
    await page.press("Escape", "?")
    await check_looks(page, "keys")


# Many


@pytest.fixture(scope="module")
async def crowded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A project with 10,000 runs."""
    settings = Settings(project=(tmp_path_factory.mktemp("crowd") / "crowded").resolve())
    async with running_project(settings, []) as engine:
        shutil.copytree(HERE / "flows", settings.project / "workflows")
        with serving(settings) as served:
            site = Site(engine, served)
            await site.ended("page_steps", "first", count=1)
            with psycopg.connect(engine.connection.url, autocommit=True) as connection:
                connection.execute(_MANY, (MANY,))
            yield site


@proves("page:fluid")
@pytest.mark.long
async def test_ten_thousand_runs_stay_fluid(browser: Browser, crowded: Site) -> None:
    async with browser.page() as page:
        await page.goto(crowded.link())
        await page.see(row("first"))
        assert await page.evaluate(_SHOWN_AFTER) < _SHOWN_MS
        await page.evaluate(_WATCH_TASKS)

        async def at_the_end() -> bool:
            await page.scroll(".vlist", by=1_000_000)
            return await page.count(f"text=/^{MANY + 1:,} runs$/") == 1

        await until_found(at_the_end, "the list has been read to its end", seconds=240)
        await page.see(row(f"many-{MANY}"))
        assert await page.count(".vlist-row") < _ROWS
        longest = await page.evaluate("globalThis.longestTask")
        assert longest < _TASK_MS, f"the page stood still for {longest} ms"
        await page.press("k", "j")
        assert (await focused(page)).startswith("#/run/many-99"), "a row on screen"


_ROWS = 60  # on a screen and around it
_SHOWN_MS = 2500  # on a machine that does other things, too; alone it is about 0.4 s
_TASK_MS = 400
_SHOWN_AFTER = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_WATCH_TASKS = """
globalThis.longestTask = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) globalThis.longestTask = Math.max(globalThis.longestTask, entry.duration);
}).observe({ type: 'longtask' });
"""

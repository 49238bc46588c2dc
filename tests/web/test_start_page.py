"""The catalog and its forms, in Chromium."""

import json
from urllib.parse import quote

import pytest

from helpers import until_found
from requirements import proves
from web.browser import Page
from web.conftest import Site, check_looks
from web.test_inbox_page import button, field

pytestmark = pytest.mark.anyio

BROKEN = "import module_that_is_not_there\n\nfrom dbos import DBOS\n\n\n@DBOS.workflow()\ndef page_broken() -> None:\n    pass\n"


@proves("page:starts")
async def test_a_workflow_is_started_by_its_form(page: Page, site: Site) -> None:
    await page.goto(site.at("start"))
    await page.fill('role=searchbox[name="Find a workflow"]', "page_order_f")
    await page.click("text=page_order_form")
    await page.fill(field("/order"), "A-1\nsecond line")
    await page.fill(field("/address/city"), "Leipzig")
    await page.fill(field("/address/code"), "04109")
    await page.click(button("Add amounts"))
    await page.fill(field("/amounts/0"), "3")
    await page.click(button("Add amounts"))
    await page.fill(field("/amounts/1"), "4")
    await page.click("text=phone")
    await page.click("text=How it is started")
    await page.fill(field("/workflow_id"), "by-form")
    await page.click(button("Start"))
    await page.see(".run-head")
    assert await site.output("by-form") == {
        "order": "A-1\nsecond line",
        "address": {"city": "Leipzig", "code": "04109"},
        "amounts": [3, 4],
        "channel": "phone",
        "express": False,
        "note": None,
    }
    assert (await page.url()).endswith("#/run/by-form")
    run = await site.engine.reader.run("by-form")
    assert run.started_by == "page"


async def test_what_was_started_before_with_the_same_id_is_shown_and_not_started_again(
    page: Page, site: Site
) -> None:
    run = await site.ended("page_steps", "same-id", count=1)
    await page.goto(site.at("start/page_steps"))
    await page.fill(field("/count"), "1")
    await page.click("text=How it is started")
    await page.fill(field("/workflow_id"), run)
    await page.press("Control+Enter")
    await page.sees_text("A run with this id was there already.")


async def test_the_address_fills_the_form_in_by_arguments_or_by_those_of_a_run(
    page: Page, site: Site
) -> None:
    given = quote(json.dumps({"order": "from the address", "address": {"city": "Bonn"}}))
    await page.goto(site.at(f"start/page_order_form?args={given}"))
    await page.see(field("/order"))
    assert await page.value(field("/order")) == "from the address"
    assert await page.value(field("/address/city")) == "Bonn"
    run = await site.ended("page_steps", "again-from", count=2)
    await page.goto(site.at(f"start/page_steps?from={run}"))
    await page.see(field("/count"))
    assert await page.value(field("/count")) == "2"


async def test_arguments_that_are_wrong_start_nothing(page: Page, site: Site) -> None:
    await page.goto(site.at("start/page_order_form"))
    await page.click(button("Start"))
    assert await page.texts(".problem") == ["This is needed."] * 4
    await page.fill(field("/address/city"), "L")
    assert "At least 2 characters are needed." in await page.texts(".problem")
    assert (await page.url()).endswith("#/start/page_order_form")


@pytest.mark.long
async def test_a_file_that_does_not_load_shows_its_error_until_it_is_repaired(
    page: Page, site: Site
) -> None:
    path = site.served.settings.project / "workflows" / "page_broken.py"
    path.write_text(BROKEN, encoding="utf-8")
    try:
        await page.goto(site.at("start/page_broken"))
        await page.sees_text("No module named 'module_that_is_not_there'")
        assert await page.count(button("Start")) == 0
        await check_looks(page, "start-broken")
        await page.resize((1440, 900))
        await page.see('.item >> text="does not load"')
        path.write_text(BROKEN.partition("\n")[2], encoding="utf-8")

        async def loads() -> bool:
            entries = (await site.engine.catalog()).workflows
            return any(one.name == "page_broken" and one.error is None for one in entries)

        await until_found(loads, "the repaired file is loaded")
        await page.click(button("Look again"))
        await page.see("text=It takes no arguments.")
        await page.see(button("Start"))
    finally:
        path.unlink()


async def test_the_catalog_and_its_forms_look_right(page: Page, site: Site) -> None:
    await page.goto(site.at("start"))
    await page.see(".item")
    await check_looks(page, "start")
    await page.goto(site.at("start/page_order_form"))
    await page.click(button("Add amounts"))
    await page.click("text=How it is started")
    await check_looks(page, "start-form")

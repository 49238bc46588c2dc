"""Script in every field that a run can fill is shown as text."""

from urllib.parse import quote

import pytest

from requirements import proves
from web.browser import Page
from web.conftest import Site

pytestmark = pytest.mark.anyio

NAME = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@proves("page:text")
async def test_script_in_a_run_is_shown_as_text_wherever_it_stands(page: Page, site: Site) -> None:
    run = await site.waits(f"{NAME}workflow", SCRIPT, text=SCRIPT)
    await page.goto(site.run(run))
    await page.see(f"h1 >> text={NAME}workflow")
    assert await page.text(".run-id") == SCRIPT
    for detail in ("timeline", "log", "events", "source"):
        await page.goto(site.run(run, f"?detail={detail}"))
        await page.see(f"#tab-{detail}[aria-selected=true]")
        await page.see(
            f"#run-detail >> text={'def attacking' if detail == 'source' else 'alert(1)'}"
        )
        await nothing_is_element(page)
    for step in (1, 2):
        await page.goto(site.run(run, f"?step={step}"))
        await page.see(f'role=complementary[name="Step {step}"]')
        await nothing_is_element(page)
    await site.engine.send(run, SCRIPT, SCRIPT)
    await site.engine.reader.wait([run])
    await page.see("text=ValueError")
    await nothing_is_element(page)
    await page.goto(site.run(run, "?detail=messages"))
    await page.see("#run-detail >> text=alert(1)")
    await nothing_is_element(page)
    await page.goto(f"{site.root}#/compare/{quote(run, safe='')}/{quote(run, safe='')}")
    await page.see("text=Nothing differs")
    await nothing_is_element(page)
    for view in ("runs", "inbox", "start", "system"):
        await page.goto(f"{site.root}#/{view}")
        await page.see("main")
        await nothing_is_element(page)


async def nothing_is_element(page: Page) -> None:
    """No image and no script but the page's own; `Browser.page` fails after a dialog, and after what the policy refused."""
    assert await page.count("img") == 0
    assert await page.count("script") == 1

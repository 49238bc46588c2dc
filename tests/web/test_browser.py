"""The browser of these tests: what goes wrong in a page fails a test."""

import pytest

from helpers import until_found
from web.browser import Browser, Page
from web.conftest import Site

pytestmark = pytest.mark.anyio

WRONG = {
    "console.error('said')": "console: said",
    "setTimeout(() => { throw new Error('thrown') })": "error: Error: thrown",
    "document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.1:9/x.png>')": "img-src",
    "document.head.append(Object.assign(document.createElement('script'), {text: 'x'}))": "script-src",
    "setTimeout(() => alert('asked'))": "dialog: asked",
}


@pytest.mark.parametrize("script", WRONG)
async def test_what_goes_wrong_in_a_page_fails_a_test(
    browser: Browser, site: Site, script: str
) -> None:
    with pytest.raises(AssertionError, match=WRONG[script]):  # noqa: PT012 -- the end of the block fails
        async with browser.page() as page:
            await page.goto(site.link())
            await page.see("h1")
            await page.evaluate(f"void {script}")
            await until_found(page.wrong, "the page has noted it")


async def test_axe_finds_what_is_wrong(page: Page) -> None:
    await page.see("main h1")
    await page.evaluate(
        "void document.querySelector('main').append(document.createElement('button'))"
    )
    findings = await page.findings()
    assert any(one.startswith("button-name") for one in findings), findings

"""The page of two runs side by side, in Chromium."""

from urllib.parse import quote

import pytest
from pydantic import JsonValue

from requirements import proves
from web.browser import Page
from web.conftest import Site, check_looks

pytestmark = pytest.mark.anyio

ANN: JsonValue = {"name": "Ann", "tags": ["a", "b"]}
BOB: JsonValue = {"name": "Bob", "tags": ["a", "c", "d"]}


async def compared(page: Page, site: Site, a: str, b: str) -> None:
    await page.goto(f"{site.root}#/compare/{quote(a, safe='')}/{quote(b, safe='')}")
    await page.see('role=table[name="Steps of both runs"]')


@proves("page:compare")
@pytest.mark.long
async def test_two_runs_show_where_they_differ_first_and_what_changed(
    page: Page, site: Site
) -> None:
    a = await site.ended("page_tells", "tells-ann", user=ANN, seconds=0.1)
    b = await site.ended("page_tells", "tells-bob", user=BOB, seconds=0.8)
    await compared(page, site, a, b)
    said = await page.text(".compare-said")
    assert said.startswith("They differ in: input, output, steps. The first step that differs:")
    assert said.endswith("page_look_up (step 2 of A, step 2 of B).")
    changes = 'role=group[name="Changes: Input"] >> role=row'
    assert await page.texts(changes) == [
        "Where\tA\tB",
        'user.name\t"Ann"\t"Bob"',
        'user.tags[1]\t"b"\t"c"',
        'user.tags[2]\tnothing\t"d"',
        "seconds\t0.1\t0.8",
    ]
    rows = await page.texts(".compare-list .vlist-row")
    names = ["page_note", "page_look_up", "page_note (2)", "page_note (3)"]
    assert [row.split("\n")[0] for row in rows] == names
    assert "as long" in rows[1]
    assert rows[3].endswith("missing")
    step = 'role=region[name="Step page_look_up"]'
    assert 'user.name\t"Ann"\t"Bob"' in await page.texts(f"{step} >> role=row")
    await page.click("text=Only the 3 that differ")
    await page.see(".compare-list .vlist-row >> nth=3", "hidden")
    await page.press("j", "j", "Enter")
    await page.see('role=region[name="Step page_note"]')
    await page.click('role=button[name="Swap"]')
    await page.see(f".side-run >> nth=0 >> text={b}")
    await check_looks(page, "compare")


async def test_a_fork_is_compared_with_its_original(page: Page, site: Site) -> None:
    a = await site.ended("page_order", "order-compared", order={"amount": 3})
    fork = (await site.engine.fork(a, 2)).workflow_id
    await site.engine.reader.wait([fork])
    await page.goto(site.run(fork))
    await page.click('role=link[name="compare"]')
    await page.see("text=B is a fork of A from step 2: it took over 1 steps.")
    await page.see(".compare-list >> text=taken over")


async def test_the_other_run_is_chosen_among_those_of_the_same_workflow(
    page: Page, site: Site
) -> None:
    a = await site.ended("page_order", "order-one", order={"amount": 1, "price": 2})
    b = await site.ended("page_order", "order-other", order={"amount": 2, "price": 2})
    await page.goto(site.run(a))
    await page.click('role=button[name="More"]')
    await page.click('role=menuitem[name="Compare with another run"]')
    await page.click(f'role=list[name="Runs"] >> role=link[name=/{b}/]')
    await page.see("text=They differ in: input, output, steps.")
    await page.goto(f"{site.root}#/compare/{a}")
    await page.see('role=list[name="Runs"]')
    await check_looks(page, "compare-choice")

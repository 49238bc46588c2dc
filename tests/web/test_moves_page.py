"""Runs and the newest code, on the page, in Chromium: what they would do on it, and moves to it. The project's file is really edited."""

import time
from collections.abc import AsyncIterator

import pytest

from durable_workflows.models import Run
from durable_workflows.settings import Settings
from durable_workflows.web import building
from helpers import running_project, until_found
from requirements import proves
from transports import serving
from web.browser import WIDE, Page
from web.conftest import Site, check_looks
from web.test_inbox_page import button

pytestmark = pytest.mark.anyio

FLOW = """
import time

from dbos import DBOS


@DBOS.step()
def FIRST() -> str:
    return "begun"


@DBOS.step()
def late() -> None:
    pass


@DBOS.workflow()
def page_moves() -> str:
    FIRST()
    return f"NEW {DBOS.recv('go', timeout_seconds=3600)}"


@DBOS.workflow()
def page_moves_too() -> str:
    return f"NEW {DBOS.recv('go', timeout_seconds=3600)}"


@DBOS.workflow()
def page_moves_parent() -> str:
    child = DBOS.start_workflow(page_moves)
    return f"NEW {child.get_result()}"


@DBOS.workflow()
def page_hurries(begun: float) -> None:
    if time.time() > begun + 3600:
        late()
"""
MOVE, SAFE = "Move to the newest code", "Move what is safe"
CHECK = "Check on the newest code"
# Whether the page has said so at any time: the replays may be over before anybody looks.
WATCH_FOR_REPLAYS = """
globalThis.isReplayed = false;
new MutationObserver(() => {
  globalThis.isReplayed ||= document.body.textContent.includes("Replaying …");
}).observe(document.body, { childList: true, characterData: true, subtree: true });
"""


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The page of a project in which runs are parked soon."""
    folder = (tmp_path_factory.mktemp("moves") / "project").resolve()
    settings = Settings(project=folder, park_after_seconds=0.2)
    await building.page(settings)
    async with running_project(settings, []) as engine:
        (folder / "workflows").mkdir()
        parks = {"DURABLE_WORKFLOWS_PARK_AFTER_SECONDS": "0.2"}
        with serving(settings, environment=parks) as served:
            yield Site(engine, served)


async def edit(site: Site, word: str, first: str = "begin") -> str:
    """Give the file a new word, and perhaps its first step another name; return the version that it has then."""
    path = site.engine.project / "workflows" / "page_moves.py"
    path.write_text(FLOW.replace("NEW", word).replace("FIRST", first), encoding="utf-8")
    return (await site.engine.catalog()).version


async def waits(site: Site, name: str, workflow_id: str) -> str:
    """A run that waits, in no process."""
    await site.start(name, workflow_id)

    async def is_parked() -> Run | None:
        run = await site.engine.reader.run(workflow_id)
        return run if run.rest else None

    await until_found(is_parked, f"{workflow_id} is parked")
    return workflow_id


async def version(site: Site, workflow_id: str) -> str | None:
    return (await site.engine.reader.run(workflow_id)).version


async def answered(page: Page, at: str) -> None:
    """Return once replays have brought this onto the page: they take seconds, and more on a busy machine."""

    async def is_there() -> int:
        return await page.count(at)

    await until_found(is_there, at, seconds=100)


async def menu(page: Page, entry: str) -> None:
    """Choose an entry of the menu of a run."""
    await page.click(button("More"))
    await page.click(f'role=menuitem[name="{entry}"]')


@pytest.mark.long
@proves("page:moves")
async def test_a_waiting_run_is_moved_after_a_person_has_seen_that_it_fits(
    page: Page, site: Site
) -> None:
    old = await edit(site, "old")
    run = await waits(site, "page_moves", "fits")
    new = await edit(site, "new")
    await page.goto(site.run(run))
    await page.click(button(MOVE))
    await answered(page, "text=1 run can be moved.")
    assert await version(site, run) == old, "so far it has only looked"
    await page.click(button("Move run"))
    await answered(page, "text=1 run moved.")
    assert await version(site, run) == new
    await page.click(button("Close"))
    await page.see(button(MOVE), "hidden")
    await site.engine.send(run, "go", "went")
    assert await site.output(run) == "new went"


@pytest.mark.long
@proves("page:moves")
async def test_a_run_that_does_not_fit_stays_and_can_be_forked_where_it_differs(
    page: Page, site: Site
) -> None:
    old = await edit(site, "before", "begin")
    run = await waits(site, "page_moves_parent", "differs")
    child = (await site.engine.reader.run(run)).children[0].workflow_id
    await edit(site, "after", "start_anew")
    await page.goto(site.run(run))
    await page.click(button(MOVE))
    await answered(page, "text=1 run can be moved, 1 stays.")
    await page.sees_text(": recorded begin, the code calls start_anew")
    await check_looks(page, "moves")
    await page.resize(WIDE)
    await page.click(button(SAFE))
    await answered(page, "text=1 run moved, 1 stays.")
    assert await version(site, child) == old, "the child stays alone"
    assert await version(site, run) != old
    await page.click(button("Fork from step 1 …"))
    await page.see('role=checkbox[name="Also cancel the original, if it has not ended"][checked]')
    await page.click(button("Fork"))
    await page.sees_text("Forked: this is the new run.")
    shown = await site.engine.reader.run(child)
    assert (shown.status, shown.version) == ("CANCELLED", old)
    [fork] = shown.forks
    await site.engine.send(fork.workflow_id, "go", "went")
    assert await site.output(fork.workflow_id) == "after went"


@pytest.mark.long
@proves("page:moves")
async def test_the_runs_of_other_versions_are_moved_that_were_seen_to_be_safe(
    page: Page, site: Site
) -> None:
    old = await edit(site, "past")
    runs = [await waits(site, "page_moves_too", f"many-{number}") for number in range(2)]
    other = await waits(site, "page_moves", "many-other")
    new = await edit(site, "present")
    await page.goto(site.at("system"))
    await page.click(button("Move the unfinished runs of other versions …"))
    await page.choose('role=combobox[name="Version"] >> nth=-1', old[:10])
    await page.choose('role=combobox[name="Workflow"] >> nth=-1', "page_moves_too")
    await page.click(button("Look"))
    await answered(page, "text=2 runs can be moved.")
    fork = (await site.engine.fork(runs[0], 1, same_version=True)).workflow_id
    await page.click(button(SAFE))
    await answered(page, "text=2 runs moved.")
    assert {await version(site, run) for run in runs} == {new}
    assert await version(site, other) == old, "it is of another workflow"
    assert await version(site, fork) == old, "nobody has seen what a move means for it"
    await page.click(button("Look again"))
    await answered(page, f'role=link[name="{fork}"]')


@pytest.mark.long
@proves("page:moves")
async def test_a_run_is_checked_on_the_newest_code(page: Page, site: Site) -> None:
    await edit(site, "checked", "begin")
    run = await waits(site, "page_moves", "checked")
    await edit(site, "checked", "start_anew")
    await page.goto(site.run(run))
    await menu(page, CHECK)
    await page.forgive_failed_requests()
    await page.offline(offline=True)
    await page.click(button("Check"))
    await page.see('role=dialog >> text="The server does not answer."')
    await page.offline(offline=False)
    await page.click(button("Check"))
    await answered(page, 'role=group[name="Verdict"]')
    said = await page.text('role=group[name="Verdict"]')
    assert "Differs at step 1: recorded begin, the code calls start_anew" in " ".join(said.split())
    await page.click('role=dialog >> role=link[name="step 1"]')
    assert await page.url() == site.run(run, "?step=1")


@pytest.mark.long
@proves("page:moves")
async def test_a_run_is_also_checked_under_other_conditions(page: Page, site: Site) -> None:
    await edit(site, "shaken")
    run = await site.ended("page_hurries", "hurries", begun=time.time())
    await page.goto(site.run(run))
    await menu(page, CHECK)
    await page.click("role=checkbox")
    await page.evaluate(WATCH_FOR_REPLAYS)
    await page.click(button("Check"))
    await answered(page, 'role=group[name="Verdict"]')
    assert await page.evaluate("globalThis.isReplayed")
    assert "not with another clock" in await page.text('role=group[name="Verdict"]')

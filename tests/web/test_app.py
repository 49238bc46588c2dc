"""The page inside a client that shows pages (MCP Apps), in Chromium: in a frame that may only run scripts, with a real MCP server behind it."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from durable_workflows.mcp.apps import NONCES
from durable_workflows.settings import Settings
from helpers import until_found
from requirements import proves
from web.app_client import AppClient, app_client, framed, sees
from web.browser import Browser, Page, Theme
from web.conftest import Site
from web.test_run_page import status

pytestmark = pytest.mark.anyio


def button(name: str) -> str:
    return framed(f'role=button[name="{name}"]')


@pytest.fixture(scope="module")
async def client(site: Site) -> AsyncIterator[AppClient]:
    async with app_client(Settings(project=site.engine.project)) as client:
        yield client


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Page]:
    """Where the client is."""
    async with browser.page(size=(760, 900)) as page:
        yield page


async def nonces(client: AppClient) -> dict[str, str]:
    """What the page gets with the questions, by run."""
    found = await client.mcp.call_tool("page", {"path": "waits"})
    return {one["workflow_id"]: one["nonce"] for one in (found.meta or {})[NONCES]}


async def answered(client: AppClient, workflow_id: str, value: object, **more: str) -> Any:
    """Answer as the page does; return what is answered."""
    [wait] = [one for one in await waits(client) if one["wait"]["workflow_id"] == workflow_id]
    given = {"workflow_id": workflow_id, "step": wait["wait"]["step"], "value": value}
    result = await client.mcp.call_tool("page", {"path": "answer", "given": given, **more})
    return result.structured_content


async def waits(client: AppClient) -> Any:
    found = await client.mcp.call_tool("page", {"path": "waits"})
    told: dict[str, Any] = found.structured_content or {}
    return told["answer"]


@pytest.mark.long
@proves("apps:run")
async def test_a_run_that_a_model_has_looked_at_is_shown_and_stays_live(
    client: AppClient, tab: Page, site: Site, tmp_path: Any
) -> None:
    path = tmp_path / "there"
    run = await site.start("page_waits_for_file", "app-live", path=str(path))
    await tab.goto(client.at("inspect", {"workflow_id": run}))
    await sees(tab, "page_waits_for_file")
    await tab.see(framed("text=page_await_file"))
    path.write_text("found", encoding="utf-8")
    await sees(tab, "Success")
    await sees(tab, "It has finished")


@proves("apps:run")
@pytest.mark.parametrize("tool", ["start_workflow", "wait_for_workflows"])
@pytest.mark.long
async def test_what_a_model_starts_or_waits_for_is_shown(
    client: AppClient, tab: Page, site: Site, tool: str
) -> None:
    if tool == "start_workflow":
        arguments: dict[str, Any] = {"name": "page_asks", "workflow_id": "app-started"}
    else:
        ended = await site.ended("page_steps", "app-ended", count=1)
        asks = await site.waits("page_asks", "app-asks")
        arguments = {"workflow_ids": [ended, asks]}
    await tab.goto(client.at(tool, arguments))
    await sees(tab, "page_asks")
    await sees(tab, "Waiting")


@proves("apps:person")
async def test_a_person_answers_in_the_client_and_that_is_recorded(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.waits("page_refund", "app-refund", order="A-7")
    await tab.goto(client.at("list_workflows", {"waiting": True}))
    await tab.click(framed("a >> text=Refund A-7?"))
    await tab.click(framed("text=approve"))
    await tab.fill(framed('[data-path="/amount"]'), "12.5")
    await sees(tab, "given in this client, which counts less than in a terminal")
    before = await tab.evaluate("client.calls.length")
    await tab.click(button("Send answer"))
    await sees(tab, "Answered: page_refund goes on.")
    paths = await tab.evaluate(f"client.calls.slice({before}).map(({{path}}) => path)")
    asked = paths[: paths.index("answer")]  # among them may be the looks at what has changed
    assert "waits" in asked, "a nonce lasts for minutes, a form for days"
    output = await site.output(run)
    assert isinstance(output, dict)
    assert output["amount"] == 12.5
    [answer] = await site.engine.reader.answers(run)
    assert answer.how == "app"
    assert answer.who.startswith("the person at ")


@proves("apps:person")
async def test_an_answer_without_what_only_the_page_got_with_the_question_is_refused(
    client: AppClient, site: Site
) -> None:
    run, other = [await site.waits("page_asks", f"app-nonce-{number}") for number in (1, 2)]
    known = await nonces(client)
    for more in ({}, {"nonce": ""}, {"nonce": known[other]}, {"nonce": known[run][:-1] + "x"}):
        refused = await answered(client, run, value=True, **more)
        assert refused["status"] == 400
        assert "only from the page that showed the question" in refused["error"]
        assert "answer_in_person" in refused["hint"]
    assert await site.engine.reader.answers(run) == []
    taken = await answered(client, run, value=True, nonce=known[run])
    assert taken["answer"]["workflow_id"] == run
    assert await site.output(run) is True


@proves("apps:person")
async def test_what_a_model_reads_of_the_questions_does_not_let_it_answer(
    client: AppClient, site: Site
) -> None:
    run = await site.waits("page_asks", "app-hidden")
    found = await client.mcp.call_tool("page", {"path": "waits"})
    [nonce] = [one["nonce"] for one in (found.meta or {})[NONCES] if one["workflow_id"] == run]
    assert run in str(found.structured_content)
    assert nonce not in str(found.structured_content)
    assert nonce not in str(found.content)


async def test_what_a_client_does_not_let_the_page_copy_is_not_said_to_be_copied(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.ended("page_steps", "app-copied", count=1)
    await tab.goto(client.at("inspect", {"workflow_id": run}))
    await tab.forgive("Permissions policy violation: The Clipboard API")
    await tab.click(button("Copy"))
    await tab.click(framed('role=menuitem[name="Command"]'))
    await sees(tab, "does not allow copying here")
    assert await tab.count(framed("text=Copied: Command")) == 0


async def test_what_the_page_does_needs_no_form_rights_and_asks_before_it_stops_a_run(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.waits("page_waits", "app-cancelled", topic="t")
    await tab.goto(client.at("inspect", {"workflow_id": run}))
    await tab.click(button("Cancel run"))
    await tab.click(framed('role=dialog >> role=button[name="Cancel run"]'))
    await status(site, run, "CANCELLED")
    await sees(tab, "Cancelled")


@pytest.mark.long
async def test_links_lead_through_the_page_and_not_out_of_its_frame(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.ended("page_steps", "app-links", count=1)
    await tab.goto(client.at("inspect", {"workflow_id": run}))
    await tab.click(framed("nav >> text=Runs"))
    await tab.click(framed(f"text={run}"))
    await sees(tab, "It has finished")
    assert await tab.count(framed('text="Download"')) == 0, "a frame may not"


@pytest.mark.long
async def test_choices_within_a_view_stay_in_it_although_the_frame_has_no_address(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.ended("page_steps", "app-choices", count=1)
    await tab.goto(client.at("inspect", {"workflow_id": run}))
    await tab.click(framed('role=tab[name="Source"]'))
    await tab.see(framed('role=tab[name="Source"][selected]'))
    await sees(tab, "It has finished")


@pytest.mark.long
async def test_it_looks_as_the_client_does(client: AppClient, tab: Page, site: Site) -> None:
    run = await site.ended("page_steps", "app-theme", count=1)
    await tab.goto(client.at("inspect", {"workflow_id": run}, theme="dark"))
    await sees(tab, "page_steps")
    assert await tab.attribute(framed("html"), "data-theme") == "dark"
    styles = {"variables": {"--color-background-primary": "rgb(1, 2, 3)"}}
    await tell(tab, {"theme": "light", "styles": styles})
    await tab.see(framed('html[data-theme="light"]'))
    await tab.see(framed('html[style*="--panel: rgb(1, 2, 3)"]'), "attached")
    assert await tab.evaluate("document.querySelector('iframe').offsetHeight") > 400


async def tell(tab: Page, context: dict[str, Any]) -> None:
    message = {"method": "ui/notifications/host-context-changed", "params": context}
    await tab.evaluate(f"client.send({json.dumps(message)})")


@pytest.mark.long
async def test_what_another_window_says_is_not_heard(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.ended("page_steps", "app-foreign", count=1)
    await tab.goto(client.at("inspect", {"workflow_id": run}))
    await sees(tab, "page_steps")
    await tab.evaluate(_STRANGER)
    await tab.see("#stranger[data-done]", "attached")
    await tell(tab, {"styles": {"variables": {"--font-mono": "serif"}}})
    await tab.see(framed('html[style*="serif"]'), "attached")  # it came later, and is heard
    assert await tab.attribute(framed("html"), "data-theme") == "light"


# Another frame of the client says to the page what the client says, and what would be an answer to its calls.
_STRANGER = """
(() => {
  const other = document.createElement("iframe");
  other.id = "stranger";
  document.body.append(other);
  const said = { jsonrpc: "2.0", method: "ui/notifications/host-context-changed", params: { theme: "dark" } };
  const script = other.contentDocument.createElement("script");
  script.textContent = `
    const page = parent.frames[0];
    page.postMessage(${JSON.stringify(said)}, "*");
    for (let id = 1; id < 200; id += 1) page.postMessage({ jsonrpc: "2.0", id, error: { message: "no" } }, "*");
    frameElement.dataset.done = "1";
  `;
  other.contentDocument.body.append(script);
})()
"""


@pytest.mark.long
async def test_a_client_that_says_nothing_is_named_until_it_does(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.ended("page_steps", "app-late", count=1)
    await tab.goto(client.at("inspect", {"workflow_id": run}, mute="1"))
    await sees(tab, "does not answer it")
    await sees(tab, "durable-workflows dashboard --web")
    await tab.evaluate("client.mute = false, client.heard.forEach(client.take)")
    await sees(tab, "It has finished")


@pytest.mark.long
async def test_while_nothing_happens_the_client_is_asked_less_and_less_often(
    client: AppClient, tab: Page, site: Site
) -> None:
    run = await site.ended("page_steps", "app-quiet", count=1)
    await tab.goto(client.at("inspect", {"workflow_id": run}))

    async def slower() -> bool:
        calls = await tab.evaluate("client.calls")
        polls = [one for one in calls if one["path"] == "marks" and one["answered"]]
        return any(later["asked"] - one["answered"] > 1750 for one, later in pairwise(polls))

    await until_found(slower, "the page has waited for longer than at first", seconds=20)
    paths = await tab.evaluate("client.calls.map(({path}) => path)")
    rest = paths[paths.index("marks") + 1 :]
    assert rest.count("run") <= 2, "and does not read all of it each time"


APP_LOOKS: tuple[tuple[Theme, int], ...] = (
    ("light", 760),
    ("dark", 760),
    ("light", 360),
    ("dark", 360),
)


@pytest.mark.parametrize("view", ["run", "inbox"])
@pytest.mark.long
async def test_it_is_well_to_look_at_in_the_frames_of_clients(
    client: AppClient, tab: Page, site: Site, view: str
) -> None:
    run = await site.waits("page_refund", f"app-looks-{view}", order="B-9")
    shown = (
        client.at("inspect", {"workflow_id": run})
        if view == "run"
        else client.at("list_workflows", {"waiting": True})
    )
    await tab.goto(shown)
    await sees(tab, "page_refund")
    for theme, width in APP_LOOKS:
        await tab.resize((width, 700))
        await tell(tab, {"theme": theme})
        await tab.see(framed(f'html[data-theme="{theme}"]'))
        await tab.screenshot(f"app-{view}-{theme}-{width}")
        assert await tab.findings() == [], f"{view}, {theme}, {width}"

"""The inbox, in Chromium: people answer what runs ask, by forms made of schemas."""

import pytest

from durable_workflows.models import Answer
from durable_workflows.system import users
from requirements import proves
from web.browser import NARROW, Page
from web.conftest import Site, check_looks
from web.test_run_page import status

pytestmark = pytest.mark.anyio


def field(path: str) -> str:
    """A field of the form, by its place in the value."""
    return f'[data-path="{path}"]'


def button(name: str) -> str:
    return f'role=button[name="{name}"]'


async def answers(site: Site, workflow_id: str) -> list[Answer]:
    return list(await site.engine.reader.answers(workflow_id))


@proves("page:answers")
async def test_an_answer_given_by_the_form_reaches_the_run_and_is_recorded_as_given_on_the_page(
    page: Page, site: Site
) -> None:
    run = await site.waits("page_refund", "refund-1", order="A-1")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.sees_text("Refund A-1?")
    await page.click("text=approve")
    await page.fill(field("/amount"), "12.5")
    await page.click('role=radio[name="No"]')
    await page.click(button("Add parcels"))
    await page.fill(field("/parcels/0"), "7")
    await page.click(button("Add address"))
    await page.fill(field("/address/city"), "Leipzig")
    await page.fill(field("/address/code"), "04109")
    await page.click(button("Send answer"))
    await page.sees_text("Answered: page_refund goes on.")
    assert await site.output(run) == {
        "decision": "approve",
        "amount": 12.5,
        "notify": False,
        "parcels": [7],
        "address": {"city": "Leipzig", "code": "04109"},
    }
    [answer] = await answers(site, run)
    assert (answer.how, answer.who) == ("page", users.login())


async def test_a_form_says_what_is_wrong_before_it_is_sent_and_goes_there(
    page: Page, site: Site
) -> None:
    run = await site.waits("page_refund", "refund-wrong", order="A-2")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.fill(field("/amount"), "many")
    await page.click(button("Send answer"))
    assert await page.texts(".problem") == ["This is needed.", "This is no number."]
    await page.see("input[type=radio]:focus", "attached")
    await page.click("text=approve")
    await page.fill(field("/amount"), "501")
    assert await page.texts(".problem") == ["This must be at most 500."]
    await page.fill(field("/amount"), "500")
    assert await page.count(".problem") == 0
    assert await answers(site, run) == []


async def test_what_only_the_server_can_tell_is_wrong_is_said_beside_the_form_which_stays_filled_in(
    page: Page, site: Site
) -> None:
    run = await site.waits("page_refund", "refund-pattern", order="A-3")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.click("text=approve")
    await page.fill(field("/amount"), "1")
    await page.click(button("Add address"))
    await page.fill(field("/address/city"), "Leipzig")
    await page.fill(field("/address/code"), "no code")
    await page.forgive_failed_requests()  # the browser notes that the server refuses something
    await page.click(button("Send answer"))
    await page.see(".answer .failure")
    assert "no code" in await page.text(".answer .failure")
    assert await page.value(field("/address/city")) == "Leipzig"


async def test_an_answer_that_no_form_can_show_is_given_as_json(page: Page, site: Site) -> None:
    run = await site.waits("page_refund", "refund-json", order="A-4")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.click("text=reject")
    await page.fill(field("/amount"), "3")
    await page.click(button("As JSON"))
    written = await page.value("textarea")
    assert '"decision": "reject"' in written
    await page.fill("textarea", written.replace("3", "4"))
    await page.click(button("As a form"))
    assert await page.value(field("/amount")) == "4"
    await page.click(button("Send answer"))
    assert await site.output(run) == {
        "decision": "reject",
        "amount": 4,
        "notify": True,
        "parcels": [],
        "address": None,
    }


@pytest.mark.parametrize(
    ("written", "received"), [("plain words", "plain words"), ('{"a": [1]}', {"a": [1]})]
)
async def test_a_wait_without_a_schema_takes_json_or_else_the_text(
    page: Page, site: Site, written: str, received: object
) -> None:
    run = await site.waits("page_takes_anything", f"anything-{len(written)}")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.fill("textarea", written)
    await page.click(button("Send message"))
    assert await site.output(run) == received


async def test_declining_gives_the_answer_that_means_no(page: Page, site: Site) -> None:
    run = await site.waits("page_confirms", "confirm-no", order="A-5")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.click(button("Decline …"))
    await page.sees_text("The answer is No.")
    await page.click(button("Decline"))
    assert await site.output(run) is False


async def test_declining_what_has_no_answer_that_means_no_cancels_the_run(
    page: Page, site: Site
) -> None:
    run = await site.waits("page_takes_anything", "anything-declined")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.click(button("Decline …"))
    await page.click(button("Cancel run"))
    await status(site, run, "CANCELLED")


async def test_questions_come_and_go_without_a_reload(page: Page, site: Site) -> None:
    await page.goto(site.at("inbox"))
    await page.see("text=/Has live-1 arrived/", "detached")
    run = await site.waits("page_confirms", "confirm-live", order="live-1")
    await page.sees_text("Has live-1 arrived?")
    await page.goto(site.at(f"inbox?run={run}"))
    await site.engine.send(run, "confirm", True)
    await page.sees_text("This wait is over.")


# The next answer still has a question that was over before the server looked again, which reports nothing then.
TOO_EARLY = """
const fetched = globalThis.fetch;
globalThis.fetch = async (address, init) => {
  const answer = await fetched(address, init);
  const items = address === "/api/waits" ? await answer.clone().json() : [];
  const item = items.find(({ wait }) => wait.workflow_id === "confirm-brief");
  if (item === undefined) return answer;
  globalThis.fetch = fetched;
  const over = { ...item, wait: { ...item.wait, prompt: "Is it over?", step: 99 } };
  return new Response(JSON.stringify([...items, over]));
};
"""


async def test_a_question_that_was_over_before_the_next_look_of_the_server_goes_too(
    page: Page, site: Site
) -> None:
    await page.goto(site.at("inbox"))
    await page.see("text=/Has brief-1 arrived/", "detached")
    await page.evaluate(TOO_EARLY)
    await site.waits("page_confirms", "confirm-brief", order="brief-1")
    await page.sees_text("Is it over?")
    await page.see("text=Is it over?", "detached")


async def test_keys_move_between_questions_and_into_the_form(page: Page, site: Site) -> None:
    for number in (1, 2):
        await site.waits("page_confirms", f"confirm-keys-{number}", order=f"keys-{number}")
    await page.goto(site.at("inbox?run=confirm-keys-1"))
    await page.see('.item:has-text("Has keys-2 arrived?")')
    await page.press("j")
    await page.see('.prompt:has-text("Has keys-2 arrived?")')
    await page.press("k")
    await page.see('.prompt:has-text("Has keys-1 arrived?")')
    await page.press("Enter", "Space", "Control+Enter")
    assert await site.output("confirm-keys-1") is True


async def test_the_inbox_looks_right(page: Page, site: Site) -> None:
    run = await site.waits("page_refund", "refund-looks", order="A-9")
    await page.goto(site.at(f"inbox?run={run}"))
    await page.click(button("Add address"))
    await page.click(button("Send answer"))
    await page.see(".problem")
    await check_looks(page, "inbox-question")
    await page.goto(site.at("inbox"))
    await page.see(".item")
    await check_looks(page, "inbox")
    await page.resize(NARROW)
    await page.click(f'.item[href*="{run}"]')
    await page.see(button("Send answer"))

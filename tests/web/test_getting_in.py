"""Access to the page: only for a browser that opened a link, once and soon."""

import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import httpx2
import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.models import OpenWait
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings
from durable_workflows.system import places
from durable_workflows.web import access
from durable_workflows.web.access import Access
from requirements import proves
from transports import Served, serving
from visiting import link_to, origin_of, stranger, visiting

pytestmark = pytest.mark.anyio
TOKEN = "a token as long as tokens are: 43 characters"
URL = "http://127.0.0.1:8765/mcp"


@pytest.fixture(scope="module")
async def served(shared: Engine) -> AsyncGenerator[Served]:
    """A server of the shared project."""
    with serving(Settings(project=shared.project)) as served:
        yield served


def code_of(link: str) -> str:
    return httpx2.URL(link).params["code"]


async def test_a_link_lets_a_browser_in_and_leaves_no_code_in_its_address(served: Served) -> None:
    async with stranger(served) as browser:
        answer = await browser.get(link_to(served))
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"  # a browser keeps what stands behind #
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("durable-workflows-")
        flags = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert flags == {"httponly", "samesite=strict", "path=/", "max-age=2592000"}
        assert (await browser.get("/api/project")).status_code == 200


@proves("page:who")
async def test_a_link_lets_one_browser_in(served: Served) -> None:
    link = link_to(served)
    async with visiting(served, link=link), stranger(served) as thief:
        refused = await thief.get(link)
        assert refused.status_code == 401
        assert "has been used" in refused.text
        assert "dashboard --web" in refused.text
        assert "set-cookie" not in refused.headers
        assert (await thief.get("/api/project")).status_code == 401


async def test_an_old_link_leads_a_browser_to_the_page_that_is_in_already(served: Served) -> None:
    link = link_to(served)
    async with visiting(served, link=link) as browser:
        again = await browser.get(link)
    assert (again.status_code, again.headers["location"]) == (303, "/")
    assert "set-cookie" not in again.headers


async def test_without_a_link_the_page_says_how_to_open_it(served: Served) -> None:
    async with stranger(served) as browser:
        refused = await browser.get("/")
    assert refused.status_code == 401
    assert refused.headers["content-type"].startswith("text/plain")
    assert "durable-workflows dashboard --web" in refused.text


@pytest.mark.parametrize("code", ["", "x", "1-2-3-4", "é", "1764400000-000000-00-ff", "\n"])
async def test_a_code_that_nobody_made_lets_nobody_in(served: Served, code: str) -> None:
    async with stranger(served) as browser:
        assert (await browser.get("/", code=code)).status_code == 401


async def test_what_only_looks_at_a_link_does_not_use_it_up(served: Served) -> None:
    link = link_to(served)
    async with stranger(served) as browser:
        assert (await browser.http.head(link)).status_code == 401
    async with visiting(served, link=link):
        pass


@pytest.mark.long
async def test_the_cookie_outlives_the_server_and_the_code_does_not(shared: Engine) -> None:
    settings = Settings(project=shared.project)
    # The system might give a port of its own choice to another program in between.
    port = native.free_port()
    with serving(settings, port=port) as first:
        unused = link_to(first)
        async with visiting(first) as browser:
            cookies = dict(browser.http.cookies)
    with serving(settings, port=port) as second:
        async with stranger(second) as browser:
            assert (await browser.get(unused)).status_code == 401
            browser.http.cookies.update(cookies)
            assert (await browser.get("/api/project")).status_code == 200


async def test_a_code_is_good_at_the_server_of_its_link_only(
    served: Served, shared: Engine
) -> None:
    with serving(Settings(project=shared.project)) as other:
        async with stranger(other) as browser:
            refused = await browser.get("/", code=code_of(link_to(served)))
    assert refused.status_code == 401


async def test_codes_and_the_token_are_in_no_log(shared: Engine) -> None:
    settings = Settings(project=shared.project)
    with serving(settings) as served:
        links = [link_to(served) for _ in range(3)]
        async with visiting(served, link=links[0]) as browser:
            cookies = list(dict(browser.http.cookies).values())
            for link in links:
                await browser.get(link)
            await browser.post("/api/start", {"name": "nobody"})
            await browser.post("/api/start", b"{")
        served.process.terminate()
        assert served.process.stderr is not None
        said = served.said + served.process.stderr.read()
    secrets = [*map(code_of, links), *cookies, http_access.token(settings)]
    logs = "".join(path.read_text() for path in places.logs(settings).glob("*.log"))
    assert cookies
    assert not [one for one in secrets if one in said + logs]


# By itself


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The time for this module's codes and cookies."""
    now = {"is": time.time()}
    monkeypatch.setattr(time, "time", lambda: now["is"])
    return now


def test_a_code_is_good_for_a_minute(settings: Settings, clock: dict[str, float]) -> None:
    door = Access(settings, TOKEN, 8765)
    early, late = access.link(TOKEN, URL), access.link(TOKEN, URL)
    clock["is"] += 59
    assert door.takes_code(code_of(early))
    clock["is"] += 2
    assert not door.takes_code(code_of(late))


def test_a_code_stays_used_for_as_long_as_it_would_be_good(
    settings: Settings, clock: dict[str, float]
) -> None:
    door = Access(settings, TOKEN, 8765)
    code = code_of(access.link(TOKEN, URL))
    assert door.takes_code(code)
    for seconds in (0, 30, 29):
        clock["is"] += seconds
        assert not door.takes_code(code)


def test_a_code_from_before_the_server_is_not_good(
    settings: Settings, clock: dict[str, float]
) -> None:
    code = code_of(access.link(TOKEN, URL))
    clock["is"] += 1
    assert not Access(settings, TOKEN, 8765).takes_code(code)


def test_a_code_from_a_clock_that_is_ahead_is_not_good(
    settings: Settings, clock: dict[str, float]
) -> None:
    door = Access(settings, TOKEN, 8765)
    clock["is"] += 30
    code = code_of(access.link(TOKEN, URL))
    clock["is"] -= 30
    assert not door.takes_code(code)


def test_a_cookie_is_good_for_thirty_days(settings: Settings, clock: dict[str, float]) -> None:
    door = Access(settings, TOKEN, 8765)
    cookie = door.cookie()
    clock["is"] += 30 * 86_400 - 1
    assert door.takes_cookie(cookie)
    clock["is"] += 2
    assert not door.takes_cookie(cookie)


def test_each_is_good_for_what_it_was_made_for(settings: Settings) -> None:
    door = Access(settings, TOKEN, 8765)
    assert not door.takes_code(door.cookie())
    assert not door.takes_cookie(code_of(access.link(TOKEN, URL)))
    for word in (door.cookie(), code_of(access.link(TOKEN, URL))):
        assert not access.takes_nonce(TOKEN, word, QUESTION)
    assert not door.takes_code(access.nonce(TOKEN, QUESTION))
    assert not door.takes_cookie(access.nonce(TOKEN, QUESTION))
    other = Access(settings, TOKEN[::-1], 8765)
    assert not other.takes_cookie(door.cookie())
    assert not other.takes_code(code_of(access.link(TOKEN, URL)))


QUESTION = OpenWait(
    workflow_id="run",
    step=2,
    topic="person:2",
    prompt="Shall it?",
    message_schema=None,
    since=datetime.now(UTC),
    deadline=None,
    person_only=True,
)


@proves("apps:person")
def test_a_nonce_is_good_for_a_minute_and_for_its_question(clock: dict[str, float]) -> None:
    nonce = access.nonce(TOKEN, QUESTION)
    for other in ({"workflow_id": "run\n"}, {"step": 3}, {"topic": "person:3"}):
        assert not access.takes_nonce(TOKEN, nonce, QUESTION.model_copy(update=other))
    assert not access.takes_nonce(TOKEN[::-1], nonce, QUESTION)
    clock["is"] += 59
    assert access.takes_nonce(TOKEN, nonce, QUESTION)
    clock["is"] += 2
    assert not access.takes_nonce(TOKEN, nonce, QUESTION)


@proves("apps:person")
def test_a_nonce_is_not_good_after_the_time_of_its_question(clock: dict[str, float]) -> None:
    until = datetime.fromtimestamp(clock["is"] + 30, UTC)
    question = QUESTION.model_copy(update={"deadline": until})
    nonce = access.nonce(TOKEN, question)
    clock["is"] += 29
    assert access.takes_nonce(TOKEN, nonce, question)
    clock["is"] += 2
    assert not access.takes_nonce(TOKEN, nonce, question)


@pytest.mark.parametrize("word", ["", "x", "1-2-3-4", "é", "1764400000-000000-00-ff", "\n"])
def test_a_nonce_that_nobody_made_is_not_good(word: str) -> None:
    assert not access.takes_nonce(TOKEN, word, QUESTION)


def test_browsers_tell_the_cookies_of_two_projects_apart(settings: Settings) -> None:
    one, other = settings, settings.model_copy(update={"project": settings.project / "other"})
    assert Access(one, TOKEN, 1).cookie_name == Access(one, TOKEN, 2).cookie_name
    assert Access(one, TOKEN, 1).cookie_name != Access(other, TOKEN, 1).cookie_name


@pytest.mark.parametrize(
    ("url", "begin"),
    [
        ("http://127.0.0.1:8765/mcp", "http://127.0.0.1:8765/?code="),
        ("http://[::1]:8765/mcp", "http://[::1]:8765/?code="),
        ("http://0.0.0.0:8765/mcp", "http://127.0.0.1:8765/?code="),
        ("http://[::]:8765/mcp", "http://[::1]:8765/?code="),
    ],
)
def test_a_link_is_one_that_browsers_open(url: str, begin: str) -> None:
    assert access.link(TOKEN, url).startswith(begin)


@pytest.mark.long
async def test_the_page_names_its_own_scripts_and_no_others(served: Served) -> None:
    async with visiting(served) as browser:
        page = await browser.get("/")
    assert page.status_code == 200, page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy, origin_of(served)

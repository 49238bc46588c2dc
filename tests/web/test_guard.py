"""The refusals of the page's server: each says what is wrong and what to do, and changes nothing."""

from typing import Any

import httpx2
import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.web.calls import GETS, POSTS
from helpers import newest_start
from requirements import proves
from transports import Served
from visiting import Headers, Visitor, stranger

pytestmark = pytest.mark.anyio
READ = [*(call.path for call in GETS), "download", "changes"]
CHANGED = [call.path for call in POSTS]
START = {"name": "wait_for", "args": {"topic": "t"}}


def assert_refused(answer: httpx2.Response, status: int, hint: str) -> None:
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said.keys() == {"error", "hint"}
    assert said["error"]
    assert hint in said["hint"]


@proves("page:who")
async def test_every_call_needs_the_cookie(served: Served) -> None:
    async with stranger(served) as visitor:
        for path in [*READ, "no-such-path"]:
            assert_refused(await visitor.get(f"/api/{path}"), 401, "dashboard --web")
        for path in CHANGED:
            assert_refused(await visitor.post(f"/api/{path}", {}), 401, "dashboard --web")


async def test_a_cookie_that_is_only_nearly_right_is_wrong(
    served: Served, visitor: Visitor
) -> None:
    [(name, value)] = dict(visitor.http.cookies).items()
    for wrong in (value[:-1], value + "0", value.swapcase(), "1" + value, ""):
        async with stranger(served) as other:
            other.http.cookies.set(name, wrong)
            assert (await other.get("/api/project")).status_code == 401


async def test_the_token_of_programs_is_no_cookie(served: Served) -> None:
    async with stranger(served) as visitor:
        answer = await visitor.get("/api/project", headers=served.headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("path", ["/", "/api/project"])
async def test_by_another_name_nothing_is_answered(visitor: Visitor, host: str, path: str) -> None:
    assert_refused(await visitor.get(path, headers={"Host": host}), 421, "127.0.0.1")


async def test_by_its_own_names_it_answers(visitor: Visitor) -> None:
    port = httpx2.URL(visitor.origin).port
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.http.cookies.items())
    for name in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]"):
        headers = {"Host": f"{name}:{port}", "Cookie": cookie}
        assert (await visitor.get("/api/project", headers=headers)).status_code == 200
        headers |= {"Origin": f"http://{name}:{port}"}
        answer = await visitor.post("/api/start", {"name": "nobody"}, headers=headers)
        assert answer.status_code == 404, "it was let through: there is no such workflow"


@proves("page:own-origin")
@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ({"Origin": "http://evil.example"}, "itself"),
        ({"Origin": "http://127.0.0.1:1"}, "itself"),
        ({"Origin": "null"}, "itself"),
        ({"Origin": None}, "itself"),
        ({"X-Durable-Workflows": None}, "X-Durable-Workflows: page"),
        ({"X-Durable-Workflows": "other"}, "X-Durable-Workflows: page"),
    ],
)
async def test_what_another_page_sends_changes_nothing(
    visitor: Visitor, shared: Engine, headers: Headers, hint: str
) -> None:
    before = await newest_start(shared)
    for path in CHANGED:
        assert_refused(await visitor.post(f"/api/{path}", START, headers=headers), 403, hint)
    assert await newest_start(shared) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_page_does_not_even_start_a_look(visitor: Visitor, headers: Headers) -> None:
    for path in READ:
        assert_refused(await visitor.get(f"/api/{path}", headers=headers), 403, "itself")


async def test_what_a_person_opens_by_its_address_is_answered(visitor: Visitor) -> None:
    for site in ("none", None):
        headers: Headers = {"Sec-Fetch-Site": site}
        assert (await visitor.get("/api/project", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
async def test_a_body_that_a_form_could_send_is_refused(visitor: Visitor, kind: str | None) -> None:
    answer = await visitor.post("/api/start", START, headers={"Content-Type": kind})
    assert_refused(answer, 415, "application/json")


async def test_a_body_that_is_too_large_is_refused(visitor: Visitor) -> None:
    large = b" " * (4 * 1024 * 1024 + 1)
    assert_refused(await visitor.post("/api/start", large), 413, "file")
    assert (await visitor.get("/api/project")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"5", b"[]", b"null", b"[" * 100_000, b'{"name": "x", "nonsense": 1}'],
)
async def test_a_body_that_is_no_request_is_refused(visitor: Visitor, body: bytes) -> None:
    assert_refused(await visitor.post("/api/start", body), 400, "call again")


@pytest.mark.parametrize(
    ("path", "query", "error"),
    [
        ("run", {}, "id: "),
        ("runs", {"limit": "many"}, "limit: "),
        ("runs", {"limit": "100000"}, "limit: "),
        ("runs", {"nonsense": "1"}, "nonsense: "),
        ("runs", {"since": "yesterday"}, "since: "),
        ("value", {"id": "x", "of": "secret"}, "of: "),
        ("changes", {"runs": ["x"] * 201}, "runs: "),
    ],
)
async def test_a_query_that_cannot_be_read_is_refused(
    visitor: Visitor, path: str, query: dict[str, Any], error: str
) -> None:
    answer = await visitor.get(f"/api/{path}", **query)
    assert_refused(answer, 400, "call again")
    assert answer.json()["error"].startswith(error)


async def test_what_there_is_not_is_told(visitor: Visitor) -> None:
    assert_refused(await visitor.get("/api/nothing"), 404, "/")
    assert_refused(await visitor.get("/nothing"), 404, "/")
    assert_refused(await visitor.get("/api/start"), 405, "api.ts")
    assert_refused(await visitor.post("/api/runs", {}), 405, "api.ts")


async def test_every_answer_is_sealed(served: Served, visitor: Visitor) -> None:
    async with stranger(served) as other:
        answers = [
            await visitor.get("/api/project"),
            await visitor.get("/api/nothing"),
            await visitor.get("/api/project", headers={"Host": "evil.example"}),
            await other.get("/"),
            await other.get("/api/project"),
        ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert not [name for name in answer.headers if name.startswith("access-control")]

"""Callbacks over HTTP: a program with nothing but the address answers, and nobody without it."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings
from helpers import until
from requirements import proves
from transports import SECONDS, Served, serving

pytestmark = pytest.mark.anyio
Result = dict[str, Any]


@pytest.fixture(scope="module")
async def served(shared: Engine) -> AsyncGenerator[Served]:
    """A server of the shared project."""
    with serving(Settings(project=shared.project)) as served:
        yield served


async def post(url: str, body: object, *, method: str = "POST", **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(timeout=SECONDS) as http:
        return await http.request(method, url, content=content, headers=named)


async def asked(shared: Engine, file: Path, name: str = "callback_plain", **args: Any) -> str:
    """The URL that a new run has handed over."""
    request = StartRequest(name=name, args={"file": str(file), **args}, workflow_id=file.name)
    await shared.start(request)
    await until(lambda: handed_over(file).endswith("\n"), "it is handed over")
    return handed_over(file).split()[1]


def handed_over(file: Path) -> str:
    """The token and the URL, as far as they are written."""
    return file.read_text(encoding="utf-8") if file.exists() else ""


async def output(shared: Engine, name: str) -> Any:
    [ended] = (await shared.reader.wait([name], timeout_seconds=SECONDS)).done
    assert ended.status == "SUCCESS", ended
    return ended.output


@proves("callback:http")
async def test_a_program_with_the_address_answers_once(
    served: Served, shared: Engine, tmp_path: Path
) -> None:
    url = await asked(shared, tmp_path / "http-once")
    assert url.startswith(served.url.removesuffix("mcp") + "callbacks/")
    for body, status in (
        ({"heartbeat": True}, 200),
        ({"result": 1}, 200),
        ({"result": 1}, 409),
        ({"error": "no"}, 409),
    ):
        answer = await post(url, body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith("text/plain")
    assert (await output(shared, "http-once"))["result"] == 1


@proves("callback:http")
async def test_an_answer_that_is_repeated_with_its_key_is_taken_as_one(
    served: Served, shared: Engine, tmp_path: Path
) -> None:
    url = await asked(shared, tmp_path / "http-key")
    said = [(await post(url, {"error": "no"}, idempotency_key="k")).status_code for _ in range(3)]
    assert said == [200, 200, 200]
    assert (await post(url, {"error": "none"}, idempotency_key="k")).status_code == 409
    assert (await post(url, {"error": "no"}, idempotency_key="k" * 300)).status_code == 400
    assert (await output(shared, "http-key"))["said"] == "no"


@proves("callback:http")
async def test_what_is_no_answer_is_refused_and_the_run_waits_on(
    served: Served, shared: Engine, tmp_path: Path
) -> None:
    url = await asked(shared, tmp_path / "http-wrong", "callback_typed")
    for body, status in (
        (b"", 400),
        (b"{no JSON", 400),
        (b"\xff", 400),
        (b'{"result": NaN}', 400),
        (b"[" * 10**5, 400),
        ({"result": "x" * 1_000_001}, 413),
        (b" " * 3_000_000, 413),
        ({"other": 1}, 422),
        ("done", 422),
        ({"result": {"number": "many"}}, 422),
    ):
        answer = await post(url, body)
        assert answer.status_code == status, (body if status != 413 else "", answer.text)
        assert url.rpartition("/")[2] not in answer.text
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        refused = await post(url, {"result": {"number": 1}}, method=method)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert (await post(url, {"result": {"number": 1}})).status_code == 200
    assert await output(shared, "http-wrong") == "1 from ours"


@proves("callback:http")
async def test_who_is_late_is_told_so(served: Served, shared: Engine, tmp_path: Path) -> None:
    url = await asked(shared, tmp_path / "http-late", timeout=0.2)
    await output(shared, "http-late")
    late = await post(url, {"result": 1})
    assert (late.status_code, "its time is over" in late.text) == (410, True)
    url = await asked(shared, tmp_path / "http-cancelled")
    await shared.cancel(["http-cancelled"])
    gone = await post(url, {"heartbeat": True})
    assert (gone.status_code, "has ended" in gone.text) == (410, True)


@proves("callback:http")
async def test_a_false_address_takes_nothing_and_the_right_one_opens_nothing_else(
    served: Served, shared: Engine, tmp_path: Path
) -> None:
    url = await asked(shared, tmp_path / "http-false")
    base, token = url.removesuffix(urlsplit(url).path), url.rpartition("/")[2]
    wrong = [token[:-1], token.swapcase(), f"{token}/", "", "x", "%2e%2e/mcp", "é" * 65]
    for one in wrong:
        refused = await post(f"{base}/callbacks/{one}", {"result": 1})
        assert refused.status_code == 404, one
        assert token not in refused.text
    for path in ("/mcp", "/api/download", f"/{token}", "/"):
        header = f"Bearer {token}"
        assert (await post(base + path, {}, authorization=header)).status_code in (401, 404, 405)
    project = http_access.token(served.settings)
    assert (await post(f"{base}/callbacks/{project}", {"result": 1})).status_code == 404
    await shared.cancel(["http-false"])

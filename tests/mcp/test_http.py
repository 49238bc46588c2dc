"""The server over HTTP: the same as over stdio, for several clients at once, and for nobody without the token."""

import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import psutil
import pytest
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

from durable_workflows import http_access, uris
from durable_workflows.engine import Engine
from durable_workflows.errors import PortTaken, SetupError, UsageError
from durable_workflows.models import StartRequest
from durable_workflows.server import build_server
from durable_workflows.serving_http import address, serve_http
from durable_workflows.settings import Settings
from helpers import until
from listening import Mode, connected, subscribed
from mcp import Client

pytestmark = pytest.mark.anyio
Json = dict[str, Any]

SECONDS = 30.0
# Those who stop a server wait 2 s; a busy machine takes longer for everything.
TO_LEAVE = 5.0
LAUNCHER = """
import anyio, sys
from functools import partial
from pathlib import Path
from durable_workflows.serving_http import serve_http
from durable_workflows.settings import Settings
settings = Settings(project=Path(sys.argv[1]))
anyio.run(partial(serve_http, settings, sys.argv[2], int(sys.argv[3]), allow_remote=sys.argv[4] == "remote"))
"""
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@dataclass
class Served:
    """A server process."""

    url: str
    said: str
    settings: Settings
    process: "subprocess.Popen[str]"

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {http_access.token(self.settings)}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Any]:
        """What a Client connects to."""
        async with httpx2.AsyncClient(headers=self.headers, timeout=SECONDS) as http:
            yield streamable_http_client(self.url, http_client=http)

    async def post(
        self, body: object = INITIALIZE, *, headers: Mapping[str, str | bytes | None] | None = None
    ) -> httpx2.Response:
        """A request as it is; a header that is None is left out."""
        given = {**self.headers, **(headers or {})}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in given.items()
            if value is not None
        ]
        async with httpx2.AsyncClient(timeout=SECONDS) as http:
            return await http.post(self.url, content=content, headers=found)


@contextmanager
def serving(
    settings: Settings, host: str = "127.0.0.1", port: int = 0, how: str = "local"
) -> Generator[Served]:
    command = [sys.executable, "-P", "-c", LAUNCHER, str(settings.project), host, str(port), how]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            yield Served(said.split()[3].rstrip(";"), said, settings, process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
async def served(shared: Engine) -> AsyncGenerator[Served]:
    """A server of the shared project."""
    with serving(Settings(project=Path((await shared.status()).project))) as served:
        yield served


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    """A project in which nothing runs, nor shall: its supervisor's lock cannot be taken."""
    (tmp_path / "empty").mkdir()
    return Settings(project=tmp_path / "empty")


@asynccontextmanager
async def client_of(served: Served, mode: Mode) -> AsyncGenerator[Client]:
    async with served.client() as transport, Client(transport, mode=mode) as client:
        yield client


def text(result: Any) -> str:
    assert not result.is_error, result.content
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


# The same as over stdio


async def test_a_client_of_each_era_sees_the_same_server_as_over_stdio(
    served: Served, mode: Mode
) -> None:
    async with client_of(served, mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "durable-workflows"
        assert client.server_capabilities.resources is not None
        assert client.server_capabilities.resources.list_changed
        tools = (await client.list_tools()).tools
        prompts = (await client.list_prompts()).prompts
        templates = (await client.list_resource_templates()).resource_templates
    async with Client(build_server(served.settings), mode=mode) as other:
        assert tools == (await other.list_tools()).tools
        assert prompts == (await other.list_prompts()).prompts
        assert templates == (await other.list_resource_templates()).resource_templates


async def test_a_run_is_started_waited_for_and_inspected(served: Served, mode: Mode) -> None:
    run = f"http-{mode}"
    args = {"name": "fails", "args": {"message": "no card"}, "workflow_id": run}
    async with client_of(served, mode) as client:
        await client.call_tool("start_workflow", args)
        waited = text(await client.call_tool("wait_for_workflows", {"workflow_ids": [run]}))
        inspected = text(await client.call_tool("inspect", {"workflow_id": run}))
        read = await client.read_resource(uris.expand(uris.TRACE, workflow_id=run))
        wrong = await client.call_tool("inspect", {"workflow_id": "nobody"})
    assert "ValueError: no card" in waited
    assert "failed in step 2 fail" in inspected
    assert inspected in str(read.contents[0].model_dump()["text"])
    assert wrong.is_error


async def test_two_clients_are_served_at_once(served: Served, mode: Mode) -> None:
    run = f"two-{mode}"
    args = {"name": "wait_for", "args": {"topic": "go"}, "workflow_id": run}
    message = {"workflow_id": run, "topic": "go", "message": "hello"}
    heard: list[str] = []
    async with client_of(served, mode) as waiting, client_of(served, "auto") as sending:
        await waiting.call_tool("start_workflow", {**args, "wait_seconds": 30})

        async def wait() -> None:
            until_change = {"workflow_ids": [run], "until": "change", "timeout_seconds": 30}
            heard.append(text(await waiting.call_tool("wait_for_workflows", until_change)))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await sending.call_tool("list_workflows", {})
            await sending.call_tool("send_message", message)
    assert run in heard[0]


async def test_subscriptions_are_told_of_changes(
    served: Served, shared: Engine, mode: Mode
) -> None:
    run = f"heard-{mode}"
    trace = uris.expand(uris.TRACE, workflow_id=run)
    args = {"name": "noisy", "workflow_id": run}
    async with (
        served.client() as transport,
        connected(transport, mode) as (client, ear),
        subscribed(client, ear, [trace]),
    ):
        await client.call_tool("start_workflow", args)
        await ear.next(trace, 0)


async def test_of_a_client_that_has_gone_nothing_is_left(
    served: Served, shared: Engine, mode: Mode
) -> None:
    port = int(shared.connection.url.rpartition(":")[2].partition("/")[0])

    def connections() -> int:
        found = psutil.Process(served.process.pid).net_connections("tcp")
        return sum(bool(one.raddr) and one.raddr.port == port for one in found)

    async with client_of(served, "auto") as client:
        await client.call_tool("list_workflows", {})  # the engine has its connections
    await until(lambda: connections() <= 2, "nobody subscribes")
    before = connections()
    async with (
        served.client() as transport,
        connected(transport, mode) as (client, ear),
        subscribed(client, ear, [uris.expand(uris.TRACE, workflow_id="x")]),
    ):
        await until(lambda: connections() == before + 1, "there are subscriptions")
    await until(lambda: connections() == before, "there are none")


# Who gets in


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic {}", "{}"])
async def test_without_the_token_nobody_gets_in(served: Served, given: str | None) -> None:
    token = http_access.token(served.settings)
    header = None if given is None else given.format(token)
    refused = await served.post(headers={"Authorization": header})
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert token not in refused.text


async def test_a_token_that_is_only_nearly_right_is_wrong(served: Served) -> None:
    token = http_access.token(served.settings)
    for wrong in (token[:-1], token + "x", token.swapcase(), "é" * 43):
        header = f"Bearer {wrong}".encode()
        assert (await served.post(headers={"Authorization": header})).status_code == 401


async def test_every_path_and_method_needs_the_token(served: Served) -> None:
    base = served.url.removesuffix("/mcp")
    async with httpx2.AsyncClient(timeout=SECONDS) as http:
        for path, method in itertools.product(("/mcp", "/", "/x"), ("GET", "DELETE", "OPTIONS")):
            assert (await http.request(method, base + path)).status_code == 401


async def test_with_the_token_one_gets_in(served: Served) -> None:
    assert (await served.post()).status_code == 200


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Host", "evil.example", 421),
        ("Host", "evil.example:80", 421),
        ("Host", "127.0.0.1.evil.example", 421),
        ("Origin", "http://evil.example", 403),
        ("Origin", "http://localhost:1", 403),
        ("Origin", "null", 403),
    ],
)
async def test_a_browser_that_was_led_here_is_refused(
    served: Served, header: str, value: str, status: int
) -> None:
    modern = {"MCP-Protocol-Version": "2026-07-28"}
    for version in ({}, modern):
        assert (await served.post(headers={header: value, **version})).status_code == status


async def test_its_own_names_and_origin_are_served(served: Served) -> None:
    port = httpx2.URL(served.url).port
    for name in ("127.0.0.1", "localhost", "[::1]"):
        headers = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        answer = await served.post(headers=headers)
        assert answer.status_code == 200
        assert not [one for one in answer.headers if one.startswith("access-control")]


async def test_a_request_that_is_too_large_is_refused(served: Served) -> None:
    large = b" " * (4 * 1024 * 1024 + 1)

    async def parts() -> AsyncGenerator[bytes]:
        for _ in range(5):
            yield large[: 1024 * 1024]

    assert (await served.post(large)).status_code == 413
    async with httpx2.AsyncClient(headers=served.headers, timeout=SECONDS) as http:
        assert (await http.post(served.url, content=parts())).status_code == 413
    assert (await served.post()).status_code == 200


# Where it listens


async def test_the_url_is_told_and_the_token_is_not(served: Served) -> None:
    token = http_access.token(served.settings)
    path = http_access.token_file(served.settings)
    assert served.said == f"Serving MCP on {served.url}; the token is in {path}.\n"
    assert served.url.startswith("http://127.0.0.1:")
    assert token not in served.said
    assert served.url in http_access.urls(served.settings)


async def test_a_port_that_is_taken_is_told(empty: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} of 127.0.0.1 is in use") as refused:
            await serve_http(empty, "127.0.0.1", port, allow_remote=False)
    assert refused.value.hint == "Name another port, or 0 to have a free one chosen."


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("0.0.0.0", "can be reached from other machines"),
        ("::", "can be reached from other machines"),
        ("192.0.2.1", "can be reached from other machines"),
        ("no-such-host.invalid", "is no address"),
    ],
)
async def test_other_addresses_are_refused(empty: Settings, host: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        await serve_http(empty, host, 0, allow_remote=False)


async def test_an_address_of_another_machine_is_refused(empty: Settings) -> None:
    with pytest.raises(UsageError, match="cannot be served"):
        await serve_http(empty, "192.0.2.1", 0, allow_remote=True)


async def test_a_remote_address_needs_the_token_too(settings: Settings) -> None:
    with serving(settings, "0.0.0.0", how="remote") as served:
        assert served.url.startswith("http://0.0.0.0:")
        assert (await served.post(headers={"Authorization": None})).status_code == 401
        port = httpx2.URL(served.url).port
        for name in ("127.0.0.1", socket.gethostname()):
            assert (await served.post(headers={"Host": f"{name}:{port}"})).status_code == 200
        evil = {"Host": f"evil.example:{port}"}
        assert (await served.post(headers=evil)).status_code == 421


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("127.0.0.1:8765", "127.0.0.1", 8765),
        ("8765", "127.0.0.1", 8765),
        (":8765", "127.0.0.1", 8765),
        ("localhost", "localhost", 0),
        ("", "127.0.0.1", 0),
        ("[::1]:8765", "::1", 8765),
        ("[::1]", "::1", 0),
        ("::1", "::1", 0),
    ],
)
def test_an_address_may_be_short(given: str, host: str, port: int) -> None:
    assert address(given) == (host, port)


@pytest.mark.parametrize(
    "given",
    [
        "localhost:x",
        "127.0.0.1:65536",
        "1.2.3.4:-1",
        "me@localhost",
        "http://localhost",
        "a/b",
        "[::1",
        "a]b",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        address(given)


# The token


def test_the_token_is_made_once_for_this_user_only(empty: Settings) -> None:
    together = threading.Barrier(8)
    found: list[str] = []

    def get() -> None:
        together.wait(SECONDS)
        found.append(http_access.token(empty))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [http_access.token(empty)] * 8
    assert len(found[0]) >= 43
    assert stat.S_IMODE(http_access.token_file(empty).stat().st_mode) == 0o600
    assert not list(empty.state.glob(".token-*"))


def test_a_file_without_a_token_lets_nobody_in(empty: Settings) -> None:
    http_access.token(empty)
    http_access.token_file(empty).write_text("\n", encoding="utf-8")
    with pytest.raises(SetupError, match="holds no token"):
        http_access.token(empty)


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_whatever_is_open(
    shared: Engine, tmp_path: Path, number: signal.Signals
) -> None:
    settings = Settings(project=Path((await shared.status()).project))
    run = f"open-{number}"
    args = {"file": str(tmp_path / "lines"), "seconds": 0.5, "steps": 60}
    await shared.start(StartRequest(name="ten_steps", args=args, workflow_id=run))
    with serving(settings) as served:
        streams = await open_streams(served, run)
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(stream.read)
            await until(lambda: all(one.is_open for one in streams), "waits and streams are open")
            began = time.monotonic()
            served.process.send_signal(number)
            code = await anyio.to_thread.run_sync(served.process.wait, SECONDS)
            assert time.monotonic() - began < TO_LEAVE
            assert code == 0
    assert '"result"' in streams[0].text, "who listened is told that this was meant"
    left = [path.name for path in (settings.state / "locks").glob("http-*")]
    assert quote(served.url, safe="") not in str(left), "it has put everything away"
    with socket.create_server(("127.0.0.1", httpx2.URL(served.url).port or 0)):
        pass
    assert (await shared.run(run)).status == "PENDING"
    await shared.cancel([run])


class Stream:
    """A request whose answer goes on and on."""

    def __init__(self, served: Served, body: Json | None, headers: Mapping[str, str]) -> None:
        self._url = served.url
        self._body = body
        self._headers = {**served.headers, **headers}
        self.is_open = False
        self.text = ""

    async def read(self) -> None:
        method = "GET" if self._body is None else "POST"
        async with httpx2.AsyncClient(headers=self._headers, timeout=SECONDS) as http:
            with suppress(httpx2.HTTPError):  # cut off
                async with http.stream(method, self._url, json=self._body) as response:
                    assert response.status_code == 200
                    self.is_open = True
                    async for text in response.aiter_text():
                        self.text += text


async def open_streams(served: Served, run: str) -> list[Stream]:
    """A subscription and a wait in each era of the protocol."""
    wait: Json = {"name": "wait_for_workflows", "arguments": {"workflow_ids": [run]}}
    opened = await served.post()
    earlier = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
    listen: Json = {"notifications": {"resourcesListChanged": True}}
    newer = {"MCP-Protocol-Version": "2026-07-28"}
    calling = {"Mcp-Method": "tools/call", "Mcp-Name": "wait_for_workflows"}
    return [
        Stream(
            served,
            request("subscriptions/listen", {**listen, "_meta": ENVELOPE}),
            {**newer, "Mcp-Method": "subscriptions/listen"},
        ),
        Stream(
            served,
            request("tools/call", {**wait, "_meta": {**ENVELOPE, "progressToken": 1}}),
            {**newer, **calling},
        ),
        Stream(served, None, earlier),
        Stream(served, request("tools/call", {**wait, "_meta": {"progressToken": 2}}), earlier),
    ]


def request(method: str, params: Json) -> Json:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def test_of_a_server_that_was_killed_nothing_is_told(nowhere: Settings) -> None:
    nowhere.project.mkdir()
    with serving(nowhere) as served:
        assert http_access.urls(nowhere) == [served.url]
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait(SECONDS)
        assert http_access.urls(nowhere) == []

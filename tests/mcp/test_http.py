"""The server over HTTP: the same as over stdio, for several clients at once, and for no client without the token."""

import itertools
import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import psutil
import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, TextContent

from durable_workflows.engine.engine import Engine
from durable_workflows.errors import PortTaken, SetupError, UsageError
from durable_workflows.mcp import uris
from durable_workflows.mcp.server import build_server
from durable_workflows.mcp.serving_http import address, serve_http
from durable_workflows.models import UNFINISHED, StartRequest
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings
from durable_workflows.system import places
from helpers import copy_flow, processes_of, until
from listening import Mode, connected, subscribed
from mcp import Client
from requirements import long
from transports import INITIALIZE, SECONDS, Served, envelope, serving

pytestmark = pytest.mark.anyio
Json = dict[str, Any]

# Those who stop a server wait 2 s; a busy machine takes longer for everything. What is open lasts longer than this.
TO_LEAVE = 15.0


@pytest.fixture(scope="module")
async def served(shared: Engine) -> AsyncGenerator[Served]:
    """A server of the shared project."""
    with serving(Settings(project=Path((await shared.reader.status()).project))) as served:
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


@pytest.mark.long
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
    async with client_of(served, "auto") as client:
        await client.call_tool("list_workflows", {})  # the engine has its connections
    await until(lambda: database_connections(served, shared) == 1, "only the engine is there")
    before = database_connections(served, shared)
    async with (
        served.client() as transport,
        connected(transport, mode) as (client, ear),
        subscribed(client, ear, [uris.expand(uris.TRACE, workflow_id="x")]),
    ):
        await until(
            lambda: database_connections(served, shared) == before + 1, "there are subscriptions"
        )
    await until(lambda: database_connections(served, shared) == before, "there are none")


async def test_what_is_read_and_offered_is_the_same_as_over_stdio(
    served: Served, shared: Engine, mode: Mode
) -> None:
    ids = [f"offered-{mode}-{number}" for number in range(60)]
    await shared.start_all([StartRequest(name="noisy", workflow_id=one) for one in ids])
    await shared.reader.wait(ids)
    async with (
        client_of(served, mode) as client,
        Client(build_server(served.settings), mode=mode) as other,
    ):
        await other.call_tool("list_workflows", {})  # both engines are there
        await client.call_tool("list_workflows", {})
        assert await everything(client, ids[0]) == await everything(other, ids[0])


async def everything(client: Client, run: str) -> list[object]:
    """Everything apart from the tools: resources in pages, a prompt, words for completion."""
    first = await client.list_resources()
    newest = await client.read_resource(uris.RUNS)
    cursor = json.loads(newest.contents[0].model_dump()["text"])["next_cursor"]
    trace = PromptReference(name="debug_workflow")
    found: list[object] = [
        first.resources,
        (await client.list_resources(cursor=first.next_cursor)).resources,
        newest.contents,
        (await client.read_resource(f"{uris.RUNS}?cursor={cursor}")).contents,
        (await client.read_resource(uris.expand(uris.TRACE_JSON, workflow_id=run))).contents,
        (await client.read_resource(uris.expand(uris.TEMPLATE, name="basic_workflow"))).contents,
        (await client.get_prompt("debug_workflow", {"workflow_id": run})).messages,
        (await client.complete(trace, {"name": "workflow_id", "value": run})).completion,
    ]
    with pytest.raises(MCPError) as refused:
        await client.read_resource(uris.expand(uris.TRACE, workflow_id="nobody"))
    return [*found, refused.value.error.code, refused.value.error.message]


async def test_a_start_is_a_task_for_those_who_declare_it(served: Served, shared: Engine) -> None:
    tasks = "io.modelcontextprotocol/tasks"
    capabilities: Json = {"extensions": {tasks: {}}}
    meta: Json = envelope(**capabilities)

    async def ask(method: str, name: str, params: Json) -> Json:
        body = request(method, {**params, "_meta": meta})
        return (await served.post(body, headers=newer_headers(method, name))).json()["result"]

    args: Json = {"name": "wait_for", "args": {"topic": "go"}, "workflow_id": "http-task"}
    start: Json = {"name": "start_workflow", "arguments": args}
    task = await ask("tools/call", "start_workflow", start)
    assert (task["resultType"], task["taskId"], task["status"]) == ("task", "http-task", "working")
    await shared.send("http-task", "go", "went")
    await shared.reader.wait(["http-task"])
    ended = await ask("tasks/get", "http-task", {"taskId": "http-task"})
    assert ended["status"] == "completed"
    assert ended["result"]["structuredContent"]["output"] == "went"


async def test_what_cannot_start_is_told_by_the_tool(empty: Settings, mode: Mode) -> None:
    wrong = {"DBOS_DATABASE_URL": "mysql://secret@nowhere/db"}
    with serving(empty, environment=wrong) as served:
        async with client_of(served, mode) as client:
            result = await client.call_tool("list_workflows", {})
    assert result.is_error
    assert "Write it as postgresql://" in str(result.content)
    assert "secret" not in str(result.content)


async def test_what_is_no_request_is_refused_and_disturbs_nobody(served: Served) -> None:
    opened = await served.post()
    headers: list[dict[str, str]] = [
        {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]},
        {"MCP-Protocol-Version": "2026-07-28"},
    ]
    deep = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 10**5 + b"]" * 10**5 + b"}"
    for given in headers:
        for body in (b"", b"{no JSON", b"\xff", b"5", b"[]", b'{"jsonrpc":"2.0","id":1}', deep):
            refused = await served.post(body, headers=given)
            assert refused.status_code == 400, body[:20]
            assert "error" in refused.json()
        assert (await served.post([INITIALIZE, INITIALIZE], headers=given)).status_code == 400
    unknown = request("no/such", {"_meta": envelope()})
    assert '"code":-32601' in (await served.post(unknown, headers=headers[0])).text
    newer = await served.post(unknown, headers={**headers[1], "Mcp-Method": "no/such"})
    assert newer.json()["error"]["code"] == -32601
    gone = {"Mcp-Session-Id": "of-another-server"}
    assert (await served.post(request("ping", {}), headers=gone)).status_code == 404
    alive = await served.post(request("ping", {}), headers=headers[0])
    assert alive.status_code == 200


async def test_a_client_that_disappears_in_a_call_leaves_the_run_alone_and_nothing_behind(
    served: Served, shared: Engine, tmp_path: Path, mode: Mode
) -> None:
    run = f"left-alone-{mode}"
    args = {"file": str(tmp_path / "lines"), "seconds": 0.5, "steps": 1000}
    await shared.start(StartRequest(name="ten_steps", args=args, workflow_id=run))
    async with client_of(served, "auto") as client:
        await client.call_tool("list_workflows", {})  # the engine has its connections
    await until(lambda: database_connections(served, shared) == 1, "only the engine is there")
    before = database_connections(served, shared)
    # An earlier client may come back for an answer: of such a call nothing is left once its time is over.
    streams = await open_streams(served, run, timeout_seconds=2 if mode == "legacy" else 600)
    async with anyio.create_task_group() as group:
        for stream in streams[2:] if mode == "legacy" else streams[:2]:
            group.start_soon(stream.read)
        await until(lambda: database_connections(served, shared) > before, "it waits")
        group.cancel_scope.cancel()
    await until(lambda: database_connections(served, shared) <= before, "nothing is left")
    assert (await shared.reader.run(run)).status in UNFINISHED
    await shared.cancel([run])


def database_connections(served: Served, shared: Engine) -> int:
    port = int(shared.connection.url.rpartition(":")[2].partition("/")[0])
    found = psutil.Process(served.process.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port for one in found)


@pytest.mark.long
async def test_a_call_outlasts_the_database(settings: Settings, folder: Path) -> None:
    copy_flow("messages", folder)
    args = {"name": "wait_for", "args": {"topic": "go"}, "workflow_id": "w"}
    message = {"workflow_id": "w", "topic": "go", "message": "went"}
    change = {"workflow_ids": ["w"], "until": "change", "timeout_seconds": 60}
    heard: list[str] = []
    with serving(settings) as served:
        async with client_of(served, "auto") as client, client_of(served, "auto") as other:
            text(await client.call_tool("start_workflow", {**args, "wait_seconds": 60}))

            async def wait() -> None:
                while "SUCCESS" not in str(heard):
                    heard.append(text(await client.call_tool("wait_for_workflows", change)))

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                [node] = processes_of(folder, "pglite.mjs")
                os.kill(node.pid, signal.SIGKILL)
                text(await other.call_tool("send_message", message))
    assert '"output":"went"' in heard[-1]


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
    path = places.token(served.settings)
    assert served.said == f"Serving MCP on {served.url}; the token is in {path}.\n"
    assert served.url.startswith("http://127.0.0.1:")
    assert token not in served.said
    assert served.url in http_access.urls(served.settings)


async def test_a_port_that_is_taken_is_told(empty: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} of 127.0.0.1 is in use") as refused:
            await serve_http(empty, "127.0.0.1", port, allow_remote=False)
    assert refused.value.hint == "Choose another port, or 0 for any free one."


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("0.0.0.0", "can be reached from other machines"),
        ("::", "can be reached from other machines"),
        ("192.0.2.1", "can be reached from other machines"),
        ("no-such-host.invalid", "is not an address"),
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
    with pytest.raises(UsageError, match="is not an address"):
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
    assert stat.S_IMODE(places.token(empty).stat().st_mode) == 0o600
    assert not list(empty.state.glob(".token-*"))


def test_a_file_without_a_token_lets_nobody_in(empty: Settings) -> None:
    http_access.token(empty)
    places.token(empty).write_text("\n", encoding="utf-8")
    with pytest.raises(SetupError, match="holds no token"):
        http_access.token(empty)


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, *long(signal.SIGINT)])
async def test_a_signal_ends_it_whatever_is_open(
    shared: Engine, tmp_path: Path, number: signal.Signals
) -> None:
    settings = Settings(project=Path((await shared.reader.status()).project))
    run = f"open-{number}"
    args = {"file": str(tmp_path / "lines"), "seconds": 0.5, "steps": 1000}
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
    assert (await shared.reader.run(run)).status in UNFINISHED
    await shared.cancel([run])


@pytest.mark.long
async def test_it_ends_without_complaint_though_the_database_does_not_answer(
    engine: Engine, folder: Path
) -> None:
    call: Json = {"name": "list_workflows", "arguments": {}, "_meta": envelope()}
    body = request("tools/call", call)
    headers = newer_headers("tools/call", "list_workflows")
    [node] = processes_of(folder, "pglite.mjs")
    with serving(Settings(project=folder)) as served:
        assert (await served.post(body, headers=headers)).is_success
        node.suspend()
        try:
            with send(served, body, headers):  # it asks the database within the time that is left
                served.process.send_signal(signal.SIGTERM)
                assert await anyio.to_thread.run_sync(served.process.wait, SECONDS) == 0
        finally:
            node.resume()
        assert served.process.stderr is not None
        assert served.process.stderr.read() == ""


def send(served: Served, body: Json, headers: Mapping[str, str]) -> socket.socket:
    """A connection with a request whose answer was not read."""
    content = json.dumps(body)
    url = httpx2.URL(served.url)
    given = {"Host": url.netloc.decode(), **served.headers, **headers}
    lines = [f"POST {url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    connection = socket.create_connection((url.host, url.port or 0))
    text = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", content])
    connection.sendall(text.encode())
    return connection


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


async def open_streams(served: Served, run: str, *, timeout_seconds: float = 45) -> list[Stream]:
    """A subscription and a wait in each era of the protocol, the newer one first."""
    waiting = {"workflow_ids": [run], "timeout_seconds": timeout_seconds}
    wait: Json = {"name": "wait_for_workflows", "arguments": waiting}
    opened = await served.post()
    earlier = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
    listen: Json = {"notifications": {"resourcesListChanged": True}}
    return [
        Stream(
            served,
            request("subscriptions/listen", {**listen, "_meta": envelope()}),
            newer_headers("subscriptions/listen"),
        ),
        Stream(
            served,
            request("tools/call", {**wait, "_meta": {**envelope(), "progressToken": 1}}),
            newer_headers("tools/call", "wait_for_workflows"),
        ),
        Stream(served, None, earlier),
        Stream(served, request("tools/call", {**wait, "_meta": {"progressToken": 2}}), earlier),
    ]


def newer_headers(method: str, name: str | None = None) -> dict[str, str]:
    """The headers of a request of protocol 2026-07-28 that describe its body."""
    named = {"Mcp-Name": name} if name else {}
    return {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, **named}


def request(method: str, params: Json) -> Json:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


async def test_of_a_server_that_was_killed_nothing_is_told(settings: Settings) -> None:
    with serving(settings) as served:
        assert http_access.urls(settings) == [served.url]
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait(SECONDS)
        # A child that it was just starting has its files until it runs its own program.
        await until(lambda: not http_access.urls(settings), "nothing is told of the killed server")

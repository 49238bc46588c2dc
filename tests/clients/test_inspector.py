"""MCP Inspector as a client over stdio: its command line, in both eras of the protocol, and the README's line that opens its page."""

import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

import anyio
import httpx2
import psutil
import pytest
from anyio.abc import Process

import native
from durable_workflows import content
from durable_workflows.engine.engine import Engine
from durable_workflows.mcp import uris
from durable_workflows.mcp.prompts import PROMPTS
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.models import StartRequest
from durable_workflows.pglite.node import node
from durable_workflows.settings import Settings
from helpers import until, until_found
from requirements import long
from transports import INITIALIZE

pytestmark = [pytest.mark.anyio, pytest.mark.long]
Era = Literal["legacy", "modern"]
Json = dict[str, Any]

SECONDS = 60.0
README = Path(__file__).parents[2] / "README.md"
PROGRAM = Path(".bin", "inspector")  # what npx runs
TOOL_FAILED = 5  # exit status
SCHEMA_PROBLEM = 6
QUIET = {"MCP_AUTO_OPEN_ENABLED": "false", "MCP_INSPECTOR_SECRET_STORE": "memory"}


class Inspector:
    """Inspector's programs, for the server of one project."""

    def __init__(self, program: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._program = program
        self._folder = folder
        self._environment = {**environment, **QUIET}

    async def result(self, target: Sequence[str], method: str, *words: str) -> Json:
        """The result of a request."""
        status, out, err = await self.run(target, method, *words)
        assert status == 0, err
        return json.loads(out)["result"]

    async def run(self, target: Sequence[str], method: str, *words: str) -> tuple[int, str, str]:
        """Its exit status, standard output and standard error for a request."""
        options = ("--method", method, "--format", "json", *words)
        async with self.started("--cli", *target, *options) as process:
            with anyio.fail_after(SECONDS):
                status = await process.wait()
        return status, self.output("out"), self.output("err")

    @asynccontextmanager
    async def started(
        self, *words: str, cwd: Path | None = None, **variables: str
    ) -> AsyncGenerator[Process]:
        """Inspector with these words. Once it has ended nothing is left of what it has started."""
        with self._open("out") as out, self._open("err") as err:
            process = await anyio.open_process(
                [node(), self._program, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd or self._folder,
                env={**self._environment, **variables},
                start_new_session=True,
            )
        try:
            yield process
            await until(lambda: not of_session(process.pid), "all that it started has ended")
        finally:
            for one in of_session(process.pid):
                one.kill()
            await process.aclose()

    def output(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8")

    def _open(self, name: str) -> IO[bytes]:
        return (self._folder / name).open("wb")


def of_session(leader: int) -> list[psutil.Process]:
    """The living processes of the session that began with that process; our supervisors have sessions of their own."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture
def inspector(modules: Path, variables: dict[str, str], tmp_path: Path) -> Inspector:
    return Inspector(modules / PROGRAM, tmp_path, variables)


@pytest.fixture(params=["modern", *long("legacy")])
def era(request: pytest.FixtureRequest) -> Era:
    """Both eras of the protocol."""
    return request.param


@pytest.fixture
def by_command(there: Settings, command: Path) -> list[str]:
    """How Inspector is told of a server by its command line, which means the earlier era."""
    return [str(command), "serve", "--project", str(there.project)]


@pytest.fixture
def target(era: Era, by_command: list[str], tmp_path: Path) -> list[str]:
    """How Inspector is told of our server: by its command line, or by a file as clients have it."""
    if era == "legacy":
        return by_command
    program, *words = by_command
    servers = {"mcpServers": {"ours": {"command": program, "args": words}}}
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps(servers), encoding="utf-8")
    return ["--config", str(file), "--server", "ours", "--protocol-era", era]


# The command line


async def test_it_connects_in_each_era(inspector: Inspector, target: list[str], era: Era) -> None:
    found = await inspector.result(target, "initialize")
    assert found["protocolVersion"] == {"legacy": "2025-11-25", "modern": "2026-07-28"}[era]
    assert found["serverInfo"]["name"] == "durable-workflows"
    assert found["serverInfo"]["version"] == content.package_version()
    assert found["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
    assert found["instructions"].startswith("Durable workflows for this project")


async def test_it_lists_all_tools_and_finds_no_error_in_their_schemas(
    inspector: Inspector, target: list[str]
) -> None:
    status, out, err = await inspector.run(target, "tools/list", "--strict")
    assert status != SCHEMA_PROBLEM, err
    tools = json.loads(out)["result"]["tools"]
    assert [one["name"] for one in tools] == [spec.function.__name__ for spec in TOOLS]
    for one in tools:
        assert one["inputSchema"]["type"] == "object"
        assert len(one["annotations"]) >= 4


async def test_it_starts_a_run_and_waits_for_it(
    inspector: Inspector, target: list[str], era: Era
) -> None:
    run = f"inspector-{era}"
    words = ("name=fails", 'args={"message":"no card"}', f"workflow_id={run}", "wait_seconds=30")
    call = ("--tool-name", "start_workflow", "--tool-arg", *words)
    started = (await inspector.result(target, "tools/call", *call))["structuredContent"]
    assert (started["workflow_id"], started["status"]) == (run, "ERROR")
    assert started["error"] == "ValueError: no card"


async def test_it_inspects_a_run(
    inspector: Inspector, by_command: list[str], shared: Engine
) -> None:
    run = "inspector-inspected"
    await shared.start(StartRequest(name="fails", args={"message": "no card"}, workflow_id=run))
    await shared.reader.wait([run])
    words = ("--tool-name", "inspect", "--tool-arg", f"workflow_id={run}")
    [shown] = (await inspector.result(by_command, "tools/call", *words))["content"]
    assert shown["text"].startswith(f"# {run}: fails ERROR\n")
    assert "failed in step 2 fail: ValueError: no card" in shown["text"]


async def test_a_wrong_call_is_an_error_that_says_what_is_right(
    inspector: Inspector, by_command: list[str]
) -> None:
    words = ("--tool-name", "inspect", "--tool-arg", "workflowid=x")
    status, out, err = await inspector.run(by_command, "tools/call", *words)
    assert status == TOOL_FAILED
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "tool_is_error"
    [shown] = json.loads(out)["result"]["content"]
    assert shown["text"].startswith("Wrong arguments for inspect: workflow_id is missing;")
    assert "(did you mean 'workflow_id'?)" in shown["text"]


async def test_it_lists_the_resources(inspector: Inspector, by_command: list[str]) -> None:
    resources = (await inspector.result(by_command, "resources/list"))["resources"]
    types = {one["uri"]: one["mimeType"] for one in resources}
    assert types["durable://workflows"] == "application/json"
    assert types["durable://templates/basic_workflow"] == "text/x-python"
    assert types["durable://references/recovery"] == "text/markdown"


async def test_it_lists_the_resource_templates(inspector: Inspector, by_command: list[str]) -> None:
    found = await inspector.result(by_command, "resources/templates/list")
    assert {one["uriTemplate"] for one in found["resourceTemplates"]} == {
        *(uris.TRACE, uris.TRACE_JSON, uris.RUNS_PAGE, uris.TEMPLATE, uris.REFERENCE)
    }


async def test_it_reads_a_trace(
    inspector: Inspector, target: list[str], era: Era, shared: Engine
) -> None:
    run = f"inspector-trace-{era}"
    await shared.start(StartRequest(name="talk", workflow_id=run))
    await shared.reader.wait([run])
    uri = uris.expand(uris.TRACE, workflow_id=run)
    [shown] = (await inspector.result(target, "resources/read", "--uri", uri))["contents"]
    assert (shown["uri"], shown["mimeType"]) == (uri, "text/markdown")
    assert shown["text"].startswith(f"# {run}: talk SUCCESS\n")


async def test_it_reads_a_trace_as_json(
    inspector: Inspector, by_command: list[str], shared: Engine
) -> None:
    run = "inspector-trace-json"
    await shared.start(StartRequest(name="talk", workflow_id=run))
    await shared.reader.wait([run])
    uri = uris.expand(uris.TRACE_JSON, workflow_id=run)
    [shown] = (await inspector.result(by_command, "resources/read", "--uri", uri))["contents"]
    assert (shown["uri"], shown["mimeType"]) == (uri, "application/json")
    trace = json.loads(shown["text"])
    assert (trace["workflow_id"], trace["status"]) == (run, "SUCCESS")
    assert [step["name"] for step in trace["steps"]] == ["chatter"]


async def test_it_lists_the_prompts(inspector: Inspector, by_command: list[str]) -> None:
    prompts = (await inspector.result(by_command, "prompts/list"))["prompts"]
    found = {one["name"]: [argument["name"] for argument in one["arguments"]] for one in prompts}
    assert found == {one.name: [argument.name for argument in one.arguments] for one in PROMPTS}


async def test_it_gets_a_prompt_with_arguments(inspector: Inspector, by_command: list[str]) -> None:
    words = ("--prompt-name", "orchestrate", "--prompt-args", "goal=Release 2", "workflow=release")
    [message] = (await inspector.result(by_command, "prompts/get", *words))["messages"]
    assert message["role"] == "user"
    assert "Release 2" in message["content"]["text"]
    assert "Use the workflow `release`" in message["content"]["text"]


async def test_of_an_inspector_that_is_killed_nothing_is_left_but_the_run(
    inspector: Inspector, by_command: list[str], shared: Engine
) -> None:
    run = "inspector-killed"
    words = ("name=wait_for", 'args={"topic":"go"}', f"workflow_id={run}", "wait_seconds=45")
    call = ("--method", "tools/call", "--tool-name", "start_workflow", "--tool-arg", *words)

    async def started() -> bool:
        return run in [
            one.workflow_id for one in (await shared.reader.runs(waiting=True)).workflows
        ]

    async with inspector.started("--cli", *by_command, *call) as process:
        await until_found(started, "the run waits")
        process.send_signal(signal.SIGKILL)
    await shared.send(run, "go", "hello")
    [ended] = (await shared.reader.wait([run])).done
    assert ended.output == "hello"


# The page


def readme_words() -> list[str]:
    """The words in the README after the name of the package."""
    text = README.read_text(encoding="utf-8")
    [found] = re.findall(r"`npx @modelcontextprotocol/inspector (.+?)`", text)
    return found.split()


async def test_the_line_in_the_readme_opens_a_page_that_reaches_the_server(
    inspector: Inspector, there: Settings
) -> None:
    ports = {"CLIENT_PORT": str(native.free_port()), "MCP_SANDBOX_PORT": "0"}

    async def url() -> str | None:
        found = re.search(r"http://\S+\?MCP_INSPECTOR_API_TOKEN=\w+", inspector.output("out"))
        return found[0] if found else None

    async with inspector.started(*readme_words(), cwd=there.project, **ports) as process:
        page, _, token = (await until_found(url, "it says where its page is")).partition("?")
        headers = {"x-mcp-remote-auth": f"Bearer {token.partition('=')[2]}"}
        async with httpx2.AsyncClient(base_url=page, headers=headers, timeout=SECONDS) as http:
            servers = (await http.get("/api/servers")).json()["mcpServers"]
            [server] = servers.values()
            answer = await http.post("/api/mcp/connect", json={"config": server})
            message = {"sessionId": answer.json()["sessionId"], "message": INITIALIZE}
            sent = await http.post("/api/mcp/send", json=message)
        assert [server["command"], *server["args"]] == readme_words()
        assert Path(server["cwd"]) == there.project
        assert sent.json() == {"ok": True}
        process.send_signal(signal.SIGTERM)

"""The conformance suite of the protocol against the server over HTTP: all of its scenarios, but those that need a server made for it.

The suite cannot send a token, so it speaks to a forwarder that adds it: the server is the real one, with all that stands before it.
"""

import re
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
import uvicorn
from pydantic import BaseModel, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from durable_workflows.pglite.node import node
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.long]

SECONDS = 60.0
# What package.json calls the two editions of the suite.
RELEASED, NEXT = "conformance", "conformance-next"
VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
# Extensions belong to no version of the protocol: their scenarios are run one by one.
OF_EXTENSIONS = ("tasks-capability-negotiation", "tasks-dispatch-and-envelope")
RUNS = (
    pytest.param(RELEASED, (), id=RELEASED),
    *(pytest.param(NEXT, ("--spec-version", one), id=f"{NEXT} {one}") for one in VERSIONS),
    *(pytest.param(NEXT, ("--scenario", one), id=f"{NEXT} {one}") for one in OF_EXTENSIONS),
)
PASSED = {
    *OF_EXTENSIONS,
    "caching",
    "completion-complete",
    "dns-rebinding-protection",
    "http-header-validation",
    "input-required-result-unsupported-methods",
    "ping",
    "prompts-list",
    "resources-list",
    "sep-2164-resource-not-found",
    "server-initialize",
    "server-session-lifecycle",
    "server-sse-multiple-streams",
    "server-stateless",
    "tools-list",
}
# What the other scenarios need. Some of them pass without it, which says nothing.
LEFT_OUT = {
    "elicitation-sep1034-defaults": "the tool test_elicitation_sep1034_defaults",
    "elicitation-sep1330-enums": "the tool test_elicitation_sep1330_enums",
    "http-custom-header-server-validation": "a tool whose arguments are annotated with x-mcp-header",
    "input-required-result-basic-elicitation": "the tool test_input_required_result_elicitation",
    "input-required-result-basic-list-roots": "the tool test_input_required_result_list_roots",
    "input-required-result-basic-sampling": "the tool test_input_required_result_sampling",
    "input-required-result-capability-check": "the tool test_input_required_result_capabilities",
    "input-required-result-ignore-extra-params": "the tool test_input_required_result_elicitation",
    "input-required-result-missing-input-response": "the tool test_input_required_result_elicitation",
    "input-required-result-multi-round": "the tool test_input_required_result_multi_round",
    "input-required-result-multiple-input-requests": "the tool test_input_required_result_multiple_inputs",
    "input-required-result-non-tool-request": "the prompt test_input_required_result_prompt",
    "input-required-result-request-state": "the tool test_input_required_result_request_state",
    "input-required-result-result-type": "the tool test_input_required_result_elicitation",
    "input-required-result-tampered-state": "the tool test_input_required_result_tampered_state",
    "input-required-result-validate-input": "the tool test_input_required_result_elicitation",
    "json-schema-2020-12": "the tool json_schema_2020_12_tool",
    "logging-set-level": "logging over the protocol, which is deprecated; the server does not declare it",
    "prompts-get-embedded-resource": "the prompt test_prompt_with_embedded_resource",
    "prompts-get-simple": "the prompt test_simple_prompt",
    "prompts-get-with-args": "the prompt test_prompt_with_arguments",
    "prompts-get-with-image": "the prompt test_prompt_with_image",
    "resources-read-binary": "the resource test://static-binary",
    "resources-read-text": "the resource test://static-text",
    "resources-subscribe": "the resource test://watched-resource",
    "resources-templates-read": "the resource test://template/{id}/data",
    "resources-unsubscribe": "the resource test://watched-resource",
    "sep-2640-skills-directory": "the skills extension, which the server does not declare",
    "sep-2640-skills-enumeration": "the skills extension, which the server does not declare",
    "sep-2640-skills-manifest": "the skills extension, which the server does not declare",
    "server-sse-polling": "the tool test_reconnection",
    "tasks-lifecycle": "the tools slow_compute, failing_job and protocol_error_job",
    "tasks-mrtr-composition": "the tool test_tool_with_task",
    "tasks-mrtr-input": "a tool that asks while it is a task",
    "tasks-request-headers": "the tools greet and slow_compute",
    "tasks-request-state-removal": "the tool slow_compute",
    "tasks-required-task-error": "the tool failing_job, which must be a task",
    "tasks-status-notifications": "a later edition: this one skips it always",
    "tasks-wire-fields": "the tool slow_compute",
    "tools-call-audio": "the tool test_audio_content",
    "tools-call-elicitation": "the tool test_elicitation",
    "tools-call-embedded-resource": "the tool test_embedded_resource",
    "tools-call-error": "the tool test_error_handling",
    "tools-call-image": "the tool test_image_content",
    "tools-call-mixed-content": "the tool test_multiple_content_types",
    "tools-call-sampling": "the tool test_sampling",
    "tools-call-simple-text": "the tool test_simple_text",
    "tools-call-with-logging": "the tool test_tool_with_logging",
    "tools-call-with-progress": "the tool test_tool_with_progress",
}
# What single checks of scenarios that are run need.
EXCUSED = {
    "sep-2575-missing-capability-http-400": "the tool test_missing_capability",
    "sep-2575-server-rejects-undeclared-capability": "the tool test_missing_capability",
    "sep-2663-durable-create-strong-consistency": "the tool slow_compute",
    "tasks-per-request-meta-opt-in": "the tool slow_compute",
    "tasks-server-directed-creation-no-hint": "the tool slow_compute",
}
# Made in every scenario: all that the server has sent is as the protocol's schema has it.
ON_THE_WIRE = "wire-schema-valid"

Listed = Mapping[str, frozenset[str]]


class Check(BaseModel):
    """The suite's verdict on one requirement."""

    id: str
    status: str
    description: str
    error: str = Field(default="", alias="errorMessage")


CHECKS = TypeAdapter(list[Check])


@dataclass(frozen=True)
class Suite:
    """One edition of the suite, against one server."""

    program: Path
    url: str
    environment: Mapping[str, str]

    async def listed(self) -> Listed:
        """Its scenarios, with the versions of the protocol of which they are."""
        said = (await self._run("list", "--server")).decode()
        found = re.findall(r"^  - (\S+) \[(.+)\]$", said, re.MULTILINE)
        return {name: frozenset(versions.split(",")) for name, versions in found}

    async def checks(self, folder: Path, *options: str) -> dict[str, list[Check]]:
        """Run scenarios, and return what was checked in each."""
        which = () if "--scenario" in options else ("--suite", "all")
        words = (*which, *options, "--output-dir", str(folder))
        await self._run("server", "--url", self.url, *words)
        return outcomes(folder)

    async def _run(self, *words: str) -> bytes:
        with anyio.fail_after(SECONDS):
            done = await anyio.run_process(
                [node(), self.program, *words], env=self.environment, check=False
            )
        assert done.returncode in (0, 1), done.stderr.decode()  # 1: a check has failed
        return done.stdout


def outcomes(folder: Path) -> dict[str, list[Check]]:
    """The outcomes that a run of the suite left there, by scenario."""
    time = r"-\d{4}-\d\d-\d\dT[^/]*$"
    return {
        re.sub(time, "", path.parent.name).removeprefix("server-"): CHECKS.validate_json(
            path.read_bytes()
        )
        for path in folder.glob("*/checks.json")
    }


class Forwarder:
    """Passes requests on to a server, by that server's name and with the token."""

    def __init__(self, target: str, token: str, http: httpx2.AsyncClient) -> None:
        self._target = urlsplit(target)
        self._token = token
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        async with self._http.stream(
            request.method,
            self._target._replace(path=request.url.path).geturl(),
            headers=list(self._headers(request)),
            content=await request.body(),
        ) as answer:
            response = StreamingResponse(answer.aiter_raw(), answer.status_code)
            response.raw_headers = answer.headers.raw
            await response(scope, receive, send)

    def _headers(self, request: Request) -> Iterator[tuple[bytes, bytes]]:
        ours = f"127.0.0.1:{request.scope['server'][1]}".encode()
        for name, value in request.headers.raw:
            if name != b"connection":
                yield name, value.replace(ours, self._target.netloc.encode())
        yield b"authorization", f"Bearer {self._token}".encode()


@asynccontextmanager
async def forwarding(target: str, token: str) -> AsyncGenerator[str]:
    """The URL of a forwarder to the server at `target`."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}{urlsplit(target).path}"
        async with httpx2.AsyncClient(timeout=SECONDS) as http, anyio.create_task_group() as group:
            app = Forwarder(target, token, http)
            server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
            group.start_soon(server.serve, [bound])
            yield url
            server.should_exit = True


@contextmanager
def serving(command: Path, settings: Settings) -> Generator[str]:
    """The URL of a server of the project, which ends well."""
    words = [command, "serve", "--http", "127.0.0.1:0", "--project", settings.project]
    with subprocess.Popen(words, stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith("Serving MCP on "), said
            yield said.split()[3].rstrip(";")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
            lines = process.stderr.read().splitlines()
            assert not [line for line in lines if "Invalid Host header" not in line]
        finally:
            process.kill()


@pytest.fixture(scope="module")
async def suites(
    there: Settings, command: Path, modules: Path, variables: dict[str, str]
) -> AsyncGenerator[Mapping[str, Suite]]:
    """Both editions, against one server of the shared project."""
    with serving(command, there) as target:
        async with forwarding(target, http_access.token(there)) as url:
            yield {
                edition: Suite(modules / edition / "dist" / "index.js", url, variables)
                for edition in (RELEASED, NEXT)
            }


def problems(scenario: str, checks: list[Check]) -> Iterator[str]:
    """The problems in the outcome of a scenario."""
    passed = scenario in PASSED
    for check in checks:
        complaint = check.status in ("FAILURE", "WARNING")
        expected = check.id in EXCUSED or not (passed or check.id == ON_THE_WIRE)
        if complaint and not expected:
            yield f"{scenario}: {check.id} {check.status}: {check.description} {check.error[:500]}"
        if check.id in EXCUSED and not complaint:
            yield f"{scenario}: {check.id} needs no excuse any more: {check.status}"
    real = [one for one in checks if one.status == "SUCCESS" and one.id != ON_THE_WIRE]
    if passed and not real:
        yield f"{scenario}: nothing was checked"


@pytest.mark.parametrize(("edition", "options"), RUNS)
async def test_every_scenario_that_needs_no_server_made_for_it_is_passed(
    suites: Mapping[str, Suite], tmp_path: Path, edition: str, options: tuple[str, ...]
) -> None:
    suite = suites[edition]
    found = await suite.checks(tmp_path, *options)
    chosen = set(options[1:])
    listed = (await suite.listed()).items()
    assert found.keys() == {
        name for name, versions in listed if not chosen or chosen & {name, *versions}
    }
    wrong = [line for name in sorted(found) for line in problems(name, found[name])]
    assert not wrong, "\n".join(wrong)


async def test_every_scenario_is_run_or_left_out_for_a_reason(suites: Mapping[str, Suite]) -> None:
    released, following = [await suites[edition].listed() for edition in (RELEASED, NEXT)]
    assert released.keys() | following.keys() == PASSED | LEFT_OUT.keys()
    assert not PASSED & LEFT_OUT.keys()
    of_versions = {name for name, versions in following.items() if versions & set(VERSIONS)}
    assert of_versions | set(OF_EXTENSIONS) >= PASSED

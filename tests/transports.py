"""The server as clients reach it: in this process, over standard input and output, over HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from durable_workflows.mcp.server import build_server
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings

Json = dict[str, Any]
Transport = Literal["memory", "stdio", "http"]

SECONDS = 30.0
INITIALIZE: Json = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
OVER_STDIO = """
import anyio, sys
from pathlib import Path
from durable_workflows.mcp.server import serve
from durable_workflows.settings import Settings
{extra}
anyio.run(serve, Settings(project=Path(sys.argv[1])))
"""
_OVER_HTTP = """
import anyio, sys
from functools import partial
from pathlib import Path
from durable_workflows.mcp.serving_http import serve_http
from durable_workflows.settings import Settings
settings = Settings(project=Path(sys.argv[1]))
anyio.run(partial(serve_http, settings, sys.argv[2], int(sys.argv[3]), allow_remote=sys.argv[4] == "remote"))
"""


def envelope(**capabilities: Json) -> Json:
    """The `_meta` that a client with these capabilities sends with each request of protocol 2026-07-28."""
    return {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }


@dataclass
class Served:
    """A server process that is reached over HTTP."""

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
        """The target of a Client's connection."""
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
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 0,
    how: str = "local",
    environment: Mapping[str, str] | None = None,
) -> Generator[Served]:
    """A server process for a project; it is gone when the block ends."""
    command = [sys.executable, "-P", "-c", _OVER_HTTP, str(settings.project), host, str(port), how]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            yield Served(said.split()[3].rstrip(";"), said, settings, process)
        finally:
            process.kill()


@asynccontextmanager
async def reached(settings: Settings, transport: Transport) -> AsyncGenerator[Any]:
    """The target of a Client's connection."""
    match transport:
        case "memory":
            yield build_server(settings)
        case "stdio":
            arguments = ["-P", "-c", OVER_STDIO.format(extra=""), str(settings.project)]
            server = StdioServerParameters(
                command=sys.executable, args=arguments, env=dict(os.environ)
            )
            yield stdio_client(server)
        case "http":
            with serving(settings) as served:
                async with served.client() as client:
                    yield client

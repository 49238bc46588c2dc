"""A client with pages: `client.html`, which shows the page in a frame, and passes its calls on to a real MCP server on stdio."""

import json
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import uvicorn
from mcp.client import advertise
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from durable_workflows.mcp.apps import APPS, MIME_TYPE
from durable_workflows.settings import Settings
from mcp import Client
from transports import reached
from web.browser import Page

HERE = Path(__file__).parent
WITH_PAGES = advertise(APPS, {"mimeTypes": [MIME_TYPE]})
_IN_FRAME = "main iframe >> internal:control=enter-frame >> "


class _Http(uvicorn.Server):
    """Signals are for the tests."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@dataclass(frozen=True)
class AppClient:
    """A running client, with a server of a project behind it."""

    url: str
    mcp: Client

    def at(self, tool: str, arguments: dict[str, Any], **more: str) -> str:
        """The address at which it shows what a call of this tool brings."""
        return f"{self.url}?{urlencode({'tool': tool, 'arguments': json.dumps(arguments), **more})}"


def framed(at: str) -> str:
    """The selector of something that is in the frame."""
    return f"{_IN_FRAME}{at}"


async def sees(page: Page, text: str) -> None:
    """Wait until a text is seen in the frame."""
    await page.see(framed(f"text={text}"))


@asynccontextmanager
async def app_client(settings: Settings) -> AsyncGenerator[AppClient]:
    """A client; it is gone when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        async with (
            reached(settings, "stdio") as server,
            Client(server, extensions=[WITH_PAGES]) as mcp,
            anyio.create_task_group() as group,
        ):
            http = _Http(uvicorn.Config(_bridge(mcp), log_config=None, lifespan="off", ws="none"))
            group.start_soon(http.serve, [bound])
            yield AppClient(f"http://127.0.0.1:{bound.getsockname()[1]}/", mcp)
            http.should_exit = True


def _bridge(mcp: Client) -> Starlette:
    async def front(_request: Request) -> Response:
        return HTMLResponse(await anyio.Path(HERE / "client.html").read_text(encoding="utf-8"))

    async def tools(_request: Request) -> Response:
        return JSONResponse([_json(one) for one in (await mcp.list_tools()).tools])

    async def resource(request: Request) -> Response:
        [found] = (await mcp.read_resource(request.query_params["uri"])).contents
        return JSONResponse(_json(found))

    async def call(request: Request) -> Response:
        given = await request.json()
        return JSONResponse(_json(await mcp.call_tool(given["name"], given["arguments"])))

    return Starlette(
        routes=[
            Route("/", front),
            Route("/tools", tools),
            Route("/resource", resource),
            Route("/call", call, methods=["POST"]),
        ]
    )


def _json(found: BaseModel) -> Any:
    return found.model_dump(mode="json", by_alias=True, exclude_none=True)

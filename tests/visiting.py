"""A browser at the page of a server, as far as requests go."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from durable_workflows.processes import http_access
from durable_workflows.web import access
from transports import SECONDS, Served

Headers = Mapping[str, str | None]


def origin_of(served: Served) -> str:
    return served.url.removesuffix("/mcp")


def link_to(served: Served) -> str:
    """A new link to the page, as the command line prints it."""
    return access.link(http_access.token(served.settings), served.url)


@dataclass(frozen=True)
class Visitor:
    """A browser. It sends the same headers as the page, except the given ones; a header that is None is left out."""

    http: httpx2.AsyncClient
    origin: str

    async def get(
        self, path: str, *, headers: Headers | None = None, **query: Any
    ) -> httpx2.Response:
        found = {"Sec-Fetch-Site": "same-origin", **(headers or {})}
        return await self.http.get(path, params=query or None, headers=_given(found))

    async def post(
        self, path: str, body: object, *, headers: Headers | None = None
    ) -> httpx2.Response:
        found = {
            "Origin": self.origin,
            "X-Durable-Workflows": "page",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(path, content=content, headers=_given(found))

    async def asked(self, path: str, **query: Any) -> Any:
        """The answer of a GET of the API."""
        return _answer(await self.get(f"/api/{path}", **query))

    async def done(self, path: str, **body: Any) -> Any:
        """The answer of a POST of the API."""
        return _answer(await self.post(f"/api/{path}", body))


@asynccontextmanager
async def visiting(served: Served, *, link: str | None = None) -> AsyncGenerator[Visitor]:
    """A browser that has opened a link to the page, and got in."""
    async with stranger(served) as visitor:
        answer = await visitor.get(link or link_to(served), headers={"Sec-Fetch-Site": "none"})
        assert answer.status_code == 303, answer.text
        yield visitor


@asynccontextmanager
async def stranger(served: Served) -> AsyncGenerator[Visitor]:
    """A browser that has opened no link."""
    origin = origin_of(served)
    async with httpx2.AsyncClient(base_url=origin, timeout=SECONDS) as http:
        yield Visitor(http, origin)


def _answer(response: httpx2.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def _given(headers: Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value is not None}

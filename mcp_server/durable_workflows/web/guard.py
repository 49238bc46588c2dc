"""Admission to the page and its API: only browsers with access, from our own page, under our own host names.

Other pages in the same browser can send requests here, and can make any name stand for this machine. They can neither read our cookie nor
claim another origin.
"""

from collections.abc import Collection, MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durable_workflows.web.access import Access
from durable_workflows.web.refusals import OPEN, Refused

API = "/api/"
BODY_BYTES = 4 * 1024 * 1024  # four times the largest arguments
HEADER, FROM_PAGE = "X-Durable-Workflows", "page"  # no other origin can send it unasked

_READS = ("GET", "HEAD")
_OURS = ("same-origin", "none")  # the sender, in browsers' words: this page, or the person
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# For an answer that is not the page; the page has its own policy.
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Guard:
    """Surrounds an application for the page: `names` are the host names that requests may use for this server."""

    def __init__(self, app: ASGIApp, access: Access, names: Collection[str]) -> None:
        self._app = app
        self._access = access
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                _seal(message)
            await send(message)

        try:
            self._check(Request(scope))
        except Refused as refused:
            await refused.response()(scope, receive, sealed)
            return
        await self._app(scope, receive, sealed)

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if _without_port(host).lower() not in self._names:
            raise Refused(
                421,
                "This server does not have the name by which it was asked.",
                f"Use one of {', '.join(sorted(self._names))}.",
            )
        is_page = request.url.path == "/" and request.method in _READS
        if is_page:  # it handles codes itself
            return
        if not self._access.takes_cookie(request.cookies.get(self._access.cookie_name, "")):
            raise Refused(401, "This browser has not been let in, or not lately.", OPEN)
        _check_origin(request, f"http://{host}")


def _check_origin(request: Request, own: str) -> None:
    origin = request.headers.get("origin")
    if request.method in _READS:
        site = request.headers.get("sec-fetch-site", "none")
        if origin not in (None, own) or site not in _OURS:
            raise Refused(403, "Another page has asked for this.", f"Open {own}/ itself.")
        return
    if origin != own:
        raise Refused(
            403, f"Only the page at {own} can change something here.", f"Open {own}/ itself."
        )
    if request.headers.get(HEADER) != FROM_PAGE:
        raise Refused(
            403,
            f"The header {HEADER} is missing, which shows that the page has asked.",
            f"Send `{HEADER}: {FROM_PAGE}`.",
        )


async def body(request: Request) -> bytes:
    """The body of a request, which is JSON.

    Raises:
        Refused: it has another type, or it is too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "The body is not said to be JSON.", "Send it as `application/json`.")
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > BODY_BYTES:
            raise Refused(
                413,
                "The body is larger than 4 MiB.",
                "Write the data to a file in the project and pass its path instead.",
            )
    return bytes(found)


def _seal(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", _NOTHING)


def _without_port(host: str) -> str:
    """The name in a Host header; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host

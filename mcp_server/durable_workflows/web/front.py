"""The page itself: sent to browsers that have access, and to browsers that bring a code."""

import base64
import hashlib
from html.parser import HTMLParser

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.settings import Settings
from durable_workflows.web import building
from durable_workflows.web.access import COOKIE_SECONDS, Access
from durable_workflows.web.refusals import OPEN

_HASHED = {"script": "script-src", "style": "style-src"}
_POLICY = "default-src 'none'; {}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_NONE = "'none'"
_CLOSED = "This page of durable-workflows is not open in this browser."
_SPENT = "This link has been used, or is older than a minute."


class Front:
    """The page of one project. In a checkout it is made from the present sources."""

    def __init__(self, settings: Settings, access: Access) -> None:
        self._settings = settings
        self._access = access

    async def page(self, request: Request) -> Response:
        """The page, or how to open it. A good code is exchanged for a cookie; the part of the address after # stays."""
        code = request.query_params.get("code") if request.method == "GET" else None
        given = request.cookies.get(self._access.cookie_name, "")
        if code is not None and self._access.takes_code(code):
            return self._let_in()
        if not self._access.takes_cookie(given):
            said = _CLOSED if code is None else _SPENT
            return PlainTextResponse(f"{said}\n\n{OPEN}\n", 401)
        if code is not None:  # an old link, as from the history: its browser already has access
            return RedirectResponse("/", 303)
        return await self._page()

    def _let_in(self) -> Response:
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            self._access.cookie_name,
            self._access.cookie(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _page(self) -> Response:
        try:
            text = await building.page(self._settings)
        except DurableWorkflowsError as error:
            return PlainTextResponse(f"{error}\n", 500)
        return HTMLResponse(text, headers={"Content-Security-Policy": policy(text)})


def policy(page: str) -> str:
    """The content security policy of a page: only its own inline scripts and styles."""
    found = _Inline()
    found.feed(page)
    sources = [
        f"{_HASHED[tag]} {' '.join(hashes or [_NONE])}" for tag, hashes in found.hashes.items()
    ]
    return _POLICY.format("; ".join(sources))


class _Inline(HTMLParser):
    """Collects the hashes of the inline scripts and styles of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.hashes: dict[str, list[str]] = {tag: [] for tag in _HASHED}
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        self._text = []

    def handle_data(self, data: str) -> None:
        """See HTMLParser."""
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """See HTMLParser."""
        if tag in _HASHED and self._text:
            digest = hashlib.sha256("".join(self._text).encode()).digest()
            self.hashes[tag].append(f"'sha256-{base64.b64encode(digest).decode()}'")
        self._text = []

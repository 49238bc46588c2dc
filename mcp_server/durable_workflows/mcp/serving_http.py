"""The MCP server over HTTP, in both protocol eras and for several clients at once, for clients with the project's token.

Beside it is the page for people. By default it listens on the loopback interface. Requests from other origins and for other host names are
refused, and there is no CORS: a browser gets only the page of `web/`, where a person gives it access.
"""

import errno
import ipaddress
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from urllib.parse import urlsplit

import anyio
import psutil
import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from durable_workflows.database import callback_tokens
from durable_workflows.errors import PortTaken, SetupError, UsageError
from durable_workflows.mcp import http_connections
from durable_workflows.mcp.server import Server, build_server, leave, leave_soon, log_plainly
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings
from durable_workflows.system import places
from durable_workflows.web.access import Access
from durable_workflows.web.app import Web
from durable_workflows.web.callbacks import Callbacks
from durable_workflows.web.site import Site

PATH = "/mcp"

_BODY_BYTES = 4 * 1024 * 1024  # four times the largest arguments
_GRACE_SECONDS = 0.3  # for answers in progress
_LEAVE_SECONDS = 1.8  # then the process exits, whatever hangs
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `HOST` or `PORT`; by default the loopback interface and any free port.

    Raises:
        UsageError: it has another form.
    """
    if text.isdecimal():
        text = f":{text}"
    elif text.count(":") > 1 and not text.startswith("["):
        text = _in_url(text)  # IPv6
    with suppress(ValueError):
        found = urlsplit(f"//{text}")
        if found.netloc == text and found.username is None:
            return found.hostname or _LOOPBACK[0], found.port or 0
    raise UsageError(
        f"{text!r} is not an address.", hint="Give HOST:PORT, for example 127.0.0.1:8765."
    )


async def serve_http(
    settings: Settings,
    host: str,
    port: int,
    *,
    allow_remote: bool,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the project of `settings` over HTTP until SIGTERM or SIGINT, then end the process. Runs and workers continue.

    Port 0 means any free port. The URL is written to standard error, but never the token; `ready` also gets the URL.

    Raises:
        PortTaken: another program has the port.
        UsageError: this machine has no such address, or it is not a loopback address and `allow_remote` is false.
        SetupError: the state directory or the token in it cannot be used.
    """
    log_plainly()
    logging.getLogger("asyncio").addFilter(http_connections.AcceptErrors())
    token = http_access.token(settings)
    with closing(_bind(host, port, allow_remote=allow_remote)) as bound:
        name, port = bound.getsockname()[:2]
        url = f"http://{_in_url(name)}:{port}{PATH}"
        server = build_server(settings)
        names = set(_names(host, bound))
        app = server.streamable_http_app(
            streamable_http_path=PATH,
            max_request_body_size=_BODY_BYTES,
            transport_security=_security(names, port),
        )
        site = Site(settings, server.backend.engine)
        web = Web(site, Access(settings, token, port), names)
        http = _Http(
            uvicorn.Config(
                _Parts(_Guard(app, token), Callbacks(site), web.app),
                lifespan="off",  # `_run` handles it
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                http=http_connections.HTTPConnection,
                backlog=http_connections.ACCEPTED_AT_ONCE,
                timeout_graceful_shutdown=0,  # `_stop_on_signal` has waited
            )
        )
        await _run(server, web, http, bound, _announced(settings, url, ready))
    leave()


class _Parts:
    """MCP for programs, at its path; callbacks of runs at theirs; and the page for people everywhere else."""

    def __init__(self, mcp: ASGIApp, callbacks: ASGIApp, page: ASGIApp) -> None:
        self._mcp = mcp
        self._callbacks = callbacks
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        others = self._callbacks if path.startswith(callback_tokens.PATH) else self._page
        answer = self._mcp if path == PATH else others
        await answer(scope, receive, send)


class _Guard:
    """Admits requests that have the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("authorization", "")
        scheme, _, token = given.partition(" ")
        is_right = secrets.compare_digest(token.strip().encode(), self._token)
        answer = self._app if is_right and scheme.lower() == "bearer" else _refusal(given)
        await answer(scope, receive, send)


def _refusal(given: str) -> PlainTextResponse:
    wrong = ', error="invalid_token"' if given else ""
    return PlainTextResponse(
        "Send the token of this project (.dbos/token) in the header `Authorization: Bearer TOKEN`.\n",
        status_code=401,
        headers={"WWW-Authenticate": f'Bearer realm="durable-workflows"{wrong}'},
    )


class _Http(uvicorn.Server):
    """The caller handles signals: uvicorn would end the process by them."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextmanager
def _announced(
    settings: Settings, url: str, ready: Callable[[str], None] | None
) -> Generator[None]:
    """Make the server visible to other processes until the block ends."""
    with http_access.announced(settings, url):
        sys.stderr.write(f"Serving MCP on {url}; the token is in {places.token(settings)}.\n")
        sys.stderr.flush()
        if ready is not None:
            ready(url)
        yield


async def _run(
    server: Server,
    web: Web,
    http: _Http,
    bound: socket.socket,
    announced: AbstractContextManager[None],
) -> None:
    async with server.session_manager.run(), anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, server, http)
        group.start_soon(web.run)
        with announced:
            await http.serve([bound])
        group.cancel_scope.cancel()


async def _stop_on_signal(server: Server, http: _Http) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            leave_soon(_LEAVE_SECONDS)
            server.subscriptions.close()
            await anyio.sleep(_GRACE_SECONDS)
            # Open connections are cut off, which uvicorn calls an error.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            http.should_exit = True


# The address


def _bind(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UsageError(f"{host!r} is not an address: {error.strerror}.") from error
    if not (allow_remote or ipaddress.ip_address(where[0]).is_loopback):
        raise UsageError(
            f"{host} can be reached from other machines.",
            hint="Serve on 127.0.0.1, or pass --allow-remote; the traffic is not encrypted.",
        )
    try:
        return socket.create_server((where[0], port), family=family)
    except OSError as error:
        raise _translated(error, host, port) from error


def _translated(error: OSError, host: str, port: int) -> SetupError | UsageError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"Port {port} of {host} is in use by another program.",
            hint="Choose another port, or 0 for any free one.",
        )
    return UsageError(
        f"{host}:{port} cannot be served: {error.strerror}.",
        hint="Use an address of this machine and a port above 1023.",
    )


def _names(host: str, bound: socket.socket) -> Iterable[str]:
    """The host names that requests may use for the bound address.

    Browsers can be made to believe that any other name means this machine.
    """
    at = ipaddress.ip_address(bound.getsockname()[0])
    yield from (_in_url(name) for name in _LOOPBACK)
    if at.is_loopback:
        return
    yield _in_url(host)
    yield socket.gethostname()
    yield socket.getfqdn()
    for interface in psutil.net_if_addrs().values():
        for one in interface:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                yield _in_url(one.address.partition("%")[0])


def _security(names: Iterable[str], port: int) -> TransportSecuritySettings:
    found = sorted(set(names))
    return TransportSecuritySettings(
        allowed_hosts=[*found, *(f"{name}:*" for name in found)],  # the port may be forwarded
        allowed_origins=[f"http://{name}:{port}" for name in found],
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host

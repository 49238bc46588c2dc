"""Answers to callbacks over HTTP, for programs that have nothing of the project but the token in the address.

The address is a secret: it is neither logged nor repeated in an answer.
"""

import json
import logging

from pydantic import JsonValue
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from durable_workflows.database import callback_tokens
from durable_workflows.errors import DurableWorkflowsError, InvalidArguments, MessageTooLarge
from durable_workflows.settings import MAX_PAYLOAD_BYTES
from durable_workflows.web.site import Site

_BODY_BYTES = MAX_PAYLOAD_BYTES + 1000  # with the words around a result
_KEY = "idempotency-key"
_KEY_CHARACTERS = 255
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FORM = 'POST JSON: {"result": …}, {"error": "…"} or {"heartbeat": true}.'
_SAID = {
    "taken": (200, "Taken."),
    "repeated": (200, "Taken before."),
    "answered": (409, "This callback was answered before; the first answer counts."),
    "given up": (410, "The workflow no longer waits for this callback: its time is over."),
    "ended": (410, "The workflow has ended."),
    "unknown": (404, "There is no such callback."),
}

logger = logging.getLogger(__name__)


class _Refused(Exception):
    """A request that is not answered."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class Callbacks:
    """Takes answers at a path with a token, which is all the authority that they need."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; whatever happens, the address is not repeated."""
        try:
            status, said = await self._take(Request(scope, receive))
        except _Refused as refused:
            status, said = refused.status, refused.said
        except MessageTooLarge as error:
            status, said = 413, error.message
        except InvalidArguments as error:
            status, said = 422, str(error)
        except DurableWorkflowsError as error:
            logger.warning("A callback was not taken: %s", error)
            status, said = 503, "The callback cannot be taken now. Send it again later."
        except ClientDisconnect:
            return
        except Exception:  # the boundary: no error may show an address, or end the server
            logger.exception("A callback was not taken")
            status, said = 500, "This failed because of an error in the server."
        await _response(status, said)(scope, receive, send)

    async def _take(self, request: Request) -> tuple[int, str]:
        if request.method != "POST":
            raise _Refused(405, _FORM)
        key = request.headers.get(_KEY)
        if key is not None and len(key) > _KEY_CHARACTERS:
            raise _Refused(400, f"Idempotency-Key is longer than {_KEY_CHARACTERS} characters.")
        value = _read(await _body(request))
        token = request.url.path.removeprefix(callback_tokens.PATH)
        if not callback_tokens.has_form(token):  # nothing is started for it
            return _SAID["unknown"]
        engine = await self._site.engine()
        return _SAID[await engine.call_back(token, value, key)]


async def _body(request: Request) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > _BODY_BYTES:
            raise _Refused(413, f"The limit is {MAX_PAYLOAD_BYTES:,} bytes.")
    return bytes(found)


def _read(body: bytes) -> JsonValue:
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _Refused(400, f"The body is not JSON. {_FORM}") from None


def _refuse(constant: str) -> None:
    """NaN and the infinities are no JSON."""
    raise ValueError(constant)


def _response(status: int, said: str) -> Response:
    allowed = {"Allow": "POST"} if status == 405 else {}
    return PlainTextResponse(f"{said}\n", status, headers={**_HEADERS, **allowed})

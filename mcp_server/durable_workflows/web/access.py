"""How a browser gets access: a code in a link, which works once, becomes a cookie.

Both are made from the project's token, and neither is logged. A code is good at one server, for a minute. A program with the token can make
one without asking that server. A cookie outlives servers, and is good for all servers of the project.
The page inside a client needs no cookie. To answer a question to a person it needs a nonce, which is made the same way.
"""

import hashlib
import hmac
import json
import secrets
import time
from urllib.parse import urlsplit

from durable_workflows.models import OpenWait
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings

COOKIE_SECONDS = 30 * 86_400

_CODE_SECONDS = 60
_AHEAD_SECONDS = (
    5  # the allowed difference between the clocks of two processes, as after a clock was set
)
_NONCE_SECONDS = 60  # the page asks for one just before it sends the answer
# A signed word is good for only one of them.
_CODE, _COOKIE, _NONCE = "code of the page", "cookie of the page", "nonce of a question"


def link(token: str, url: str) -> str:
    """A link to the page of the server at `url`, for the browser that opens it first."""
    return f"{http_access.address(url)}/?code={_code(token, urlsplit(url).port or 80)}"


class Access:
    """Decides on access to the server of a project that listens on `port`."""

    def __init__(self, settings: Settings, token: str, port: int) -> None:
        self._token = token
        self._port = port
        self._opened = round(time.time(), 6)  # as exact as the time in a code
        self._used: dict[str, float] = {}
        place = hashlib.sha256(str(settings.state).encode(errors="surrogateescape")).hexdigest()
        self.cookie_name = f"durable-workflows-{place[:8]}"

    def takes_code(self, code: str) -> bool:
        """Whether the code is good. Afterwards it is used up."""
        issued = _issued(self._token, code, _CODE, str(self._port))
        now = time.time()
        self._used = {one: at for one, at in self._used.items() if at > now - 2 * _CODE_SECONDS}
        if issued is None or code in self._used or issued < self._opened:
            return False
        self._used[code] = now
        return -_AHEAD_SECONDS <= now - issued <= _CODE_SECONDS

    def cookie(self) -> str:
        """The value of a cookie that is good for 30 days."""
        return _signed(self._token, _COOKIE)

    def takes_cookie(self, value: str) -> bool:
        """Whether the value of the cookie is good."""
        issued = _issued(self._token, value, _COOKIE)
        return issued is not None and time.time() - issued <= COOKIE_SECONDS


def nonce(token: str, wait: OpenWait) -> str:
    """A word that allows an answer to this question only: for a minute, and not after the question's deadline."""
    return _signed(token, *_question(wait))


def takes_nonce(token: str, word: str, wait: OpenWait) -> bool:
    """Whether the word was made for this question, and is still good."""
    issued = _issued(token, word, *_question(wait))
    now = time.time()
    if issued is None or (wait.deadline is not None and wait.deadline.timestamp() < now):
        return False
    return -_AHEAD_SECONDS <= now - issued <= _NONCE_SECONDS


def _question(wait: OpenWait) -> tuple[str, str]:
    return _NONCE, json.dumps([wait.workflow_id, wait.step, wait.topic])


def _code(token: str, port: int) -> str:
    return _signed(token, _CODE, str(port))


def _signed(token: str, *what: str) -> str:
    """A word with its time, which only a program with the token can make."""
    body = f"{time.time():.6f}.{secrets.token_hex(8)}".replace(".", "-")
    return f"{body}-{_signature(token, body, *what)}"


def _issued(token: str, word: str, *what: str) -> float | None:
    """The time of the word; None if `_signed` did not make it with this token and for this purpose."""
    body, _, signature = word.rpartition("-")
    right = _signature(token, body, *what)
    if not hmac.compare_digest(signature.encode(errors="replace"), right.encode()):
        return None
    seconds, micros, _ = body.split("-")
    return float(f"{seconds}.{micros}")


def _signature(token: str, *what: str) -> str:
    return hmac.new(token.encode(), "\n".join(what).encode(errors="replace"), "sha256").hexdigest()

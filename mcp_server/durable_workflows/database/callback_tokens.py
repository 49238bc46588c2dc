"""Tokens of callbacks. A token is the id of its callback and a signature, which only programs with the project's secret can make.

So nothing that is recorded of a run is secret. A false token is found by its signature alone, in the same time whatever is wrong with it.
"""

import base64
import hmac
import re
import secrets

PATH = "/callbacks/"  # of the HTTP server; a token follows

_ID_BYTES = 16
_SECRET_BYTES = 32
_FORM = re.compile(r"([A-Za-z0-9_-]{22})([A-Za-z0-9_-]{43})")


def new_id() -> str:
    """The id of a new callback. It is not secret."""
    return secrets.token_urlsafe(_ID_BYTES)


def new_secret() -> str:
    """A secret for a project that has none yet."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def token(secret: str, callback_id: str) -> str:
    """The token of a callback."""
    return callback_id + _signature(secret, callback_id)


def has_form(text: str) -> bool:
    """Whether a text has the form of a token; if not, the secret need not be read."""
    return _FORM.fullmatch(text) is not None


def id_of(secret: str, text: str) -> str | None:
    """The id of the callback whose token this is; None: it is no token of this project."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    callback_id, signature = found.groups()
    is_right = hmac.compare_digest(signature, _signature(secret, callback_id))
    return callback_id if is_right else None


def _signature(secret: str, callback_id: str) -> str:
    digest = hmac.digest(secret.encode(), f"callback {callback_id}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")

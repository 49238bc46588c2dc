"""Access over HTTP: the project's token, and the addresses of its HTTP servers. Both are in the state directory."""

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import quote, unquote, urlsplit

from durable_workflows.errors import SetupError
from durable_workflows.settings import Settings
from durable_workflows.system import files, locks, places, state

_TOKEN_BYTES = 32
_SHORTEST = 32  # characters; an emptied file gives no access
_SERVER = "http-"


def token(settings: Settings) -> str:
    """The project's token, made at the first call and constant from then on, in a file that only this user may read.

    Raises:
        SetupError: the file has no token.
        InvalidProject, StateDirectoryUnusable, NoSpaceLeft
    """
    state.prepare(settings)
    path = places.token(settings)
    try:
        files.write_once(path, secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        found = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise files.translate(error, path) from error
    if len(found) < _SHORTEST or not found.isascii():
        raise SetupError(f"{path} holds no token.", hint="Remove it: then a new one is made.")
    return found


@contextmanager
def announced(settings: Settings, url: str) -> Generator[None]:
    """Make `urls` find a server of this process until the end of the block, or of the process."""
    path = places.lock_files(settings) / f"{_SERVER}{quote(url, safe='')}"
    with locks.held_lock(path):
        yield
        path.unlink(missing_ok=True)


def urls(settings: Settings) -> list[str]:
    """The addresses of the project's running HTTP servers."""
    found = places.lock_files(settings).glob(f"{_SERVER}*")
    return sorted(unquote(path.name.removeprefix(_SERVER)) for path in found if locks.is_held(path))


def server_of(settings: Settings) -> str | None:
    """The address of a running HTTP server of the project, without a path."""
    found = urls(settings)
    return address(found[0]) if found else None


def address(url: str) -> str:
    """The address of the server at `url`, without a path, for programs on this machine."""
    parts = urlsplit(url)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts.hostname or "", parts.hostname or "")
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{parts.port}"

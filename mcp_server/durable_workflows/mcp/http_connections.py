"""Limits on HTTP connections, their number and their silent time: a client without the token cannot lock out a client that has it."""

import asyncio
import logging
import resource
import time
from collections.abc import Collection
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

ACCEPTED_AT_ONCE = 64
"""The number of connections that asyncio accepts before it serves the others; it may log an error for each."""

REQUEST_SECONDS = 5.0
"""The time for the head of a request, and for idling between two requests."""

_MOST = 256
_SHARE = 4  # of the descriptors that this process may have
_LOG_SECONDS = 60.0


class HTTPConnection(H11Protocol):
    """A connection that ends if it sends no request in time, or if newer ones need its place.

    Without the token every request is answered at once, so only a client with the token can have a request in progress.
    """

    _since = 0.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._since = self.loop.time()
        self._expect_request()
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """See uvicorn."""
        self._expect_request()
        super().on_response_complete()

    def _expect_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._is_idle():
            self.transport.abort()

    def _is_idle(self) -> bool:
        """Whether no request is in progress; `cycle` is None before the first."""
        return not self.cycle or self.cycle.response_complete

    def _make_room(self) -> None:
        """End the oldest idle connection; this one if all others are busy."""
        kept = cast(
            Collection[HTTPConnection], self.connections
        )  # uvicorn makes no other kind here
        idle = [one for one in kept if one._is_idle() and not one.transport.is_closing()]
        min(idle, key=lambda one: one._since, default=self).transport.abort()


class AcceptErrors(logging.Filter):
    """Lets asyncio report once a minute that it cannot accept a connection; it tries 64 times a second."""

    _said = -_LOG_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        if not record.getMessage().startswith("socket.accept()"):
            return True
        now = time.monotonic()
        is_due = now - self._said >= _LOG_SECONDS
        self._said = now if is_due else self._said
        return is_due


def most_connections() -> int:
    """How many connections are kept at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(_MOST, soft // _SHARE)

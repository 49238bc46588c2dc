"""Blocking calls: in threads, with a time limit."""

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from durable_workflows.engine.rows import NOT_KNOWN, Rows
from durable_workflows.errors import DatabaseSilent, DatabaseUnavailable

if TYPE_CHECKING:
    from durable_workflows.seam.client import Client

_THREADS = 8
_CONNECTIONS = 1  # they are short, and rare

T = TypeVar("T")


class Calls:
    """Calls of dbos's client on the database of `rows`; the first call makes the client. Close it after use (`close`)."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._limiter = anyio.CapacityLimiter(_THREADS)  # never the threads of stdio
        self._making = threading.Lock()
        self._client: Client | None = None

    def close(self) -> None:
        """Close all connections; a call that was given up closes its own connection when it returns."""
        with self._making:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def certainly(self, call: "Callable[[Client], T]") -> T:
        """Call into dbos, and again if the database was lost meanwhile: then it is unknown whether the call was done.

        The call must be safe to repeat.
        """
        try:
            return await self.limited(call)
        except DatabaseSilent:
            raise
        except DatabaseUnavailable:
            await self._rows.heads([])  # it waits for a restart
            return await self.limited(call)

    async def limited(self, call: "Callable[[Client], T]") -> T:
        """Call into dbos, and give up after a time; the call itself continues."""
        try:
            with anyio.fail_after(self._rows.limit_seconds):
                return await self.in_thread(lambda: call(self._made()))
        except TimeoutError as error:
            raise DatabaseSilent(NOT_KNOWN) from error

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call a blocking function."""
        return await anyio.to_thread.run_sync(
            function, limiter=self._limiter, abandon_on_cancel=True
        )

    def _made(self) -> "Client":
        """The client, made at the first call.

        Its module imports dbos, which takes a third of a second. Reading and starting runs, and sending messages, work without it.
        """
        with self._making:
            if self._client is None:
                module = importlib.import_module("durable_workflows.seam.client")
                self._client = module.Client(self._rows.database, self._rows.explain, _CONNECTIONS)
            assert self._client is not None
            return self._client

"""The embedded database, started while the supervisor's own modules are imported: Node needs as long as they do.

Only what is as it was after the last start is started so. Anything else is left to the supervisor, which says what is wrong.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from logging import getLogger
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.processes import databases
from durable_workflows.settings import Settings
from durable_workflows.system import files, locks, places, state
from durable_workflows.system.database_process import DatabaseProcess

_logger = getLogger(__name__)


class Launch:
    """A database that is being started, until somebody takes it. At the end of the `with` block, one that nobody took is stopped."""

    def __init__(self, settings: Settings) -> None:
        self.password = ""
        self._settings = settings
        self._stack = AsyncExitStack()
        self._process: DatabaseProcess | None = None
        self._ended = anyio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def begin(self) -> None:
        """Start it, if nothing has changed since the last time. Call it once."""
        try:
            if await anyio.to_thread.run_sync(_is_as_it_was, self._settings):
                self.password = state.known_password(self._settings)
                running = databases.running(
                    self._settings,
                    password=self.password,
                    port=state.known_port(self._settings),
                )
                self._process = await self._stack.enter_async_context(running)
        except DurableWorkflowsError as error:
            _logger.info("The database was not started in advance: %s", error.message)
        finally:
            self._ended.set()

    async def taken(self) -> AbstractAsyncContextManager[DatabaseProcess] | None:
        """The running database, for the first caller; None: there is none to take."""
        await self._ended.wait()
        process, self._process = self._process, None
        return _kept(process, self._stack.pop_all()) if process else None


@asynccontextmanager
async def _kept(process: DatabaseProcess, stack: AsyncExitStack) -> AsyncGenerator[DatabaseProcess]:
    async with stack:
        yield process


def _is_as_it_was(settings: Settings) -> bool:
    return (
        settings.embedded
        and (places.data(settings) / "PG_VERSION").is_file()
        and files.read_text(places.opened(settings)) == databases.software(settings)
        and state.known_password(settings) != ""
        and state.moved_to(settings) is None
        and locks.is_free_within(places.database_lock(settings), 0)
    )

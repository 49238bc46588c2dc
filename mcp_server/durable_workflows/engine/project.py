"""A project for an MCP server or a command: its engine, made when needed, with all processes behind it."""

import importlib
import logging
from types import ModuleType
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, state

if TYPE_CHECKING:
    from durable_workflows.engine.engine import Engine

logger = logging.getLogger(__name__)


def _engine_module() -> ModuleType:
    """Import the engine late: this takes a fifth of a second, since it imports psycopg.

    It must not delay a server's first message, or `--help`.
    """
    return importlib.import_module("durable_workflows.engine.engine")


class Project:
    """Gives out the engine of one project. Close it after use (`aclose`)."""

    def __init__(
        self, settings: Settings, progress: lifecycle.Progress = lifecycle.no_progress
    ) -> None:
        self.settings = settings
        self._progress = progress
        self._lock = anyio.Lock()
        self._engine: Engine | None = None
        self._shown: locks.Lock | None = None

    async def engine(self) -> "Engine":
        """The engine for the running database; missing processes are started.

        Raises:
            SetupError: something on this machine must be corrected first.
            InvalidProject: the project directory is not a directory.
        """
        async with self._lock:
            connection = await lifecycle.ensure_running(
                self.settings, self._progress, meanwhile=_engine_module
            )
            if self._engine is None or self._engine.connection.url != connection.url:
                await self._close_engine()
                module = await anyio.to_thread.run_sync(_engine_module)
                self._engine = module.Engine(self.settings, connection, self._progress)
            assert self._engine is not None
            self._engine.reconnected(connection)
            if not self._is_shown:
                await anyio.to_thread.run_sync(self.hold)
            return self._engine

    def hold(self) -> None:
        """Show that a client is connected, so that the supervisor stays until `aclose`. May be repeated: the file may have been removed."""
        if self._is_shown:
            return
        path = places.clients_lock(self.settings)
        if not path.parent.is_dir():
            return
        try:
            shown = locks.shared_lock(path)
        except (locks.LockHeld, OSError) as error:  # the next call may succeed
            logger.info("The lock of the connected clients was not taken: %s", error)
            return
        self._shown, old = shown, self._shown
        if old is not None:
            old.close()

    @property
    def _is_shown(self) -> bool:
        return self._shown is not None and self._shown.is_in_place()

    def is_running(self) -> bool:
        """Whether a supervisor runs for the project; nothing is started."""
        return state.read_connection(self.settings) is not None

    async def aclose(self) -> None:
        """Close the engine's connections at once. The project's processes continue."""
        await self._close_engine()
        if self._shown is not None:
            self._shown.close()
            self._shown = None

    async def _close_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()

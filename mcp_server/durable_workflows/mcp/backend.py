"""The project behind an MCP server: it starts with the server, and again when it is needed."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from durable_workflows.engine.project import Project
from durable_workflows.errors import DurableWorkflowsError, SetupError, UsageError
from durable_workflows.mcp.sessions import BEAT_SECONDS, Sessions
from durable_workflows.settings import Settings
from durable_workflows.system import places, state

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

_CHECK_SECONDS = 5.0  # how long a killed supervisor may be away
_REPORT_SECONDS = 5.0
_START_SECONDS = 40.0  # clients cut calls at 60 s; the start continues after the answer
_GOODBYE_SECONDS = 0.15
_CLOSE_SECONDS = 0.45  # in addition; the process exits after 0.7

logger = logging.getLogger(__name__)
T = TypeVar("T")
Report = Callable[[str], Awaitable[None]]


class Backend:
    """The objects that the server holds for its tools and resources while it runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._project = Project(settings, progress=self._note)
        self._news = "Starting the workflow engine"
        self._starting: asyncio.Task[Engine] | None = None
        self._next_beat = 0.0
        self._limiter = anyio.CapacityLimiter(2)  # never the threads of stdio
        self.sessions = Sessions()

    async def engine(self, report: Report | None = None) -> "Engine":
        """The engine, when everything behind it runs.

        The start is a task of its own: a call that is cancelled, or runs out of time, does not interrupt it.

        Raises:
            DurableWorkflowsError: why it cannot start, or that it has not started yet.
        """
        start = self._start()
        with anyio.move_on_after(_START_SECONDS):
            while not start.done():
                await asyncio.wait({start}, timeout=_REPORT_SECONDS)
                if report is not None and not start.done():
                    await report(self._news)
            return start.result()
        raise SetupError(
            f"The workflow engine is still starting: {self._news}.",
            hint="Call again in a few seconds. The first start on a machine takes a minute.",
        )

    async def when_running(
        self,
        question: Callable[["Engine"], Awaitable[T]],
        *,
        seconds: float,
        otherwise: T,
    ) -> T:
        """The engine's answer, or `otherwise` if nothing runs (nothing is started for it), or no answer comes in time.

        Raises:
            UsageError: the question is wrong.
        """
        try:
            if state.read_connection(self.settings) is not None:
                with anyio.move_on_after(seconds):
                    return await question(await self.engine())
        except UsageError:
            raise
        except (DurableWorkflowsError, OSError) as error:
            logger.info("Not answered: %s", error)
        return otherwise

    async def keep(self) -> None:
        """Start everything, hold the lock that shows that a server is connected, and restart a supervisor that was killed."""
        start = self._start()
        while True:
            await asyncio.wait({start})
            if not start.cancelled() and (error := start.exception()) is not None:
                logger.warning("The workflow engine did not start: %s", error)
            while not await self._in_thread(self._was_killed):
                await self._in_thread(self._project.hold)
                await self._beat()
                await anyio.sleep(_CHECK_SECONDS)
            start = self._start()

    async def aclose(self) -> None:
        """Close the connections. The project's processes continue."""
        with anyio.move_on_after(_GOODBYE_SECONDS, shield=True):
            await self._say_goodbye()
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            if self._starting is not None:
                self._starting.cancel()
                # Its error is also retrieved: otherwise asyncio complains about it.
                await asyncio.gather(self._starting, return_exceptions=True)
        await self._project.aclose()

    def _started(self) -> "Engine | None":
        start = self._starting
        if start is None or not start.done() or start.cancelled() or start.exception():
            return None
        return start.result()

    async def _beat(self) -> None:
        engine = self._started()
        if engine is None or time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + BEAT_SECONDS
        try:
            await self.sessions.beat(engine)
        except DurableWorkflowsError as error:  # the next attempt may succeed
            logger.info("The connected clients were not recorded: %s", error)
        except Exception:  # no error may end the server, which has other work
            logger.exception("The connected clients were not recorded")

    async def _say_goodbye(self) -> None:
        engine = self._started()
        if engine is None:
            return
        try:
            await self.sessions.leave(engine)
        except DurableWorkflowsError as error:  # then they are seen to be silent
            logger.info("The leaving of the clients was not recorded: %s", error)

    def _note(self, text: str) -> None:
        self._news = text

    def _start(self) -> "asyncio.Task[Engine]":
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._project.engine())
        return self._starting

    def _was_killed(self) -> bool:
        """Whether the supervisor was killed or got a SIGTERM.

        A supervisor that `shutdown` has ended has removed its connection file, and stays away until a tool needs it.
        """
        left = places.connection(self.settings)
        try:
            return left.exists() and not self._project.is_running()
        except (SetupError, OSError):  # the next tool call reports the error
            return False

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(
            function, limiter=self._limiter, abandon_on_cancel=True
        )

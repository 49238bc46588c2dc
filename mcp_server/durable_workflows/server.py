"""The MCP server over stdio, in both protocol eras.

It answers the first message before anything else is ready: what takes time (importing dbos, starting the supervisor) happens behind it,
and a failure there is told by the tool that needs it. It holds nothing that matters: runs go on without it.
"""

import asyncio
import difflib
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from durable_workflows import locks, state
from durable_workflows.errors import DurableWorkflowsError, SetupError
from durable_workflows.project import Project
from durable_workflows.resources import add_resources
from durable_workflows.settings import Settings
from durable_workflows.tools import TOOLS, Backend, Report, ToolSpec

if TYPE_CHECKING:  # importing it imports dbos, which takes a second
    from durable_workflows.engine import Engine

_CHECK_SECONDS = 5.0  # how long a killed supervisor may be away
_REPORT_SECONDS = 5.0
_START_SECONDS = 40.0  # clients cut calls at 60 s; the start goes on behind the answer
_CLOSE_SECONDS = 0.3
_LEAVE_SECONDS = 0.7  # then the process goes, whatever its threads do: clients kill after 2 s
_LONGEST_ERROR = 4000  # characters
_SHOWN_PROBLEMS = 5

INSTRUCTIONS = """
Durable workflows for this project: Python functions whose every finished step is recorded in Postgres, run by workers outside of this session. A run
survives crashes, restarts and closed clients, and goes on after its last finished step. You are the orchestrator.

Look here when work has several steps that must not be lost or done twice, takes long, must wait for a person or an event, or fans out over many items; and
when somebody asks what runs in this project, why something failed or is stuck, or to approve, cancel, repeat or continue it. For one quick command you
need none of this.

The routine:
1. list_workflows: what is under way already? Runs belong to the project, not to a session.
2. workflow_catalog: which workflows can be started, with which arguments.
3. start_workflow returns a workflow_id at once (batch for many). Choose a workflow_id yourself where starting twice would hurt.
4. wait_for_workflows blocks until runs have ended or wait for a message; a time-out is no error, call it again.
5. inspect tells why a run is where it is, what each step did, and the next call.
6. send_message answers a run that waits on a topic. If the message decides for a person, ask that person first.
7. A run failed: repair the workflow file in the project, then fork from the failed step. Finished steps are not run again.
cancel stops runs, resume lets cancelled ones go on, server_status tells what is wrong behind all this.

Words: a workflow (name) is code; a run (workflow_id) is one execution of it; steps are numbered from 1. Answers are cut short and name the call that brings the rest.
""".strip()

logger = logging.getLogger(__name__)
T = TypeVar("T")


def build_server(settings: Settings, *, own_process: bool = False) -> MCPServer[Backend]:
    """An MCP server for the project of `settings`; with `own_process` it may take the process's signals and its standard output."""
    backend = _Backend(settings)

    @asynccontextmanager
    async def lifespan(_server: MCPServer[Backend]) -> AsyncGenerator[Backend]:
        if own_process:
            # The transport has taken the real one by now. Before that, the protocol itself would go to stderr.
            sys.stdout = sys.stderr
        async with anyio.create_task_group() as group:
            group.start_soon(backend.keep)
            if own_process:
                group.start_soon(_leave_on_signal, backend)
            try:
                yield backend
            finally:
                if own_process:
                    _leave_soon()
                group.cancel_scope.cancel()
                await backend.aclose()

    server: MCPServer[Backend] = MCPServer(
        "durable-workflows",
        title="Durable workflows",
        version=installed_version("durable-workflows"),
        instructions=INSTRUCTIONS,
        tools=[_tool(spec) for spec in TOOLS],
        lifespan=lifespan,
        log_level="WARNING",
    )
    add_resources(server, backend)
    return server


async def serve(settings: Settings) -> None:
    """Serve the project of `settings` on standard input and output until the client goes, then end the process. Runs and workers go on."""
    if not logging.getLogger().handlers:  # else MCPServer sets it up for a terminal
        logging.basicConfig(
            stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
        )
    await build_server(settings, own_process=True).run_stdio_async()
    _leave()


class _Backend:
    """The project behind a server: started when the server is, and again when it is needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._project = Project(settings, progress=self._note)
        self._news = "Starting the workflow engine"
        self._starting: asyncio.Task[Engine] | None = None
        self._lock: locks.Lock | None = None
        self._limiter = anyio.CapacityLimiter(2)  # never the threads that stdio uses

    async def engine(self, report: Report | None = None) -> "Engine":
        """The engine, once everything behind it runs.

        The start is a task of its own: a call that is cancelled, or has no more time, does not interrupt it.

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
            hint="The first start on a machine takes a minute. Call again in some seconds.",
        )

    async def keep(self) -> None:
        """Start everything, hold the lock that shows that a server is connected, and bring back a supervisor that was killed."""
        start = self._start()
        while True:
            await asyncio.wait({start})
            if not start.cancelled() and (error := start.exception()) is not None:
                logger.warning("The workflow engine did not start: %s", error)
            while not await self._in_thread(self._was_killed):
                await self._in_thread(self._hold_lock)
                await anyio.sleep(_CHECK_SECONDS)
            start = self._start()

    async def aclose(self) -> None:
        """Close the connections, if that goes quickly. The project's processes go on."""
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            if self._starting is not None and not self._starting.done():
                self._starting.cancel()
                await asyncio.wait({self._starting})
            await self._project.aclose()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _note(self, text: str) -> None:
        self._news = text

    def _start(self) -> "asyncio.Task[Engine]":
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._project.engine())
        return self._starting

    def _was_killed(self) -> bool:
        """Whether the supervisor went without a word. One that was told to stop has removed its connection file, and stays away until a tool needs it."""
        left = self.settings.state / "connection.json"
        try:
            return left.exists() and not self._project.is_running()
        except OSError:  # the next tool call tells what is wrong there
            return False

    def _hold_lock(self) -> None:
        path = state.servers_lock(self.settings)
        if self._lock is not None or not path.parent.is_dir():
            return
        try:
            self._lock = locks.shared_lock(path)
        except (locks.LockHeld, OSError) as error:
            logger.info("The lock of the connected servers is tried again: %s", error)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(
            function, limiter=self._limiter, abandon_on_cancel=True
        )


# Leaving


async def _leave_on_signal(backend: _Backend) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            _leave_soon()
            await backend.aclose()
            _leave()


def _leave_soon() -> None:
    """End the process shortly, even if a thread hangs that would keep it."""
    timer = threading.Timer(_LEAVE_SECONDS, _leave)
    timer.daemon = True
    timer.start()


def _leave() -> None:
    # Without the interpreter's shutdown, which waits for threads (one blocks in a read of standard input), and which would write what was
    # printed but not flushed to the protocol's pipe.
    os._exit(0)


# Tools as the protocol has them: the error boundary, and arguments taken literally


class _StrictTool(Tool):
    """A tool that refuses unknown arguments, whose errors are written for a model, and whose answers hold no empty fields."""

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Any:
        try:
            result = await super().run(arguments, context)
        except ToolError as error:
            raise self._readable(error) from error.__cause__
        return _answer(result) if convert_result else result

    def _readable(self, error: ToolError) -> ToolError:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            return ToolError(_shortened(self._wrong_arguments(cause)))
        if isinstance(cause, DurableWorkflowsError):
            return ToolError(_shortened(str(cause)))
        return UnexpectedToolError(
            f"{self.name} failed because of an error inside the server, which has logged it. "
            "Nothing is lost: call again, or call server_status to see what is wrong."
        )

    def _wrong_arguments(self, error: ValidationError) -> str:
        known = list(self.parameters["properties"])
        problems = [_problem(one["type"], one["loc"], one["msg"], known) for one in error.errors()]
        more = len(problems) - _SHOWN_PROBLEMS
        shown = "; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; {more} more" if more > 0 else "")
        return f"Wrong arguments of {self.name}: {shown}. Nothing was done. Its arguments are {', '.join(known) or 'none'}."


class _Untitled(GenerateJsonSchema):
    """Without a `title` for each field, which says nothing that its name does not."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _tool(spec: ToolSpec) -> Tool:
    tool = _StrictTool.from_function(
        spec.function,
        title=spec.title,
        description=_description(spec.function),
        annotations=spec.annotations,
        structured_output=spec.structured,
    )
    loose = tool.fn_metadata.arg_model
    strict = type(loose.__name__, (loose,), {"model_config": ConfigDict(extra="forbid")})
    tool.fn_metadata.arg_model = strict
    tool.parameters = strict.model_json_schema(by_alias=True, schema_generator=_Untitled)
    return tool


def _description(function: Callable[..., Any]) -> str:
    """The docstring without the line breaks that its width asked for."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _answer(result: object) -> CallToolResult:
    """Text for the tools that give Markdown; for the others the same data twice, as clients show their models one or the other."""
    if not isinstance(result, BaseModel):
        return CallToolResult(content=[TextContent(type="text", text=str(result))])
    return CallToolResult(
        content=[TextContent(type="text", text=result.model_dump_json(exclude_defaults=True))],
        structured_content=result.model_dump(mode="json", exclude_defaults=True),
    )


def _problem(kind: str, location: Sequence[int | str], message: str, known: Sequence[str]) -> str:
    name = ".".join(map(str, location))
    if kind == "missing":
        return f"{name} is missing"
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    close = difflib.get_close_matches(name, known, n=1) if len(location) == 1 else []
    return f"there is no {name!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _shortened(text: str) -> str:
    """An error with its beginning, which says what happened, and its end, which says what to do."""
    if len(text) <= _LONGEST_ERROR:
        return text
    half = _LONGEST_ERROR // 2
    return f"{text[:half]} … {text[-half:]}"

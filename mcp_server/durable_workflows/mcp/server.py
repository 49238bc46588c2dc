"""The MCP server over stdio, in both protocol eras.

It answers the first message before anything else is ready. Slow work (importing psycopg, starting the supervisor) happens in the
background, and the tool that needs it reports a failure. The server holds nothing important: runs continue without it.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVar

import anyio
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver import server as sdk_server
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    GetPromptRequestParams,
    InputRequiredResult,
    ListToolsResult,
    NotificationParams,
    PaginatedRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, ValidationError

from durable_workflows import content
from durable_workflows.errors import DurableWorkflowsError, UsageError
from durable_workflows.mcp import apps, elicitation, uris
from durable_workflows.mcp.backend import Backend
from durable_workflows.mcp.completions import Completions
from durable_workflows.mcp.icons import icons
from durable_workflows.mcp.prompts import Prompts
from durable_workflows.mcp.resources import Listing, add_resources
from durable_workflows.mcp.sessions import declares
from durable_workflows.mcp.stdio import bounded_stdio
from durable_workflows.mcp.strict_tools import strict_tool
from durable_workflows.mcp.subscriptions import Subscriptions
from durable_workflows.mcp.tasks import Tasks
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.settings import Settings
from durable_workflows.system.importing import undisturbed

logger = logging.getLogger(__name__)
Params = TypeVar("Params", bound=BaseModel)
Handler = Callable[[ServerRequestContext[Backend, object], Params], Awaitable[BaseModel]]

_UNKNOWN_RESOURCE = "Unknown resource"  # the beginning of the SDK's error
_LEAVE_SECONDS = 0.7  # then the process exits, whatever its threads do: clients kill after 2 s

_INSTRUCTIONS = """
Durable workflows for this project: Python functions whose every finished step is recorded in Postgres, run by workers outside this session. A run
survives crashes, restarts and closed clients, and goes on after its last finished step. You are the orchestrator.

Use it when work has several steps that must not be lost or done twice, takes long, waits for a person or an event, or fans out over many items; and
when the user asks what runs in this project, why something failed or is stuck, or wants to approve, cancel, repeat or continue it. For one quick
command, run the command itself.

The routine:
1. list_workflows: what is under way already? Runs belong to the project, not to a session.
2. workflow_catalog: which workflows can be started, with which arguments.
{waiting}
5. inspect says why a run is where it is, what each step did, and the next call.
6. send_message answers a run that waits on a topic. If the message decides something for a person, ask that person first. Topics that begin with "person:"
take only a person's answer: answer_in_person.
7. A run failed: repair the workflow file, then fork from the failed step. Finished steps do not run again.
cancel stops runs, resume lets cancelled ones go on, server_status shows what is wrong behind all this.

Words: a workflow (name) is code; a run (workflow_id) is one execution of it; steps are numbered from 1. Answers are cut short and name the call that brings the rest.
""".strip()

_BY_ITSELF = """
3. start_workflow returns a workflow_id at once (batch for many). Choose your own workflow_id where starting twice would hurt.
4. wait_for_workflows blocks until runs have ended or wait for a message. A timeout is not an error: call it again. If a run takes longer than you can stay,
or waits for a person, do not poll: say its workflow_id and what it waits for, and end your turn. The run goes on without you. Nothing calls you back;
list_workflows shows next time how it stands.
""".strip()

_AS_TASK = """
3. start_workflow (batch for many), fork and resume answer with the result if there is one within two seconds; else they become a task. Choose your own
workflow_id where starting twice would hurt.
4. You are told when a task has ended, and your client puts the questions of runs to its person. So do not wait and do not poll: go on with other work, or say what is
under way and end your turn. wait_for_workflows is for runs that you did not start, and where the next step needs the result now.
""".strip()

INSTRUCTIONS = _INSTRUCTIONS.format(waiting=_BY_ITSELF)
INSTRUCTIONS_WITH_TASKS = _INSTRUCTIONS.format(waiting=_AS_TASK)


class Server(MCPServer[Backend]):
    """The server of one project. `backend` is the project behind it while it runs; `subscriptions` are the wishes of its clients."""

    def __init__(self, settings: Settings, *, own_process: bool) -> None:
        self.backend = backend = Backend(settings)
        self.subscriptions = Subscriptions(settings)
        super().__init__(
            "durable-workflows",
            title="Durable workflows",
            description="Runs that survive crashes, closed sessions and reboots.",
            version=content.package_version(),
            icons=icons(),
            instructions=INSTRUCTIONS,
            tools=[strict_tool(spec) for spec in (*TOOLS, apps.PAGE)],
            extensions=[Tasks(backend), apps.Apps(backend)],
            lifespan=lambda _server: self._lifespan(backend, own_process=own_process),
            subscriptions=self.subscriptions.bus,
            request_state_security=elicitation.security(settings),
            middleware=[_boundary, self.subscriptions.declare, _instruct],
            log_level="WARNING",
        )
        add_resources(self, backend)
        self.completion()(Completions(backend).complete)
        self._answer("tools/list", PaginatedRequestParams, self._list_tools)
        self._answer("resources/list", PaginatedRequestParams, Listing(self, backend).page)
        self._answer("prompts/list", PaginatedRequestParams, Prompts(backend).list)
        self._answer("prompts/get", GetPromptRequestParams, Prompts(backend).get)
        self._answer_subscribers()

    def _answer(self, method: str, params: type[Params], handler: Handler[Params]) -> None:
        """Methods that MCPServer handles differently or not at all."""
        self._lowlevel_server.add_request_handler(method, params, handler)

    def _answer_subscribers(self) -> None:
        ours = self.subscriptions
        self._answer("subscriptions/listen", SubscriptionsListenRequestParams, ours.listen)
        self._answer("resources/subscribe", SubscribeRequestParams, ours.subscribe)
        self._answer("resources/unsubscribe", UnsubscribeRequestParams, ours.unsubscribe)
        self._lowlevel_server.add_notification_handler(
            "notifications/initialized", NotificationParams, ours.initialized
        )

    async def _list_tools(
        self, ctx: ServerRequestContext[Backend, object], _params: PaginatedRequestParams
    ) -> ListToolsResult:
        """`tools/list`. A client without pages has no use for the tool of the page, and its model none for reading about it."""
        tools = await self.list_tools()
        kept = [one for one in tools if one.name != apps.NAME or apps.declares(ctx)]
        return ListToolsResult(tools=kept)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Backend, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. For an unknown tool, name the similar ones."""
        names = [spec.function.__name__ for spec in TOOLS]
        if name not in (*names, apps.NAME):
            raise ToolError(f"There is no tool {name[:100]!r}. Use one of {', '.join(names)}.")
        return await super().call_tool(name, arguments, context)

    async def run_stdio_async(self) -> None:
        """Serve on standard input and output until the client is gone."""
        async with bounded_stdio() as (incoming, outgoing):
            lowlevel = self._lowlevel_server
            await lowlevel.run(incoming, outgoing, lowlevel.create_initialization_options())

    @asynccontextmanager
    async def _lifespan(self, backend: Backend, *, own_process: bool) -> AsyncGenerator[Backend]:
        if own_process:
            # The transport has taken the real one by now. If it were earlier, the protocol itself would go to stderr.
            sys.stdout = sys.stderr
        async with anyio.create_task_group() as group:
            group.start_soon(backend.keep)
            await group.start(self.subscriptions.run)
            if own_process:
                group.start_soon(_leave_on_signal, backend)
            try:
                yield backend
            finally:
                if own_process:
                    leave_soon()
                group.cancel_scope.cancel()
                await backend.aclose()


def build_server(settings: Settings, *, own_process: bool = False) -> Server:
    """An MCP server for the project of `settings`; with `own_process` it may use the process's signals and standard output."""
    return Server(settings, own_process=own_process)


async def _boundary(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """The error boundary of everything but tools, which have their own.

    Our errors are passed on unchanged; of other errors only the fact is reported.
    """
    try:
        return await call_next(ctx)
    except MCPError as error:
        if error.error.message.startswith(_UNKNOWN_RESOURCE):
            message = f"{error.error.message}. Use one of {', '.join(uris.ALL)}."
            raise MCPError(error.error.code, message, error.error.data) from error
        raise
    except ValidationError:
        raise
    except DurableWorkflowsError as error:
        code = INVALID_PARAMS if isinstance(error, UsageError) else INTERNAL_ERROR
        raise MCPError(code, str(error)) from error
    except Exception as error:
        logger.exception("%s failed", ctx.method)
        message = f"{ctx.method} failed because of an error in the server; the error is in its log."
        raise MCPError(INTERNAL_ERROR, message) from error


async def _instruct(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Adapt the instructions to a client that takes tasks.

    The tools are the same for all clients, as the protocol requires, and so are their texts.
    """
    result = await call_next(ctx)
    if ctx.method == "server/discover" and isinstance(result, dict) and declares(ctx):
        result["instructions"] = INSTRUCTIONS_WITH_TASKS
    return result


async def serve(settings: Settings) -> None:
    """Serve the project of `settings` on standard input and output until the client is gone, then end the process.

    Runs and workers continue.
    """
    log_plainly()
    with undisturbed():  # it makes thousands of objects that stay
        server = build_server(settings, own_process=True)
    await server.run_stdio_async()
    leave()


def log_plainly() -> None:
    """Log to standard error, unless the process already does. MCPServer would log as for a terminal, and import a library for that first."""
    sdk_server.configure_logging = _keep_logging  # pyright: ignore[reportPrivateImportUsage]
    if not logging.getLogger().handlers:
        logging.basicConfig(
            stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
        )


def _keep_logging(level: str) -> None:
    """Replaces the SDK's function."""


# Leaving


async def _leave_on_signal(backend: Backend) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            leave_soon()
            await backend.aclose()
            leave()


def leave_soon(seconds: float = _LEAVE_SECONDS) -> None:
    """End the process shortly, even if a thread hangs that would keep it alive."""
    # This cuts off queries, and psycopg warns of it.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def leave() -> NoReturn:
    """End the process now, with status 0."""
    # Without the interpreter's shutdown, which waits for threads (one blocks in a read of standard input), and which would write unflushed
    # output to the protocol's pipe.
    os._exit(0)

"""The MCP server over stdio, in both protocol eras.

It answers the first message before anything else is ready: what takes time (importing dbos, starting the supervisor) happens behind it,
and a failure there is told by the tool that needs it. It holds nothing that matters: runs go on without it.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from mcp.server import MCPServer

from durable_workflows import content
from durable_workflows.backend import Backend
from durable_workflows.resources import add_resources
from durable_workflows.settings import Settings
from durable_workflows.strict_tools import strict_tool
from durable_workflows.tools import TOOLS

_LEAVE_SECONDS = 0.7  # then the process goes, whatever its threads do: clients kill after 2 s

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


def build_server(settings: Settings, *, own_process: bool = False) -> MCPServer[Backend]:
    """An MCP server for the project of `settings`; with `own_process` it may take the process's signals and its standard output."""
    backend = Backend(settings)

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
        version=content.package_version(),
        instructions=INSTRUCTIONS,
        tools=[strict_tool(spec) for spec in TOOLS],
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


# Leaving


async def _leave_on_signal(backend: Backend) -> None:
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

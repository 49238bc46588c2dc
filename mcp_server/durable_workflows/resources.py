"""The resources: what a person attaches to a conversation, or a client reads by itself. Nothing is changed by reading one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.types import Annotations

from durable_workflows import traces
from durable_workflows.backend import Backend
from durable_workflows.errors import DurableWorkflowsError, UnknownWorkflowId
from durable_workflows.models import Message, Run

if TYPE_CHECKING:  # importing it imports dbos, which takes a second
    from durable_workflows.engine import Engine

_RECENT = 50
_PAYLOAD = 20_000  # characters of each payload in a trace as JSON
_MESSAGES = 1000

_FOR_BOTH = Annotations(audience=["user", "assistant"])


class TraceJson(Run):
    """A run with the messages that were sent to it."""

    messages: list[Message]


def add_resources(server: MCPServer[Backend], backend: Backend) -> None:
    """Add all resources to a server whose lifespan `backend` shares."""

    @server.resource(
        "durable://workflows",
        title="Recent workflows",
        description=f"The {_RECENT} newest runs of this project with their status, as JSON.",
        mime_type="application/json",
        annotations=_FOR_BOTH,
    )
    async def workflows() -> str:
        async with _engine(backend) as engine:
            return (await engine.runs(limit=_RECENT)).model_dump_json()

    @server.resource(
        "durable://workflows/{workflow_id}/trace",
        title="Trace of a workflow",
        description="Why a run is where it is and what its steps did, as Markdown; the same as the tool `inspect` shows.",
        mime_type="text/markdown",
        annotations=_FOR_BOTH,
    )
    async def trace(workflow_id: str) -> str:
        async with _engine(backend) as engine:
            return traces.markdown(await engine.run(workflow_id))

    @server.resource(
        "durable://workflows/{workflow_id}/trace.json",
        name="trace.json",
        title="Trace of a workflow as JSON",
        description="All that is recorded of a run, its steps, children and messages, for programs.",
        mime_type="application/json",
        annotations=Annotations(audience=["user"]),
    )
    async def trace_json(workflow_id: str) -> str:
        async with _engine(backend) as engine:
            run = await engine.run(workflow_id, preview=_PAYLOAD)
            messages = await engine.messages(workflow_id, count=_MESSAGES)
            return TraceJson(**dict(run), messages=messages).model_dump_json()


@asynccontextmanager
async def _engine(backend: Backend) -> AsyncGenerator["Engine"]:
    """The engine; our own errors reach the client as they read."""
    try:
        yield await backend.engine()
    except UnknownWorkflowId as error:
        raise ResourceNotFoundError(str(error)) from error
    except DurableWorkflowsError as error:
        raise ResourceError(str(error)) from error

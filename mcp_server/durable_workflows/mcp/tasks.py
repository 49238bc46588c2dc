"""Runs as tasks, an extension of the protocol of 2026-07-28: a client that declares it gets the result of a start when it is there.

A task is a run by another name: its id is the workflow_id, and nothing is kept for it. What a run waits for is not asked through its task; the
task says for what it waits, and there are tools to answer.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    RequestParams,
    TextContent,
)
from pydantic import BaseModel

from durable_workflows.mcp import answers
from durable_workflows.mcp.backend import Backend
from durable_workflows.mcp.subscriptions import TASKS
from durable_workflows.models import UNFINISHED, Run, Started
from durable_workflows.telling import causes

_VERSIONS = frozenset({"2026-07-28"})
_POLL_MILLISECONDS = 2000

Call = ServerRequestContext[Any, Any]
TaskStatus = Literal["working", "completed", "cancelled"]


class TaskParams(RequestParams):
    """The parameters of all methods; `tasks/update` has answers too, of which nothing was asked for."""

    task_id: str


class Tasks(Extension):
    """The extension for one project's server."""

    identifier = TASKS

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def methods(self) -> Sequence[MethodBinding]:
        """The methods of a task; an unknown one raises UnknownWorkflowId."""
        handlers = {"get": self.get, "update": self.update, "cancel": self.cancel}
        return [
            MethodBinding(f"tasks/{name}", TaskParams, handler, _VERSIONS)
            for name, handler in handlers.items()
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: Call, call_next: CallNext
    ) -> HandlerResult:
        """Answer the start of one run, if it has not ended by then, as a task."""
        result = await call_next(ctx)
        started = _started(result) if params.name == "start_workflow" else None
        if started is None or not _declares(ctx):
            return result
        engine = await self._backend.engine()
        return {"resultType": "task", **_task(await engine.reader.run(started))}

    async def get(self, ctx: Call, params: TaskParams) -> HandlerResult:
        """`tasks/get`: how the run stands, and once it has ended what its start would have answered had it waited."""
        require_client_extension(ctx, TASKS)
        engine = await self._backend.engine()
        run = await engine.reader.run(params.task_id)
        task = _task(run)
        if task["status"] == "completed":
            started = Started(workflow_id=run.workflow_id, status=run.status, version=run.version)
            waited = await engine.reader.wait([run.workflow_id], timeout_seconds=0)
            task["result"] = _result(answers.fit_started([started], waited, single=True))
        return task

    async def update(self, ctx: Call, params: TaskParams) -> EmptyResult:
        """`tasks/update`: a task never asks, so answers are passed over, as the extension wants it."""
        require_client_extension(ctx, TASKS)
        engine = await self._backend.engine()
        await engine.reader.run(params.task_id)
        return EmptyResult()

    async def cancel(self, ctx: Call, params: TaskParams) -> EmptyResult:
        """`tasks/cancel`: cancel the run, unless it has ended."""
        require_client_extension(ctx, TASKS)
        engine = await self._backend.engine()
        await engine.cancel([params.task_id])
        return EmptyResult()


def _declares(ctx: Call) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = (capabilities.extensions if capabilities else None) or {}
    return ctx.protocol_version in _VERSIONS and TASKS in declared


def _started(result: HandlerResult) -> str | None:
    """The one run that a start has begun, if it goes on."""
    if not isinstance(result, CallToolResult) or result.is_error:
        return None
    answer = answers.StartAnswer.model_validate(result.structured_content)
    return answer.workflow_id if answer.status in UNFINISHED else None


def _task(run: Run) -> dict[str, object]:
    return {
        "taskId": run.workflow_id,
        "status": _status(run),
        "statusMessage": causes.cause(run, datetime.now(UTC)).text,
        "createdAt": run.created_at.isoformat(),
        "lastUpdatedAt": run.updated_at.isoformat(),
        "ttlMs": None,
        "pollIntervalMs": _POLL_MILLISECONDS,
    }


def _status(run: Run) -> TaskStatus:
    """A run that failed is completed, too: its start has a result, which says so."""
    if run.status in UNFINISHED:
        return "working"
    return "cancelled" if run.status == "CANCELLED" else "completed"


def _result(answer: BaseModel) -> dict[str, object]:
    """As the tool `start_workflow` would have answered."""
    shown = answer.model_dump(mode="json", exclude_defaults=True)
    text = TextContent(type="text", text=answer.model_dump_json(exclude_defaults=True))
    result = CallToolResult(content=[text], structured_content=shown)
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)

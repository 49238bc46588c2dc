"""Runs as tasks, an extension of the protocol of 2026-07-28.

A client that declares the extension gets the result of a call when it is ready, and asks its person the runs' questions. A task is runs by
another name: its id names them (`begun.py`), and nothing is stored for it. Any server of the project knows it, now or later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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

from durable_workflows.mcp import answers, asking, begun, elicitation
from durable_workflows.mcp.backend import Backend
from durable_workflows.mcp.begun import Begun
from durable_workflows.mcp.sessions import TASKS, TASKS_VERSIONS, declares
from durable_workflows.models import (
    UNFINISHED,
    Changed,
    Forked,
    Question,
    RunHead,
    Started,
    WaitResult,
)
from durable_workflows.wording import counted, how_it_goes, joined, line

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

_POLL_MILLISECONDS = 2000
_PLAIN_SECONDS = 2.0  # runs that end within this time need no task
_SHOWN = 3  # runs and questions that a message names
_MOST_ASKED = 20
_NOTES = 100  # tasks whose notes are remembered
_NOTE = "durable-workflows/note"  # in the answer to an update

Call = ServerRequestContext[Any, Any]
TaskStatus = Literal["working", "input_required", "completed", "cancelled"]
Json = dict[str, object]


class TaskParams(RequestParams):
    """The parameters of all methods; those of `tasks/update` have answers."""

    task_id: str
    input_responses: Mapping[str, Any] = {}


@dataclass(frozen=True)
class _State:
    """The state of a task's runs."""

    heads: Sequence[RunHead]
    questions: Sequence[Question]

    @property
    def ids(self) -> list[str]:
        return [one.workflow_id for one in self.heads]

    @property
    def open(self) -> list[Question]:
        """The open questions, as many as a person can handle at once; the rest come later."""
        return [one for one in self.questions if not one.closed][:_MOST_ASKED]

    def status(self, *, asks: bool) -> TaskStatus:
        """A failed run is completed too: its start has a result, which says so."""
        statuses = {one.status for one in self.heads}
        if statuses & UNFINISHED:
            return "input_required" if asks and self.open else "working"
        return "cancelled" if statuses == {"CANCELLED"} else "completed"


class Tasks(Extension):
    """The extension for one project's server."""

    identifier = TASKS

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._notes: dict[str, str] = {}  # the notes on the last answers: lost with the server

    def methods(self) -> Sequence[MethodBinding]:
        """The methods of a task; an unknown one raises UnknownWorkflowId."""
        handlers = {"get": self.get, "update": self.update, "cancel": self.cancel}
        return [
            MethodBinding(f"tasks/{name}", TaskParams, handler, TASKS_VERSIONS)
            for name, handler in handlers.items()
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: Call, call_next: CallNext
    ) -> HandlerResult:
        """Answer a call that has begun runs with a task, if they have not ended two seconds later."""
        result = await call_next(ctx)
        found = begun.of_call(params, result) if declares(ctx) else None
        if found is None or not isinstance(result, CallToolResult):
            return result
        engine = await self._backend.engine()
        waited = await engine.reader.wait(found.workflow_ids, timeout_seconds=_PLAIN_SECONDS)
        state = await _state(engine, found)
        if not waited.running and not waited.waiting:
            return _outcome(waited, found, state.heads, result.structured_content)
        shown = await self._shown(ctx, engine, found, state)
        return {"resultType": "task", **shown, "status": "working"}

    async def get(self, ctx: Call, params: TaskParams) -> HandlerResult:
        """`tasks/get`: the state of the runs, their questions, and at the end the answer that a waiting call would have given."""
        require_client_extension(ctx, TASKS)
        found = begun.read(params.task_id)
        engine = await self._backend.engine()
        state = await _state(engine, found)
        task = await self._shown(ctx, engine, found, state)
        if task["status"] == "completed":
            looked = await engine.reader.look(state.ids)
            result = _outcome(looked, found, state.heads, None)
            task["result"] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        if task["status"] == "input_required":
            task["inputRequests"] = asking.requests(state.open)
        return task

    async def update(self, ctx: Call, params: TaskParams) -> EmptyResult:
        """`tasks/update`: give the runs the person's answers.

        Answers that do not count are skipped, as the extension requires, and reported.
        """
        require_client_extension(ctx, TASKS)
        found = begun.read(params.task_id)
        engine = await self._backend.engine()
        session = self._backend.sessions.of_request(ctx)
        await self._backend.sessions.note(engine, session)
        state = await _state(engine, found)
        notes = await asking.take(engine, state.open, params.input_responses, session.person)
        self._remember(params.task_id, " ".join(notes))
        return EmptyResult.model_validate({"_meta": {_NOTE: " ".join(notes)}} if notes else {})

    async def cancel(self, ctx: Call, params: TaskParams) -> EmptyResult:
        """`tasks/cancel`: cancel the runs that have not ended."""
        require_client_extension(ctx, TASKS)
        found = begun.read(params.task_id)
        engine = await self._backend.engine()
        await engine.cancel(found.workflow_ids)
        return EmptyResult()

    def _remember(self, task_id: str, note: str) -> None:
        self._notes.pop(task_id, None)
        if note:
            self._notes[task_id] = note
        if len(self._notes) > _NOTES:
            del self._notes[next(iter(self._notes))]

    async def _shown(self, ctx: Call, engine: "Engine", found: Begun, state: _State) -> Json:
        """The fields of a task in any status."""
        asks = elicitation.can_ask(ctx.session.client_capabilities)
        # News comes first: a client may show only 200 characters.
        said = [self._notes.get(found.task_id, "")]
        said += [text for one in state.questions if (text := asking.told(one))][:_SHOWN]
        said.append(await _how_it_stands(engine, state))
        if not asks:
            settings = self._backend.settings
            commands = [elicitation.in_terminal(settings, one.wait) for one in state.open]
            said += [f"A person answers in a terminal: {one}" for one in commands[:_SHOWN]]
        return {
            "taskId": found.task_id,
            "status": state.status(asks=asks),
            "statusMessage": " ".join(filter(None, said)),
            "createdAt": min(one.created_at for one in state.heads).isoformat(),
            "lastUpdatedAt": max(one.updated_at for one in state.heads).isoformat(),
            "ttlMs": None,
            "pollIntervalMs": _POLL_MILLISECONDS,
        }


async def _state(engine: "Engine", found: Begun) -> _State:
    heads = await engine.reader.heads(found.workflow_ids)
    goes_on = any(one.status in UNFINISHED for one in heads)
    return _State(heads, await engine.questions(found.workflow_ids) if goes_on else [])


async def _how_it_stands(engine: "Engine", state: _State) -> str:
    if len(state.heads) == 1:
        return await engine.pages.cause(state.ids[0])
    return _progress(len(state.heads), await engine.reader.look(state.ids))


def _progress(runs: int, result: WaitResult) -> str:
    """The progress of several runs; runs that need something come first."""
    failed = [one.workflow_id for one in result.done if one.status != "SUCCESS"]
    parts = [f"{len(result.done)} of {counted(runs, 'run')} ended"]
    if failed:
        parts.append(f"not successful: {line(', '.join(failed), 200)}")
    going = [f"{one.workflow_id} waits on {one.topic!r}" for one in result.waiting]
    going += [f"{one.workflow_id}: {how_it_goes(one) or one.status}" for one in result.running]
    more = f"{len(going) - _SHOWN} more" if len(going) > _SHOWN else None
    return joined(*parts, *(line(one, 200) for one in going[:_SHOWN]), more)


# The result


def _outcome(
    result: WaitResult, found: Begun, heads: Sequence[RunHead], told: Mapping[str, Any] | None
) -> CallToolResult:
    """The answer that the call would have given after waiting until now; `told` is its actual answer, if known."""
    match found.kind:
        case "fork":
            answer: BaseModel = answers.fit_forked(_forked(heads[0], told), result)
        case "resume":
            answer = answers.fit_resumed(_resumed(heads[0], told), result)
        case "start" | "batch":
            single = found.kind == "start"
            answer = answers.fit_started(_started(heads, told), result, single=single)
    text = TextContent(type="text", text=answer.model_dump_json(exclude_defaults=True))
    shown = answer.model_dump(mode="json", exclude_defaults=True)
    return CallToolResult(content=[text], structured_content=shown)


def _started(heads: Sequence[RunHead], told: Mapping[str, Any] | None) -> list[Started]:
    answer = answers.StartAnswer.model_validate(told or {})
    existing = {one.workflow_id for one in answer.workflows or () if one.existing}
    if answer.existing:
        existing.add(str(answer.workflow_id))
    return [
        Started(
            workflow_id=one.workflow_id,
            status=one.status,
            version=one.version,
            existing=one.workflow_id in existing,
        )
        for one in heads
    ]


def _forked(head: RunHead, told: Mapping[str, Any] | None) -> Forked:
    if told is not None:
        return Forked.model_validate(told)
    return Forked(
        workflow_id=head.workflow_id,
        forked_from=head.forked_from or "",
        from_step=head.forked_at or 1,
        version=head.version,
    )


def _resumed(head: RunHead, told: Mapping[str, Any] | None) -> answers.ChangedAnswer:
    if told is not None:
        return answers.ChangedAnswer.model_validate(told)
    changed = Changed(
        workflow_id=head.workflow_id, changed=True, status=head.status, note="resumed"
    )
    return answers.ChangedAnswer(workflows=[changed])

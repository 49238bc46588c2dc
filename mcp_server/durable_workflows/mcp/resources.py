"""The resources: a person attaches them to a conversation, or a client reads them by itself. Reading one changes nothing."""

import difflib
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import ResourceSecurity
from mcp.types import Annotations, ListResourcesResult, PaginatedRequestParams, Resource

from durable_workflows import fitting, limits, wording
from durable_workflows.docs import documents
from durable_workflows.docs.documents import Document
from durable_workflows.errors import (
    DurableWorkflowsError,
    InvalidArguments,
    UnknownWorkflowId,
)
from durable_workflows.mcp import apps, uris
from durable_workflows.mcp.backend import Backend
from durable_workflows.mcp.icons import icons
from durable_workflows.mcp.subscriptions import NEWEST
from durable_workflows.models import RunList, RunSummary

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

_PAGE = 50  # runs in a page of the list
_LISTED = 200  # runs in all pages: many clients fetch all pages again and again
_LIST_SECONDS = 1.0  # a client asks for the list at its start: later runs are announced
_DETAIL = 200  # characters of an error, or of a wait, in the list

# A workflow_id may look like a path, but names no file.
_ANY_TEXT = ResourceSecurity(reject_path_traversal=False, reject_absolute_paths=False)
_FOR_BOTH = Annotations(audience=["user", "assistant"])
_FOR_MODELS = Annotations(audience=["assistant"])


def add_resources(server: MCPServer[Backend], backend: Backend) -> None:
    """Add all resources to a server whose lifespan `backend` shares."""
    _add_runs(server, backend)
    _add_traces(server, backend)
    _add_documents(server)


def _add_runs(server: MCPServer[Backend], backend: Backend) -> None:
    async def page(cursor: str | None) -> str:
        async with _engine(backend) as engine:
            return (await engine.reader.runs(limit=NEWEST, cursor=cursor)).model_dump_json()

    @server.resource(
        uris.RUNS,
        title="Recent workflows",
        description=f"The newest {NEWEST} runs of this project with their status, as JSON.",
        mime_type="application/json",
        annotations=_FOR_BOTH,
        icons=icons(),
    )
    async def workflows() -> str:
        return await page(None)

    @server.resource(
        uris.RUNS_PAGE,
        name="workflows-page",
        title="Older workflows",
        description=f"The runs before those in {uris.RUNS}: `cursor` is the `next_cursor` of the previous page.",
        mime_type="application/json",
        annotations=_FOR_BOTH,
        icons=icons(),
    )
    async def older_workflows(cursor: str | None = None) -> str:
        return await page(cursor)


def _add_traces(server: MCPServer[Backend], backend: Backend) -> None:
    @server.resource(
        uris.TRACE,
        title="Trace of a workflow",
        description="Why a run is where it is and what its steps did, as Markdown, as the tool `inspect` shows it.",
        mime_type="text/markdown",
        annotations=_FOR_BOTH,
        icons=icons(),
        security=_ANY_TEXT,
    )
    async def trace(workflow_id: str) -> str:
        async with _engine(backend) as engine:
            return fitting.shown(await engine.pages.summary(workflow_id))

    @server.resource(
        uris.TRACE_JSON,
        name="trace.json",
        title="Trace of a workflow as JSON",
        description="A run with its steps, children and messages, for programs; `left_out` says what is missing, and the calls that show it.",
        mime_type="application/json",
        annotations=Annotations(audience=["user"]),
        icons=icons(),
        security=_ANY_TEXT,
    )
    async def as_json(workflow_id: str) -> str:
        async with _engine(backend) as engine:
            return await engine.pages.trace_json(workflow_id)


def _add_documents(server: MCPServer[Backend]) -> None:
    @server.resource(
        uris.TEMPLATE,
        title="Template",
        description="A workflow file to start from: copy it and change what its docstring says to change.",
        mime_type="text/x-python",
        annotations=_FOR_BOTH,
        icons=icons(),
    )
    async def template(name: str) -> str:
        return await _text("template", documents.templates(), name)

    @server.resource(
        uris.REFERENCE,
        title="Reference",
        description="What to know about one topic before you write or repair workflows.",
        mime_type="text/markdown",
        annotations=_FOR_MODELS,
        icons=icons(),
    )
    async def reference(name: str) -> str:
        return await _text("reference", documents.references(), name)


async def _text(kind: str, known: Iterable[Document], name: str) -> str:
    paths = {one.name: one.path for one in known}
    if name not in paths:
        close = difflib.get_close_matches(name, paths, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise ResourceNotFoundError(
            f"There is no {kind} {wording.short(name, _DETAIL)!r}.{meant} Use one of {', '.join(paths)}."
        )
    return await anyio.Path(paths[name]).read_text(encoding="utf-8")


@asynccontextmanager
async def _engine(backend: Backend) -> AsyncGenerator["Engine"]:
    """The engine; our own errors reach the client unchanged."""
    try:
        yield await backend.engine()
    except (UnknownWorkflowId, InvalidArguments) as error:
        raise ResourceNotFoundError(str(error)) from error
    except DurableWorkflowsError as error:
        raise ResourceError(str(error)) from error


# The list


class Listing:
    """The list of resources in pages: first the fixed ones, then the traces of the newest runs."""

    def __init__(self, server: MCPServer[Backend], backend: Backend) -> None:
        self._server = server
        self._backend = backend

    async def page(
        self, ctx: ServerRequestContext[Backend, object], params: PaginatedRequestParams
    ) -> ListResourcesResult:
        """`resources/list`. The first page never waits for the engine: without it, it has no runs.

        Raises:
            InvalidArguments: the cursor does not belong to this list.
        """
        if params.cursor is not None:
            shown, cursor = _read_cursor(params.cursor)
            engine = await self._backend.engine()
            return _page([], await engine.reader.runs(limit=_PAGE, cursor=cursor), shown)
        fixed = [*await self._server.list_resources(), *_documents()]
        if not apps.declares(ctx):
            fixed = [one for one in fixed if one.uri not in uris.APPS]
        none = RunList(workflows=[], counts={})
        runs = await self._backend.when_running(
            lambda engine: engine.reader.runs(limit=_PAGE),
            seconds=_LIST_SECONDS,
            otherwise=none,
        )
        return _page(fixed, runs, 0)


def _page(fixed: Sequence[Resource], runs: RunList, shown: int) -> ListResourcesResult:
    shown += len(runs.workflows)
    more = runs.next_cursor if shown < _LISTED else None
    return ListResourcesResult(
        resources=[*fixed, *map(_run, runs.workflows)],
        next_cursor=f"{shown}.{more}" if more else None,
    )


def _read_cursor(cursor: str) -> tuple[int, str]:
    shown, dot, rest = cursor.partition(".")
    if not (dot and shown.isdecimal() and len(shown) < len(str(_LISTED)) + 1):
        raise InvalidArguments(
            f"{wording.short(cursor, _DETAIL)!r} is not a cursor of this list.",
            hint="Pass the nextCursor of the previous page, or omit it for the first page.",
        )
    return int(shown), rest


def _run(run: RunSummary) -> Resource:
    waits = f", waits for {run.waiting_on}" if run.waiting_on is not None else ""
    waits = waits or (f", {run.asleep}" if run.asleep is not None else "")
    error = f": {run.error}" if run.error else ""
    return Resource(
        uri=uris.expand(uris.TRACE, workflow_id=run.workflow_id),
        name=run.workflow_id,
        title=f"{run.workflow_id} ({wording.line(run.name, limits.NAME)})",
        description=wording.line(f"{run.status}{waits}{error}", _DETAIL),
        mime_type="text/markdown",
        annotations=_FOR_BOTH.model_copy(update={"last_modified": run.updated_at.isoformat()}),
    )


def _documents() -> list[Resource]:
    return [
        *(_document(uris.TEMPLATE, _FOR_BOTH, one) for one in documents.templates()),
        *(_document(uris.REFERENCE, _FOR_MODELS, one) for one in documents.references()),
    ]


def _document(uri: str, annotations: Annotations, document: Document) -> Resource:
    return Resource(
        uri=uris.expand(uri, name=document.name),
        name=document.name,
        title=document.title,
        description=document.summary,
        mime_type=document.mime_type,
        size=document.size,
        annotations=annotations.model_copy(
            update={"last_modified": document.modified.isoformat(timespec="seconds")}
        ),
    )

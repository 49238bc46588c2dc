"""Pages inside clients, an extension of the protocol (MCP Apps): the page of `web/` as two resources, and the tool through which it reads and acts.

Nothing of the page is imported before a client asks for it. The tool and the resources are listed only for clients that declare the extension.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
from mcp.server.context import ServerRequestContext
from mcp.server.extension import Extension, ResourceBinding
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError
from mcp.server.mcpserver.resources import FunctionResource
from mcp.types import Annotations, CallToolResult, TextContent
from pydantic import Field, JsonValue

from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.mcp import uris
from durable_workflows.mcp.backend import Backend
from durable_workflows.mcp.icons import icons
from durable_workflows.mcp.strict_tools import ToolSpec

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

APPS = "io.modelcontextprotocol/ui"
MIME_TYPE = "text/html;profile=mcp-app"
NONCES = (
    "durable-workflows/nonces"  # in `_meta`, which clients give to the page and not to their models
)

_SHOWN = {  # what the page shows first
    uris.APP_RUN: (
        "run",
        "Run",
        "A run, live: why it is where it is, and a timeline of its steps.",
    ),
    uris.APP_INBOX: (
        "inbox",
        "Inbox and runs",
        "The questions of runs, with a form for each answer, and the list of runs.",
    ),
}
# All of the page is in its file: it loads nothing from anywhere.
_META: dict[str, Any] = {
    "ui": {
        "csp": {"connectDomains": [], "resourceDomains": []},
        "permissions": {"clipboardWrite": {}},
        "prefersBorder": True,
    }
}
_TEXT = "The page shows this."

Word = Annotated[str, Field(max_length=256)]


def declares(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client of a request declares that it shows pages."""
    capabilities = ctx.session.client_capabilities
    declared = ((capabilities.extensions if capabilities else None) or {}).get(APPS) or {}
    return MIME_TYPE in declared.get("mimeTypes", ())


class Apps(Extension):
    """The extension for one project's server."""

    identifier = APPS

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def resources(self) -> Sequence[ResourceBinding]:
        """The page, by what it shows first."""
        return [ResourceBinding(resource=self._resource(uri)) for uri in _SHOWN]

    def _resource(self, uri: str) -> FunctionResource:
        view, title, description = _SHOWN[uri]

        async def read() -> str:
            embedded = await anyio.to_thread.run_sync(_embedded)
            try:
                text: str = await embedded.document(self._backend.settings, view)
            except DurableWorkflowsError as error:
                raise ResourceError(str(error)) from error
            return text

        return FunctionResource(
            uri=uri,
            name=view,
            title=title,
            description=description,
            mime_type=MIME_TYPE,
            icons=icons(),
            annotations=Annotations(audience=["user"]),
            meta=_META,
            fn=read,
        )


async def page(
    ctx: Context[Backend],
    path: Word,
    given: dict[str, JsonValue] | None = None,
    nonce: Word | None = None,
) -> CallToolResult:
    """For the page that this client shows to its person, not for models: the page reads runs and acts on them.

    A model has other tools for all of this. An answer to a run's question to a person is accepted only from the page that showed the question.

    - path: Which call of the page's API.
    - given: Its arguments.
    - nonce: The word that the page got with the question.
    """
    backend = ctx.request_context.lifespan_context
    session = backend.sessions.of(ctx)

    async def engine() -> "Engine":
        found = await backend.engine()
        await backend.sessions.note(found, session)
        return found

    embedded = await anyio.to_thread.run_sync(_embedded)
    caller = embedded.Caller(session.session_id, session.person, declares(ctx.request_context))
    found = await embedded.answer(backend.settings, engine, caller, path, given or {}, nonce)
    text = str(found.told["error"]) if found.is_error else _TEXT
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=found.told,
        is_error=found.is_error,
        _meta={NONCES: found.nonces} if found.nonces else None,
    )


NAME = page.__name__
PAGE = ToolSpec(page, "Page", destroys=True, open_world=True, structured=False, for_page=True)


def _embedded() -> ModuleType:
    """Import it for the first client with pages: it takes time and memory."""
    return importlib.import_module("durable_workflows.web.embedded")

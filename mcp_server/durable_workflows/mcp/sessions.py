"""The clients that are connected to this server. Each gets a session_id, which its runs carry; nothing is bound to it."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

BEAT_SECONDS = 30.0  # how often connected clients are noted
_IDLE_SECONDS = 600.0  # over HTTP clients do not say good-bye
_SESSION_HEADER = "mcp-session-id"

TASKS = "io.modelcontextprotocol/tasks"  # the extension of `tasks.py`
TASKS_VERSIONS = frozenset({"2026-07-28"})

Transport = Literal["stdio", "http"]


def declares(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client of a request takes tasks."""
    capabilities = ctx.session.client_capabilities
    declared = (capabilities.extensions if capabilities else None) or {}
    return ctx.protocol_version in TASKS_VERSIONS and TASKS in declared


@dataclass(frozen=True)
class Session:
    """A client, by its introduction."""

    client: str
    version: str
    transport: Transport
    tasks: bool = field(default=False, compare=False)  # whether it tells its session how runs end
    session_id: str = field(default_factory=lambda: secrets.token_hex(4), compare=False)

    @property
    def person(self) -> str:
        """The name of the person there."""
        return f"the person at {self.client} {self.version}".strip()


class Sessions:
    """The clients that have called this server."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Session] = {}
        self._called_at: dict[str, float] = {}
        self._noted: set[str] = set()

    def of(self, ctx: Context[Any]) -> Session:
        """The session of a tool call."""
        return self.of_request(ctx.request_context)

    def of_request(self, ctx: ServerRequestContext[Any, Any]) -> Session:
        """The session of a request. Over HTTP, clients of the newer protocol are distinguished only by name and version."""
        params = ctx.session.client_params
        client = params.client_info.name if params else "unknown client"
        version = params.client_info.version if params else ""
        headers: Mapping[str, str] | None = getattr(ctx.request, "headers", None)
        key = (client, version, (headers or {}).get(_SESSION_HEADER, ""))
        transport: Transport = "stdio" if headers is None else "http"
        session = self._known.setdefault(key, Session(client, version, transport, declares(ctx)))
        self._called_at[session.session_id] = time.monotonic()
        return session

    async def note(self, engine: "Engine", session: Session) -> None:
        """Note a client at its first call.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        if session.session_id not in self._noted:
            await self._write(engine, session)
            self._noted.add(session.session_id)

    async def beat(self, engine: "Engine") -> None:
        """Note the present clients: the client on stdio, or over HTTP the clients with recent calls. Errors as for `note`."""
        for key, session in list(self._known.items()):
            idle = time.monotonic() - self._called_at[session.session_id]
            if session.transport == "stdio" or idle < _IDLE_SECONDS:
                await self._write(engine, session)
            else:
                del self._known[key], self._called_at[session.session_id]

    async def leave(self, engine: "Engine") -> None:
        """Note that all of them are gone: the server ends. Errors as for `note`."""
        if self._noted:
            await engine.note_sessions_left(list(self._noted))

    async def _write(self, engine: "Engine", session: Session) -> None:
        await engine.note_session(
            session.session_id,
            session.client,
            session.version,
            session.transport,
            tasks=session.tasks,
        )

"""Standard input and output as a transport, stricter than the SDK's own.

Input that is not a message is answered with an error. If a client does not read its answers, no further requests are taken: they
stay in its pipe, at its own cost.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from pydantic import ValidationError

_MOST_OPEN = 250  # requests without an answer yet; further requests wait in the pipe

Incoming = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Incoming], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def bounded_stdio() -> AsyncGenerator[Streams]:
    """The client's messages, and the way for its answers, in the form of `MCPServer`."""
    to_server, incoming = anyio.create_memory_object_stream[Incoming]()
    outgoing, from_server = anyio.create_memory_object_stream[SessionMessage]()
    requests = _Requests()
    async with stdio_server() as (read, write), anyio.create_task_group() as group:

        async def take() -> None:
            async with to_server:
                async for item in read:
                    if isinstance(item, SessionMessage):
                        await requests.note(item)
                        await to_server.send(item)
                    elif (refusal := _refusal(item)) is not None:
                        await write.send(refusal)

        async def give() -> None:
            async with write, from_server:
                async for item in from_server:
                    await write.send(item)
                    requests.note_answer(item)

        group.start_soon(take)
        group.start_soon(give)
        yield incoming, outgoing


class _Requests:
    """The requests without an answer yet."""

    def __init__(self) -> None:
        self._open: set[str | int] = set()
        self._changed = anyio.Event()

    async def note(self, item: SessionMessage) -> None:
        """Note an incoming message; a request has to wait for its turn."""
        match item.message:
            case JSONRPCRequest(id=number):
                while len(self._open) >= _MOST_OPEN:
                    await self._changed.wait()
                self._open.add(number)
            case JSONRPCNotification(method="notifications/cancelled", params=params):
                self._close((params or {}).get("requestId"))
            case _:
                pass

    def note_answer(self, item: SessionMessage) -> None:
        """Note an outgoing message."""
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._close(item.message.id)

    def _close(self, number: object) -> None:
        self._open.discard(number)
        self._changed.set()
        self._changed = anyio.Event()


def _refusal(error: Exception) -> SessionMessage | None:
    """The answer to a line that is not a message; None for an empty line."""
    code, said, number = INVALID_REQUEST, "Invalid request", None
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False)
        given = [one["input"] for one in found]
        if isinstance(given[0], str) and not given[0].strip():
            return None
        if found[0]["type"] == "json_invalid":
            code, said = PARSE_ERROR, f"Parse error: {found[0]['msg']}"
        number = next((number for number in map(_id, given) if number is not None), None)
    data = ErrorData(code=code, message=said)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=data))


def _id(given: object) -> str | int | None:
    """The id of an intended request, if it can be found."""
    try:
        found = json.loads(given) if isinstance(given, str | bytes) else given
    except (ValueError, RecursionError):
        return None
    number = cast("dict[str, object]", found).get("id") if isinstance(found, dict) else None
    return number if isinstance(number, str | int) and not isinstance(number, bool) else None

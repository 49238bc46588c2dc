"""Clients that hear what a server announces, in both eras of the protocol."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
from mcp.shared.subscriptions import ServerEvent
from mcp.types import (
    EmptyResult,
    ResourceListChangedNotification,
    ResourceUpdatedNotification,
    SubscribeRequest,
    SubscribeRequestParams,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)

from helpers import until
from mcp import Client

LIST = "the list"
Mode = Literal["auto", "legacy"]


class Ear:
    """The notifications that a client got: the URI of an updated resource, or `LIST`, and the time (in seconds since 1970)."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def count(self, what: str) -> int:
        return sum(one == what for _, one in self.heard)

    def note(self, what: str) -> None:
        self.heard.append((time.time(), what))

    def heard_since(self, what: str, moment: float) -> bool:
        return any(one == what and when >= moment for when, one in self.heard)

    async def next(self, what: str, before: int, *, seconds: float = 30.0) -> None:
        """Return once it was heard more than `before` times."""
        await until(lambda: self.count(what) > before, f"{what} is heard of", seconds=seconds)

    async def message(self, message: Any) -> None:
        """The message handler of an earlier client."""
        if isinstance(message, ResourceUpdatedNotification):
            self.note(str(message.params.uri))
        elif isinstance(message, ResourceListChangedNotification):
            self.note(LIST)

    def event(self, event: ServerEvent) -> None:
        self.note(getattr(event, "uri", LIST))


@asynccontextmanager
async def connected(server: Any, mode: Mode) -> AsyncGenerator[tuple[Client, Ear]]:
    """A client, and what it hears outside of any request."""
    ear = Ear()
    handler = ear.message if mode == "legacy" else None  # else it would hear all twice
    async with Client(server, mode=mode, message_handler=handler) as client:
        yield client, ear


@asynccontextmanager
async def subscribed(
    client: Client, ear: Ear, uris: Sequence[str], *, lists: bool = False
) -> AsyncGenerator[None]:
    """Subscribe in the way of the client's era until the block ends. An earlier client hears of lists in any case."""
    if client.protocol_version < "2026":
        for uri in uris:
            await subscribe(client, uri)
        yield
        for uri in uris:
            params = UnsubscribeRequestParams(uri=uri)
            await client.session.send_request(UnsubscribeRequest(params=params), EmptyResult)
        return
    async with (
        client.listen(resource_subscriptions=uris, resources_list_changed=lists) as events,
        anyio.create_task_group() as group,
    ):

        async def hear() -> None:
            async for event in events:
                ear.event(event)

        group.start_soon(hear)
        yield
        group.cancel_scope.cancel()


async def subscribe(client: Client, uri: str) -> None:
    """Subscribe as earlier clients do; the client's own method warns that this is the old way."""
    request = SubscribeRequest(params=SubscribeRequestParams(uri=uri))
    await client.session.send_request(request, EmptyResult)


@asynccontextmanager
async def hearing(
    server: Any, mode: Mode, uris: Sequence[str], *, lists: bool = False
) -> AsyncGenerator[tuple[Client, Ear]]:
    """A client that has subscribed."""
    async with (
        connected(server, mode) as (client, ear),
        subscribed(client, ear, uris, lists=lists),
    ):
        yield client, ear

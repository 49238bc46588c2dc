"""Subscriptions to traces and to the list of runs, in both eras of the protocol.

A client of the newer era keeps a request open, on which it gets the notifications that it asked for. An earlier client subscribes by URI,
and is
notified of changed lists unasked. Behind both is one `Feed`.
"""

from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import anyio
import anyio.abc
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.server import require_client_extension
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)
from mcp.types import (
    EmptyResult,
    NotificationParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from durable_workflows.engine.feed import Feed, News
from durable_workflows.errors import InvalidArguments
from durable_workflows.mcp import uris
from durable_workflows.mcp.sessions import TASKS
from durable_workflows.settings import Settings

NEWEST = 50  # runs in the list of runs

_KEY = "durable-workflows subscriptions"  # in the SDK's notes about a connection

Call = ServerRequestContext[Any, Any]


class Subscriptions:
    """The subscriptions of one server's clients. The handlers are for the protocol's methods of their names."""

    def __init__(self, settings: Settings) -> None:
        self.bus = InMemorySubscriptionBus()
        self._feed = Feed(settings, self._tell, newest=NEWEST)
        self._listen = ListenHandler(self.bus)
        self._uris: dict[str, int] = {}
        self._group: anyio.abc.TaskGroup | None = None

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve them, forever."""
        async with anyio.create_task_group() as self._group:
            task_status.started()
            await self._feed.run()

    def close(self) -> None:
        """End the open streams, with an answer that tells the clients that this is intended."""
        self._listen.close()

    # Handlers

    async def listen(
        self, ctx: Call, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """`subscriptions/listen`: send the requested notifications until the client is gone.

        Resources that never change are not promised.
        """
        asked = params.notifications
        if "taskIds" in (asked.model_extra or {}):  # tasks are not notified of, but polled
            require_client_extension(ctx, TASKS)
        changing = [one for one in asked.resource_subscriptions or () if uris.may_change(one)]
        never = {"prompts_list_changed": None, "tools_list_changed": None}
        honoured = asked.model_copy(update={"resource_subscriptions": changing or None, **never})
        with self.watch(changing, lists=bool(asked.resources_list_changed)):
            await self._feed.settle()
            return await self._listen(ctx, params.model_copy(update={"notifications": honoured}))

    async def initialized(self, ctx: Call, _params: NotificationParams) -> None:
        """`notifications/initialized`: from now on an earlier client is notified of changed lists."""
        self._client(ctx).hear_lists()

    async def subscribe(self, ctx: Call, params: SubscribeRequestParams) -> EmptyResult:
        """`resources/subscribe`; repeating it changes nothing.

        Raises:
            InvalidArguments: the resource never changes.
        """
        if not uris.may_change(params.uri):
            raise InvalidArguments(
                f"{params.uri} does not change.",
                hint=f"Subscribe to {uris.RUNS} or {uris.TRACE}.",
            )
        self._client(ctx).watch(params.uri)
        await self._feed.settle()
        return EmptyResult()

    async def unsubscribe(self, ctx: Call, params: UnsubscribeRequestParams) -> EmptyResult:
        """`resources/unsubscribe`; without a subscription nothing happens."""
        self._client(ctx).unwatch(params.uri)
        return EmptyResult()

    async def declare(self, ctx: Call, call_next: CallNext) -> HandlerResult:
        """A middleware that tells clients that the list of resources changes, and no other list.

        The SDK tells earlier clients none, and newer ones all.
        """
        result = await call_next(ctx)
        if ctx.method in ("initialize", "server/discover") and isinstance(result, dict):
            for kind in ("prompts", "resources", "tools"):
                result["capabilities"][kind]["listChanged"] = kind == "resources"
        return result

    # Which clients are told what

    @contextmanager
    def watch(self, watched: Collection[str], *, lists: bool = False) -> Generator[None]:
        """Publish changes of these resources, and of the list of resources, on the bus until the block ends."""
        workflow_ids = {uris.workflow_id_of(uri) for uri in watched} - {None}
        lists = lists or uris.RUNS in watched
        for uri in watched:
            self._uris[uri] = self._uris.get(uri, 0) + 1
        try:
            with self._feed.watch(cast("set[str]", workflow_ids), lists=lists):
                yield
        finally:
            for uri in watched:
                self._uris[uri] -= 1
                if not self._uris[uri]:
                    del self._uris[uri]

    async def _tell(self, news: News) -> None:
        for uri in list(self._uris):
            if (uri == uris.RUNS and news.states) or uris.workflow_id_of(uri) in news.workflow_ids:
                await self.bus.publish(ResourceUpdated(uri))
        if news.listed:
            await self.bus.publish(ResourcesListChanged())

    def _client(self, ctx: Call) -> "_EarlierClient":
        assert self._group is not None
        # Not public, but nothing else reports that one of many clients is gone.
        connection: Connection = vars(ctx.session)["_connection"]
        if _KEY not in connection.state:
            client = connection.state[_KEY] = _EarlierClient(ctx.session, self)
            connection.exit_stack.callback(client.close)
            self._group.start_soon(client.pump)
        return connection.state[_KEY]


class _EarlierClient:
    """A client that is notified on its only connection, at its own pace: a pending notification is sent once."""

    def __init__(self, session: ServerSession, subscriptions: Subscriptions) -> None:
        self._session = session
        self._subscriptions = subscriptions
        self._open = ExitStack()
        self._open.callback(subscriptions.bus.subscribe(self._put))
        self._watched: dict[str, ExitStack] = {}
        self._hears_lists = False
        self._news: dict[ServerEvent, None] = {}  # in order
        self._has_news = anyio.Event()
        self._scope = anyio.CancelScope()

    def hear_lists(self) -> None:
        if not self._hears_lists:
            self._hears_lists = True
            self._open.enter_context(self._subscriptions.watch((), lists=True))

    def watch(self, uri: str) -> None:
        if uri not in self._watched:
            self._watched[uri] = ExitStack()
            self._watched[uri].enter_context(self._subscriptions.watch([uri]))

    def unwatch(self, uri: str) -> None:
        if uri in self._watched:
            self._watched.pop(uri).close()

    def close(self) -> None:
        self._scope.cancel()
        for uri in list(self._watched):
            self.unwatch(uri)
        self._open.close()

    async def pump(self) -> None:
        with self._scope:
            while True:
                await self._has_news.wait()
                self._has_news = anyio.Event()
                news, self._news = self._news, {}
                for event in news:
                    await self._send(event)

    def _put(self, event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated):
            wanted = event.uri in self._watched
        else:
            wanted = self._hears_lists
        if wanted:
            self._news[event] = None
            self._has_news.set()

    async def _send(self, event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated):
            await self._session.send_resource_updated(event.uri)
        else:
            await self._session.send_resource_list_changed()

"""Changes, sent to open pages as server-sent events. All pages of a server share one `Feed`, and cost nothing while nothing happens."""

from collections.abc import Collection

import anyio
from starlette.types import Receive, Scope, Send

from durable_workflows.engine.feed import Feed, News
from durable_workflows.settings import Settings
from durable_workflows.web import shapes
from durable_workflows.web.shapes import NEWEST, ChangesQuery

_PAUSE_SECONDS = 0.2  # so that changes are reported within half a second
_SIGN_SECONDS = 15.0  # the interval of signs of life on a silent stream
_SIGN = b":\n\n"
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


class Changes:
    """The streams of the open pages of one server."""

    def __init__(self, settings: Settings) -> None:
        self._feed = Feed(
            settings, self._tell, newest=NEWEST, whole=True, pause_seconds=_PAUSE_SECONDS
        )
        self._ears: set[_Ear] = set()

    async def run(self) -> None:
        """Serve them, forever."""
        await self._feed.run()

    def stream(self, query: ChangesQuery) -> "Stream":
        """The answer for a page that asks for these changes. From its head on, every change is reported."""
        return Stream(self, query)

    async def serve(self, query: ChangesQuery, send: Send) -> None:
        """Send changes, until this is cancelled."""
        ear = _Ear(query)
        self._ears.add(ear)
        try:
            with self._feed.watch(query.runs, lists=query.listed, waits=query.waits):
                await self._feed.settle()
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await _write(send, _SIGN)  # otherwise a browser may wait for the first byte
                while True:
                    await _write(send, await ear.heard())
        finally:
            self._ears.discard(ear)

    async def _tell(self, news: News) -> None:
        for ear in self._ears:
            ear.tell(news)


class Stream:
    """An answer that continues until the page is gone."""

    def __init__(self, changes: Changes, query: ChangesQuery) -> None:
        self._changes = changes
        self._query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._changes.serve, self._query, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()


class _Ear:
    """A page that is told at its own pace: pending changes are merged."""

    def __init__(self, query: ChangesQuery) -> None:
        self._query = query
        self._runs: set[str] = set()
        self._listed = False
        self._waits = False
        self._has_news = anyio.Event()

    def tell(self, news: News) -> None:
        self._runs |= news.workflow_ids.intersection(self._query.runs)
        self._listed |= self._query.listed and (news.listed or news.states)
        self._waits |= self._query.waits and news.waits
        if self._runs or self._listed or self._waits:
            self._has_news.set()

    async def heard(self) -> bytes:
        """The next event; a sign of life if there is none for long."""
        with anyio.move_on_after(_SIGN_SECONDS):
            await self._has_news.wait()
            return self._taken()
        return _SIGN

    def _taken(self) -> bytes:
        event = _event(self._runs, listed=self._listed, waits=self._waits)
        self._runs, self._listed, self._waits = set(), False, False
        self._has_news = anyio.Event()
        return event


def _event(runs: Collection[str], *, listed: bool, waits: bool) -> bytes:
    news = shapes.News.model_validate({"runs": sorted(runs), "list": listed, "waits": waits})
    return f"event: changed\ndata: {news.model_dump_json(by_alias=True)}\n\n".encode()


async def _write(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})

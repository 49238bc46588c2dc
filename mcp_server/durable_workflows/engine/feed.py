"""Changes of runs, reported to one listener while it is interested.

However many subscribers there are, the database sees one connection and one small query at a time. It does not announce ends of steps
(every run would pay for a NOTIFY per step, even without subscribers): while a watched run is active the feed looks twice a
second, or more often on request. Otherwise hints wake the feed, and it looks from time to time in case a hint was lost.
"""

import importlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from durable_workflows.errors import DatabaseUnavailable, SetupError
from durable_workflows.settings import Settings
from durable_workflows.system import state

if (
    TYPE_CHECKING
):  # importing it imports psycopg, which the first message of a server has no time for
    from durable_workflows.database.marks import Looker, Marks, Wanted

_PAUSE_SECONDS = 0.5  # changes in that time are told together: subscribers are not flooded
_RECHECK_SECONDS = 5.0  # when nothing is announced
_AGAIN_SECONDS = 0.5  # while the database is away
_SETTLE_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """The changes since the last look."""

    workflow_ids: frozenset[str]  # watched runs whose traces have changed
    listed: bool  # other runs are the newest ones now
    states: bool  # one of these has another state
    waits: bool  # the waits of runs have changed


Tell = Callable[[News], Awaitable[None]]


class Feed:
    """Reports changes of the watched runs of one project; `newest` is the length of the list of the newest runs.

    With `whole`, new log lines count as a change of a run, and a changed number of runs in a status as a change of the list.
    """

    def __init__(
        self,
        settings: Settings,
        tell: Tell,
        *,
        newest: int,
        whole: bool = False,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._newest = newest
        self._whole = whole
        self._pause_seconds = pause_seconds
        self._watched: Counter[str] = Counter()
        self._lists = 0
        self._waits = 0
        self._marks: dict[str, str | None] = {}
        self._late: set[str] = set()  # their watchers were answered before the first look
        self._list_marks: tuple[str | None, str | None] = (None, None)
        self._wait_mark: str | None = None
        self._rewatched = anyio.Event()
        self._looked = anyio.Event()

    @contextmanager
    def watch(
        self, workflow_ids: Collection[str], *, lists: bool, waits: bool = False
    ) -> Generator[None]:
        """Report on these runs, on the list of the newest runs, and on the waits of all runs, until the block ends."""
        self._add(workflow_ids, 1, lists=lists, waits=waits)
        try:
            yield
        finally:
            self._add(workflow_ids, -1, lists=lists, waits=waits)

    async def settle(self) -> None:
        """Return when every change of the watched things is reported from now on, or soon in any case."""
        with anyio.move_on_after(_SETTLE_SECONDS):
            while not self._marks.keys() >= self._watched.keys():
                await self._looked.wait()
        self._late |= self._watched.keys() - self._marks.keys()

    async def run(self) -> None:
        """Report, forever. Without watchers nothing is asked of the database; while it is away, try again and again."""
        while True:
            while not self._is_wanted:
                await self._rewatched.wait()
            try:
                await self._follow()
            except (DatabaseUnavailable, SetupError, OSError) as error:
                logger.info("Subscriptions are waiting for the database: %s", error)
                await anyio.sleep(_AGAIN_SECONDS)

    @property
    def _is_wanted(self) -> bool:
        return bool(self._watched or self._lists or self._waits)

    def _add(self, workflow_ids: Collection[str], count: int, *, lists: bool, waits: bool) -> None:
        self._watched.update(dict.fromkeys(workflow_ids, count))
        self._watched = +self._watched
        self._lists += count if lists else 0
        if waits and self._waits == 0:
            # The last look may be old: a new watcher may have read waits that have begun and ended since.
            self._wait_mark = None
        self._waits += count if waits else 0
        self._late &= self._watched.keys()
        self._rewatched.set()
        self._rewatched = anyio.Event()

    async def _follow(self) -> None:
        connection = state.read_connection(self._settings)
        if connection is None:  # a subscription does not start a project that was shut down
            raise DatabaseUnavailable("Nothing runs for this project.")
        marks = await anyio.to_thread.run_sync(
            importlib.import_module, "durable_workflows.database.marks"
        )
        async with marks.looker(connection) as looker:
            while self._is_wanted:
                rewatched = self._rewatched  # a watcher that comes during the look is not in it
                wanted = marks.Wanted(
                    workflow_ids=list(self._watched),
                    newest=self._newest if self._lists else 0,
                    waits=self._waits > 0,
                    whole=self._whole,
                )
                found = await looker.look(wanted)
                if (news := self._news(wanted, found)) is not None:
                    await self._tell(news)
                await self._pause(looker, rewatched, moving=found.moving)

    def _news(self, wanted: "Wanted", found: "Marks") -> News | None:
        """The differences between this look and the last."""
        watched = wanted.workflow_ids
        changed = [one for one in watched if self._has_changed(one, found.runs.get(one))]
        lists = (found.listed, found.states) if wanted.newest else self._list_marks
        waits = found.waits if wanted.waits else self._wait_mark
        news = News(
            frozenset(changed),
            lists[0] != self._list_marks[0],
            lists[1] != self._list_marks[1],
            waits != self._wait_mark,
        )
        self._marks = {one: found.runs.get(one) for one in watched}
        self._list_marks, self._wait_mark = lists, waits
        self._late.difference_update(watched)
        self._looked.set()
        self._looked = anyio.Event()
        return news if changed or news.listed or news.states or news.waits else None

    def _has_changed(self, workflow_id: str, mark: str | None) -> bool:
        if workflow_id in self._marks:
            return self._marks[workflow_id] != mark
        return workflow_id in self._late

    async def _pause(self, looker: "Looker", rewatched: anyio.Event, *, moving: bool) -> None:
        with anyio.move_on_after(self._pause_seconds):
            return await rewatched.wait()
        if not moving:
            with anyio.move_on_after(_RECHECK_SECONDS):
                await _either(rewatched.wait, looker.hint)


async def _either(*waits: Callable[[], Awaitable[None]]) -> None:
    """Return as soon as one of them returns."""

    async def first(wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for wait in waits:
            group.start_soon(first, wait)

"""The current activity of a worker's runs, published in our tables: DBOS writes a step when it has ended, and never writes a wait.

Only lasting activity is written: a step that ends within `_SETTLE_SECONDS` costs no statement. Nothing is polled:
without news the publisher sleeps. A published row is a report; no process acts on it.
"""

import asyncio
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from durable_workflows import fitting
from durable_workflows.authoring import asking
from durable_workflows.authoring.asking import Question
from durable_workflows.database import tables

_SETTLE_SECONDS = 0.2
_AT_ONCE_SECONDS = 5.0
_LONGEST_ERROR = 600  # characters

Key = tuple[str, int]


@dataclass(frozen=True)
class RunningStep:
    """A step in flight; `attempt` counts from 1."""

    name: str
    attempt: int = 1
    max_attempts: int = 1
    retry_at: datetime | None = None  # between two attempts
    error: str | None = None  # of the last attempt
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Wait:
    """A wait for a message, or for what is said of a step in doubt; and its question."""

    topic: str
    question: Question
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


Entry = RunningStep | Wait


class Activity:
    """The observer that a worker gives to `observing.observe`, and the publisher of its observations.

    The observing methods are called in the threads of the runs; `publish` runs in the worker's own event loop.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, executor_id: str, *, at_once: bool = False
    ) -> None:
        """`at_once`: a step begins only after it is published, for steps that may end the process. The loop must not be a run's loop."""
        self._loop = loop
        self._executor_id = executor_id
        self._at_once = at_once
        self._settle_seconds = 0.0 if at_once else _SETTLE_SECONDS
        self._rounds = threading.Condition()
        self._lock = threading.Lock()
        self._current: dict[Key, Entry] = {}
        self._published: dict[Key, Entry] = {}
        self._changed = anyio.Event()
        self._woken = False
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def step_began(self, workflow_id: str, step: int, name: str) -> None:
        """See `observing.Observer`. After a call of `drain`, a thread that would begin a step stays here."""
        if self._stopping.is_set() and not _in_event_loop():
            threading.Event().wait()
        self._set((workflow_id, step), RunningStep(name))
        if self._at_once:
            self._await_published((workflow_id, step))

    def step_attempted(self, workflow_id: str, step: int, attempt: int, attempts: int) -> None:
        """See `observing.Observer`."""
        entry = self._current.get((workflow_id, step))
        if isinstance(entry, RunningStep) and attempts > 1:
            entry = replace(entry, attempt=attempt, max_attempts=attempts, retry_at=None)
            self._set((workflow_id, step), entry)

    def step_failed(self, workflow_id: str, step: int, error: str, seconds: float) -> None:
        """See `observing.Observer`."""
        entry = self._current.get((workflow_id, step))
        if isinstance(entry, RunningStep):
            entry = replace(entry, retry_at=_in(seconds), error=error[:_LONGEST_ERROR])
            self._set((workflow_id, step), entry)

    def step_ended(self, workflow_id: str, step: int) -> None:
        """See `observing.Observer`."""
        self._remove((workflow_id, step))

    @contextmanager
    def waits(self, workflow_id: str, step: int, topic: str) -> Generator[None]:
        """See `observing.Observer`."""
        key = (workflow_id, step)
        before = self._current.get(key)
        self._set(key, Wait(topic, asking.current()))
        try:
            yield
        finally:
            self._remove(key)
            if before is not None:
                self._set(key, before)

    def drain(self, seconds: float) -> bool:
        """Let no further step begin, and wait that long for the steps in flight; return whether all have ended.

        Steps of async workflows share one event loop, which must continue for the steps in flight: such steps still begin.
        """
        self._stopping.set()
        return self._idle.wait(seconds)

    def is_stopping(self) -> bool:
        """Whether `drain` was called: this worker ends."""
        return self._stopping.is_set()

    async def publish(self, connection: tables.Connection, turn: anyio.Lock) -> None:
        """Write changes into the database, forever. Others use the connection too: each writes while it has the `turn`.

        Raises:
            tables.Lost: the database does not answer.
        """
        self._published.clear()
        async with turn:
            await tables.run(connection, "clear_activity", executor_id=self._executor_id)
        while True:
            async with turn:
                young = await self._publish_once(connection)
            if not young:
                await self._changed.wait()
            await anyio.sleep(self._settle_seconds)
            self._changed = anyio.Event()
            self._woken = False

    def waits_of(self, workflow_id: str) -> list[dict[str, object]]:
        """A run's waits, as rows of `note_waits`."""
        with self._lock:
            waits = {key: one for key, one in self._current.items() if key[0] == workflow_id}
        return _wait_rows(waits)

    @property
    def is_idle(self) -> bool:
        """Whether no step is in flight."""
        return self._idle.is_set()

    def _await_published(self, key: Key) -> None:
        """Wait until the entry is written, but not forever, since the database may be away."""
        with self._rounds:
            self._rounds.wait_for(lambda: key in self._published, _AT_ONCE_SECONDS)

    def _set(self, key: Key, entry: Entry) -> None:
        with self._lock:
            self._current[key] = entry
            if isinstance(entry, RunningStep):
                self._idle.clear()
            else:
                self._note_idleness()
        self._wake()

    def _remove(self, key: Key) -> None:
        with self._lock:
            self._current.pop(key, None)
            self._note_idleness()
        if key in self._published:
            self._wake()

    def _note_idleness(self) -> None:
        if not any(isinstance(entry, RunningStep) for entry in self._current.values()):
            self._idle.set()

    def _wake(self) -> None:
        if not self._woken:  # at most one wake-up per round, however many steps begin
            self._woken = True
            self._loop.call_soon_threadsafe(self._note_change)

    def _note_change(self) -> None:
        self._changed.set()

    async def _publish_once(self, connection: tables.Connection) -> bool:
        """Write the differences; return whether to look again soon, for entries that are too young yet or ended meanwhile."""
        now = datetime.now(UTC)
        with self._lock:
            current = dict(self._current)
        settled = {
            key: entry
            for key, entry in current.items()
            if (now - entry.since).total_seconds() >= self._settle_seconds
        }
        # A wait in a step takes its place, and is in another table.
        gone = [
            key
            for key, entry in self._published.items()
            if type(current.get(key)) is not type(entry)
        ]
        fresh = {key: entry for key, entry in settled.items() if self._published.get(key) != entry}
        if gone:
            await tables.run(connection, "remove_activity", keys=fitting.json_text(gone))
        if fresh:
            await self._write(connection, fresh)
        with self._rounds:
            self._published = settled
            self._rounds.notify_all()
        return len(settled) < len(current) or not settled.keys() <= self._current.keys()

    async def _write(self, connection: tables.Connection, fresh: dict[Key, Entry]) -> None:
        steps = [
            {
                "workflow_id": key[0],
                "function_id": key[1],
                "name": entry.name,
                "since": entry.since.isoformat(),
                "attempt": entry.attempt,
                "max_attempts": entry.max_attempts,
                "retry_at": entry.retry_at.isoformat() if entry.retry_at else None,
                "error": entry.error,
            }
            for key, entry in fresh.items()
            if isinstance(entry, RunningStep)
        ]
        waits = _wait_rows(fresh)
        await self._write_rows(connection, "write_steps", steps)
        await self._write_rows(connection, "write_waits", waits)

    async def _write_rows(
        self, connection: tables.Connection, name: str, rows: list[dict[str, Any]]
    ) -> None:
        async def statement(some: Sequence[dict[str, Any]]) -> None:
            text = fitting.json_text(some)
            await tables.run(connection, name, executor_id=self._executor_id, rows=text)

        if rows:
            await tables.write(rows, statement)


def _wait_rows(entries: Mapping[Key, Entry]) -> list[dict[str, object]]:
    return [
        {
            "workflow_id": key[0],
            "function_id": key[1],
            "topic": entry.topic,
            "since": entry.since.isoformat(),
            "prompt": entry.question.prompt,
            "schema": entry.question.schema,
            "person_only": entry.question.person_only,
        }
        for key, entry in entries.items()
        if isinstance(entry, Wait)
    ]


def _in(seconds: float) -> datetime | None:
    """The moment in that many seconds; None: beyond all calendars."""
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

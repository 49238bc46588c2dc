"""The output and logs of runs, kept per run in our tables: bounded, and written in batches, so that a print costs no statement.

Output outside of runs goes to the log of the worker, as before. When a worker is killed, up to `_FLUSH_SECONDS` of a run's lines are lost.
When a run has ended, its last lines are there (`settle`). A run that is started again repeats the output of its own code;
steps that are not repeated print nothing.
"""

import asyncio
import codecs
import io
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, TextIO

import anyio
from typing_extensions import Buffer

from durable_workflows import fitting, limits, wording
from durable_workflows.authoring.redaction import Redactor
from durable_workflows.database import tables
from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches import bodies, observing
from durable_workflows.settings import Database

TRIM_LINES = 500  # the oldest lines of a run are removed after this many new lines
_LINE = 2000  # characters of a line
_LONGEST = 2 * _LINE  # of an incomplete line: secrets are removed from it before it is cut
_PENDING = 10_000  # lines that wait to be written; above it the oldest are dropped
_FLUSH_SECONDS = 0.3
_SETTLE_SECONDS = 1.0  # the longest that the end of a run waits for its last lines

Source = tuple[str, int | None, str]  # workflow_id, step, stream


class RunLog:
    """Collects lines, from any thread, and publishes them."""

    def __init__(self, redact: Redactor) -> None:
        """`redact` removes secrets from everything that is kept, and from output outside of runs."""
        self.redact = redact
        self._lock = threading.Condition()
        self._batch = 1  # the number of the batch that is being collected
        self._written = 0  # batches up to this one are in the database
        # By run: the batch of its newest lines, until that batch is written.
        self._newest: dict[str, int] = {}
        self._publish_now: Callable[[], object] | None = None  # None: the database is away
        self._publish_soon: Callable[[], object] = _nothing
        self._lines: deque[dict[str, object]] = deque(maxlen=_PENDING)
        # Lines without a line feed yet, with their start times; and lines that were published without one.
        self._partial: dict[Source, tuple[float, str]] = {}
        self._cut: set[Source] = set()
        self._new_lines: Counter[str] = Counter()

    def capture(self) -> None:
        """Take over standard output, standard error and logging of this process, as far as runs use them. Call it once, at the start."""
        sys.stdout = _Stream(self, "out", sys.stdout)
        sys.stderr = _Stream(self, "err", sys.stderr)
        root = logging.getLogger()
        for handler in root.handlers:  # they write to the original standard error
            handler.addFilter(_outside_of_runs)
            handler.setFormatter(_Redacting(handler.formatter, self.redact))
        handler = _Handler(self)
        root.addHandler(handler)
        observing.log_to(handler)

    def add(self, source: Source, text: str) -> None:
        """Add text. A line is complete with its line feed, after a while without one, or when its run ends."""
        if source[1] is None and bodies.is_muted():
            return
        with self._lock:
            if not self._newest:
                self._publish_soon()
            self._newest[source[0]] = self._batch
            if source in self._cut:  # the line feed of a published line comes late
                self._cut.remove(source)
                text = text.removeprefix("\n")
            began, before = self._partial.pop(source, (time.monotonic(), ""))
            *lines, rest = (before + text).split("\n")
            for line in lines:
                self._append(source, line)
            if rest:
                self._partial[source] = (time.monotonic() if lines else began, rest[:_LONGEST])

    def settle(self, workflow_id: str) -> None:
        """Return when all output of the run so far is in the database.

        At the latest it returns after a second, and at once while the database is away.
        """
        with self._lock:
            for source in [one for one in self._partial if one[0] == workflow_id]:
                self._cut_line(source)
            self._cut = {one for one in self._cut if one[0] != workflow_id}
            batch = self._newest.get(workflow_id)
            if batch is not None and self._publish_now is not None:
                self._publish_now()
                self._lock.wait_for(lambda: self._written >= batch, _SETTLE_SECONDS)

    async def publish(self, connection: tables.Connection, turn: anyio.Lock) -> None:
        """Write new lines into the database, forever. Others use the connection too: each writes while it has the `turn`.

        Raises:
            tables.Lost: the database does not answer.
        """
        asked, begun = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        self._publish_now = lambda: loop.call_soon_threadsafe(asked.set)
        self._publish_soon = lambda: loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                async with turn:
                    await self._flush(connection, _FLUSH_SECONDS)
                if not self._newest:
                    await begun.wait()
                begun.clear()
                with anyio.move_on_after(_FLUSH_SECONDS):
                    await asked.wait()
                asked.clear()
        finally:
            with self._lock:
                self._publish_now = None
                self._publish_soon = _nothing

    async def flush(self, database: Database) -> None:
        """Write all new lines now, before the process ends.

        Raises:
            tables.Lost: the database does not answer.
        """
        async with await tables.connect(database, role="log") as connection:
            await self._flush(connection, 0.0)

    def _cut_line(self, source: Source) -> None:
        """Take a line as complete although its line feed has not come."""
        _, text = self._partial.pop(source)
        self._append(source, text)
        self._newest[source[0]] = self._batch
        self._cut.add(source)

    def _append(self, source: Source, line: str) -> None:
        workflow_id, step, stream = source
        self._lines.append(
            {
                "workflow_id": workflow_id,
                "function_id": step,
                "at": datetime.now(UTC).isoformat(),
                "stream": stream,
                # For a line that overwrites itself (progress bars) the last state counts.
                "text": self.redact(line.rstrip("\r").rpartition("\r")[2])[:_LINE],
            }
        )

    async def _flush(self, connection: tables.Connection, seconds: float) -> None:
        lines, batch = self._take(seconds)
        try:
            if lines:
                await tables.write(lines, lambda some: self._write(connection, some))
        except tables.Lost:
            with self._lock:
                self._lines.extendleft(reversed(lines))
            raise
        with self._lock:
            self._written = batch
            self._newest = {name: last for name, last in self._newest.items() if last > batch}
            self._lock.notify_all()

    async def _write(self, connection: tables.Connection, lines: Sequence[dict[str, Any]]) -> None:
        async with connection.transaction():  # readers never see a log that is too long
            await tables.run(connection, "write_log", rows=fitting.json_text(lines))
            await self._trim(connection, Counter(line["workflow_id"] for line in lines))

    def _take(self, seconds: float) -> tuple[list[dict[str, object]], int]:
        """The lines of the collected batch, and its number; another batch begins.

        `print` writes a line feed separately, which has that many seconds to come.
        """
        with self._lock:
            now = time.monotonic()
            for source in [one for one, (at, _) in self._partial.items() if now - at >= seconds]:
                self._cut_line(source)
            lines = list(self._lines)
            self._lines.clear()
            self._batch += 1
            for source in self._partial:  # so that the publisher looks again
                self._newest[source[0]] = self._batch
            return lines, self._batch - 1

    async def _trim(self, connection: tables.Connection, added: Counter[str]) -> None:
        if len(self._new_lines) > _PENDING:  # of runs that have ended; an extra trim is harmless
            self._new_lines.clear()
        for workflow_id, number in added.items():
            first = workflow_id not in self._new_lines
            self._new_lines[workflow_id] += number
            if first or self._new_lines[workflow_id] >= TRIM_LINES:
                await tables.run(
                    connection, "trim_log", workflow_id=workflow_id, keep=limits.LOG_LINES
                )
                self._new_lines[workflow_id] = 0


def _nothing() -> None:
    """Does nothing, while the database is away."""


class _Stream(io.TextIOWrapper):
    """Replaces `sys.stdout` or `sys.stderr`: output of runs goes to their log, the rest to the original.

    It is a complete text file, as scripts expect, and all runs share it: it keeps working even if it is closed or detached.
    """

    def __init__(self, log: RunLog, name: str, original: TextIO) -> None:
        super().__init__(
            _Bytes(log, name, original.buffer),
            encoding=original.encoding,
            errors=original.errors,
            line_buffering=bool(original.line_buffering),
            write_through=True,
        )
        self._log = log
        self._name = name
        self._original = original

    def write(self, text: str, /) -> int:
        run = dbos_calls.current_run()
        if run is None:
            self._original.write(self._log.redact(text))
            return len(text)
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - of others
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._log.add((*run, self._name), text)
        return len(text)

    def flush(self) -> None:
        self._original.flush()

    def detach(self) -> Any:
        return self.buffer

    def close(self) -> None:
        self.flush()

    @property
    def mode(self) -> str:
        return "w"


class _Bytes(io.BufferedIOBase):
    """The `buffer` of a stream: output of runs is read as UTF-8."""

    def __init__(self, log: RunLog, name: str, original: BinaryIO) -> None:
        self._log = log
        self._name = name
        self._original = original
        self._begun: dict[Source, bytes] = {}  # characters whose last bytes are still to come
        self.raw: object = self

    def write(self, data: Buffer, /) -> int:
        run = dbos_calls.current_run()
        if run is None:
            text = bytes(data).decode("utf-8", "surrogateescape")
            self._original.write(self._log.redact(text).encode("utf-8", "surrogateescape"))
            self._original.flush()
            return memoryview(data).nbytes
        source = (*run, self._name)
        whole = self._begun.pop(source, b"") + bytes(data)
        text, used = codecs.utf_8_decode(whole, "replace", False)
        if used < len(whole):
            self._begun[source] = whole[used:]
        self._log.add(source, text)
        return memoryview(data).nbytes

    def flush(self) -> None:
        self._original.flush()

    def close(self) -> None:
        self.flush()

    def fileno(self) -> int:
        return self._original.fileno()

    def isatty(self) -> bool:
        return self._original.isatty()

    def writable(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return self._original.name

    @property
    def mode(self) -> str:
        return "wb"


class _Formatter(logging.Formatter):
    """Of tracebacks only the part about the project's code: a run keeps a limited number of lines."""

    def formatException(self, ei: Any) -> str:
        return wording.traceback_of_project(super().formatException(ei))


class _Redacting(logging.Formatter):
    """Another formatter, with secrets removed."""

    def __init__(self, formatter: logging.Formatter | None, redact: Redactor) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(self._formatter.format(record))


class _Handler(logging.Handler):
    """Logs of runs go to their log, logs of dbos outside of runs to the root's handlers."""

    def __init__(self, log: RunLog) -> None:
        super().__init__()
        self._log = log
        self.setFormatter(_Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        run = dbos_calls.current_run()
        if run is not None:
            self._log.add((*run, record.levelname), self.format(record) + "\n")
        elif record.name.startswith("dbos"):
            for handler in logging.getLogger().handlers:
                if handler is not self:
                    handler.handle(record)


def _outside_of_runs(_record: logging.LogRecord) -> bool:
    return dbos_calls.current_run() is None

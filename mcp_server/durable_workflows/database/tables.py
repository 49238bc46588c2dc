"""Our own tables: connections for them, their migrations, and the named statements of `queries.sql`.

Connections are in autocommit mode, with rows as dictionaries.
"""

import hashlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, LiteralString, TypeVar, cast

import anyio
import psycopg
from psycopg.pq import ConnStatus
from psycopg.rows import dict_row

from durable_workflows.errors import DatabaseUnavailable, DurableWorkflowsError, NoSpaceLeft

_FOLDER = Path(__file__).parent
_CONNECT_SECONDS = 10
_AGAIN_SECONDS = 0.1
_DISK_FULL = "53100"
_LOCK = 7_203_011  # any constant: it keeps two migrating processes of one database apart
_HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)

T = TypeVar("T")
Row = dict[str, Any]
Explain = Callable[[], DurableWorkflowsError | None]
Connection = psycopg.AsyncConnection[Row]


async def connect(url: str, *, role: str) -> Connection:
    """A connection for our tables; `role` is shown as its application name.

    Raises:
        psycopg.OperationalError: the database does not answer, or refuses.
    """
    return await psycopg.AsyncConnection[Row].connect(
        url,
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=_CONNECT_SECONDS,
        application_name=f"durable-workflows {role}",
    )


@cache
def queries() -> Mapping[str, LiteralString]:
    """The statements of `queries.sql` by name."""
    parts = _HEADING.split(_read("queries.sql"))
    return {
        name: cast(LiteralString, text.strip())
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


class Session:
    """A connection that is made when it is needed, and again after it was lost; statements run one at a time.

    A database that does not answer is given `patience_seconds` to come back; `explain` may know why one does not. A statement that meets a lost connection is
    sent once more: all of `queries.sql` may be repeated.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str,
        patience_seconds: float = 0,
        explain: Explain = lambda: None,
    ) -> None:
        self._url = url
        self._role = role
        self._patience_seconds = patience_seconds
        self._explain = explain
        self._lock = anyio.Lock()
        self._connection: Connection | None = None

    async def fetch(self, name: str, /, **values: object) -> list[Row]:
        """Run the named statement and return its rows.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        return await self._twice(lambda connection: fetch(connection, name, **values))

    async def run(self, name: str, /, **values: object) -> int:
        """Run the named statement and return how many rows it touched.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        return await self._twice(lambda connection: run(connection, name, **values))

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """The connection for one's own use for a while; it answered a moment ago.

        Raises:
            DatabaseUnavailable: the database does not answer, or was lost meanwhile.
            NoSpaceLeft: its disk is full.
        """
        async with self._lock:
            try:
                yield await self._answering()
            except psycopg.OperationalError as error:
                await self._drop()
                raise unavailable(error, self._explain) from error

    async def close(self) -> None:
        """Close the connection, if there is one."""
        async with self._lock:
            await self._drop()

    async def _twice(self, statement: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            async with self.connection() as connection:
                return await statement(connection)
        except DatabaseUnavailable:
            async with self.connection() as connection:
                return await statement(connection)

    async def _answering(self) -> Connection:
        if self._connection is not None and _is_lost(self._connection):
            await self._drop()
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> Connection:
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                return await connect(self._url, role=self._role)
            except psycopg.OperationalError:
                if time.monotonic() >= deadline:
                    raise
            await anyio.sleep(_AGAIN_SECONDS)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def unavailable(error: BaseException | None, explain: Explain) -> DurableWorkflowsError:
    """The error for a caller whose statement the database could not take; psycopg's own has no secrets in its text."""
    if getattr(error, "sqlstate", None) == _DISK_FULL:
        return NoSpaceLeft()
    return explain() or DatabaseUnavailable(f"The database does not answer: {error}")


async def fetch(connection: Connection, name: str, /, **values: object) -> list[Row]:
    """Run the named statement and return its rows."""
    cursor = await connection.execute(queries()[name], values)
    return await cursor.fetchall()


async def run(connection: Connection, name: str, /, **values: object) -> int:
    """Run the named statement and return how many rows it touched."""
    return (await connection.execute(queries()[name], values)).rowcount


def fingerprint() -> str:
    """A hash over all that `migrate` and `follow_dbos` would do."""
    digest = hashlib.sha256()
    for path in [*sorted((_FOLDER / "migrations").glob("*.sql")), _FOLDER / "on_dbos.sql"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


async def migrate(connection: Connection) -> None:
    """Bring our schema to the newest version: each file of `migrations/` once, in order."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        await connection.execute("create schema if not exists durable_workflows")
        await connection.execute(
            "create table if not exists durable_workflows.migrations"
            " (name text primary key, applied_at timestamptz not null default now())"
        )
        cursor = await connection.execute("select name from durable_workflows.migrations")
        applied = {row["name"] for row in await cursor.fetchall()}
        for path in sorted((_FOLDER / "migrations").glob("*.sql")):
            if path.name not in applied:
                await connection.execute(_read(f"migrations/{path.name}"))
                await connection.execute(
                    "insert into durable_workflows.migrations (name) values (%s)", [path.name]
                )


async def follow_dbos(connection: Connection) -> None:
    """Put in place what builds on DBOS's tables (`on_dbos.sql`), which must be there. May be repeated."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        await connection.execute(_read("on_dbos.sql"))


def _is_lost(connection: Connection) -> bool:
    """Whether the other side has closed, as far as it can be known without asking."""
    if connection.closed or connection.broken:
        return True
    try:
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return connection.pgconn.status != ConnStatus.OK


def _read(name: str) -> LiteralString:
    return cast(LiteralString, (_FOLDER / name).read_text(encoding="utf-8"))

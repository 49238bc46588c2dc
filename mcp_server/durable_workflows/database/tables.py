"""Our own tables: connections for them, their migrations, and the named statements of `queries.sql`.

Connections are in autocommit mode, with rows as dictionaries. Other rooms catch `Lost` and `Error`.
"""

import logging
import math
import os
import re
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from importlib.metadata import version as installed_version
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, TypeVar, cast

import anyio
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ConnStatus
from psycopg.rows import dict_row

from durable_workflows import content
from durable_workflows.database.addresses import APPLICATION_NAME, own_url
from durable_workflows.database.alone import AsyncConnectionAlone
from durable_workflows.errors import (
    DatabaseRefused,
    DatabaseSilent,
    DatabaseUnavailable,
    DurableWorkflowsError,
    InvalidArguments,
    NoSpaceLeft,
    TablesNewer,
    TooManyConnections,
)
from durable_workflows.settings import Database

_FOLDER = Path(__file__).parent
_CONNECT_SECONDS = 10
_AGAIN_SECONDS = 0.1
_ROOM_SECONDS = 1.0
_DISK_FULL = "53100"
_CROWDED = ("too many clients", "too many connections", "connection slots")
# Starting up, in recovery mode, shutting down; or killed while it was answering.
_NOT_NOW = ("the database system is", "server closed the connection unexpectedly")
_TOO_LARGE = "54"  # the beginning of the codes for values that are too long, too deep or too wide
_LOCK = 7_203_011  # any constant: it keeps two migrating processes apart in one database
_OLDEST_POSTGRES = 14  # `create or replace trigger`
_SCHEMES = ("postgresql://", "postgres://")
_HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_SCHEMA = re.compile(r"\b(?:durable_workflows|dbos(?=\.))")

# The errors that any statement may raise, and the one that says that the database does not answer or the connection is gone.
Error = psycopg.Error
Lost = psycopg.OperationalError

T = TypeVar("T")
logger = logging.getLogger(__name__)
Row = dict[str, Any]
Explain = Callable[[BaseException | None], DurableWorkflowsError | None]
Fetch = Callable[..., Awaitable[list[Row]]]  # runs the named statement, with values by name


class Connection(AsyncConnectionAlone):
    """A connection that knows the schemas of the project's tables."""

    database: Database

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close at once, even in a cancelled task; the server rolls back an open transaction.

        psycopg rolls back first. A cancellation strikes again there, and the connection would stay open.
        """
        await self.close()


async def connect(database: Database, *, role: str, room_within_seconds: float = 0.0) -> Connection:
    """A connection for our tables; `role` is shown as its application name. A Postgres without a free connection has some time to have one.

    Raises:
        psycopg.OperationalError: the database does not answer, or refuses.
    """
    deadline = time.monotonic() + room_within_seconds
    while True:
        try:
            return await _connect(database, role)
        except psycopg.OperationalError as error:
            if not is_crowded(error) or time.monotonic() >= deadline:
                raise
            logger.warning("Waiting for room in the database: %s", first_sentence(error))
        await anyio.sleep(_ROOM_SECONDS)


async def _connect(database: Database, role: str) -> Connection:
    connection: Connection | None = None
    # If the making of a connection is cancelled, it holds its socket until garbage collection.
    with anyio.CancelScope(shield=True):
        connection = await Connection.connect(
            own_url(database),
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=_CONNECT_SECONDS,
            application_name=f"{APPLICATION_NAME} {role}",
        )
    assert connection is not None
    connection.database = database
    return connection


async def check(database: Database, *, oldest: int = _OLDEST_POSTGRES) -> None:
    """Check whether an external Postgres can be used; this takes some seconds at most.

    Raises:
        DatabaseRefused: the reason, in a sentence without a password.
        TooManyConnections: there is no room at the moment.
    """
    _check_url(database.url)
    try:
        with anyio.fail_after(_CONNECT_SECONDS):
            async with await connect(database, role="check") as connection:
                version = connection.info.server_version // 10_000
                found = await fetch(connection, "what_is_allowed", other=database.dbos_schema)
    except (TimeoutError, psycopg.errors.ConnectionTimeout) as error:
        raise DatabaseRefused(
            f"The Postgres at DBOS_DATABASE_URL does not answer within {_CONNECT_SECONDS} seconds."
        ) from error
    except psycopg.Error as error:
        if is_crowded(error):
            raise _too_many(error) from error
        if any(words in str(error) for words in _NOT_NOW):
            raise DatabaseRefused(
                f"The Postgres at DBOS_DATABASE_URL takes no connection now. {first_sentence(error)}",
                hint="Call again in a moment. If it goes on, its log says why.",
            ) from error
        raise DatabaseRefused(f"{DatabaseRefused.__doc__} {first_sentence(error)}") from error
    if version < oldest:
        raise DatabaseRefused(
            f"The Postgres at DBOS_DATABASE_URL is version {version}; the oldest supported version is {oldest}.",
            hint="Use a newer one, or unset DBOS_DATABASE_URL to use the embedded database.",
        )
    if found[0]["is_replica"]:
        raise DatabaseRefused("The Postgres at DBOS_DATABASE_URL is a read-only replica.")
    if not found[0]["may_create"]:
        raise DatabaseRefused(
            f"The user in DBOS_DATABASE_URL may not create the schemas {database.schema} and {database.dbos_schema}.",
            hint="Grant CREATE on that database, or create both schemas and make the user their owner.",
        )


def _check_url(url: str) -> None:
    """Make sure that libpq and dbos can read the URL: their messages about a wrong URL contain parts of it, perhaps of the password."""
    try:
        parts = conninfo_to_dict(url) if url.startswith(_SCHEMES) else {}
    except psycopg.ProgrammingError:
        parts = {}
    where = re.split("[@/]", url.partition("://")[2], maxsplit=1)[-1].partition("?")[0]
    if not parts or "@" in where or not str(parts.get("port", 0)).isdecimal():
        raise DatabaseRefused(
            "DBOS_DATABASE_URL is not the URL of a Postgres.",
            hint="Write it as postgresql://user:password@host:5432/database, with special characters of the password as %40 (@), %2F (/), %3A (:), %25 (%).",
        )
    if "dbname" not in parts:
        raise DatabaseRefused("DBOS_DATABASE_URL names no database.")


def first_sentence(error: BaseException | None) -> str:
    """The message of the error, without the details that libpq adds in further lines."""
    line = str(error).partition("\n")[0].removeprefix("connection failed: ")
    return " ".join(line.split()).rstrip(".") + "."


@cache
def queries(schema: str, dbos_schema: str) -> Mapping[str, LiteralString]:
    """The statements of `queries.sql` by name, for the schemas given."""
    parts = _HEADING.split(_in_schemas(_read("queries.sql"), schema, dbos_schema))
    return {
        name: cast(LiteralString, text.strip())
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


class LastingConnection:
    """A connection that is made when it is needed, and again after it was lost; statements run one at a time.

    A database that does not answer has `patience_seconds` to come back; `explain` may know why it does not answer. A statement that meets a
    lost connection is sent once more: all statements of `queries.sql` may be repeated. A statement without an answer after `limit_seconds`
    is given up.
    """

    def __init__(
        self,
        database: Database,
        *,
        role: str,
        patience_seconds: float = 0,
        limit_seconds: float = math.inf,
        explain: Explain = lambda _: None,
    ) -> None:
        self._database = database
        self._limit_seconds = limit_seconds
        self._role = role
        self._patience_seconds = patience_seconds
        self._explain = explain
        self._lock = anyio.Lock(fast_acquire=True)
        self._connection: Connection | None = None
        self._closed = False

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

    async def in_snapshot(self, read: Callable[[Fetch], Awaitable[T]]) -> T:
        """The result of `read`, which fetches rows by name, all from one snapshot. `read` may be called twice.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """

        async def statement(connection: Connection) -> T:
            async with connection.transaction():
                await connection.execute(
                    "set transaction isolation level repeatable read, read only"
                )
                return await read(partial(fetch, connection))

        return await self._twice(statement)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """The connection for exclusive use for a while; it answered a moment ago.

        Raises:
            DatabaseUnavailable: the database does not answer, or was lost meanwhile.
            NoSpaceLeft: its disk is full.
            InvalidArguments: it cannot store such a value.
        """
        async with self._lock:
            try:
                yield await self._answering()
            except (psycopg.DataError, UnicodeEncodeError) as error:
                # A text contains NUL or a lone surrogate, or a number is out of bounds.
                raise InvalidArguments(
                    f"The database rejected this: {first_sentence(error)} Nothing was done.",
                    hint="Correct that argument and call again.",
                ) from error
            except psycopg.OperationalError as error:
                await self._drop()
                raise unavailable(error, self._explain) from error
            finally:
                if self._closed:
                    await self._drop()

    async def close(self) -> None:
        """Close the connection for good, and at once: a statement that is still running on it fails."""
        self._closed = True
        if not self._lock.locked():
            await self._drop()
        elif self._connection is not None:
            _cut(self._connection)

    async def _twice(self, statement: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._once(statement)
        except DatabaseSilent:
            raise
        except DatabaseUnavailable:
            return await self._once(statement)

    async def _once(self, statement: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            with anyio.fail_after(self._limit_seconds):
                async with self.connection() as connection:
                    return await statement(connection)
        except TimeoutError as error:
            raise DatabaseSilent() from error

    async def _answering(self) -> Connection:
        if self._connection is not None and _is_lost(self._connection):
            await self._drop()
        if self._connection is None:
            self._connection = await self._connect()
        if self._closed:
            raise psycopg.OperationalError("This connection was closed.")
        return self._connection

    async def _connect(self) -> Connection:
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                return await connect(self._database, role=self._role)
            except psycopg.OperationalError:
                if self._closed or time.monotonic() >= deadline:
                    raise
            await anyio.sleep(_AGAIN_SECONDS)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def unavailable(error: BaseException | None, explain: Explain) -> DurableWorkflowsError:
    """The error for the caller of a statement that the database could not take. psycopg's text contains no secrets."""
    if getattr(error, "sqlstate", None) == _DISK_FULL:
        return NoSpaceLeft()
    if is_crowded(error):
        return _too_many(error)
    return explain(error) or DatabaseUnavailable(f"The database does not answer: {error}")


def is_crowded(error: BaseException | None) -> bool:
    """Whether a Postgres has no free connection for us. libpq says so only in words, and only servers that speak English are recognized."""
    return any(words in str(error) for words in _CROWDED)


def _too_many(error: BaseException | None) -> TooManyConnections:
    return TooManyConnections(f"{TooManyConnections.__doc__} {first_sentence(error)}")


async def fetch(connection: Connection, name: str, /, **values: object) -> list[Row]:
    """Run the named statement and return its rows."""
    cursor = await connection.execute(_query(connection, name), values, prepare=True)
    return await cursor.fetchall()


async def write(rows: Sequence[T], statement: Callable[[Sequence[T]], Awaitable[object]]) -> None:
    """Write rows by the statement. Rows that the database refuses are logged and skipped; the others are written.

    Raises:
        psycopg.OperationalError: the database does not answer.
    """
    try:
        await statement(rows)
    except psycopg.Error as error:
        if not _is_refusal(error):
            raise
        if len(rows) == 1:
            logger.warning("A row was not written: %s", error)
            return
        for row in rows:
            await write([row], statement)


def _is_refusal(error: psycopg.Error) -> bool:
    """Whether the values are the cause, so that the next statement may succeed."""
    is_lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return not is_lost or (error.sqlstate or "").startswith(_TOO_LARGE)


async def listen(connection: Connection, channel: str) -> None:
    """Listen on this connection for the notifications of one of the database's channels."""
    await connection.execute(sql.SQL("listen {}").format(sql.SQL(cast(LiteralString, channel))))


async def heard(connection: Connection, seconds: float) -> AsyncGenerator[str]:
    """The payloads of notifications: those that have arrived, and those that arrive within `seconds`.

    Raises:
        psycopg.OperationalError: the connection is lost.
    """
    until = anyio.current_time() + seconds
    while True:
        for payload in [notice.payload async for notice in connection.notifies(timeout=0)]:
            yield payload
        left = until - anyio.current_time()
        if left <= 0:
            return
        with anyio.move_on_after(left):
            await anyio.wait_readable(connection.fileno())  # psycopg would look ten times a second


async def run(connection: Connection, name: str, /, **values: object) -> int:
    """Run the named statement and return how many rows it touched."""
    return (await connection.execute(_query(connection, name), values, prepare=True)).rowcount


def _set_up() -> str:
    """The name of the note that DBOS's tables, and our additions to them, are as this installation needs them."""
    return f"dbos {installed_version('dbos')} {content.schema_fingerprint()}"


async def is_set_up(connection: Connection) -> bool:
    """Whether a note says that `migrate`, DBOS's own migration, and `follow_dbos` have nothing to do."""
    if not (await fetch(connection, "has_migrations"))[0]["there"]:
        return False
    return (await fetch(connection, "is_set_up", name=_set_up()))[0]["found"]


async def migrate(connection: Connection) -> None:
    """Bring our schema to the newest version: each file of `migrations/` once, in order.

    Raises:
        TablesNewer: a newer release was here. This one would put its own functions in the place of newer ones.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        if not (await fetch(connection, "has_migrations"))[0]["there"]:
            await connection.execute(_file(connection, "migrations.sql"))
        applied = {row["name"] for row in await fetch(connection, "applied_migrations")}
        paths = sorted((_FOLDER / "migrations").glob("*.sql"))
        if unknown := _migrations(applied) - {path.name for path in paths}:
            raise TablesNewer(f"{TablesNewer.__doc__} ({', '.join(sorted(unknown))})")
        for path in paths:
            if path.name not in applied:
                await connection.execute(_file(connection, f"migrations/{path.name}"))
                await run(connection, "note_migration", name=path.name)


def _migrations(applied: set[str]) -> set[str]:
    """The files among what is noted; the rest says what is set up."""
    return {name for name in applied if name.endswith(".sql")}


async def follow_dbos(connection: Connection) -> None:
    """Install our additions to DBOS's tables (`on_dbos.sql`). The tables must exist. May be repeated."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        await connection.execute(_file(connection, "on_dbos.sql"))
        await run(connection, "note_set_up", name=_set_up())


def _is_lost(connection: Connection) -> bool:
    """Whether the other side has closed, if that is visible without asking it."""
    if connection.closed or connection.broken:
        return True
    try:
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return connection.pgconn.status != ConnStatus.OK


def _cut(connection: Connection) -> None:
    """Make the running statement of a connection fail.

    Its task then closes the connection: libpq's memory must not be freed during the statement.
    """
    if not connection.closed:
        with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)


def _query(connection: Connection, name: str) -> LiteralString:
    database = connection.database
    return queries(database.schema, database.dbos_schema)[name]


def _file(connection: Connection, name: str) -> LiteralString:
    database = connection.database
    return cast(LiteralString, _in_schemas(_read(name), database.schema, database.dbos_schema))


def _in_schemas(sql: str, schema: str, dbos_schema: str) -> str:
    """SQL for these schemas. The files are written for the embedded database; other databases have the project's name in their schemas."""
    return _SCHEMA.sub(lambda found: dbos_schema if found[0] == "dbos" else schema, sql)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")

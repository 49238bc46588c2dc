"""Whether the project's tables and indexes can be read: every row of each table, and each ordered index against its table.

Where the server has the extension amcheck and lets us use it, its checks come on top. Nothing is changed but by `rebuild`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, LiteralString, cast

import anyio
from psycopg import errors, sql

from durable_workflows.database import tables
from durable_workflows.database.tables import Connection, LastingConnection, Row, first_sentence
from durable_workflows.errors import DatabaseSilent
from durable_workflows.settings import Database

ANSWER_SECONDS = 10.0  # as long as a connection may take
_READ_SECONDS = 600.0  # for one table, or one index
_BY_TABLE: LiteralString = "set local enable_indexscan = off; set local enable_indexonlyscan = off; set local enable_bitmapscan = off"
_BY_INDEX: LiteralString = (
    "set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off"
)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Damage:
    """A table or index that cannot be read, or an index that does not fit its table."""

    kind: Literal["table", "index"]
    name: str
    reason: str


@dataclass
class Reading:
    """What was read."""

    tables: int = 0
    rows: int = 0
    indexes: int = 0
    with_amcheck: bool = False
    damages: list[Damage] = field(default_factory=list[Damage])


async def answers(database: Database) -> bool:
    """Whether the database answers within a few seconds.

    Raises:
        DatabaseUnavailable: it takes no connection.
    """
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            async with await tables.connect(database, role="doctor") as connection:
                await tables.fetch(connection, "amcheck")
    except (TimeoutError, errors.ConnectionTimeout):
        return False
    except tables.Lost as error:
        raise tables.unavailable(error, lambda _: None) from error
    return True


async def read_all(database: Database, progress: Progress) -> Reading:
    """Read everything in the project's schemas. A table is read by one statement; meanwhile the embedded database serves no other client.

    Raises:
        DatabaseUnavailable: the database does not answer, or ended while it was read.
    """
    lasting = LastingConnection(database, role="doctor")
    try:
        async with lasting.connection() as connection:
            return await _read_all(connection, progress)
    finally:
        await lasting.close()


async def rebuild(database: Database, index: str) -> None:
    """Build an index of the project again from its table.

    Raises:
        DatabaseUnavailable, psycopg.Error: this was not possible; nothing has changed.
    """
    lasting = LastingConnection(database, role="doctor")
    try:
        async with lasting.connection() as connection:
            await connection.execute(sql.SQL("reindex index {}").format(_identifier(index)))
    finally:
        await lasting.close()


async def _read_all(connection: Connection, progress: Progress) -> Reading:
    reading = Reading()
    schemas = [connection.database.schema, connection.database.dbos_schema]
    amcheck = await tables.fetch(connection, "amcheck")
    reading.with_amcheck = bool(amcheck)
    for table in await tables.fetch(connection, "tables_to_read", schemas=schemas):
        name = f"{table['schema']}.{table['name']}"
        progress(f"Reading {name}")
        found = await _guarded(
            "table", name, connection, _rows(connection, table, amcheck, reading)
        )
        reading.tables += 1
        reading.damages += found
        if found:  # its indexes lead to the same rows
            continue
        for index in await tables.fetch(connection, "indexes_to_read", table_id=table["id"]):
            reading.damages += await _guarded(
                "index", index["name"], connection, _index(connection, index, amcheck, reading)
            )
    return reading


async def _guarded(
    kind: Literal["table", "index"], name: str, connection: Connection, look: Awaitable[str | None]
) -> list[Damage]:
    try:
        with anyio.fail_after(_READ_SECONDS):
            reason = await look
    except TimeoutError as error:
        raise DatabaseSilent(
            f"{name} could not be read within {_READ_SECONDS / 60:.0f} minutes."
        ) from error
    except tables.Error as error:
        if connection.closed:  # the damage has ended the database, or somebody else has
            raise
        reason = first_sentence(error)
    return [Damage(kind, name, reason)] if reason else []


async def _rows(
    connection: Connection, table: Row, amcheck: list[Row], reading: Reading
) -> str | None:
    """Read all values of a table; the reason why it is damaged."""
    where = sql.Identifier(table["schema"], table["name"])
    async with _snapshot(connection, _BY_TABLE):
        read = sql.SQL(
            "select count(*) as rows, sum(length(one::text)) as length from only {} as one"
        )
        reading.rows += (await _one(connection, read.format(where)))["rows"]
        for schema in amcheck:
            check = sql.SQL("select msg from {}(%s::oid::regclass) limit 1")
            function = sql.Identifier(schema["schema"], "verify_heapam")
            cursor = await connection.execute(check.format(function), [table["id"]])
            if (found := await cursor.fetchone()) is not None:
                return f"amcheck: {found['msg']}"
    return None


async def _index(
    connection: Connection, index: Row, amcheck: list[Row], reading: Reading
) -> str | None:
    """Compare an index with its table; the reason why it is damaged."""
    if not index["valid"]:
        return "it was never finished"
    # Postgres itself wrote these expressions.
    order = cast(LiteralString, ", ".join(index["columns"]))
    where = cast(LiteralString, index["predicate"] or "true")
    table = sql.Identifier(index["schema"], index["table"])
    rows = sql.SQL("select count(*) as rows from {} where " + where).format(table)
    ordered = sql.SQL(
        "select count(*) as rows from (select 1 from {} where "
        + where
        + " order by "
        + order
        + ") as found"
    ).format(table)
    async with _snapshot(connection, _BY_TABLE):
        there = (await _one(connection, rows))["rows"]
        await connection.execute(
            "set local enable_indexscan = on; set local enable_indexonlyscan = on"
        )
        await connection.execute(_BY_INDEX)
        cursor = await connection.execute(sql.SQL("explain ") + ordered)
        plan = " ".join(str(line) for row in await cursor.fetchall() for line in row.values())
        found = (await _one(connection, ordered))["rows"]
        reading.indexes += f" {index['own_name']} on " in plan
        for schema in amcheck:
            check = sql.SQL("select {}(%s::oid::regclass, true)")
            function = sql.Identifier(schema["schema"], "bt_index_check")
            await connection.execute(check.format(function), [index["id"]])
    return None if found == there else f"it leads to {found:,} rows of {there:,}"


@asynccontextmanager
async def _snapshot(connection: Connection, planner: LiteralString) -> AsyncGenerator[None]:
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read, read only")
        await connection.execute(planner)
        yield


async def _one(connection: Connection, statement: sql.Composed) -> Row:
    found = await (await connection.execute(statement)).fetchone()
    assert found is not None, "an aggregate has a row"
    return found


def _identifier(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))

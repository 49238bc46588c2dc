"""Copies all rows of a project from one database into another, in one transaction there: it copies all rows or none.

The transaction also leaves a mark, so that the target itself can tell whether it was committed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise

from psycopg import sql

from durable_workflows.database import tables
from durable_workflows.database.tables import Connection
from durable_workflows.errors import SetupError

_SLICE_BYTES = 8_000_000  # as they are stored; PGlite answers a statement from memory
_AFTER_ALL = "(4294967295,0)"  # after the place of any row
_LOCK_SECONDS = 10  # for clients that look at the target's tables

Key = tuple[bool, str]


@dataclass(frozen=True)
class Table:
    """A table of the project; in the other database it is in another schema."""

    schema: str
    of_dbos: bool
    name: str
    pages: int
    columns: Sequence[str]
    numbered: Sequence[str] | None
    needs: Sequence[str]

    @property
    def key(self) -> Key:
        return self.of_dbos, self.name

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


Tables = Mapping[Key, Table]


async def is_marked(connection: Connection, mark: str) -> bool:
    """Whether a `copy` with that mark was committed in this database."""
    if not (await tables.fetch(connection, "has_migrations"))[0]["there"]:
        return False
    return mark in [row["name"] for row in await tables.fetch(connection, "applied_migrations")]


async def copy(
    source: Connection,
    target: Connection,
    *,
    mark: str,
    before_change: Callable[[], Awaitable[None]],
    before_commit: Callable[[], Awaitable[object]],
    progress: Callable[[str], None],
) -> int:
    """Replace the rows of the target by all rows of the source, and return their number. Both databases have the newest tables.

    No other process can write in the target from before `before_change` on; it may raise to leave everything unchanged. In the source no
    process writes.

    Raises:
        SetupError: the source's tables are newer than this software.
        psycopg.Error: one of the databases refused or is gone. After the call of `before_commit` the copy may have been committed all the
        same.
    """
    theirs, ours = await tables_of(source), await tables_of(target)
    _check_fit(theirs, ours)
    await target.execute("set client_encoding to 'utf8'")
    rows = 0
    async with target.transaction():
        await target.execute(sql.SQL("set local lock_timeout = {}").format(f"{_LOCK_SECONDS}s"))
        names = sql.SQL(", ").join(table.identifier for table in ours.values())
        await target.execute(sql.SQL("lock table {}").format(names))
        await before_change()
        await target.execute(sql.SQL("truncate {}").format(names))
        for key in _in_order(ours):
            if key in theirs and theirs[key].pages:
                progress(f"Copying the table {key[1]}")
                rows += await _copy_table(source, theirs[key], target, ours[key])
        await tables.run(target, "note_migration", name=mark)
        await before_commit()
    return rows


async def tables_of(connection: Connection) -> Tables:
    """All tables that hold rows of the project, by whether they are DBOS's and by name."""
    other = connection.database.dbos_schema
    found = [Table(**row) for row in await tables.fetch(connection, "project_tables", other=other)]
    return {table.key: table for table in found}


def _check_fit(theirs: Tables, ours: Tables) -> None:
    for key, table in theirs.items():
        known = ours[key].columns if key in ours else ()
        if table.pages and not set(table.columns) <= set(known):
            raise SetupError(
                f"The table {table.name} was made by a newer version of this software.",
                hint="Upgrade durable-workflows, then try again.",
            )


def _in_order(all_tables: Tables) -> list[Key]:
    """The tables, each after the tables that it refers to."""
    needs = {
        key: [(table.of_dbos, name) for name in table.needs] for key, table in all_tables.items()
    }
    return list(TopologicalSorter(needs).static_order())


async def _copy_table(source: Connection, theirs: Table, target: Connection, ours: Table) -> int:
    columns = sql.SQL(", ").join(map(sql.Identifier, theirs.columns))
    into = sql.SQL("copy {} ({}) from stdin (format binary)").format(ours.identifier, columns)
    rows = 0
    for begin, end in pairwise([*await _begins(source, theirs), _AFTER_ALL]):
        out = sql.SQL(
            "copy (select {} from {} where ctid >= {} and ctid < {}) to stdout (format binary)"
        ).format(columns, theirs.identifier, begin, end)
        rows += await _copy_slice(source, out, target, into)
    for column in ours.numbered or ():
        await _renumber(target, ours, column)
    return rows


async def _begins(source: Connection, table: Table) -> list[str]:
    """The beginnings of slices of the table, each of about `_SLICE_BYTES`."""
    slices = await source.execute(
        sql.SQL(
            "select min(at)::text as begins from (select ctid as at, sum({}) over (order by ctid) / {} as slice from {}) as sized group by slice order by min(at)"
        ).format(stored_bytes(table), _SLICE_BYTES, table.identifier)
    )
    return [row["begins"] async for row in slices]


def stored_bytes(table: Table) -> sql.Composed:
    """The size of a row of the table as it is stored, perhaps compressed."""
    return sql.SQL(" + ").join(
        sql.SQL("coalesce(pg_column_size({}), 0)").format(sql.Identifier(column))
        for column in table.columns
    )


async def _copy_slice(
    source: Connection, out: sql.Composed, target: Connection, into: sql.Composed
) -> int:
    async with source.cursor() as reader, target.cursor() as writer:
        async with reader.copy(out) as taken, writer.copy(into) as given:
            async for part in taken:
                await given.write(part)
        if reader.rowcount != writer.rowcount:
            raise SetupError(f"Only {writer.rowcount} of {reader.rowcount} rows were copied.")
        return writer.rowcount


async def _renumber(target: Connection, table: Table, column: str) -> None:
    """Continue the column's sequence after the existing rows."""
    statement = sql.SQL(
        "select setval(pg_get_serial_sequence({}, {}), coalesce(max({}), 0) + 1, false) from {}"
    ).format(
        sql.Literal(table.identifier.as_string(target)),
        column,
        sql.Identifier(column),
        table.identifier,
    )
    await target.execute(statement)

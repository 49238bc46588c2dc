"""The space of deleted rows in the embedded database: its files shrink again. A Postgres server manages its own space."""

from typing import LiteralString

from psycopg import sql

from durable_workflows.database import tables

_LEAST_BYTES = 1 << 20  # of a file that is worth shrinking
_QUICK_BYTES = 10 << 20  # of rows that can be rewritten in some tenths of a second
_RUN_TABLES = ("operation_outputs", "workflow_status", "workflow_input", "workflow_output")


async def vacuum(rows: tables.LastingConnection) -> None:
    """Let new rows use the space of deleted runs.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    async with rows.connection() as connection:
        if connection.database.is_embedded:
            await _tidy_run_tables(connection, "vacuum {}")


async def shrink(rows: tables.LastingConnection, *, quick: bool) -> None:
    """Shrink files that are mostly empty.

    All clients wait while a file is rewritten, so `quick` skips tables with many rows; errors as for `vacuum`.
    """
    async with rows.connection() as connection:
        if not connection.database.is_embedded:
            return
        # A vacuum's estimate of rows is wrong if it has skipped pages.
        await _tidy_run_tables(connection, "analyze {}")
        other = connection.database.dbos_schema
        for row in await tables.fetch(
            connection, "wasteful_tables", other=other, least=_LEAST_BYTES
        ):
            if row["live"] <= _QUICK_BYTES or not quick:
                await _tidy(connection, "vacuum (full) {}", row["schema"], row["name"])


async def _tidy_run_tables(connection: tables.Connection, statement: LiteralString) -> None:
    for name in _RUN_TABLES:
        await _tidy(connection, statement, connection.database.dbos_schema, name)
    await _tidy(connection, statement, connection.database.schema, "logs")


async def _tidy(
    connection: tables.Connection, statement: LiteralString, schema: str, name: str
) -> None:
    await connection.execute(sql.SQL(statement).format(sql.Identifier(schema, name)))

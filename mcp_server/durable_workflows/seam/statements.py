# pyright: reportPrivateUsage=false
"""Single statements on dbos's connections, without SQLAlchemy, whose overhead costs as much again as the statement."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
import sqlalchemy.exc
from dbos._sys_db import SystemDatabase, db_retry

from durable_workflows.seam import ready_connections

Row = Sequence[Any]


def run(database: SystemDatabase, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
    """The rows of a statement, which is a transaction of its own; `{schema}` stands for dbos's schema.

    Raises:
        DBAPIError: as SQLAlchemy raises it, without the values.
    """
    engine, sql = database.engine, _in_schema(statement, database.schema)
    error_of_driver = engine.dialect.loaded_dbapi.Error
    ready = ready_connections.of(database)
    pooled = None
    try:
        pooled = ready.take(engine)
        connection: Any = pooled.driver_connection
        if not connection.autocommit:
            connection.autocommit = True
        rows = connection.execute(sql, values).fetchall()
    except error_of_driver as error:
        raise sqlalchemy.exc.DBAPIError.instance(
            sql,
            None,
            error,
            error_of_driver,
            connection_invalidated=ready.discard(engine, pooled, error),
            dialect=engine.dialect,
        ) from error
    except BaseException as error:
        ready.discard(engine, pooled, error)
        raise
    ready.put_back(pooled)
    return rows


@db_retry()
def certainly(
    database: SystemDatabase, statement: str, values: Mapping[str, object]
) -> Sequence[Row]:
    """As `run`, and again while the database is away. The statement must be safe to repeat."""
    return run(database, statement, values)


@functools.cache
def _in_schema(statement: str, schema: str) -> str:
    return statement.replace("{schema}", quoted(schema))


def quoted(schema: str) -> str:
    """The quoted name of a schema, for a statement with values."""
    name = schema.replace('"', '""').replace("%", "%%")
    return f'"{name}"'

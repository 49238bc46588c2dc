# pyright: reportPrivateUsage=false
"""Single statements on dbos's connections, without SQLAlchemy, whose overhead costs as much again as the statement."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
import sqlalchemy.exc
from dbos._sys_db import SystemDatabase, db_retry

Row = Sequence[Any]


def run(database: SystemDatabase, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
    """The rows of a statement, which is a transaction of its own; `{schema}` stands for dbos's schema.

    Raises:
        DBAPIError: as SQLAlchemy raises it, without the values.
    """
    engine, sql = database.engine, _in_schema(statement, database.schema)
    error_of_driver = engine.dialect.loaded_dbapi.Error
    pooled = None
    try:
        pooled = engine.raw_connection()
        connection: Any = pooled.driver_connection
        connection.autocommit = True
        rows = connection.execute(sql, values).fetchall()
        connection.autocommit = False
    except error_of_driver as error:
        raise sqlalchemy.exc.DBAPIError.instance(
            sql,
            None,
            error,
            error_of_driver,
            connection_invalidated=_discard(engine, pooled, error),
            dialect=engine.dialect,
        ) from error
    except BaseException as error:
        _discard(engine, pooled, error)
        raise
    pooled.close()
    return rows


@db_retry()
def certainly(
    database: SystemDatabase, statement: str, values: Mapping[str, object]
) -> Sequence[Row]:
    """As `run`, and again while the database is away. The statement must be safe to repeat."""
    return run(database, statement, values)


def _discard(
    engine: sqlalchemy.Engine, pooled: sqlalchemy.PoolProxiedConnection | None, error: BaseException
) -> bool:
    """Close a connection that may still be in autocommit mode, in which dbos would have no transactions on it.

    Return whether it is broken; if so, the pool replaces its other connections too.
    """
    if pooled is None:
        return False
    connection: Any = pooled.driver_connection
    is_broken = connection.closed or connection.broken
    if is_broken:
        engine.pool._invalidate(pooled, error)
    else:
        pooled.invalidate(error)
    return is_broken


@functools.cache
def _in_schema(statement: str, schema: str) -> str:
    return statement.replace("{schema}", quoted(schema))


def quoted(schema: str) -> str:
    """The quoted name of a schema, for a statement with values."""
    name = schema.replace('"', '""').replace("%", "%%")
    return f'"{name}"'

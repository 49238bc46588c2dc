# pyright: reportPrivateUsage=false
"""Single statements on dbos's connections, without SQLAlchemy, whose overhead costs as much again as the statement."""

import functools
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy
import sqlalchemy.exc
from dbos._sys_db import SystemDatabase, db_retry

Row = Sequence[Any]
Ready = deque[sqlalchemy.PoolProxiedConnection]

# Connections of a pool in autocommit mode: to take one out of the pool, to change its mode and to put it back costs as much again as a statement.
_LOCK = threading.Lock()
_READY: WeakKeyDictionary[sqlalchemy.Pool, Ready] = WeakKeyDictionary()


def run(database: SystemDatabase, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
    """The rows of a statement, which is a transaction of its own; `{schema}` stands for dbos's schema.

    Raises:
        DBAPIError: as SQLAlchemy raises it, without the values.
    """
    engine, sql = database.engine, _in_schema(statement, database.schema)
    error_of_driver = engine.dialect.loaded_dbapi.Error
    ready = _READY.setdefault(engine.pool, deque())
    pooled = None
    try:
        pooled = _taken(ready)
        if pooled is None:
            pooled = engine.raw_connection()
        else:
            _announce(engine.pool, pooled)
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
            connection_invalidated=_discard(engine, ready, pooled, error),
            dialect=engine.dialect,
        ) from error
    except BaseException as error:
        _discard(engine, ready, pooled, error)
        raise
    if not _keeps(engine.pool, ready, pooled):
        connection.autocommit = False
        pooled.close()
    return rows


def _taken(ready: Ready) -> sqlalchemy.PoolProxiedConnection | None:
    try:
        return ready.pop()
    except IndexError:
        return None


def _announce(pool: Any, pooled: Any) -> None:
    """Tell those who watch the pool, as it does itself: one of them refuses a second connection in a transaction."""
    pool.dispatch.checkout(pooled.dbapi_connection, pooled._connection_record, pooled)


def _keeps(pool: sqlalchemy.Pool, ready: Ready, pooled: sqlalchemy.PoolProxiedConnection) -> bool:
    """Whether the connection stays ready. Half of them do at most: the others are for dbos, which uses them in transactions."""
    most = pool.size() // 2 if isinstance(pool, sqlalchemy.QueuePool) else 0
    with _LOCK:
        if len(ready) >= most:
            return False
        ready.append(pooled)
        return True


@db_retry()
def certainly(
    database: SystemDatabase, statement: str, values: Mapping[str, object]
) -> Sequence[Row]:
    """As `run`, and again while the database is away. The statement must be safe to repeat."""
    return run(database, statement, values)


def _discard(
    engine: sqlalchemy.Engine,
    ready: Ready,
    pooled: sqlalchemy.PoolProxiedConnection | None,
    error: BaseException,
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
        while other := _taken(ready):
            other.invalidate(error)
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

# pyright: reportPrivateUsage=false
"""Connections of dbos's pool that stay ready for single statements.

To take one out of the pool, to change its mode and to put it back takes as long as a statement.
"""

import threading
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy
from dbos._sys_db import SystemDatabase
from sqlalchemy import event as sqlalchemy_event

Pooled = sqlalchemy.PoolProxiedConnection


class Ready:
    """Those of one database. They are in autocommit mode, in which dbos would have no transactions.

    Half of the pool at most is kept, whether in use or not: those who wait in the pool get the others. A connection from `take` ends in
    `put_back`, or in `discard`. The engine is not kept: it refers to its database, which would then live as long as the process.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        pool = engine.pool
        self._most = pool.size() // 2 if isinstance(pool, sqlalchemy.QueuePool) else 0
        self._lock = threading.Lock()
        self._kept: set[Pooled] = set()
        self._idle: list[Pooled] = []  # of those
        sqlalchemy_event.listen(engine, "engine_disposed", self._close)

    def take(self, engine: sqlalchemy.Engine) -> Pooled:
        """A ready connection, or one from the pool, which is not in autocommit mode yet."""
        with self._lock:
            pooled: Any = self._idle.pop() if self._idle else None
        if pooled is None:
            return engine.raw_connection()
        try:  # those who watch the pool are told, as by itself: one of them refuses a second connection in a transaction
            engine.pool.dispatch.checkout(pooled.dbapi_connection, pooled._connection_record, pooled)  # fmt: skip
        except BaseException:
            self.put_back(pooled)
            raise
        return pooled

    def put_back(self, pooled: Pooled) -> None:
        """Keep a connection in autocommit mode, or give it back to the pool."""
        with self._lock:
            if pooled in self._kept or len(self._kept) < self._most:
                self._kept.add(pooled)
                self._idle.append(pooled)
                return
        connection: Any = pooled.driver_connection
        connection.autocommit = False
        pooled.close()

    def discard(
        self, engine: sqlalchemy.Engine, pooled: Pooled | None, error: BaseException
    ) -> bool:
        """Close a connection that may be in any mode.

        Return whether it is broken; if so, the pool replaces its other connections too.
        """
        if pooled is None:
            return False
        with self._lock:
            self._kept.discard(pooled)
        connection: Any = pooled.driver_connection
        is_broken = connection.closed or connection.broken
        if not is_broken:
            pooled.invalidate(error)
            return False
        engine.pool._invalidate(pooled, error)
        for other in self._taken():
            other.invalidate(error)
        return True

    def _close(self, _engine: sqlalchemy.Engine) -> None:
        """As the pool does with its idle connections. From now on none stays ready."""
        with self._lock:
            self._most = 0
            self._kept.clear()
        for pooled in self._taken():
            pooled.invalidate()

    def _taken(self) -> list[Pooled]:
        with self._lock:
            idle, self._idle = self._idle, []
            self._kept.difference_update(idle)
        return idle


_OF_DATABASES: WeakKeyDictionary[SystemDatabase, Ready] = WeakKeyDictionary()
_LOCK = threading.Lock()


def of(database: SystemDatabase) -> Ready:
    """The ready connections of a database of dbos."""
    with _LOCK:
        if database not in _OF_DATABASES:
            _OF_DATABASES[database] = Ready(database.engine)
        return _OF_DATABASES[database]

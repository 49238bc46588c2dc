# pyright: reportPrivateUsage=false
"""dbos's connections to the embedded database."""

from typing import Any

import sqlalchemy
from dbos._sys_db import SystemDatabase
from dbos._sys_db_postgres import PostgresSystemDatabase
from sqlalchemy import event as sqlalchemy_event

from durable_workflows.database.addresses import is_own
from durable_workflows.database.alone import AsyncConnectionAlone, ConnectionAlone
from durable_workflows.seam.patches.replacing import replace


def connect_alone() -> None:
    """Keep libpq's environment away from the connections that dbos and its data sources make to the embedded database."""
    if not sqlalchemy_event.contains(sqlalchemy.Engine, "do_connect", _connect_alone):
        sqlalchemy_event.listen(sqlalchemy.Engine, "do_connect", _connect_alone)


def _connect_alone(
    dialect: sqlalchemy.Dialect, _record: object, arguments: list[Any], parameters: dict[str, Any]
) -> Any:
    """The connection, in SQLAlchemy's form of it. None: SQLAlchemy makes it, for engines that are not ours."""
    if not is_own(parameters):
        return None
    if not dialect.is_async:
        return ConnectionAlone.connect(*arguments, **parameters)
    alone = {**parameters, "async_creator_fn": AsyncConnectionAlone.connect}
    return dialect.loaded_dbapi.connect(*arguments, **alone)


def share_one_backend() -> None:
    """Drop the lock of the background jobs, which keeps a transaction open at all times.

    PGlite has one backend: a client that holds a transaction open makes all others wait. The jobs are idempotent, and
    dbos treats CockroachDB in the same way. In a Postgres in the project's folder each worker does them too, when they are due
    (`wakeups.look_when_due`).
    """
    replace(PostgresSystemDatabase, background_job_lock=SystemDatabase.background_job_lock)

"""Connections of the project's own that no libpq service can affect.

A URL can give every parameter but one: libpq looks up PGSERVICE even then, and fails if there is no such service. The variable belongs to
workflow code and stays in the environment; it is hidden from libpq only while libpq reads the environment.
"""

from typing import Any, Self

import psycopg
from psycopg.abc import PQGenConn

from durable_workflows.settings import without_variable

Row = dict[str, Any]
_SERVICE = "PGSERVICE"


def begun(generator: PQGenConn[Any]) -> PQGenConn[Any]:
    """The same generator. Its first step, in which libpq reads the environment, finds no service."""
    with without_variable(_SERVICE):
        wanted = next(generator)
    try:
        while True:
            wanted = generator.send((yield wanted))
    except StopIteration as done:
        return done.value
    finally:
        generator.close()


class AsyncConnectionAlone(psycopg.AsyncConnection[Row]):
    """For asynchronous code."""

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        return begun(super()._connect_gen(conninfo))


class ConnectionAlone(psycopg.Connection[Any]):
    """For SQLAlchemy, and so for dbos."""

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        return begun(super()._connect_gen(conninfo))

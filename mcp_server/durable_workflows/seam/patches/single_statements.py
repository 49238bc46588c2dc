# pyright: reportPrivateUsage=false
"""Statements of dbos that need less of the database.

A single statement needs no transaction around it: one round trip instead of three. A statement about several runs has one text for any number
of them, so that it is prepared once.
"""

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy
from dbos._sys_db import SystemDatabase
from sqlalchemy.dialects import postgresql

from durable_workflows.seam.patches.replacing import replace

P = ParamSpec("P")
T = TypeVar("T")

# `tests/test_dbos_internals.py` checks that each of them has one statement.
METHODS = (
    "get_queue",
    "get_workflow_statuses",
    "list_schedules",
    "transition_delayed_workflows",
    "cancel_timed_out_workflows",
)


def install() -> None:
    """Change dbos for this process. Call it once, before `DBOS.launch()`."""
    alone = {name: _alone(getattr(SystemDatabase, name)) for name in METHODS}
    replace(SystemDatabase, **alone, _wf_in=_among)


def _among(
    self: SystemDatabase, table: sqlalchemy.FromClause, workflow_ids: Iterable[str]
) -> list[sqlalchemy.ColumnElement[bool]]:
    """As `SystemDatabase._wf_in`, with one value for all ids."""
    ids = list(workflow_ids)
    for workflow_id in ids:
        self._reject_shard_key(workflow_id, None)
    array = sqlalchemy.bindparam(None, ids, postgresql.ARRAY(sqlalchemy.Text))
    return [table.c.workflow_uuid == sqlalchemy.any_(array)]


def _alone(
    method: Callable[Concatenate[SystemDatabase, P], T],
) -> Callable[Concatenate[SystemDatabase, P], T]:
    @functools.wraps(method)
    def called(self: SystemDatabase, *given: P.args, **named: P.kwargs) -> T:
        alike = copy.copy(self)
        vars(alike)["engine"] = _committing(self.engine)
        return method(alike, *given, **named)

    return called


@functools.cache
def _committing(engine: sqlalchemy.Engine) -> sqlalchemy.Engine:
    """The same connections, on which each statement is a transaction."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")

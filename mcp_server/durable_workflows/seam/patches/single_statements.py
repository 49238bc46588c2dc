# pyright: reportPrivateUsage=false
"""A single statement of dbos needs no transaction around it: one round trip to the database instead of three."""

import copy
import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy
from dbos._sys_db import SystemDatabase

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
    replace(SystemDatabase, **alone)


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

# pyright: reportPrivateUsage=false
"""What an author calls the place of a step: the scope that it is in, and the name of a sleep. Both are recorded with the step.

They are no part of what a replay compares, so code may name them otherwise while runs are under way; a recorded step keeps what it was called.
The record of a step has its label in the same statement (`step_statements`). What dbos records in a transaction of its own, such as
a received message, has it there in a second one, and what it records otherwise, before it.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import sqlalchemy
from dbos import _context as dbos_context
from dbos._sys_db import SystemDatabase
from sqlalchemy.orm import Session

from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.patches.replacing import replace

P = ParamSpec("P")
T = TypeVar("T")
Values = dict[str, str | int | None]
_NOTE = """
INSERT INTO {own}.labels (workflow_id, function_id, scope, name) VALUES (%(run)s, %(step)s, %(scope)s, %(label)s)
ON CONFLICT (workflow_id, function_id) DO UPDATE SET scope = excluded.scope, name = excluded.name RETURNING 1
"""


class Label(NamedTuple):
    """What the steps of a run that begin now are called."""

    workflow_id: str
    scope: str | None = None
    name: str | None = None


_label: ContextVar[Label | None] = ContextVar("label", default=None)


def of_run(workflow_id: str) -> Label | None:
    """What the caller's step of this run is called; None: nothing."""
    label = _label.get()
    # A child that is called like a function, or begun in a task, has the context of its parent.
    return label if label is not None and label.workflow_id == workflow_id else None


@contextmanager
def scoped(workflow_id: str, name: str) -> Generator[None]:
    """Steps of the run that begin in the body are in a scope of that name, within the one around it."""
    outer = of_run(workflow_id)
    path = name if outer is None or outer.scope is None else f"{outer.scope}/{name}"
    with _called(Label(workflow_id, path)):
        yield


@contextmanager
def named(workflow_id: str, name: str | None) -> Generator[None]:
    """The step of the run that begins in the body has a name."""
    outer = of_run(workflow_id)
    if name is None:
        yield
        return
    with _called(Label(workflow_id, outer and outer.scope, name)):
        yield


@contextmanager
def _called(label: Label) -> Generator[None]:
    before = _label.get()
    _label.set(label)
    try:
        yield
    finally:
        _label.set(before)  # without a token: a generator may be closed in another context


def install(schema: str) -> None:
    """Change dbos for this process; `schema` has our own tables. Call it once, before `DBOS.launch()`."""
    note = _NOTE.replace("{own}", statements.quoted(schema))
    replace(
        SystemDatabase,
        _record_operation_result_txn=_also(SystemDatabase._record_operation_result_txn, note),
        record_get_result=_before_result(SystemDatabase.record_get_result, note),
        init_child_workflow=_before_child(SystemDatabase.init_child_workflow, note),
    )


def _also(record: Callable[P, None], note: str) -> Callable[P, None]:
    def recorded(*given: P.args, **named: P.kwargs) -> None:
        record(*given, **named)
        _database, result, _ended, *rest = cast("tuple[Any, ...]", given)
        if label := of_run(result["workflow_uuid"]):
            conn = cast("sqlalchemy.Connection | Session", rest[0] if rest else named["conn"])
            connection = conn.connection() if isinstance(conn, Session) else conn
            connection.exec_driver_sql(note, values_of(label, result["function_id"]))

    return recorded


def _before_result(record: Callable[P, None], note: str) -> Callable[P, None]:
    def recorded(*given: P.args, **named: P.kwargs) -> None:
        database, _target, _output, _error, _serialization, *rest = cast("tuple[Any, ...]", given)
        context = cast("dbos_context.DBOSContext | None", rest[0] if rest else None)
        if context is not None:
            _note(database, note, context.workflow_id, context.function_id)
        elif (run := dbos_calls.current_run()) is not None and run[1] is None:
            _note(database, note, run[0], dbos_calls.next_step())
        record(*given, **named)

    return recorded


def _before_child(start: Callable[P, T], note: str) -> Callable[P, T]:
    def started(*given: P.args, **named: P.kwargs) -> T:
        about = cast("dict[str, Any]", named)
        database, _status = cast("tuple[SystemDatabase, object]", given)
        _note(database, note, about["parent_workflow_id"], about["parent_function_id"])
        return start(*given, **named)

    return started


def _note(database: SystemDatabase, note: str, workflow_id: str, step: int) -> None:
    if label := of_run(workflow_id):
        statements.certainly(database, note, values_of(label, step))


def values_of(label: Label, step: int) -> Values:
    """The values of a statement that writes the label of a step."""
    return {"run": label.workflow_id, "step": step, "scope": label.scope, "label": label.name}

# pyright: reportPrivateUsage=false
"""Waits for messages: waits for people, and waits that were woken without a message."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Concatenate, NotRequired, ParamSpec, TypedDict, TypeVar, Unpack

import sqlalchemy
from dbos._serialization import DBOSPortableJSON, WorkflowSerializationFormat, deserialize_value
from dbos._sys_db import (
    OperationResultInternal,
    RecordedResult,
    SendMessage,
    SystemDatabase,
    db_retry,
)
from sqlalchemy.orm import Session

from durable_workflows.errors import PeopleOnly
from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches.replacing import replace
from durable_workflows.settings import PERSON

logger = logging.getLogger(__name__)

# Takes a connection of dbos, a run and a step; returns a person's answer at that step, or None if there is none yet.
FindAnswer = Callable[[object, str, int], tuple[object] | None]
Transaction = sqlalchemy.Connection | Session
P = ParamSpec("P")
T = TypeVar("T")
_RECV = "DBOS.recv"  # the name of its steps
_IN_RECEIVE: ContextVar[bool] = ContextVar("in_receive", default=False)


class _NotAnswered(Exception):
    """The wait was woken without a message for it, and its time is not over."""


def take_answers_of_people(find: FindAnswer) -> None:
    """Make waits on a topic for people end only with an answer that `find` finds, and let no code of this process send to such a topic.

    A message on such a topic only wakes the wait. The answer is recorded as the message of any `DBOS.recv`: a replay needs no further step.
    A wait on another topic also continues if it was woken without a message. Call this before `observing.observe`.
    """
    consume = SystemDatabase.recv_consume

    def consumed(
        self: SystemDatabase, workflow_uuid: str, function_id: int, topic: str | None, start: int
    ) -> object:
        if not (topic or "").startswith(PERSON):
            return _in_receive(consume, self, workflow_uuid, function_id, topic, start)
        found, skipped = _read_answer(self, find, workflow_uuid, function_id, topic, start)
        if found is not None:
            return found[0]
        for message in skipped:
            logger.warning(
                "A message for %r was skipped: it did not come from a person (%s).", topic, message
            )
        if skipped or self.record_sleep(workflow_uuid, function_id + 1, 0.0) > 0:
            raise _NotAnswered
        return consume(self, workflow_uuid, function_id, topic, start)  # the timeout

    replace(
        SystemDatabase,
        recv_consume=db_retry()(consumed),
        _record_operation_result_txn=_for_the_whole_time(
            SystemDatabase._record_operation_result_txn
        ),
        recv=_waiting_on(SystemDatabase.recv),
        recv_async=_waiting_on_async(SystemDatabase.recv_async),
    )
    _refuse_messages_to_people()


def _read_answer(
    database: SystemDatabase,
    find: FindAnswer,
    workflow_id: str,
    step: int,
    topic: str | None,
    start: int,
) -> tuple[tuple[object] | None, list[str]]:
    """Record the person's answer, if there is one, and the ids of the messages that were read without one.

    The messages are read first. An answer is noted before its message is sent, so it is found once the message is there.
    """
    messages = database.tables.notifications
    with database.engine.begin() as connection:
        recorded = database._check_operation_execution_txn(
            workflow_id, step, _RECV, conn=connection
        )
        if recorded is not None:  # an attempt that lost its connection had committed
            value = deserialize_value(
                recorded["output"], recorded["serialization"], database.serializer
            )
            return (value,), []
        read = connection.execute(
            sqlalchemy.update(messages)
            .where(
                *database._wf(messages, workflow_id, "destination_uuid"),
                messages.c.topic == topic,
                messages.c.consumed.is_(False),
            )
            .values(consumed=True, consumed_by_function_id=step)
            .returning(messages.c.message_uuid)
        ).all()
        found = find(connection.connection.driver_connection, workflow_id, step)
        if found is not None:
            outcome: OperationResultInternal = {
                "workflow_uuid": workflow_id,
                "function_id": step,
                "function_name": _RECV,
                "started_at_epoch_ms": start,
                "output": DBOSPortableJSON.serialize(found[0]),
                "serialization": DBOSPortableJSON.name(),
                "error": None,
                "child_workflow_id": None,
            }
            now = int(time.time() * 1000)
            database._record_operation_result_txn(outcome, now, conn=connection)
        return found, [row[0] for row in read]


def _in_receive(consume: Callable[P, T], *where: P.args, **named: P.kwargs) -> T:
    mark = _IN_RECEIVE.set(True)
    try:
        return consume(*where, **named)
    finally:
        _IN_RECEIVE.reset(mark)


def _for_the_whole_time(
    record: Callable[
        Concatenate[SystemDatabase, OperationResultInternal, int, Transaction, P], None
    ],
) -> Callable[Concatenate[SystemDatabase, OperationResultInternal, int, Transaction, P], None]:
    """Make a receive continue that was woken without a message. DBOS records a timeout in that case.

    It happens if the notification of a message comes after the message was received, and the run receives on that topic again.
    """

    def recorded(
        self: SystemDatabase,
        result: OperationResultInternal,
        completed_at: int,
        conn: Transaction,
        *rest: P.args,
        **named: P.kwargs,
    ) -> None:
        is_nothing = _IN_RECEIVE.get() and result["output"] == DBOSPortableJSON.serialize(None)
        if is_nothing and _is_early(self, result["workflow_uuid"], result["function_id"], conn):
            raise _NotAnswered
        record(self, result, completed_at, conn, *rest, **named)

    return recorded


def _is_early(
    database: SystemDatabase, workflow_id: str, step: int, connection: Transaction
) -> bool:
    """Whether the receive at this step has read no message, and its time is not over."""
    if dbos_calls.has_read(database, connection, workflow_id, step):  # a message that is null
        return False
    steps = database.tables.operation_outputs
    end = sqlalchemy.select(steps.c.output).where(
        *database._wf(steps, workflow_id), steps.c.function_id == step + 1
    )
    wakes_at = connection.execute(end).scalar_one_or_none()
    return wakes_at is not None and float(wakes_at) > time.time()


def _waiting_on(recv: Callable[P, T]) -> Callable[P, T]:
    """Make a wait continue after it was woken for another reason: its deadline is recorded."""

    def answered(*where: P.args, **named: P.kwargs) -> T:
        while True:
            try:
                return recv(*where, **named)
            except _NotAnswered:
                continue

    return answered


def _waiting_on_async(recv: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """As `_waiting_on`."""

    async def answered(*where: P.args, **named: P.kwargs) -> T:
        while True:
            try:
                return await recv(*where, **named)
            except _NotAnswered:
                continue

    return answered


class _Sent(TypedDict):
    """The named arguments of `SystemDatabase._send_bulk_txn`."""

    serialization_type: WorkflowSerializationFormat | None
    workflow_id: str | None
    function_id: int | None
    function_name: str
    send_to_forks: bool
    step_workflow_id: NotRequired[str | None]


def _refuse_messages_to_people() -> None:
    send = SystemDatabase._send_bulk_txn

    def sent(
        self: SystemDatabase, messages: list[SendMessage], conn: Transaction, **about: Unpack[_Sent]
    ) -> RecordedResult | None:
        topics = [one.topic for one in messages if (one.topic or "").startswith(PERSON)]
        if not topics:
            return send(self, messages, conn, **about)
        workflow_id, step = about["workflow_id"], about["function_id"]
        if workflow_id is not None and step is not None:
            recorded = self._check_operation_execution_txn(
                workflow_id, step, about["function_name"], conn=conn
            )
            if recorded is not None:  # by a release that let it pass; its wait skips the message
                return recorded
        raise PeopleOnly(
            f"Workflow code cannot send to the topic {topics[0]!r}: only people answer there.",
            hint="Ask the person with `ask_human`; for a message between runs, use another topic and `receive`.",
        )

    replace(SystemDatabase, _send_bulk_txn=sent)

# pyright: reportPrivateUsage=false
"""What the runs of this process do, told as it happens."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from dbos import _context as dbos_context
from dbos import _logger as dbos_logger_module
from dbos import _outcome as dbos_outcome
from dbos._sys_db import SystemDatabase, _dbos_null_topic

from durable_workflows.seam import dbos_calls

OnException = Callable[[int, BaseException], float]


class Observer(Protocol):
    """Is told what the runs of this process do, in their own threads; must be quick and must not raise."""

    def step_began(self, workflow_id: str, step: int, name: str) -> None:
        """A step was entered; its recorded result, if there is one, is about to be returned instead."""
        ...

    def step_attempted(self, workflow_id: str, step: int, attempt: int, attempts: int) -> None:
        """An attempt (from 1) of a step with retries begins."""
        ...

    def step_failed(self, workflow_id: str, step: int, error: str, seconds: float) -> None:
        """An attempt has failed; the next one begins in so many seconds."""
        ...

    def step_ended(self, workflow_id: str, step: int) -> None:
        """A step was left; its outcome is recorded."""
        ...

    def waits(self, workflow_id: str, step: int, topic: str) -> AbstractContextManager[None]:
        """Around a `DBOS.recv`."""
        ...


def observe(observer: Observer) -> None:
    """Tell `observer` of every step and every `DBOS.recv` of this process."""
    _observe_steps(observer)
    _observe_waits(observer)


def log_to(handler: logging.Handler) -> None:
    """Give the records of dbos's logger to this handler alone."""
    logger = dbos_logger_module.dbos_logger
    logger.handlers.clear()
    logger.addHandler(handler)


def before_ends(call: Callable[[str], None]) -> None:
    """Call with the run's id before the outcome of a run is recorded, in the thread that records it."""
    scope: Any = SystemDatabase
    record = scope.update_workflow_outcome

    def recorded(self: SystemDatabase, workflow_id: str, *rest: Any, **named: Any) -> bool:
        call(workflow_id)
        return record(self, workflow_id, *rest, **named)

    scope.update_workflow_outcome = recorded


def _observe_steps(observer: Observer) -> None:
    scope: Any = dbos_context.EnterDBOSStepCtx
    enter, leave = scope.__enter__, scope.__exit__

    def entered(self: Any) -> dbos_context.DBOSContext:
        context = enter(self)
        if dbos_calls.is_step(self):
            name = self.attributes["name"]
            observer.step_began(context.workflow_id, context.function_id, name)
        return context

    def left(self: Any, *error: Any) -> Any:
        result = leave(self, *error)
        if dbos_calls.is_step(self):
            observer.step_ended(self.use_ctx.workflow_id, self.use_ctx.function_id)
        return result

    scope.__enter__, scope.__exit__ = entered, left
    _observe_attempts(observer)


def _observe_attempts(observer: Observer) -> None:
    scope: Any = dbos_context.EnterDBOSStepRetry
    enter = scope.__enter__

    def entered(self: Any) -> None:
        enter(self)
        context = dbos_context.get_local_dbos_context()
        if context is not None:
            attempt, attempts = self.current_attempt + 1, self.max_attempts
            observer.step_attempted(context.workflow_id, context.function_id, attempt, attempts)

    scope.__enter__ = entered
    for outcome in (dbos_outcome.Immediate, dbos_outcome.Pending):
        _observe_failed_attempts(outcome, observer)


def _observe_failed_attempts(outcome: Any, observer: Observer) -> None:
    retry = outcome.retry

    def observed(self: Any, attempts: int, on_exception: OnException, *more: Any) -> Any:
        def noted(attempt: int, error: BaseException) -> float:
            seconds = on_exception(attempt, error)
            context = dbos_context.get_local_dbos_context()
            if context is not None:
                said = f"{type(error).__name__}: {error}"
                observer.step_failed(context.workflow_id, context.function_id, said, seconds)
            return seconds

        return retry(self, attempts, noted, *more)

    outcome.retry = observed


def _observe_waits(observer: Observer) -> None:
    scope: Any = SystemDatabase
    recv, recv_async = scope.recv, scope.recv_async

    def observed(self: SystemDatabase, workflow_uuid: str, function_id: int, *rest: Any) -> Any:
        with observer.waits(workflow_uuid, function_id, _topic(rest)):
            return recv(self, workflow_uuid, function_id, *rest)

    async def observed_async(
        self: SystemDatabase, workflow_uuid: str, function_id: int, *rest: Any
    ) -> Any:
        with observer.waits(workflow_uuid, function_id, _topic(rest)):
            return await recv_async(self, workflow_uuid, function_id, *rest)

    scope.recv, scope.recv_async = observed, observed_async


def _topic(rest: tuple[Any, ...]) -> str:
    """The topic among `recv`'s arguments: (timeout_function_id, topic, timeout_seconds)."""
    return rest[1] or _dbos_null_topic

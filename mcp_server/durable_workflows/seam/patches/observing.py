# pyright: reportPrivateUsage=false
"""Live reports of what the runs of this process do."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Concatenate, Literal, ParamSpec, Protocol

from dbos import _context as dbos_context
from dbos import _logger as dbos_logger_module
from dbos import _outcome as dbos_outcome
from dbos._sys_db import SystemDatabase, _dbos_null_topic

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches.replacing import replace

OnException = Callable[[int, BaseException], float]
P = ParamSpec("P")


class Observer(Protocol):
    """Is told what the runs of this process do, in their own threads. It must be quick and must not raise."""

    def step_began(self, workflow_id: str, step: int, name: str) -> None:
        """A step was entered; its recorded result, if there is one, is about to be returned instead."""
        ...

    def step_attempted(self, workflow_id: str, step: int, attempt: int, attempts: int) -> None:
        """An attempt (from 1) of a step with retries begins."""
        ...

    def step_failed(self, workflow_id: str, step: int, error: str, seconds: float) -> None:
        """An attempt has failed; the next attempt begins in that many seconds."""
        ...

    def step_ended(self, workflow_id: str, step: int) -> None:
        """A step was left; its outcome is recorded."""
        ...

    def waits(self, workflow_id: str, step: int, topic: str) -> AbstractContextManager[None]:
        """Surrounds a `DBOS.recv`, and the wait of a step in doubt."""
        ...


def observe(observer: Observer) -> None:
    """Tell `observer` of every step and every `DBOS.recv` of this process."""
    _observe_steps(observer)
    _observe_waits(observer)


def log_to(handler: logging.Handler) -> None:
    """Send the records of dbos's logger to this handler only."""
    logger = dbos_logger_module.dbos_logger
    logger.handlers.clear()
    logger.addHandler(handler)


def before_ends(call: Callable[[str], None]) -> None:
    """Call this function with the run's id before the outcome of a run is recorded, in the thread that records it."""

    def calling(
        record: Callable[Concatenate[SystemDatabase, str, P], bool],
    ) -> Callable[Concatenate[SystemDatabase, str, P], bool]:
        def recorded(
            self: SystemDatabase, workflow_id: str, *rest: P.args, **named: P.kwargs
        ) -> bool:
            call(workflow_id)
            return record(self, workflow_id, *rest, **named)

        return recorded

    replace(SystemDatabase, update_workflow_outcome=calling(SystemDatabase.update_workflow_outcome))


def _observe_steps(observer: Observer) -> None:
    scope = dbos_context.EnterDBOSStepCtx
    enter, leave = scope.__enter__, scope.__exit__

    def entered(self: dbos_context.EnterDBOSStepCtx) -> dbos_context.DBOSContext:
        context = enter(self)
        if dbos_calls.is_step(self):
            name = self.attributes.get("name", "")
            observer.step_began(context.workflow_id, context.function_id, name)
        return context

    def left(self: dbos_context.EnterDBOSStepCtx, *raised: *dbos_calls.Raised) -> Literal[False]:
        result = leave(self, *raised)
        if dbos_calls.is_step(self):
            observer.step_ended(self.use_ctx.workflow_id, self.use_ctx.function_id)
        return result

    replace(scope, __enter__=entered, __exit__=left)
    _observe_attempts(observer)


def _observe_attempts(observer: Observer) -> None:
    scope = dbos_context.EnterDBOSStepRetry
    enter = scope.__enter__

    def entered(self: dbos_context.EnterDBOSStepRetry) -> None:
        enter(self)
        context = dbos_context.get_local_dbos_context()
        if context is not None:
            attempt, attempts = self.current_attempt + 1, self.max_attempts
            observer.step_attempted(context.workflow_id, context.function_id, attempt, attempts)

    replace(scope, __enter__=entered)
    _observe_failed_attempts(dbos_outcome.Immediate, observer)
    _observe_failed_attempts(dbos_outcome.Pending, observer)


def _observe_failed_attempts(outcome: type[object], observer: Observer) -> None:
    retry: Callable[..., object] = vars(outcome)["retry"]

    def observed(self: object, attempts: int, on_exception: OnException, *more: object) -> object:
        def noted(attempt: int, error: BaseException) -> float:
            seconds = on_exception(attempt, error)
            context = dbos_context.get_local_dbos_context()
            if context is not None:
                said = f"{type(error).__name__}: {error}"
                observer.step_failed(context.workflow_id, context.function_id, said, seconds)
            return seconds

        return retry(self, attempts, noted, *more)

    replace(outcome, retry=observed)


def _observe_waits(observer: Observer) -> None:
    recv, recv_async = SystemDatabase.recv, SystemDatabase.recv_async

    def observed(
        self: SystemDatabase, run: str, step: int, timer: int, topic: str | None, seconds: float
    ) -> object:
        with observer.waits(run, step, topic or _dbos_null_topic):
            return recv(self, run, step, timer, topic, seconds)

    async def observed_async(
        self: SystemDatabase, run: str, step: int, timer: int, topic: str | None, seconds: float
    ) -> object:
        with observer.waits(run, step, topic or _dbos_null_topic):
            return await recv_async(self, run, step, timer, topic, seconds)

    replace(SystemDatabase, recv=observed, recv_async=observed_async)

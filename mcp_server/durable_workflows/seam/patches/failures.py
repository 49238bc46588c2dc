# pyright: reportPrivateUsage=false
"""Runs and steps that raise something other than an `Exception`."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar, cast

from dbos import DBOS
from dbos import _context as dbos_context
from dbos import _core as dbos_core
from dbos import _error as dbos_error
from dbos import _outcome as dbos_outcome

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches import replacing
from durable_workflows.seam.patches.parking import parked_in

Code = Callable[[], object]  # of a run or a step
P = ParamSpec("P")
T = TypeVar("T")


def fail_at_whatever_is_raised(stopping: Callable[[], bool]) -> None:
    """Make a run fail whatever its code raises, as with any error.

    DBOS passes on everything that is not an `Exception`: the run would be recovered, and raise it, again and again.
    While this worker is `stopping`, everything is passed on unchanged: the run is left for recovery.
    """

    def guarded(function: Code) -> Code:
        def called() -> object:
            try:
                return function()
            except Exception:
                raise
            except BaseException as error:
                if stopping():
                    raise
                raise parked_in(error) or _for_dbos(error)  # noqa: B904 - it has its cause

        return called

    def guarded_async(function: Code) -> Code:
        async def called() -> object:
            try:
                return await cast("Awaitable[object]", function())
            except Exception:
                raise
            except BaseException as error:
                if stopping() or await _is_passed_on(error, function):
                    raise
                raise parked_in(error) or _for_dbos(error)  # noqa: B904 - it has its cause

        return called

    _guard(dbos_outcome.Immediate, guarded)
    _guard(dbos_outcome.Pending, guarded_async)
    replacing.replace_in_dbos(dbos_core.run_step_async, _guarding_threads(dbos_core.run_step_async))


def _guard(outcome: type[object], guarded: Callable[[Code], Code]) -> None:
    make: Callable[[object, Code], None] = vars(outcome)["__init__"]

    def made(self: object, function: Code) -> None:
        composed = getattr(function, "__module__", "") == dbos_outcome.__name__
        make(self, function if composed else guarded(function))

    replacing.replace(outcome, __init__=made)


def _guarding_threads(run: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    """Below Python 3.12 a StopIteration that leaves a thread is lost, and its run never ends."""

    def without_stop(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except StopIteration as error:
                raise _failure(error)  # noqa: B904 - it has its cause

        return called

    async def guarded(
        dbos: DBOS, context: object, function: Callable[..., object], *rest: object
    ) -> object:
        asynchronous = inspect.iscoroutinefunction(function)
        return await run(dbos, context, function if asynchronous else without_stop(function), *rest)

    return guarded


def _for_dbos(error: BaseException) -> BaseException:
    """The error to raise instead. dbos's own errors keep their meaning, even in a group."""
    return _own(error) or _failure(error)


def _own(error: BaseException) -> BaseException | None:
    if isinstance(error, dbos_error.DBOSBaseException):
        return error
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((own for part in parts if (own := _own(part))), None)
    return None


def _failure(error: BaseException) -> RuntimeError:
    text = f"The code raised {type(error).__name__}{f': {error}' if str(error) else '.'}"
    if isinstance(error, SystemExit):
        text = f"The code called sys.exit({error.code!r})."
    failure = RuntimeError(text)
    failure.__cause__ = error
    return failure


async def _is_passed_on(error: BaseException, function: Code) -> bool:
    """Whether it is a CancelledError that the code did not cause itself.

    It is if the surrounding task was cancelled, as by `asyncio.wait_for`, and other code awaits that task.
    A run that ends this way has failed, and dbos would not record it.
    """
    task = asyncio.current_task()
    if not isinstance(error, asyncio.CancelledError) or task is None or not task.cancelling():
        return False
    if task in dbos_calls.instance()._workflow_tasks:  # the whole run: no other task awaits it
        return False
    context = dbos_context.get_local_dbos_context()
    if getattr(function, "__module__", "") == dbos_core.__name__ and context is not None:
        await asyncio.to_thread(_record_cancelled, context.workflow_id)
    return True


def _record_cancelled(workflow_id: str) -> None:
    database = dbos_calls.system_database()
    error = RuntimeError("The task of this run was cancelled by the code that awaited it.")
    recorded = dbos_calls.error_text(error)
    database.update_workflow_outcome(workflow_id, "ERROR", error=recorded)

"""Questions to the engine that may go without an answer: nothing is started for them, and nobody waits long."""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio

from durable_workflows import state
from durable_workflows.backend import Backend
from durable_workflows.errors import DurableWorkflowsError, UsageError

if TYPE_CHECKING:  # importing it imports dbos, which takes a second
    from durable_workflows.engine import Engine

logger = logging.getLogger(__name__)
T = TypeVar("T")


async def when_running(
    backend: Backend,
    question: Callable[["Engine"], Awaitable[T]],
    *,
    seconds: float,
    otherwise: T,
) -> T:
    """The answer of the project's engine, or `otherwise`: where nothing runs, or no answer comes in time.

    Raises:
        UsageError: the question is wrong.
    """
    try:
        if state.read_connection(backend.settings) is not None:
            with anyio.move_on_after(seconds):
                return await question(await backend.engine())
    except UsageError:
        raise
    except (DurableWorkflowsError, OSError) as error:
        logger.info("Left unanswered: %s", error)
    return otherwise

"""What the page's server answers where something is wrong: what, and what to do."""

import logging
from collections.abc import Awaitable, Callable

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from durable_workflows.errors import (
    DatabaseUnavailable,
    DurableWorkflowsError,
    UnknownSchedule,
    UnknownStep,
    UnknownWorkflow,
    UnknownWorkflowId,
    UsageError,
)
from durable_workflows.web.shapes import Refusal

CORRECT = UsageError.hint
OPEN = "Run `durable-workflows dashboard --web` in the project, and open the link that it prints."

_NOT_THERE = (UnknownWorkflowId, UnknownWorkflow, UnknownStep, UnknownSchedule)

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is not answered."""

    def __init__(self, status: int, error: str, hint: str) -> None:
        super().__init__(error)
        self.status = status
        self.said = Refusal(error=error, hint=hint)

    def response(self) -> Response:
        """What is answered instead."""
        return JSONResponse(self.said.model_dump(), self.status)


async def answered(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """The answer, or what is wrong: our errors as they read, of others nothing but that there was one."""
    try:
        return await answer(request)
    except Refused as refused:
        return refused.response()
    except ValidationError as error:
        return _wrong(error).response()
    except DurableWorkflowsError as error:
        return Refused(_status(error), error.message, error.hint).response()
    except (
        Exception
    ):  # the boundary: whatever it is, it must not reach the page, nor end the server
        logger.exception("%s %s failed", request.method, request.url.path)
        return Refused(
            500, "This failed because of an error in the server.", "The error is in its log."
        ).response()


async def not_there(request: Request, error: Exception) -> Response:
    """The answer for a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        said = f"{request.url.path} does not take {request.method}."
        return Refused(
            405, said, "Look at the page's api.ts for the calls that there are."
        ).response()
    return Refused(404, f"There is no {request.url.path} here.", "The page is at /.").response()


def _status(error: DurableWorkflowsError) -> int:
    if isinstance(error, _NOT_THERE):
        return 404
    if isinstance(error, UsageError):
        return 400
    return 503 if isinstance(error, DatabaseUnavailable) else 500


def _wrong(error: ValidationError) -> Refused:
    """What the first thing is that is wrong with a query or a body."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return Refused(400, f"{where}: {first['msg']}." if where else f"{first['msg']}.", CORRECT)

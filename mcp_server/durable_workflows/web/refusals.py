"""The answers of the page's server to wrong requests: what is wrong, and what to do."""

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
    WouldRepeat,
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
        """The answer in its place."""
        return JSONResponse(self.said.model_dump(), self.status)


async def answered(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """The answer, or the error: our errors unchanged; of other errors only the fact."""
    try:
        return await answer(request)
    except Refused as refused:
        return refused.response()
    except (ValidationError, DurableWorkflowsError) as error:
        return refusal(error).response()
    except Exception:  # the boundary: no error may reach the page, or end the server
        logger.exception("%s %s failed", request.method, request.url.path)
        return Refused(
            500, "This failed because of an error in the server.", "The error is in its log."
        ).response()


async def not_there(request: Request, error: Exception) -> Response:
    """The answer for an unknown path or method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        said = f"{request.url.path} does not take {request.method}."
        return Refused(
            405, said, "Look at the page's api.ts for the calls that there are."
        ).response()
    return Refused(404, f"There is no {request.url.path} here.", "The page is at /.").response()


def refusal(error: ValidationError | DurableWorkflowsError) -> Refused:
    """What is answered where a call is wrong, or cannot be done now."""
    if isinstance(error, ValidationError):
        return _wrong(error)
    return Refused(_status(error), error.message, error.hint)


def _status(error: DurableWorkflowsError) -> int:
    if isinstance(error, _NOT_THERE):
        return 404
    if isinstance(error, WouldRepeat):
        return 409
    if isinstance(error, UsageError):
        return 400
    return 503 if isinstance(error, DatabaseUnavailable) else 500


def _wrong(error: ValidationError) -> Refused:
    """The first mistake in a query or a body."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return Refused(400, f"{where}: {first['msg']}." if where else f"{first['msg']}.", CORRECT)

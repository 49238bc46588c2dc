"""The page and its API as one application, to be served beside MCP."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any, get_origin

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from durable_workflows.web import downloading, guard, sending
from durable_workflows.web.access import Access
from durable_workflows.web.calls import GETS, POSTS, Call
from durable_workflows.web.changes import Changes
from durable_workflows.web.front import Front
from durable_workflows.web.guard import API, Guard
from durable_workflows.web.refusals import answered, not_there
from durable_workflows.web.shapes import ChangesQuery, RunQuery
from durable_workflows.web.site import Site

Endpoint = Callable[[Request], Awaitable[Any]]


class Web:
    """The page of one project, and the objects that it needs while it is open."""

    def __init__(self, site: Site, access: Access, names: Collection[str]) -> None:
        """`names` are the host names that requests may use for it."""
        self._site = site
        self._changes = Changes(site.settings)
        front = Front(site.settings, access)
        routes = [
            Route("/", _bounded(front.page)),
            *(Route(API + call.path, _bounded(self._get(call))) for call in GETS),
            *(
                Route(API + call.path, _bounded(self._post(call)), methods=["POST"])
                for call in POSTS
            ),
            Route(f"{API}download", _bounded(self._download)),
            Route(f"{API}changes", _bounded(self._listen)),
        ]
        errors = {404: not_there, 405: not_there}
        self.app: ASGIApp = Guard(
            Starlette(routes=routes, exception_handlers=errors), access, names
        )

    async def run(self) -> None:
        """Report changes to open pages, forever."""
        await self._changes.run()

    def _get(self, call: Call) -> Endpoint:
        async def get(request: Request) -> Response:
            query = _query(call.takes, request.query_params)
            return sending.response(await call.function(self._site, query))

        return get

    def _post(self, call: Call) -> Endpoint:
        async def post(request: Request) -> Response:
            body = call.takes.model_validate_json(await guard.body(request))
            return sending.response(await call.function(self._site, body))

        return post

    async def _download(self, request: Request) -> Response:
        return await downloading.run(self._site, _query(RunQuery, request.query_params))

    async def _listen(self, request: Request) -> ASGIApp:
        return self._changes.stream(_query(ChangesQuery, request.query_params))


def _bounded(endpoint: Endpoint) -> Endpoint:
    async def bounded(request: Request) -> Any:
        return await answered(request, endpoint)

    return bounded


def _query(model: type[BaseModel], params: QueryParams) -> Any:
    """A query as its model; an empty value counts as missing."""
    fields = {one.alias or name: one for name, one in model.model_fields.items()}
    lists = {name for name, one in fields.items() if get_origin(one.annotation) is list}
    given = {name: value for name, value in params.items() if value}
    return model.model_validate(
        given | {name: params.getlist(name) for name in lists & given.keys()}
    )

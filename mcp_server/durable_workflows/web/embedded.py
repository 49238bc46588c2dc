"""The page inside a client (MCP Apps): the file for the client, and the page's calls, which come through a tool.

A call may come from the page or from the model: a server cannot tell. So a person's answer needs a nonce. The call that lists the questions returns it in
`_meta`, which clients do not show to their models.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from pydantic import JsonValue, ValidationError

from durable_workflows.errors import DurableWorkflowsError, InvalidArguments, PeopleOnly
from durable_workflows.models import InboxItem, OpenWait
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings
from durable_workflows.telling.plain import plain
from durable_workflows.web import access, building, refusals
from durable_workflows.web.calls import GETS, POSTS
from durable_workflows.web.site import Site

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

APP = "app"  # how a person answered here

_CALLS = {call.path: call for call in (*GETS, *POSTS)}

View = Literal["run", "inbox"]


class Caller(NamedTuple):
    """The client that shows the page: its session, its person, and whether it declares that it shows pages."""

    session: str
    person: str
    shows_apps: bool


class Answered(NamedTuple):
    """The answer to a call: `told` for the page and the model, `nonces` for the page only. `is_error`: the call was refused, and `told` says why."""

    told: dict[str, object]
    nonces: Sequence[dict[str, object]] = ()
    is_error: bool = False


async def document(settings: Settings, view: View) -> str:
    """The page, with a mark that says that it is inside a client, and which view opens first.

    Raises:
        PageNotBuilt, StateDirectoryUnusable, NoSpaceLeft: as for `building.page`.
    """
    text = await building.page(settings)
    return text.replace("<html ", f'<html data-app="{view}" ', 1)


async def answer(
    settings: Settings,
    engine: "Callable[[], Awaitable[Engine]]",
    caller: Caller,
    path: str,
    given: dict[str, JsonValue],
    nonce: str | None,
) -> Answered:
    """The answer of the page's API to this call, as JSON."""
    token = http_access.token(settings)

    def allow(wait: OpenWait) -> None:
        if wait.person_only and not access.takes_nonce(token, nonce or "", wait):
            raise PeopleOnly(_NOT_FROM_THE_PAGE, hint=_ELSEWHERE)

    site = Site(settings, engine, caller.person, APP, caller.session, allow)
    try:
        found = await _called(site, path, given)
    except (ValidationError, DurableWorkflowsError) as error:
        refused = refusals.refusal(error)
        return Answered({**refused.said.model_dump(), "status": refused.status}, is_error=True)
    asks = path == "waits" and caller.shows_apps
    nonces = _nonces(token, cast("Sequence[InboxItem]", found)) if asks else []
    return Answered({"answer": plain(found)}, nonces)


_NOT_FROM_THE_PAGE = "A person's answer is accepted only from the page that showed the question."
_ELSEWHERE = "Have the person answer in the page that their client shows, call answer_in_person, or have them run `durable-workflows approve` in a terminal."


async def _called(site: Site, path: str, given: dict[str, JsonValue]) -> object:
    call = _CALLS.get(path)
    if call is None:
        raise InvalidArguments(
            f"The page has no call {path!r}.", hint=f"It has {', '.join(_CALLS)}."
        )
    return await call.function(site, call.takes.model_validate(given))


def _nonces(token: str, items: Sequence[InboxItem]) -> list[dict[str, object]]:
    """A nonce for each question to a person."""
    return [
        {"workflow_id": wait.workflow_id, "step": wait.step, "nonce": access.nonce(token, wait)}
        for wait in (one.wait for one in items)
        if wait.person_only
    ]

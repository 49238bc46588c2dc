"""A whole run as JSON, to keep: all of its steps, messages, log lines and streams, sent as they are read."""

import re
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from durable_workflows import limits
from durable_workflows.models import Run, Step
from durable_workflows.web import sending
from durable_workflows.web.shapes import RunQuery
from durable_workflows.web.site import Site

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

_PAYLOAD = 1024 * 1024  # characters of each payload
_PAGE = 20  # steps that are read at a time, so that the largest fit
_UNFIT = re.compile(r"[^\w.-]+", re.ASCII)  # in the name of a file
_LONGEST_NAME = 100


async def run(site: Site, query: RunQuery) -> Response:
    """The run as a file. Errors of reading are known before the answer begins."""
    engine = await site.engine()
    found = await engine.reader.run(query.id, preview=_PAYLOAD, after_step=2**31 - 1)
    first = await engine.contents.steps(query.id, after=0, count=_PAGE, preview=_PAYLOAD)
    name = _UNFIT.sub("-", query.id).strip("-.")[:_LONGEST_NAME] or "run"
    return StreamingResponse(
        _parts(engine, found, first),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}.json"'},
    )


async def _parts(engine: "Engine", found: Run, steps: list[Step]) -> AsyncGenerator[str]:
    """A JSON object: the fields of the run, its steps, and the rest."""
    fields = [f'"{name}":{sending.text(value)}' for name, value in found if name != "steps"]
    yield f'{{{",".join(fields)},"steps":['
    separator = ""
    while steps:
        yield separator + ",".join(map(sending.text, steps))
        separator, last = ",", steps[-1].step
        steps = await engine.contents.steps(
            found.workflow_id, after=last, count=_PAGE, preview=_PAYLOAD
        )
    yield f'],"messages":{sending.text(await engine.reader.messages(found.workflow_id, count=limits.MESSAGES))}'
    yield f',"log":{sending.text(await engine.reader.log(found.workflow_id, limit=limits.LOG_LINES))}'
    yield f',"streams":{sending.text(await engine.contents.streams(found.workflow_id))}}}'

"""One run, or two side by side, as pages of text: for the tools `inspect` and `compare` and the commands of these names."""

import re
from typing import TYPE_CHECKING, Literal

from durable_workflows import limits
from durable_workflows.errors import InvalidArguments
from durable_workflows.telling import comparisons, pages, traces
from durable_workflows.wording import short

if TYPE_CHECKING:  # importing it imports psycopg, for which the server's first message would wait
    from durable_workflows.engine.reading import Reader

_ALL_STEPS = 2**31 - 1
_FULL_PREVIEW = 2000  # characters of a step's result
_CURSOR = re.compile(r"(?:(input|output|error|prompt|events|answers|attempts):)?([0-9]{1,9})")

Detail = Literal["summary", "full", "tree", "messages", "log", "source"]


async def page(
    reader: "Reader", workflow_id: str, *, step: int | None, detail: Detail, cursor: str | None
) -> str:
    """A page about a run: of one step (0: of the run's own payloads), or of a detail."""
    which, offset = _where(cursor)
    if step == 0:
        return await _payload(reader, workflow_id, which, offset)
    if step is not None:
        found = await reader.step(workflow_id, step, offset=offset, length=limits.PART)
        return pages.step(workflow_id, found, offset=offset)
    return await _detail(reader, workflow_id, detail, offset)


async def comparison(reader: "Reader", workflow_id: str, other: str, *, cursor: str | None) -> str:
    """A page about two runs side by side."""
    _, offset = _where(cursor)
    found = await reader.compare(workflow_id, other, after=offset)
    return comparisons.markdown(found, offset=offset)


async def _detail(reader: "Reader", workflow_id: str, detail: Detail, offset: int) -> str:
    match detail:
        case "summary":
            return traces.markdown(await reader.run(workflow_id))
        case "full":
            run = await reader.run(workflow_id, preview=_FULL_PREVIEW, after_step=offset)
            return traces.full_markdown(run, after_step=offset)
        case "tree":
            return pages.tree(workflow_id, await reader.tree(workflow_id), offset=offset)
        case "messages":
            found = await reader.messages(workflow_id, count=limits.MESSAGES)
            return pages.messages(workflow_id, found, offset=offset)
        case "log":
            lines = await reader.log(workflow_id, limit=limits.LOG_LINES)
            return pages.log(workflow_id, lines, before=offset)
        case "source":
            path, text = await reader.source(workflow_id)
            return pages.source(workflow_id, path, text, offset=offset)


async def _payload(reader: "Reader", workflow_id: str, which: str | None, offset: int) -> str:
    """The run's own error, output or input."""
    run = await reader.run(workflow_id, preview=offset + limits.PART, after_step=_ALL_STEPS)
    which = which or ("error" if run.error else "output" if run.output else "input")
    return pages.payload(run, which=which, offset=offset)


def _where(cursor: str | None) -> tuple[str | None, int]:
    """The place where a page begins: `7000`, or, for the payloads of the run itself, `input:7000`."""
    found = _CURSOR.fullmatch(cursor or "0")
    if found is None:
        raise InvalidArguments(
            f"{short(cursor or '', 60)!r} is not a cursor of this page.",
            hint="Copy the cursor from the previous page, or omit it for the first page.",
        )
    return found[1], int(found[2])

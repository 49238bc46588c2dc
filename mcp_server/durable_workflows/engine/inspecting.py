"""One run, or two side by side, as pages of text: for the tools `inspect` and `compare` and the commands of these names."""

import re
from datetime import UTC, datetime

from durable_workflows import limits
from durable_workflows.engine.reading import Reader
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import Detail
from durable_workflows.telling import causes, comparisons, pages, trace_json, traces
from durable_workflows.wording import short

_ALL_STEPS = 2**31 - 1
_PAYLOAD = 20_000  # characters of each payload in a trace as JSON
_FEW_STEPS = 100
_SHORT_PAYLOAD = 2000  # if there are more steps: a client holds all of it in memory
_FULL_PREVIEW = 2000  # characters of a step's result
_CURSOR = re.compile(r"(?:(input|output|error|prompt|events|answers|attempts):)?([0-9]{1,9})")


class Pages:
    """The texts about runs, for clients and people; errors as for `Reader.run`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(
        self, workflow_id: str, *, step: int | None, detail: Detail, cursor: str | None
    ) -> str:
        """A page about a run: of one step (0: of the run's own payloads), or of a detail."""
        which, offset = _where(cursor)
        if step == 0:
            return await _payload(self._reader, workflow_id, which, offset)
        if step is not None:
            found = await self._reader.step(workflow_id, step, offset=offset, length=limits.PART)
            return pages.step(workflow_id, found, offset=offset)
        return await _detail(self._reader, workflow_id, detail, offset)

    async def comparison(self, workflow_id: str, other: str, *, cursor: str | None) -> str:
        """A page about two runs side by side."""
        _, offset = _where(cursor)
        found = await self._reader.compare(workflow_id, other, after=offset)
        return comparisons.markdown(found, offset=offset)

    async def summary(self, workflow_id: str, *, budget: int = limits.ANSWER) -> str:
        """Why a run is where it is and what its steps did, as Markdown of at most so many characters."""
        return traces.markdown(await self._reader.run(workflow_id), budget=budget)

    async def cause(self, workflow_id: str) -> str:
        """Why a run is where it is, in a sentence."""
        return causes.cause(await self._reader.run(workflow_id), datetime.now(UTC)).text

    async def trace_json(self, workflow_id: str) -> str:
        """A run with its steps, children and messages, as JSON for programs."""
        few = await self._reader.last_step(workflow_id) <= _FEW_STEPS
        preview = _PAYLOAD if few else _SHORT_PAYLOAD
        run = await self._reader.run(workflow_id, preview=preview)
        messages = await self._reader.messages(workflow_id, count=limits.MESSAGES)
        lines = await self._reader.log(workflow_id, limit=limits.LOG_LINES)
        return trace_json.text(run, messages, len(lines))


async def _detail(reader: Reader, workflow_id: str, detail: Detail, offset: int) -> str:
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


async def _payload(reader: Reader, workflow_id: str, which: str | None, offset: int) -> str:
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

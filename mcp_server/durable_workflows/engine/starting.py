"""Starting runs: the checks before, and the rows that make a run."""

import json
import time
import uuid
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager

from pydantic import JsonValue

from durable_workflows import wording
from durable_workflows.database import tables
from durable_workflows.engine.published import Published
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import InvalidArguments, UsageError, WorkflowIdTaken
from durable_workflows.models import Started, StartRequest
from durable_workflows.schemas import arguments
from durable_workflows.seam import queued_runs
from durable_workflows.settings import QUEUE


class Starter:
    """Starts runs on the newest version of the code."""

    def __init__(self, rows: Rows, published: Published) -> None:
        self._rows = rows
        self._published = published
        self._moment = 0  # of the last start, in milliseconds since 1970

    async def start_all(
        self, requests: Sequence[StartRequest], *, session: str | None = None
    ) -> list[Started]:
        """As `Engine.start_all`."""
        version = await self._published.newest()
        queues = await self._queue_names() if any(one.queue for one in requests) else ()
        ids: list[str] = []
        rows: dict[str, Mapping[str, JsonValue]] = {}
        for place, request in enumerate(requests):
            with _of_batch(place, len(requests)):
                await self._check(request, version, queues)
                workflow_id = request.workflow_id or str(uuid.uuid4())
                if workflow_id not in rows:
                    rows[workflow_id] = self._row(workflow_id, request, version, session)
                _check_workflow(workflow_id, str(rows[workflow_id]["name"]), request)
                ids.append(workflow_id)
        runs = await self._start_rows(list(rows.values()))
        for place, (workflow_id, request) in enumerate(zip(ids, requests, strict=True)):
            if workflow_id in runs:
                with _of_batch(place, len(requests)):
                    _check_workflow(workflow_id, runs[workflow_id]["name"], request)
        return [_started(runs[one], again=one in ids[:place]) for place, one in enumerate(ids)]

    async def check(self, request: StartRequest) -> None:
        """Check whether a run can be started so; errors as of `Engine.start_all`."""
        queues = await self._queue_names() if request.queue else ()
        await self._check(request, await self._published.newest(), queues)

    async def _check(self, request: StartRequest, version: str, queues: Collection[str]) -> None:
        arguments.check_texts(name=request.name, queue=request.queue)
        arguments.check_size(dict(request.args), "arguments")
        entry = await self._published.entry(request.name, version)
        arguments.check(entry, request.args)
        arguments.check_options(request)
        if request.queue is not None and request.queue not in queues:
            raise InvalidArguments(
                f"There is no queue {request.queue!r}."
                + wording.closest(request.queue, queues)
                + " Nothing was started.",
                hint=f"Use one of {', '.join(queues)}, omit `queue` to use {QUEUE!r}, or register another one in a workflow.",
            )

    async def _queue_names(self) -> list[str]:
        return [row["name"] for row in await self._rows.fetch("queue_names")]

    def _row(
        self, workflow_id: str, request: StartRequest, version: str, session: str | None
    ) -> Mapping[str, JsonValue]:
        # A queue takes up runs in the order of this time, so no two runs have the same.
        self._moment = max(self._moment + 1, time.time_ns() // 1_000_000)
        row = queued_runs.row(
            request.name,
            request.args,
            workflow_id=workflow_id,
            queue=request.queue or QUEUE,
            version=version,
            created_at=self._moment,
            delay_seconds=request.delay_seconds,
            timeout_seconds=request.timeout_seconds,
            priority=request.priority,
            attributes=None if session is None else {"session": session},
        )
        return {**row, "creator_xid": str(uuid.uuid4())}

    async def _start_rows(self, rows: Sequence[Mapping[str, JsonValue]]) -> dict[str, tables.Row]:
        """Start all runs, or none if an id belongs to a run of another workflow; return the runs of these ids, or only those others."""
        found = await self._rows.change("start_runs", runs=json.dumps(rows))
        return {row["workflow_id"]: row for row in found}


def _started(run: tables.Row, *, again: bool) -> Started:
    return Started(
        workflow_id=run["workflow_id"],
        status=run["status"],
        version=run["version"],
        existing=run["existing"] or again,
    )


def _check_workflow(workflow_id: str, name: str, request: StartRequest) -> None:
    if name != request.name:
        raise WorkflowIdTaken(
            f"{workflow_id!r} is the id of a run of {name}, not of {request.name}."
        )


@contextmanager
def _of_batch(place: int, requests: int) -> Generator[None]:
    """Add to an error the number of its item in the batch."""
    try:
        yield
    except UsageError as error:
        if requests == 1:
            raise
        none = " Nothing was started."  # the hint says this of the whole batch
        message = f"batch[{place}]: {error.message.removesuffix(none)}"
        hint = f"{error.hint.removesuffix(none)} Nothing of the batch was started."
        raise type(error)(message, hint=hint) from error

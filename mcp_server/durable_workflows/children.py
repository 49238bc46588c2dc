"""Runs that a workflow starts by their names, as its children: what `fan_out` and `plan` have in common."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NotRequired

from dbos import DBOS, EnqueueOptions, PortableWorkflowError, WorkflowHandleAsync, WorkflowStatus
from pydantic import JsonValue

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

from durable_workflows import catalog, wording
from durable_workflows.models import UNFINISHED, CatalogEntry

# A queue without a limit of its own. In a limited one, runs that wait for others
# could take all places, so that those others never start.
_QUEUE = "children"
_POLLING_SECONDS = 5.0  # beside the worker's doorbell
# How DBOS calls the arguments of its own in which one of a workflow cannot be given by name.
_TAKEN = frozenset({"cls", "options"})

Arguments = dict[str, JsonValue]


class Problem(TypedDict):
    """An error: the name of its class, and its message."""

    name: str
    message: str


class Output(TypedDict):
    """What a run returned. Instead of a long `output` there are its beginning and its length."""

    output: NotRequired[JsonValue]
    output_start: NotRequired[str]
    output_characters: NotRequired[int]


def register_queue() -> None:
    """Make the queue of children, unless it is there. To be called in a step or in a workflow's body."""
    DBOS.register_queue(_QUEUE, polling_interval_sec=_POLLING_SECONDS, on_conflict="never_update")


def entry(name: str, function: Callable[..., Any]) -> CatalogEntry:
    """A workflow as `arguments.check` wants it."""
    schema = catalog.args_schema(function)
    return CatalogEntry(name=name, summary="", args_schema=schema, source="")


async def start(
    workflow: str,
    function: Callable[..., Any],
    workflow_id: str,
    args: Arguments,
    *,
    timeout_seconds: float | None = None,
    delay_seconds: float | None = None,
) -> WorkflowHandleAsync[Any]:
    """Start a run as a child of this one. A replay, also of a fork, gets the run that was started before."""
    options: EnqueueOptions = {
        "workflow_name": workflow,
        "queue_name": _QUEUE,
        "workflow_id": workflow_id,
        # Somebody else's run of that id would be taken for the result.
        "workflow_id_reuse_policy": "reject",
        "app_version": DBOS.application_version,
    }
    if timeout_seconds is not None:
        options["workflow_timeout"] = timeout_seconds
    if delay_seconds is not None:
        options["delay_seconds"] = delay_seconds
    positional, named = _call(function, args)
    return await DBOS.enqueue_workflow_with_options_async(options, *positional, **named)


def ended(workflow_ids: Iterable[str]) -> Iterator[WorkflowStatus]:
    """Those runs that have ended, with their outputs, in the order given: one at a time, since nobody knows how large they are."""
    ids = list(workflow_ids)
    found = DBOS.list_workflows(workflow_ids=ids, load_input=False, load_output=False)
    status = {run.workflow_id: run.status for run in found}
    for workflow_id in ids:
        if status.get(workflow_id, "PENDING") not in UNFINISHED:
            yield from DBOS.list_workflows(workflow_ids=[workflow_id], load_input=False)


def output(run: WorkflowStatus, share: int) -> Output:
    """What a run returned, of a length of at most `share` characters; nothing of one that did not succeed."""
    if run.status != "SUCCESS":
        return {}
    text = json.dumps(run.output, ensure_ascii=False, default=str)
    if len(text) <= share:
        return {"output": run.output}
    return {"output_start": text[:share], "output_characters": len(text)}


def not_ok(run: WorkflowStatus, characters: int) -> Problem | None:
    """What a run says that succeeded, but returned an object with `ok` false, as run_commands does; None for any other."""
    failed = wording.not_ok(run.output)
    if failed is None:
        return None
    message = f"it returned `ok` false{failed and f', failed: {failed}'}"
    return {"name": "NotOk", "message": message[:characters]}


def problem(run: WorkflowStatus, characters: int) -> Problem:
    """Why a run that has ended did not succeed, in a message of at most that length."""
    error = run.error
    if error is None:
        return {"name": run.status, "message": "the run ended without a result"}
    name = error.name if isinstance(error, PortableWorkflowError) else type(error).__name__
    return {"name": name.rpartition(".")[2], "message": str(error)[:characters]}


def _call(function: Callable[..., Any], args: Arguments) -> tuple[tuple[Any, ...], Arguments]:
    """The arguments by position and by name: by name, but for those whose names DBOS itself takes."""
    if not _TAKEN & args.keys():
        return (), args
    bound = inspect.signature(function).bind(**args)
    bound.apply_defaults()
    return bound.args, bound.kwargs

"""Runs that a workflow starts by the names of their workflows, as its children."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NotRequired

from dbos import DBOS, EnqueueOptions, PortableWorkflowError, WorkflowHandleAsync, WorkflowStatus
from pydantic import JsonValue

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

from durable_workflows import tags, wording
from durable_workflows.models import UNFINISHED
from durable_workflows.seam import dbos_calls

# A queue without a limit of its own. In a limited queue, runs that wait for others could take all places, so that those others never start.
QUEUE = "children"
_POLLING_SECONDS = 5.0  # in addition to the worker's doorbell
# DBOS's own argument names. A workflow's argument with one of these names cannot be given by name.
_TAKEN = frozenset({"cls", "options"})

Arguments = dict[str, JsonValue]


class Problem(TypedDict):
    """Why a run did not succeed: the name of an error's class or of a status, and a message."""

    name: str
    message: str


class Returned(TypedDict):
    """The return value of a run: `output`, or its beginning (`output_start`) and its length as JSON (`output_characters`) if it is long.

    Empty for a run that did not succeed.
    """

    output: NotRequired[JsonValue]
    output_start: NotRequired[str]
    output_characters: NotRequired[int]


def register_child_queue() -> None:
    """Make the queue from which `start_child` runs children, unless it exists. It has no limit: children of children cannot block each other.

    Call it before the first `start_child`, from a sync function: in an async workflow that is a step (`DBOS.run_step_async`).
    """
    DBOS.register_queue(QUEUE, polling_interval_sec=_POLLING_SECONDS, on_conflict="never_update")


async def start_child(
    workflow: str,
    function: Callable[..., object],
    workflow_id: str,
    args: Arguments,
    *,
    timeout_seconds: float | None = None,
    delay_seconds: float | None = None,
) -> WorkflowHandleAsync[Any]:
    """Start a run of `workflow` as a child of the run that calls this, and return its handle.

    `function` is the workflow's (see `registered_workflows`), `args` are its arguments by name as JSON. It runs on the same version of the code.
    A child that takes longer than `timeout_seconds` is cancelled; it starts after `delay_seconds`.

    A replay gets the run that was started before, and so does a fork from a later step.

    Raises:
        DBOSWorkflowIDConflictError: a run with this id exists that this run did not start.
    """
    options: EnqueueOptions = {
        "workflow_name": workflow,
        "queue_name": QUEUE,
        "workflow_id": workflow_id,
        # Another run with that id would be taken for the result.
        "workflow_id_reuse_policy": "reject",
        "app_version": DBOS.application_version,
    }
    if timeout_seconds is not None:
        options["workflow_timeout"] = timeout_seconds
    if delay_seconds is not None:
        options["delay_seconds"] = delay_seconds
    positional, named = _call(function, args)
    return await DBOS.enqueue_workflow_with_options_async(options, *positional, **named)


def ended_children(workflow_ids: Iterable[str]) -> Iterator[WorkflowStatus]:
    """The ended runs among these, in the order given, with their outputs or errors. Call it in a step: it reads the database.

    They come one at a time, so that a hundred large outputs are not in memory together.
    """
    ids = list(workflow_ids)
    found = DBOS.list_workflows(workflow_ids=ids, load_input=False, load_output=False)
    status = {run.workflow_id: run.status for run in found}
    for workflow_id in ids:
        if status.get(workflow_id, "PENDING") not in UNFINISHED:
            yield from DBOS.list_workflows(workflow_ids=[workflow_id], load_input=False)


def returned(run: WorkflowStatus, characters: int) -> Returned:
    """The return value of a run, as JSON of at most that many characters."""
    if run.status != "SUCCESS":
        return {}
    text = tags.readable(dbos_calls.recorded_text(run.output))
    if len(text) <= characters:
        return {"output": run.output}
    return {"output_start": text[:characters], "output_characters": len(text)}


def not_ok(run: WorkflowStatus, characters: int) -> Problem | None:
    """The failures of a run that succeeded but returned an object with `ok` false, as `run_commands` does; None for any other run.

    The message has at most that many characters.
    """
    failed = wording.not_ok(run.output)
    if failed is None:
        return None
    message = f"it returned `ok` false{failed and f', failed: {failed}'}"
    return {"name": "NotOk", "message": message[:characters]}


def problem_of(run: WorkflowStatus, characters: int) -> Problem:
    """Why an ended run did not succeed, in a message of at most that many characters."""
    error = run.error
    if error is None:
        return {"name": run.status, "message": "the run ended without a result"}
    name = error.name if isinstance(error, PortableWorkflowError) else type(error).__name__
    return {"name": name.rpartition(".")[2], "message": str(error)[:characters]}


def _call(function: Callable[..., object], args: Arguments) -> tuple[tuple[Any, ...], Arguments]:
    """The call's arguments by position and by name: by name, except those whose names DBOS itself uses."""
    if not _TAKEN & args.keys():
        return (), args
    bound = inspect.signature(function).bind(**args)
    bound.apply_defaults()
    return bound.args, bound.kwargs

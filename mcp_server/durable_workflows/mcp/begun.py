"""The runs that a tool call has begun, and the id of its task. Nothing is stored for a task, so its id names its runs and its call.

The task of the start of one run has the run's workflow_id. Other ids begin with the kind of call and a dot.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from mcp.server.context import HandlerResult
from mcp.types import CallToolRequestParams, CallToolResult
from pydantic import TypeAdapter, ValidationError

from durable_workflows.errors import UnknownWorkflowId
from durable_workflows.mcp.answers import ChangedAnswer, ForkAnswer, StartAnswer
from durable_workflows.models import UNFINISHED
from durable_workflows.wording import short

Kind = Literal["start", "batch", "fork", "resume"]
_KINDS = get_args(Kind)
_LONGEST_ID = 8000  # HTTP has it in a header; a batch of runs with longer ids is not a task
_LONGEST_LIST = 200_000  # of workflow_ids, unpacked
_IDS = TypeAdapter(list[str])


@dataclass(frozen=True)
class Begun:
    """The runs that a call has begun."""

    kind: Kind
    workflow_ids: tuple[str, ...]

    @property
    def task_id(self) -> str:
        """The id of its task, from which `read` rebuilds it in any server of the project."""
        if self.kind == "batch":
            packed = zlib.compress(json.dumps(self.workflow_ids).encode(), 9)
            return f"batch.{base64.urlsafe_b64encode(packed).decode()}"
        [workflow_id] = self.workflow_ids
        is_plain = self.kind == "start" and _kind_of(workflow_id) is None
        return workflow_id if is_plain else f"{self.kind}.{workflow_id}"


def read(task_id: str) -> Begun:
    """The runs and the call of the task with that id; whether such runs exist is not known here.

    Raises:
        UnknownWorkflowId: no task has such an id.
    """
    kind = _kind_of(task_id)
    rest = task_id.partition(".")[2]
    if kind == "batch":
        return Begun(kind, _unpacked(rest))
    return Begun(kind, (rest,)) if kind else Begun("start", (task_id,))


def of_call(params: CallToolRequestParams, result: HandlerResult) -> Begun | None:
    """The unfinished work that a call has begun, if that can be a task."""
    if not isinstance(result, CallToolResult) or result.is_error:
        return None
    find = _FINDERS.get(params.name)
    found = find(params.arguments or {}, result.structured_content) if find else None
    return found if found is not None and len(found.task_id) <= _LONGEST_ID else None


def _started(given: Mapping[str, Any], told: object) -> Begun | None:
    answer = StartAnswer.model_validate(told)
    if answer.workflows is None:
        one = answer.workflow_id if answer.status in UNFINISHED else None
        return Begun("start", (one,)) if one is not None else None
    is_whole = len(answer.workflows) == len(_listed(given["batch"]))
    goes_on = any(one.status in UNFINISHED for one in answer.workflows)
    ids = tuple(dict.fromkeys(one.workflow_id for one in answer.workflows))
    return Begun("batch", ids) if is_whole and goes_on else None


def _forked(_given: Mapping[str, Any], told: object) -> Begun:
    return Begun("fork", (ForkAnswer.model_validate(told).workflow_id,))


def _resumed(given: Mapping[str, Any], told: object) -> Begun | None:
    named = _listed(given["workflow_ids"])
    changed = [one for one in ChangedAnswer.model_validate(told).workflows if one.changed]
    is_one = len(named) == 1 and named[0] in [one.workflow_id for one in changed]
    return Begun("resume", (str(named[0]),)) if is_one else None


_FINDERS = {"start_workflow": _started, "fork": _forked, "resume": _resumed}


def _kind_of(task_id: str) -> Kind | None:
    beginning, dot, _ = task_id.partition(".")
    return cast(Kind, beginning) if dot and beginning in _KINDS else None


def _listed(given: object) -> list[object]:
    """A list as given by a caller; some models give its JSON as a text."""
    return json.loads(given) if isinstance(given, str) else cast("list[object]", given)


def _unpacked(packed: str) -> tuple[str, ...]:
    try:
        compressed = base64.b64decode(packed, altchars=b"-_", validate=True)
        text = zlib.decompressobj().decompress(compressed, _LONGEST_LIST)
        ids = _IDS.validate_json(text)
    except (binascii.Error, ValueError, zlib.error, ValidationError) as error:
        raise UnknownWorkflowId(f"There is no task {short(f'batch.{packed}', 100)!r}.") from error
    if not ids:
        raise UnknownWorkflowId("A task of no runs is none.")
    return tuple(ids)

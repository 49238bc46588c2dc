"""The row of a queued run, as dbos's client writes it. `tests/test_starts.py` compares the two.

Since the row is made here, a start needs no dbos in its process.
"""

from collections.abc import Mapping

from pydantic import JsonValue

from durable_workflows import fitting, tags
from durable_workflows.settings import APPLICATION


def recorded_arguments(arguments: Mapping[str, JsonValue]) -> str:
    """The inputs of a run, in the form of `tags.LABEL`: its arguments are JSON, and stand for nothing else."""
    inputs = fitting.recorded_json({"namedArgs": dict(arguments), "positionalArgs": []})
    if not tags.is_tagged(inputs):
        return inputs
    escaped = tags.escaped(dict(arguments))
    return fitting.recorded_json({"namedArgs": escaped, "positionalArgs": []})


def row(
    name: str,
    arguments: Mapping[str, JsonValue],
    *,
    workflow_id: str,
    queue: str,
    version: str,
    created_at: int,
    delay_seconds: float | None = None,
    timeout_seconds: float | None = None,
    priority: int | None = None,
    attributes: Mapping[str, JsonValue] | None = None,
) -> dict[str, JsonValue]:
    """The row of `workflow_status`, with its inputs, for `start_runs`; `created_at` in milliseconds since 1970."""
    due = None if delay_seconds is None else created_at + int(delay_seconds * 1000)
    return {
        "workflow_uuid": workflow_id,
        "name": name,
        "status": "ENQUEUED" if due is None else "DELAYED",
        "queue_name": queue,
        "app_version": version,
        "application_name": APPLICATION,
        "inputs": recorded_arguments(arguments),
        "serialization": tags.LABEL,
        "priority": priority or 0,
        "workflow_timeout_ms": None if timeout_seconds is None else int(timeout_seconds * 1000),
        "delay_until_epoch_ms": due,
        "attributes": None if attributes is None else dict(attributes),
        "created_at": created_at,
    }

"""A workflow file's knowledge of the workflows that are loaded beside it."""

from collections.abc import Callable, Collection, Mapping

from pydantic import JsonValue

from durable_workflows.models import Schema
from durable_workflows.schemas import arguments, described
from durable_workflows.seam import dbos_calls


def registered_workflows() -> Mapping[str, Callable[..., object]]:
    """The workflows of this version of the code, by the names under which they are started.

    Each value is the author's function, without the wrapping of DBOS; a method is bound to its class, or to its only instance.
    While files are being imported, the workflows of later files are missing.
    """
    return dbos_calls.registered_workflows()


def argument_check(
    name: str, function: Callable[..., object], unknown: Collection[str] = ()
) -> Callable[[Mapping[str, JsonValue]], None]:
    """A check of arguments, given by name as JSON, against the type hints of a workflow's function.

    `name` is the name of the workflow in errors. Arguments in `unknown` may have any value. The check is the same as for a start:
    it raises `InvalidArguments`, which names each missing, unknown or wrong argument. Making a check takes milliseconds; keep it for many
    calls.
    """
    entry = described.entry(name, function)
    properties: Schema = entry.args_schema["properties"]
    for argument in properties.keys() & set(unknown):
        properties[argument] = {}
    return lambda args: arguments.check(entry, args)

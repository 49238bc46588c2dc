"""A workflow function's description of itself: its summary, and the JSON schema of its arguments."""

import inspect
from collections.abc import Callable

from durable_workflows import wording
from durable_workflows.models import CatalogEntry, Schema
from durable_workflows.schemas.signatures import Signature


def summary(function: Callable[..., object]) -> str:
    """The first line of a workflow's docstring."""
    return wording.first_line(inspect.getdoc(function))


def args_schema(function: Callable[..., object]) -> Schema:
    """The JSON schema of a workflow's arguments, from its signature and type hints. An argument without a hint takes anything.

    The schema's description is the docstring without its first line.
    """
    signature = Signature(function)
    schemas, definitions = signature.schemas()
    properties: dict[str, Schema] = {}
    required: list[str] = []
    extra: Schema | bool = False
    for name, parameter in signature.parameters.items():
        schema = schemas.get(name, {})
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = schema or True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            if parameter.default is inspect.Parameter.empty:
                required.append(name)
            else:
                schema["default"] = _json_default(parameter.default)
            properties[name] = schema
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    schema["additionalProperties"] = extra
    more = _more_lines(inspect.getdoc(function))
    described: Schema = {"description": more} if more else {}
    return described | schema | ({"$defs": definitions} if definitions else {})


def entry(name: str, function: Callable[..., object]) -> CatalogEntry:
    """A workflow for `arguments.check`; errors call it `name`."""
    return CatalogEntry(name=name, summary="", args_schema=args_schema(function), source="")


def _more_lines(text: str | None) -> str:
    return (text or "").strip().partition("\n")[2].strip()


def _json_default(value: object) -> object:
    """The default of an argument, in a form that a schema can show."""
    plain = value is None or isinstance(value, str | int | float | bool)
    return value if plain else repr(value)

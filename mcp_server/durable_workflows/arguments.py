"""Checks of what a caller asks for, before anything is written; each error names the field and shows what would be right."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator, exceptions
from jsonschema.exceptions import ValidationError
from pydantic import JsonValue

from durable_workflows.errors import InvalidArguments
from durable_workflows.models import CatalogEntry, OpenWait, Schema, StartRequest

_MAX_ID = 256
_MAX_PRIORITY = 2**31 - 1
_SHOWN = 3
_exceptions: Any = exceptions  # their types are in part unknown
_EXAMPLES: dict[str, JsonValue] = {
    "string": "…",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
}


def check(entry: CatalogEntry, args: Mapping[str, JsonValue]) -> None:
    """Check `args` against the schema that the workflow published.

    Raises:
        InvalidArguments: naming each field that is missing, unknown or of the wrong type.
    """
    validator: Any = Draft202012Validator(
        entry.args_schema
    )  # jsonschema's types are in part unknown
    found: Iterable[ValidationError] = validator.iter_errors(dict(args))
    problems = [_problem(error, entry.args_schema) for error in found]
    if problems:
        example = json.dumps(_example(entry.args_schema), ensure_ascii=False)
        raise InvalidArguments(
            f"The arguments of {entry.name} are wrong: {'; '.join(problems[:_SHOWN])}.",
            hint=f"Nothing was started. Arguments look like this: {example}",
        )


def check_message(wait: OpenWait, message: JsonValue) -> None:
    """Check a message against the schema of what waits for it, if it has one.

    Raises:
        InvalidArguments: naming what is wrong, with the prompt and the schema.
    """
    if wait.message_schema is None:
        return
    validator: Any = Draft202012Validator(wait.message_schema)
    found: Iterable[ValidationError] = validator.iter_errors(message)
    problems = [_problem(error, wait.message_schema) for error in found]
    if problems:
        wanted = json.dumps(wait.message_schema, ensure_ascii=False)
        raise InvalidArguments(
            f"The message for {wait.topic!r} does not fit: {'; '.join(problems[:_SHOWN])}.",
            hint=f"Nothing was sent; the run goes on waiting. Its schema is {wanted}",
        )


def check_options(request: StartRequest) -> None:
    """Check what a start has besides its arguments.

    Raises:
        InvalidArguments: naming the option.
    """
    workflow_id = request.workflow_id
    if workflow_id is not None and (not workflow_id.strip() or len(workflow_id) > _MAX_ID):
        raise InvalidArguments(f"workflow_id must have 1 to {_MAX_ID} characters.")
    for name in ("delay_seconds", "timeout_seconds"):
        value = getattr(request, name)
        if value is not None and not value > 0:
            raise InvalidArguments(f"{name} must be greater than 0.")
    if request.priority is not None and not 1 <= request.priority <= _MAX_PRIORITY:
        raise InvalidArguments(f"priority must be from 1 (first) to {_MAX_PRIORITY}.")


def _problem(error: ValidationError, schema: Schema) -> str:
    # Of several schemas that all do not fit, the one that fits best says most.
    error = cast(ValidationError, _exceptions.best_match([error]))
    path = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties" and not path:
        return _unknown_fields(error, schema)
    return f"{path}: {error.message}" if path else error.message


def _unknown_fields(error: ValidationError, schema: Schema) -> str:
    given: Any = error.instance
    known = list(schema["properties"])
    parts: list[str] = []
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            parts.append(
                f"{name!r} is not an argument" + (f" (did you mean {close[0]!r}?)" if close else "")
            )
    return "; ".join(parts)


def _example(schema: Schema) -> dict[str, JsonValue]:
    """An object that has what is required, as a model may copy it."""
    properties: dict[str, Schema] = schema.get("properties", {})
    names: list[str] = schema.get("required", []) or list(properties)[:1]
    return {name: _EXAMPLES.get(properties[name].get("type", ""), "…") for name in names}

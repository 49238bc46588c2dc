"""Checks requests of callers before anything is written; each error names the field and shows a valid value."""

import difflib
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any, cast
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker, exceptions
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import JsonValue, TypeAdapter

from durable_workflows import fitting
from durable_workflows.errors import InvalidArguments, MessageTooLarge
from durable_workflows.models import CatalogEntry, OpenWait, Schema, StartRequest
from durable_workflows.schemas import validating
from durable_workflows.schemas.schemas import keywords, referred
from durable_workflows.settings import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_LEVELS
from durable_workflows.wording import as_json

_MAX_ID = 256
_MAX_PRIORITY = 2**31 - 1
_MAX_SECONDS = 100 * 365 * 86_400
_SHOWN = 3
_LONGEST_PROBLEM = 400  # characters: the problem quotes the wrong value, which may be a book
_LONGEST_SCHEMA = 2000
_DEEPEST_EXAMPLE = 6  # a schema may refer to itself
_exceptions: Any = exceptions  # the types of these are partly unknown
# Text formats of type hints, as pydantic reads them; jsonschema alone takes any text.
_FORMATS: dict[str, object] = {
    "date-time": datetime,
    "date": date,
    "time": time,
    "duration": timedelta,
    "uuid": UUID,
    "decimal": Decimal,
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
}
_SHORT_TEXT, _SHORT_ARRAY = 1000, 20  # sizes in an example
_FORMAT_EXAMPLES = {
    "date-time": "2026-11-23T12:00:00Z",
    "date": "2026-11-23",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "uuid": "6f1d5c2e-8a8c-4d1e-9b57-2f0d3c4b5a69",
    "decimal": "1.5",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_EXAMPLES: dict[str, JsonValue] = {
    "string": "…",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
}


def check(entry: CatalogEntry, args: Mapping[str, JsonValue]) -> None:
    """Check `args` against the schema that the workflow published.

    Raises:
        InvalidArguments: naming each field that is missing, unknown or of the wrong type.
    """
    wrong = wrong_in(entry.args_schema, dict(args))
    problems = [_problem(error) for error in wrong]
    if problems:
        raise InvalidArguments(
            f"The arguments of {entry.name} are wrong: {'; '.join(problems[:_SHOWN])}. Nothing was started.",
            hint=_right_arguments(entry.args_schema, wrong),
        )


def check_message(wait: OpenWait, message: JsonValue) -> None:
    """Check a message against the schema of the wait that takes it, if it has one.

    Raises:
        InvalidArguments: naming the mistake, with the prompt and the schema.
    """
    if wait.message_schema is None:
        return
    found = wrong_in(wait.message_schema, message)
    problems = [_problem(error) for error in found]
    if problems:
        shown = "Send a message that fits"
        if has_example(wait.message_schema):
            shown = f"Send a message like this: {as_json(example(wait.message_schema))}, which fits"
        raise InvalidArguments(
            f"The message for {wait.topic!r} does not fit: {'; '.join(problems[:_SHOWN])}. Nothing was sent; the run keeps waiting.",
            hint=f"{shown} the schema {_shown_schema(wait.message_schema)}.",
        )


def meant(wait: OpenWait, message: JsonValue) -> JsonValue:
    """The intended message.

    Some clients write all values as texts: if the wait takes no text, but takes the value in the text, it is that value.
    """
    if wait.message_schema is None or not isinstance(message, str):
        return message
    try:
        inside = json.loads(message)
    except (ValueError, RecursionError):
        return message
    schema = wait.message_schema
    return inside if wrong_in(schema, message) and not wrong_in(schema, inside) else message


def usable(schema: object) -> Schema | None:
    """The schema that an author gave a wait. None for an invalid schema: such a wait takes any message, and its workflow decides."""
    return cast("Schema", schema) if _is_schema(json.dumps(schema)) else None


def wrong_in(
    schema: Schema | bool, value: JsonValue, root: Schema | None = None
) -> list[ValidationError]:
    """What is wrong with a value, as far as the schema can be applied here. `root` is the schema that contains this one."""
    return validating.errors_in(schema, value, root=root, formats=_formats())


def first_problem(schema: Schema | bool, value: JsonValue, root: Schema) -> str | None:
    """The first mistake of a value in a part of the root, in a few words; None if it fits."""
    found = wrong_in(schema, value, root)
    return _problem(found[0]) if found else None


def check_options(request: StartRequest) -> None:
    """Check the options of a start, apart from its arguments.

    Raises:
        InvalidArguments: naming the option.
    """
    check_id(request.workflow_id)
    for name in ("delay_seconds", "timeout_seconds"):
        value = getattr(request, name)
        if value is not None and not 0 < value <= _MAX_SECONDS:
            raise _wrong_option(
                f"{name} is {value:g}; it must be greater than 0 and at most {_MAX_SECONDS}",
                name,
                60,
            )
    if request.priority is not None and not 1 <= request.priority <= _MAX_PRIORITY:
        raise _wrong_option(
            f"priority is {request.priority}; it must be from 1 (first) to {_MAX_PRIORITY}",
            "priority",
            1,
        )


def check_id(workflow_id: str | None) -> None:
    """Check the id that a caller gives to a new run, if one is given.

    Raises:
        InvalidArguments: no run can have it.
    """
    if workflow_id is not None and not _is_id(workflow_id):
        raise _wrong_option(
            f"workflow_id must have 1 to {_MAX_ID} characters: not only spaces, and no NUL or lone surrogate",
            "workflow_id",
            "report-2026-11-23",
        )


def check_texts(**texts: str | None) -> None:
    """Check names given by a caller: a topic, a key.

    Raises:
        InvalidArguments: the text of that name cannot be stored.
    """
    for name, text in texts.items():
        if text is not None and not fitting.is_storable(text):
            raise InvalidArguments(
                f"{name} contains a NUL or a lone surrogate, which cannot be stored. Nothing was done.",
                hint=f"Give another {name}.",
            )


def check_size(value: JsonValue, what: str) -> None:
    """Check whether the arguments or a message can be recorded.

    Raises:
        MessageTooLarge: they are too large.
        InvalidArguments: they are too deep, or have a number that is too long.
    """
    if fitting.is_deep(value, MAX_PAYLOAD_LEVELS):
        raise InvalidArguments(
            f"The {what} would be nested more than {MAX_PAYLOAD_LEVELS} levels deep.",
            hint="Pass a flatter value, or its JSON as a string.",
        )
    try:
        size = len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    except ValueError as error:
        raise InvalidArguments(
            f"The {what} cannot be recorded: {error}.",
            hint="Pass long numbers as strings.",
        ) from error
    if size > MAX_PAYLOAD_BYTES:
        raise MessageTooLarge(
            f"The {what} would take {size:,} bytes; the limit is {MAX_PAYLOAD_BYTES:,}."
        )


def example(schema: Schema) -> JsonValue:
    """A value that follows the schema, with the required parts only, for a model to copy. `has_example` says whether it is valid."""
    return _example(schema, schema, 0)


def has_example(schema: Schema) -> bool:
    """Whether `example` gives a value that fits. For a pattern, for example, none can be made."""
    return _fits_its_example(json.dumps(schema))


# A check takes milliseconds, and all waits of one workflow have the same schema.
@functools.lru_cache(maxsize=256)
def _is_schema(text: str) -> bool:
    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)  # pyright: ignore[reportUnknownMemberType]
    except (SchemaError, RecursionError):
        return False
    return isinstance(schema, dict)


@functools.lru_cache(maxsize=256)
def _fits_its_example(text: str) -> bool:
    schema = json.loads(text)
    return not wrong_in(schema, example(schema))


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    for name, kind in _FORMATS.items():
        checker.checks(name, raises=ValueError)(_reader(kind))
    return checker


def _reader(kind: Any) -> Callable[[object], bool]:
    """A function that raises a ValueError for a text that is not of that kind."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def read(value: object) -> bool:
        if isinstance(value, str):
            adapter.validate_python(value)
        return True

    return read


def _right_arguments(schema: Schema, wrong: Iterable[ValidationError]) -> str:
    """An example that also shows the wrong arguments; the schema if no example can be made."""
    names = [str(error.absolute_path[0]) for error in wrong if error.absolute_path]
    required = [*schema.get("required", []), *names]
    shown = schema | {"required": list(dict.fromkeys(required))}
    if not has_example(shown):
        return f"Follow the schema of its arguments: {_shown_schema(schema)}"
    right = example(shown)
    return f"Pass arguments like this: {as_json(right)}" if right else "Pass no arguments."


def _shown_schema(schema: Schema) -> str:
    return _middle_cut(as_json(schema), _LONGEST_SCHEMA)


def _is_id(text: str) -> bool:
    return bool(text.strip()) and len(text) <= _MAX_ID and fitting.is_storable(text)


def _wrong_option(problem: str, name: str, right: JsonValue) -> InvalidArguments:
    return InvalidArguments(
        f"{problem}. Nothing was started.",
        hint=f"Pass for example {as_json({name: right})}, or omit {name}.",
    )


def _problem(error: ValidationError) -> str:
    # Of several schemas that do not fit, the closest one says most.
    error = cast(ValidationError, _exceptions.best_match([error]))
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    path = "".join(parts).removeprefix(".")
    if error.validator == "additionalProperties" and not path:
        return _unknown_fields(error) or error.message
    said = _middle_cut(_message(error), _LONGEST_PROBLEM)
    return f"{path}: {said}" if path else said


def _message(error: ValidationError) -> str:
    """The mistake in words; for several schemas that differ in their types, all types that would do."""
    others = cast("Sequence[ValidationError]", error.context or ())
    kinds = [str(one.validator_value) for one in others if one.validator == "type"]
    if kinds and len(kinds) == len(others):
        return f"{error.instance!r} is not of type {' or '.join(map(repr, kinds))}"
    lacking = [one.message.partition("' is a required")[0] for one in others]
    if others and all(one.validator == "required" for one in others):
        return " or ".join(f"{name}'" for name in lacking) + " must be given"
    return error.message


def _middle_cut(text: str, longest: int) -> str:
    """A text with its beginning, which has the wrong value, and its end, which says what is wrong with the value."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def _unknown_fields(error: ValidationError) -> str:
    given = cast("Mapping[str, JsonValue]", error.instance)
    known: list[str] = list(keywords(error.schema).get("properties", {}))
    parts: list[str] = []
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            parts.append(
                f"{name!r} is not an argument" + (f" (did you mean {close[0]!r}?)" if close else "")
            )
    return "; ".join(parts)


# Examples


def _example(schema: Schema, root: Schema, depth: int) -> JsonValue:
    schema = _concrete(schema, root)
    given = [*schema.get("examples", [])[:1], *schema.get("enum", [])[:1]]
    if "const" in schema:
        return schema["const"]
    if given:
        return given[0]
    if depth > _DEEPEST_EXAMPLE:
        return "…"
    kind = schema.get("type")
    if kind == "object":
        return _example_object(schema, root, depth)
    if kind == "array":
        return _example_array(schema, root, depth)
    if kind in ("integer", "number"):
        return _example_number(schema)
    return _example_text(schema) if kind == "string" else _EXAMPLES.get(str(kind), "…")


def _example_number(schema: Schema) -> JsonValue:
    """The usual example if it is within the bounds, otherwise a number at one of them."""
    step = schema.get("multipleOf", 1)
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    bounds = [schema[name] for name in ("minimum", "maximum") if name in schema]
    above = [low + step] if low is not None else []
    below = [high - step] if high is not None else []
    between = [(low + high) / 2] if low is not None and high is not None else []
    usual = _EXAMPLES[schema["type"]]
    tried: list[JsonValue] = [usual, *bounds, *above, *below, *between, step]
    return next((one for one in tried if not wrong_in(schema, one)), usual)


def _example_text(schema: Schema) -> str:
    if schema.get("format") in _FORMAT_EXAMPLES:
        return _FORMAT_EXAMPLES[schema["format"]]
    if "pattern" in schema:
        return "a1"
    return "…" * min(max(schema.get("minLength", 1), 1), schema.get("maxLength", _SHORT_TEXT))


def _example_array(schema: Schema, root: Schema, depth: int) -> JsonValue:
    first: list[Schema] = schema.get("prefixItems", [])
    shown = [_example(one, root, depth + 1) for one in first]
    number = min(max(schema.get("minItems", 1), 1), schema.get("maxItems", _SHORT_ARRAY))
    missing = 0 if schema.get("items") is False else min(number, _SHORT_ARRAY) - len(shown)
    return shown + [_example(schema.get("items", {}), root, depth + 1)] * missing


def _example_object(schema: Schema, root: Schema, depth: int) -> dict[str, JsonValue]:
    properties: dict[str, Schema] = schema.get("properties", {})
    required: list[str] = schema.get("required", [])
    names = required or list(properties)[:1]
    return {name: _example(properties.get(name, {}), root, depth + 1) for name in names}


def _concrete(schema: Schema, root: Schema) -> Schema:
    """A schema without references and alternatives: the first alternative that is not null."""
    schema = keywords(schema)
    for _ in range(_DEEPEST_EXAMPLE):
        others = [*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])]
        if "$ref" in schema:
            schema = referred(schema, root)
        elif others:
            kinds = [keywords(one) for one in others]
            schema = next((one for one in kinds if one.get("type") != "null"), kinds[0])
    kinds = schema.get("type")
    return schema | {"type": kinds[0]} if isinstance(kinds, list) and kinds else schema

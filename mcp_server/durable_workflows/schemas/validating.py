"""Mistakes of a value by its JSON schema, found in bounded time: a pattern like `^(a|aa)+$` may take days for sixty characters."""

import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, cast

import regex
from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import ValidationError
from pydantic import JsonValue
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from durable_workflows.models import Schema

_SECONDS = 0.5  # for the patterns of one value: nothing else is answered during that time
_UNTIL: ContextVar[float] = ContextVar("until")

Keyword = Iterator[ValidationError]


def errors_in(
    schema: Schema | bool,
    value: JsonValue,
    *,
    root: Schema | bool | None = None,
    formats: FormatChecker | None = None,
) -> list[ValidationError]:
    """The mistakes of a value by a schema, which may be a part of `root`, and by its `formats`. By default no format is checked.

    There are no mistakes if the schema cannot be applied: if it refers to something that it does not have, or to itself without end, or has
    an unreadable pattern, or takes longer than half a second. Another document is never fetched.
    """
    whole = schema if root is None else root
    validator: Any = _Validator(whole, format_checker=formats, registry=EMPTY_REGISTRY)
    until = _UNTIL.set(time.monotonic() + _SECONDS)
    try:
        return list(validator.evolve(schema=schema).iter_errors(value))
    except (Unresolvable, RecursionError, regex.error, TimeoutError):
        return []
    finally:
        _UNTIL.reset(until)


def _matches(pattern: str, text: str) -> bool:
    left = _UNTIL.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return regex.search(pattern, text, timeout=left) is not None


def _pattern(validator: Any, pattern: str, value: JsonValue, _schema: Schema) -> Keyword:
    if validator.is_type(value, "string") and not _matches(pattern, cast(str, value)):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _properties_by_pattern(
    validator: Any, parts: Mapping[str, Schema], value: JsonValue, _schema: Schema
) -> Keyword:
    if not isinstance(value, dict):
        return
    for pattern, part in parts.items():
        for name in value:
            if _matches(pattern, name):
                yield from validator.descend(value[name], part, path=name, schema_path=pattern)


def _other_properties(validator: Any, part: Any, value: JsonValue, schema: Schema) -> Keyword:
    patterns = schema.get("patternProperties", {})
    if isinstance(value, dict) and patterns:
        value = {
            name: one
            for name, one in value.items()
            if not any(_matches(pattern, name) for pattern in patterns)
        }
        schema = {name: one for name, one in schema.items() if name != "patternProperties"}
    yield from _KEYWORDS["additionalProperties"](validator, part, value, schema)


_KEYWORDS: Mapping[str, Any] = cast(Any, Draft202012Validator).VALIDATORS
_Validator: Any = cast(Any, validators).extend(
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _properties_by_pattern,
        "additionalProperties": _other_properties,
    },
)

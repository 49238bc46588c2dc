"""Parts of JSON schemas written by others.

A sub-schema may be `true` or `false`, and a reference may lead to itself, to another document, or to nothing. Nothing here raises because
of that.
"""

import json
import math
from typing import NoReturn, cast
from urllib.parse import unquote

from pydantic import JsonValue

from durable_workflows.models import Schema

_MOST_REFERENCES = 20  # followed one after the other


def keywords(schema: object) -> Schema:
    """The keywords of a sub-schema; `true` and `false` have none."""
    return cast("Schema", schema) if isinstance(schema, dict) else {}


def referred(schema: Schema, root: Schema) -> Schema:
    """The target of a schema's `$ref`, if it is a place in the root; otherwise a schema without keywords."""
    document, _, pointer = str(schema["$ref"]).partition("#")
    if document or (pointer and not pointer.startswith("/")):
        return {}
    found: object = root
    for part in unquote(pointer).split("/")[1:]:
        found = _parts(found).get(part.replace("~1", "/").replace("~0", "~"))
    return keywords(found)


def resolved(schema: Schema | bool, root: Schema) -> tuple[Schema, bool]:
    """A schema with the content of its references, and whether it also allows null.

    It does not contain everything that the schema says in two places at once: check a value against the original schema.
    """
    found, nullable = keywords(schema), False
    for _ in range(_MOST_REFERENCES):
        if "$ref" in found:
            found = {**referred(found, root), **_without(found, "$ref")}
        elif len(found.get("allOf", [])) == 1:
            found = {**keywords(found["allOf"][0]), **_without(found, "allOf")}
        elif len(some := [one for one in found.get("anyOf", []) if one != {"type": "null"}]) == 1:
            nullable = nullable or len(found["anyOf"]) > 1
            found = {**keywords(some[0]), **_without(found, "anyOf")}
        else:
            return found, nullable
    return {"$ref": "#"}, nullable  # a reference to itself without end: only JSON will do


def read_json(text: str) -> JsonValue:
    """The value of a JSON text that a person wrote.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _without(schema: Schema, key: str) -> Schema:
    return {name: value for name, value in schema.items() if name != key}


def _parts(value: object) -> dict[str, object]:
    if isinstance(value, list):
        return {str(place): one for place, one in enumerate(cast("list[object]", value))}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(name: str) -> NoReturn:
    """Refuse NaN, Infinity and 1e999: only Python reads them as JSON."""
    raise ValueError(f"{name} is not a JSON number")

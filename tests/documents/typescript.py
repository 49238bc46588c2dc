"""The TypeScript of what the page and its server exchange: `web/page/src/api.ts`, made of the models. `make docs` writes it, and a test compares."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from durable_workflows import web
from durable_workflows.web import calls
from durable_workflows.web.shapes import ChangesQuery, News, Refusal

FILE = Path(web.__file__).parent / "page" / "src" / "api.ts"
Schema = Mapping[str, Any]

_HEAD = """\
// What the page and its server exchange. Made of the Python models by `make docs`: do not edit.

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };
"""
_SIMPLE = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}


def text() -> str:
    """The file as it should be."""
    given = [call.takes for call in (*calls.GETS, *calls.POSTS)]
    taken = [call.answers for call in (*calls.GETS, *calls.POSTS)]
    asked = _definitions([*given, ChangesQuery], "validation")
    told = _definitions([*taken, News, Refusal], "serialization")
    found = {name: _interface(name, one, one.get("required", ())) for name, one in asked.items()}
    found |= {name: _interface(name, one, one.get("properties", ())) for name, one in told.items()}
    del found["JsonValue"]
    parts = [_HEAD, *(found[name] for name in sorted(found))]
    parts += [
        _table("Queries", "What each GET takes in its query.", _types(calls.GETS, "takes")),
        _table("Gets", "What each GET answers.", _types(calls.GETS, "answers")),
        _table("Posts", "What each POST takes and answers.", _pairs()),
    ]
    return "\n".join(parts)


def _definitions(types: Iterable[Any], mode: Any) -> dict[str, Schema]:
    """The schemas of models by name, also of those inside."""
    inputs = [(place, mode, TypeAdapter(one)) for place, one in enumerate(types)]
    _, found = TypeAdapter.json_schemas(inputs, ref_template="{model}")
    return found.get("$defs", {})


def _types(found: Iterable[calls.Call], which: str) -> Iterator[tuple[str, str]]:
    for call in found:
        yield call.path, _type_of(getattr(call, which), which)


def _pairs() -> Iterator[tuple[str, str]]:
    for call in calls.POSTS:
        pair = _type_of(call.takes, "takes"), _type_of(call.answers, "answers")
        yield call.path, f"[{', '.join(pair)}]"


def _type_of(kind: Any, which: str) -> str:
    """The name of a model, or what a type is made of."""
    mode = "validation" if which == "takes" else "serialization"
    schema = TypeAdapter(kind).json_schema(mode=mode, ref_template="{model}")
    return schema["title"] if "properties" in schema else _typed(schema)


def _table(name: str, said: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"  {path}: {kind};" for path, kind in rows]
    return "\n".join([f"/** {said} */", f"export interface {name} {{", *lines, "}", ""])


def _interface(name: str, schema: Schema, always: Collection[str]) -> str:
    """A model; these of its fields are always there."""
    fields: Schema = schema.get("properties", {})
    if not fields:
        return f"{_comment(schema)}export type {name} = {{ [key: string]: never }};\n"
    lines = [
        f"{_comment(one, '  ')}  {field}{'' if field in always else '?'}: {_typed(one)};"
        for field, one in fields.items()
    ]
    return "\n".join([f"{_comment(schema)}export interface {name} {{", *lines, "}", ""])


def _comment(schema: Schema, indent: str = "") -> str:
    said = " ".join(schema.get("description", "").split()).replace("*/", "*\\/")
    return f"{indent}/** {said} */\n" if said else ""


def _typed(schema: Schema) -> str:
    """The type that a schema describes, as pydantic writes it."""
    if "$ref" in schema:
        return schema["$ref"]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    for kind in ("anyOf", "oneOf", "allOf"):
        if kind in schema:
            return " | ".join(dict.fromkeys(map(_typed, schema[kind])))
    if schema.get("type") == "array":
        item = _typed(schema["items"])
        return f"({item})[]" if " | " in item else f"{item}[]"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties", True)
        return f"{{ [key: string]: {'JsonValue' if inner is True else _typed(inner)} }}"
    return _SIMPLE[schema["type"]] if "type" in schema else "JsonValue"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

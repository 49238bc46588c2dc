"""Asking a person for a value on a terminal, by its JSON schema: a question for each thing, asked again until the answer fits."""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import JsonValue
from referencing.exceptions import Unresolvable

from durable_workflows import fitting, terminal
from durable_workflows.models import Schema

_YES = ("y", "yes", "true")
_NO = ("n", "no", "false")


class _Left:
    """What a person has left out."""


_LEFT = _Left()
_Answer = JsonValue | _Left


class _Choice(NamedTuple):
    """One of the values that a schema allows."""

    value: JsonValue
    label: str


def ask(schema: Schema | None) -> JsonValue:
    """Ask for a value that fits the schema; without one, for any JSON or text."""
    root = schema or {}
    while True:
        value = _ask(root, "Answer", root, required=True)
        problem = _problem(root, value, root)
        if problem is None:
            return cast("JsonValue", value)
        terminal.out(problem)  # what is wrong with the whole, though each part fits


def pick(label: str, options: list[str]) -> int:
    """Ask for one of several things; return its place."""
    choices = [_Choice(place, text) for place, text in enumerate(options)]
    return cast("int", _ask_line(label, _choice_parser(choices), choices=choices))


def _ask(schema: Schema, label: str, root: Schema, *, required: bool) -> _Answer:
    """Ask for what a schema describes, in the way that suits it."""
    found, nullable = _resolved(schema, root)
    required = required and not nullable
    choices = _choices(found, root)
    if found.get("type") == "object" and found.get("properties") and not choices:
        answer = _ask_object(found, label, root, required=required)
    else:
        parse, hint = _parser(found, choices)
        answer = _ask_line(
            f"{label}{hint}",
            parse,
            check=lambda value: _problem(found, value, root),
            choices=choices,
            default=found.get("default", schema.get("default", _LEFT)),
            required=required,
        )
    return None if nullable and isinstance(answer, _Left) else answer


def _ask_object(schema: Schema, label: str, root: Schema, *, required: bool) -> _Answer:
    if not required and not terminal.confirm(f"Give {label}?"):
        return _LEFT
    found: dict[str, JsonValue] = {}
    properties: dict[str, Schema] = schema["properties"]
    for name, part in properties.items():
        needed = name in schema.get("required", [])
        said = part.get("description")
        title = f"{name} ({said})" if said else name
        answer = _ask(part, title, root, required=needed)
        if not isinstance(answer, _Left):
            found[name] = answer
    return found


def _ask_line(
    label: str,
    parse: Callable[[str], JsonValue],
    *,
    check: Callable[[JsonValue], str | None] = lambda _value: None,
    choices: list[_Choice] | None = None,
    default: Any = _LEFT,
    required: bool = True,
) -> _Answer:
    """Ask until there is an answer that fits. An empty line is the default, or leaves the thing out."""
    for place, choice in enumerate(choices or [], 1):
        terminal.out(f"  {place}  {fitting.shown_line(choice.label)}")
    if not isinstance(default, _Left):
        label = f"{label} [{'none' if default is None else _text(default)}]"
    elif not required:
        label = f"{label} (empty: leave it out)"
    while True:
        text = terminal.ask(label).strip()
        if not text and (not required or not isinstance(default, _Left)):
            return default
        try:
            value = parse(text)
        except ValueError as error:
            terminal.out(str(error))
            continue
        problem = check(value)
        if problem is None:
            return value
        terminal.out(problem)


# Schemas


def _resolved(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema with what it refers to, and whether it is that or null."""
    found, nullable = schema, False
    while True:
        if "$ref" in found:
            name = str(found["$ref"]).rpartition("/")[2]
            found = {**root.get("$defs", {}).get(name, {}), **_without(found, "$ref")}
        elif len(found.get("allOf", [])) == 1:
            found = {**found["allOf"][0], **_without(found, "allOf")}
        elif len(some := [one for one in found.get("anyOf", []) if one != {"type": "null"}]) == 1:
            nullable = nullable or len(found["anyOf"]) > 1
            found = {**some[0], **_without(found, "anyOf")}
        else:
            return found, nullable


def _without(schema: Schema, key: str) -> Schema:
    return {name: value for name, value in schema.items() if name != key}


def _choices(schema: Schema, root: Schema) -> list[_Choice]:
    """The values of a schema that allows only certain ones."""
    if "const" in schema:
        return [_Choice(schema["const"], str(schema.get("title") or _text(schema["const"])))]
    if "enum" in schema:
        return [_Choice(value, _text(value)) for value in schema["enum"]]
    parts = [_resolved(one, root)[0] for one in schema.get("oneOf", schema.get("anyOf", []))]
    found = [_choices(part, root) for part in parts]
    return [choice for some in found for choice in some] if all(found) else []


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _problem(schema: Schema, value: Any, root: Schema) -> str | None:
    """What is wrong with a value, in a sentence."""
    validator: Any = Draft202012Validator({**schema, "$defs": root.get("$defs", {})})
    errors: Iterable[ValidationError] = validator.iter_errors(value)
    try:
        error = next(iter(errors), None)
    except (Unresolvable, RecursionError):  # the schema is wrong, as in arguments.wrong_in
        return None
    if error is None:
        return None
    path = ".".join(str(part) for part in error.absolute_path)
    return (
        f"That does not fit: {path}: {error.message}."
        if path
        else f"That does not fit: {error.message}."
    )


# What a person types


def _parser(schema: Schema, choices: list[_Choice]) -> tuple[Callable[[str], JsonValue], str]:
    """How a line becomes a value, and what is said about it."""
    if choices:
        return _choice_parser(choices), ""
    match schema.get("type"):
        case "boolean":
            return _yes_or_no, " (y/n)"
        case "integer":
            return _whole_number, " (a whole number)"
        case "number":
            return _number, " (a number)"
        case "string":
            return _some_text, ""
        case None if not schema.keys() - {"title", "description", "default"}:
            return _json_or_text, " (JSON, or a text)"
        case _:
            return _json, " (JSON)"


def _choice_parser(choices: list[_Choice]) -> Callable[[str], JsonValue]:
    def parse(text: str) -> JsonValue:
        for place, choice in enumerate(choices, 1):
            if text == str(place):
                return choice.value
        for choice in choices:
            if text == choice.label:
                return choice.value
        raise ValueError(f"Give a number from 1 to {len(choices)}.")

    return parse


def _yes_or_no(text: str) -> JsonValue:
    if text.lower() not in _YES + _NO:
        raise ValueError("Answer y or n.")
    return text.lower() in _YES


def _whole_number(text: str) -> JsonValue:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError("Give a whole number, like 3.") from error


def _number(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("Give a number, like 3 or 2.5.")
    return value


def _some_text(text: str) -> JsonValue:
    if not text:
        raise ValueError("Give a text.")
    return text


def _json(text: str) -> JsonValue:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"That is not JSON ({error}).") from error


def _json_or_text(text: str) -> JsonValue:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return _some_text(text)


def _refuse(name: str) -> NoReturn:
    """Python reads NaN and Infinity as JSON; nothing else does."""
    raise ValueError(f"{name} is no JSON")

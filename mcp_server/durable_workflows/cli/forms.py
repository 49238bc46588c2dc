"""Asking a person for a value on a terminal, by its JSON schema: a question for each part, repeated until the answer fits."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from durable_workflows import fitting, wording
from durable_workflows.cli import terminal
from durable_workflows.models import Schema
from durable_workflows.schemas import arguments
from durable_workflows.schemas.schemas import keywords, read_json, resolved

_DEEPEST = 6  # a schema may refer to itself
_SCHEMA_SHOWN = 1500
_YES = ("y", "yes", "true")
_NO = ("n", "no", "false")


class _Left:
    """A value that a person has left out."""


_LEFT = _Left()
_Answer = JsonValue | _Left


class _Choice(NamedTuple):
    """One of the values that a schema allows."""

    value: JsonValue
    label: str


def ask(schema: Schema | None) -> JsonValue:
    """Ask for a value that fits the schema; without a schema, for any JSON or text.

    If the answers to the parts make no value that fits, the whole is asked for as JSON: a form cannot express every schema.
    """
    root = schema or {}
    value = _ask(root, "Answer", root, required=True)
    problem = _problem(root, value, root)
    if problem is None:
        return cast("JsonValue", value)
    terminal.out(problem)  # a mistake in the whole, although each part fits
    shown = wording.short(json.dumps(root, ensure_ascii=False), _SCHEMA_SHOWN)
    terminal.out(f"Give the whole answer as JSON. Its schema: {fitting.shown_line(shown)}")
    return cast("JsonValue", _ask_line("Answer (JSON)", _json, check=_check(root, root)))


def pick(label: str, options: list[str]) -> int:
    """Ask for one of several things; return its index."""
    choices = [_Choice(place, text) for place, text in enumerate(options)]
    return cast("int", _ask_line(label, _choice_parser(choices), choices=choices))


def _ask(
    schema: Schema | bool, label: str, root: Schema, *, required: bool, depth: int = 0
) -> _Answer:
    """Ask for a value of the schema, in a suitable way."""
    found, nullable = resolved(schema, root)
    required = required and not nullable
    choices = _choices(found, root)
    if _has_fields(found) and not choices and depth < _DEEPEST:
        answer = _ask_object(found, label, root, required=required, depth=depth)
    else:
        parse, hint = _parser(found, choices)
        answer = _ask_line(
            f"{label}{hint}",
            parse,
            check=_check(schema, root),
            choices=choices,
            default=found.get("default", keywords(schema).get("default", _LEFT)),
            required=required,
        )
    return None if nullable and isinstance(answer, _Left) else answer


def _ask_object(schema: Schema, label: str, root: Schema, *, required: bool, depth: int) -> _Answer:
    if not required and not terminal.confirm(f"Add {label}?"):
        return _LEFT
    found: dict[str, JsonValue] = {}
    properties: dict[str, Schema | bool] = schema["properties"]
    for name, part in properties.items():
        if part is False:  # no value fits it
            continue
        needed = name in schema.get("required", [])
        said = keywords(part).get("description")
        title = f"{name} ({said})" if said else name
        answer = _ask(part, title, root, required=needed, depth=depth + 1)
        if not isinstance(answer, _Left):
            found[name] = answer
    return found


def _ask_line(
    label: str,
    parse: Callable[[str], JsonValue],
    *,
    check: Callable[[JsonValue], str | None] | None = None,
    choices: list[_Choice] | None = None,
    default: Any = _LEFT,
    required: bool = True,
) -> _Answer:
    """Ask until there is an answer that fits. An empty line means the default, or leaves the value out."""
    for place, choice in enumerate(choices or [], 1):
        terminal.out(f"  {place}  {fitting.shown_line(choice.label)}")
    if not isinstance(default, _Left):
        label = f"{label} [{'none' if default is None else _text(default)}]"
    elif not required:
        label = f"{label} (leave empty to omit)"
    while True:
        text = terminal.ask(label).strip()
        if not text and (not required or not isinstance(default, _Left)):
            return default
        try:
            return _read(text, parse, check) if check else parse(text)
        except ValueError as error:
            terminal.out(str(error))


def _read(
    text: str, parse: Callable[[str], JsonValue], check: Callable[[JsonValue], str | None]
) -> JsonValue:
    """The value of a line. It is read as JSON if only that fits.

    Raises:
        ValueError: nothing fits; with the reason for the usual meaning.
    """
    try:
        value = parse(text)
        problem = check(value)
    except ValueError as error:
        value, problem = None, str(error)
    if problem is None:
        return value
    with suppress(ValueError):
        value = read_json(text)
        if check(value) is None:
            return value
    raise ValueError(problem)


# Schemas


def _has_fields(schema: Schema) -> bool:
    """Whether it is an object whose fields can be asked for one by one."""
    properties: Schema = schema.get("properties", {})
    names = {*properties} >= {*schema.get("required", [])}
    return schema.get("type") == "object" and bool(properties) and names


def _choices(schema: Schema, root: Schema, depth: int = 0) -> list[_Choice]:
    """The values of a schema that allows only certain values."""
    if "const" in schema:
        return [_Choice(schema["const"], str(schema.get("title") or _text(schema["const"])))]
    if "enum" in schema:
        return [_Choice(value, _text(value)) for value in schema["enum"]]
    found: list[_Choice] = []
    for one in schema.get("oneOf", schema.get("anyOf", [])) if depth < _DEEPEST else ():
        some = _choices(resolved(one, root)[0], root, depth + 1)
        if not some:
            return []
        found += some
    return found


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check(schema: Schema | bool, root: Schema) -> Callable[[JsonValue], str | None]:
    return lambda value: _problem(schema, value, root)


def _problem(schema: Schema | bool, value: Any, root: Schema) -> str | None:
    """The mistake in a value, in a sentence."""
    found = arguments.first_problem(schema, value, root)
    return None if found is None else f"That does not fit: {found}."


# A person's input


def _parser(schema: Schema, choices: list[_Choice]) -> tuple[Callable[[str], JsonValue], str]:
    """The function that makes a value from a line, and the explanation for the person."""
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
            return _json_or_text, " (JSON or text)"
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
        raise ValueError(f"Enter a number from 1 to {len(choices)}.")

    return parse


def _yes_or_no(text: str) -> JsonValue:
    if text.lower() not in _YES + _NO:
        raise ValueError("Enter y or n.")
    return text.lower() in _YES


def _whole_number(text: str) -> JsonValue:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError("Enter a whole number, such as 3.") from error


def _number(text: str) -> JsonValue:
    try:
        value = read_json(text)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("Enter a number, such as 3 or 2.5.")
    return value


def _some_text(text: str) -> JsonValue:
    if not text:
        raise ValueError("Enter some text.")
    return text


def _json(text: str) -> JsonValue:
    try:
        return read_json(text)
    except ValueError as error:
        raise ValueError(f"That is not JSON ({error}).") from error


def _json_or_text(text: str) -> JsonValue:
    try:
        return read_json(text)
    except ValueError:
        return _some_text(text)

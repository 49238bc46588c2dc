"""Asking a person on a terminal for a value of a given shape."""

import json
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, JsonValue

from .command import terminal

_ASK = """
import json, sys
from durable_workflows.cli import forms
print("got " + json.dumps(forms.ask(json.loads(sys.argv[1]))) + ".")
"""


class Address(BaseModel):
    street: str
    floor: int | None = None


class Order(BaseModel):
    """Most of what a form can have in it."""

    size: Literal["small", "large"]
    paid: bool
    weight: float = Field(gt=0, description="in kilograms")
    count: int = 1
    comment: str | None = None
    address: Address
    tags: list[str] = []


CASES: list[tuple[dict[str, Any] | None, list[tuple[str, str]], JsonValue]] = [
    (None, [("Answer (JSON or text): ", "not yet, sorry")], "not yet, sorry"),
    ({}, [("Answer (JSON or text): ", '{"a": [1]}')], {"a": [1]}),
    (
        {"type": "boolean"},
        [("Answer (y/n): ", "perhaps"), ("Enter y or n.\nAnswer (y/n): ", "Y")],
        True,
    ),
    (
        {"enum": ["left", "right", 3]},
        [
            ("  1  left\n  2  right\n  3  3\nAnswer: ", "4"),
            ("Enter a number from 1 to 3.\nAnswer: ", "3"),
        ],
        3,
    ),
    (
        {"oneOf": [{"const": 1, "title": "first"}, {"const": 2, "title": "second"}]},
        [("  2  second\nAnswer: ", "second")],
        2,
    ),
    (
        {"type": "integer", "minimum": 10},
        [
            ("Answer (a whole number): ", "ten"),
            ("such as 3.", "1.5"),
            ("such as 3.", "9"),
            ("9 is less than the minimum of 10.", "10"),
        ],
        10,
    ),
    (
        {"type": "number"},
        [("(a number): ", "NaN"), ("such as 3 or 2.5.", "true"), ("such as 3 or 2.5.", "1e3")],
        1000.0,
    ),
    ({"type": "string"}, [("Answer: ", ""), ("Enter some text.\nAnswer: ", "42")], "42"),
    (
        {"type": "array", "items": {"type": "integer"}},
        [
            ("Answer (JSON): ", "[1,"),
            ("That is not JSON", '["a"]'),
            ("[0]: 'a' is not of type 'integer'", "[1, 2]"),
        ],
        [1, 2],
    ),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, [("leave empty to omit): ", "")], None),
    (
        Order.model_json_schema(),
        [
            ("  2  large\nsize: ", "2"),
            ("paid (y/n): ", "n"),
            ("weight (in kilograms) (a number): ", "0"),
            ("weight (in kilograms) (a number): ", "2.5"),
            ("count (a whole number) [1]: ", ""),
            ("comment [none]: ", ""),
            ("street: ", "Main Street 1"),
            ("floor (a whole number) [none]: ", "4"),
            ("tags (JSON) [[]]: ", '["x"]'),
        ],
        {
            "size": "large",
            "paid": False,
            "weight": 2.5,
            "count": 1,
            "comment": None,
            "address": {"street": "Main Street 1", "floor": 4},
            "tags": ["x"],
        },
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}},
            "minProperties": 1,
        },
        [
            ("a (leave empty to omit): ", ""),
            ("b (y/n) (leave empty to omit): ", ""),
            ("That does not fit", '{"c": 1, "b": true}'),
        ],
        {"c": 1, "b": True},
    ),
]


@pytest.mark.parametrize(("schema", "dialogue", "value"), CASES)
def test_a_person_is_asked_until_the_answer_fits(
    schema: dict[str, Any] | None,
    dialogue: list[tuple[str, str]],
    value: JsonValue,
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", _ASK, json.dumps(schema)]
    with terminal(command, folder=tmp_path) as person:
        for question, answer in dialogue:
            person.sees(question)
            person.types(answer)
        person.sees(f"got {json.dumps(value)}.")
        assert person.leaves() == 0


def test_an_optional_object_is_only_filled_in_if_the_person_wants_to(tmp_path: Path) -> None:
    class Node(BaseModel):
        name: str
        inner: "Node | None" = None

    command = [sys.executable, "-c", _ASK, json.dumps(Node.model_json_schema())]
    with terminal(command, folder=tmp_path) as person:
        for question, answer in [
            ("name: ", "outer"),
            ("Add inner? [y/N]: ", "y"),
            ("name: ", "inner"),
            ("Add inner? [y/N]: ", ""),
        ]:
            person.sees(question)
            person.types(answer)
        person.sees('got {"name": "outer", "inner": {"name": "inner", "inner": null}}.')

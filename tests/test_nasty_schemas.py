"""Every valid JSON schema can be answered, in a terminal and in a client's form; at worst as JSON."""

import io
import json
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from pydantic import JsonValue
from typer import Abort

from durable_workflows.cli import forms
from durable_workflows.errors import InvalidArguments
from durable_workflows.mcp import elicitation
from durable_workflows.models import CatalogEntry, OpenWait, Schema
from durable_workflows.schemas import arguments
from requirements import proves

SELF: Schema = {"$ref": "#"}
CIRCLE: Schema = {
    "$ref": "#/$defs/a",
    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}},
}
TREE: Schema = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "inner": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}
ENDLESS: Schema = {"type": "object", "properties": {"next": SELF}, "required": ["next"]}

SLOW = "a" * 60 + "!"  # for `^(a|aa)+$`


class Case(NamedTuple):
    """A schema, what a person types, and what is made of it."""

    schema: Schema
    lines: list[str]
    value: JsonValue


CASES = [
    # true and false
    Case({"type": "object", "properties": {"a": True}}, ["[1]"], {"a": [1]}),
    Case({"type": "object", "properties": {"a": False, "b": {"type": "integer"}}}, ["3"], {"b": 3}),
    Case({"type": "object", "properties": {"a": False}}, [], {}),
    Case({"type": "object", "properties": {"a": True}, "required": ["a"]}, ["x"], {"a": "x"}),
    Case({"allOf": [True]}, ["x"], "x"),
    Case({"anyOf": [True, {"type": "null"}]}, ["2"], 2),
    Case({"anyOf": [False, {"type": "string"}]}, ['"x"'], "x"),
    Case({"oneOf": [True, False]}, ["[1]"], [1]),
    Case({"type": "array", "items": False}, ["[1]", "[]"], []),
    Case({"$ref": "#/$defs/a", "$defs": {"a": True}}, ["1"], 1),
    Case({"not": False}, ["1"], 1),
    Case(
        {"type": "object", "properties": {"a": {"anyOf": [True]}}, "required": ["a"]},
        ["1"],
        {"a": 1},
    ),
    # references
    Case(CIRCLE, ["1"], 1),
    Case({"allOf": [SELF]}, ["1"], 1),
    Case({"anyOf": [SELF, {"type": "null"}]}, ["1"], 1),
    Case({"oneOf": [{"const": 1}, SELF]}, ["x", "[2]"], [2]),
    Case(TREE, ["a", "y", "b", ""], {"name": "a", "inner": {"name": "b", "inner": None}}),
    Case(
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}},
        },
        ["1", "x", "2"],
        {"a": 1, "b": 2},
    ),
    Case({"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"}, ["x", "1"], 1),
    Case({"$defs": {"ä": {"type": "integer"}}, "$ref": "#/$defs/%C3%A4"}, ["1"], 1),
    Case({"$ref": "#/allOf/0", "allOf": [{"type": "integer"}, True]}, ["1"], 1),
    Case(
        {"$defs": {"a": {"$anchor": "here", "type": "integer"}}, "$ref": "#here"}, ['"x"', "1"], 1
    ),
    Case({"$ref": "#/nowhere"}, ["1"], 1),
    Case({"$ref": "http://127.0.0.1:1/schema.json"}, ["1"], 1),
    # what a form cannot ask for
    Case({"type": "object", "properties": {"a": True}, "required": ["b"]}, ['{"b": 1}'], {"b": 1}),
    Case(
        {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "patternProperties": {"^x": True},
            "minProperties": 2,
        },
        ["1", '{"a": "1", "x": 1}'],
        {"a": "1", "x": 1},
    ),
    Case(
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "if": {"required": ["a"]},
            "then": {"required": ["b"]},
        },
        ["1", '{"b": 1, "a": 2}'],
        {"b": 1, "a": 2},
    ),
    Case(
        {"type": "object", "properties": {"a": {"default": "x", "type": "integer"}}},
        ["", '{"a": 1}'],
        {"a": 1},
    ),
    Case(
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
            ],
            "properties": {"b": True},
            "required": ["b"],
        },
        ["1", '{"a": 1, "b": 2}'],
        {"a": 1, "b": 2},
    ),
    Case({"type": ["object", "string"], "properties": {"a": True}}, ["x", '"x"'], "x"),
    # texts and numbers
    Case({"type": "string", "maxLength": 0}, ["", '""'], ""),
    Case({"type": "string", "pattern": "^ x$"}, [" x", '" x"'], " x"),
    Case(
        {"type": "string", "format": "uuid", "default": 3},
        ["", '"x"', '"6f9619ff-8b86-4011-b42d-00c04fc964ff"'],
        "6f9619ff-8b86-4011-b42d-00c04fc964ff",
    ),
    Case({"type": "number"}, ["1e999", "NaN", "[" * 3000, "1.5"], 1.5),
    Case({}, ["[1, 1e999]"], "[1, 1e999]"),
    Case({"type": "integer", "multipleOf": 7}, ["1", "14"], 14),
    Case({"type": "null"}, ["x", "null"], None),
    Case({"type": "boolean", "default": "yes"}, ["", "true"], True),
    # choices
    Case({"enum": [True, 1, "1", None, {"a": 1}]}, ["6", "5"], {"a": 1}),
    Case({"enum": ["a", 1], "type": "string"}, ["2", "1"], "a"),
    Case({"const": {"a": [1]}}, ["1"], {"a": [1]}),
    Case({"oneOf": [{"const": 1}, {"enum": [1, 2]}]}, ["1", "3"], 2),
    Case({"type": "object", "properties": {"a": {"enum": []}}}, [""], {}),
    Case(
        {"$ref": "#/$defs/a", "$defs": {"a": {"enum": ["x", "y"]}}, "enum": ["y", "z"]},
        ["2", "y"],
        "y",
    ),
    # words that a client or a newer draft has
    Case(
        {"$dynamicRef": "#here", "$defs": {"a": {"$dynamicAnchor": "here", "type": "integer"}}},
        ['"x"', "1"],
        1,
    ),
    Case({"prefixItems": [True, False], "x-ui": {"properties": 3}}, ["[1]"], [1]),
]
UNANSWERABLE: list[Schema] = [
    {"not": {}},
    {"allOf": [False]},
    {"enum": []},
    {"type": "object", "properties": {"a": False}, "required": ["a"]},
    ENDLESS,
    {"type": "object", "properties": dict.fromkeys("abcd", SELF), "required": [*"abcd"]},
]


def wait_for(schema: Schema) -> OpenWait:
    return OpenWait(
        workflow_id="w",
        step=1,
        topic="t",
        prompt=None,
        message_schema=schema,
        since=datetime.now(UTC),
        deadline=None,
        person_only=True,
    )


Typing = Callable[[list[str]], None]


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Typing:
    """Have a person type lines, and then leave."""

    def typed(lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return typed


@pytest.mark.parametrize(
    "schema", [*(case.schema for case in CASES), *UNANSWERABLE], ids=json.dumps
)
def test_the_schemas_are_valid_ones(schema: Schema) -> None:
    assert arguments.usable(schema) == schema


@proves("person:any-schema")
@pytest.mark.parametrize(("schema", "lines", "value"), CASES, ids=json.dumps)
def test_a_person_can_answer_in_a_terminal(
    schema: Schema, lines: list[str], value: JsonValue, types: Typing
) -> None:
    types(lines)
    assert forms.ask(schema) == value
    assert sys.stdin.read() == ""
    assert arguments.wrong_in(schema, value) == []


@proves("person:any-schema")
@pytest.mark.parametrize("schema", UNANSWERABLE, ids=json.dumps)
def test_what_nothing_fits_is_refused_with_the_reason(
    schema: Schema, types: Typing, capsys: pytest.CaptureFixture[str]
) -> None:
    types(["1", "{}", '{"next": {}}'] * 9)
    with pytest.raises(Abort):
        forms.ask(schema)
    assert "That does not fit: " in capsys.readouterr().out


@proves("person:any-schema")
@pytest.mark.parametrize(("schema", "_lines", "value"), CASES, ids=json.dumps)
def test_a_person_can_answer_in_a_form_of_a_client(
    schema: Schema, _lines: list[str], value: JsonValue
) -> None:
    wait = wait_for(schema)
    fields: dict[str, Schema] = elicitation.form(wait)["properties"]
    kinds = {field["type"] for field in fields.values()}
    assert kinds <= {"string", "integer", "number", "boolean"}
    content = value
    if "answer" in fields:
        as_json = fields["answer"].get("description", "").startswith("As JSON: ")
        content = {"answer": json.dumps(value) if as_json else value}
    assert elicitation.value(wait, content) == value
    arguments.check_message(wait, value)


@pytest.mark.parametrize(
    "schema", [*(case.schema for case in CASES), *UNANSWERABLE], ids=json.dumps
)
@pytest.mark.parametrize("wrong", [{"zzz": 1}, [[]], 1.5], ids=json.dumps)
def test_a_message_is_taken_or_refused_with_the_reason(schema: Schema, wrong: JsonValue) -> None:
    wait = wait_for(schema)
    if arguments.wrong_in(schema, wrong):
        with pytest.raises(InvalidArguments, match="does not fit: "):
            arguments.check_message(wait, wrong)
    else:
        arguments.check_message(wait, wrong)


@pytest.mark.parametrize("pattern", ["(", "^(a|aa)+$"])
def test_arguments_with_a_pattern_that_cannot_be_applied_are_left_to_the_worker(
    pattern: str,
) -> None:
    schema: Schema = {"type": "object", "properties": {"a": {"pattern": pattern}}}
    entry = CatalogEntry(name="flow", summary="", args_schema=schema, source="flow.py")
    arguments.check(entry, {"a": SLOW})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": r"^\p{Lu}$"}, "ä"),
        ({"items": {"pattern": "^a"}}, ["a", "b"]),
        ({"patternProperties": {"^a": {"type": "string"}}}, {"b": 1, "ab": 1}),
        ({"patternProperties": {"^a": True}, "additionalProperties": False}, {"ab": 1, "b": 1}),
        ({"patternProperties": {"^a": True}, "additionalProperties": {"type": "null"}}, {"b": 1}),
    ],
    ids=json.dumps,
)
def test_what_does_not_match_a_pattern_is_wrong(schema: Schema, value: JsonValue) -> None:
    assert len(arguments.wrong_in(schema, value)) == 1


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a|aa)+$"}, SLOW),
        ({"items": {"pattern": "^(a|aa)+$"}}, [SLOW] * 1000),
        ({"patternProperties": {"^(a|aa)+$": True}}, {SLOW: 1}),
        (
            {"patternProperties": {"^(a|aa)+$": True}, "additionalProperties": False},
            {SLOW: 1},
        ),
    ],
    ids=["text", "texts", "names", "other names"],
)
def test_a_pattern_that_takes_for_ever_holds_up_nobody(schema: Schema, value: JsonValue) -> None:
    """This is not a benchmark: without a limit, each would take longer than the age of the universe."""
    assert arguments.wrong_in(schema, value) == []


def test_another_document_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        host, port = server.getsockname()
        assert arguments.wrong_in({"$ref": f"http://{host}:{port}/schema.json"}, 1) == []
        with pytest.raises(BlockingIOError):
            server.accept()

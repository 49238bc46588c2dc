"""Values of others are made fit for where they go, whatever they are."""

import json
import math
import re
import sys
import unicodedata
from decimal import Decimal
from typing import Any

from mcp.types import CallToolResult
from pydantic import JsonValue

from durable_workflows import fitting
from nasty import NUMBERS, SHAPES, TEXTS, VALUES, each, nested

_SEEN_NUMBER_SIGNS = (
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd"
)


def strictly(text: str) -> Any:
    """JSON as others than Python read it."""

    def refused(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refused)


@each(TEXTS)
def test_a_text_for_the_database_has_neither_nul_nor_lone_surrogates(value: str) -> None:
    stored = fitting.text(value)
    assert "\0" not in stored.encode().decode()
    assert len(stored) == len(value)


@each(TEXTS)
def test_of_recorded_json_every_part_can_be_read(value: str) -> None:
    recorded = json.dumps({"name": "Error", "message": value, "more": "x" * 20})
    for end in range(len('{"name": "Error"'), len(recorded)):
        assert fitting.part_of_json(recorded[:end])["name"].startswith("Error")
    assert fitting.part_of_json(recorded)["message"] == re.sub("[\ud800-\udfff]", "\ufffd", value)


def test_a_text_that_reads_as_an_escape_stays() -> None:
    value = r"\ud800 \\ud800 \ud83d\ude00 😀"
    assert fitting.part_of_json(json.dumps(value)) == value
    assert fitting.part_of_json(json.dumps(value, ensure_ascii=False)) == value


@each([*VALUES, {"a": (Decimal("1"), {1: 2}, {3})}, object(), b"\xff"])
def test_a_value_for_jsonb_is_json_without_what_jsonb_refuses(value: object) -> None:
    text = fitting.json_text({"value": value})
    strictly(text)
    assert "\\u0000" not in text
    assert "\\ud8" not in text.replace("\\ud83d\\udc6", "")


def test_what_jsonb_takes_stays_as_it_is() -> None:
    value: JsonValue = {"a": [1, 2.5, True, None, "é 日本"], "b": {}, "c": nested(40)}
    assert fitting.json_value(value) == value
    assert fitting.answer(value) == value


def test_a_value_that_holds_itself_or_cannot_be_described_is_told_all_the_same() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    value: list[object] = [Mute()]
    value.append(value)
    assert fitting.json_value(value) == ["(a Mute)", "… (nested too deeply)"]


@each([*NUMBERS, *SHAPES, *TEXTS])
def test_a_value_for_an_answer_is_json_of_few_levels(value: Any) -> None:
    answer = fitting.answer({"value": value} if value is not SHAPES[2] else value)
    assert not fitting.is_deep(answer)
    sent = CallToolResult(content=[], structured_content={"output": answer}).model_dump_json()
    assert strictly(sent)["structured_content"]["output"] is not None


def test_a_deep_value_is_given_as_its_json_text() -> None:
    assert fitting.answer(nested(200)) == "[" * 200 + "]" * 200
    assert fitting.answer(nested(50)) == nested(50)
    assert fitting.answer([math.inf, -math.inf]) == ["Infinity", "-Infinity"]


def test_no_character_that_acts_on_a_terminal_or_hides_is_shown() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        if hidden and character not in "\n\t" + _SEEN_NUMBER_SIGNS:
            escaped = fitting.shown(character)
            assert escaped.isascii()
            assert escaped.isprintable(), hex(number)


@each(TEXTS)
def test_what_is_shown_in_place_of_a_character_is_its_json(value: str) -> None:
    shown = fitting.shown(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value
    shown.encode()
    assert len(fitting.shown_line(value).splitlines()) <= 1


def test_a_text_without_such_characters_stays_as_it_is() -> None:
    text = "é ü 日本語 [bold] \u05e9\u05dc\u05d5\u05dd ❤\ufe0f\n\tindented"
    assert fitting.shown(text) == text

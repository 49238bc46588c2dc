"""Reading the calls that a text of ours names, as an agent does that takes it to the letter."""

import json
import re
from typing import Any

Call = tuple[str, dict[str, Any]]


def calls(hint: str) -> list[Call]:
    """The calls that a text names. Of arguments that it leaves to the reader (…) there is nothing."""
    return [(found[1], given_in(hint[found.end() :])) for found in re.finditer(r"(\w+)\(", hint)]


def alternatives(hint: str) -> list[list[Call]]:
    """The calls of each way that a text offers."""
    return [calls(one) for one in re.split(r"[,;] or,? ", hint)]


def given_in(text: str) -> dict[str, Any]:
    """The arguments with which a text begins, up to the parenthesis that ends them."""
    arguments: dict[str, Any] = {}
    while named := re.match(r"(?:, )?(\w+)=(?!…)", text):
        value, end = json.JSONDecoder().raw_decode(text[named.end() :])
        arguments[named[1]] = value
        text = text[named.end() + end :]
    assert re.match(r"\)|, (\w+=)?…\)", text), text
    return arguments

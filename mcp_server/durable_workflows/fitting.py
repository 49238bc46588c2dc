"""Makes foreign values fit for where they go: the database, an answer, or the eyes of a person.

Workflow code, callers, libraries and file names bring texts, numbers and depths that some of these cannot take. Nothing here raises,
whatever the value.
"""

import json
import math
import re
from typing import Any, cast

from pydantic import JsonValue
from pydantic_core import from_json

DEEPEST = 50  # levels: clients give up beyond a hundred or two, and PGlite's process ends somewhere beyond
_MOST_BITS = 4000  # of a whole number: Python refuses to write much longer numbers
# Escapes in JSON: of a backslash, of a surrogate pair, and of a lone surrogate.
_ESCAPES = re.compile(r"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_UNSENDABLE = re.compile("[\ud800-\udfff]")
# Control characters, lone surrogates, and characters that have no width or turn the direction of the text around them. Line feeds and tabs
# are not included, nor are the selectors and joiners of an emoji: U+FE0E and U+FE0F.
_HIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BREAKS = re.compile("[\t\n]")


def text(value: str) -> str:
    """A text that Postgres can store: NUL and lone surrogates are replaced."""
    return _UNSTORABLE.sub(_REPLACED, value)


def json_text(value: object) -> str:
    """A value as JSON that Postgres can store as `jsonb`; see `json_value`."""
    return json.dumps(json_value(value))


def json_value(value: object) -> JsonValue:
    """A value that Postgres can store as `jsonb`.

    What JSON does not have (NaN, Infinity, objects), and what is too deep or too long, becomes text.
    """
    return _fitted(value, ())


def answer(value: JsonValue) -> JsonValue:
    """A value that every client can read.

    NaN and Infinity become texts, lone surrogates are replaced, and parts that are too deep become JSON text.
    """
    if not is_deep(value):
        return _readable(value)
    try:
        return _UNSENDABLE.sub(_REPLACED, json.dumps(value, ensure_ascii=False))
    except (RecursionError, ValueError):  # a number in it may be too long to write
        return json_text(value)


def escaped_surrogates(value: str) -> str:
    """A JSON text with its lone surrogates as escapes.

    Names of files that are not UTF-8 have them, and Postgres takes no text with them.
    """
    return _UNSENDABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", value)


def recorded_json(value: object) -> str:
    """A value that is JSON, as DBOS records it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return escaped_surrogates(text)


def part_of_json(value: str, *, with_cut: bool = True) -> Any:
    """The meaning of a JSON text whose end may be missing; lone surrogates are replaced. `with_cut`: a cut text is a part of it.

    Raises:
        ValueError: the text is not JSON, or it is nested too deeply.
    """
    return from_json(
        _ESCAPES.sub(_without_lone, value), allow_partial="trailing-strings" if with_cut else True
    )


def is_storable(value: str) -> bool:
    """Whether Postgres can store the text as it is."""
    return not _UNSTORABLE.search(value)


def is_deep(value: object, levels: int = DEEPEST) -> bool:
    """Whether a value has more levels than that."""
    level = [value]
    for _ in range(levels):
        level = [part for one in level for part in _parts(one)]
        if not level:
            return False
    return any(_parts(one) or isinstance(one, dict | list) for one in level)


def shown(value: str) -> str:
    """A text that is safe to show to a person or a model, on a terminal or in Markdown. Lines and tabs stay.

    Characters that act on a terminal, hide, or turn the text around are escaped as in JSON.
    """
    return _HIDDEN.sub(_escaped, value.replace("\r\n", "\n"))


def shown_line(value: str) -> str:
    """As `shown`, in one line: line feeds and tabs are also escaped."""
    return _BREAKS.sub(_escaped, shown(value))


def _fitted(value: object, inside: tuple[int, ...]) -> JsonValue:
    """`inside` are the containers around the value: as many as it is deep. The value must not contain any of them."""
    match value:
        case None | bool():
            return value
        case str():
            return text(value)
        case int() | float():
            return _number(value)
        case dict() | list() | tuple():
            return _container(cast("object", value), inside)
        case _:
            return text(_said(value))


def _container(value: Any, inside: tuple[int, ...]) -> JsonValue:
    if len(inside) == DEEPEST or id(value) in inside:
        return "… (nested too deeply)"
    inside = (*inside, id(value))
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {text(_key(key)): _fitted(part, inside) for key, part in items}
    return [_fitted(part, inside) for part in value]


def _key(key: object) -> str:
    return key if isinstance(key, str) else str(_fitted(key, ()))


def _number(value: float) -> JsonValue:
    """A number, or a text for a number that JSON does not have or that no reader can take."""
    if isinstance(value, int):
        bits = value.bit_length()
        return int(value) if bits <= _MOST_BITS else f"(a whole number of {bits} bits)"
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _said(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - code that is not ours: a value that cannot be described must not stop what describes it
        return f"(a {type(value).__name__})"


def _without_lone(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) != len(r"\ud800") else r"\ufffd"


def _readable(value: JsonValue) -> JsonValue:
    """A value that is not deep."""
    match value:
        case str():
            return _UNSENDABLE.sub(_REPLACED, value)
        case None | bool():
            return value
        case int() | float():
            return _number(value)
        case list():
            return [_readable(part) for part in value]
        case dict():
            return {_UNSENDABLE.sub(_REPLACED, key): _readable(part) for key, part in value.items()}


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[object, object]", value).values())
    return list(cast("list[object]", value)) if isinstance(value, list) else []


def _escaped(found: re.Match[str]) -> str:
    """As in JSON: in a call that an answer names, the escape stands for the character."""
    return json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f")

"""The form of recorded values: JSON, in which an object with the key `$type` stands for a value that JSON does not have.

`{"$type": "datetime", "value": "2026-11-28T03:00:00+00:00"}` is a value of a common type, `{"$type": "orders:Order", "value": {…}}` one of a
class in the module `orders` of the workflow files. A dict that has the key `$type` itself, or keys that are not text, is recorded as a list of
its items. Here is what readers need, who have no such classes.
"""

import json
import re
from typing import Any, Final, cast

from pydantic import JsonValue

LABEL: Final = "durable_json"  # in the column `serialization`: of runs, and of values with types
PORTABLE: Final = "portable_json"  # dbos's own format of values as JSON
TAG: Final = "$type"
VALUE: Final = "value"
DICT: Final = "dict"
COLLECTIONS = frozenset(("tuple", "set", "frozenset"))
# Each is recorded by its text.
TEXTS = frozenset(
    (
        "float",
        "Decimal",
        "datetime",
        "date",
        "time",
        "timedelta",
        "UUID",
        "bytes",
        "bytearray",
        "Path",
        "PurePosixPath",
        "PureWindowsPath",
    )
)
_TEXTS = re.compile(
    rf'\{{"\$type":"(?:{"|".join(sorted(TEXTS))})","value":("(?:[^"\\]|\\.)*")[^{{}}\[\]]*?\}}'
)


def label_of(text: str) -> str:
    """The label of a recorded value. Plain JSON has dbos's own, so that its other programs can read it, such as messages to them."""
    return LABEL if is_tagged(text) else PORTABLE


def is_tagged(text: str) -> bool:
    """Whether a recorded value may have such an object in it."""
    return f'"{TAG}"' in text


def readable(text: str) -> str:
    """A recorded value, or its beginning, in which a datetime is its text, and so are all values that are recorded by one."""
    return _TEXTS.sub(r"\1", text) if is_tagged(text) else text


def plain(value: Any) -> JsonValue:
    """The JSON of a recorded value as a reader wants it, who does not need the types: a tuple is a list, a datetime its text."""
    if isinstance(value, list):
        return [plain(part) for part in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    name, content = fields.get(TAG), fields.get(VALUE)
    if name == DICT and isinstance(content, list):
        return _plain_items(cast("list[Any]", content))
    if isinstance(name, str) and VALUE in fields:
        return plain(content)
    return {key: plain(part) for key, part in fields.items()}


def escaped(value: JsonValue) -> JsonValue:
    """JSON as it is recorded: a dict that has the key `$type` stands for no other value."""
    match value:
        case dict() if TAG in value:
            return {TAG: DICT, VALUE: [[key, escaped(part)] for key, part in value.items()]}
        case dict():
            return {key: escaped(part) for key, part in value.items()}
        case list():
            return [escaped(part) for part in value]
        case _:
            return value


def _plain_items(items: list[Any]) -> JsonValue:
    """The items of a dict: an object again, if their keys are text or have one. The last one may be cut."""
    pairs = [(plain(one[0]), plain(one[1])) for one in items if _is_pair(one)]
    if all(isinstance(key, str | int | float | None) for key, _ in pairs):
        return {_key(key): part for key, part in pairs}
    return [[key, part] for key, part in pairs]


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(cast("list[Any]", item)) == 2


def _key(key: JsonValue) -> str:
    return key if isinstance(key, str) else json.dumps(key)

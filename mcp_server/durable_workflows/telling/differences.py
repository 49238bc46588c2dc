"""The places where two JSON values differ."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from durable_workflows import fitting
from durable_workflows.models import Change, Preview

_WIDTH = 200  # characters of a value at a place
_ABSENT = object()


class _Place(NamedTuple):
    path: str
    a: Any
    b: Any


def changes(
    a: Preview | None, b: Preview | None, *, most: int, given: bool = False
) -> list[Change]:
    """The first places where two recorded values differ; none if one is cut, missing, or not JSON.

    `given`: they are the arguments of runs.
    """
    if a is None or b is None or a.cut or b.cut:
        return []
    try:
        one, other = json.loads(a.text), json.loads(b.text)
    except (ValueError, RecursionError):
        return []
    if given and _has_names_only(one) and _has_names_only(other):
        one, other = one["namedArgs"], other["namedArgs"]
    found: list[Change] = []
    for place in _places(one, other):
        if len(found) == most:
            break
        found.append(Change(path=place.path, a=_shown(place.a), b=_shown(place.b)))
    return found


def _has_names_only(value: Any) -> bool:
    """Whether these are arguments, in DBOS's recorded form, that were all given by name."""
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return fields.get("positionalArgs") == [] and "namedArgs" in fields


def _places(a: Any, b: Any) -> Iterator[_Place]:
    """The differing places, in the order of the first value."""
    open_places = [_Place("", a, b)]
    while open_places:
        place = open_places.pop()
        parts = _parts(place)
        if parts is None:
            if not _are_same(place.a, place.b):
                yield place
        else:
            open_places += reversed(parts)


def _parts(place: _Place) -> list[_Place] | None:
    """The places within a place that is an object, or a list, in both values."""
    path, a, b = place
    if isinstance(a, dict) and isinstance(b, dict):
        one, other = cast("dict[str, Any]", a), cast("dict[str, Any]", b)
        return [
            _Place(_member(path, key), one.get(key, _ABSENT), other.get(key, _ABSENT))
            for key in one | other
        ]
    if isinstance(a, list) and isinstance(b, list):
        items, others = cast("list[Any]", a), cast("list[Any]", b)
        pairs = itertools.zip_longest(items, others, fillvalue=_ABSENT)
        return [_Place(f"{path}[{n}]", *pair) for n, pair in enumerate(pairs)]
    return None


def _member(path: str, key: str) -> str:
    if not key.isidentifier():
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def _are_same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)  # in Python true is 1


def _shown(value: Any) -> Preview | None:
    if value is _ABSENT:
        return None
    text = fitting.recorded_json(fitting.answer(value))
    return Preview(text=text[:_WIDTH], length=len(text))

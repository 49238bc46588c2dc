"""Recorded values: Python's values as JSON, and back as they were. See `tags` for the form.

Nothing is pickled. The class of an instance is one of the version's own code, or the value is refused, when it is recorded and when
it is read.
"""

import functools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import NamedTuple, Protocol, cast
from uuid import UUID

from durable_workflows import fitting
from durable_workflows.errors import NotRecordable, NotRestorable
from durable_workflows.seam.common_values import (
    DECODERS,
    ENCODERS,
    SIMPLE_ENCODERS,
    Encode,
    Fields,
    Kind,
    Misfit,
    Value,
    itself,
    tagged,
    written_float,
)
from durable_workflows.seam.instances import FieldsOf, fields_of, restored
from durable_workflows.tags import DICT, TAG, is_tagged

_DEEPEST = 220  # levels: three calls each, of the thousand that Python allows
_PLAIN = frozenset((str, int, bool, type(None)))
_SURROGATE = r"\ud"  # two of them may be read as one character


class Classes(Protocol):
    """The classes of the version's own code."""

    def name_of(self, kind: Kind) -> str | None:
        """The name under which values of the class are recorded; None: it is not in the version's code."""
        ...

    def find(self, name: str) -> type | None:
        """The class with such a name; None: it is not in the version's code."""
        ...


class Recorded(NamedTuple):
    """A value as it is recorded: the text, and the JSON in it."""

    text: str
    encoded: Value


class TypedJson:
    """Writes and reads recorded values with the classes of one version's code."""

    def __init__(self, classes: Classes, *, keeps_tags: bool = False) -> None:
        """`keeps_tags`: dicts with the key `$type` were read as JSON, and are written as they are."""
        self._classes = classes
        self._keeps_tags = keeps_tags
        self._encoders: dict[type, Encode] = {
            str: itself,
            int: itself,
            bool: itself,
            type(None): itself,
            float: written_float,
            list: self._each,
            dict: self._dict,
            tuple: self._collection("tuple"),
            set: self._unordered("set"),
            frozenset: self._unordered("frozenset"),
            **ENCODERS,
        }

    def recorded(self, value: Value) -> Recorded:
        """A value as it is recorded.

        Raises:
            NotRecordable: naming the place in the value.
        """
        try:
            encoded = value if type(value) in _PLAIN else self._encoded(value, 0)
            return Recorded(fitting.recorded_json(encoded), encoded)
        except (Misfit, ValueError, RecursionError) as error:
            raise self._refusal(value, error) from None

    def value(self, text: str) -> Value:
        """A recorded value, as it was.

        Raises:
            NotRestorable: its class is not in the version's code, or has changed.
        """
        return json.loads(text, object_hook=self._decoded) if is_tagged(text) else json.loads(text)

    def read_back(self, recorded: Recorded) -> Value:
        """What `value` gives for the text. Plain JSON needs no reading: it was copied as it was encoded."""
        text, encoded = recorded
        return self.value(text) if is_tagged(text) or _SURROGATE in text else encoded

    # Writing

    def _encoded(self, value: Value, depth: int) -> Value:
        kind = cast("Kind", type(value))
        encode = self._encoders.get(kind)
        if encode is None:
            encode = self._encoders[kind] = self._chosen(kind)
        return encode(value, depth)

    def _each(self, values: Iterable[Value], depth: int) -> list[Value]:
        if depth == _DEEPEST:
            raise _too_deep()
        found: list[Value] = []
        for part in values:
            found.append(part if type(part) in _PLAIN else self._encoded(part, depth + 1))  # noqa: PERF401 - a comprehension is a call more for each level
        return found

    def _dict(self, value: Mapping[Value, Value], depth: int) -> Value:
        if depth == _DEEPEST:
            raise _too_deep()
        if TAG in value and not self._keeps_tags:
            return self._items(value, depth)
        found: dict[str, Value] = {}
        for key, part in value.items():
            if type(key) is not str:
                return self._items(value, depth)
            found[key] = part if type(part) in _PLAIN else self._encoded(part, depth + 1)
        return found

    def _items(self, value: Mapping[Value, Value], depth: int) -> Value:
        return tagged(DICT, [self._each(item, depth + 1) for item in value.items()])

    def _collection(self, name: str) -> Encode:
        return lambda value, depth: tagged(name, self._each(value, depth))

    def _unordered(self, name: str) -> Encode:
        """In an order that does not differ from process to process."""
        return lambda value, depth: tagged(name, sorted(self._each(value, depth), key=json.dumps))

    def _chosen(self, kind: Kind) -> Encode:
        """How values of a class are written that is none of the common ones."""
        name = self._classes.name_of(kind)
        if name is not None and (fields := fields_of(kind)) is not None:
            return functools.partial(self._instance, name, fields)
        if name is not None and issubclass(kind, Enum):
            return lambda value, _depth: tagged(
                name, value.value if isinstance(value, Flag) else value.name
            )
        if issubclass(kind, tuple(SIMPLE_ENCODERS)):
            return SIMPLE_ENCODERS[next(one for one in kind.__mro__ if one in SIMPLE_ENCODERS)]
        if _is_foreign(kind):
            raise Misfit(_foreign(kind))
        for base in (
            list,
            tuple,
            set,
            frozenset,
            bytes,
            bytearray,
            datetime,
            date,
            time,
            timedelta,
            Decimal,
            UUID,
        ):
            if issubclass(kind, base):
                return self._encoders[base]
        if issubclass(kind, Mapping):
            return self._dict
        raise Misfit(f"is of {kind.__name__}")

    def _instance(self, name: str, fields_of: FieldsOf, value: Value, depth: int) -> Value:
        if depth == _DEEPEST:
            raise _too_deep()
        fields, more = fields_of(value)
        beside = {key: self._encoded(part, depth + 1) for key, part in more.items() if part}
        written = {key: self._encoded(part, depth + 1) for key, part in fields.items()}
        return {**tagged(name, written), **beside}

    # Refusing

    def _refusal(self, value: Value, error: Exception) -> NotRecordable:
        said = "has a number that is too long, or too many levels"
        if isinstance(error, Misfit):
            said = str(error)
        if isinstance(error, RecursionError) or (isinstance(error, Misfit) and error.is_deep):
            return NotRecordable(f"The value {said}")
        place, part = self._place_of_misfit(value)
        if isinstance(part, int):
            said = f"is a whole number of more than {sys.get_int_max_str_digits():,} digits"
        return NotRecordable(f"{place} {said}")

    def _place_of_misfit(self, value: Value) -> tuple[str, Value]:
        place, is_found = "value", False
        while not is_found:
            is_found = True
            for where, part in _parts(value):
                if not self._fits(part):
                    place, value, is_found = place + where, part, False
                    break
        return place, value

    def _fits(self, value: Value) -> bool:
        try:
            json.dumps(self._encoded(value, 0))
        except (Misfit, ValueError, RecursionError):
            return False
        return True

    # Reading

    def _decoded(self, found: dict[str, Value]) -> Value:
        name = found.get(TAG)
        if name is None:
            return found
        decode = DECODERS.get(name)
        if decode is not None:
            return decode(found)
        kind = self._classes.find(name)
        if kind is None:
            raise NotRestorable(
                f"The class {name} of a recorded value is not in this version's code."
            )
        return restored(kind, found)


def _is_foreign(kind: Kind) -> bool:
    """Whether instances could be recorded, if the class were in the version's code."""
    return issubclass(kind, Enum) or fields_of(kind) is not None


def _foreign(kind: Kind) -> str:
    if "<locals>" in kind.__qualname__:
        return f"is of {kind.__qualname__}, a class inside a function: define it at the top of its file"
    return f"is of {kind.__module__}.{kind.__qualname__}, which no workflow file defines or imports by name"


def _too_deep() -> Misfit:
    return Misfit(f"has more than {_DEEPEST} levels, or contains itself", is_deep=True)


def _parts(value: Value) -> Iterator[tuple[str, Value]]:
    """The parts of a value with their places."""
    take_apart = fields_of(type(value))
    if take_apart is not None:
        fields, more = take_apart(value)
        yield from ((f".{name}", part) for name, part in fields.items())
        for inside in more.values():
            if isinstance(inside, Mapping):
                yield from ((f".{name}", part) for name, part in cast("Fields", inside).items())
    elif isinstance(value, Mapping):
        for key, part in cast("Mapping[Value, Value]", value).items():
            yield f"'s key {key!r}", key
            yield f"[{key!r}]", part
    elif isinstance(value, list | tuple | set | frozenset):
        for number, part in enumerate(cast("Iterable[Value]", value)):
            yield f"[{number}]", part

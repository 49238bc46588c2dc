"""How values of common types are recorded: by a text, or by their parts."""

import base64
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from durable_workflows.tags import DICT, TAG, VALUE

Value = Any  # of workflow code: of any type
Kind = Any  # a class
Fields = Mapping[str, Value]
Encode = Callable[[Value, int], Value]  # a value, and how many levels are around it
_MICROSECOND = timedelta(microseconds=1)


class Misfit(Exception):
    """A value that cannot be recorded. The message goes on after the value's place; `is_deep`: no place is of use."""

    def __init__(self, said: str, *, is_deep: bool = False) -> None:
        super().__init__(said)
        self.is_deep = is_deep


def tagged(name: str, content: Value) -> dict[str, Value]:
    """The JSON for a value that JSON does not have."""
    return {TAG: name, VALUE: content}


def itself(value: Value, _depth: int) -> Value:
    return value


def written_float(value: float, _depth: int) -> Value:
    return value if math.isfinite(value) else tagged("float", repr(value))


def _datetime(value: datetime, _depth: int) -> Value:
    return _timed("datetime", datetime.isoformat(value), value)


def _time(value: time, _depth: int) -> Value:
    return _timed("time", time.isoformat(value), value)


def _timed(name: str, text: str, value: datetime | time) -> Value:
    found = tagged(name, text)
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        found["zone"] = value.tzinfo.key
    elif value.tzinfo is not None and value.utcoffset() is None:
        raise Misfit(f"is a {name} whose time zone cannot be recorded")
    if value.fold:
        found["fold"] = 1
    return found


def _read_timed(kind: type[datetime] | type[time]) -> Callable[[Fields], Value]:
    def read(found: Fields) -> Value:
        value = kind.fromisoformat(found[VALUE])
        if "zone" in found:
            value = value.replace(tzinfo=ZoneInfo(found["zone"]))
        return value.replace(fold=found.get("fold", 0))

    return read


def _seconds(value: timedelta) -> str:
    """Exact: as a whole number of microseconds, with the point in its place."""
    microseconds = value // _MICROSECOND
    return f"{'-' * (microseconds < 0)}{abs(microseconds) // 10**6}.{abs(microseconds) % 10**6:06}"


def _of_seconds(text: str) -> timedelta:
    return timedelta(microseconds=int(text.replace(".", "")))


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def _texts(name: str, text: Callable[[Value], str]) -> Encode:
    return lambda value, _depth: tagged(name, text(value))


ENCODERS: dict[type, Encode] = {
    Decimal: _texts("Decimal", Decimal.__str__),
    datetime: _datetime,
    date: _texts("date", date.isoformat),
    time: _time,
    timedelta: _texts("timedelta", _seconds),
    UUID: _texts("UUID", UUID.__str__),
    bytes: _texts("bytes", _base64),
    bytearray: _texts("bytearray", _base64),
    type(Path()): _texts("Path", str),
    PurePosixPath: _texts("PurePosixPath", str),
    PureWindowsPath: _texts("PureWindowsPath", str),
}
DECODERS: dict[str, Callable[[Fields], Value]] = {
    "float": lambda found: float(found[VALUE]),
    "Decimal": lambda found: Decimal(found[VALUE]),
    "datetime": _read_timed(datetime),
    "date": lambda found: date.fromisoformat(found[VALUE]),
    "time": _read_timed(time),
    "timedelta": lambda found: _of_seconds(found[VALUE]),
    "UUID": lambda found: UUID(found[VALUE]),
    "bytes": lambda found: base64.b64decode(found[VALUE]),
    "bytearray": lambda found: bytearray(base64.b64decode(found[VALUE])),
    "Path": lambda found: Path(found[VALUE]),
    "PurePosixPath": lambda found: PurePosixPath(found[VALUE]),
    "PureWindowsPath": lambda found: PureWindowsPath(found[VALUE]),
    "tuple": lambda found: tuple(found[VALUE]),
    "set": lambda found: set(found[VALUE]),
    "frozenset": lambda found: frozenset(found[VALUE]),
    DICT: lambda found: dict(found[VALUE]),
}
# What a subclass of these adds is lost, as it is in JSON.
SIMPLE_ENCODERS: dict[type, Encode] = {
    str: lambda value, _depth: str.__str__(value),
    int: lambda value, _depth: int.__index__(value),
    float: lambda value, depth: written_float(float.__float__(value), depth),
}

"""The conditions of a rehearsal: another clock, and no effects outside of steps."""

import ctypes
import datetime
import gc
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from durable_workflows.seam import dbos_calls

T = TypeVar("T", bound=datetime.datetime)
# What changes something elsewhere, by the name of Python's audit event.
_EFFECTS = {
    "socket.connect": "opens a connection",
    "socket.sendto": "sends to the network",
    "subprocess.Popen": "starts a program",
    "os.system": "starts a program",
    "os.exec": "starts a program",
    "os.posix_spawn": "starts a program",
    "os.fork": "starts a process",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
    "os.rmdir": "removes a folder",
    "os.mkdir": "makes a folder",
    "os.truncate": "writes a file",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def forbid_effects(refuse: Callable[[str], NoReturn]) -> None:
    """Call `refuse` instead of what the code of a run would do outside of its steps: to files, programs and the network."""

    def heard(event: str, given: tuple[object, ...]) -> None:
        does = _EFFECTS.get(event)
        if event == "open" and _is_for_writing(given):
            does = "writes a file"
        if does is not None and dbos_calls.current_run() is not None:
            refuse(f"Outside of its steps the code {does}: that would happen on each replay.")

    sys.addaudithook(heard)


def _is_for_writing(given: tuple[object, ...]) -> bool:
    path, mode, flags = given
    if path == os.devnull:
        return False
    return bool(isinstance(flags, int) and flags & _WRITES) or (
        isinstance(mode, str) and not {"w", "a", "x", "+"}.isdisjoint(mode)
    )


def shift_clock(seconds: float) -> None:
    """Let this process see another time, by that many seconds. Call it before workflow files are imported."""
    if not seconds:
        return
    now, now_ns, now_of = time.time, time.time_ns, datetime.datetime.now
    by = datetime.timedelta(seconds=seconds)
    shifted = {"time": lambda: now() + seconds, "time_ns": lambda: now_ns() + int(seconds * 1e9)}
    for name, function in shifted.items():
        setattr(time, name, function)

    def moment(kind: type[T], tz: datetime.tzinfo | None = None) -> T:
        return kind.fromtimestamp((now_of(datetime.UTC) + by).timestamp(), tz)

    def moment_utc(kind: type[T]) -> T:
        return moment(kind, datetime.UTC).replace(tzinfo=None)

    def day(kind: type[datetime.date]) -> datetime.date:
        return kind.fromtimestamp(now() + seconds)

    _put(datetime.datetime, now=moment, today=moment, utcnow=moment_utc)
    _put(datetime.date, today=day)


def _put(kind: type, **methods: Callable[..., object]) -> None:
    """Put class methods into a class of Python's own: a subclass in its place would be another type to `isinstance` and to pydantic."""
    (members,) = gc.get_referents(vars(kind))
    for name, method in methods.items():
        members[name] = classmethod(method)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))

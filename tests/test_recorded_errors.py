"""A recorded error comes back as it was: `except` branches take the same way on a replay as in the first run."""

import asyncio
import builtins
import configparser
import decimal
import errno
import inspect
import json
import pickle
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, cast
from xml.etree import ElementTree

import pytest
from dbos import _error as dbos_error
from dbos._serialization import (
    DBOSPortableJSON,
    PortableWorkflowError,
    exception_to_workflow_error_data,
)
from pydantic import BaseModel, ConfigDict, TypeAdapter, field_validator
from pydantic_core import PydanticCustomError, ValidationError

from durable_workflows.seam.patches import recorded_errors
from durable_workflows.seam.patches.recorded_errors import Recorded
from nasty import TEXTS
from requirements import proves

pytestmark = proves("replay:same-error")

# --- Classes of users and of libraries


class WithKeywords(Exception):
    """As httpx.HTTPStatusError: the constructor wants more than the message."""

    def __init__(self, message: str, *, request: object, status: int) -> None:
        super().__init__(message)
        self.request = request
        self.status = status


class Counted(Exception):
    def __init__(self, first: int, second: int) -> None:
        self.sum = first + second

    def __str__(self) -> str:
        return f"they are {self.sum}"


class ByFormat(Exception):
    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        self.owner = object()

    def __str__(self) -> str:
        return f"{self.code} of {type(self.owner).__name__}"


class Reduced(Exception):
    def __init__(self, *, only: str) -> None:
        super().__init__(f"with {only}")
        self.only = only

    def __reduce__(self) -> NoReturn:
        raise TypeError("not to be pickled")


class Made(Exception):
    second: int

    def __new__(cls, _first: int, *, second: int) -> "Made":
        error = super().__new__(cls, "made")
        error.second = second
        return error

    def __init__(self, _first: int, *, second: int) -> None:
        pass


class Slotted(ValueError):
    __slots__ = ("level",)

    def __init__(self, level: int) -> None:
        super().__init__(f"level {level}")
        self.level = level


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    where: str = "here"


class Guarded(Exception):
    @property
    def code(self) -> int:
        return int(self.args[0])


class Own(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(errno.EACCES, "not for you", path)
        self.hint = "ask"


class Both(KeyError, ConnectionError):
    pass


class Several(ExceptionGroup[Exception]):
    note = "a class of its own"

    def derive(self, excs: Any) -> "Several":
        return Several(self.message, excs)


class Outer:
    class Inner(LookupError):
        pass


class Meta(type):
    def __call__(cls, *arguments: Any) -> NoReturn:
        raise TypeError(f"{cls} is made otherwise than by {arguments}")


class Odd(Exception, metaclass=Meta):
    pass


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Colour(StrEnum):
    RED = "red"


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    number: int
    word: str = "fine"

    @field_validator("word")
    @classmethod
    def check(cls, value: str) -> str:
        if value == "custom":
            raise PydanticCustomError("own_kind", "a {what} of {{one}}", {"what": "word"})
        if value == "bad":
            raise ValueError("a bad word")
        return value


class Secretive(Model):
    model_config = ConfigDict(hide_input_in_errors=True)


def local_class() -> type[Exception]:
    class Local(TimeoutError):
        pass

    return Local


def raised(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is wanted
        return error
    raise AssertionError("nothing was raised")


def noted(error: Exception) -> Exception:
    error.add_note("seen on a Tuesday")
    return error


def with_attributes(error: Exception, **attributes: object) -> Exception:
    vars(error).update(attributes)
    return error


def builtin_errors() -> Iterator[Exception]:
    """Of each builtin class as many as can be made of these arguments."""
    given: list[tuple[Any, ...]] = [
        (),
        ("text",),
        ("text", 5),
        (errno.ENOENT, "No such file", "name", None, "other"),
        ("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ("utf-8", "\xff", 0, 1, "invalid"),
        ("\xff", 0, 1, "invalid"),
        ("invalid syntax", ("file.py", 3, 5, "x = = 1", 3, 6)),
        ("several", [ValueError("a"), ExceptionGroup("inner", [OSError(errno.EIO, "b")])]),
        ((1, ("nested", b"bytes")), {"a": [1.5, None]}, float("inf")),
    ]
    kinds = {kind for kind in vars(builtins).values() if isinstance(kind, type)}
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        if issubclass(kind, Exception):
            for arguments in given:
                try:
                    yield kind(*arguments)
                except (TypeError, ValueError):
                    continue


def errors_of_dbos() -> Iterator[Exception]:
    values = {
        "errors": [ValueError("first"), OSError(errno.ENOENT, "last")],
        "timeout_seconds": 1.5,
    }
    for kind in vars(dbos_error).values():
        if isinstance(kind, type) and issubclass(kind, Exception):
            parameters = inspect.signature(kind).parameters
            yield kind(**{name: values.get(name, "1") for name in parameters})


ERRORS: list[Exception] = [
    *builtin_errors(),
    *errors_of_dbos(),
    *(ValueError(text) for text in TEXTS),
    raised(lambda: Path("/nonexistent/file").read_text(encoding="utf-8")),
    raised(lambda: Path("/nonexistent/a").rename("/nonexistent/b")),
    raised(lambda: vars()["missing"]),
    raised(lambda: vars()[cast("str", Path("missing"))]),
    raised(lambda: b"\xff".decode()),
    raised(lambda: json.loads("{bad")),
    raised(lambda: re.compile("(")),
    raised(lambda: ElementTree.fromstring("<a>")),
    raised(lambda: compile("x = = 1", "file.py", "exec")),
    raised(lambda: decimal.Decimal("many")),
    raised(lambda: sqlite3.connect(":memory:").execute("select from")),
    raised(lambda: socket.getaddrinfo("", None)),
    raised(lambda: int("x")),
    raised(lambda: None.missing),  # type: ignore[attr-defined]
    raised(lambda: __import__("no_such_module")),
    raised(lambda: pickle.loads(b"not")),
    raised(lambda: subprocess.run(["sh", "-c", "echo oops >&2; exit 4"], check=True, capture_output=True, text=True)),
    subprocess.TimeoutExpired([Path("/bin/sleep"), "9"], 0.5, output=b"\xffpart"),
    urllib.error.HTTPError("http://a.example", 404, "Not Found", Message(), None),
    urllib.error.URLError(OSError(errno.ECONNREFUSED, "refused")),
    ssl.SSLError(1, "[SSL] wrong version"),
    asyncio.IncompleteReadError(b"ab", 4),
    asyncio.LimitOverrunError("too far", 7),
    configparser.DuplicateOptionError("section", "option", "file.ini", 5),
    zipfile.BadZipFile("not a zip"),
    StopAsyncIteration(5),
    WithKeywords("failed", request=object(), status=503),
    Counted(2, second=3),
    ByFormat(7),
    Reduced(only="this"),
    Made(1, second=2),
    Slotted(4),
    Frozen(5),
    Guarded("7"),
    Own("/root"),
    Both("one", "two"),
    Several("mine", [ValueError("a"), WithKeywords("b", request=1, status=2)]),
    Outer.Inner("nested"),
    local_class()("soon"),
    noted(ValueError("noted")),
    with_attributes(ValueError("more"), code=5, tags=["a", {"b": (1, 2)}], colour=Colour.RED),
    with_attributes(Guarded("8"), code=9),
    PortableWorkflowError("of another language", "RangeError", 42, {"at": 3}),
]  # fmt: skip
INVALID: list[Exception] = [
    raised(lambda: Model.model_validate({"number": "a"})),
    raised(lambda: Model.model_validate({"number": Path("a"), "word": ["x"]})),
    raised(lambda: Model.model_validate({"number": "a" * 200_000, "word": "bad"})),
    raised(lambda: Model.model_validate({"number": 1, "word": "custom"})),
    raised(lambda: Model.model_validate({"word": "bad"})),
    raised(lambda: Secretive.model_validate({"number": "secret"})),
    raised(lambda: TypeAdapter(Colour).validate_python("blue")),
    raised(lambda: TypeAdapter(decimal.Decimal).validate_python("x")),
]


BY_CLASS: dict[str, list[Exception]] = {}
for _error in [*ERRORS, *INVALID]:
    BY_CLASS.setdefault(type(_error).__name__, []).append(_error)


def recorded(error: Exception) -> Recorded:
    """The database's record of an error."""
    known = exception_to_workflow_error_data(error)
    text = DBOSPortableJSON.serialize(recorded_errors.described(error, {**known}))
    return DBOSPortableJSON.deserialize(text)


def replayed(error: Exception) -> Exception:
    return recorded_errors.made(recorded(error))


def told(error: BaseException) -> list[object]:
    """All that a branch may ask of an error."""
    attributes = [
        getattr(error, name, "none")
        for name in ("errno", "strerror", "filename", "code", "returncode", "pos", "value", "name")
    ]
    return [type(error).__name__, str(error), list(map(str, error.args)), *map(str, attributes)]


@pytest.mark.parametrize("name", BY_CLASS)
def test_a_recorded_error_is_caught_and_read_as_it_was(name: str) -> None:
    for error in BY_CLASS[name]:
        again = replayed(error)
        if "<locals>" not in type(error).__qualname__:
            assert isinstance(again, type(error))
        for kind in type(error).__mro__[1:]:
            assert isinstance(again, kind)
        assert told(again) == told(error)
        assert told(replayed(again)) == told(error)


@pytest.mark.parametrize("name", BY_CLASS)
def test_the_plain_attributes_of_a_recorded_error_come_back(name: str) -> None:
    for error in BY_CLASS[name]:
        again = vars(replayed(error))
        for attribute, value in vars(error).items():
            if isinstance(value, str | int | None):
                assert again[attribute] == value


def test_most_recorded_errors_are_of_their_very_class() -> None:
    assert type(replayed(ValueError("a"))) is ValueError
    assert type(replayed(WithKeywords("a", request=1, status=2))) is WithKeywords
    assert type(replayed(INVALID[0])) is ValidationError
    assert replayed(noted(ValueError("a"))).__notes__ == ["seen on a Tuesday"]


def parts_of(error: Exception) -> tuple[Exception, ...]:
    assert isinstance(error, ExceptionGroup)
    return cast("ExceptionGroup[Exception]", error).exceptions


def test_the_parts_of_a_group_are_errors_again() -> None:
    group = ExceptionGroup("several", [OSError(errno.ENOENT, "a"), ValueError("b"), Own("/c")])
    again = replayed(group)
    parts = parts_of(again)
    assert [told(error) for error in parts] == [told(error) for error in group.exceptions]
    caught: list[BaseException] = []
    try:
        raise replayed(Several("mine", [KeyError("k")]))
    except* KeyError as found:
        caught.append(found)
    assert isinstance(caught[0], Several)


def test_an_error_of_pydantic_still_tells_its_errors() -> None:
    for error in INVALID:
        assert isinstance(error, ValidationError)
        again = replayed(error)
        assert isinstance(again, ValidationError)
        assert [(one["type"], one["loc"], one["msg"]) for one in again.errors()] == [
            (one["type"], one["loc"], one["msg"]) for one in error.errors()
        ]


def test_the_error_of_a_step_that_failed_in_all_attempts_has_those_of_the_attempts() -> None:
    attempts: list[Exception] = [ValueError("first"), OSError(errno.EPIPE, "last")]
    again = replayed(dbos_error.DBOSMaxStepRetriesExceeded("step", 2, attempts))
    assert isinstance(again, dbos_error.DBOSMaxStepRetriesExceeded)
    assert [told(error) for error in again.errors] == [told(error) for error in attempts]
    assert "PipeError: [Errno 32] last" in recorded(again)["traceback"]


def test_an_error_whose_class_is_gone_has_its_name_and_its_bases() -> None:
    for gone in ("no_such_module.Error", f"{__name__}.Gone"):
        again = recorded_errors.made({**recorded(Own("/root")), "name": gone})
        assert type(again).__name__ == gone.rpartition(".")[2]
        assert isinstance(again, OSError)
        assert (again.errno, again.filename) == (errno.EACCES, "/root")
        assert recorded(again)["name"] == gone


def test_an_error_whose_class_was_imported_in_a_step_is_of_that_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_library.py").write_text("class Late(Exception):\n    pass\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    again = recorded_errors.made({**recorded(ValueError("a")), "name": "late_library.Late"})
    assert type(again) is sys.modules["late_library"].Late


def test_an_error_that_cannot_be_made_or_said_is_recorded_and_caught_all_the_same() -> None:
    odd: Exception = Odd.__new__(Odd, "odd")
    for error in (odd, Unspeakable("a")):
        again = replayed(error)
        assert isinstance(again, type(error))
    assert replayed(with_attributes(ValueError("a"), number=10**5000, loop=[0])).args == ("a",)


def test_what_is_too_large_or_not_json_comes_back_as_a_text_that_says_what_it_was() -> None:
    error = with_attributes(ValueError("a"), body="x" * 200_000, at=Path("/there"), kept=1)
    assert {**vars(replayed(error)), "body": ""} == {"body": "", "at": "/there", "kept": 1}
    assert len(json.dumps(recorded(error))) < 10_000
    again = replayed(ValueError("x" * 300_000, 5))
    assert str(again) == str(ValueError("x" * 300_000, 5))
    message = "x" * 300_000
    assert len(json.dumps(recorded(ValueError(message)))) < 310_000


def test_errors_in_each_other_end_somewhere() -> None:
    error = ValueError("a")
    with_attributes(error, errors=[error, error])
    assert str(replayed(error)) == "a"


@pytest.mark.parametrize("name", ["ValueError", "Gone", "json.decoder.JSONDecodeError", "KeyboardInterrupt", "SystemExit"])  # fmt: skip
def test_errors_that_an_older_version_has_recorded_are_read(name: str) -> None:
    old = {"name": name, "message": "said", "code": 5, "data": None, "traceback": "…"}
    again = recorded_errors.made(old)
    assert isinstance(again, PortableWorkflowError)
    assert (type(again).__name__, str(again), again.code) == (name.rpartition(".")[2], "said", 5)
    assert isinstance(again, ValueError) is (
        name not in ("Gone", "KeyboardInterrupt", "SystemExit")
    )

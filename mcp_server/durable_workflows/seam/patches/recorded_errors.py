# pyright: reportPrivateUsage=false
"""Recording an error of a step or a run, and rebuilding it on a replay.

In portable JSON dbos keeps little more of an error than its text. On a replay `except ValueError` would not catch what it caught in the
first run, `error.errno` would be None, and the run would take another path. So its class, its arguments and its attributes, as far as they
are JSON, are recorded beside the text. Nothing is pickled, and no constructor is called: a constructor may need more than is recorded.
"""

import base64
import builtins
import functools
import importlib
import json
import math
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

from dbos import _error as dbos_error
from dbos import _serialization as dbos_serialization
from dbos._serialization import DBOSPortableJSON, PortableWorkflowError
from pydantic import JsonValue
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from durable_workflows import wording
from durable_workflows.seam.patches import replacing

_TRACEBACK = 4000  # characters of an error's traceback that are recorded: its end
_SAID = 1000  # characters of a message in a traceback, or in another message: the complete message is beside it
_MOST = 100_000  # characters of one recorded argument or attribute
_DEEPEST = 12  # levels, of values and of errors in errors
_MOST_BITS = 4000  # of a whole number: Python refuses to write much longer numbers
_THE_MESSAGE = "message"  # in place of the arguments that most errors have: only the message
_MEMBERS = (types.MemberDescriptorType, types.GetSetDescriptorType)

Recorded = dict[str, Any]


class _Seen(str):
    """Stands for a value that could not be recorded, and has the same text."""

    seen: str

    def __repr__(self) -> str:
        return self.seen


def keep_errors_whole() -> None:
    """Record errors with what is needed to rebuild them, and raise recorded errors as what they were."""
    describe = dbos_serialization.exception_to_workflow_error_data
    read = dbos_serialization.deserialize_exception

    def described_whole(err: BaseException) -> Any:
        return described(err, cast("Recorded", describe(err)))

    @functools.wraps(read)
    def made_again(serialized_value: str, serialization: str | None, serializer: Any) -> Any:
        label = serialization or serializer.name()
        if not serialized_value or label != DBOSPortableJSON.name():
            return read(serialized_value, serialization, serializer)
        return made(DBOSPortableJSON.deserialize(serialized_value))

    replacing.replace(dbos_serialization, exception_to_workflow_error_data=described_whole)
    replacing.replace_in_dbos(read, made_again)


def name_last_attempts() -> None:
    """Add the error of the last attempt to the error of a step that failed in all its attempts: dbos keeps nothing of the attempts."""
    scope = dbos_error.DBOSMaxStepRetriesExceeded
    make = scope.__init__

    def initialised(
        error: dbos_error.DBOSMaxStepRetriesExceeded,
        step_name: str,
        max_retries: int,
        errors: list[Exception],
    ) -> None:
        make(error, step_name, max_retries, errors)
        if errors:
            said = f"{_class_name(type(errors[-1]))}: {text_of(errors[-1])}"
            error.message += f"; the last attempt: {wording.line(said, _SAID)}"

    replacing.replace(scope, __init__=initialised)


# --- Recording


def described(error: BaseException, known: Recorded) -> Recorded:
    """The record that dbos makes of an error (`known`), with its traceback and everything needed to rebuild it."""
    whole = {**known, "name": _name(error), "traceback": _traceback_of(error, known["message"])}
    return whole | _makings(error, known["message"], 0)


def _name(error: BaseException) -> str:
    if type(error) is PortableWorkflowError:  # an error of another language, or in that form
        return error.name
    return _class_name(type(error))


def _class_name(kind: type[BaseException]) -> str:
    plain = kind.__module__ in ("builtins", dbos_error.__name__)
    return kind.__name__ if plain else f"{kind.__module__}.{kind.__qualname__}"


def _traceback_of(error: BaseException, message: str) -> str:
    text = _traceback(error)
    if len(message) > _SAID:
        text = text.replace(message, f"{message[:_SAID]}…")
    attempts = getattr(error, "errors", None)
    if isinstance(error, dbos_error.DBOSMaxStepRetriesExceeded) and attempts:
        text += f"\nThe last attempt:\n{_traceback(attempts[-1])}"
    return text[-_TRACEBACK:]


def _traceback(error: BaseException) -> str:
    return wording.traceback_of_project("".join(traceback.format_exception(error)))


def _makings(error: BaseException, message: str, depth: int) -> Recorded:
    """The fields from which `made` rebuilds the error."""
    kind = type(error)
    found: Recorded = {"args": _arguments(error, message, depth)}
    if _class_name(kind) != _name(error):
        found["class"] = _class_name(kind)
    if kind.__module__ != "builtins":
        found["bases"] = [_class_name(one) for one in _exceptions(kind.__mro__[1:])]
    if attributes := dict(_attributes(error, depth)):
        found["attributes"] = attributes
    if isinstance(error, ValidationError):
        found["validation"] = _validation(error, depth)
    return found


def _arguments(error: BaseException, message: str, depth: int) -> JsonValue:
    arguments = error.args
    if len(arguments) == 1 and type(arguments[0]) is str and arguments[0] == message:
        return _THE_MESSAGE
    return [_kept(one, depth) for one in arguments]


def _attributes(error: BaseException, depth: int) -> Iterator[tuple[str, JsonValue]]:
    """The attributes of the instance, and those that its classes store elsewhere: `errno`, `__slots__`."""
    found = dict(vars(error))
    for name in _members(type(error)):
        with suppress(Exception):  # foreign code may run
            found.setdefault(name, getattr(error, name))
    for name, value in found.items():
        yield name, _kept(value, depth)


def _members(kind: type[BaseException]) -> Iterator[str]:
    for one in kind.__mro__:
        for name, member in vars(one).items():
            if isinstance(member, _MEMBERS) and not name.startswith("__") and name != "args":
                yield name


def _exceptions(kinds: tuple[type, ...]) -> list[type[Exception]]:
    return [one for one in kinds if issubclass(one, Exception)]


def _validation(error: ValidationError, depth: int) -> Recorded:
    """Pydantic's error has neither arguments nor attributes, but its own constructor."""
    details = [_details(one, depth) for one in error.errors(include_url=False)]
    return {"title": error.title, "errors": details}


def _details(one: Mapping[str, Any], depth: int) -> JsonValue:
    return {key: _kept(value, depth) for key, value in one.items()}


# Values. A value that JSON does not have becomes an object with one key that names it, and so does every dict.


def _kept(value: Any, depth: int) -> JsonValue:
    """A value. One that cannot be recorded, or is too large, is recorded by its text."""
    kept = _encoded(value, depth)
    return kept if len(json.dumps(kept)) <= _MOST else _seen(value)


def _encoded(value: Any, depth: int) -> JsonValue:
    match value:
        case _Seen():
            return {"seen": [type(value).__name__, str(value), value.seen]}
        case None | bool() | str():
            return value
        case int():
            return value if value.bit_length() <= _MOST_BITS else _seen(value)
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case bytes() | bytearray():
            return {"bytes": base64.b64encode(value).decode()}
        case _:
            return _seen(value) if depth == _DEEPEST else _encoded_parts(value, depth + 1)


def _encoded_parts(value: Any, depth: int) -> JsonValue:
    if isinstance(value, BaseException):
        return {"error": _inner(value, depth)}
    if type(value) in (list, tuple):
        parts: list[JsonValue] = [_encoded(part, depth) for part in value]
        return parts if isinstance(value, list) else {"tuple": parts}
    if type(value) is dict and all(isinstance(key, str) for key in cast("dict[Any, Any]", value)):
        items = cast("dict[str, Any]", value).items()
        return {"dict": {key: _encoded(part, depth) for key, part in items}}
    return _seen(value)


def _seen(value: Any) -> JsonValue:
    return {"seen": [type(value).__name__, _cut(text_of(value)), _cut(text_of(value, repr))]}


def _cut(text: str) -> str:
    """Cut in the middle, as pydantic cuts values that it shows."""
    return text if len(text) <= _SAID else f"{text[: _SAID // 2]}…{text[-_SAID // 2 :]}"


def _inner(error: BaseException, depth: int) -> Recorded:
    message = text_of(error)
    return {"name": _name(error), "message": message, **_makings(error, message, depth)}


def text_of(value: Any, say: Callable[[Any], str] = str) -> str:
    """What a value says of itself, whatever it is."""
    try:
        return say(value)
    except Exception:  # noqa: BLE001 - code that is not ours: what cannot say what it is must not keep an error from being recorded
        return f"<unprintable {type(value).__name__}>"


# --- Rebuilding


def made(recorded: Recorded) -> Exception:
    """The recorded error, rebuilt. If its class is gone or cannot be made, it gets a class with the same name and bases."""
    if "args" not in recorded:  # recorded by an older version, or by another language
        return _portable(recorded)
    for kind in _kinds(recorded):
        with suppress(Exception):  # foreign code: __str__, properties
            error = _instance(kind, recorded)
            if str(error) == recorded["message"] or kind is ValidationError:
                return error
    return _instance(_saying(recorded, [Exception]), recorded)


def _kinds(recorded: Recorded) -> Iterator[type[Exception]]:
    """The class of the error, and its possible substitutes, the best first."""
    kind = _class_of(recorded.get("class", recorded["name"]))
    if kind is not None:
        yield kind
    bases = _exceptions(kind.__mro__[1:]) if kind else _found(recorded.get("bases", []))
    for below in ([kind] if kind else bases, bases):
        with suppress(Exception):  # a class that allows no subclass; foreign code
            yield _saying(recorded, below)


def _portable(recorded: Recorded) -> Exception:
    """An error of which only dbos's record is known: an instance of its own class, if that can be found, and of dbos's portable class."""
    kind = _class_of(recorded["name"])
    bases = (PortableWorkflowError, kind) if kind else (PortableWorkflowError,)
    fields = (recorded["message"], recorded["name"], recorded.get("code"), recorded.get("data"))
    try:
        return type(recorded["name"].rpartition(".")[2], bases, {})(*fields)
    except Exception:  # noqa: BLE001 - a class that cannot be combined, or whose making runs code that is not ours
        return PortableWorkflowError(*fields)


def _instance(kind: type[Exception], recorded: Recorded) -> Exception:
    """An instance with the recorded arguments and attributes. Only the constructor of its builtin base class is called."""
    given = recorded["args"]
    arguments = [recorded["message"]] if given == _THE_MESSAGE else _decoded_all(given)
    if kind is ValidationError:
        error: Exception = _validation_error(recorded)
    else:
        error = _new(kind)(kind, *arguments)
        with suppress(TypeError, ValueError):  # for classes that store them elsewhere
            _builtin(kind).__init__(error, *arguments)
    error.args = tuple(arguments)
    _restore(error, recorded.get("attributes", {}))
    return error


def _builtin(kind: type[Exception]) -> type[Exception]:
    return next(one for one in kind.__mro__ if _is_builtin(one))


def _new(kind: type[Exception]) -> Callable[..., Exception]:
    """The function that makes an instance with the layout of the class, which may have several builtin bases."""
    layout: Any = kind
    while not _is_builtin(layout):
        layout = layout.__base__
    return layout.__new__


def _is_builtin(kind: type) -> bool:
    return getattr(builtins, kind.__name__, None) is kind


def _restore(error: Exception, attributes: Mapping[str, JsonValue]) -> None:
    members = set(_members(type(error)))
    for name, value in attributes.items():
        if name not in members:
            vars(error)[name] = _decoded(value)
            continue
        with suppress(AttributeError, TypeError):  # a read-only one follows from others
            BaseException.__setattr__(error, name, _decoded(value))


def _saying(recorded: Recorded, bases: list[type[Exception]]) -> type[Exception]:
    """A class of the recorded name with the recorded text."""
    module, _, name = recorded.get("class", recorded["name"]).rpartition(".")

    def said(_error: Exception) -> str:
        return recorded["message"]

    fields = {"__str__": said, "__module__": module or "builtins"}
    return type(name, _lowest(bases) or (Exception,), fields)


def _lowest(kinds: list[type[Exception]]) -> tuple[type[Exception], ...]:
    """The classes that are not a base of another."""
    return tuple(
        one
        for one in kinds
        if not any(other is not one and issubclass(other, one) for other in kinds)
    )


def _validation_error(recorded: Recorded) -> ValidationError:
    details = [
        {key: _decoded(value) for key, value in one.items()}
        for one in recorded["validation"]["errors"]
    ]
    title = recorded["validation"]["title"]
    try:
        lines = [_line(one, one["type"]) for one in details]
        error = ValidationError.from_exception_data(title, lines)
    except (KeyError, TypeError):  # a type of error that is not pydantic's own
        lines = [_line(one, _custom(one)) for one in details]
        error = ValidationError.from_exception_data(title, lines)
    if str(error) == recorded["message"]:
        return error
    return ValidationError.from_exception_data(title, lines, hide_input=True)


def _line(one: Recorded, kind: str | PydanticCustomError) -> InitErrorDetails:
    line: InitErrorDetails = {"type": kind, "loc": one["loc"], "input": one["input"]}
    if isinstance(kind, str) and "ctx" in one:
        line["ctx"] = one["ctx"]
    return line


def _custom(one: Recorded) -> PydanticCustomError:
    return PydanticCustomError(one["type"], one["msg"], one.get("ctx"))


def _found(names: list[str]) -> list[type[Exception]]:
    return [kind for name in names if (kind := _class_of(name)) is not None]


def _class_of(name: str) -> type[Exception] | None:
    if "." not in name:
        found: Any = getattr(builtins, name, None) or getattr(dbos_error, name, None)
    else:
        found = _looked_up(name, sys.modules.get) or _looked_up(name, _imported)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _looked_up(name: str, module_of: Callable[[str], types.ModuleType | None]) -> Any:
    """The object with that name. A class may be inside another class, so the end of its module's name is not known."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        found: Any = module_of(".".join(parts[:end]))
        for part in parts[end:]:
            found = getattr(found, part, None)
        if found is not None:
            return found
    return None


def _imported(name: str) -> types.ModuleType | None:
    """A module that the code had imported in a step, which this process has not run."""
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001 - code that is not ours: a module that does not load is one whose classes cannot be had
        return None


def _decoded_all(values: list[JsonValue]) -> list[Any]:
    return [_decoded(value) for value in values]


def _decoded(value: JsonValue) -> Any:
    if isinstance(value, list):
        return _decoded_all(value)
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    return _DECODERS[kind](content)


def _decoded_seen(content: list[str]) -> _Seen:
    kind, said, seen = content
    found = type(kind, (_Seen,), {})(said)
    found.seen = seen
    return found


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "bytes": base64.b64decode,
    "dict": lambda content: {key: _decoded(part) for key, part in content.items()},
    "error": made,
    "float": float,
    "seen": _decoded_seen,
    "tuple": lambda content: tuple(_decoded_all(content)),
}

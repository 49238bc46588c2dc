"""How instances of classes are taken apart and rebuilt: of dataclasses, pydantic models, named tuples and enums.

No constructor is called: an instance gets the fields that it had. A field that its class has got since gets its default.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import Enum, Flag
from typing import cast

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from durable_workflows.errors import NotRestorable
from durable_workflows.seam.common_values import Fields, Kind, Value, itself
from durable_workflows.tags import TAG, VALUE

# An instance's fields, and what else it has by its names in the record.
FieldsOf = Callable[[Value], tuple[Fields, Fields]]
_UNSET, _EXTRA, _PRIVATE = "unset", "extra", "private"


def fields_of(kind: Kind) -> FieldsOf | None:
    """The function that takes an instance of the class apart; None: it is a class that we do not know how to rebuild."""
    if issubclass(kind, BaseException):
        return None
    if issubclass(kind, BaseModel):
        return _of_model
    if _is_named_tuple(kind):
        return lambda value: (dict(zip(value._fields, value, strict=True)), {})
    return _of_dataclass if dataclasses.is_dataclass(kind) else None


def _is_named_tuple(kind: Kind) -> bool:
    return isinstance(getattr(kind, "_fields", None), tuple) and issubclass(kind, tuple)


def _of_model(value: BaseModel) -> tuple[Fields, Fields]:
    known = type(value).model_fields
    fields = {name: part for name, part in vars(value).items() if name in known}
    private = value.__pydantic_private__ or {}
    return fields, {
        _UNSET: sorted(fields.keys() - value.model_fields_set),
        _EXTRA: value.__pydantic_extra__,
        _PRIVATE: {name: part for name, part in private.items() if part is not PydanticUndefined},
    }


def _of_dataclass(value: Value) -> tuple[Fields, Fields]:
    names = [one.name for one in dataclasses.fields(value)]
    fields: dict[str, Value] = {}
    for name in names:
        with suppress(AttributeError):  # one that was never set
            fields[name] = getattr(value, name)
    kind = cast("Kind", type(value))
    private = {
        name: part
        for name, part in getattr(value, "__dict__", {}).items()
        if name not in fields
        and not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    return fields, {_PRIVATE: _lasting(value, private) if private else private}


def _lasting(value: object, private: Fields) -> Fields:
    """What a class keeps of an instance, if its `__getstate__` says so: without handles of this process, for example."""
    state = value.__getstate__()
    if not isinstance(state, dict):
        return private
    return {name: part for name, part in private.items() if name in state}


def restored(kind: Kind, found: Fields) -> Value:
    content = found[VALUE]
    if issubclass(kind, Enum):
        return _member(kind, content)
    if not isinstance(content, dict) or fields_of(kind) is None:
        raise NotRestorable(
            f"The recorded {found[TAG]} is no dataclass, model or enum in this version's code."
        )
    fields = cast("dict[str, Value]", content)
    if issubclass(kind, BaseModel):
        return _model(kind, fields, found)
    if _is_named_tuple(kind):
        names = kind._fields
        defaults = {name: lambda value=value: value for name, value in kind._field_defaults.items()}
        whole = _completed(kind, fields, names, defaults)
        return kind._make([whole[name] for name in names])
    return _dataclass(kind, fields, found.get(_PRIVATE, {}))


def _member(kind: type[Enum], content: Value) -> Value:
    try:
        return kind(content) if issubclass(kind, Flag) else kind[content]
    except (KeyError, ValueError):
        raise NotRestorable(
            f"{content!r} was recorded, which {kind.__name__} does not have any more."
        ) from None


def _model(kind: type[BaseModel], fields: dict[str, Value], found: Fields) -> BaseModel:
    defaults = {
        name: functools.partial(one.get_default, call_default_factory=True, validated_data={})
        for name, one in kind.model_fields.items()
        if not one.is_required()
    }
    value = kind.__new__(kind)
    allows_extra = kind.model_config.get("extra") == "allow"
    has_private = bool(kind.__private_attributes__)
    BaseModel.__setstate__(
        value,
        {
            "__dict__": _completed(kind, fields, kind.model_fields, defaults),
            "__pydantic_extra__": found.get(_EXTRA, {}) if allows_extra else None,
            "__pydantic_fields_set__": fields.keys() - found.get(_UNSET, ()),
            "__pydantic_private__": found.get(_PRIVATE, {}) if has_private else None,
        },
    )
    return value


def _dataclass(kind: Kind, fields: dict[str, Value], private: Fields) -> Value:
    known = {one.name: one for one in dataclasses.fields(kind)}
    defaults: dict[str, Callable[[], Value]] = {}
    for name, one in known.items():
        if one.default_factory is not dataclasses.MISSING:
            defaults[name] = one.default_factory
        elif one.default is not dataclasses.MISSING:
            defaults[name] = functools.partial(itself, one.default, 0)
        elif not one.init:
            defaults[name] = lambda: dataclasses.MISSING
    value = object.__new__(kind)
    for name, part in {**_completed(kind, fields, known, defaults), **private}.items():
        if part is not dataclasses.MISSING:
            object.__setattr__(value, name, part)
    return value


def _completed(
    kind: Kind,
    fields: dict[str, Value],
    known: Iterable[str],
    defaults: Mapping[str, Callable[[], Value]],
) -> dict[str, Value]:
    """The recorded fields, and the defaults of those that the class has got since."""
    names = list(known)
    if gone := sorted(fields.keys() - names):
        raise NotRestorable(
            f"{kind.__name__} was recorded with {', '.join(gone)}, which it does not have any more."
        )
    missing = [name for name in names if name not in fields]
    if needed := [name for name in missing if name not in defaults]:
        raise NotRestorable(
            f"{kind.__name__} was recorded without {', '.join(needed)}, which it needs now."
        )
    return fields | {name: defaults[name]() for name in missing}

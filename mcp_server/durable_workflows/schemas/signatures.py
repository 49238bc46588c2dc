"""The arguments of a workflow: as JSON schemas, as recorded values, and as the objects that the workflow gets.

All three come from one pydantic adapter for each argument, made from its type hint, so they cannot differ. An argument without
a hint, or with a hint that pydantic cannot take, is plain JSON.
"""

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, Optional, cast

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError

from durable_workflows.errors import InvalidArguments
from durable_workflows.models import Schema

Args = tuple[object, ...]
Named = Mapping[str, object]
Change = Callable[[str, TypeAdapter[object], object], object]
_REFERENCES = "#/$defs/{model}"
_PLAIN = (str, int, float, bool, type(None))
_EITHER = Parameter.POSITIONAL_OR_KEYWORD
_SHOWN = 3  # of several mistakes in one argument
_SAYS_NOTHING = (Any, object, JsonValue)


class Untitled(GenerateJsonSchema):
    """Pydantic's schemas without a `title` for each field, which only repeats the name."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def decimal_schema(self, schema: Any) -> Any:
        """Adds a format, since not every text is a number."""
        found: Any = super().decimal_schema(schema)
        for one in found.get("anyOf", []):
            if one["type"] == "string":
                one["format"] = "decimal"
        return found


@dataclass(frozen=True)
class Signature:
    """The arguments of a workflow. Its hints are read at first use: they may name things that a file defines further down."""

    function: Callable[..., object]

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters in order."""
        return inspect.signature(self.function).parameters

    @cached_property
    def adapters(self) -> Mapping[str, TypeAdapter[object]]:
        """The adapters by parameter, without parameters whose hints say nothing or that pydantic cannot take."""
        hints = _hints(self.function)
        made = {
            name: _adapter(hints.get(name, Any), parameter)
            for name, parameter in self.parameters.items()
        }
        return {name: adapter for name, adapter in made.items() if adapter is not None}

    def schemas(self) -> tuple[dict[str, Schema], Schema]:
        """The schema of each parameter that has an adapter, and the definitions to which these schemas refer."""
        schemas, shared = TypeAdapter.json_schemas(
            [(name, "validation", adapter) for name, adapter in self.adapters.items()],
            ref_template=_REFERENCES,
            schema_generator=Untitled,
        )
        return {name: dict(found) for (name, _), found in schemas.items()}, shared.get("$defs", {})

    def recorded(self, args: Args, named: Named) -> tuple[Args, Named]:
        """Arguments as JSON, from which `converted` can rebuild them.

        Raises:
            TypeError: naming an argument that JSON cannot hold.
        """
        return self._each(self._recorded, args, named)

    def converted(self, args: Args, named: Named) -> tuple[Args, Named]:
        """Arguments of the types in the hints. JSON and objects as input give the same result.

        Raises:
            InvalidArguments: naming an argument that does not fit its hint.
        """
        return self._each(self._converted, *self._by_position(args, named))

    def _each(self, change: Change, args: Args, named: Named) -> tuple[Args, Named]:
        positional = _names(self.parameters, Parameter.POSITIONAL_ONLY, _EITHER)
        more = _names(self.parameters, Parameter.VAR_POSITIONAL) * (len(args) - len(positional))
        places = zip([*positional, *more], args, strict=False)
        changed = [self._change(change, name, name, value) for name, value in places]
        by_name = _names(self.parameters, _EITHER, Parameter.KEYWORD_ONLY)
        (rest,) = _names(self.parameters, Parameter.VAR_KEYWORD) or [""]
        return (*changed, *args[len(changed) :]), {
            name: self._change(change, name if name in by_name or not rest else rest, name, value)
            for name, value in named.items()
        }

    def _change(self, change: Change, parameter: str, name: str, value: object) -> object:
        adapter = self.adapters.get(parameter)
        return value if adapter is None else change(name, adapter, value)

    def _recorded(self, name: str, adapter: TypeAdapter[object], value: object) -> JsonValue:
        if _is_json(value):
            return cast("JsonValue", value)
        try:
            return adapter.dump_python(
                value, mode="json", by_alias=True, round_trip=True, warnings=False
            )
        except (PydanticSerializationError, ValueError) as error:
            raise TypeError(
                f"The argument {name!r} of {self.function.__name__} cannot be recorded: {error}"
            ) from error

    def _converted(self, name: str, adapter: TypeAdapter[object], value: object) -> object:
        try:
            return _validated(adapter, self._recorded(name, adapter, value))
        except ValidationError as error:
            raise InvalidArguments(
                f"The argument {name!r} of {self.function.__name__} does not fit: {_problems(error)}.",
                hint="Start a new run with arguments that fit: a fork has the same ones.",
            ) from error

    def _by_position(self, args: Args, named: Named) -> tuple[Args, Named]:
        """With the positional-only parameters in their places: a start gives all arguments by name."""
        names = _names(self.parameters, Parameter.POSITIONAL_ONLY)
        given = [name for name in names[len(args) :] if name in named]
        if not given:
            return args, named
        missing = names[len(args) : names.index(given[-1]) + 1]
        placed = [named.get(name, self.parameters[name].default) for name in missing]
        return (*args, *placed), {
            name: value for name, value in named.items() if name not in missing
        }


def _names(parameters: Mapping[str, Parameter], *kinds: object) -> list[str]:
    return [name for name, parameter in parameters.items() if parameter.kind in kinds]


def _hints(function: Callable[..., object]) -> dict[str, object]:
    """The hints by parameter, without hints that exist for type checkers only."""
    function = inspect.unwrap(function)
    found: dict[str, object] = {}
    for name, annotation in function.__annotations__.items():
        one = SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(one, function.__globals__, include_extras=True)
        except Exception:  # noqa: BLE001 - code that is not ours: a text that may hold any expression
            continue
    return found


def _adapter(hint: Any, parameter: Parameter) -> TypeAdapter[Any] | None:
    if any(hint is one for one in _SAYS_NOTHING):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        if parameter.default is None and not _takes_none(adapter):  # a hint may omit None
            nullable: Any = Optional[hint]  # noqa: UP045 - a hint may be a text
            adapter = TypeAdapter(nullable)
        adapter.json_schema()
    except Exception:  # noqa: BLE001 - code that is not ours: classes may say how pydantic has to take them
        return None
    return adapter


def _takes_none(adapter: TypeAdapter[object]) -> bool:
    try:
        adapter.validate_python(None)
    except ValidationError:
        return False
    return True


def _is_json(value: Any) -> bool:
    """Whether JSON gives the value back unchanged."""
    if _kind(value) is list:
        return all(_is_json(part) for part in value)
    if _kind(value) is dict:
        return all(_kind(name) is str and _is_json(value[name]) for name in value)
    return _kind(value) in _PLAIN


def _kind(value: object) -> type[object]:
    return type(value)


def _validated(adapter: TypeAdapter[object], recorded: JsonValue) -> object:
    try:
        return adapter.validate_json(json.dumps(recorded))
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid":
            raise
    return adapter.validate_python(recorded)  # too deep for pydantic's JSON reader


def _problems(error: ValidationError) -> str:
    """The mistakes, each with its place in the argument."""
    found = error.errors(include_url=False, include_context=False)[:_SHOWN]
    return "; ".join(": ".join([*map(str, one["loc"]), one["msg"]]) for one in found)

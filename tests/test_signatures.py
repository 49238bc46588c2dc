"""Schema, value, record and what the workflow gets say the same of an argument: for many hints, alone and inside of others."""

import enum
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from typing_extensions import TypedDict

from durable_workflows.errors import InvalidArguments
from durable_workflows.models import CatalogEntry
from durable_workflows.schemas import arguments
from durable_workflows.schemas.described import args_schema, entry
from durable_workflows.schemas.signatures import Signature

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Request(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="forbid")

    name: str
    price: Decimal = Decimal("1.10")
    due: datetime | None = Field(default=None, alias="until")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    ident: UUID
    on: date


class Tree(BaseModel):
    name: str
    below: "list[Tree]" = []


class Box(BaseModel, Generic[T]):
    what: T


@dataclass
class Paths:
    src: Path
    tags: set[str] = field(default_factory=set[str])


@dataclass(eq=False)
class Plain:
    number: int


class Point(NamedTuple):
    x: int
    y: Decimal


class Options(TypedDict, total=False):
    deep: bool
    since: date


# A hint, a value as JSON, and what the workflow gets of it.
VALUES: list[tuple[Any, JsonValue, object]] = [
    (str, "1.10", "1.10"),
    (int, 1.0, 1),
    (float, 1, 1.0),
    (bool, True, True),
    (Decimal, "1.10", Decimal("1.10")),
    (Decimal, 0.1, Decimal("0.1")),
    (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    (Path, "a/b.txt", Path("a/b.txt")),
    (Color, "red", Color.RED),
    (Level, 1, Level.LOW),
    (datetime, "2026-11-28T03:00:00.000005Z", datetime(2026, 11, 28, 3, 0, 0, 5, tzinfo=UTC)),
    (datetime, "2026-11-28T03:00:00", datetime(2026, 11, 28, 3)),
    (
        datetime,
        "2026-11-28T03:00:00+02:00",
        datetime(2026, 11, 28, 3, tzinfo=timezone(timedelta(hours=2))),
    ),
    (date, "2026-11-28", date(2026, 11, 28)),
    (time, "03:00:00", time(3)),
    (timedelta, "PT1H", timedelta(hours=1)),
    (bytes, "é", "é".encode()),
    (set[str], ["a"], {"a"}),
    (frozenset[int], [1], frozenset({1})),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[date, ...], ["2026-11-28"], (date(2026, 11, 28),)),
    (list[Decimal], ["1.10"], [Decimal("1.10")]),
    (dict[int, date], {"1": "2026-11-28"}, {1: date(2026, 11, 28)}),
    (dict[Color, int], {"red": 1}, {Color.RED: 1}),
    (Literal["a", 1], 1, 1),
    (IPv4Address, "127.0.0.1", IPv4Address("127.0.0.1")),
    (Request, {"name": "Ann"}, Request(name="Ann")),
    (
        Request,
        {"name": "Ann", "price": "2", "until": "2026-11-28T00:00:00Z"},
        Request(name="Ann", price=Decimal(2), until=datetime(2026, 11, 28, tzinfo=UTC)),
    ),
    (
        Strict,
        {"ident": "12345678-1234-5678-1234-567812345678", "on": "2026-11-28"},
        Strict(ident=UUID("12345678-1234-5678-1234-567812345678"), on=date(2026, 11, 28)),
    ),
    (Tree, {"name": "a", "below": [{"name": "b"}]}, Tree(name="a", below=[Tree(name="b")])),
    (Box[Paths], {"what": {"src": "a"}}, Box[Paths](what=Paths(Path("a")))),
    (Paths, {"src": "a", "tags": ["x"]}, Paths(Path("a"), {"x"})),
    (Point, [1, "2.50"], Point(1, Decimal("2.50"))),
    (Options, {"since": "2026-11-28"}, {"since": date(2026, 11, 28)}),
    (Annotated[Decimal, Field(gt=0)], "0.50", Decimal("0.50")),
    (Request | Paths, {"src": "a"}, Paths(Path("a"))),
    (int | Decimal, "1.10", Decimal("1.10")),
]
# What stands around a hint, its JSON, and its value.
Around = tuple[Callable[[Any], Any], Callable[[JsonValue], JsonValue], Callable[[object], object]]
AROUND: dict[str, Around] = {
    "alone": (lambda hint: hint, lambda one: one, lambda one: one),
    "optional": (lambda hint: hint | None, lambda one: one, lambda one: one),
    "in a list": (lambda hint: list[hint], lambda one: [one, one], lambda one: [one, one]),
    "in a dict": (lambda hint: dict[str, hint], lambda one: {"k": one}, lambda one: {"k": one}),
    "in a tuple": (lambda hint: tuple[hint, int], lambda one: [one, 1], lambda one: (one, 1)),
    "in a model": (
        lambda hint: Box[hint],
        lambda one: {"what": one},
        lambda one: Box[Any].model_construct(what=one),
    ),
}
# A hint, and JSON that does not fit it.
MISFITS: list[tuple[Any, JsonValue]] = [
    (str, 1),
    (int, "1"),
    (int, 1.5),
    (Decimal, "one"),
    (UUID, "one"),
    (Color, "green"),
    (datetime, "tomorrow"),
    (date, "2026-11-31"),
    (time, "25:00"),
    (timedelta, "long"),
    (tuple[int, str], [1]),
    (list[Decimal], ["1", "x"]),
    (dict[str, date], {"a": "b"}),
    (Request, {}),
    (Request, {"name": "Ann", "more": 1}),
    (Request, {"name": "Ann", "price": "much"}),
    (Paths, {"src": 1}),
    (Literal["a"], "b"),
    (IPv4Address, "1.2.3"),
    (Annotated[Decimal, Field(gt=0)], -1),
]


def taking(hint: Any) -> Callable[..., Any]:
    """A workflow with one argument of that hint, by place or by name."""

    def function(value: Any) -> None:
        """Take it."""

    function.__annotations__ = {"value": hint, "return": None}
    return function


def entry_of(function: Callable[..., Any]) -> CatalogEntry:
    return entry("take", function)


def got_by(function: Callable[..., Any], value: object) -> Any:
    """The arguments that the function gets, in each way of giving them."""
    signature = Signature(function)
    (by_place,), _ = signature.converted((value,), {})
    _, by_name = signature.converted((), {"value": value})
    assert same(by_place, by_name["value"])
    return by_place


def same(one: object, other: object) -> bool:
    """Whether two values are equal, and of the same types all through."""
    return described(one) == described(other)


def kind_of(value: object) -> type[object]:
    return type(value)


def described(value: Any) -> object:
    kind: type[object] = kind_of(value)
    if isinstance(value, BaseModel):
        return {name: described(one) for name, one in vars(value).items()}
    if kind is dict:
        return kind, [(described(key), described(value[key])) for key in value]
    if kind in (list, tuple):
        return kind, [described(one) for one in value]
    return kind, value


@pytest.mark.parametrize("place", AROUND)
@pytest.mark.parametrize(("hint", "plain", "value"), VALUES, ids=lambda one: str(one)[:60])
def test_an_argument_is_what_its_hint_says_from_json_and_from_an_object_at_the_start_and_on_each_replay(
    hint: Any, plain: JsonValue, value: object, place: str
) -> None:
    around, around_json, around_value = AROUND[place]
    function = taking(around(hint))
    given, wanted = around_json(plain), around_value(value)
    arguments.check(entry_of(function), {"value": given})
    from_json = got_by(function, given)
    assert same(from_json, wanted)
    (recorded,), _ = Signature(function).recorded((from_json,), {})
    stored = json.loads(json.dumps(recorded))
    assert stored == recorded
    assert same(got_by(function, stored), wanted), "as a replay has it"
    assert same(got_by(function, from_json), wanted), "as a direct call has it"


@pytest.mark.parametrize(("hint", "plain"), MISFITS, ids=lambda one: str(one)[:60])
@pytest.mark.parametrize("place", ["alone", "optional", "in a list", "in a dict"])
def test_json_that_does_not_fit_a_hint_is_refused_at_the_start_with_the_argument_s_name(
    hint: Any, plain: JsonValue, place: str
) -> None:
    around, around_json, _ = AROUND[place]
    function = taking(around(hint))
    with pytest.raises(InvalidArguments, match="value"):
        arguments.check(entry_of(function), {"value": around_json(plain)})


def test_what_only_the_conversion_finds_names_the_argument_and_where_it_is() -> None:
    def pay(orders: list[Request], /, **more: Decimal) -> None:
        """Pay."""

    signature = Signature(pay)
    wrong = "The argument 'orders' of pay does not fit: 1: price: Input should be a valid decimal"
    with pytest.raises(InvalidArguments, match=wrong):
        signature.converted(([{"name": "a"}, {"name": "b", "price": "x"}],), {})
    with pytest.raises(InvalidArguments, match="The argument 'tip' of pay does not fit"):
        signature.converted(([],), {"tip": "x"})


def test_each_kind_of_parameter_is_converted_and_started_by_name() -> None:
    def function(
        first: int,
        second: Decimal = Decimal(2),
        /,
        third: date | None = None,
        *others: Color,
        keyword: set[int],
        **more: Decimal,
    ) -> None:
        """Take all kinds."""

    signature = Signature(function)
    given: dict[str, JsonValue] = {
        "first": 1.0,
        "third": "2026-11-28",
        "keyword": [1],
        "extra": "1.5",
    }
    arguments.check(entry_of(function), given)
    args, named = signature.converted((), given)
    assert args == (1,)
    assert named == {"third": date(2026, 11, 28), "keyword": {1}, "extra": Decimal("1.5")}
    given = {"first": 1, "second": "3.0", "keyword": []}
    assert signature.converted((), given)[0] == (1, Decimal("3.0"))
    args, named = signature.converted((1, "2", None, "red", "blue"), {"keyword": [2]})
    assert args == (1, Decimal(2), None, Color.RED, Color.BLUE)
    with pytest.raises(InvalidArguments, match="extra"):
        arguments.check(entry_of(function), {"first": 1, "keyword": [], "extra": "x"})


def test_a_skipped_positional_argument_has_its_default() -> None:
    def function(first: int = 5, second: Decimal = Decimal(2), /) -> None:
        """Take two by place."""

    assert Signature(function).converted((), {"second": "3"}) == ((5, Decimal(3)), {})


def test_none_fits_where_it_is_the_default() -> None:
    def function(name: str = None) -> None:  # noqa: RUF013  # pyright: ignore[reportArgumentType]
        """Take a name or none."""

    arguments.check(entry_of(function), {"name": None})
    assert Signature(function).converted((), {"name": None}) == ((), {"name": None})


def test_what_pydantic_cannot_take_is_left_as_it_is_and_keeps_nothing_else_from_its_hint() -> None:
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: object) -> None:
            raise RuntimeError("broken")

    def function(odd: Odd, unknown: Any, text: Any, call: Callable[[], None], price: Any) -> None:
        """Odd hints."""

    function.__annotations__ |= {"unknown": "Unknown", "text": "no hint!", "price": "Decimal"}
    given: dict[str, Any] = {name: {"a": [1]} for name in ("odd", "unknown", "text", "call")}
    args, named = Signature(function).converted((), {**given, "price": "1.10"})
    assert (args, named) == ((), {**given, "price": Decimal("1.10")})
    thing = object()
    assert Signature(function).recorded((thing, thing), {"call": thing})[0] == (thing, thing)
    schema = args_schema(function)
    assert [name for name, one in schema["properties"].items() if one] == ["price"]


def test_two_models_of_one_name_have_each_their_own_definition() -> None:
    def model_of(kind: type) -> Any:
        class Same(BaseModel):
            one: kind  # pyright: ignore[reportInvalidTypeForm]

        return Same

    def function(a: Any, b: Any) -> None:
        """Take two."""

    function.__annotations__ = {"a": model_of(int), "b": model_of(date)}
    arguments.check(entry_of(function), {"a": {"one": 1}, "b": {"one": "2026-11-28"}})
    with pytest.raises(InvalidArguments, match="a"):
        arguments.check(
            entry_of(function), {"a": {"one": "2026-11-28"}, "b": {"one": "2026-11-28"}}
        )


def test_the_hints_of_a_decorated_function_are_those_of_the_function() -> None:
    def plain(price: Decimal) -> None:
        """Take a price."""

    @functools.wraps(plain)
    def decorated(*args: Any, **named: Any) -> None:
        plain(*args, **named)

    assert Signature(decorated).converted((), {"price": "1.10"}) == ((), {"price": Decimal("1.10")})


def test_what_json_cannot_hold_is_named() -> None:
    with pytest.raises(TypeError, match="The argument 'value' of function cannot be recorded"):
        Signature(taking(list[bytes])).recorded(([b"\xff"],), {})


def test_a_dataclass_that_is_equal_only_to_itself_is_taken_too() -> None:
    (given,), _ = Signature(taking(Plain)).converted((Plain(3),), {})
    assert isinstance(given, Plain)
    assert given.number == 3


def test_a_value_beyond_what_pydantic_reads_of_json_is_taken_as_it_is() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    assert got_by(taking(list[Any]), deep) == deep
    assert got_by(taking(str), "\ud800") == "\ud800"

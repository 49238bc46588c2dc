"""Values of all kinds that a step, an event, a message, a child or a run may give."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
from urllib.parse import urlparse
from uuid import UUID
from zoneinfo import ZoneInfo

from dbos import DBOS
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel

from durable_workflows import receive

T = TypeVar("T")


class Color(Enum):
    RED = ("r", 1)
    BLUE = ("b", 2)


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Right(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Row(TypedDict):
    value: Any


@dataclass(frozen=True, slots=True)
class Line:
    value: Any
    tags: set[str] = field(default_factory=set[str])


@dataclass
class Derived:
    value: Any
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(repr(self.value))
        self.extra = (1, 2)


class Order(BaseModel):
    value: Any = None
    price: Decimal = Decimal(0)
    _seen: Any = PrivateAttr(default=None)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    value: Any


class Many(RootModel[list[Any]]):
    pass


class Page(BaseModel, Generic[T]):
    value: T

    class Mark(Enum):
        END = 1


PageOfAny = Page[Any]  # at the top of the file: without it the value comes back as a `Page`


def seen(value: Any) -> Order:
    order = Order(value=value)
    order._seen = {value.__class__.__name__: 1}  # pyright: ignore[reportPrivateUsage]
    return order


BERLIN = ZoneInfo("Europe/Berlin")
LEAVES: list[Any] = [
    None, True, 0, -7, 2**70, 1.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"),
    "", "é\0\udce9", '{"$type":"date","value":"2026-01-01"}', b"", b"\xff\0", bytearray(b"x"),
    datetime(2026, 11, 28, 3), datetime(2026, 11, 28, 3, 0, 0, 5, tzinfo=UTC), datetime.max, datetime.min,
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), datetime(2026, 1, 1, tzinfo=timezone(-timedelta(hours=9, seconds=1))),
    date(1, 1, 1), time(1, 2, 3, 4), time(1, tzinfo=UTC), time(2, tzinfo=BERLIN), timedelta(days=-1, microseconds=1), timedelta.max, timedelta.min,
    Decimal("1.10"), Decimal("-Infinity"), Decimal("1E+500"), UUID(int=7), Path("a/b"), Path("caf\udce9"), PurePosixPath("/x"), PureWindowsPath("c:\\x"),
    Color.RED, Level.LOW, Word.YES, Right.READ | Right.WRITE, Right(0), Page.Mark.END,
]  # fmt: skip
WRAPS: list[Callable[[Any], Any]] = [
    lambda value: [value, value],
    lambda value: (value,),
    lambda value: {"$type": value, "value": value},
    lambda value: {"key": value, "b": [value]},
    lambda value: {1: value, None: 2, (1, "a"): 3, Color.BLUE: 4, b"k": 5},
    lambda value: Point(value),
    lambda value: Row(value=value),
    lambda value: Line(value, {"a", "b"}),
    lambda value: Derived(value),
    lambda value: Order(value=value, price=Decimal("1.10")),
    seen,
    lambda value: Open(value=value, **{"more": (value,)}),
    lambda value: Many([value]),
    lambda value: PageOfAny(value=value),
    lambda value: [{1, 2}, frozenset({("a", Color.RED)}), value],
]


def made(seed: int) -> Any:
    """A value: the same in every process."""
    draw = random.Random(seed)
    value = draw.choice(LEAVES)
    for _ in range(draw.randrange(6)):
        value = draw.choice(WRAPS)(value)
    return value


@DBOS.step()
def makes_value(seed: int) -> Any:
    return made(seed)


@DBOS.step()
async def makes_value_async(seed: int) -> Any:
    return made(seed)


@DBOS.workflow()
def child_of_values(seed: int) -> Any:
    """Return a value."""
    return made(seed)


@DBOS.workflow()
def takes_value(value: Any, *, seed: int) -> bool:
    """Say whether an argument came as it was."""
    return same(value, made(seed))


def same(one: Any, other: Any) -> bool:
    """Whether two values are of the same types throughout, and equal."""
    return repr(one) == repr(other) and type(one) is type(other)


@DBOS.workflow()
def all_values(seeds: list[int]) -> list[str]:
    """Say which values did not come as they were, here and in what was before a message."""
    wrong: list[str] = []

    def check(how: str, seed: int, value: Any) -> None:
        if not same(value, made(seed)):
            wrong.append(f"{how} {seed}: {value!r} for {made(seed)!r}")

    for seed in seeds:
        check("step", seed, makes_value(seed))
        check("child", seed, child_of_values(seed))
        DBOS.set_event("value", made(seed))
        check("event", seed, DBOS.get_event(DBOS.workflow_id or "", "value"))
        DBOS.send(DBOS.workflow_id or "", made(seed), "own")
        check("message", seed, receive("own"))
        handle = DBOS.start_workflow(takes_value, made(seed), seed=seed)
        if not handle.get_result():
            wrong.append(f"argument {seed}")
    receive("go")
    return wrong


@DBOS.workflow()
async def all_values_async(seeds: list[int]) -> list[str]:
    """As `all_values`, for steps in async code."""
    values = [await makes_value_async(seed) for seed in seeds]
    return [
        repr(made(seed))
        for seed, one in zip(seeds, values, strict=True)
        if not same(one, made(seed))
    ]


def local_value() -> Any:
    @dataclass
    class Inner:
        x: int

    return Inner(1)


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


BAD: dict[str, Callable[[], Any]] = {
    "function": lambda: {"a": [1, (made,)]},
    "object": lambda: Line(object()),
    "local": lambda: [local_value()],
    "long": lambda: {"n": [10**5000]},
    "foreign": lambda: urlparse("https://x"),
    "itself": endless,
}


@DBOS.step()
def makes_bad(kind: str) -> Any:
    return BAD[kind]()


@DBOS.workflow()
def bad_value(kind: str) -> Any:
    """Fail with what cannot be recorded."""
    return makes_bad(kind)


@DBOS.workflow()
def gives_back(value: Any) -> Any:
    """Return an argument."""
    return value


@DBOS.step()
def shared_list() -> list[Any]:
    return SHARED


SHARED: list[Any] = [datetime(2026, 11, 28, 3), Decimal("1.10"), Path("a/b"), {"ok": (1, b"x")}]


@DBOS.step()
async def shared_list_async() -> list[Any]:
    return SHARED


@DBOS.workflow()
def shared_by_child() -> list[Any]:
    """Return a value that its process keeps."""
    return SHARED


@DBOS.workflow()
def copied_values() -> list[bool]:
    """Say which results are the object itself, which no replay could get."""
    found = [shared_list(), shared_by_child(), DBOS.start_workflow(shared_by_child).get_result()]
    return [one is SHARED or one != SHARED for one in found]


@DBOS.workflow()
async def copied_async() -> bool:
    """As `copied_values`, for a step in async code."""
    return await shared_list_async() is SHARED


@DBOS.workflow()
def shown_values() -> Any:
    """Give values that are read by people."""
    return Order(value=shared_list(), price=Decimal("2.50"))

"""Workflows whose arguments have types that JSON does not have; each returns what it has got, in words."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from dbos import DBOS, pydantic_args_validator
from pydantic import BaseModel


class Color(Enum):
    RED = "red"


class Request(BaseModel):
    name: str
    price: Decimal


@dataclass
class Paths:
    src: Path
    tags: set[str]


def in_words(*values: Any) -> list[str]:
    return [f"{type(value).__name__} {value}" for value in values]


@DBOS.workflow()
def typed(
    request: Request,
    paths: list[Paths],
    ident: UUID,
    /,
    price: Decimal,
    color: Color = Color.RED,
    *,
    when: datetime | None = None,
    days: tuple[date, ...] = (),
    **more: Decimal,
) -> list[str]:
    """Say what came."""
    return in_words(request, *paths, ident, price, color, when, *days, more)


@DBOS.workflow()
async def typed_async(request: Request, price: Decimal) -> list[str]:
    """Say what came, in an async workflow."""
    return in_words(request, price)


@DBOS.workflow()
def typed_and_waits(price: Decimal, when: datetime) -> list[str]:
    """Say what came before and after a wait."""
    first = in_words(price, when)
    DBOS.recv("go", timeout_seconds=600)
    return first + in_words(price, when)


@DBOS.workflow()
def typed_parent() -> list[list[str]]:
    """Start `typed` in all ways in which Python can."""
    DBOS.register_queue("typed", on_conflict="never_update")
    args = (Request(name="Ann", price=Decimal("1.10")), [Paths(Path("a"), {"x"})], UUID(int=7))
    named: Any = {"price": Decimal("2.50"), "days": (date(2026, 11, 28),), "tip": Decimal("0.10")}
    plain: Any = {
        "request": {"name": "Ann", "price": "1.10"},
        "price": "2.50",
        "ident": str(args[2]),
    }
    plain |= {"paths": [{"src": "a", "tags": ["x"]}], "days": ["2026-11-28"], "tip": "0.10"}
    options: Any = {"workflow_name": "typed", "queue_name": "typed"}
    options |= {"app_version": DBOS.application_version}
    return [
        typed(*args, **named),
        DBOS.start_workflow(typed, *args, **named).get_result(),
        DBOS.enqueue_workflow("typed", typed, *args, **named).get_result(),
        DBOS.enqueue_workflow_with_options(options, *args, **named).get_result(),
        DBOS.enqueue_workflow_with_options(options, **plain).get_result(),
    ]


@DBOS.workflow()
async def typed_parent_async() -> list[list[str]]:
    """Start `typed_async` from an async workflow."""
    request = Request(name="Ann", price=Decimal("1.10"))
    handle = await DBOS.start_workflow_async(typed_async, request, Decimal(2))
    return [await typed_async(request, Decimal(2)), await handle.get_result()]


@DBOS.workflow()
def typed_parent_of_waiting(price: str) -> list[str]:
    """Call a child that waits, with objects."""
    return typed_and_waits(Decimal(price), datetime(2026, 11, 28, 3, 0, 0, 5))


@DBOS.workflow(validate_args=pydantic_args_validator)
def typed_by_dbos(price: Decimal) -> list[str]:
    """Say what came, with the validator of dbos."""
    return in_words(price)


@DBOS.workflow()
def typed_wrongly() -> str:
    """Call a child with what does not fit."""
    return str(typed_async.__wrapped__) + str(typed_and_waits("dear", "tomorrow"))  # pyright: ignore

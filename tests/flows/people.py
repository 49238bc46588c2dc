"""Questions to people."""

from typing import Literal

from dbos import DBOS
from pydantic import BaseModel

from durable_workflows import ask_human


class Order(BaseModel):
    amount: int
    unit: Literal["kg", "t"] = "kg"
    express: bool = False


@DBOS.workflow()
def ask_order(timeout: float | None = None) -> dict[str, object] | None:
    """Ask a person for an order."""
    order = ask_human("What shall be ordered?", schema=Order, topic="order", timeout=timeout)
    return order.model_dump() if order else None


@DBOS.workflow()
def ask_parts() -> list[str]:
    """Ask a person for something that fits into no form."""
    return ask_human("Which parts?", schema=list[str])


@DBOS.workflow()
def ask_anything() -> str:
    """Ask a person without a schema."""
    return ask_human("What is it?")

"""Runs that ask and that are started by forms: of each kind that a form shows in another way."""

from datetime import datetime
from typing import Literal

from dbos import DBOS
from pydantic import BaseModel, Field

from durable_workflows import ask_human, receive


class PageAddress(BaseModel):
    """Where a parcel goes."""

    city: str = Field(min_length=2)
    code: str = Field(pattern="^[0-9]{5}$")


class PageRefund(BaseModel):
    """What is paid back."""

    decision: Literal["approve", "reject"]
    amount: float = Field(ge=0, le=500)
    notify: bool = True
    parcels: list[int] = []
    address: PageAddress | None = None


@DBOS.workflow()
def page_refund(order: str) -> object:
    """Ask a person about a refund."""
    answer = ask_human(f"Refund {order}?", schema=PageRefund)
    return answer.model_dump()


@DBOS.workflow()
def page_confirms(order: str) -> object:
    """Ask for a yes or a no."""
    return receive("confirm", schema=bool, prompt=f"Has {order} arrived?")


@DBOS.workflow()
def page_takes_anything() -> object:
    """Wait for any message."""
    return receive("anything")


@DBOS.workflow()
def page_order_form(
    order: str,
    address: PageAddress,
    amounts: list[int],
    channel: Literal["web", "phone"] = "web",
    express: bool = False,
    note: str | None = None,
) -> dict[str, object]:
    """Return what it was given."""
    return {
        "order": order,
        "address": address.model_dump(),
        "amounts": amounts,
        "channel": channel,
        "express": express,
        "note": note,
    }


@DBOS.workflow()
def page_nightly(at: datetime, context: object = None) -> None:
    """Be started by a schedule."""


@DBOS.workflow()
def page_set_up(schedule: str, queue: str) -> None:
    """Make a schedule, and a queue."""
    DBOS.register_queue(queue, concurrency=2, on_conflict="never_update")
    DBOS.create_schedule(schedule_name=schedule, workflow_fn=page_nightly, schedule="0 3 1 1 *")

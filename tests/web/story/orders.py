"""A shop that ships orders: what the pictures in the README show."""

import time
from typing import Literal, TypedDict

from dbos import DBOS, SetWorkflowID
from pydantic import BaseModel, Field

from durable_workflows import ask_human

LARGE = 1000.0  # a person looks at such an order
DEPOTS = {"0": "Leipzig", "2": "Hamburg", "5": "Cologne", "8": "Munich"}


class Item(TypedDict):
    """A line of an order."""

    name: str
    amount: int
    price: float


class Order(TypedDict):
    """What a customer has ordered."""

    number: int
    customer: str
    post_code: str
    items: list[Item]


class Decision(BaseModel):
    """What happens with a large order."""

    decision: Literal["ship it", "wait for the money", "cancel it"]
    discount: float = Field(default=0, ge=0, le=20, description="Per cent, at most 20.")
    note: str = ""


@DBOS.workflow()
def ship_order(order: Order) -> dict[str, object]:
    """Ship an order; a large one when somebody has looked at it."""
    total = check_order(order)
    reserve_stock(order)
    if total > LARGE:
        ask_human(f"Ship order {order['number']} before it is paid?", schema=Decision)
    charge_card(total)
    for number, item in enumerate(order["items"], 1):
        with SetWorkflowID(f"{DBOS.workflow_id}-parcel-{number}"):
            DBOS.start_workflow(pack_parcel, item).get_result()
    label = print_label(order)
    send_mail(order, label)
    return {"label": label, "total": total}


@DBOS.workflow()
def pack_parcel(item: Item) -> int:
    """Pack one line of an order in the warehouse."""
    fetched = fetch_from_shelf(item)
    weigh(item)
    return fetched


@DBOS.step()
def check_order(order: Order) -> float:
    time.sleep(0.3)
    return sum(item["amount"] * item["price"] for item in order["items"])


@DBOS.step()
def reserve_stock(order: Order) -> list[str]:
    time.sleep(0.5)
    return [item["name"] for item in order["items"]]


@DBOS.step()
def charge_card(total: float) -> dict[str, object]:
    time.sleep(0.7)
    return {"charged": total, "currency": "EUR"}


@DBOS.step()
def fetch_from_shelf(item: Item) -> int:
    time.sleep(0.4 * item["amount"])
    return item["amount"]


@DBOS.step()
def weigh(item: Item) -> float:
    time.sleep(0.3)
    return item["amount"] * 0.4


@DBOS.step()
def print_label(order: Order) -> str:
    time.sleep(0.6)
    depot = depot_of(order["post_code"])
    return f"{depot}-{order['number']}"


def depot_of(post_code: str) -> str:
    if post_code[0] not in DEPOTS:
        raise LookupError(f"no depot for {post_code}")
    return DEPOTS[post_code[0]]


@DBOS.step()
def send_mail(order: Order, label: str) -> str:
    time.sleep(0.2)
    return f"{order['customer']}: your order {order['number']} is on its way as {label}"

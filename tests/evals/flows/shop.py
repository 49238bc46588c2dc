"""Workflows of a shop, for the evaluations: one has a bug, one waits for a decision, one runs away, one ends its worker while it pays."""

import os
import signal
from pathlib import Path
from typing import Literal

from dbos import DBOS

from durable_workflows import receive, step

PRICES = {"apple": 3, "pear": 4}


@DBOS.step()
def reserve(item: str) -> str:
    return f"reserved {item}"


@DBOS.step()
def price(item: str) -> int:
    return PRICES[item]


@DBOS.workflow()
def order(item: str) -> str:
    """Reserve an item and name its price."""
    reserved = reserve(item)
    return f"{reserved} for {price(item)}"


@DBOS.workflow()
def purchase(amount: int) -> str:
    """Buy something, once somebody approves."""
    approved = receive("approval", schema=Literal["yes", "no"], prompt=f"Buy for {amount}?")
    return "bought" if approved == "yes" else "dropped"


@step(effect="once")
def pay(amount: int) -> str:
    with Path("ledger.txt").open("a", encoding="utf-8") as ledger:
        ledger.write(f"paid {amount}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@DBOS.workflow()
def payment(amount: int) -> str:
    """Pay once, and say so."""
    return pay(amount)


@DBOS.step()
def tick(number: int) -> int:
    return number


@DBOS.workflow()
def poll_for_ever() -> None:
    """Look for mail each second, without an end."""
    number = 0
    while True:
        number = tick(number + 1)
        DBOS.sleep(1)

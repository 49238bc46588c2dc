"""Workflows that wait for messages of a certain shape, and for people; and that print."""

import logging
import sys
from typing import Literal

from dbos import DBOS
from pydantic import BaseModel

from durable_workflows import ask_human, receive, receive_async

logger = logging.getLogger("asking")


class Amount(BaseModel):
    value: int
    unit: Literal["kg", "t"] = "kg"


@DBOS.workflow()
def wait_for_amount(timeout: float | None = None) -> str:
    """Wait for an amount, as a model."""
    amount = receive("amount", schema=Amount, prompt="How much?", timeout=timeout)
    return "nothing came" if amount is None else f"{amount.value} {amount.unit}"


@DBOS.workflow()
async def wait_for_choice() -> str:
    """Wait for one of some words, in an async workflow."""
    schema = {"enum": ["left", "right"]}
    return await receive_async("way", schema=schema, prompt="Which way?")


@DBOS.workflow()
async def wait_for_a_slow_pattern() -> str:
    """Wait for a message whose check takes for ever."""
    return await receive_async("text", schema={"pattern": "^(a|aa)+$"})


@DBOS.workflow()
def ask_twice() -> list[bool]:
    """Ask a person two questions."""
    first = ask_human("Delete the table?", schema=bool)
    second = ask_human("Really?", schema=bool)
    return [first, second]


@DBOS.step()
def chatter(lines: int) -> int:
    for number in range(lines):
        print(f"line {number}")
    logger.warning("a warning of the step")
    return lines


@DBOS.workflow()
def talk(lines: int = 2) -> str:
    """Print from the workflow and from a step."""
    print("from the workflow")
    print("to the error stream", file=sys.stderr)
    chatter(lines)
    print("no line feed", end="")
    return "said"

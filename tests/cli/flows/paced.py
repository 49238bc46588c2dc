"""One workflow that is not called like its file: it says things, asks, and goes on when it is told to."""

import logging
from typing import Literal

from dbos import DBOS
from pydantic import BaseModel, Field

from durable_workflows import ask_human

logger = logging.getLogger("paced")


class Decision(BaseModel):
    """What a person decides."""

    verdict: Literal["approve", "reject"]
    amount: float = Field(description="in euros", gt=0)
    copies: int = 1
    note: str | None = None


@DBOS.step()
def prepare(name: str) -> str:
    print(f"preparing {name}")  # noqa: T201
    logger.warning("%s is not tidy", name)
    return name.upper()


@DBOS.step()
def finish(name: str) -> str:
    if name == "BROKEN":
        raise ValueError("it broke")
    return name


@DBOS.workflow()
def in_its_own_time(name: str = "it", question: bool = False) -> str:
    """Prepare, perhaps ask a person, finish."""
    prepared = prepare(name)
    DBOS.set_event("prepared", prepared)
    if question:
        decision = ask_human(f"Finish {name}?", schema=Decision, topic="verdict", timeout=3600)
        assert decision is not None
        prepared = (
            f"{prepared} {decision.verdict} {decision.amount} {decision.copies} {decision.note}"
        )
    else:
        DBOS.recv("go", timeout_seconds=3600)
    return finish(prepared)

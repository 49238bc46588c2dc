"""Runs for the page: of each kind that it shows in another way."""

import time
from pathlib import Path

from dbos import DBOS, SetWorkflowID, WorkflowHandle

from durable_workflows import ask_human, receive, scope, sleep


@DBOS.step()
def page_note(text: str) -> dict[str, object]:
    """Return more than one value, and print."""
    print("noted", text)
    return {"text": text, "length": len(text), "parts": list(text[:5])}


@DBOS.step()
def page_work(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@DBOS.step()
def page_await_file(path: str) -> str:
    """Go on when somebody has made the file."""
    while not Path(path).exists():
        time.sleep(0.02)
    return Path(path).read_text(encoding="utf-8")


@DBOS.workflow()
def page_steps(count: int) -> int:
    """Do many small steps."""
    return sum(len(str(page_note(f"step {number}"))) for number in range(count))


@DBOS.workflow()
def page_scoped() -> None:
    """Do steps in scopes, and sleep under a name."""
    with scope("outer"), scope("inner"):
        page_note("in scopes")
        sleep(3600, name="the tide to turn")


@DBOS.workflow()
def page_waits_for_file(path: str) -> str:
    """Be in a step until a file is there."""
    page_note("before")
    found = page_await_file(path)
    page_note("after")
    return found


@DBOS.workflow()
def page_child(seconds: float, fails: bool) -> float:
    """Work a little as a child."""
    page_work(seconds)
    if fails:
        raise ValueError("the child fails")
    return page_work(seconds)


@DBOS.workflow()
def page_family(count: int) -> list[float]:
    """Start children, and wait for all of them."""
    page_note("first")
    handles = [page_started(number) for number in range(count)]
    results = [handle.get_result() for handle in handles]
    page_note("last")
    return results


def page_started(number: int) -> WorkflowHandle[float]:
    with SetWorkflowID(f"{DBOS.workflow_id}-child-{number}"):
        return DBOS.start_workflow(page_child, 0.1 * (number + 1), False)


def page_price_of(order: dict[str, int]) -> int:
    return order["amount"] * order["price"]


@DBOS.step()
def page_charge(order: dict[str, int]) -> int:
    """Fail, where there is no price."""
    return page_price_of(order)


@DBOS.workflow()
def page_order(order: dict[str, int]) -> int:
    """Charge an order."""
    page_note("checked")
    DBOS.logger.info("charging %s", order)
    return page_charge(order)


@DBOS.step(retries_allowed=True, interval_seconds=600, max_attempts=3)
def page_call_away() -> None:
    raise ConnectionError("the other side does not answer")


@DBOS.workflow()
def page_retries() -> None:
    """Be between two attempts of a step."""
    page_note("before")
    page_call_away()


@DBOS.workflow()
def page_waits(topic: str) -> object:
    """Wait for a message, and tell how it goes."""
    DBOS.set_event("progress", {"done": 1, "of": 2})
    DBOS.write_stream("pages", {"page": 1})
    DBOS.write_stream("pages", {"page": 2})
    page_note("asked")
    return receive(topic, prompt="Which one?")


@DBOS.workflow()
def page_asks() -> object:
    """Ask a person."""
    page_note("asked")
    return ask_human("Shall it be released?", schema=bool)


@DBOS.workflow()
def page_sleeps(seconds: float) -> str:
    """Work, sleep, work."""
    page_work(0.2)
    DBOS.sleep(seconds)
    page_work(0.2)
    return "slept"


@DBOS.step()
def page_look_up(user: dict[str, object], seconds: float) -> dict[str, object]:
    time.sleep(seconds)
    return {"user": user, "found": True}


@DBOS.workflow()
def page_tells(user: dict[str, object], seconds: float) -> dict[str, object]:
    """Look up somebody, and tell more of some than of others."""
    page_note("before")
    found = page_look_up(user, seconds)
    if user["name"] == "Bob":
        page_note("more")
    page_note("after")
    return found

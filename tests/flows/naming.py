"""Sleeps with names, and scopes: which step is called what."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dbos import DBOS

from durable_workflows import receive, scope, sleep, sleep_async, step

LONG = 3600.0


@DBOS.step()
def note(text: str) -> str:
    return text


@DBOS.step()
async def note_async(text: str) -> str:
    await asyncio.sleep(0)
    return text


@step(effect="once")
def note_once(text: str) -> str:
    return text


@DBOS.workflow()
def named_sleeper(name: str | None = "the market to open", seconds: float = LONG) -> str:
    """Sleep under a name."""
    with scope("waits"):
        sleep(seconds, name=name)
    return note("awake")


@DBOS.workflow()
async def named_sleeper_async(name: str = "the market to open", seconds: float = LONG) -> str:
    """Sleep under a name."""
    await sleep_async(seconds, name=name)
    return await note_async("awake")


@DBOS.workflow()
def sleeps_until(how: str) -> str:
    """Sleep until a moment, or for a length, of each kind."""
    match how:
        case "a moment":
            sleep(datetime.now(UTC) + timedelta(seconds=0.2))  # deterministic: recorded
        case "the past":
            sleep(datetime(2020, 1, 1, tzinfo=UTC), name="the past")
        case "a length":
            sleep(timedelta(seconds=0.2))
        case "no time":
            sleep(0)
        case "no zone":
            sleep(datetime(2020, 1, 1))
        case "for ever":
            sleep(float("inf"))
        case "two lines":
            sleep(1, name="one\ntwo")
        case "an empty scope":
            with scope(""):
                pass
        case "in a step":
            sleeping_step()
        case _:
            raise ValueError(how)
    return note("awake")


@DBOS.step()
def sleeping_step() -> None:
    sleep(1)  # deterministic: it is refused


@DBOS.workflow()
def deadline_is_over(file: str) -> str:
    """Sleep until a moment that has passed at the replay, then wait."""
    moment = Path(file).read_text(encoding="utf-8")  # deterministic: the file stays
    sleep(datetime.fromisoformat(moment), name="the deadline")
    word = receive("word")
    return f"{note('after')} {word}"


@DBOS.workflow()
def scoped_child() -> str:
    """A child, which is in no scope of its parent."""
    return note("in the child")


@DBOS.workflow()
def scoped(waits: bool = False) -> str:
    """Steps of each kind in scopes and outside of them."""
    note("before")
    with scope("outer"):
        note("in outer")
        with scope("inner"):
            note_once("in inner")
            DBOS.set_event("event", 1)
            DBOS.start_workflow(scoped_child).get_result()
            scoped_child()
            sleep(0.01, name="a blink")
        DBOS.send(DBOS.workflow_id or "", "hello", "topic")
        DBOS.recv("topic")
    if waits:
        receive("word")
    return note("after")


@DBOS.workflow()
async def scoped_async() -> None:
    """Steps of two scopes at the same time."""

    async def in_scope(name: str) -> None:
        with scope(name):
            await note_async(f"1 {name}")
            await note_async(f"2 {name}")

    with scope("both"):
        await asyncio.gather(in_scope("a"), in_scope("b"))  # deterministic: nothing replays it
    await note_async("after")


@DBOS.workflow()
def scopes_that_change(file: str) -> str:
    """Scopes that are other ones at the replay."""
    first = not Path(file).exists()  # deterministic: what is asked decides nothing but names
    with scope("old" if first else "new"):
        note("in it")
        word = receive("word")
        note("later in it")
    return word

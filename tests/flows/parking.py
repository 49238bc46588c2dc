"""Runs that wait: each writes what it does into a file, so that what is done twice is seen."""

import asyncio
import time
from pathlib import Path

from dbos import DBOS

from durable_workflows import ask_human, receive, receive_async
from durable_workflows.authoring import does_not_park


@DBOS.step()
def note(file: str, text: str) -> str:
    """Append a line."""
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{text}\n")
    print("noted", text)
    return text


@DBOS.workflow()
def parked_receives(file: str) -> str:
    print("before")
    note(file, "a")
    print("between")
    message = receive("go", schema=str)
    print("after")
    return note(file, message)


@DBOS.workflow()
def parked_after_steps(file: str, steps: int) -> str:
    for _ in range(steps):
        DBOS.run_step({"name": "small"}, int)
    return note(file, receive("go", schema=str))


@DBOS.workflow()
async def parked_receives_async(file: str) -> str:
    note(file, "a")
    return note(file, await receive_async("go", schema=str))


@DBOS.workflow()
def parked_asks(file: str) -> str:
    note(file, "a")
    return note(file, ask_human("Go?", schema=str))


@DBOS.workflow()
def parked_sleeps(file: str) -> str:
    note(file, "a")
    DBOS.sleep(3600)
    return note(file, "slept")


@DBOS.workflow()
def parked_sleeps_for(file: str, seconds: float) -> str:
    note(file, "a")
    DBOS.sleep(seconds)
    return note(file, "slept")


@DBOS.workflow()
async def parked_sleeps_async(file: str) -> str:
    note(file, "a")
    await DBOS.sleep_async(3600)
    return note(file, "slept")


@DBOS.workflow()
def parked_times_out(file: str) -> str:
    note(file, "a")
    return note(file, receive("go", schema=str, timeout=3600, default="nothing came"))


@DBOS.workflow()
def parked_sets(file: str) -> None:
    DBOS.set_event("go", "set")


@DBOS.workflow()
def parked_gets(file: str, of: str) -> str:
    note(file, "a")
    return note(file, DBOS.get_event(of, "go", 3600))


@DBOS.workflow()
def parked_calls(file: str) -> str:
    note(file, "caller")
    print("calling")
    result = parked_receives(file)
    print("called")
    return note(file, f"child: {result}")


@DBOS.workflow()
def parked_starts(file: str) -> str:
    note(file, "caller")
    child = DBOS.start_workflow(parked_receives, file)
    print("started")
    result = child.get_result()
    print("ended")
    return note(file, f"child: {result}")


@DBOS.workflow()
async def parked_gathers(file: str) -> str:
    note(file, "caller")
    children = [await DBOS.start_workflow_async(parked_receives_async, file) for _ in range(2)]
    results = await asyncio.gather(*[child.get_result() for child in children])
    return note(file, f"children: {' '.join(results)}")


@DBOS.workflow()
async def parked_branches(file: str) -> str:
    """Several waits at once."""
    note(file, "a")
    parts = await asyncio.gather(receive_async("one", schema=str), receive_async("two", schema=str))
    return note(file, " ".join(parts))


@DBOS.workflow()
def parked_holds_on(file: str) -> str:
    """Code that lets nothing pass, and goes on."""
    note(file, "a")
    while True:
        try:
            return note(file, receive("go", schema=str))
        except BaseException as error:  # noqa: BLE001
            # deterministic: it is what is tested
            try:
                note(file, f"caught {type(error).__name__}")
            finally:
                print("finally")


@DBOS.workflow()
def parked_converts(file: str) -> str:
    """Code that makes another error of whatever is raised."""
    note(file, "a")
    try:
        return note(file, receive("go", schema=str))
    except BaseException as error:
        # deterministic: it is what is tested
        raise ValueError("converted") from error


@DBOS.workflow()
def parked_swallows(file: str) -> str:
    """Code that returns whatever is raised."""
    note(file, "a")
    try:
        return note(file, receive("go", schema=str))
    except BaseException:  # noqa: BLE001
        # deterministic: it is what is tested
        return "swallowed"


@DBOS.workflow()
@does_not_park
def parked_stays(file: str) -> str:
    note(file, "a")
    return note(file, receive("go", schema=str))


@DBOS.workflow()
async def parked_has_a_timer(file: str) -> str:
    """It would lose the time that has passed."""
    note(file, "a")
    try:
        waiting = receive_async("go", schema=str)
        return note(file, await asyncio.wait_for(waiting, 3600))  # deterministic: it never ends
    except TimeoutError:
        return "late"


@DBOS.step()
def note_again(file: str) -> str:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write("again\n")
    return "again"


TIMES: list[int] = []


@DBOS.workflow()
def parked_forgets(file: str) -> str:
    """Code that is not deterministic."""
    TIMES.append(1)  # deterministic: no, that is what is tested
    if len(TIMES) == 1:
        note(file, "a")
    else:
        note_again(file)
    return receive("go", schema=str)


@DBOS.workflow()
def parked_quick(file: str) -> str:
    return note(file, "quick")


@DBOS.step()
def work(until: str) -> None:
    """Be busy until there is a file."""
    while not Path(until).exists():
        time.sleep(0.02)


@DBOS.workflow()
def parked_works(file: str, until: str) -> str:
    note(file, "works")
    work(until)
    return "worked"


@DBOS.step()
def note_and_work(file: str, text: str, until: str) -> str:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{text}\n")
    while not Path(until).exists():
        time.sleep(0.02)
    return text


@DBOS.workflow()
def parked_works_later(file: str, until: str) -> str:
    note(file, "a")
    return note_and_work(file, receive("go", schema=str), until)


@DBOS.workflow()
def parked_ends_its_worker(file: str) -> None:
    import os

    receive("go", schema=str)
    os._exit(3)

"""Runs that do one step after the other whose effect happens at most once, until there is a file `over`, or they have done as many as they should. `kills/test_effects.py` reads what they write.

An effect is a line in the file `effects`. Each run notes how far it is: it `calls` a step; the step `begins`, so that its intent is on the disk; the
body has its result, which is `recorded`. A step that looks its effect up notes what it has found: `had` or `missing`.
"""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

from dbos import DBOS

from durable_workflows import NOT_DONE, step

# Seconds, chosen anew each time: in the body, which is short, since a replay takes them again; before the effect; and after it.
_IN_BODY = (0.0, 0.02, 0.1)
_BEFORE = (0.0, 0.05, 0.3, 0.8)
_AFTER = (0.0, 0.05, 0.5, 1.5)


def write(folder: str, file: str, line: str) -> None:
    """Append a line, with the process that writes it, and bring it to the disk."""
    with (Path(folder) / file).open("a", encoding="utf-8") as out:
        out.write(f"{line} {os.getpid()}\n")  # deterministic: nothing depends on it
        out.flush()
        os.fsync(out.fileno())


def note(folder: str, what: str, number: int) -> None:
    """Note how far the run is."""
    write(folder, f"{DBOS.workflow_id}.notes", f"{what} {number}")


def have_effect(folder: str, number: int) -> None:
    """The effect of a step."""
    write(folder, "effects", f"{DBOS.workflow_id} {number}")


def outcome(folder: str, how: str) -> dict[str, Any]:
    """What a step returns."""
    return {"how": how, "is_over": (Path(folder) / "over").exists()}


def look(folder: str, number: int) -> Any:
    """Look a step's effect up."""
    lines = (Path(folder) / "effects").read_text(encoding="utf-8").splitlines()
    had = f"{DBOS.workflow_id} {number}" in {line.rpartition(" ")[0] for line in lines}
    note(folder, "had" if had else "missing", number)
    return outcome(folder, "found") if had else NOT_DONE


async def look_async(folder: str, number: int) -> Any:
    """`look` of an async step."""
    return look(folder, number)


def pay(folder: str, number: int) -> dict[str, Any]:
    """Have the effect, after a moment, and return after another."""
    note(folder, "begins", number)
    time.sleep(random.choice(_BEFORE))
    have_effect(folder, number)
    time.sleep(random.choice(_AFTER))
    return outcome(folder, "done")


async def pay_async(folder: str, number: int) -> dict[str, Any]:
    """`pay` of an async step."""
    note(folder, "begins", number)
    await asyncio.sleep(random.choice(_BEFORE))
    have_effect(folder, number)
    await asyncio.sleep(random.choice(_AFTER))
    return outcome(folder, "done")


told = step(effect="once", name="told")(pay)
found = step(effect="once", name="found", find=look)(pay)
told_async = step(effect="once", name="told_async")(pay_async)
found_async = step(effect="once", name="found_async", find=look_async)(pay_async)


@DBOS.workflow()
def kept_pays(folder: str, finds: bool, most: int = 1_000_000) -> list[str]:
    """Return how each step came to its result."""
    hows: list[str] = []
    is_over = False
    while not is_over:
        number = len(hows) + 1
        time.sleep(random.choice(_IN_BODY))
        note(folder, "calls", number)
        time.sleep(random.choice(_IN_BODY))
        done = (found if finds else told)(folder, number)
        note(folder, "recorded", number)
        hows.append(done["how"])
        is_over = done["is_over"] or number >= most
    return hows


@DBOS.workflow()
async def kept_pays_async(folder: str, finds: bool, most: int = 1_000_000) -> list[str]:
    """`kept_pays` of an async run."""
    hows: list[str] = []
    is_over = False
    while not is_over:
        number = len(hows) + 1
        await asyncio.sleep(random.choice(_IN_BODY))
        note(folder, "calls", number)
        await asyncio.sleep(random.choice(_IN_BODY))
        done = await (found_async if finds else told_async)(folder, number)
        note(folder, "recorded", number)
        hows.append(done["how"])
        is_over = done["is_over"] or number >= most
    return hows

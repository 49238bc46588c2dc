"""One workflow, and what may become of it by an edit. Tests give a run of the first the name of another, and rehearse it."""

import asyncio
import os
from pathlib import Path

from dbos import DBOS


def note(file: str, word: str) -> str:
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(f"{word}\n")
    return word


@DBOS.step()
def noted(file: str, word: str) -> str:
    return note(file, word)


@DBOS.step()
def also_noted(file: str, word: str) -> str:
    return note(file, word)


@DBOS.step()
def fails(file: str) -> None:
    note(file, "fails")
    raise ValueError("no")


@DBOS.workflow()
def little_one(file: str) -> str:
    return noted(file, "little one")


@DBOS.workflow()
def other_little_one(file: str) -> str:
    return noted(file, "other little one")


def told(file: str) -> None:
    """The part that all have."""
    DBOS.set_event("so far", "half")
    DBOS.write_stream("words", "half")
    little_one(file)


@DBOS.workflow()
def as_it_was(file: str) -> str:
    word = noted(file, "first")  # 1
    also_noted(file, word)  # 2
    for number in range(2):
        noted(file, str(number))  # 3, 4
    try:
        fails(file)  # 5
    except ValueError:
        DBOS.sleep(0.01)  # 6
    told(file)  # 7, 8, 9, 10
    return word


@DBOS.workflow()
def the_same(file: str) -> str:
    """Other arguments and other words are no difference."""
    word = noted(file, "another word")
    also_noted(file, f"{word}!")
    for number in (7, 8):
        noted(file, str(number))
    try:
        fails("/nowhere")
    except ValueError:
        DBOS.sleep(1_000_000)
    told(file)
    return word.upper()


@DBOS.workflow()
def step_inserted(file: str) -> str:
    noted(file, "first")
    noted(file, "new")
    return word_of_rest(file)


@DBOS.workflow()
def same_step_inserted_in_a_loop(file: str) -> str:
    noted(file, "first")
    also_noted(file, "second")
    for number in range(3):
        noted(file, str(number))
    return word_of_rest(file)


@DBOS.workflow()
def loop_shorter(file: str) -> str:
    noted(file, "first")
    also_noted(file, "second")
    noted(file, "0")
    return word_of_rest(file)


def word_of_rest(file: str) -> str:
    try:
        fails(file)
    except ValueError:
        DBOS.sleep(0.01)
    told(file)
    return "rest"


def begun(file: str) -> None:
    noted(file, "first")
    also_noted(file, "second")
    for number in range(2):
        noted(file, str(number))


@DBOS.workflow()
def step_deleted(file: str) -> str:
    noted(file, "first")
    for number in range(2):
        noted(file, str(number))
    return word_of_rest(file)


@DBOS.workflow()
def reordered(file: str) -> str:
    also_noted(file, "second")
    noted(file, "first")
    for number in range(2):
        noted(file, str(number))
    return word_of_rest(file)


@DBOS.step(name="noted_too")
def renamed_step(file: str, word: str) -> str:
    return note(file, word)


@DBOS.workflow()
def renamed(file: str) -> str:
    renamed_step(file, "first")
    return word_of_rest(file)


@DBOS.workflow()
def error_not_caught(file: str) -> str:
    begun(file)
    fails(file)
    return "never"


@DBOS.workflow()
def without_sleep(file: str) -> str:
    begun(file)
    try:
        fails(file)
    except ValueError:
        told(file)
    return "rest"


@DBOS.workflow()
def receives_in_place_of_sleep(file: str) -> object:
    begun(file)
    try:
        fails(file)
    except ValueError:
        return DBOS.recv("go", timeout_seconds=1)
    return None


@DBOS.workflow()
def other_child(file: str) -> str:
    begun(file)
    try:
        fails(file)
    except ValueError:
        DBOS.sleep(0.01)
    DBOS.set_event("so far", "half")
    DBOS.write_stream("words", "half")
    return other_little_one(file)


@DBOS.workflow()
def child_started_only(file: str) -> str:
    begun(file)
    try:
        fails(file)
    except ValueError:
        DBOS.sleep(0.01)
    DBOS.set_event("so far", "half")
    DBOS.write_stream("words", "half")
    return DBOS.start_workflow(little_one, file).workflow_id


@DBOS.workflow()
def child_by_handle(file: str) -> str:
    begun(file)
    try:
        fails(file)
    except ValueError:
        DBOS.sleep(0.01)
    DBOS.set_event("another key", 1)
    DBOS.write_stream("other words", 2)
    return DBOS.start_workflow(little_one, file).get_result()


@DBOS.workflow()
def event_and_stream_swapped(file: str) -> str:
    begun(file)
    try:
        fails(file)
    except ValueError:
        DBOS.sleep(0.01)
    DBOS.write_stream("words", "half")
    DBOS.set_event("so far", "half")
    return little_one(file)


@DBOS.workflow()
def ends_early(file: str) -> str:
    return noted(file, "first")


@DBOS.workflow()
def goes_on_longer(file: str) -> str:
    begun(file)
    word_of_rest(file)
    return noted(file, "new last")


@DBOS.workflow()
def fails_at_the_end(file: str) -> str:
    begun(file)
    return str(1 / len(word_of_rest(file)[:0]))


@DBOS.workflow()
def catches_everything(file: str) -> str:
    """Nothing that it calls after the difference happens."""
    noted(file, "first")
    for word in ("new", "newer", "newest"):
        try:
            noted(file, word)
        except BaseException:  # noqa: BLE001 - as an author may
            DBOS.set_event("caught", word)
    return "rest"


@DBOS.workflow()
async def asynchronous(file: str) -> str:
    await asyncio.to_thread(str)  # deterministic: a rehearsal sees it
    word = await DBOS.run_step_async({"name": "noted"}, noted, file, "first")
    await DBOS.run_step_async({"name": "also_noted"}, noted, file, "second")
    for number in range(2):
        await DBOS.run_step_async({"name": "noted"}, noted, file, str(number))
    try:
        await DBOS.run_step_async({"name": "fails"}, noted, file, "fails")
    except ValueError:
        await DBOS.sleep_async(0.01)
    await DBOS.set_event_async("so far", "half")
    await DBOS.write_stream_async("words", "half")
    handle = await DBOS.start_workflow_async(little_one_async, file)
    await handle.get_result()
    return word


@DBOS.workflow(name="little_one_async")
async def little_one_async(file: str) -> str:
    return file


@DBOS.workflow()
def writes_outside_of_steps(file: str) -> str:
    noted(file, "first")
    Path(file).write_text("gone", encoding="utf-8")  # deterministic: a rehearsal sees it
    return "never"


@DBOS.workflow()
def does_not_end(file: str) -> str:
    word = noted(file, "first")
    while word:
        pass
    return word


@DBOS.workflow()
def ends_the_process(file: str) -> str:
    word = noted(file, "first")
    os._exit(len(word))


@DBOS.workflow()
def has_other_arguments(file: str, number: int) -> str:
    return noted(file, str(number))

"""Steps that happen at most once: each writes its effect into a file, so that a repeated one is seen, and can be held before and after it."""

import asyncio
import time
from pathlib import Path
from typing import Any

from dbos import DBOS

from durable_workflows import NOT_DONE, idempotency_key, step
from durable_workflows.authoring import does_not_park


def do(file: str, text: str) -> None:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{text}\n")


def hold(file: str, moment: str) -> None:
    """Stay here while the file says so, for the process to be killed."""
    while Path(f"{file}.hold-{moment}").exists():
        do(f"{file}.held", moment)
        time.sleep(0.02)


def pay(file: str) -> dict[str, Any]:
    hold(file, "before")
    do(file, "paid")
    hold(file, "after")
    return {"receipt": 1}


async def pay_async(file: str) -> dict[str, Any]:
    return await asyncio.to_thread(pay, file)


def look(file: str) -> Any:
    hold(file, "look")
    if Path(f"{file}.broken").exists():
        raise ConnectionError("the bank does not answer")
    do(f"{file}.looked", "looked")
    return {"receipt": "found"} if Path(file).exists() else NOT_DONE


async def look_async(file: str) -> Any:
    return await asyncio.to_thread(look, file)


@step(effect="once")
def effect_pay(file: str) -> dict[str, Any]:
    return pay(file)


@step(effect="once")
async def effect_pay_async(file: str) -> dict[str, Any]:
    return await pay_async(file)


@step(effect="once", find=look)
def effect_pay_found(file: str) -> dict[str, Any]:
    return pay(file)


@step(effect="once", find=look_async, name="pay_and_find")
async def effect_pay_found_async(file: str) -> dict[str, Any]:
    return await pay_async(file)


@step(effect="once", person=True)
def effect_pay_in_person(file: str) -> dict[str, Any]:
    return pay(file)


@step(effect="once")
def effect_fail(file: str) -> None:
    do(file, "tried")
    raise ValueError("the card is not valid")


@step(effect="repeatable")
def effect_note(text: str) -> str:
    return text


@DBOS.workflow()
def effects_pays(file: str) -> dict[str, Any]:
    effect_note("a")
    paid = effect_pay(file)
    effect_note("b")
    return paid


@DBOS.workflow()
async def effects_pays_async(file: str) -> dict[str, Any]:
    effect_note("a")
    paid = await effect_pay_async(file)
    effect_note("b")
    return paid


@DBOS.workflow()
def effects_pays_found(file: str) -> dict[str, Any]:
    effect_note("a")
    return effect_pay_found(file)


@DBOS.workflow()
async def effects_pays_found_async(file: str) -> dict[str, Any]:
    effect_note("a")
    return await effect_pay_found_async(file)


@DBOS.workflow()
def effects_pays_in_person(file: str) -> dict[str, Any]:
    effect_note("a")
    return effect_pay_in_person(file)


@DBOS.workflow()
@does_not_park
def effects_pays_and_stays(file: str) -> dict[str, Any]:
    effect_note("a")
    return effect_pay(file)


@DBOS.workflow()
@does_not_park
async def effects_pays_and_stays_async(file: str) -> dict[str, Any]:
    effect_note("a")
    return await effect_pay_async(file)


@DBOS.workflow()
async def effects_pays_in_its_loop(file: str) -> dict[str, Any]:
    """It calls a sync step."""
    effect_note("a")
    return effect_pay(file)


@DBOS.workflow()
def effects_fails(file: str) -> None:
    effect_fail(file)


@DBOS.workflow()
def effects_family(file: str) -> dict[str, Any]:
    effect_note("a")
    return DBOS.start_workflow(effects_pays, file).get_result()


@step()
def key_of_step(file: str) -> str:
    do(file, idempotency_key())
    hold(file, "after")
    return idempotency_key()


@DBOS.workflow()
def effects_keys(file: str) -> list[str]:
    return [key_of_step(file), key_of_step(file)]


@step()
def effect_nested(file: str) -> None:
    effect_pay(file)  # deterministic: it is refused


@DBOS.workflow()
def effects_nests(file: str) -> None:
    effect_nested(file)


@DBOS.workflow()
def effects_key_outside() -> str:
    return idempotency_key()

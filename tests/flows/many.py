"""Many runs at once, and waits that poll. Each piece of work writes into a file when it begins and ends, so that a repeated one is seen."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbos import DBOS

from durable_workflows.authoring import (
    NamedOutcomes,
    Outcome,
    Outcomes,
    does_not_park,
    gather_runs,
    gather_runs_async,
    map_runs,
    map_runs_async,
    wait_until,
    wait_until_async,
)


def do(file: str, text: str) -> None:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{text}\n")


@DBOS.step()
def many_work(file: str, number: int, seconds: float) -> None:
    do(file, f"begin {number}")
    time.sleep(seconds)
    do(file, f"end {number}")


@DBOS.workflow()
def many_item(item: dict[str, Any]) -> Any:
    """Double a number, perhaps after a while, or fail, or wait for a message."""
    if "file" in item:
        many_work(item["file"], item["number"], item.get("seconds", 0.0))
    if item.get("wait"):
        DBOS.recv("go", timeout_seconds=300)
    if item.get("fail"):
        raise KeyError(f"no {item['number']}")
    return item["text"] * 1000 if "text" in item else 2 * item["number"]


@DBOS.workflow()
async def many_item_async(item: dict[str, Any]) -> int:
    """Double a number, or fail."""
    if item.get("fail"):
        raise KeyError(f"no {item['number']}")
    return 2 * item["number"]


def told(one: Outcome[Any]) -> dict[str, Any]:
    return asdict(one) | {"error": one.error and f"{type(one.error).__name__}: {one.error}"}


def summary(outcomes: Outcomes[Any] | NamedOutcomes[Any]) -> dict[str, Any]:
    counts = {
        name: getattr(outcomes, name)
        for name in ("ok", "succeeded", "failed", "stopped", "not_started")
    }
    if isinstance(outcomes, NamedOutcomes):
        return counts | {"runs": {name: told(one) for name, one in outcomes.items()}}
    return counts | {"runs": [told(one) for one in outcomes]}


@DBOS.workflow()
def many_over(items: list[dict[str, Any]], limits: dict[str, Any]) -> dict[str, Any]:
    return summary(map_runs(many_item, items, **limits))


@DBOS.workflow()
async def many_over_async(items: list[dict[str, Any]], limits: dict[str, Any]) -> dict[str, Any]:
    return summary(await map_runs_async(many_item, items, **limits))


@DBOS.workflow()
async def many_async_items(items: list[dict[str, Any]]) -> list[int]:
    return (await map_runs_async(many_item_async, items)).outputs


@DBOS.workflow()
def many_twice(items: list[dict[str, Any]]) -> list[Any]:
    """What the first call returns goes into the second."""
    first = map_runs(many_item_async, items)
    second = map_runs(many_item, [{"number": number} for number in first.outputs], concurrency=1)
    return second.outputs


@DBOS.workflow()
@does_not_park
def many_nested(depth: int) -> int:
    """The number of runs below, and this one. It holds its place while it waits for them."""
    if depth == 0:
        return 1
    return 1 + sum(map_runs(many_nested, [depth - 1] * 2, concurrency=1).outputs)


@DBOS.workflow()
def many_catches(items: list[dict[str, Any]]) -> str:
    [outcome] = map_runs(many_item, items)
    try:
        raise outcome.error or AssertionError
    except KeyError as error:
        return f"caught {error.args}"


@DBOS.workflow()
def many_gather(wait: bool, limits: dict[str, Any]) -> dict[str, Any]:
    runs = {
        "sync": (many_item, {"number": 1}),
        "async": (many_item_async, {"number": 2}),
        "nested": (many_nested, 1),
        "last": (many_item, {"number": 4, "wait": wait}),
    }
    return summary(gather_runs(runs, **limits))


@DBOS.workflow()
async def many_gather_async(limits: dict[str, Any]) -> dict[str, Any]:
    runs = {"one": (many_item, {"number": 1}), "two": (many_item_async, {"number": 2})}
    return summary(await gather_runs_async(runs, **limits))


@DBOS.workflow()
def many_thousands(count: int, text: str) -> dict[str, Any]:
    items = [{"number": number} | ({"text": text} if text else {}) for number in range(count)]
    outcomes = map_runs(many_item, items)
    return {
        "succeeded": outcomes.succeeded,
        "in_order": text != "" or outcomes.outputs == list(range(0, 2 * count, 2)),
        "characters": sum(len(str(one)) for one in outcomes.outputs),
    }


@DBOS.step()
def many_not_a_workflow(item: int) -> int:
    return item


@DBOS.step()
def many_in_a_step() -> int:
    return len(map_runs(many_nested, [0]))


@DBOS.workflow()
def many_wrong(how: str) -> object:
    match how:
        case "a step":
            return len(map_runs(many_not_a_workflow, [1]))
        case "in a step":
            return many_in_a_step()
        case "no pause":
            return wait_until(lambda: True, every=0)
        case "shorter":
            return wait_until(lambda: True, every=1, backoff=0.5)
        case "no zone":
            return wait_until(lambda: True, every=1, deadline=datetime(2020, 1, 1))
        case "a time":
            return wait_until(lambda: False, every=1, deadline=datetime(2020, 1, 1, tzinfo=UTC))
        case _:
            return None


# --- Polling


def looked(file: str) -> str | None:
    """Note the look, and return what the file `<file>.there` says."""
    do(file, "looked")
    there = Path(f"{file}.there")
    return there.read_text(encoding="utf-8") if there.exists() else None


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.05)
def look_step() -> str | None:
    file = str(Path("step.looks").resolve())
    found = looked(file)
    if Path(f"{file}.breaks").exists():
        Path(f"{file}.breaks").unlink()
        raise ConnectionError("once")
    return found


@DBOS.workflow()
def polls(file: str, every: float, deadline: float | None = None, backoff: float = 1.0) -> str:
    found = wait_until(lambda: looked(file), every=every, deadline=deadline, backoff=backoff)
    return f"found {found}"


@DBOS.workflow()
def polls_step() -> str:
    return f"found {wait_until(look_step, every=0.1)}"


@DBOS.workflow()
def polls_longest(file: str) -> str | None:
    return wait_until(lambda: looked(file), every=0.05, backoff=1000, longest=0.2)


@DBOS.workflow()
async def polls_async(file: str, every: float, deadline: float | None = None) -> str:
    async def look() -> str | None:
        return looked(file)

    return f"found {await wait_until_async(look, every=every, deadline=deadline)}"

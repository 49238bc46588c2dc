"""Steps with time-outs: each attempt is a line in a file."""

import asyncio
from pathlib import Path

from dbos import DBOS

from durable_workflows import Retry, StepTimeout, receive_async, step


def tell(file: str, text: str) -> None:
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(f"{text}\n")


async def hang(file: str, hangs: int, seconds: float = 3600) -> str:
    """Hang the first so many times."""
    tell(file, "begun")
    if Path(file).read_text(encoding="utf-8").count("begun") <= hangs:  # noqa: ASYNC240
        try:
            await asyncio.sleep(seconds)
        finally:
            tell(file, "cleaned up")
    return "done"


@step(timeout=0.2)
async def limited(file: str, hangs: int) -> str:
    return await hang(file, hangs)


@step(timeout=0.2, retry=Retry(attempts=3, initial=0.05, jitter=0))
async def limited_often(file: str, hangs: int) -> str:
    return await hang(file, hangs)


@step(timeout=0.2, retry=Retry(attempts=3, initial=0.05, jitter=0, not_on=StepTimeout))
async def limited_once(file: str, hangs: int) -> str:
    return await hang(file, hangs)


@step(timeout=60)
async def times_out_itself(file: str) -> str:
    tell(file, "begun")
    raise TimeoutError("of its own")


@DBOS.workflow()
async def timed(file: str, hangs: int, how: str = "limited", waits: bool = False) -> str:
    """Do a step that may hang."""
    try:
        match how:
            case "often":
                result = await limited_often(file, hangs)
            case "not on it":
                result = await limited_once(file, hangs)
            case "its own":
                result = await times_out_itself(file)
            case _:
                result = await limited(file, hangs)
    except StepTimeout as error:
        result = f"late: {error}"
        if not waits:
            raise
    if waits:
        await receive_async("word")
    return result

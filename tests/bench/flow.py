"""The workflows of the bench: plain DBOS, one file for all contenders.

Times are those of the wall clock, which all processes of the machine share.
"""

import time
from pathlib import Path

from dbos import DBOS


@DBOS.step(name="bench_stamp")
def stamp(_number: int) -> float:
    """Say when it began."""
    return time.time()


@DBOS.workflow(name="bench_steps")
def steps(count: int, not_before: float = 0.0) -> list[float]:
    """Do so many steps; return when the first and the last one began."""
    time.sleep(max(0.0, not_before - time.time()))
    stamps = [stamp(number) for number in range(count)]
    return [stamps[0], stamps[-1]]


@DBOS.workflow(name="bench_nothing")
def nothing() -> float:
    """Do nothing; return when."""
    return time.time()


@DBOS.workflow(name="bench_wait")
def wait() -> float:
    """Wait for a message; return when the next step began."""
    DBOS.recv("bench", timeout_seconds=86_400)
    return stamp(1)


@DBOS.workflow(name="bench_receive")
def receive(count: int, log: str) -> None:
    """Receive so many messages; write a line with the time of each."""
    for _ in range(count):
        DBOS.recv("bench", timeout_seconds=60)
        received = time.time()
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{received}\n")

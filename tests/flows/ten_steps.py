"""Ten steps that each leave a line in a file: what ran, and how often, can be counted afterwards."""

import time
from pathlib import Path

from dbos import DBOS


@DBOS.step()
def write_line(file: str, number: int, seconds: float) -> int:
    time.sleep(seconds)
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(f"{number}\n")
    return number


@DBOS.workflow()
def ten_steps(file: str, seconds: float = 0.0, steps: int = 10) -> int:
    """Write a line for each of ten steps."""
    return sum(write_line(file, number, seconds) for number in range(1, steps + 1))

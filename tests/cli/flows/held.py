"""One workflow whose step lasts until a test makes a file."""

import time
from pathlib import Path

from dbos import DBOS


@DBOS.step()
def note_line(file: str, line: str) -> None:
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")


@DBOS.step()
def hold(file: str) -> None:
    while not Path(f"{file}.go").exists():
        time.sleep(0.02)


@DBOS.workflow()
def held(file: str) -> None:
    """Write a line, wait for the file, write another line."""
    note_line(file, "before")
    hold(file)
    note_line(file, "after")

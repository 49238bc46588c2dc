"""What the workers in Python have in common."""

import time
from pathlib import Path


def note(log: str) -> None:
    """Write a line with the time. A step, since a run that waited begins anew."""
    received = time.time()
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{received}\n")

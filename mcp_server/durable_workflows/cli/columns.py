"""Rows as aligned columns of plain text, cut to the available room."""

import math
from collections.abc import Iterator, Sequence

from durable_workflows import fitting

GAP = "  "

Shrinking = Sequence[
    tuple[int, int]
]  # columns in the order in which they give up room, with their smallest widths


def lines(rows: Sequence[Sequence[str]], room: int | None, shrinking: Shrinking) -> Iterator[str]:
    """The rows, one per line. Without `room` nothing is cut; a column that does not shrink is never cut."""
    rows = [[fitting.shown_line(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    free = math.inf if room is None else room - len(GAP) * (len(widths) - 1)
    for column, least in shrinking:
        excess = max(sum(widths) - free, 0)
        widths[column] = int(min(widths[column], max(widths[column] - excess, least)))
    for row in rows:
        cells = (cut(text, width).ljust(width) for text, width in zip(row, widths, strict=True))
        yield GAP.join(cells).rstrip()


def cut(text: str, width: int) -> str:
    """A text of that width, with an ellipsis if its end is left out."""
    return text if len(text) <= width else f"{text[: width - 1]}…" if width else ""

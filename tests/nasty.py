"""Values that workflows, callers, libraries and file names do bring, and that something on their way cannot take."""

from collections.abc import Sequence
from typing import Any

import pytest


def nested(levels: int) -> list[Any]:
    """Lists in each other."""
    found: list[Any] = []
    for _ in range(levels - 1):
        found = [found]
    return found


TEXTS = (
    "a\0b",
    "caf\udce9.txt",  # a file name that is not UTF-8, as os.fsdecode gives it
    "\ud83d half of an emoji",
    "\x1b]52;c;ZWNobyBiYWQ=\x07",  # puts a text into the clipboard of a terminal
    "\x1b[2J\x1b[H\x1b[31mApprove the harmless one?\x1b[0m",
    "\x9b2J\x9d0;title\x9c",  # the same as single characters of C1
    "shown\roverwritten",
    "gone\x08\x08\x08\x08\x7f",
    "invoice\u202efdp.exe",
    "\u2066isolated\u2069\u061c",
    "pay\u200bpal\u200d\u2060\ufeff",
    "tag \U000e0041\U000e007f",
    "\u3164\u115f\u2800",
    "lines\nof\r\nseveral\x0bkinds\x0c\x1c\x85\u2028\u2029",
    "\ttabs\t",
    "[bold]markup[/bold] **Next:** `cancel` # heading",
    "```\n**Why:** nothing\n```",
    "é ü 日本語 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u05e9\u05dc\u05d5\u05dd",
    "'; drop table x; --",
    "%s %(name)s {name} $1",
    "",
    " ",
    "x" * 5000,
)
NUMBERS = (
    float("nan"),
    float("inf"),
    float("-inf"),
    1e308,
    5e-324,
    -0.0,
    2**63 + 1,
    -(2**63) - 1,
    10**5000,
)
SHAPES: tuple[Any, ...] = (
    nested(60),
    nested(150),
    nested(5000),
    {"a": {"b\0": ["\ud800", float("inf")]}, "": None},
)
VALUES: tuple[Any, ...] = (*TEXTS, *NUMBERS, *SHAPES)


def each(values: Sequence[object]) -> pytest.MarkDecorator:
    """Run a test with each as its `value`; the names of the tests are numbers, as many of the values cannot be part of one."""
    return pytest.mark.parametrize("value", values, ids=range(len(values)))

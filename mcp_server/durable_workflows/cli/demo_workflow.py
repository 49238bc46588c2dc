"""The workflows of `durable-workflows demo`, which copies this file into the workflow folder of its project.

Plain DBOS. Each step appends a line to `effects` when it begins, so a repeated step is visible. It takes at least `_PACE_SECONDS`,
so that a kill meets steps in flight.
"""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dbos import DBOS

TOPIC = "approval"
_STEPS = 5  # of each `measure`
_PACE_SECONDS = 0.4
_MOST_FILES = 300
_MOST_BYTES = 1_000_000  # a larger file is not text written by a person
_SKIPPED = {"node_modules", "__pycache__", "site-packages", "venv"}

Figures = dict[str, int]


@DBOS.workflow(name="survey")
def survey(directory: str, effects: str) -> dict[str, object]:
    """Measure three parts of a directory, each in a run of its own; after an approval, sum up."""
    parts = find_parts(directory, effects)
    handles = [DBOS.start_workflow(measure, part, files, effects) for part, files in parts.items()]
    figures = [handle.get_result() for handle in handles]
    answer = DBOS.recv(TOPIC, timeout_seconds=3600)
    return {"parts": list(parts), **sum_up(figures, effects), "answer": answer}


@DBOS.workflow(name="measure")
def measure(part: str, files: list[str], effects: str) -> Figures:
    """Count the lines and words of some files, in several steps."""
    return add_up([count(files[step::_STEPS], effects) for step in range(_STEPS)])


@DBOS.step(name="find_parts")
def find_parts(directory: str, effects: str) -> dict[str, list[str]]:
    """The text files of the three largest sub-directories, or three equal parts if there are fewer."""
    _begin(effects)
    root = Path(directory)
    files = list(itertools.islice(_files(root), _MOST_FILES))
    if not files:
        raise ValueError(f"There are no text files in {directory}.")
    groups: dict[str, list[str]] = {}
    for path in files:
        below = path.relative_to(root).parts
        if len(below) > 1:
            groups.setdefault(below[0], []).append(str(path))
    largest = sorted(groups, key=lambda name: -len(groups[name]))[:3]
    if len(largest) == 3:
        return {name: groups[name] for name in largest}
    return {f"part {one + 1}": [str(path) for path in files[one::3]] for one in range(3)}


@DBOS.step(name="count")
def count(files: list[str], effects: str) -> Figures:
    """The amount of text in the files."""
    _begin(effects)
    ready_at = time.monotonic() + _PACE_SECONDS
    texts = [Path(file).read_text(encoding="utf-8", errors="replace") for file in files]
    time.sleep(max(0.0, ready_at - time.monotonic()))
    return {
        "files": len(texts),
        "lines": sum(text.count("\n") for text in texts),
        "words": sum(len(text.split()) for text in texts),
    }


@DBOS.step(name="sum_up")
def sum_up(figures: list[Figures], effects: str) -> Figures:
    """The sum of the parts."""
    _begin(effects)
    return add_up(figures)


def add_up(figures: list[Figures]) -> Figures:
    """The same without a step: it has no effect, and always gives the same result."""
    return {name: sum(one[name] for one in figures) for name in ("files", "lines", "words")}


def _begin(effects: str) -> None:
    with Path(effects).open("a", encoding="utf-8") as file:
        file.write(f"{DBOS.workflow_id} {DBOS.step_id}\n")


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(one for one in folders if one not in _SKIPPED and one[0] != ".")
        for path in (Path(folder, name) for name in sorted(names) if name[0] != "."):
            if path.is_file() and path.stat().st_size <= _MOST_BYTES:
                yield path

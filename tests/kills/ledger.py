"""What the runs of `killing.py` have written, and the mistakes in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """A line of a run's file: a step `begins` or `ends` in a process, or is `recorded`."""

    what: str
    step: int
    pid: int
    at: float


class Ledger:
    """The files of all runs, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def size(self) -> int:
        """How much there is: it grows with each line."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    def runs(self) -> dict[str, Sequence[Line]]:
        """The lines of each run."""
        return {path.name: _lines(path) for path in self._folder.iterdir() if path.name != "over"}

    def problems(self) -> list[str]:
        """The mistakes of all runs."""
        return [
            f"{run}: {problem}"
            for run, lines in self.runs().items()
            for problem in _problems(lines)
        ]

    def repeated(self) -> int:
        """How many steps began again."""
        return sum(
            len(began) - len({line.step for line in began})
            for lines in self.runs().values()
            for began in [[line for line in lines if line.what == "begins"]]
        )

    def pauses(self, run: str) -> list[float]:
        """The seconds between what a step has recorded and the beginning of the next one."""
        first: dict[tuple[str, int], float] = {}
        for line in self.runs()[run]:
            first.setdefault((line.what, line.step), line.at)
        return [
            at - first["recorded", step - 1]
            for (what, step), at in first.items()
            if what == "begins" and step > 1
        ]


def _lines(path: Path) -> list[Line]:
    return [
        Line(what, int(step), int(pid), float(at))
        for what, step, pid, at in map(str.split, path.read_text(encoding="utf-8").splitlines())
    ]


def _problems(lines: Sequence[Line]) -> Iterator[str]:
    began: dict[int, list[int]] = {}  # by step, the processes
    recorded: set[int] = set()
    for line in lines:
        processes = began.setdefault(line.step, [])
        if line.what == "begins":
            if line.step in recorded:
                yield f"step {line.step} began again, though it was recorded"
            if line.pid in processes:
                yield f"step {line.step} began twice in process {line.pid}"
            processes.append(line.pid)
        if line.what == "ends" and line.pid != processes[-1]:
            yield f"step {line.step} was in two processes at once: {processes}"
        if line.what == "recorded":
            recorded.add(line.step)
    if missing := began.keys() - recorded:
        yield f"steps {sorted(missing)} were not recorded"

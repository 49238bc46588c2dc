from pathlib import Path

from dbos import DBOS


@DBOS.step()
def count_lines(path: str) -> int:
    return len(Path(path).read_text(encoding="utf-8").splitlines())


@DBOS.workflow()
def line_counts(paths: list[str]) -> dict[str, int]:
    """Count the lines of some files."""
    return {path: count_lines(path) for path in paths}

"""Use when work has several steps that must not be lost or done twice: fetch data, work on it, write a result.

It fetches tables (CSV) from URLs, sums up one column of each and writes a report into the project. What to change
first: `Source`, `fetch` and `summarise`; then the arguments, which become the schema that a start is checked against.
"""

import csv
import io
import json
import os
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError
from urllib.request import urlopen

from dbos import DBOS
from pydantic import Field

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

MAX_BYTES = 1_000_000  # a step's output is a row in the database: keep it small
TIMEOUT_SECONDS = 30


class Source(TypedDict):
    """A table: its name in the report, and an http:, https:, file: or data: URL."""

    name: str
    url: str


class Summary(TypedDict):
    """What the report says about one table."""

    name: str
    rows: int
    total: float


# So that it runs without arguments and without a network.
SAMPLE: list[Source] = [
    {"name": "north", "url": "data:text/csv,item,amount%0Aapples,3%0Apears,4.5"},
    {"name": "south", "url": "data:text/csv,item,amount%0Aplums,10"},
]


@DBOS.workflow()
def basic_workflow(
    sources: Annotated[list[Source] | None, Field(description="Default: two samples.")] = None,
    column: str = "amount",
    report: str = "basic_workflow.json",
) -> list[Summary]:
    """Sum up a column of some tables and write a report into the project."""
    # The body only decides what comes next. After a crash it runs again from the top, and each finished step returns
    # its recorded result. So the body must not read a clock, a file, the network or the environment.
    summaries: list[Summary] = []
    chosen = SAMPLE if sources is None else sources
    for number, source in enumerate(chosen):
        show_progress(number, len(chosen), f"fetching {source['name']}")
        text = fetch(source["url"])
        summaries.append(summarise(source["name"], text, column))
    write_report(report, summaries)
    show_progress(len(chosen), len(chosen), f"wrote {report}")
    return summaries


def show_progress(done: int, of: int, now: str) -> None:
    """Publish how far the run is: `inspect` shows the event, and other programs read it."""
    DBOS.set_event("progress", {"done": done, "of": of, "now": now})


def may_pass(error: BaseException) -> bool:
    """Whether another attempt makes sense. It does not if the server says that the request is wrong."""
    return not (isinstance(error, HTTPError) and 400 <= error.code < 500 and error.code != 429)


# Four attempts, after 1, 2 and 4 seconds. A run that is killed in between begins the step again with the first attempt.
@DBOS.step(
    retries_allowed=True, max_attempts=4, interval_seconds=1, backoff_rate=2, should_retry=may_pass
)
def fetch(url: str) -> str:
    """Read a URL. The step needs a timeout of its own: nothing else ends a call that hangs."""
    with urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        data: bytes = response.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{url[:100]} has more than {MAX_BYTES:,} bytes.")
    return data.decode("utf-8")


def summarise(name: str, text: str, column: str) -> Summary:
    """Not a step: the same text always gives the same summary, so a replay may compute it again."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return {"name": name, "rows": len(rows), "total": sum(float(row[column]) for row in rows)}


@DBOS.step()
def write_report(path: str, summaries: list[Summary]) -> None:
    """Write the whole report. A step runs at least once and must be safe to repeat, so nothing is appended."""
    target = Path(path)
    draft = target.with_name(f"{target.name}.draft")
    draft.write_text(json.dumps(summaries, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, target)

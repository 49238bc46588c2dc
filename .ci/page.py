"""Build the page into the package, for a wheel: `make page`. Whoever has the wheel needs no Node for the page."""

import shutil
import sys
from pathlib import Path

import anyio

from durable_workflows.settings import Settings
from durable_workflows.web import building


def build(into: Path) -> None:
    """Write the page into a folder, which is made anew, with the hash of the sources of which it is built."""
    text = anyio.run(building.page, Settings())
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    (into / building.PAGE).write_text(text, encoding="utf-8")
    (into / building.SOURCES).write_text(building.sources_hash() + "\n", encoding="utf-8")


if __name__ == "__main__":
    built = building.FOLDER / building.BUILT
    build(built)
    sys.stdout.write(f"{built}\n")

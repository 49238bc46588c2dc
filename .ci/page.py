"""The page: built into the package, for a wheel (`make page`), or its types checked (`--check`), as in `make check`."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio

from durable_workflows.pglite.node import node
from durable_workflows.settings import Settings
from durable_workflows.web import building


def build(into: Path) -> None:
    """Write the page into a folder, which is made anew, with the hash of the sources of which it is built."""
    text = anyio.run(building.page, Settings())
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    (into / building.PAGE).write_text(text, encoding="utf-8")
    (into / building.SOURCES).write_text(building.sources_hash() + "\n", encoding="utf-8")


def check() -> int:
    """Check the types of the page's sources, and return the status of the compiler."""
    settings = Settings()
    settings.cache.mkdir(parents=True, exist_ok=True)
    modules = anyio.run(building.installed_modules, settings, building.FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "page")
        shutil.copytree(
            building.FOLDER, work, ignore=shutil.ignore_patterns("node_modules", "dist")
        )
        (work / "node_modules").symlink_to(modules, target_is_directory=True)
        tsc = work / "node_modules" / "typescript" / "bin" / "tsc"
        return subprocess.run([os.fspath(node()), tsc], cwd=work, check=False).returncode


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(check())
    built = building.FOLDER / building.BUILT
    build(built)
    sys.stdout.write(f"{built}\n")

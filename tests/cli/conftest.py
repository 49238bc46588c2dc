"""A project that runs, for the tests of this folder that stop nothing."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of

from .command import succeed


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a project with some of `flows/`, and those of this folder, started by `bootstrap`."""
    folder = (tmp_path_factory.mktemp("cli") / "project").resolve()
    folder.mkdir()
    for name in ("asking", "effects", "messages", "odd", "ten_steps"):
        copy_flow(name, folder)
    for path in (Path(__file__).parent / "flows").glob("*.py"):
        shutil.copy(path, folder / "workflows")
    succeed("bootstrap", folder=folder)
    yield folder
    succeed("shutdown", folder=folder)  # with nothing to do for long enough it has ended by itself
    left = processes_of(folder)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session")
async def runs(running: Path) -> AsyncIterator[Engine]:
    """The engine of that project, for what a test needs beside its command: a process for each thing would take most of the time."""
    project = Project(Settings(project=running))
    yield await project.engine()
    await project.aclose()

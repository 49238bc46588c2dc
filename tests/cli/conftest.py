"""A project that runs, for the tests of this folder that stop nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import copy_flow, processes_of

from .command import succeed


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a project with all of `flows/`, started by `bootstrap`."""
    folder = (tmp_path_factory.mktemp("cli") / "project").resolve()
    folder.mkdir()
    for name in ("messages", "odd", "ten_steps"):
        copy_flow(name, folder)
    succeed("bootstrap", folder=folder)
    yield folder
    assert "have ended" in succeed("shutdown", folder=folder)
    left = processes_of(folder)
    assert not left, f"left behind: {left}"

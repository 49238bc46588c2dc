"""Runs that are parked in a native Postgres, whose statements run side by side."""

from collections.abc import AsyncIterator

import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of
from test_parking import *  # noqa: F403

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module")
async def parking(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `parking` of the other tests."""
    folder = (tmp_path_factory.mktemp("parking") / "project").resolve()
    folder.mkdir()
    copy_flow("parking", folder)
    url = postgres.database("parking")
    project = Project(Settings(project=folder, park_after_seconds=0.2, database_url=url))
    yield await project.engine()
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    left = processes_of(folder)
    assert not left, f"left behind: {left}"

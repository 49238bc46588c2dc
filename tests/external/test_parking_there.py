"""Runs that are parked in a native Postgres, whose statements run side by side."""

from collections.abc import AsyncIterator

import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.settings import Settings
from helpers import running_project
from test_parking import *  # noqa: F403

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module")
async def parking(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `parking` of the other tests."""
    folder = (tmp_path_factory.mktemp("parking") / "project").resolve()
    url = postgres.database("parking")
    settings = Settings(project=folder, park_after_seconds=0.2, database_url=url)
    async with running_project(settings, ["parking"]) as engine:
        yield engine

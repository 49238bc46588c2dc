"""Runs that are parked in a native Postgres, whose statements run side by side."""

from collections.abc import AsyncIterator

import pytest

import native
from durable_workflows.engine.engine import Engine
from helpers import parking_project
from test_parking import *  # noqa: F403

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module")
async def parking(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `parking` of the other tests."""
    url = postgres.database("parking")
    async with parking_project(tmp_path_factory, "parking", url) as engine:
        yield engine

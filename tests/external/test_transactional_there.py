"""Steps that are transactions in a native Postgres, whose transactions run side by side."""

from collections.abc import AsyncIterator

import pytest

import native
from durable_workflows.engine.engine import Engine
from helpers import parking_project
from test_transactional import *  # noqa: F403

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module")
async def engine(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `engine` of the other tests."""
    url = postgres.database("transactional")
    async with parking_project(tmp_path_factory, "transactional", url) as engine:
        yield engine

"""Steps that happen at most once in a native Postgres, whose statements run side by side."""

from collections.abc import AsyncIterator

import pytest

import native
from durable_workflows.engine.engine import Engine
from helpers import parking_project
from test_effects import *  # noqa: F403
from test_effects import hold_all

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module")
async def engine(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `engine` of the other tests."""
    async with parking_project(tmp_path_factory, "effects", postgres.database("effects")) as engine:
        await hold_all(engine)
        yield engine

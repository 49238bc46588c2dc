"""Steps that are transactions in a Postgres in the project's folder, whose transactions run side by side."""

from collections.abc import AsyncIterator

import pytest

from durable_workflows.engine.engine import Engine
from helpers import parking_project
from test_transactional import *  # noqa: F403

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """As `engine` of the other tests."""
    async with parking_project(tmp_path_factory, "transactional", engine="postgres") as engine:
        yield engine

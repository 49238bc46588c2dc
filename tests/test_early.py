"""The database of a project that is as it was after its last start is started before the rest of the supervisor is imported."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_workflows.database import tables
from durable_workflows.processes import early, lifecycle
from durable_workflows.settings import Database, Settings
from durable_workflows.system import locks, places, state
from helpers import processes_of
from requirements import proves

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def stopped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A project that was started and shut down."""
    settings = Settings(project=tmp_path_factory.mktemp("early"))
    await lifecycle.ensure_running(settings)
    await lifecycle.shut_down(settings)
    yield settings
    assert not processes_of(settings.project)


async def test_it_starts_with_the_last_password_at_the_last_port(stopped: Settings) -> None:
    port = state.known_port(stopped)
    async with early.Launch(stopped) as launch:
        await launch.begin()
        running = await launch.taken()
        assert running is not None
        assert await launch.taken() is None, "it is taken once"
        async with running as node:
            assert (node.port, launch.password) == (port, state.known_password(stopped))
            async with await tables.connect(Database(node.url), role="test") as connection:
                await connection.execute("select 1")
    assert locks.is_free_within(places.database_lock(stopped), 0)


async def test_one_that_nobody_takes_is_stopped(stopped: Settings) -> None:
    async with early.Launch(stopped) as launch:
        await launch.begin()
        assert not locks.is_free_within(places.database_lock(stopped), 0)
    assert locks.is_free_within(places.database_lock(stopped), 0)


@proves("backup:ring")
@pytest.mark.parametrize("changed", ["opened", "password", "moved"])
async def test_one_that_is_not_as_it_was_is_left_to_the_supervisor(
    stopped: Settings, changed: str
) -> None:
    """Other software must copy the data first, and what was moved away must not run."""
    path = getattr(places, changed)(stopped)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.write_text("another", encoding="utf-8")
    try:
        async with early.Launch(stopped) as launch:
            await launch.begin()
            assert await launch.taken() is None
            assert locks.is_free_within(places.database_lock(stopped), 0)
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before, encoding="utf-8")


def test_the_entry_imports_little(tmp_path: Path) -> None:
    """Node starts when these modules are there: psycopg and the rules for workflow files take as long as all of them."""
    code = "import sys, durable_workflows.processes.supervisor; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    modules = said.split()
    assert "durable_workflows.processes.early" in modules
    for late in ("psycopg", "watchfiles", "packaging", "durable_workflows.code"):
        assert late not in modules, late

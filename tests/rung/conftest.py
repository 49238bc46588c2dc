"""Fixtures: the projects of the other tests, on a Postgres in the project's folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.settings import Settings
from helpers import all_flows, running_project

_NODE = "there is no Node"
_PGLITE = "no connection waits for a transaction here"
# Of the tests of `test_main_job.py`, those that make no sense here.
LEFT_OUT = {
    "test_a_new_supervisor_ends_what_a_killed_one_left_behind_stopped[pglite.mjs]": _NODE,
    "test_a_run_waits_while_the_disk_is_full_and_goes_on_when_it_is_not": _NODE,
    "test_a_killed_database_leaves_whole_trees": _NODE,
    "test_what_asks_for_another_connection_in_a_transaction_is_refused_at_once": _PGLITE,
    "test_a_transaction_that_stands_idle_for_too_long_fails_once": _PGLITE,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is left out."""
    for item in items:
        reason = LEFT_OUT.get(item.name) or LEFT_OUT.get(item.name.partition("[")[0])
        if reason is not None and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project directory; the engine is in the environment of the test and of what it starts."""
    monkeypatch.setenv("DURABLE_WORKFLOWS_ENGINE", "postgres")
    return folder


@pytest.fixture(scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """As `shared` of the other tests."""
    folder = (tmp_path_factory.mktemp("shared") / "project").resolve()
    async with running_project(Settings(project=folder, engine="postgres"), all_flows()) as engine:
        yield engine

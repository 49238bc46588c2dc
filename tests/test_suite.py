"""How the suite is spread over processes."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all")
def test_the_tests_of_a_file_share_a_process(request: pytest.FixtureRequest) -> None:
    item: pytest.Item = vars(request)["_pyfuncitem"]
    assert item.nodeid.endswith(f"@{item.path}")

"""Hosts for the tests of the bundled workflows; no test may leave a process behind.

There are two for the tests of a file, since a new database takes DBOS about two seconds.
"""

from collections.abc import Iterator

import pytest

from .host import Host, wait_until


@pytest.fixture(scope="module")
def calm_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("calm"))
    yield host
    host.close()


@pytest.fixture(scope="module")
def crashing_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("crashing"))
    yield host
    host.close()


@pytest.fixture
def host(calm_host: Host) -> Iterator[Host]:
    """A host that goes on running."""
    yield calm_host
    assert_no_strays(calm_host)


@pytest.fixture
def own_host(crashing_host: Host) -> Iterator[Host]:
    """A host that the test has for itself, to kill or stop it and start it again."""
    crashing_host.start_if_dead()  # a test that failed may have left it so
    yield crashing_host
    assert_no_strays(crashing_host)


def assert_no_strays(host: Host) -> None:
    """A process that has just been told to end gets a moment; what stays is ended for the next test."""
    try:
        wait_until(lambda: not host.strays(), "the end of every process of the test", within=5)
    finally:
        host.end_strays()

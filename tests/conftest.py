"""Fixtures: projects of one's own with real processes, which must all be gone after the test."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from dbos import DBOSClient

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import all_flows, dbos_client_of, processes_of, running_project


def pytest_configure() -> None:
    """Let processes be interrupted that tests start: a shell starts what runs in its background with SIGINT ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, where they share what is slow to start; those with a project of their own go anywhere."""
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        if "folder" not in fixtures or "shared" in fixtures:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty project directory. Whatever runs for it is shut down afterwards, and nothing may be left."""
    yield from _directory(tmp_path / "project")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """As `folder`, for another project, or for the same project on another machine."""
    yield from _directory(tmp_path / "elsewhere")


def _directory(path: Path) -> Iterator[Path]:
    directory = path.resolve()
    directory.mkdir()
    yield directory
    anyio.run(lifecycle.shut_down, Settings(project=directory))
    left = processes_of(directory)
    assert not left, f"left behind: {left}"


@pytest.fixture
def settings(folder: Path) -> Settings:
    return Settings(project=folder)


@pytest.fixture
async def project(settings: Settings) -> AsyncIterator[Project]:
    project = Project(settings)
    yield project
    await project.aclose()


@pytest.fixture
async def engine(project: Project) -> Engine:
    return await project.engine()


@pytest.fixture(scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of one project for many tests, with all of `flows/`: for tests that kill and edit nothing."""
    settings = Settings(project=(tmp_path_factory.mktemp("shared") / "project").resolve())
    async with running_project(settings, all_flows()) as engine:
        yield engine


@pytest.fixture
async def dbos_client(shared: Engine) -> AsyncIterator[DBOSClient]:
    """A client of dbos on the database of the shared project."""
    await shared.reader.counts()  # the tables are there
    with dbos_client_of(shared) as client:
        yield client

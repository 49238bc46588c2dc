"""The installable forms: a skill, a plugin, an entry of the registry, a bundle. Each file fits its schema, and works."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement

from documents import tables
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import processes_of
from mcp import Client, StdioServerParameters

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / ".claude-plugin"
SKILL = ROOT / "skills" / "durable-workflows" / "SKILL.md"
NAME = "durable-workflows"
OWN_MODULES = {"durable_workflows", *sys.stdlib_module_names}
LOCKED = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)", re.MULTILINE)
KEYWORDS = [
    "durable",
    "workflow",
    "checkpoint",
    "resume",
    "crash recovery",
    "exactly-once",
    "orchestrate",
    "background task",
]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def project_version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["version"]


def servers(path: Path) -> dict[str, Any]:
    return read(path)["mcpServers"]


# Versions


@pytest.mark.parametrize(
    "path", [PLUGIN / "plugin.json", ROOT / "server.json", ROOT / "mcpb" / "manifest.json"], ids=str
)
def test_a_version_is_that_of_the_project(path: Path) -> None:
    found = read(path)
    versions = [found["version"], *(package["version"] for package in found.get("packages", []))]
    assert set(versions) == {project_version()}


# Dependencies

# Templates whose script metadata names libraries that are not installed here.
WITH_LIBRARIES = {"openai_sdk_agent.py", "pydantic_ai_agent.py"}


def distribution(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def foreign(folder: Path) -> dict[str, set[str]]:
    """The modules of others that the Python files below a folder import, and in which files."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in {name.partition(".")[0] for name in names} - OWN_MODULES:
                found.setdefault(name, set()).add(path.name)
    return found


@pytest.mark.parametrize("folder", ["mcp_server", "workflows", "templates"])
def test_each_library_that_is_imported_is_a_declared_dependency(folder: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {distribution(Requirement(one).name) for one in project["dependencies"]}
    homes = packages_distributions()
    for module, files in foreign(ROOT / folder).items():
        is_declared = declared & {*map(distribution, homes.get(module, []))}
        assert is_declared or files <= WITH_LIBRARIES, f"{module} in {files}"


def test_each_declared_dependency_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {distribution(name): version for name, version in LOCKED.findall(lock)}
    for one in map(Requirement, project["dependencies"]):
        assert locked[distribution(one.name)] in one.specifier, one


# The skill


def frontmatter() -> dict[str, str]:
    """The fields of the skill's frontmatter, whose long texts are folded."""
    _, head, _ = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    fields = re.findall(r"^(\w+): (?:>-\n)?((?:.+\n?)(?:^  .*\n?)*)", head, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in fields}


def test_the_skill_has_a_name_and_a_description_as_skills_have() -> None:
    found = frontmatter()
    assert found["name"] == SKILL.parent.name == NAME
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found["name"])
    assert len(found["name"]) <= 64
    assert 0 < len(found["description"]) <= 1024
    assert not re.search(r"[<>]", found["description"])


@pytest.mark.parametrize("word", KEYWORDS)
def test_the_skill_is_found_by_what_people_ask_for(word: str) -> None:
    assert word in frontmatter()["description"]


def test_the_skill_is_short_enough_to_be_read_whole() -> None:
    assert len(SKILL.read_text(encoding="utf-8").splitlines()) < 500


# The plugin


def test_the_plugin_has_what_a_manifest_must_have() -> None:
    found = read(PLUGIN / "plugin.json")
    assert found["name"] == NAME
    assert found["description"]
    assert found["author"]["name"]


def test_the_marketplace_lists_the_plugin_of_this_repository() -> None:
    found = read(PLUGIN / "marketplace.json")
    assert found["owner"]["name"]
    (plugin,) = found["plugins"]
    assert plugin["name"] == NAME
    assert (ROOT / plugin["source"] / ".claude-plugin" / "plugin.json").samefile(
        PLUGIN / "plugin.json"
    )


def test_the_server_of_the_plugin_takes_the_place_of_the_checkouts() -> None:
    # Claude Code reads both; of two servers with the same name that of plugin.json counts.
    assert (
        servers(PLUGIN / "plugin.json").keys()
        == servers(ROOT / ".mcp.json").keys()
        == {"durable-workflows"}
    )


def test_the_server_of_the_plugin_is_given_its_project_on_the_command_line() -> None:
    assert_serves(servers(PLUGIN / "plugin.json")[NAME]["args"])


def test_the_server_of_the_checkout_takes_the_project_of_the_client() -> None:
    # The client sets CLAUDE_PROJECT_DIR; it does not expand ${PWD} where that is not set.
    assert servers(ROOT / ".mcp.json")[NAME]["args"] == ["serve"]


def test_the_plugin_starts_what_it_brings_along() -> None:
    args = servers(PLUGIN / "plugin.json")[NAME]["args"]
    files = [word for word in args if word.startswith("${CLAUDE_PLUGIN_ROOT}")]
    assert files
    for file in files:
        assert Path(file.replace("${CLAUDE_PLUGIN_ROOT}", str(ROOT))).exists()


def assert_serves(words: list[str]) -> None:
    """The words end with a command line that the real command takes."""
    command, *arguments = words[words.index("serve") :]
    context = typer_command(command).make_context(command, arguments)
    assert context.params["project"] is not None


def typer_command(name: str) -> Any:
    return tables.all_commands()[name]


# The hook for pre-commit


def hook() -> dict[str, Any]:
    [found] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    return found


def test_the_hook_runs_a_command_of_the_package() -> None:
    program, command, *options = hook()["entry"].split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert program in project["scripts"]
    context = typer_command(command).make_context(command, [*options, "workflows/a.py"])
    assert context.params["files"] == [Path("workflows/a.py")]


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("workflows/a.py", True),
        ("workflows/shop/b.py", True),
        ("workflows/a.pyc", False),
        ("workflows/a.py.orig", False),
        ("workflows/data.csv", False),
        ("workflows.py", False),
        ("my_workflows/a.py", False),
        ("src/workflows/a.py", False),
    ],
)
def test_the_hook_is_given_workflow_files_and_no_others(path: str, is_one: bool) -> None:
    assert bool(re.search(hook()["files"], path)) is is_one  # as pre-commit looks


def test_the_hook_has_what_pre_commit_knows() -> None:
    found = hook()
    assert found.keys() == {"id", "name", "description", "entry", "language", "files", "types"}
    assert found["id"] == f"{NAME}-check"
    assert found["language"] == "python"  # which installs this repository with pip
    assert found["types"] == ["python"]  # a tag of its library `identify`


# The registry


def test_the_registry_entry_has_what_its_schema_asks_for() -> None:
    # The schema itself is in no package registry: these are its rules for the fields that we have.
    found = read(ROOT / "server.json")
    assert found["$schema"].endswith("/2025-12-11/server.schema.json")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", found["name"])
    assert 1 <= len(found["description"]) <= 100
    assert 1 <= len(found["title"]) <= 100
    (package,) = found["packages"]
    assert package["registryType"] == "pypi"
    assert package["identifier"] == NAME
    assert package["transport"] == {"type": "stdio"}
    assert package["runtimeHint"] == "uvx"
    for argument in package["packageArguments"]:
        assert argument["type"] in ("positional", "named")
        assert "value" in argument or "name" in argument


def test_the_registry_entry_starts_the_server() -> None:
    (package,) = read(ROOT / "server.json")["packages"]
    words: list[str] = []
    for argument in package["packageArguments"]:
        words += [argument["name"], "."] if argument["type"] == "named" else [argument["value"]]
    assert_serves(words)


def test_the_registry_entry_names_settings_only() -> None:
    (package,) = read(ROOT / "server.json")["packages"]
    known = {f"DURABLE_WORKFLOWS_{name.upper()}" for name in Settings.model_fields}
    for variable in package["environmentVariables"]:
        assert variable["name"] in known | {"DBOS_DATABASE_URL"}
        assert variable.get("isSecret", False) == (variable["name"] == "DBOS_DATABASE_URL")


# The bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as `make mcpb` builds it, unpacked as a client does it."""
    target = tmp_path_factory.mktemp("mcpb")
    build = [sys.executable, ROOT / "mcpb" / "build.py", target]
    built = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    with zipfile.ZipFile(built.stdout.strip()) as file:
        file.extractall(target / "unpacked")
    return target / "unpacked"


def test_the_bundles_manifest_fits_its_schema(bundle: Path) -> None:
    schema = read(ROOT / "tests" / "schemas" / "mcpb-manifest-v0.4.schema.json")
    Draft7Validator(schema).validate(read(bundle / "manifest.json"))  # pyright: ignore[reportUnknownMemberType]


def test_the_bundle_names_our_tools(bundle: Path) -> None:
    named = [tool["name"] for tool in read(bundle / "manifest.json")["tools"]]
    assert named == [tool.function.__name__ for tool in TOOLS]


def test_the_bundle_holds_the_server_and_says_what_it_needs(bundle: Path) -> None:
    server = read(bundle / "manifest.json")["server"]
    assert (bundle / server["entry_point"]).is_file()
    assert (bundle / "LICENSE").is_file()
    project = tomllib.loads((bundle / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = bundle / project["tool"]["uv"]["sources"][NAME]["path"]
    with zipfile.ZipFile(wheel) as file:
        assert "durable_workflows/cli/app.py" in file.namelist()
        assert not [name for name in file.namelist() if "pictures" in name]
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = [line.split(" ")[0] for line in project["tool"]["uv"]["constraint-dependencies"]]
    assert pinned == re.findall(r"^(\S+==\S+)", locked, re.MULTILINE)


@pytest.fixture
def empty_project(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    anyio.run(lifecycle.shut_down, Settings(project=tmp_path))
    assert not processes_of(tmp_path)


@pytest.mark.long
@pytest.mark.anyio
async def test_the_bundles_server_answers_when_started_as_its_manifest_says(
    bundle: Path, empty_project: Path
) -> None:
    manifest = read(bundle / "manifest.json")
    config = manifest["server"]["mcp_config"]
    values = {"${__dirname}": str(bundle), "${user_config.project}": str(empty_project)}
    words = [values.get(word, word) for word in texts(config["args"])]
    assert not any("${" in word for word in words)
    parameters = StdioServerParameters(
        command=config["command"],
        args=words,
        env=environment_with_uv(),
        cwd="/",
    )
    async with Client(parameters) as client:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == (NAME, project_version())
        offered = [tool.name for tool in (await client.list_tools()).tools]
    assert offered == [tool["name"] for tool in manifest["tools"]]


def texts(values: list[str]) -> list[str]:
    """What JSON has as a list of texts, typed."""
    return values


def environment_with_uv() -> dict[str, str]:
    """The environment of a client, which brings uv along."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return inherited | {"PATH": path}

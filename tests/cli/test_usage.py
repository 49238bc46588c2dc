"""Help, wrong usage, and projects that cannot be used. Nothing here starts a process."""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from durable_workflows.cli.app import build_app, commands
from durable_workflows.cli.command import Command
from durable_workflows.settings import Settings

from .command import Result, run, succeed

COMMANDS = list(commands())
NAMES = [command.name for command in COMMANDS]
APP = build_app(COMMANDS)
PARSERS: Any = vars(get_command(APP))["commands"]


def said_here(*arguments: str) -> Result:
    """What a command says, in this process: one of its own for each would take most of the time."""
    found = CliRunner().invoke(APP, arguments, prog_name="durable-workflows", env={"COLUMNS": "80"})
    return Result(found.exit_code, found.stdout, found.stderr)


def test_every_command_is_listed_with_a_whole_sentence(tmp_path: Path) -> None:
    lines = succeed("-h", folder=tmp_path).splitlines()
    assert lines == succeed("--help", folder=tmp_path).splitlines()
    listed = [line for line in lines if line.split() and line.split()[0] in NAMES]
    assert [line.split()[0] for line in listed] == NAMES
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_every_command_has_an_example_and_the_project_flag(name: str) -> None:
    text = said_here(name, "--help").output
    assert f"Example:\n    durable-workflows {name}" in text
    assert "--project" in text
    for field in Settings.model_fields:
        assert f"--{field.replace('_', '-')}" in text.partition("Settings:")[2]
    assert said_here(name, "-h").output == text


def test_a_process_says_the_same_help(tmp_path: Path) -> None:
    said = succeed("start", "--help", folder=tmp_path)
    here = said_here("start", "--help").output
    assert "".join(said.split()) == "".join(here.split()), "but for the width"


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_every_example_is_right_usage(command: Command) -> None:
    for example in command.examples:
        name, *words = shlex.split(example)
        assert name == command.name
        PARSERS[name].make_context(name, words)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_a_flag_of_every_command(name: str) -> None:
    flags = {flag for option in PARSERS[name].params for flag in option.opts}
    assert {f"--{field.replace('_', '-')}" for field in Settings.model_fields} <= flags


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["start"], "Missing argument 'NAME'"),
        (["inspect"], "Missing argument 'ID'"),
        (["cancel"], "Missing argument 'ID...'"),
        (["send", "--id", "a", "--topic", "t"], "Missing option '--message'"),
        (["fork", "a", "two"], "'STEP'"),
        (["move-to-version", "--filter", '{"nam": "a"}'], "nam: Extra inputs are not permitted"),
        (["list", "--status", "DONE"], "'DONE'"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--unknown"], "--unknown"),
        (["list", "--port", "99999"], "--port"),
        (["status", "--old-workers", "0"], "--old-workers"),
        (["status", "--log-level", "LOUD"], "--log-level"),
        (["demo", "not-there"], "not-there"),
        (["wait", "a", "--until", "never"], "'never'"),
        (["run"], "Missing argument 'FILE'"),
    ],
)
def test_wrong_usage_is_said_in_a_line_and_exits_with_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = said_here(*arguments)
    assert result.status == 2
    assert said in result.errors.splitlines()[-1]
    assert result.output == ""
    assert list(tmp_path.iterdir()) == []


def test_no_command_at_all_shows_the_help(tmp_path: Path) -> None:
    result = run(folder=tmp_path)
    assert result.status == 2
    assert "bootstrap" in result.output + result.errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "x", "--args", "{request: 1}"], "'{request: 1}' is not JSON"),
        (["start", "x", "--args", "[1]"], "'[1]' is not a JSON object"),
        (["send", "--id", "x", "--topic", "t", "--message", "yes"], "'yes' is not JSON"),
    ],
)
def test_bad_json_is_answered_with_an_example(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    result = run(*arguments, folder=tmp_path)
    assert result.status == 2
    last = result.errors.splitlines()[-1]
    assert said in last
    assert '\'{"name": "value"}\'' in last


def test_json_that_is_nested_too_deeply_is_wrong_usage(tmp_path: Path) -> None:
    for arguments in (
        ["start", "x", "--args", '{"a": ' + "[" * 300 + "]" * 300 + "}"],
        ["send", "--id", "x", "--topic", "t", "--message", "[" * 50_000 + "]" * 50_000],
    ):
        result = run(*arguments, folder=tmp_path)
        assert result.status == 2
        assert "The JSON is nested more than 200 levels deep." in result.errors.splitlines()[-1]


def test_a_setting_of_the_environment_that_is_wrong_names_its_flag(tmp_path: Path) -> None:
    result = run("status", folder=tmp_path, DURABLE_WORKFLOWS_PORT="many")
    assert result.status == 2
    assert "--port" in result.errors.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["list"], ["status"], ["bootstrap"], ["inspect", "x"]])
def test_a_project_directory_that_does_not_exist_is_said_with_a_hint(
    arguments: list[str], tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    result = run(*arguments, "--project", str(missing), folder=tmp_path)
    assert result.status == 1
    assert result.output == ""
    assert result.errors.splitlines() == [
        f"Error: {missing} is not a directory.",
        "Pass an existing directory with --project, or start in one.",
    ]
    assert not missing.exists()


@pytest.mark.parametrize("arguments", [["list"], ["status"], ["bootstrap"]])
def test_a_state_directory_that_cannot_be_used_is_said_with_a_hint(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / ".dbos").write_text("a file in its place", encoding="utf-8")
    result = run(*arguments, folder=tmp_path)
    assert result.status == 1
    first, hint = result.errors.splitlines()
    assert first.startswith(f"Error: {tmp_path.resolve() / '.dbos'} cannot be used")
    assert "--project" in hint


def test_status_of_an_untouched_project_starts_and_creates_nothing(tmp_path: Path) -> None:
    output = succeed("status", folder=tmp_path)
    assert "has no durable workflows yet" in output
    assert "durable-workflows bootstrap" in output
    as_json = succeed("status", "--json", folder=tmp_path)
    assert '"running": false' in as_json
    assert list(tmp_path.iterdir()) == []


def test_shutdown_of_an_untouched_project_says_so_and_creates_nothing(tmp_path: Path) -> None:
    assert "Nothing was running" in succeed("shutdown", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_project_is_the_flag_before_the_environment_before_the_working_directory(
    tmp_path: Path,
) -> None:
    here, named, given = (tmp_path / name for name in ("here", "named", "given"))
    for folder in (here, named, given):
        folder.mkdir()
    assert str(here.resolve()) in run("status", folder=here).output
    by_name = run("status", folder=here, CLAUDE_PROJECT_DIR=str(named))
    assert str(named.resolve()) in by_name.output
    by_flag = run("status", "--project", str(given), folder=here, CLAUDE_PROJECT_DIR=str(named))
    assert str(given.resolve()) in by_flag.output


def test_a_bare_checkout_runs_where_only_the_dependencies_are_installed(tmp_path: Path) -> None:
    libraries = sysconfig.get_path("purelib")
    checkout = Path(__file__).parents[2] / "mcp_server"
    # -S: what an editable installation adds to the import path is not there.
    done = subprocess.run(
        [sys.executable, "-S", str(checkout), "status", "--project", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": libraries},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "has no durable workflows yet" in done.stdout, done.stderr

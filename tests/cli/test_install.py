"""This server in the configurations of MCP clients: added, never changed, and in a form that each client reads."""

import json
import os
import stat
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from durable_workflows.cli import clients
from durable_workflows.cli.clients import CLIENTS, Client
from durable_workflows.cli.commands import installing
from durable_workflows.errors import SetupError, UsageError
from durable_workflows.settings import Settings

from .command import Result, run, succeed

NAMES = [client.name for client in CLIENTS]
IN_PROJECT = [client for client in CLIENTS if not client.own]
JSON_IN_PROJECT = [client for client in IN_PROJECT if client.file.endswith(".json")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project that never runs."""
    project = tmp_path / "shop"
    project.mkdir()
    return Settings(project=project)


@pytest.fixture(params=[client.name for client in JSON_IN_PROJECT])
def client(request: pytest.FixtureRequest) -> Client:
    return client_named(request.param)


def client_named(name: str) -> Client:
    return next(client for client in CLIENTS if client.name == name)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only program on the PATH: this one."""
    program = tmp_path / "bin" / "durable-workflows"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


@pytest.fixture
def install(
    program: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """The command, in this process: a process for each would take most of the time."""

    def call(name: installing.ClientName, **options: Any) -> Result:
        status = 0
        try:
            installing.install(settings, name, **options)
        except typer.Exit as exit:
            status = exit.exit_code
        said = capsys.readouterr()
        return Result(status, said.out, said.err)

    return call


def servers(client: Client, path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    return (tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))[client.key]


@pytest.mark.parametrize(
    ("name", "file", "key", "entry"),
    [
        (
            "claude-code",
            ".mcp.json",
            "mcpServers",
            {"type": "stdio", "command": "durable-workflows", "args": ["serve"]},
        ),
        (
            "vscode",
            ".vscode/mcp.json",
            "servers",
            {
                "type": "stdio",
                "command": "durable-workflows",
                "args": ["serve", "--project", "${workspaceFolder}"],
            },
        ),
        (
            "cursor",
            ".cursor/mcp.json",
            "mcpServers",
            {
                "type": "stdio",
                "command": "durable-workflows",
                "args": ["serve", "--project", "${workspaceFolder}"],
            },
        ),
        (
            "codex",
            ".codex/config.toml",
            "mcp_servers",
            {"command": "durable-workflows", "args": ["serve"]},
        ),
    ],
)
def test_install_writes_what_the_client_reads_and_no_path_of_this_machine(
    name: str,
    file: str,
    key: str,
    entry: dict[str, Any],
    settings: Settings,
    install: Callable[..., Result],
) -> None:
    shown = install(name, dry_run=True)
    assert shown.status == 0
    path = settings.project / file
    assert str(path) in shown.errors
    assert not path.parent.exists() or not path.exists()
    done = install(name)
    assert done.status == 0
    assert done.output == f"Added to {path}\n"
    assert done.errors == f"{client_named(name).then}\n"
    text = path.read_text(encoding="utf-8")
    assert text == shown.output
    whole = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    assert whole == {key: {"durable-workflows": entry}}
    assert str(settings.project) not in text
    again = install(name)
    assert (again.status, again.output) == (0, f"{path} already has it.\n")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the place is another one elsewhere")
def test_claude_desktop_gets_whole_paths_for_it_has_another_path(
    program: Path, settings: Settings, tmp_path: Path
) -> None:
    places = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    result = run("install", "claude-desktop", folder=settings.project, **places)
    assert result.status == 0, result.errors
    path = tmp_path / "config" / "Claude" / "claude_desktop_config.json"
    assert servers(client_named("claude-desktop"), path) == {
        "durable-workflows": {
            "command": str(program),
            "args": ["serve", "--project", str(settings.project)],
        }
    }
    other = tmp_path / "other"
    other.mkdir()
    second = run("install", "claude-desktop", folder=other, **places)
    assert second.status == 1, "another project is another server"
    third = run("install", "claude-desktop", "--name", "other", folder=other, **places)
    assert third.status == 0
    assert sorted(servers(client_named("claude-desktop"), path)) == ["durable-workflows", "other"]


@pytest.mark.parametrize("name", ["claude-code", "codex"])
def test_another_command_can_be_named(
    name: str, settings: Settings, install: Callable[..., Result]
) -> None:
    command = "uvx --from 'git+file:///a b' durable-workflows"
    assert install(name, command=command).status == 0
    client = client_named(name)
    entry = servers(client, client.path(settings))["durable-workflows"]
    assert entry["command"] == "uvx"
    assert entry["args"] == ["--from", "git+file:///a b", "durable-workflows", "serve"]


def test_a_command_that_the_client_would_not_find_is_a_warning(
    program: Path, install: Callable[..., Result]
) -> None:
    program.unlink()
    result = install("cursor")
    assert result.status == 0
    assert "durable-workflows is not on your PATH" in result.errors
    assert "uv tool install" in result.errors


def test_out_of_an_environment_of_uvx_the_client_starts_it_by_uvx(
    program: Path,
    install: Callable[..., Result],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program.rename(program.with_name("uvx"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "cache" / "uv" / "archive-v0" / "x1y2"))
    assert install("vscode").status == 0
    entry = servers(client_named("vscode"), settings.project / ".vscode" / "mcp.json")
    assert entry["durable-workflows"]["command"] == "uvx"
    assert entry["durable-workflows"]["args"][:2] == ["durable-workflows", "serve"]


def test_what_the_file_has_is_kept_as_it_is(client: Client, settings: Settings) -> None:
    path = client.path(settings)
    path.parent.mkdir(exist_ok=True)
    before = {
        "inputs": [{"id": "key", "n": 12345678901234567890}],
        client.key: {"other": {"command": "other", "env": {"NAME": "käse"}}},
        "last": None,
    }
    path.write_text(json.dumps(before, indent="\t", ensure_ascii=False), encoding="utf-8")
    path.chmod(0o600)
    clients.write(clients.plan(client, settings, "mine", ["dw"]))
    text = path.read_text(encoding="utf-8")
    after = json.loads(text)
    mine = after[client.key].pop("mine")
    assert mine["command"] == "dw"
    assert after == before
    assert list(after) == list(before)
    assert '\n\t"inputs"' in text
    assert "käse" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name] or path.parent == settings.project


def test_toml_is_added_to_at_its_end_with_its_comments(settings: Settings) -> None:
    client = client_named("codex")
    path = client.path(settings)
    path.parent.mkdir()
    before = '# mine\nmodel = "x"  # a comment\n\n[mcp_servers.other]\ncommand = "other"'
    path.write_text(before, encoding="utf-8")
    clients.write(clients.plan(client, settings, "durable-workflows", ['a "b" \\ ü']))
    text = path.read_text(encoding="utf-8")
    assert text.startswith(before)
    found = tomllib.loads(text)
    assert found["mcp_servers"]["other"] == {"command": "other"}
    assert found["mcp_servers"]["durable-workflows"]["command"] == 'a "b" \\ ü'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("claude-code", '{"mcpServers": {"durable-workflows": {"command": "mine"}}}'),
        ("vscode", '{"servers": {"durable-workflows": 3}}'),
        ("codex", '[mcp_servers.durable-workflows]\ncommand = "mine"\n'),
    ],
)
def test_an_entry_of_that_name_that_is_another_one_stays(
    name: str, text: str, settings: Settings, install: Callable[..., Result]
) -> None:
    path = client_named(name).path(settings)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    result = install(name)
    assert result.status == 1
    assert (
        "has a different server named 'durable-workflows'. The file was not changed."
        in result.errors
    )
    assert '"durable-workflows"' in result.output, "what it would be"
    assert path.read_text(encoding="utf-8") == text


def test_an_entry_that_differs_in_what_says_nothing_is_the_same(
    settings: Settings, install: Callable[..., Result]
) -> None:
    path = settings.project / ".mcp.json"
    entry: dict[str, Any] = {"args": ["serve"], "command": "durable-workflows", "env": {}}
    path.write_text(json.dumps({"mcpServers": {"durable-workflows": entry}}), encoding="utf-8")
    assert install("claude-code").status == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vscode", '{\n  // my servers\n  "servers": {},\n}\n'),
        ("vscode", '{"servers": []}'),
        ("vscode", '{"servers": {}, "servers": {"a": {}}}'),
        ("claude-code", "[]"),
        ("cursor", "\udcff"),
        ("codex", "model = "),
        ("codex", "mcp_servers = 3"),
        ("codex", 'mcp_servers = {other = {command = "x"}}'),
    ],
)
def test_a_file_that_cannot_be_read_is_not_touched_and_the_entry_is_shown_for_pasting(
    name: str, text: str, settings: Settings, install: Callable[..., Result]
) -> None:
    client = client_named(name)
    path = client.path(settings)
    path.parent.mkdir(exist_ok=True)
    data = text.encode("utf-8", "surrogateescape")
    path.write_bytes(data)
    result = install(name)
    assert result.status == 1
    assert f"Error: {path} cannot be read: " in result.errors
    assert "The file was not changed." in result.errors
    shown = tomllib.loads(result.output) if name == "codex" else json.loads(result.output)
    assert list(shown) == [client.key]
    assert path.read_bytes() == data


def test_an_empty_file_and_a_link_to_one_are_filled(client: Client, settings: Settings) -> None:
    real = settings.project / "real.json"
    real.write_text("\n", encoding="utf-8")
    path = client.path(settings)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(real)
    clients.write(clients.plan(client, settings, "mine", ["dw"]))
    assert path.is_symlink()
    assert list(servers(client, real)) == ["mine"]


def test_what_cannot_be_installed_is_said_and_nothing_is_written(settings: Settings) -> None:
    unknown = run("install", "emacs", folder=settings.project)
    assert unknown.status == 2
    assert all(name in unknown.errors for name in NAMES)
    with pytest.raises(UsageError, match="cannot be the name"):
        clients.plan(CLIENTS[0], settings, "a name", None)
    assert list(settings.project.iterdir()) == []
    (settings.project / ".vscode").write_text("a file in its place", encoding="utf-8")
    plan = clients.plan(client_named("vscode"), settings, "mine", ["dw"])
    with pytest.raises(SetupError, match="cannot be used"):
        clients.write(plan)
    (settings.project / ".mcp.json").mkdir()
    with pytest.raises(SetupError, match="cannot be used"):
        clients.plan(CLIENTS[0], settings, "mine", ["dw"])


def test_the_help_names_the_clients(tmp_path: Path) -> None:
    text = succeed("install", "--help", folder=tmp_path)
    assert all(name in text for name in NAMES)

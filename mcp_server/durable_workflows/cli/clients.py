"""The configurations of MCP clients: their places, and how to add this server to them.

Existing content never changes: an entry is added, in one step, to a readable file, or not at all.
"""

import os
import re
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import platformdirs

from durable_workflows import content
from durable_workflows.cli import formats
from durable_workflows.errors import SetupError, UsageError
from durable_workflows.settings import Settings

COMMAND = "durable-workflows"
_NAME = re.compile(r"[A-Za-z0-9_-]+")

_SAYS_NOTHING: tuple[tuple[str, object], ...] = (("type", "stdio"), ("env", {}))
_TO_INSTALL = (
    "Install it with `uv tool install` or `pipx install`, or set another command with --command."
)

State = Literal["missing", "same", "different", "unreadable"]


class Client(NamedTuple):
    """A client: the file that it reads, the table of servers in it, and the command for its server."""

    name: str
    file: str
    key: str
    arguments: tuple[str, ...]
    then: str  # the person's next action
    kind: str | None = "stdio"  # the kind that an entry names, if the client wants one
    own: bool = False  # the user's file, not the project's: paths of this machine are right

    def path(self, settings: Settings) -> Path:
        """The path of the file."""
        if not self.own:
            return settings.project / self.file
        return platformdirs.user_config_path("Claude", appauthor=False, roaming=True) / self.file


# A project's file is the same for all users of the project, without paths of this machine. Each client names its project in its own way:
# Claude Code by CLAUDE_PROJECT_DIR in the server's environment, Codex by the working directory, the others by a variable.
CLIENTS = (
    Client(
        "claude-code",
        ".mcp.json",
        "mcpServers",
        ("serve",),
        "Start Claude Code in the project; it asks once whether to use the server.",
    ),
    Client(
        "claude-desktop",
        "claude_desktop_config.json",
        "mcpServers",
        ("serve", "--project", "{project}"),
        "Quit Claude Desktop and start it again.",
        kind=None,
        own=True,
    ),
    Client(
        "codex",
        ".codex/config.toml",
        "mcp_servers",
        ("serve",),
        "Start Codex in the project directory and trust the directory: Codex reads this file only then.",
        kind=None,
    ),
    Client(
        "vscode",
        ".vscode/mcp.json",
        "servers",
        ("serve", "--project", "${workspaceFolder}"),
        "In VS Code, start it with `MCP: List Servers`.",
    ),
    Client(
        "cursor",
        ".cursor/mcp.json",
        "mcpServers",
        ("serve", "--project", "${workspaceFolder}"),
        "In Cursor's settings, under MCP, turn it on.",
    ),
)


class Plan(NamedTuple):
    """The planned change of a client's file."""

    client: Client
    path: Path
    state: State
    fragment: str  # the entry in the form for pasting
    text: str | None  # the whole file with the entry, if it can be added
    reason: str = ""  # why the file is unreadable
    warning: str = ""  # a further problem to correct


def plan(client: Client, settings: Settings, name: str, command: Sequence[str] | None) -> Plan:
    """The change that gives the client this server under `name`; nothing is changed yet.

    Raises:
        UsageError: the name cannot be used.
        SetupError: the command is not installed where the client would find it, or the file cannot be read.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a server.", hint="Use letters, digits, - and _."
        )
    path = client.path(settings)
    words = list(command or _own_command(client))
    entry = _entry(client, settings, words)
    form = (
        formats.Toml(client.key, name, entry)
        if path.suffix == ".toml"
        else formats.Json(client.key, name, entry)
    )
    found = Plan(client, path, "missing", form.fragment(), None, warning=_warning(words[0]))
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        servers = form.servers(text)
        if name not in servers:
            return found._replace(text=form.added(text))
    except ValueError as error:
        return found._replace(state="unreadable", reason=str(error))
    except OSError as error:
        raise _unusable(path, error) from error
    same = _essence(servers[name]) == _essence(entry)
    return found._replace(state="same" if same else "different")


def configured(client: Client, settings: Settings, name: str) -> object | None:
    """The client's entry for the server `name`; None: there is none.

    Raises:
        ValueError: why the file cannot be understood.
        OSError: why it cannot be read.
    """
    path = client.path(settings)
    if not path.exists():
        return None
    form = formats.Toml if path.suffix == ".toml" else formats.Json
    return form(client.key, name, {}).servers(path.read_text(encoding="utf-8-sig")).get(name)


def write(plan: Plan) -> None:
    """Carry out the plan. A reader sees the old file or the new one; its permissions stay.

    Raises:
        SetupError: the file cannot be written.
    """
    assert plan.text is not None, "there is something to write"
    target = plan.path.resolve()  # a link stays a link
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, plan.text)
    except OSError as error:
        raise _unusable(plan.path, error) from error


def _unusable(path: Path, error: OSError) -> SetupError:
    return SetupError(
        f"{path} cannot be used: {error.strerror or error}.",
        hint="Make it a file that this user may read and write; `--dry-run` shows what belongs in it.",
    )


def _entry(client: Client, settings: Settings, command: list[str]) -> formats.Entry:
    arguments = [
        one.format(project=settings.project) if client.own else one for one in client.arguments
    ]
    kind = {"type": client.kind} if client.kind else {}
    return {**kind, "command": command[0], "args": [*command[1:], *arguments]}


def _own_command(client: Client) -> list[str]:
    """The command with which the client starts this program, as its user does.

    In a project's file it is a name, which every user's PATH resolves. In a user's own file it is a full path, since an application that
    was not started from a shell has another PATH. From a temporary environment of `uvx` it is a call of `uvx`.
    """
    words = ["uvx", COMMAND] if content.is_temporary() else [COMMAND]
    if client.own:
        words[0] = _path_of(words[0])
    return words


def _path_of(program: str) -> str:
    beside = Path(sys.executable).with_name(program)
    found = shutil.which(program) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise SetupError(f"The command {program} is not on the PATH.", hint=_TO_INSTALL)
    return str(Path(found).absolute())


def _warning(program: str) -> str:
    if shutil.which(program) is not None:
        return ""
    return f"But {program} is not on your PATH, where the client looks for it. {_TO_INSTALL}"


def _essence(entry: object) -> object:
    """An entry without empty fields."""
    if not isinstance(entry, dict):
        return entry
    fields = cast("formats.Entry", entry)
    return {key: value for key, value in fields.items() if (key, value) not in _SAYS_NOTHING}


def _replace(target: Path, text: str) -> None:
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)

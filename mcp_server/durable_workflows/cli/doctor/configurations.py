"""The configurations of MCP clients: whether the clients that are configured can start this server."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from durable_workflows.cli import clients
from durable_workflows.cli.clients import CLIENTS, Client
from durable_workflows.cli.doctor.findings import Finding, note, ok, wrong
from durable_workflows.settings import Settings

_INSTALL = "uv tool install durable-workflows"


def configurations(settings: Settings) -> Iterator[Finding]:
    """Each client whose configuration has this server, or cannot be read."""
    found = [finding for client in CLIENTS for finding in _of(client, settings)]
    yield from found or [
        note(
            "No client's configuration file has this server. (A plugin is not in one.)",
            "durable-workflows install claude-code",
        )
    ]


def _of(client: Client, settings: Settings) -> Iterator[Finding]:
    path = client.path(settings)
    show = f"durable-workflows install {client.name} --dry-run"
    try:
        entry = clients.configured(client, settings, clients.COMMAND)
    except ValueError as error:
        yield wrong(
            f"{path} cannot be read: {error}. {client.name} ignores it; correct it by hand. This shows what belongs there.",
            show,
        )
        return
    except OSError as error:
        yield wrong(f"{path} cannot be read: {error.strerror or error}.", show)
        return
    if entry is None:
        return
    command = cast("dict[str, object]", entry).get("command") if isinstance(entry, dict) else None
    if not isinstance(command, str):
        yield wrong(
            f"{path} names no command for this server. This shows what belongs there.",
            show,
        )
    elif shutil.which(command) is None:
        yield wrong(
            f"{path} starts {command}, which is not there.",
            show if Path(command).is_absolute() else _INSTALL,
        )
    else:
        yield ok(f"{client.name} starts this server: {path}")

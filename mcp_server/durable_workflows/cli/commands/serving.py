"""The command that an MCP client starts. Nothing is imported here that it could do without: the client waits."""

import functools
import importlib
from typing import Annotated

import anyio
import typer

from durable_workflows.cli.command import Command
from durable_workflows.settings import Settings
from durable_workflows.system.importing import undisturbed


def serve(
    settings: Settings,
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="HOST:PORT",
            help="With --http, where to listen. Default: a free port of 127.0.0.1.",
        ),
    ] = None,
    *,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over HTTP, for clients that have the token.")
    ] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a non-loopback address.")
    ] = False,
) -> None:
    """Serve MCP on standard input and output, or over HTTP.

    This is the command that an MCP client starts. The project is CLAUDE_PROJECT_DIR, which Claude Code sets, or else the working directory; with --project, `ps` shows which project a server belongs to. Over HTTP,
    clients send the project's token (`durable-workflows status` names its file) as a bearer token. There the page for people is served, too, which `dashboard --web` opens.
    """
    # The imports take a second, and no other command needs them.
    if not http:
        if address is not None or allow_remote:
            raise typer.BadParameter("Use an address or --allow-remote only with --http.")
        with undisturbed():
            server = importlib.import_module("durable_workflows.mcp.server")
        anyio.run(server.serve, settings)
        return
    with undisturbed():
        serving = importlib.import_module("durable_workflows.mcp.serving_http")
    host, port = serving.address(address or "127.0.0.1:0")
    anyio.run(
        functools.partial(serving.serve_http, allow_remote=allow_remote), settings, host, port
    )


COMMANDS = (
    Command(
        "serve",
        serve,
        ("serve --project ~/work/shop", "serve --http 127.0.0.1:8765 --project ~/work/shop"),
    ),
)

"""The project's page in the user's browser, from a running server or from a server of its own."""

import functools
import importlib
import threading
import webbrowser
from pathlib import Path

import anyio

from durable_workflows.cli import printing, terminal
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings

_IN_TERMINAL = ("www-browser", "links", "elinks", "lynx", "w3m")


def show(settings: Settings, *, opens: bool) -> None:
    """Print a link to the page, and open it if `opens`. Without a server, serve it until Ctrl-C."""
    # The imports take a second, and no other command needs them.
    access = importlib.import_module("durable_workflows.web.access")
    building = importlib.import_module("durable_workflows.web.building")
    token = http_access.token(settings)

    def point_to(url: str) -> None:
        link: str = access.link(token, url)
        terminal.out(link)
        if opens:
            # It may wait for the browser for some seconds.
            threading.Thread(target=_open, args=[link]).start()

    with printing.progress("Preparing the page"):
        anyio.run(building.page, settings)
    if urls := http_access.urls(settings):
        point_to(urls[0])
        return
    serving = importlib.import_module("durable_workflows.mcp.serving_http")
    serve = functools.partial(serving.serve_http, allow_remote=False, ready=point_to)
    anyio.run(serve, settings, "127.0.0.1", 0)


def _open(link: str) -> None:
    """Open a browser with a window of its own. A browser in the terminal would take the terminal from this command."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return  # the link is printed
    if Path(browser.name).name not in _IN_TERMINAL:
        browser.open(link)

"""`dashboard`: how a project stands, once or for as long as a person looks."""

import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from durable_workflows.cli import dashboard as overviews
from durable_workflows.cli import page, printing, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson, reader_of
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import DatabaseUnavailable
from durable_workflows.models import Connection, Overview, RunLine
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import state

_NEWEST = 10
_LOOK_SECONDS = 1.0
_LOG_LINES = 20  # of a run
_LOOKED_LINES = 1000  # the newest of all runs, among which one that prints much hides no other

Show = Callable[[Overview, Sequence[RunLine]], None]


def dashboard(
    settings: Settings,
    *,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Keep showing it until Ctrl-C: live on a terminal, in a pipe at each change.",
        ),
    ] = False,
    web: Annotated[
        bool,
        typer.Option(
            "--web",
            help="Open the page of the project in a browser: follow, start, answer and repair runs there.",
        ),
    ] = False,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="With --web, only print the link.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show an overview of the project.

    Shows the runs by status, the newest runs, which runs wait on which topic and since when, the queues and the workers; with --watch also the
    newest log lines. With --watch and --json, each change is a line of JSON. With --web, prints a link to the page and opens it; the link works once, for a minute.
    Where no `serve --http` runs for the project, the command serves the page itself until Ctrl-C.
    """
    if (no_open and not web) or (web and (watch or as_json)):
        raise typer.BadParameter(
            "Use --no-open only with --web, and --web without --watch and --json."
        )
    if web:
        page.show(settings, opens=not no_open)
        return
    if not watch:
        anyio.run(_once, settings, as_json)
        return
    with suppress(KeyboardInterrupt):  # how a person ends it
        anyio.run(_watch, settings, as_json)


async def _once(settings: Settings, as_json: bool) -> None:
    async with reader_of(settings) as reader:
        overview = await reader.overview(newest=_NEWEST)
    if as_json:
        terminal.out(overview.model_dump_json(indent=2))
    else:
        printing.print_overview(overviews.overview_lines(overview, width=printing.width()))


async def _watch(settings: Settings, as_json: bool) -> None:
    with printing.progress("Connecting") as progress:
        await lifecycle.ensure_running(settings, progress)
    with _shown(as_json) as show:
        # Looking does not start a project that was shut down.
        while (connection := state.read_connection(settings)) is not None:
            with suppress(DatabaseUnavailable):
                await _look(settings, connection, show)
    printing.say(
        f"Nothing is running for {settings.project} any more; the next command starts it again."
    )


async def _look(settings: Settings, connection: Connection, show: Show) -> None:
    """Show the overview until another supervisor runs, or none."""
    async with aclosing(Reader(Rows(settings, connection))) as reader:
        while state.read_connection(settings) == connection:
            overview = await reader.overview(newest=_NEWEST)
            show(overview, await reader.newest_lines(limit=_LOOKED_LINES, of_one=_LOG_LINES))
            await anyio.sleep(_LOOK_SECONDS)


@contextmanager
def _shown(as_json: bool) -> Generator[Show]:
    """Where the overview appears: live on a terminal; elsewhere a new one at each change."""
    console = Console()
    if as_json:
        yield _at_changes(lambda overview, said: terminal.out(_as_json(overview, said)))
    elif not console.is_terminal:
        yield _at_changes(_print)
    else:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield lambda overview, said: live.update(_drawn(console, overview, said), refresh=True)


def _at_changes(show: Show) -> Show:
    before: list[object] = []

    def changed(overview: Overview, said: Sequence[RunLine]) -> None:
        now = (overview, list(said))
        if now not in before:
            before[:] = [now]
            show(overview, said)

    return changed


def _print(overview: Overview, said: Sequence[RunLine]) -> None:
    terminal.out(time.strftime("%Y-%m-%d %H:%M:%S"))
    printing.print_overview(overviews.overview_lines(overview, said, width=None))
    terminal.out()


def _as_json(overview: Overview, said: Sequence[RunLine]) -> str:
    log = [{"workflow_id": one.workflow_id, **one.line.model_dump(mode="json")} for one in said]
    return json.dumps({**overview.model_dump(mode="json"), "log": log}, ensure_ascii=False)


def _drawn(console: Console, overview: Overview, said: Sequence[RunLine]) -> Text:
    lines = overviews.overview_lines(overview, said, width=console.width, height=console.height)
    return Text("\n").join(printing.styled(line) for line in lines)


COMMANDS = (
    Command(
        "dashboard",
        dashboard,
        ("dashboard", "dashboard --watch", "dashboard --json", "dashboard --web"),
    ),
)

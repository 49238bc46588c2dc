"""`news` and `watch`: what has become of the project's runs, for who comes back, and for who stays."""

import select
import sys
from collections.abc import Callable
from contextlib import aclosing, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

import anyio
import typer

from durable_workflows import actions
from durable_workflows.cli import terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import AsJson
from durable_workflows.database.changes import changes
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import DatabaseUnavailable, DurableWorkflowsError
from durable_workflows.models import Connection, Fact, News
from durable_workflows.settings import Settings
from durable_workflows.system import state
from durable_workflows.telling import news as words

_LOOK_SECONDS = 1.0  # between two looks, however much happens
_WAIT_SECONDS = 5.0  # after which is looked again whether something happened or not
_OVERLAP = timedelta(seconds=10)  # what is committed late is not missed
_ANSWER_SECONDS = 5.0

Tell = Callable[[Fact], None]


async def show_news(
    settings: Settings,
    *,
    client: Annotated[
        str | None,
        typer.Option(
            help="For an agent in this MCP client, such as claude-code: what ended since it was last here, and tools instead of commands."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is unfinished, asked or has ended.

    For a returning user. Prints nothing if there is no news. This command starts nothing: while no process of the project is running, it shows how the runs
    stood when the last one ended.
    """
    found = await _news(settings)
    if found is None:
        return
    if as_json:
        terminal.out(found.model_dump_json(indent=2))
        return
    with actions.worded(actions.as_call) if client else nullcontext():
        terminal.lines(words.lines(found, client))


async def _news(settings: Settings) -> News | None:
    connection = state.read_connection(settings)
    if connection is None:
        return state.left_news(settings)
    try:
        async with aclosing(Reader(Rows(settings, connection))) as reader:
            with anyio.fail_after(_ANSWER_SECONDS):
                return await reader.news()
    except TimeoutError as error:
        raise DatabaseUnavailable() from error


def watch(
    settings: Settings,
    *,
    lines: Annotated[
        bool,
        typer.Option(
            "--lines",
            help="For a monitor of an agent: name tools instead of commands, and leave out runs of sessions whose client tells them.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a line when a run ends or asks.

    Reports what happens from now on to runs that no other run started, and the questions of their children. Starts nothing: while nothing is running, it waits. Ends
    with Ctrl-C, or when its output is no longer read.
    """
    with suppress(KeyboardInterrupt, BrokenPipeError):
        anyio.run(_watch, settings, lines, _teller(lines=lines, as_json=as_json))


def _teller(*, lines: bool, as_json: bool) -> Tell:
    def tell(fact: Fact) -> None:
        if as_json:
            terminal.out(fact.model_dump_json())
        elif lines:
            with actions.worded(actions.as_call):
                terminal.out(words.fact_line(fact))
        else:
            terminal.out(f"{fact.at.astimezone():%H:%M:%S} {words.fact_line(fact)}")
        sys.stdout.flush()

    return tell


async def _watch(settings: Settings, lines: bool, tell: Tell) -> None:
    watcher = _Watcher(tell, lines=lines)
    while not _is_unread():
        with suppress(DurableWorkflowsError, OSError):  # it comes back, or it does not
            if (connection := state.read_connection(settings)) is not None:
                await watcher.follow(settings, connection)
        await anyio.sleep(_LOOK_SECONDS)


class _Watcher:
    """Tells each fact once."""

    def __init__(self, tell: Tell, *, lines: bool) -> None:
        self._tell = tell
        self._lines = lines
        self._began = datetime.now(UTC)
        self._after = self._began
        self._told: dict[tuple[str, str], datetime] = {}

    async def follow(self, settings: Settings, connection: Connection) -> None:
        """Report events until another supervisor runs, or none, or the output is no longer read."""
        async with (
            aclosing(Reader(Rows(settings, connection))) as reader,
            changes(connection.database, None) as hints,
        ):
            while state.read_connection(settings) == connection and not _is_unread():
                self._look(await reader.facts(self._after - _OVERLAP))
                await anyio.sleep(_LOOK_SECONDS)
                await hints.next(_WAIT_SECONDS)

    def _look(self, facts: list[Fact]) -> None:
        for fact in facts:
            key = (fact.about, fact.key)
            if fact.at < self._began or key in self._told:
                continue
            self._told[key] = fact.at
            if not (self._lines and fact.told):
                self._tell(fact)
        self._after = max([self._after, *(one.at for one in facts if one.at <= datetime.now(UTC))])
        old = self._after - 2 * _OVERLAP
        self._told = {key: at for key, at in self._told.items() if at > old}


def _is_unread() -> bool:
    """Whether standard output is a pipe that is no longer read."""
    watched = select.poll()
    with suppress(OSError, ValueError):
        watched.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in watched.poll(0))
    return False


COMMANDS = (
    Command("news", show_news, ("news", "news --client claude-code")),
    Command("watch", watch, ("watch", "watch --lines")),
)

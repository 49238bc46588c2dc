"""Words for shell completion. Nothing is started for them: a project that does not run offers none."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any

import anyio
import typer

from durable_workflows import fitting
from durable_workflows.code import catalog
from durable_workflows.code.templates import template_entries
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.settings import LATEST, PERSON, Settings
from durable_workflows.system import state

_SECONDS = 2.0  # no person waits longer for a completion
_IDS = 100


def workflow_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The newest runs of a project that runs."""
    return _of_running(ctx, lambda reader: reader.ids_beginning(incomplete, limit=_IDS))


def topics(ctx: typer.Context, incomplete: str) -> list[str]:
    """The topics on which the run named before, or any run, waits for messages."""
    found = [one for one in _open_topics(ctx) if not one.startswith(PERSON)]
    return _beginning(found, incomplete)


def questions(ctx: typer.Context, incomplete: str) -> list[str]:
    """As `topics`, including the topics of questions to people."""
    return _beginning((one.removeprefix(PERSON) for one in _open_topics(ctx)), incomplete)


def versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The versions of the code that a project that runs can start, the newest first."""
    found = _of_running(ctx, lambda reader: reader.versions_beginning(incomplete, limit=_IDS))
    return _beginning([*found, LATEST], incomplete)


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The workflows that the project's files declare."""
    try:
        files = catalog.snapshot(_settings(ctx)).files
    except Exception:  # noqa: BLE001 - as below
        return []
    texts = [files[path].decode("utf-8", "replace") for path in catalog.workflow_files(files)]
    return _beginning((name for text in texts for name in catalog.declared_names(text)), incomplete)


def templates(incomplete: str) -> list[tuple[str, str]]:
    """The templates, each with its purpose."""
    found = template_entries()
    return [(one.name, one.use_when) for one in found if one.name.startswith(incomplete)]


def _open_topics(ctx: typer.Context) -> list[str]:
    workflow_id: str | None = ctx.params.get("workflow_id")
    return _of_running(ctx, lambda reader: reader.open_topics(workflow_id, limit=_IDS))


def _of_running(ctx: typer.Context, ask: Callable[[Reader], Awaitable[list[str]]]) -> list[str]:
    try:
        return anyio.run(_asked, _settings(ctx), ask)
    except Exception:  # noqa: BLE001 - the boundary to a shell, where a person is typing: no words are better than any error
        return []


async def _asked(settings: Settings, ask: Callable[[Reader], Awaitable[list[str]]]) -> list[str]:
    """The answer of a running project's database, if it comes at once."""
    connection = state.read_connection(settings)
    found: list[str] = []
    if connection is not None:
        async with aclosing(Reader(Rows(settings, connection))) as reader:
            with anyio.move_on_after(_SECONDS):
                found = await ask(reader)
    return found


def _settings(ctx: typer.Context) -> Settings:
    """The settings typed before the word that is being completed."""
    given: dict[str, Any] = {name: ctx.params.get(name) for name in Settings.model_fields}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    """The words with this prefix that a terminal can show unchanged."""
    return [
        word
        for word in dict.fromkeys(words)
        if word.startswith(incomplete) and word == fitting.shown_line(word)
    ]

"""The database: whether it answers, what the project's status says, and whether all of it can be read."""

from collections.abc import Callable
from contextlib import aclosing

import anyio

from durable_workflows import content
from durable_workflows.cli.doctor.findings import (
    Check,
    Finding,
    note,
    of_text,
    ok,
    restoring,
    wrong,
)
from durable_workflows.database import integrity, tables
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import SetupError
from durable_workflows.models import Connection
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Database, Settings
from durable_workflows.system import state

_START = "durable-workflows doctor --start"
_FIX = "durable-workflows doctor --start --fix"
Progress = Callable[[str], None]


def of_database(*, start: bool, say: Progress, show: Progress) -> Check:
    """The check of the database. `say` hears what is started, `show` what is read."""

    def check(settings: Settings) -> list[Finding]:
        return anyio.run(_found, settings, start, say, show)

    return check


async def _found(settings: Settings, start: bool, say: Progress, show: Progress) -> list[Finding]:
    connection = await _connection(settings, start=start, say=say)
    if connection is not None:
        return await _look(settings, connection, show)
    if settings.database_url is None:
        return [note("The database does not run, so its rows were not read.", _START)]
    place = settings.database(settings.database_url)
    await tables.check(place)
    return [
        ok("The Postgres at DBOS_DATABASE_URL can be used."),
        *await _read(settings, place, show),
    ]


async def _connection(settings: Settings, *, start: bool, say: Progress) -> Connection | None:
    if start:
        return await lifecycle.ensure_running(settings, say)
    try:
        return state.read_connection(settings)
    except SetupError:  # `places` says so
        return None


async def _look(settings: Settings, connection: Connection, show: Progress) -> list[Finding]:
    if not await integrity.answers(connection.database):
        return [
            wrong(
                f"The database takes connections, but does not answer within {integrity.ANSWER_SECONDS:.0f} seconds. It may be busy with a long statement"
                " of a workflow. If it stays silent, end the project's processes; the next command starts them again, and nothing recorded is lost.",
                "durable-workflows shutdown",
            )
        ]
    rows = await _read(settings, connection.database, show)
    return [*of_version(connection), *await _status(settings, connection), *rows]


def of_version(connection: Connection) -> list[Finding]:
    """Whether what runs is of another release than this command."""
    theirs, ours = connection.versions.get(content.PACKAGE), content.package_version()
    if theirs in (None, ours):
        return []
    said = f"What runs is of durable-workflows {theirs}, and this command is of {ours}. Unfinished runs go on after a change."
    return [note(said, "durable-workflows shutdown")]


async def _status(settings: Settings, connection: Connection) -> list[Finding]:
    async with aclosing(Reader(Rows(settings, connection))) as reader:
        found = await reader.status()
    wrongs = [of_text(text) for text in found.problems]
    return wrongs or [ok("The project runs, and its status names no problem.")]


async def _read(settings: Settings, place: Database, show: Progress) -> list[Finding]:
    try:
        reading = await integrity.read_all(place, show)
    except tables.Error as error:
        return [wrong(f"It could not be read: {tables.first_sentence(error)}")]
    if not reading.tables:
        return [note("The project has no tables there yet.", "durable-workflows bootstrap")]
    how = " and by amcheck" if reading.with_amcheck else ""
    said = f"All {reading.rows:,} rows of {reading.tables} tables were read, {reading.indexes} indexes against them{how}."
    return [_damage(settings, place, one) for one in reading.damages] or [ok(said)]


def _damage(settings: Settings, place: Database, damage: integrity.Damage) -> Finding:
    if damage.kind == "table":
        return wrong(
            f"The table {damage.name} is damaged: {damage.reason} Restore a backup. What other tables hold can still be read, and runs whose rows are whole can be exported.",
            restoring(settings),
        )

    def rebuild() -> str:
        try:
            anyio.run(integrity.rebuild, place, damage.name)
        except tables.Error as error:
            return (
                f"The index {damage.name} could not be built again: {tables.first_sentence(error)}"
            )
        return f"Built the index {damage.name} again from its table."

    said = f"The index {damage.name} is damaged: {damage.reason}. Its table is whole: the index can be built again."
    return wrong(said, _FIX, rebuild)

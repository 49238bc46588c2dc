"""What all moves have in common: the databases in the project's folder that they make and read, and what must not be there."""

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from durable_workflows.database import tables
from durable_workflows.errors import DatabaseUnavailable, UsageError
from durable_workflows.models import UNFINISHED
from durable_workflows.pglite.pristine import make_tables
from durable_workflows.processes import databases
from durable_workflows.settings import APPLICATION, ENGINES, Database, Engine, Settings
from durable_workflows.system import places, processes, state

# Where the runs went, if that is the embedded database of that engine.
IN_THE_FOLDER: dict[Engine, str] = {
    engine: f"the project's own database of the engine {engine} (DURABLE_WORKFLOWS_ENGINE={engine})"
    for engine in ENGINES
}
# Of one that is being made for them.
COMING = "another of its databases (a move to this one was interrupted: run `durable-workflows move` again)"
UNCONFIRMED = " (unless that was interrupted: run `durable-workflows move` again)"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Moved:
    """The contents of the target now. `rows` is 0 if an earlier call copied them."""

    target: str
    runs: int
    unfinished: int
    rows: int


async def moved(target: tables.Connection, place: str, *, rows: int) -> Moved:
    """What a move to `target` came to."""
    counts = await _counts(target)
    unfinished = sum(runs for status, runs in counts.items() if status in UNFINISHED)
    return Moved(place, sum(counts.values()), unfinished, rows)


def place_of(connection: tables.Connection) -> str:
    """The place of an external database, in words."""
    return f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"


def is_made(settings: Settings) -> bool:
    """Whether the embedded database of that engine is there."""
    return (places.data(settings) / "PG_VERSION").is_file()


def make_room(there: Settings, progress: Progress) -> None:
    """Let a new embedded database be made, by nobody but the move. A backup that is in its place gets another name."""
    if state.moved_to(there) != COMING and (kept := state.set_aside(there)):
        progress(f"Keeping the database of before as {kept}")
    if not places.data(there).exists():
        state.note_move(there, COMING)
        progress("Making the new database")


@asynccontextmanager
async def started(settings: Settings) -> AsyncGenerator[Database]:
    """An embedded database with the newest tables. No other process knows the password: data written by others now would be lost."""
    password = secrets.token_urlsafe()
    async with databases.running(settings, password=password, port=0) as process:
        await make_tables(settings, process.url, "embedded")
        yield Database(process.url)


@asynccontextmanager
async def connected(
    database: Database, *, is_sure: Callable[[], bool]
) -> AsyncGenerator[tables.Connection]:
    """A connection whose errors say what became of the move; `is_sure` is asked whether nothing did.

    Raises:
        DatabaseUnavailable: the database does not answer, or refused something.
    """
    try:
        async with await tables.connect(database, role="move") as connection:
            yield connection
    except tables.Error as error:
        what = "The project was not moved" if is_sure() else "It is not known if it was moved"
        raise DatabaseUnavailable(
            f"{what}: {tables.first_sentence(error)}",
            hint="Fix that, then run `durable-workflows move` again.",
        ) from error


async def check_empty(target: tables.Connection, place: str, identity: str) -> None:
    """Check that the target has no runs of the project, and nobody works for it there.

    Raises:
        UsageError: it has, or somebody does.
    """
    if await has_runs(target):
        raise UsageError(
            f"The project already has runs in {place}.",
            hint="Choose a database without runs of this project, or give the project another name there with --application.",
        )
    await check_deserted(target, place, identity)


async def check_deserted(connection: tables.Connection, place: str, identity: str) -> None:
    """Check that no worker of another machine works for the project there.

    Raises:
        UsageError: one does.
    """
    for worker in await _living_workers(connection):
        if processes.identity_of(worker["executor_id"]) != identity:
            raise UsageError(
                f"A worker on {worker['host']} runs for this project in {place}.",
                hint="End it (`durable-workflows shutdown` there), wait a minute, then try again.",
            )


async def has_runs(connection: tables.Connection) -> bool:
    """Whether the project has runs there."""
    return sum((await _counts(connection)).values()) > 0


async def _counts(target: tables.Connection) -> dict[str, int]:
    """The project's runs in the target by status."""
    if not (await tables.fetch(target, "has_dbos_tables"))[0]["there"]:
        return {}
    rows = await tables.fetch(target, "count_runs", application=APPLICATION)
    return {row["status"]: row["runs"] for row in rows}


async def _living_workers(target: tables.Connection) -> list[tables.Row]:
    if not (await tables.fetch(target, "has_dbos_tables"))[0]["there"]:
        return []
    return [row for row in await tables.fetch(target, "workers") if row["seen_lately"]]

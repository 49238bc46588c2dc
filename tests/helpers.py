# pyright: reportPrivateUsage=false
"""Shared by the tests: waiting for facts, and finding processes of a project."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import psutil
import pytest
from dbos import DBOSClient
from psycopg.rows import scalar_row

from durable_workflows.database import tables
from durable_workflows.database.addresses import own_url
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import LogLine, Run
from durable_workflows.processes import lifecycle
from durable_workflows.seam.patches import connections, typed_values, values
from durable_workflows.settings import APPLICATION, Settings
from durable_workflows.settings import Engine as DatabaseEngine

FLOWS = Path(__file__).parent / "flows"
T = TypeVar("T")


async def until(fact: Callable[[], object], description: str, *, seconds: float = 30.0) -> None:
    """Return once the fact is true; fail with its description when the time is over."""

    async def asked() -> object:
        return fact()

    await until_found(asked, description, seconds=seconds)


async def until_found(
    find: Callable[[], Awaitable[T | None]], description: str, *, seconds: float = 30.0
) -> T:
    """Return what was found as soon as there is something; fail with its description when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := await find()):
        assert time.monotonic() < deadline, f"never came true within {seconds} s: {description}"
        await anyio.sleep(0.02)
    return found


def kill_worker(project: Path) -> list[int]:
    """Kill the workers of a project; return their pids."""
    workers = processes_of(project, "worker")
    for worker in workers:
        with suppress(psutil.NoSuchProcess):  # it has ended since it was looked for
            worker.kill()
    return [worker.pid for worker in workers]


def is_taken_up_again(run: Run, killed: Collection[int]) -> bool:
    """Whether another worker than those killed has taken up the run."""
    worker = run.worker
    return (
        worker is not None
        and worker.alive
        and worker.pid not in killed
        and run.updated_at >= worker.started_at
    )


def copy_flow(name: str, project: Path) -> Path:
    """Put one of `flows/` into a project's workflow folder."""
    folder = project / "workflows"
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(FLOWS / f"{name}.py", folder / f"{name}.py"))


def all_flows() -> list[str]:
    """The names of all `flows/`."""
    return sorted(path.stem for path in FLOWS.glob("*.py"))


@asynccontextmanager
async def running_project(settings: Settings, flows: Iterable[str]) -> AsyncGenerator[Engine]:
    """The engine of a project with some of `flows/`, in a directory that is made. It is shut down afterwards, and nothing may be left."""
    settings.project.mkdir()
    for name in flows:
        copy_flow(name, settings.project)
    project = Project(settings)
    try:
        yield await project.engine()
    finally:
        await project.aclose()
        await lifecycle.shut_down(settings)
    left = processes_of(settings.project)
    assert not left, f"left behind: {left}"


@asynccontextmanager
async def parking_project(
    factory: pytest.TempPathFactory,
    flow: str,
    database_url: str | None = None,
    engine: DatabaseEngine = "pglite",
) -> AsyncGenerator[Engine]:
    """As `running_project`, with one of `flows/`, in a temporary directory. Runs are parked soon."""
    folder = (factory.mktemp(flow) / "project").resolve()
    settings = Settings(
        project=folder, park_after_seconds=0.2, database_url=database_url, engine=engine
    )
    async with running_project(settings, [flow]) as running:
        yield running


def run_without_rights(source: str, *arguments: str) -> None:
    """Run Python source as a user to whom the permissions of files apply."""
    command = [sys.executable, "-c", source, *arguments]
    if os.getuid() == 0:  # who may open everything, but for this
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *command]
    subprocess.run(command, check=True, timeout=60)


async def insert_lost_run(
    engine: Engine, workflow_id: str = "lost", *, queue: str = "nowhere"
) -> None:
    """A run of a workflow `removed` that its version does not have, as a schedule starts it whose workflow was removed. From the queue `nowhere` no worker takes it."""
    version = (await engine.catalog()).version
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await connection.execute(
            "insert into dbos.workflow_status (workflow_uuid, name, status, application_version, application_name, queue_name,"
            " serialization, created_at, updated_at) values (%s, 'removed', 'ENQUEUED', %s, 'durable-workflows', %s, 'portable_json', 0, 0)",
            [workflow_id, version, queue],
        )
        await connection.execute(
            "insert into dbos.workflow_input (workflow_uuid, inputs) values (%s, %s)",
            [workflow_id, '{"positionalArgs": [], "namedArgs": {}}'],
        )


async def is_parked(engine: Engine, workflow_id: str) -> bool:
    select = "select executor_id = 'parked' from dbos.workflow_status where workflow_uuid = %s"
    return bool(await value(engine, select, workflow_id))


async def until_parked(engine: Engine, *workflow_ids: str) -> None:
    """Return once these runs are parked."""
    for workflow_id in workflow_ids:
        await until_found(
            lambda one=workflow_id: is_parked(engine, one), f"{workflow_id} is parked"
        )


async def newest_start(engine: Engine) -> list[str]:
    """The newest run that no other started. The counts of all runs change whenever a run of another test ends."""
    page = await engine.reader.page(limit=1, roots=True)
    return [run.workflow_id for run in page.runs]


async def log_of(engine: Engine, workflow_id: str, *, count: int) -> list[LogLine]:
    """The log of a run, once it has so many lines. The end of a run waits for its last lines, but for a second at most."""

    async def lines() -> list[LogLine] | None:
        found = await engine.reader.log(workflow_id)
        return found if len(found) >= count else None

    return await until_found(lines, f"{workflow_id} has {count} lines in its log")


def processes_of(project: Path, role: str = "", word: str = "") -> list[psutil.Process]:
    """The living processes whose command line names the project, with this role on it (an option, a command, a module's or a file's name) and this word."""
    return [
        process
        for process in psutil.process_iter()
        if _is_of(command_of(process), str(project), role, word)
    ]


def command_of(process: psutil.Process) -> list[str]:
    """Its command line, without words if it has ended, even if its exit code has not been taken yet."""
    try:
        return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return []


def _is_of(command: list[str], project: str, role: str, word: str) -> bool:
    return (
        project in command
        and (not role or any(_names(one, role) for one in command))
        and (not word or word in command)
    )


def _names(word: str, role: str) -> bool:
    return word in (role, f"durable_workflows.{role}") or word.endswith((f".{role}", f"/{role}"))


async def value(engine: Engine, statement: Any, *values: object) -> Any:
    """The first column of the first row, if there is one."""
    database = engine.connection.database
    async with await tables.connect(database, role="test") as connection:
        cursor = connection.cursor(row_factory=scalar_row)
        there: Any = tables._in_schemas(statement, database.schema, database.dbos_schema)
        await cursor.execute(there, values)
        return await cursor.fetchone() if cursor.description else None


@contextmanager
def dbos_client_of(engine: Engine) -> Generator[DBOSClient]:
    """A client of dbos on the engine's database."""
    found = engine.connection.database
    connections.connect_alone()
    values.record_any_text()
    typed_values.install_without_code()
    client = DBOSClient(
        system_database_url=own_url(found),
        dbos_system_schema=found.dbos_schema,
        serializer=typed_values.KeptJSON(),
        application_name=APPLICATION,
    )
    try:
        yield client
    finally:
        client.destroy()

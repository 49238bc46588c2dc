"""The contenders: this project, and plain DBOS on SQLite and on a native Postgres. All run `flow.py`."""

import functools
import shutil
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import psutil
from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowHandle
from psycopg import sql
from tests.native import Cluster

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import APPLICATION as APPLICATION_NAME
from durable_workflows.settings import Engine as DatabaseEngine
from durable_workflows.settings import Settings

from .children import child
from .host import APPLICATION, QUEUE

_HERE = Path(__file__).parent
_SECONDS = 120.0  # for any one run

_FILL = """
insert into {}.workflow_status (
    workflow_uuid, name, status, application_version, application_name, serialization, created_at, updated_at, completed_at
)
select 'filled-' || number, 'filled', case when number %% 50 = 0 then 'ERROR' else 'SUCCESS' end, 'earlier', %s, 'portable_json',
    1700000000000 + number, 1700000000000 + number, 1700000000000 + number
from generate_series(1, %s::int) as number
"""

_FILL_STEPS = """
insert into {}.operation_outputs (workflow_uuid, function_id, function_name, output, started_at_epoch_ms, completed_at_epoch_ms, serialization)
select 'filled-' || number, step, 'filled', '"' || repeat('x', 100) || '"', 1700000000000, 1700000000000, 'portable_json'
from generate_series(1, %s::int) as number, generate_series(1, 3) as step
"""

T = TypeVar("T")


class Contender(Protocol):
    """One system under measurement, running."""

    async def start(self, workflow: str, **arguments: Any) -> str:
        """Start a run; return its workflow_id."""
        ...

    async def start_many(self, workflow: str, count: int) -> Sequence[str]:
        """Start so many runs in one call if there is one; else one after another."""
        ...

    async def results(self, workflow_ids: Sequence[str]) -> list[Any]:
        """Wait for runs; return what each returned, in this order."""
        ...

    async def send(self, workflow_id: str, message: str) -> None:
        """Send a message on the topic `bench`."""
        ...

    def processes(self) -> list[psutil.Process]:
        """All processes that it needs."""
        ...


@dataclass(frozen=True)
class Kind:
    """A sort of contender. `open` starts one in a folder; the same folder again is a warm start.

    `unlike` says in what it is not like plain DBOS, for a reader of its figures.
    """

    key: str
    title: str
    open: Callable[[Path], AbstractAsyncContextManager[Contender]]
    unlike: str = ""


def embedded() -> Kind:
    """This project with its own database."""
    return Kind("ours", "durable-workflows", _ours)


def external(cluster: Cluster) -> Kind:
    """This project on a native Postgres."""
    return Kind("ours_native", "ours on native", functools.partial(_ours, cluster=cluster))


def rung() -> Kind:
    """This project on a Postgres in its folder."""
    return Kind(
        "ours_postgres", "ours, engine postgres", functools.partial(_ours, engine="postgres")
    )


def sqlite() -> Kind:
    """Plain DBOS on a file."""
    return Kind("sqlite", "DBOS on SQLite", _on_sqlite)


def native(cluster: Cluster) -> Kind:
    """Plain DBOS on a native Postgres."""
    return Kind("native", "DBOS on native", functools.partial(_on_cluster, cluster))


class Ours:
    """This project, running; `cluster` is the Postgres that it has for itself, if it is not its own database."""

    def __init__(self, engine: Engine, cluster: Cluster | None) -> None:
        self._engine = engine
        self._cluster = cluster

    async def start(self, workflow: str, **arguments: Any) -> str:
        """See Contender."""
        started = await self._engine.start(StartRequest(name=workflow, args=arguments))
        return started.workflow_id

    async def start_many(self, workflow: str, count: int) -> Sequence[str]:
        """See Contender."""
        started = await self._engine.start_all([StartRequest(name=workflow)] * count)
        return [one.workflow_id for one in started]

    async def results(self, workflow_ids: Sequence[str]) -> list[Any]:
        """See Contender."""
        found = await self._engine.reader.wait(workflow_ids, timeout_seconds=_SECONDS)
        done = {ended.workflow_id: ended for ended in found.done}
        failed = [one for one in workflow_ids if one not in done or done[one].error]
        assert not failed, f"not ended well: {failed}: {found}"
        return [done[one].output for one in workflow_ids]

    async def send(self, workflow_id: str, message: str) -> None:
        """See Contender."""
        await self._engine.send(workflow_id, "bench", message)

    def processes(self) -> list[psutil.Process]:
        """See Contender."""
        supervisor = psutil.Process(self._engine.connection.pid)
        server = self._cluster.processes() if self._cluster else []
        return [supervisor, *supervisor.children(recursive=True), *server]

    async def repeat(self, workflow_id: str, step: int) -> str:
        """Fork a run from a step; the new run's id."""
        return (await self._engine.fork(workflow_id, step)).workflow_id

    async def waiting(self) -> int:
        """How many runs wait outside of any process."""
        return (await self._engine.reader.status()).waiting.parked

    async def fill(self, runs: int) -> None:
        """Have so many ended runs more in the database."""
        database = self._engine.connection.database
        schema = sql.Identifier(database.dbos_schema)
        async with await tables.connect(database, role="test") as connection:
            await connection.execute(sql.SQL(_FILL).format(schema), [APPLICATION_NAME, runs])
            await connection.execute(sql.SQL(_FILL_STEPS).format(schema), [runs])
            for table in ("workflow_status", "operation_outputs"):
                vacuum = sql.SQL("vacuum analyze {}").format(
                    sql.Identifier(database.dbos_schema, table)
                )
                await connection.execute(vacuum)

    async def prune(self) -> int:
        """Delete the runs of `fill`; return how many these were."""
        return (await self._engine.prune(timedelta(days=300))).runs

    def looks(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """The calls that read many runs."""
        reader = self._engine.reader
        return {
            "list": reader.runs,
            "list_waiting": lambda: reader.runs(waiting=True),
            "list_roots": lambda: reader.runs(roots=True, oldest_first=True),
            "counts": reader.counts,
            "status": reader.status,
            "overview": reader.overview,
        }


@asynccontextmanager
async def _ours(
    folder: Path, cluster: Cluster | None = None, engine: DatabaseEngine = "pglite"
) -> AsyncGenerator[Contender]:
    workflows = folder / "workflows"
    workflows.mkdir(exist_ok=True)
    shutil.copy(_HERE / "flow.py", workflows / "flow.py")
    url = cluster.database(folder.name) if cluster else None
    settings = Settings(project=folder, database_url=url, engine=engine)
    project = Project(settings)
    try:
        running = await project.engine()
        await running.catalog()
        yield Ours(running, cluster)
    finally:
        with anyio.CancelScope(shield=True):
            await project.aclose()
            await lifecycle.shut_down(settings)


class _Plain:
    def __init__(self, client: DBOSClient, pid: int, cluster: Cluster | None) -> None:
        self._client = client
        self._pid = pid
        self._cluster = cluster

    async def start(self, workflow: str, **arguments: Any) -> str:
        def enqueue() -> str:
            options: EnqueueOptions = {"workflow_name": workflow, "queue_name": QUEUE}
            return self._client.enqueue(options, **arguments).get_workflow_id()  # pyright: ignore[reportUnknownMemberType]

        return await _in_thread(enqueue)

    async def start_many(self, workflow: str, count: int) -> Sequence[str]:
        return [await self.start(workflow) for _ in range(count)]

    async def results(self, workflow_ids: Sequence[str]) -> list[Any]:
        return [await self._result(workflow_id) for workflow_id in workflow_ids]

    async def _result(self, workflow_id: str) -> Any:
        def wait() -> Any:
            handle: WorkflowHandle[Any] = self._client.retrieve_workflow(workflow_id)
            return handle.get_result(polling_interval_sec=0.2)

        with anyio.fail_after(_SECONDS):
            return await _in_thread(wait)

    async def send(self, workflow_id: str, message: str) -> None:
        await _in_thread(lambda: self._client.send(workflow_id, message, "bench"))

    def processes(self) -> list[psutil.Process]:
        server = self._cluster.processes() if self._cluster else []
        return [psutil.Process(self._pid), *server]


@asynccontextmanager
async def _on_sqlite(folder: Path) -> AsyncGenerator[Contender]:
    async with _plain(folder, f"sqlite:///{folder / 'bench.sqlite'}") as contender:
        yield contender


@asynccontextmanager
async def _on_cluster(cluster: Cluster, folder: Path) -> AsyncGenerator[Contender]:
    url = cluster.database(folder.name)
    async with _plain(folder, url, cluster) as contender:
        yield contender


@asynccontextmanager
async def _plain(
    folder: Path, url: str, cluster: Cluster | None = None
) -> AsyncGenerator[Contender]:
    command = [sys.executable, "-m", f"{__package__}.host", url]
    async with child(command, log=folder / "host.log", folder=_HERE.parents[1]) as host:
        await host.read_line()
        client = DBOSClient(
            system_database_url=url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
        )
        try:
            yield _Plain(client, host.pid, cluster)
        finally:
            client.destroy()


async def _in_thread(function: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)

# pyright: reportPrivateUsage=false
"""Looks into the tables while runs are parked and woken, as often as there is a database: for what must not be at any moment, and for who waits too long."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import psutil

from durable_workflows.database import tables
from durable_workflows.engine.project import Project
from durable_workflows.settings import Database
from durable_workflows.system import state

_LOOK_SECONDS = 0.2
# Runs that would wait for ever: what they wait for is there and they are not woken, or no worker would claim them.
_FORGOTTEN = """
select workflow_id, kind from durable_workflows.parked join durable_workflows.parked_on as what using (workflow_id)
where not exists (select from durable_workflows.woken where woken.workflow_id = parked.workflow_id) and (
    kind = 'message' and exists (
        select from dbos.notifications as message where message.destination_uuid = target and message.topic = what.key and not message.consumed
    )
    or kind = 'event' and exists (
        select from dbos.workflow_events as event where event.workflow_uuid = target and event.key = what.key
    )
    or kind = 'end' and not exists (
        select from dbos.workflow_status as other where other.workflow_uuid = target and other.status in ('PENDING', 'ENQUEUED', 'DELAYED')
    )
)
union all
select coalesce(workflow_id, workflow_uuid), concat_ws(' ', 'parked by halves:', status, executor_id, owner_xid)
from durable_workflows.parked full join (
    select * from dbos.workflow_status where executor_id = 'parked' and status in ('PENDING', 'ENQUEUED', 'DELAYED')
) as run on workflow_uuid = workflow_id
where workflow_id is null or status is distinct from 'PENDING' or owner_xid is not null
"""
# Runs that can go on, why, and since when; those that are set apart wait for a worker of their own.
_DUE = """
select workflow_id, why || case when suspects.executor_id is null then '' else ', set apart' end, since from (
select workflow_id, 'is woken' as why, min(at) as since from durable_workflows.woken join durable_workflows.parked using (workflow_id) group by 1
union all
select workflow_id, 'is due', due_at from durable_workflows.parked where due_at < clock_timestamp()
union all
select workflow_uuid as workflow_id, 'is in a queue', to_timestamp(updated_at / 1000.0) from dbos.workflow_status where status = 'ENQUEUED'
union all
select destination_uuid, 'has a message', to_timestamp(created_at_epoch_ms / 1000.0)
from dbos.notifications join dbos.workflow_status on workflow_uuid = destination_uuid where not consumed and status in ('PENDING', 'ENQUEUED', 'DELAYED')
) as due left join durable_workflows.suspects using (workflow_id)
"""
_PROGRESS = "select (select count(*) from dbos.operation_outputs), (select sum(updated_at) from dbos.workflow_status)"
_READY = "select pid from durable_workflows.workers where not apart"
_PARKED = "select workflow_id, parked_at from durable_workflows.parked"
_LEFT = """
select 'parked', workflow_id from durable_workflows.parked union all select 'parked_on', workflow_id from durable_workflows.parked_on union all
select 'woken', workflow_id from durable_workflows.woken union all select 'waits', workflow_id from durable_workflows.waits union all
select 'open step', workflow_id from durable_workflows.open_steps() union all
select status, workflow_uuid from dbos.workflow_status where status in ('PENDING', 'ENQUEUED', 'DELAYED')
"""


class Watch:
    """The observed rows of a project, which may be on several machines."""

    def __init__(self, projects: Sequence[Project]) -> None:
        self._settings = projects[0].settings
        self._machines = len(projects)
        self.parks: set[tuple[str, object]] = set()
        self.forgotten: dict[str, str] = {}
        self.left: Sequence[tuple[Any, ...]] = []  # of unfinished runs
        self.is_over = False  # nothing is killed any more
        self.late: dict[tuple[str, str], float] = {}  # by run and reason, for how long, at most
        self.still = 0.0  # for how long nothing went on, at most, though something could
        self._ready_at: float | None = None  # since when each machine has a worker
        self._progress: object = None
        self._progress_at = 0.0

    async def look(self) -> None:
        """Look again and again, forever."""
        while True:
            with suppress(tables.Lost):
                self.parks.update(await self._rows(_PARKED))
                self.forgotten |= dict(await self._rows(_FORGOTTEN))
                if self.is_over:
                    await self._note_late()
            await anyio.sleep(_LOOK_SECONDS)

    async def has_nothing_left(self) -> bool:
        """Whether all runs have ended, and no row of theirs is left that ends with a run."""
        with suppress(tables.Lost):
            self.left = await self._rows(_LEFT)
            return not self.left
        return False

    async def _note_late(self) -> None:
        """Workers that ended again and again are started with a pause; from then on nothing keeps a run from going on."""
        due = await self._rows(_DUE)
        if self._ready_at is None:
            self._ready_at = time.time() if await self._is_ready() else None
            return
        for run, why, since in due:
            late = time.time() - max(since.timestamp(), self._ready_at)
            self.late[run, why] = max(late, self.late.get((run, why), 0.0))
        progress = await self._rows(_PROGRESS) if due else None
        if progress is None or progress != self._progress:
            self._progress, self._progress_at = progress, time.time()
        self.still = max(self.still, time.time() - self._progress_at)

    async def _is_ready(self) -> bool:
        pids = [pid for (pid,) in await self._rows(_READY)]
        return sum(map(psutil.pid_exists, pids)) == self._machines

    async def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, which has the schemas of the embedded database."""
        database = self._database()
        text: Any = tables._in_schemas(statement, database.schema, database.dbos_schema)
        async with await tables.connect(database, role="watch") as connection:
            rows = await (await connection.execute(text)).fetchall()
        return [tuple(row.values()) for row in rows]

    def _database(self) -> Database:
        """Where the rows are. It starts nothing.

        Raises:
            tables.Lost: nobody knows.
        """
        if self._settings.database_url is not None:
            return self._settings.database(self._settings.database_url)
        connection = state.read_connection(self._settings)
        if connection is None:
            raise tables.Lost("There is no database now.")
        return connection.database

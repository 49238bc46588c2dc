# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""No step begins in a process that others may think dead, or in an execution that has lost its run.

dbos looks up each step before it begins. That look-up says who has the run (`step_statements`, `replaying`); here it waits for the lease of
this process, and is repeated if the lease has run out meanwhile. What is left is the moment between the answer and the step's first line.
"""

import asyncio
from types import SimpleNamespace
from typing import Protocol

from dbos import _context as dbos_context
from dbos import _outcome as dbos_outcome
from dbos._sys_db import RecordedResult, SystemDatabase

from durable_workflows.seam.patches import step_statements
from durable_workflows.seam.patches.replacing import replace
from durable_workflows.seam.patches.replaying import LookUp


class Lease(Protocol):
    """The lease of this process on its runs."""

    def is_held(self) -> bool:
        """Whether nobody else can take over the runs of this process now."""
        ...

    def wait_until_held(self) -> None:
        """Return when it is held."""
        ...


def install(lease: Lease) -> None:
    """Change dbos for this process. Call it once, after all other patches of steps and before `DBOS.launch()`."""
    looked_up = looking_up_while_held(SystemDatabase.check_operation_execution, lease)
    replace(SystemDatabase, check_operation_execution=looked_up)
    _check_after_pauses(lease)


def looking_up_while_held(look_up: LookUp, lease: Lease) -> LookUp:
    """Replaces `SystemDatabase.check_operation_execution`, which is `look_up`."""

    def looked_up(
        self: SystemDatabase,
        workflow_id: str,
        function_id: int,
        function_name: str,
        *,
        owner_key: str | None = None,
    ) -> RecordedResult | None:
        while True:
            lease.wait_until_held()
            found = look_up(self, workflow_id, function_id, function_name, owner_key=owner_key)
            if found is not None or lease.is_held():
                return found

    return looked_up


def _check_after_pauses(lease: Lease) -> None:
    """Ask again between two attempts of a step: another process may have had the run for long."""
    pause, pause_async = dbos_outcome.time.sleep, dbos_outcome.asyncio.sleep

    def check() -> None:
        context = dbos_context.get_local_dbos_context()
        if context is None or not context.is_within_workflow():
            return
        lease.wait_until_held()
        step_statements.check_owner(context.workflow_id)

    def paused(seconds: float) -> None:
        pause(seconds)
        check()

    async def paused_async(seconds: float) -> None:
        await pause_async(seconds)
        await asyncio.to_thread(check)

    replace(
        dbos_outcome,
        time=SimpleNamespace(**{**vars(dbos_outcome.time), "sleep": paused}),
        asyncio=SimpleNamespace(**{**vars(dbos_outcome.asyncio), "sleep": paused_async}),
    )

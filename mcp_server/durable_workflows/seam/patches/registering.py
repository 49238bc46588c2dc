# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""The registration of workflows, and runs by name."""

from collections.abc import Callable

from dbos import DBOS
from dbos import _dbos as dbos_module
from dbos import _queue as dbos_queue
from dbos._registrations import get_func_info
from dbos._sys_db import WorkflowStatusInternal

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches.replacing import replace


def before_registering(call: Callable[[str], None]) -> None:
    """Call this function with the name of a workflow before its registration; an error prevents the registration."""
    scope = dbos_module.DBOSRegistry
    register = scope.register_wf_function

    def registering(
        self: dbos_module.DBOSRegistry, name: str, function: Callable[..., object]
    ) -> None:
        if not name.startswith(dbos_calls.TEMPORARY):
            call(name)
        register(self, name, function)

    replace(scope, register_wf_function=registering)


def run_methods_by_name() -> None:
    """Run a workflow that is a method and was started by name only on its class, or on the only object of the class."""
    execute = dbos_queue.execute_dequeued_workflow

    def executed(dbos: DBOS, status: WorkflowStatusInternal, owner_xid: str) -> object:
        function = dbos._registry.workflow_info_map.get(status["name"])
        info = get_func_info(function) if function and status["class_name"] is None else None
        owners = dbos_calls.owners_of(function) if function and info else None
        if info and info.class_info and owners and len(owners) == 1:
            status["class_name"] = info.class_info.registered_name
            (status["config_name"],) = owners
        return execute(dbos, status, owner_xid)

    replace(dbos_queue, execute_dequeued_workflow=executed)

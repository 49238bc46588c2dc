# pyright: reportPrivateUsage=false
"""How workflows are registered, and run by their names."""

from collections.abc import Callable
from typing import Any

from dbos import _dbos as dbos_module
from dbos import _queue as dbos_queue
from dbos._registrations import get_func_info

from durable_workflows.seam import dbos_calls


def before_registering(call: Callable[[str], None]) -> None:
    """Call with the name of a workflow before it is registered; what is raised keeps it from being registered."""
    scope: Any = dbos_module.DBOSRegistry
    register = scope.register_wf_function

    def registering(self: Any, name: str, function: Callable[..., Any]) -> None:
        if not name.startswith(dbos_calls.TEMPORARY):
            call(name)
        register(self, name, function)

    scope.register_wf_function = registering


def run_methods_by_name() -> None:
    """Run a workflow that is a method, and was started by its name alone, on its class, or on the one object that the class has."""
    module: Any = dbos_queue
    execute = module.execute_dequeued_workflow

    def executed(dbos: Any, status: Any, owner_xid: str) -> Any:
        function = dbos._registry.workflow_info_map.get(status["name"])
        info = get_func_info(function) if function and status["class_name"] is None else None
        owners = dbos_calls.owners_of(function) if info else None
        if info and info.class_info and owners and len(owners) == 1:
            status["class_name"] = info.class_info.registered_name
            (status["config_name"],) = owners
        return execute(dbos, status, owner_xid)

    module.execute_dequeued_workflow = executed

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""The arguments of workflows, by their signatures."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, cast

from dbos import DBOS, EnqueueOptions
from dbos import _core as dbos_core
from dbos import _dbos as dbos_module
from dbos._context import DBOSContext
from dbos._registrations import DBOSFuncType, get_func_info
from dbos._serialization import WorkflowInputs

from durable_workflows.seam.patches.replacing import replace

Args = tuple[object, ...]
Named = Mapping[str, object]
Workflow = Callable[..., object]
Decorate = Callable[..., Callable[[Workflow], Workflow]]
_SIGNATURE = "durable_signature"  # an attribute of the registered function


class Signature(Protocol):
    """Gives the recorded form of a workflow's arguments, by place and by name, and the form that the workflow gets."""

    def recorded(self, args: Args, named: Named) -> tuple[Args, Named]:
        """The recorded form: plain JSON, if the signature knows how."""
        ...

    def converted(self, args: Args, named: Named) -> tuple[Args, Named]:
        """The form for the workflow, in the first run and on each replay."""
        ...


def convert_arguments(signature: Callable[[Workflow], Signature]) -> None:
    """Convert the arguments of all workflows registered from now on by their signatures, except those with their own `validate_args`."""
    replace(dbos_module, decorate_workflow=_converted(dbos_core.decorate_workflow, signature))
    replace(
        dbos_core,
        _assemble_workflow_status=_recorded(dbos_core._assemble_workflow_status),
        _build_enqueue_with_options=_recorded_in_queue(dbos_core._build_enqueue_with_options),
    )


def _converted(decorate: Decorate, signature: Callable[[Workflow], Signature]) -> Decorate:
    def decorated(*given: object, **named: object) -> Callable[[Workflow], Workflow]:
        decorator = decorate(*given, **named)
        if named.get("validate_args") is not None:
            return decorator

        def converting(function: Workflow) -> Workflow:
            return decorator(_converting(function, signature(function)))

        return converting

    return decorated


def _converting(function: Workflow, signature: Signature) -> Workflow:
    @functools.wraps(function)
    def call(*args: object, **named: object) -> object:
        places, names = signature.converted(args, named)
        return function(*places, **names)

    @functools.wraps(function)
    async def call_async(*args: object, **named: object) -> object:
        places, names = signature.converted(args, named)
        return await cast("Awaitable[object]", function(*places, **names))

    converting = call_async if inspect.iscoroutinefunction(function) else call
    setattr(converting, _SIGNATURE, signature)
    return converting


def _recorded(started: Callable[..., object]) -> Callable[..., object]:
    """Record arguments from Python code, objects or JSON, as the signature of the workflow says."""

    def start(
        dbos: DBOS, context: DBOSContext, *, inputs: WorkflowInputs, wf_name: str, **named: object
    ) -> object:
        signature = _signature(dbos, wf_name)
        if signature is not None:
            args, kwargs = signature.recorded(inputs["args"], inputs["kwargs"])
            inputs = {"args": args, "kwargs": dict(kwargs)}
        return started(dbos, context, inputs=inputs, wf_name=wf_name, **named)

    return start


def _recorded_in_queue(enqueued: Callable[..., object]) -> Callable[..., object]:
    """As `_recorded`."""

    def enqueue(
        dbos: DBOS, context: DBOSContext, options: EnqueueOptions, args: Args, named: Named
    ) -> object:
        signature = _signature(dbos, options["workflow_name"])
        if signature is not None:
            skipped = (None,) * _is_method(dbos, options["workflow_name"])
            args, named = signature.recorded((*skipped, *args), named)
            args = args[len(skipped) :]
        return enqueued(dbos, context, options, args, dict(named))

    return enqueue


def _signature(dbos: DBOS, name: str) -> Signature | None:
    """The signature that converts a registered workflow's arguments."""
    return getattr(dbos._registry.workflow_info_map.get(name), _SIGNATURE, None)


def _is_method(dbos: DBOS, name: str) -> bool:
    """Whether the workflow's first parameter is its class or an instance, which a call by name does not pass."""
    found = get_func_info(dbos._registry.workflow_info_map[name])
    return found is not None and found.func_type in (DBOSFuncType.Class, DBOSFuncType.Instance)

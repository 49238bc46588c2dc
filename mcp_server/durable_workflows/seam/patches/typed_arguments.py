# pyright: reportPrivateUsage=false
"""The arguments of workflows, as their signatures say."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from dbos import EnqueueOptions
from dbos import _core as dbos_core
from dbos import _dbos as dbos_module
from dbos._registrations import DBOSFuncType, get_func_info

Args = tuple[Any, ...]
Named = dict[str, Any]


class Signature(Protocol):
    """Says of a workflow's arguments, given by place and by name, what is recorded of them and what the workflow gets."""

    def recorded(self, args: Args, named: Named) -> tuple[Args, Named]:
        """What is recorded, plain JSON where the signature knows how."""
        ...

    def converted(self, args: Args, named: Named) -> tuple[Args, Named]:
        """What the workflow gets, in the first run as on each replay."""
        ...


def convert_arguments(signature: Callable[[Callable[..., Any]], Signature]) -> None:
    """Give all workflows that are registered from now on their arguments as their signatures say, except those with a `validate_args` of their own."""
    module: Any = dbos_module
    decorate = module.decorate_workflow

    def decorated(*given: Any, **named: Any) -> Any:
        decorator = decorate(*given, **named)
        if named.get("validate_args") is not None:
            return decorator

        def converting(function: Callable[..., Any]) -> Any:
            return decorator(_converting(function, signature(function)))

        return converting

    module.decorate_workflow = decorated
    _record_converted()


def _converting(function: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        args, named = signature.converted(args, named)
        return function(*args, **named)

    @functools.wraps(function)
    async def call_async(*args: Any, **named: Any) -> Any:
        args, named = signature.converted(args, named)
        return await function(*args, **named)

    converting: Any = call_async if inspect.iscoroutinefunction(function) else call
    converting.durable_signature = signature
    return converting


def _record_converted() -> None:
    """Record arguments that Python code gives, be it objects or JSON, as the signature of the workflow says."""
    started, enqueued = dbos_core._assemble_workflow_status, dbos_core._build_enqueue_with_options

    def start(dbos: Any, context: Any, *, inputs: Any, wf_name: str, **named: Any) -> Any:
        signature = _signature(dbos, wf_name)
        if signature is not None:
            args, kwargs = signature.recorded(inputs["args"], inputs["kwargs"])
            inputs = {"args": args, "kwargs": kwargs}
        return started(dbos, context, inputs=inputs, wf_name=wf_name, **named)

    def enqueue(dbos: Any, context: Any, options: EnqueueOptions, args: Args, named: Named) -> Any:
        signature = _signature(dbos, options["workflow_name"])
        if signature is not None:
            skipped = (None,) * _is_method(dbos, options["workflow_name"])
            args, named = signature.recorded((*skipped, *args), named)
            args = args[len(skipped) :]
        return enqueued(dbos, context, options, args, named)

    dbos_core._assemble_workflow_status = start
    dbos_core._build_enqueue_with_options = enqueue


def _signature(dbos: Any, name: str) -> Signature | None:
    """The signature by which a registered workflow gets its arguments."""
    return getattr(dbos._registry.workflow_info_map.get(name), "durable_signature", None)


def _is_method(dbos: Any, name: str) -> bool:
    """Whether the workflow's first parameter is its class or dbos_calls.instance, which a call by name does not give."""
    found = get_func_info(dbos._registry.workflow_info_map[name])
    return found is not None and found.func_type in (DBOSFuncType.Class, DBOSFuncType.Instance)

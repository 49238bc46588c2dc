"""Durable workflows for AI agents. Workflow code imports `receive`, `ask_human`, `step`, `map_runs` and so on from here.

They are loaded at first use: importing dbos takes a second, which a server cannot spare.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_workflows.authoring import (
        NOT_DONE,
        Callback,
        CallbackFailed,
        CallbackTimeout,
        DeadlinePassed,
        HeartbeatTimeout,
        NamedOutcomes,
        Outcome,
        Outcomes,
        Retry,
        RunsFailed,
        StepTimeout,
        ask_human,
        ask_human_async,
        callback,
        callback_async,
        gather_runs,
        gather_runs_async,
        idempotency_key,
        map_runs,
        map_runs_async,
        receive,
        receive_async,
        scope,
        sleep,
        sleep_async,
        step,
        wait_for_callback,
        wait_for_callback_async,
        wait_until,
        wait_until_async,
        workflow_options,
    )

__all__ = [
    "NOT_DONE",
    "Callback",
    "CallbackFailed",
    "CallbackTimeout",
    "DeadlinePassed",
    "HeartbeatTimeout",
    "NamedOutcomes",
    "Outcome",
    "Outcomes",
    "Retry",
    "RunsFailed",
    "StepTimeout",
    "ask_human",
    "ask_human_async",
    "callback",
    "callback_async",
    "gather_runs",
    "gather_runs_async",
    "idempotency_key",
    "map_runs",
    "map_runs_async",
    "receive",
    "receive_async",
    "scope",
    "sleep",
    "sleep_async",
    "step",
    "wait_for_callback",
    "wait_for_callback_async",
    "wait_until",
    "wait_until_async",
    "workflow_options",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module("durable_workflows.authoring"), name)
    raise AttributeError(name)

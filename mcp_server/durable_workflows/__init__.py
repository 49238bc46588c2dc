"""Durable workflows for AI agents. Workflow code imports `receive`, `ask_human` and `step` from here.

They are loaded at first use: importing dbos takes a second, which a server cannot spare.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_workflows.authoring import (
        NOT_DONE,
        ask_human,
        ask_human_async,
        idempotency_key,
        receive,
        receive_async,
        step,
    )

__all__ = [
    "NOT_DONE",
    "ask_human",
    "ask_human_async",
    "idempotency_key",
    "receive",
    "receive_async",
    "step",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module("durable_workflows.authoring"), name)
    raise AttributeError(name)

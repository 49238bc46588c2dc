"""Durable workflows for AI agents. Workflow code imports `receive` and `ask_human` from here.

They are loaded at first use: importing dbos takes a second, which a server cannot spare.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_workflows.authoring import ask_human, ask_human_async, receive, receive_async

__all__ = ["ask_human", "ask_human_async", "receive", "receive_async"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module("durable_workflows.authoring"), name)
    raise AttributeError(name)

"""Workflows whose children end with them, and such whose children go on."""

import os
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from durable_workflows import receive, receive_async, workflow_options


@DBOS.workflow()
def grandchild() -> str:
    """Wait."""
    return str(receive("word"))


@DBOS.workflow()
def child() -> str:
    """Start another, and wait."""
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        DBOS.start_workflow(grandchild)
    return str(receive("word"))


@DBOS.workflow()
async def grandchild_async() -> str:
    """Wait."""
    return str(await receive_async("word"))


@DBOS.workflow()
async def child_async() -> str:
    """Start another, and wait."""
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        await DBOS.start_workflow_async(grandchild_async)
    return str(await receive_async("word"))


@DBOS.workflow()
def quick() -> str:
    """Return."""
    return "done"


@DBOS.step()
def dies(file: str) -> None:
    """End the worker, the first time."""
    if not Path(file).exists():
        Path(file).touch()
        os._exit(9)


def go_on(how: str, word: object, file: str) -> str:
    if how == "dies":
        dies(file)
    if how == "fails" or word == "fail":
        raise ValueError("the parent failed")
    return "ended"


@DBOS.workflow()
@workflow_options(children="end with parent")
def ends_children(how: str, file: str = "") -> str:
    """Start children that end with it, and end in one of the ways there are."""
    with SetWorkflowID(f"{DBOS.workflow_id}-quick"):
        DBOS.start_workflow(quick).get_result()
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        DBOS.start_workflow(child)
    with SetWorkflowID(f"{DBOS.workflow_id}-queued"):
        DBOS.enqueue_workflow("nowhere", grandchild)
    return go_on(how, receive("go"), file)


@DBOS.workflow()
@workflow_options(children="end with parent")
async def ends_children_async(how: str) -> str:
    """Start children that end with it, and end in one of the ways there are."""
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        await DBOS.start_workflow_async(child_async)
    return go_on(how, await receive_async("go"), "")


@workflow_options(children="end with parent")
@DBOS.workflow()
def ends_children_above() -> str:
    """The decorator stands above."""
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        DBOS.start_workflow(child)
    return str(receive("go"))


@DBOS.workflow()
@workflow_options(children="go on")
def lets_children_go_on(how: str) -> str:
    """Start a child that goes on."""
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        DBOS.start_workflow(child)
    return go_on(how, receive("go"), "")


@DBOS.workflow()
def says_nothing_of_children(how: str) -> str:
    """Start a child that goes on."""
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        DBOS.start_workflow(child)
    return go_on(how, receive("go"), "")

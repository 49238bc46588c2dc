"""A run whose child waits: for somebody, or for a message of another run."""

from dbos import DBOS, SetWorkflowID

from durable_workflows import receive


@DBOS.workflow()
def asks(prompt: str | None) -> str:
    """Wait for a word; with a prompt, for one of whoever reads it."""
    return receive("word", schema={"enum": ["yes", "no"]}, prompt=prompt)


@DBOS.workflow()
def starts_one_that_asks(prompt: str | None) -> str:
    """Wait for a child that waits."""
    with SetWorkflowID(f"{DBOS.workflow_id}-child"):
        child = DBOS.start_workflow(asks, prompt)
    return child.get_result()


@DBOS.workflow()
def sleeps(seconds: float) -> None:
    """Sleep."""
    DBOS.sleep(seconds)

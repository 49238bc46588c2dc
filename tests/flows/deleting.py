"""Runs to be deleted."""

from dbos import DBOS, SetWorkflowID, WorkflowHandle


@DBOS.step()
def note(text: str) -> str:
    print("noted", text)
    return text


@DBOS.workflow()
def deleted_leaf(text: str) -> str:
    """One with all that a run can leave behind."""
    DBOS.set_event("text", text)
    DBOS.write_stream("texts", text)
    DBOS.close_stream("texts")
    note(text)
    return text


@DBOS.workflow()
def deleted_tree(children: int) -> list[str]:
    """One that starts others."""
    handles = [DBOS.start_workflow(deleted_leaf, f"child {number}") for number in range(children)]
    return [handle.get_result() for handle in handles]


@DBOS.workflow()
def deleted_asker() -> str:
    """One that waits."""
    return str(DBOS.recv("go", timeout_seconds=600))


@DBOS.workflow()
def deleted_parent(child_id: str) -> str:
    """One that started a run which goes on."""
    with SetWorkflowID(child_id):
        DBOS.start_workflow(deleted_asker)
    return child_id


@DBOS.workflow()
def deleted_reader(other: str) -> str:
    """One that takes the result of another run, and waits then."""
    handle: WorkflowHandle[str] = DBOS.retrieve_workflow(other, existing_workflow=False)
    result = handle.get_result()
    DBOS.recv("go", timeout_seconds=600)
    return result

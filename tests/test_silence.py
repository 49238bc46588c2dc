"""A database that takes connections and does not answer: no caller waits forever, and work continues where it was."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from durable_workflows.engine import rows
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import DatabaseSilent
from durable_workflows.models import StartRequest
from helpers import copy_flow, processes_of, until_found

pytestmark = [pytest.mark.anyio, pytest.mark.long]


async def test_a_database_that_hangs_is_given_up_and_goes_on_where_it_was(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_flow("messages", folder)
    engine = await project.engine()
    request = StartRequest(name="wait_for", args={"topic": "t"}, workflow_id="waits")
    await engine.start(request)
    await engine.reader.wait(["waits"], until="any")
    monkeypatch.setattr(rows, "_ANSWER_SECONDS", 2.0)  # of engines from now on
    impatient = Project(project.settings)
    hasty = await impatient.engine()
    await until_found(lambda: answers(hasty), "it answers")
    [node] = processes_of(folder, "pglite.mjs")
    node.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseSilent):
            await hasty.reader.run("waits")
    finally:
        node.send_signal(signal.SIGCONT)
    await until_found(lambda: answers(hasty), "it answers again")
    await impatient.aclose()
    await engine.send("waits", "t", "still there")
    assert (await engine.reader.wait(["waits"], timeout_seconds=60)).done[0].output == "still there"


async def answers(engine: Engine) -> bool:
    """Whether the database says in time that the run goes on."""
    with suppress(DatabaseSilent):
        return (await engine.reader.run("waits")).status == "PENDING"
    return False

"""A database that takes connections and does not answer: no caller waits forever, and work continues where it was."""

import signal
from pathlib import Path

import pytest

from durable_workflows.engine import rows
from durable_workflows.engine.project import Project
from durable_workflows.errors import DatabaseSilent
from durable_workflows.models import StartRequest
from helpers import copy_flow, processes_of

pytestmark = [pytest.mark.anyio, pytest.mark.long]


async def test_a_database_that_hangs_is_given_up_and_goes_on_where_it_was(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_ANSWER_SECONDS", 2.0)
    copy_flow("messages", folder)
    engine = await project.engine()
    request = StartRequest(name="wait_for", args={"topic": "t"}, workflow_id="waits")
    await engine.start(request)
    [node] = processes_of(folder, "pglite.mjs")
    node.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseSilent):
            await engine.reader.run("waits")
    finally:
        node.send_signal(signal.SIGCONT)
    assert (await engine.reader.run("waits")).status in ("PENDING", "ENQUEUED")
    await engine.send("waits", "t", "still there")
    assert (await engine.reader.wait(["waits"], timeout_seconds=60)).done[0].output == "still there"

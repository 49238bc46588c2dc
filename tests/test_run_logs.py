"""The output and logs of runs are kept with them, within bounds."""

import uuid
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from durable_workflows import limits
from durable_workflows.authoring.redaction import Redactor
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.host import runlog
from durable_workflows.host.runlog import RunLog
from durable_workflows.models import LogLine, StartRequest
from durable_workflows.telling import pages
from helpers import copy_flow, processes_of, until_found
from requirements import proves

pytestmark = pytest.mark.anyio


async def talked(engine: Engine, lines: int = 2) -> str:
    run = await engine.start(StartRequest(name="talk", args={"lines": lines}))
    await engine.reader.wait([run.workflow_id], timeout_seconds=60)
    return run.workflow_id


async def log_with(engine: Engine, workflow_id: str, text: str) -> list[LogLine]:
    """The whole log, once it has that line."""

    async def found() -> list[LogLine] | None:
        lines = await engine.reader.log(workflow_id, limit=10_000)
        return lines if any(line.text == text for line in lines) else None

    return await until_found(found, f"{text!r} is in the log")


@proves("log:kept")
async def test_prints_and_log_records_are_kept_in_order_with_their_step(shared: Engine) -> None:
    workflow_id = await talked(shared)
    lines = await log_with(shared, workflow_id, "no line feed")
    assert [(line.step, line.stream, line.text) for line in lines] == [
        (None, "out", "from the workflow"),
        (None, "err", "to the error stream"),
        (1, "out", "line 0"),
        (1, "out", "line 1"),
        (1, "WARNING", "a warning of the step"),
        (None, "out", "no line feed"),
    ]


@proves("log:kept")
async def test_what_a_run_prints_at_its_end_is_there_when_it_has_ended(shared: Engine) -> None:
    for _ in range(20):
        lines = await shared.reader.log(await talked(shared))
        assert [line.text for line in lines][-1:] == ["no line feed"]


async def test_the_end_of_a_run_does_not_cut_the_lines_of_others(shared: Engine) -> None:
    """`print` writes a line and its line feed one after the other; in between other runs end, and their lines are published."""
    log = RunLog(Redactor({}))
    one, other = (f"{name}-{uuid.uuid4()}" for name in ("one", "other"))
    async with (
        await tables.connect(shared.connection.database, role="test") as connection,
        anyio.create_task_group() as group,
    ):
        group.start_soon(log.publish, connection, anyio.Lock())
        for number in range(20):
            log.add((one, 1, "out"), f"line {number}")
            log.add((other, 1, "out"), "ends\n")
            await anyio.to_thread.run_sync(log.settle, other)
            log.add((one, 1, "out"), "\n")
        log.add((one, 1, "out"), "a prompt: ")

        async def shown() -> bool:  # although nothing more comes, and the run goes on
            return bool([line for line in await texts(shared, one) if line == "a prompt: "])

        await until_found(shown, "the prompt is shown")
        log.add((one, 1, "out"), "\nthe last")
        await anyio.to_thread.run_sync(log.settle, one)
        lines = [f"line {number}" for number in range(20)]
        assert await texts(shared, one) == [*lines, "a prompt: ", "the last"]
        group.cancel_scope.cancel()


async def texts(engine: Engine, workflow_id: str) -> list[str]:
    """The lines of a log, also of a run that there is not."""
    async with await tables.connect(engine.connection.database, role="test") as connection:
        cursor = await connection.execute(
            "select text from durable_workflows.logs where workflow_id = %s order by id",
            [workflow_id],
        )
        return [row["text"] for row in await cursor.fetchall()]


@proves("log:kept")
async def test_runs_that_print_at_the_same_time_do_not_mix(shared: Engine) -> None:
    starts = [StartRequest(name="talk", args={"lines": 50 + number}) for number in range(6)]
    runs = await shared.start_all(starts)
    await shared.reader.wait([run.workflow_id for run in runs], timeout_seconds=60)
    for number, run in enumerate(runs):
        lines = await log_with(shared, run.workflow_id, "no line feed")
        printed = [line.text for line in lines if line.step == 1 and line.stream == "out"]
        assert printed == [f"line {one}" for one in range(50 + number)]


@proves("log:kept", "payload:bounded")
async def test_of_a_talkative_run_the_newest_lines_are_kept_and_shown_in_pages(
    shared: Engine,
) -> None:
    workflow_id = await talked(shared, lines=5000)
    lines = await log_with(shared, workflow_id, "no line feed")
    assert len(lines) < limits.LOG_LINES + runlog.TRIM_LINES
    assert "line 4999" in [line.text for line in lines]
    page = pages.log(workflow_id, lines)
    assert len(page) < 8000
    assert "no line feed" in page
    assert f'inspect(workflow_id="{workflow_id}", detail="log", cursor=' in page
    cursor = int(page.split('cursor="', 1)[1].split('"', 1)[0])
    older = pages.log(workflow_id, lines, before=cursor)
    assert "no line feed" not in older
    last_of_older = older.rstrip("`\n").rsplit("\n", 1)[1]
    first_of_page = page.split("```\n", 1)[1].split("\n", 1)[0]
    number = int(last_of_older.rsplit(" ", 1)[1])
    assert first_of_page.endswith(f"line {number + 1}")


@pytest.mark.long
async def test_a_step_that_has_run_prints_nothing_again_after_a_kill(
    engine: Engine, folder: Path
) -> None:
    copy_flow("asking", folder)
    source = (folder / "workflows" / "asking.py").read_text(encoding="utf-8")
    (folder / "workflows" / "asking.py").write_text(
        source.replace("    chatter(lines)\n", "    chatter(lines)\n    receive('go')\n"),
        encoding="utf-8",
    )
    run = await engine.start(StartRequest(name="talk"))
    await log_with(engine, run.workflow_id, "line 1")
    # The step has printed it before it is recorded.
    await until_found(lambda: engine.reader.waits(run.workflow_id), "the step has ended")
    for process in processes_of(folder, "worker"):
        process.kill()
    await engine.send(run.workflow_id, "go", True)
    await engine.reader.wait([run.workflow_id], timeout_seconds=60)
    lines = await log_with(engine, run.workflow_id, "no line feed")
    assert [line.text for line in lines].count("line 1") == 1
    assert [line.text for line in lines].count("from the workflow") == 2

"""Large payloads: kept whole, shown in part."""

import json

import psycopg
import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.telling import traces
from requirements import proves

pytestmark = pytest.mark.anyio

MEGABYTE = 1_000_000


@proves("payload:bounded")
async def test_steps_of_a_megabyte_are_kept_whole_and_shown_in_part(shared: Engine) -> None:
    args = {"steps": 5, "size": MEGABYTE}
    started = await shared.start(StartRequest(name="large_outputs", args=args))
    result = await shared.reader.wait([started.workflow_id], timeout_seconds=60)
    assert result.done[0].output == 5 * MEGABYTE
    run = await shared.reader.run(started.workflow_id)
    assert [step.output.length for step in run.steps if step.output] == [MEGABYTE + 2] * 5
    text = traces.markdown(run)
    assert len(text) < 8000
    assert f"{MEGABYTE + 2:,}" in text  # says of what it is a part
    parts: list[str] = []
    while sum(map(len, parts)) < MEGABYTE + 2:
        step = await shared.reader.step(
            started.workflow_id, 3, offset=sum(map(len, parts)), length=400_000
        )
        assert step.output is not None
        parts.append(step.output.text)
    assert json.loads("".join(parts)) == "x" * MEGABYTE


@pytest.mark.long
@proves("payload:bounded")
async def test_a_run_with_a_thousand_steps_is_shown_within_the_limit(shared: Engine) -> None:
    args = {"steps": 1000, "size": 100}
    started = await shared.start(StartRequest(name="large_outputs", args=args))
    result = await shared.reader.wait([started.workflow_id], timeout_seconds=90)
    assert result.done[0].status == "SUCCESS"
    run = await shared.reader.run(started.workflow_id)
    assert run.total_steps == 1000
    text = traces.markdown(run)
    assert len(text) < 8000
    assert "1000" in text


@proves("pickle:refused")
async def test_a_pickled_row_is_shown_as_refused_and_never_executed(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="noisy"))
    await shared.reader.wait([started.workflow_id])
    async with await psycopg.AsyncConnection.connect(
        shared.connection.url, autocommit=True
    ) as other:
        await other.execute(
            "update dbos.workflow_status set serialization = 'py_pickle' where workflow_uuid = %s",
            [started.workflow_id],
        )
        await other.execute(
            "update dbos.workflow_output set output = 'gASVCwAAAAAAAACMAm9zlIwG' where workflow_uuid = %s",
            [started.workflow_id],
        )
    result = await shared.reader.wait([started.workflow_id])
    assert "py_pickle" in str(result.done[0].output)
    run = await shared.reader.run(started.workflow_id)
    assert run.output is not None
    assert "py_pickle" in run.output.text

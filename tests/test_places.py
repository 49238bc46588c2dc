"""The places of a queue in one worker, whose threads and tasks begin late."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import running_project
from requirements import proves

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = (tmp_path_factory.mktemp("late") / "project").resolve()
    async with running_project(Settings(project=folder), ["late_threads"]) as engine:
        yield engine


async def _said(engine: Engine, items: list[str]) -> Any:
    args: dict[str, Any] = {"items": items}
    run = await engine.start(StartRequest(name="late_enqueue", args=args))
    [done] = (await engine.reader.wait([run.workflow_id], timeout_seconds=60)).done
    assert done.status == "SUCCESS", done
    return done.output


def _most_at_once(runs: list[tuple[float, float]]) -> int:
    return max(sum(began <= moment < ended for began, ended in runs) for moment, _ in runs)


@proves("queues:limits-hold-over-workers")
@pytest.mark.parametrize("item", ["late_item", "late_async_item"])
async def test_a_run_has_its_place_in_the_queue_before_its_thread_begins(
    engine: Engine, item: str
) -> None:
    assert _most_at_once(await _said(engine, [item] * 6)) == 2


async def test_a_run_that_fails_before_it_begins_gives_up_its_place(engine: Engine) -> None:
    *denied, ran = await _said(engine, ["late_denied"] * 3 + ["late_item"])
    assert denied == ["DBOSNotAuthorizedError"] * 3
    assert len(ran) == 2

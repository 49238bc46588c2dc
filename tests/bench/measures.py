"""The measures. Each function gives samples by the key of a metric (`report.METRICS`); rates are per second, times in seconds."""

import json
import random
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import psutil

from .children import Child, child
from .contenders import Contender, Kind, Ours

Samples = Mapping[str, list[float]]

_PARALLEL = 20
_BATCH = 100
_LOOKS = 7
_GATHER_SECONDS = 2.5  # in which a queue that polls every second has taken up all of them
_ROLES = ("restate-server", "pglite.mjs", "supervisor", "worker", "serve", "host", "postgres")
_WOKEN = 100  # runs that get a message
_REPLAYED = 1_000  # steps
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


@dataclass(frozen=True)
class Effort:
    """How much of each is done in a round."""

    rounds: int
    steps: int
    parallel_steps: int
    starts: int
    batches: int
    filled: int
    first_steps: int
    messages: int
    spawns: int
    waiting: int
    idle_seconds: float
    settle_seconds: float  # tables are vacuumed half a minute after work


FULL = Effort(3, 200, 25, 80, 4, 100_000, 8, 8, 3, 10_000, 20.0, 45.0)
QUICK = Effort(1, 60, 10, 30, 1, 10_000, 4, 4, 3, 1_000, 6.0, 3.0)


async def warm_up(contender: Contender) -> None:
    """Have what runs workflows be there: our worker leaves where nothing was to do for half a minute."""
    await contender.results([await contender.start("bench_steps", count=20)])


async def one_workflow(contender: Contender, effort: Effort) -> Samples:
    """Steps of one run, from the begin of its first to that of its last; and the CPU time that each took in all processes."""
    before = _total_cpu(contender)
    run = await contender.start("bench_steps", count=effort.steps)
    [[first, last]] = await contender.results([run])
    cpu = _total_cpu(contender) - before
    return {"steps_one": [(effort.steps - 1) / (last - first)], "step_cpu": [cpu / effort.steps]}


async def many_workflows(contender: Contender, effort: Effort) -> Samples:
    """Steps of runs that all begin at the same moment; and the CPU time of each, with its part of the start."""
    before = _total_cpu(contender)
    at = time.time() + _GATHER_SECONDS
    count = effort.parallel_steps
    runs = [
        await contender.start("bench_steps", count=count, not_before=at) for _ in range(_PARALLEL)
    ]
    ends = await contender.results(runs)
    cpu = _total_cpu(contender) - before
    seconds = max(last for _, last in ends) - min(first for first, _ in ends)
    return {
        "steps_many": [_PARALLEL * (count - 1) / seconds],
        "step_cpu_many": [cpu / (_PARALLEL * count)],
    }


async def starts(contender: Contender, effort: Effort) -> Samples:
    """Starts by one client, one after another: how fast it can, and how fast they are done."""
    began = time.time()
    runs = [await contender.start("bench_nothing") for _ in range(effort.starts)]
    started = time.time()
    done = max(await contender.results(runs))
    return {
        "starts": [effort.starts / (started - began)],
        "runs": [effort.starts / (done - began)],
    }


async def batches(contender: Contender, effort: Effort) -> Samples:
    """Starts of a hundred at a time: how fast it can, and how fast they are done."""
    began = time.time()
    runs = [
        run
        for _ in range(effort.batches)
        for run in await contender.start_many("bench_nothing", _BATCH)
    ]
    started = time.time()
    done = max(await contender.results(runs))
    return {
        "batch_starts": [len(runs) / (started - began)],
        "batch_runs": [len(runs) / (done - began)],
    }


async def looks(contender: Ours, suffix: str = "") -> Samples:
    """The calls that read many runs; `suffix` is added to their names."""
    seconds: dict[str, list[float]] = {}
    for name, look in contender.looks().items():
        for _ in range(_LOOKS):
            began = time.monotonic()
            await look()
            seconds.setdefault(f"{name}{suffix}", []).append(time.monotonic() - began)
    return seconds


async def prunes(contender: Ours, effort: Effort) -> Samples:
    """Deleting the ended runs that the database was filled with, and how long other runs wait for their first step meanwhile."""
    seconds: list[float] = []

    async def prune() -> None:
        began = time.monotonic()
        assert await contender.prune() == effort.filled
        seconds.append(time.monotonic() - began)

    meanwhile: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(prune)
        while not seconds:
            meanwhile += (await first_step(contender, effort))["first_step"]
    return {"prune": seconds, "prune_longest": [max(meanwhile)]}


async def replays(contender: Ours) -> Samples:
    """From the fork of a run until its first step that is not recorded, behind a thousand that are."""
    run = await contender.start("bench_steps", count=_REPLAYED + 1)
    await contender.results([run])
    seconds: list[float] = []
    for _ in range(_LOOKS):
        fork = await contender.repeat(run, _REPLAYED + 1)
        began = time.time()
        [[_, last]] = await contender.results([fork])
        seconds.append(last - began)
    return {"replay": seconds}


async def waits(contender: Ours, effort: Effort) -> Samples:
    """Many runs that wait: what all processes cost meanwhile, how soon a message brings one back, with a worker and without, and how soon another run begins."""
    runs = [
        run
        for _ in range(effort.waiting // _BATCH)
        for run in await contender.start_many("bench_wait", _BATCH)
    ]
    with anyio.fail_after(600):
        while True:
            if await contender.waiting() >= len(runs):
                break
            await anyio.sleep(0.5)
    other = await first_step(contender, effort)
    await anyio.sleep(effort.settle_seconds)
    loads = (await idle({"ours": contender.processes()}, effort.idle_seconds))["ours"]
    without = await _woken(contender, runs[0])
    woken = [await _woken(contender, run) for run in runs[1 : _WOKEN + 1]]
    return {
        "waiting_rss": [float(sum(load.rss for load in loads))],
        "waiting_pss": [float(sum(load.pss for load in loads))],
        "waiting_cpu": [sum(load.cpu_percent for load in loads)],
        "waiting_other": other["first_step"],
        "woken_without": [without],
        "woken": woken,
    }


async def _woken(contender: Ours, run: str) -> float:
    began = time.time()
    await contender.send(run, "hello")
    [stamp] = await contender.results([run])
    return stamp - began


async def first_step(contender: Contender, effort: Effort) -> Samples:
    """From the call that starts a run until its first step says that it has begun."""
    seconds: list[float] = []
    for _ in range(effort.first_steps):
        await anyio.sleep(random.uniform(0.1, 0.6))  # not in step with a queue that polls
        began = time.time()
        run = await contender.start("bench_steps", count=1)
        [[first, _]] = await contender.results([run])
        seconds.append(first - began)
    return {"first_step": seconds}


async def messages(contender: Contender, effort: Effort, log: Path) -> Samples:
    """From the call that sends a message until `recv` has returned it."""
    await anyio.Path(log).unlink(missing_ok=True)
    run = await contender.start("bench_receive", count=effort.messages + 1, log=str(log))
    await contender.send(run, "the first one is late: the run begins")
    await _lines(log, 1)
    seconds: list[float] = []
    for number in range(effort.messages):
        await anyio.sleep(0.15)  # it waits again
        began = time.time()
        await contender.send(run, "hello")
        seconds.append((await _lines(log, number + 2))[-1] - began)
    await contender.results([run])
    return {"send_recv": seconds}


async def start_times(kind: Kind, folder: Path) -> Samples:
    """A first start in an empty folder, and one more: until it is up, until a first run is done, and how long its end takes."""
    await anyio.Path(folder).mkdir()
    seconds: dict[str, list[float]] = {"stop": []}
    for name in ("cold", "warm"):
        began = time.monotonic()
        async with kind.open(folder) as contender:
            seconds[f"{name}_start"] = [time.monotonic() - began]
            await contender.results([await contender.start("bench_nothing")])
            seconds[f"{name}_run"] = [time.monotonic() - began]
            done = time.monotonic()
        seconds["stop"].append(time.monotonic() - done)
    return seconds


async def initialize(project: Path, log: Path, spawns: int) -> Samples:
    """From the spawn of a server over stdio to its answer to the first message; and how many times that of a bare one."""
    bare = [sys.executable, str(Path(__file__).with_name("bare_server.py"))]
    found: dict[str, list[float]] = {"initialize": [], "initialize_ratio": []}
    for _ in range(spawns):
        own, other = [
            await _seconds_to_initialize(command, project, log)
            for command in (_serve(project), bare)
        ]
        found["initialize"].append(own)
        found["initialize_ratio"].append(own / other)
    return found


async def _seconds_to_initialize(command: Sequence[str], folder: Path, log: Path) -> float:
    began = time.monotonic()
    async with _initialized(command, folder, log):
        return time.monotonic() - began


def _serve(project: Path) -> list[str]:
    command = str(Path(sys.executable).with_name("durable-workflows"))
    return [command, "serve", "--project", str(project)]


def serving(project: Path, log: Path) -> AbstractAsyncContextManager[Child]:
    """Our MCP server over stdio, which has answered `initialize`."""
    return _initialized(_serve(project), project, log)


@asynccontextmanager
async def _initialized(command: Sequence[str], folder: Path, log: Path) -> AsyncGenerator[Child]:
    async with child(list(command), log=log, folder=folder) as server:
        await server.write_line(json.dumps(_INITIALIZE))
        answer = json.loads(await server.read_line())
        assert "result" in answer, answer
        yield server


@dataclass(frozen=True)
class Load:
    """The cost of one process while there is nothing to do; memory in bytes."""

    role: str
    cpu_percent: float  # of one core
    rss: int
    pss: int
    uss: int


async def idle(groups: Mapping[str, list[psutil.Process]], seconds: float) -> dict[str, list[Load]]:
    """The cost of the processes of each group, over the same time for all groups."""
    began = time.monotonic()
    before = {process.pid: _cpu(process) for group in groups.values() for process in group}
    await anyio.sleep(seconds)
    passed = time.monotonic() - began
    return {
        key: [
            _load(process, before[process.pid], passed) for process in group if process.is_running()
        ]
        for key, group in groups.items()
    }


def _load(process: psutil.Process, before: float, seconds: float) -> Load:
    memory = process.memory_full_info()
    percent = 100 * (_cpu(process) - before) / seconds
    pss = getattr(memory, "pss", 0)  # Linux only
    return Load(_role(process), percent, memory.rss, pss, memory.uss)


def _total_cpu(contender: Contender) -> float:
    return sum(_cpu(process) for process in contender.processes())


def _cpu(process: psutil.Process) -> float:
    """The CPU time of a process, and of its children that have ended: the backends of a Postgres come and go."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def _role(process: psutil.Process) -> str:
    words = process.cmdline()
    return next((role for role in _ROLES if any(role in word for word in words)), process.name())


async def _lines(log: Path, count: int) -> list[float]:
    """The lines of the file once there are so many."""
    with anyio.fail_after(60):
        while True:
            lines = _read(log)
            if len(lines) >= count:
                return lines
            await anyio.sleep(0.01)


def _read(log: Path) -> list[float]:
    if not log.exists():
        return []
    return [float(line) for line in log.read_text(encoding="utf-8").split("\n")[:-1]]

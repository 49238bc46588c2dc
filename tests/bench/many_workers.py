# pyright: reportPrivateUsage=false
"""How one Postgres takes the statements of many workers: `python -m tests.bench.many_workers [--workers 100] [--seconds 20] …`.

Few processes play the workers: each worker has the connections of a real one, and sends its statements: claims from the queue when a hint
or its poll says so, the look-up and the record of each step, the ends of runs, the background jobs' turn and the signs of life. Its steps
wait, as calls of other services do. Runs are started as fast as the workers can take them, in a Postgres as it comes, but for more
connections. So what is measured is the server and its limits, and not the processor time of Python.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from statistics import quantiles
from typing import LiteralString, cast

import anyio
import anyio.abc
import psutil
import psycopg
from tests import native

from durable_workflows.database import tables
from durable_workflows.seam.patches import claim_statement, step_statements, turns
from durable_workflows.settings import APPLICATION, QUEUE, Database

_MORE_CONNECTIONS = 1_000
_VERSION = "0123456789ab"
_BEAT_SECONDS = 5.0
_POLL_SECONDS = 15.0
_FEED_SECONDS = 0.25  # as a client that starts several at once
_START = """
INSERT INTO {dbos}.workflow_status (
    workflow_uuid, name, status, queue_name, application_version, application_name, serialization, created_at, updated_at, priority
)
SELECT gen_random_uuid()::text, 'simulated', 'ENQUEUED', %(queue)s, %(version)s, %(application)s, 'durable_json', at, at, 0
FROM generate_series(1, %(count)s), (SELECT (extract(epoch FROM now()) * 1000)::bigint AS at) AS now
"""
_END = """
WITH ended AS (
    UPDATE {dbos}.workflow_status SET status = 'SUCCESS', owner_xid = NULL, deduplication_id = NULL,
        updated_at = %(now)s, completed_at = %(now)s
    WHERE workflow_uuid = %(run)s AND status = 'PENDING' AND owner_xid = %(owner)s RETURNING workflow_uuid
)
INSERT INTO {dbos}.workflow_output (workflow_uuid, output) SELECT workflow_uuid, '"done"' FROM ended
"""
_GET_QUEUE = "SELECT * FROM {dbos}.queues WHERE name = %(queue)s"
_SIZE = "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and relnamespace = '{dbos}'::regnamespace"
_CONNECTIONS = "select count(*) from pg_stat_activity where datname is not null"
_OUTPUT = '"' + "x" * 100 + '"'


@dataclass(frozen=True)
class Load:
    """What is played."""

    url: str
    workers: int
    at_once: int  # runs of a worker
    steps: int  # of a run
    wait_seconds: float  # of a step
    connections: int  # of a worker, for its runs
    seconds: float

    @property
    def starts(self) -> float:
        """A second, by all; a tenth less than the workers can take."""
        return 0.9 * self.workers * self.at_once / (self.steps * max(self.wait_seconds, 0.001))

    @property
    def warm_seconds(self) -> float:
        """In which all connections are made, and first runs end."""
        return 5.0 + 1.5 * self.steps * self.wait_seconds


class Statements:
    """Sends the statements of one project, and notes how long each kind takes."""

    def __init__(self, database: Database) -> None:
        self.took: dict[str, list[float]] = {}
        own, dbos = database.schema, database.dbos_schema
        is_ours = claim_statement._COMMON.replace("{own}", own)
        claim = claim_statement._CLAIM.replace("{is_wanted}", claim_statement._IS_WANTED)
        texts = {
            "claim": claim.replace("{is_ours}", is_ours),
            "queue": _GET_QUEUE,
            "look up": step_statements._LOOK_UP,
            "record": step_statements._RECORD_AS_OWNER,
            "end": _END,
            "turn": turns._TAKE.replace("{own}", own),
            "announce": tables.queries(own, dbos)["announce_worker"],
            "alive": tables.queries(own, dbos)["worker_seen"],
            "start": _START,
        }
        self._sql: dict[str, str] = {
            name: text.replace("{schema}", dbos).replace("{dbos}", dbos)
            for name, text in texts.items()
        }

    async def send(
        self,
        connection: psycopg.AsyncConnection[tuple[object, ...]],
        name: str,
        /,
        **values: object,
    ) -> list[tuple[object, ...]]:
        """The rows of a statement."""
        began = time.perf_counter()
        cursor = await connection.execute(cast(LiteralString, self._sql[name]), values)
        rows = await cursor.fetchall() if cursor.description else []
        self.took.setdefault(name, []).append(time.perf_counter() - began)
        return rows


class Worker:
    """One worker, until it is cancelled."""

    def __init__(self, load: Load, database: Database, statements: Statements, name: str) -> None:
        self._load = load
        self._database = database
        self._statements = statements
        self._name = name
        self._rung = anyio.Event()
        self._free = load.at_once
        self._pool: asyncio.LifoQueue[psycopg.AsyncConnection[tuple[object, ...]]] = (
            asyncio.LifoQueue()
        )

    async def run(self) -> None:
        """Work."""
        async with anyio.create_task_group() as group:
            for _ in range(self._load.connections):
                self._pool.put_nowait(await self._connect())
            group.start_soon(self._listen)
            group.start_soon(self._listen_as_dbos)
            group.start_soon(self._live)
            group.start_soon(self._take_turns)
            while True:
                with anyio.move_on_after(_POLL_SECONDS):
                    await self._rung.wait()
                self._rung = anyio.Event()
                await self._send("queue", queue=QUEUE)
                if self._free > 0:
                    await self._claim(group)

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        return await psycopg.AsyncConnection.connect(self._load.url, autocommit=True)

    async def _send(self, name: str, /, **values: object) -> list[tuple[object, ...]]:
        connection = await self._pool.get()
        try:
            return await self._statements.send(connection, name, **values)
        finally:
            self._pool.put_nowait(connection)

    async def _claim(self, group: anyio.abc.TaskGroup) -> None:
        here = {"application": APPLICATION, "version": _VERSION, "executor": self._name}
        those = {"queue": QUEUE, "owner": self._name, "most": self._free, "apart": None}
        times = {"now": int(time.time() * 1000), "latest": 2**62}
        *rows, _ = await self._send("claim", **here, **those, **times)
        for run, _ in rows:
            self._free -= 1
            group.start_soon(self._execute, str(run))

    async def _execute(self, run: str) -> None:
        for step in range(1, self._load.steps + 1):
            await self._send("look up", run=run, step=step)
            began = int(time.time() * 1000)
            await anyio.sleep(self._load.wait_seconds * random.uniform(0.9, 1.1))
            row = {"run": run, "step": step, "name": "call", "output": _OUTPUT, "error": None}
            row |= {"serialization": "portable_json", "child": None, "application": APPLICATION}
            ended = int(time.time() * 1000)
            await self._send("record", **row, began=began, ended=ended, owner=self._name)
        await self._send("end", run=run, owner=self._name, now=int(time.time() * 1000))
        self._free += 1
        self._rung.set()

    async def _listen(self) -> None:
        async with await self._connect() as connection:
            await connection.execute(f"listen {self._database.runs_channel}".encode())
            async for notice in connection.notifies():
                if notice.payload.startswith("ENQUEUED"):
                    self._rung.set()

    async def _listen_as_dbos(self) -> None:
        async with await self._connect() as connection:
            await connection.execute("listen dbos_notifications_channel")
            await anyio.sleep_forever()

    async def _live(self) -> None:
        async with await self._connect() as connection:
            about = {"executor_id": self._name, "version": _VERSION, "pid": 1, "host": "simulated"}
            await self._statements.send(connection, "announce", **about, apart=False)
            while True:
                await self._statements.send(connection, "alive", executor_id=self._name)
                await anyio.sleep(_BEAT_SECONDS)

    async def _take_turns(self) -> None:
        while True:
            await anyio.sleep(random.uniform(0.9, 1.1))
            await self._send("turn")


async def play(load: Load, number: int) -> None:
    """Play the workers of one process; print what each kind of statement took."""
    database = _project(load.url)
    statements = Statements(database)
    async with anyio.create_task_group() as group:
        for one in range(load.workers):
            worker = Worker(load, database, statements, f"simulated-{number}-{one}")
            group.start_soon(worker.run)
        await anyio.sleep(load.warm_seconds)
        statements.took.clear()
        await anyio.sleep(load.seconds)
        group.cancel_scope.cancel()
    sys.stdout.write(json.dumps(statements.took))


async def _feed(load: Load) -> None:
    """Start runs, until cancelled."""
    statements = Statements(_project(load.url))
    about = {"queue": QUEUE, "version": _VERSION, "application": APPLICATION}
    async with await psycopg.AsyncConnection.connect(load.url, autocommit=True) as connection:
        due = 0.0
        while True:
            due += load.starts * _FEED_SECONDS
            await statements.send(connection, "start", count=int(due), **about)
            due -= int(due)
            await anyio.sleep(_FEED_SECONDS)


def _project(url: str) -> Database:
    return Database(url, "durable_workflows_project", "dbos_project")


def _prepare(url: str, cluster: native.Cluster) -> None:
    """A server with room for all, and the tables of a project."""
    cluster.execute(f"alter system set max_connections = {_MORE_CONNECTIONS}")
    cluster.stop()
    cluster.start()
    environment = {**os.environ, "DBOS_DATABASE_URL": url}
    command = [sys.executable, "-m", "durable_workflows.entry", "durable_workflows.host.worker"]
    subprocess.run(
        [*command, "--project", "project", "--migrate", "external"],
        env=environment,
        check=True,
        stderr=subprocess.DEVNULL,
    )


async def measure(load: Load, processes: int, cluster: native.Cluster) -> Mapping[str, object]:
    """Play the load in so many processes; the figures of all."""
    each = replace(load, workers=load.workers // processes)
    command = [sys.executable, "-m", "tests.bench.many_workers", "--play", json.dumps(asdict(each))]
    outputs: list[bytes] = []
    cpu, grown, most = 0.0, 0, 0

    async def one(number: int) -> None:
        done = await anyio.run_process([*command, str(number)], stderr=sys.stderr)
        outputs.append(done.stdout)

    async with anyio.create_task_group() as group:
        group.start_soon(_feed, load)
        async with anyio.create_task_group() as players:
            for number in range(processes):
                players.start_soon(one, number)
            await anyio.sleep(load.warm_seconds)
            cpu, grown = -_cpu(cluster), -_one(load, _SIZE)
            await anyio.sleep(load.seconds)
            cpu, grown = cpu + _cpu(cluster), grown + _one(load, _SIZE)
            most = _one(load, _CONNECTIONS)
        group.cancel_scope.cancel()
    took: dict[str, list[float]] = {}
    for output in outputs:
        for name, seconds in json.loads(output).items():
            took.setdefault(name, []).extend(seconds)
    steps, runs = len(took.get("record", [])), len(took.get("end", []))
    return {
        "statements/s": round(sum(map(len, took.values())) / load.seconds),
        "steps/s": round(steps / load.seconds),
        "steps/s at most": round(load.workers * load.at_once / load.wait_seconds),
        "runs/s": round(runs / load.seconds, 1),
        "connections": most,
        "server's processors": round(cpu / load.seconds, 2),
        "bytes a step, with its part of the run": round(grown / max(steps, 1)),
        "queued at the end": _one(
            load, "select count(*) from {dbos}.workflow_status where status = 'ENQUEUED'"
        ),
        "ms (p50, p95)": {name: _percentiles(some) for name, some in sorted(took.items())},
        "a second": {name: round(len(some) / load.seconds) for name, some in sorted(took.items())},
    }


def _cpu(cluster: native.Cluster) -> float:
    """The processor seconds of the server so far: of what runs, and of backends that have ended."""
    seconds = 0.0
    postmaster, *others = cluster.processes()
    ended = postmaster.cpu_times()
    seconds += ended.children_user + ended.children_system
    for process in (postmaster, *others):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def _one(load: Load, statement: str) -> int:
    text = statement.replace("{dbos}", _project(load.url).dbos_schema)
    with psycopg.connect(load.url, autocommit=True) as connection:
        row = connection.execute(text.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _percentiles(seconds: list[float]) -> list[float]:
    cuts = quantiles(seconds, n=20) if len(seconds) > 1 else [*seconds] * 20
    return [round(1000 * cuts[9], 1), round(1000 * cuts[18], 1)]


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=2, help="runs of a worker")
    parser.add_argument("--steps", type=int, default=5, help="of a run")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds of a step")
    parser.add_argument("--connections", type=int, default=3, help="of a worker, for its runs")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--play", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.play:
        anyio.run(play, Load(**json.loads(given.play[0])), int(given.play[1]))
        return
    programs = native.programs()
    assert programs is not None, "there is no native Postgres"
    with native.cluster(programs) as cluster:
        url = cluster.database("simulated")
        load = Load(
            url,
            given.workers,
            given.at_once,
            given.steps,
            given.wait,
            given.connections,
            given.seconds,
        )
        _prepare(url, cluster)
        anyio.run(_measured, load, given.processes, cluster)


async def _measured(load: Load, processes: int, cluster: native.Cluster) -> None:
    found = await measure(load, processes, cluster)
    sys.stdout.write(f"{json.dumps(found, indent=2)}\n")


if __name__ == "__main__":
    main()

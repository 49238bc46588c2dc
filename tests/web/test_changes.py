"""The page is told what changes: soon, what it asked for, and at no cost while nothing happens."""

import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import psutil
import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of, until
from requirements import proves
from transports import SECONDS, Served, serving
from visiting import Visitor, visiting

pytestmark = pytest.mark.anyio
Json = dict[str, Any]

PROMISED = 0.5
SOON = 3.0  # a second on a machine of one's own; this one may be busy
QUIET = 1.0  # some looks
IDLE_SECONDS = 10.0  # two of the looks that a feed takes by itself


class Ear:
    """The events of a stream, with their times."""

    def __init__(self) -> None:
        self.told: list[tuple[float, Json]] = []

    def hears(self, fact: Callable[[Json], object]) -> bool:
        return any(fact(news) for _, news in self.told)

    async def next(self, fact: Callable[[Json], object], what: str, seconds: float = SOON) -> None:
        """Wait for news of which this is true, and forget all until now."""
        await until(lambda: self.hears(fact), what, seconds=seconds)
        self.told.clear()

    async def quiet(self) -> None:
        """Wait until nothing is told any more, and forget what was: the first look at a list may tell of what was before."""
        opened = time.time()
        await until(
            lambda: time.time() - max([opened, *(at for at, _ in self.told)]) > QUIET,
            "nothing is told",
        )
        self.told.clear()


@asynccontextmanager
async def listening(visitor: Visitor, **wanted: Any) -> AsyncGenerator[Ear]:
    """A stream, from the moment on from which it misses nothing. A first look may tell of a list that was not watched before."""
    ear = Ear()
    async with visitor.http.stream("GET", "/api/changes", params=wanted) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        async with anyio.create_task_group() as group:
            group.start_soon(_hear, response, ear)
            yield ear
            group.cancel_scope.cancel()


async def _hear(response: httpx2.Response, ear: Ear) -> None:
    event = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            assert event == "changed"
            ear.told.append((time.time(), json.loads(line.removeprefix("data: "))))


async def start(engine: Engine, name: str, workflow_id: str, **args: object) -> None:
    request = StartRequest.model_validate({"name": name, "args": args, "workflow_id": workflow_id})
    await engine.start(request)


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


@proves("page:told")
@pytest.mark.long
async def test_the_end_of_a_step_is_told_within_half_a_second(
    visitor: Visitor, shared: Engine, tmp_path: Path
) -> None:
    """The line that a step writes at its end is older than the row that is told of."""
    file, run = tmp_path / "lines", "told-steps"
    late: list[float] = []
    async with listening(visitor, runs=run) as ear:
        await start(shared, "ten_steps", run, file=str(file), seconds=1.0, steps=8)
        for number in range(1, 9):
            await until(lambda number=number: lines(file) >= number, f"step {number} has ended")
            ended = (await anyio.Path(file).stat()).st_mtime
            await until(
                lambda ended=ended: any(at > ended for at, _ in ear.told),
                "it is told",
                seconds=SOON,
            )
            late.append(next(at for at, _ in ear.told if at > ended) - ended)
    assert sorted(late)[len(late) // 2] < PROMISED, late
    assert {tuple(news["runs"]) for _, news in ear.told} == {(run,)}


async def test_what_a_run_prints_is_told_and_so_are_its_wait_and_its_end(
    visitor: Visitor, shared: Engine
) -> None:
    async with listening(visitor, runs=["told-noisy", "told-waits"]) as ear:
        await start(shared, "noisy", "told-noisy")
        await ear.next(lambda news: news["runs"] == ["told-noisy"], "it runs")
        await shared.reader.wait(["told-noisy"])
        await start(shared, "wait_for", "told-waits", topic="go")
        await ear.next(lambda news: "told-waits" in news["runs"], "it waits")
        await shared.reader.wait(["told-waits"])
        await shared.send("told-waits", "go", 1)
        await ear.next(lambda news: "told-waits" in news["runs"], "it has the message")
        await shared.reader.wait(["told-waits"])


async def test_of_runs_that_a_page_does_not_watch_it_is_told_nothing(
    visitor: Visitor, shared: Engine
) -> None:
    async with listening(visitor, runs="told-other") as ear, listening(visitor, list=1) as list_ear:
        await start(shared, "noisy", "told-unwatched")
        await list_ear.next(lambda news: news["list"], "there is another run")
        await shared.reader.wait(["told-unwatched"])
        assert not ear.told
        assert not list_ear.hears(lambda news: news["runs"] or news["waits"])


async def test_the_inbox_is_told_of_a_wait_and_of_its_end(visitor: Visitor, shared: Engine) -> None:
    async with listening(visitor, waits=1) as ear:
        await ear.quiet()
        await start(shared, "ask_order", "told-asks")
        await ear.next(lambda news: news["waits"], "somebody asks")
        await shared.reader.wait(["told-asks"])
        [wait] = await shared.reader.waits("told-asks")
        value: Json = {"amount": 1, "unit": "kg", "express": False}
        await shared.answer(wait, value, who="ann", how="terminal")
        await ear.next(lambda news: news["waits"], "nobody asks any more")


async def test_an_inbox_that_opens_is_told_once_of_what_may_be_over_already(
    visitor: Visitor,
) -> None:
    """It may have read a wait that has begun and ended since the last look, which was for others."""
    for _ in range(2):
        async with listening(visitor, waits=1) as ear:
            await ear.next(lambda news: news["waits"], "it is told of the waits")


async def test_the_list_is_told_of_an_old_run_that_goes_on(
    visitor: Visitor, shared: Engine
) -> None:
    await start(shared, "wait_for", "told-old", topic="go")
    await shared.reader.wait(["told-old"])
    await shared.cancel(["told-old"])
    newer = [StartRequest(name="noisy", workflow_id=f"told-newer-{n}") for n in range(205)]
    await shared.start_all(newer)
    await shared.reader.wait(
        [one.workflow_id for one in newer if one.workflow_id], timeout_seconds=60
    )
    async with listening(visitor, list=1) as ear:
        await ear.quiet()
        await shared.resume(["told-old"])
        await ear.next(lambda news: news["list"], "the numbers of runs have changed")
        await shared.cancel(["told-old"])


@pytest.mark.long
async def test_whoever_is_told_that_it_can_hear_has_missed_nothing_since(
    visitor: Visitor, shared: Engine
) -> None:
    """The head of the answer comes after the first look: what changes in the moment after it is told."""
    await start(shared, "noisy", "told-at-once")
    await shared.reader.wait(["told-at-once"])
    database = shared.connection.database
    async with await tables.connect(database, role="test") as connection:
        for number in range(5):
            async with listening(visitor, runs="told-at-once") as ear:
                await connection.execute(
                    "update dbos.workflow_status set updated_at = %s where workflow_uuid = 'told-at-once'",
                    [number],
                )
                await ear.next(lambda news: news["runs"] == ["told-at-once"], "it has changed", 8.0)


@pytest.fixture
async def alone(shared: Engine) -> AsyncGenerator[Served]:
    """A server of the shared project, for one test."""
    with serving(Settings(project=shared.project)) as served:
        yield served


def wake_ups(process: psutil.Process) -> int:
    return process.num_ctx_switches().voluntary


async def idle_wake_ups(served: Served, pages: int) -> tuple[int, float]:
    """How often the server woke up, and how much processor time it took, while so many pages watched and nothing happened."""
    process = psutil.Process(served.process.pid)
    async with AsyncExitStack() as stack:
        ears: list[Ear] = []
        for _ in range(pages):
            browser = await stack.enter_async_context(visiting(served))
            wanted = {"runs": "told-idle", "list": 1, "waits": 1}
            ears.append(await stack.enter_async_context(listening(browser, **wanted)))
        for ear in ears:
            await ear.quiet()
        before, busy = wake_ups(process), sum(process.cpu_times()[:2])
        end = time.monotonic() + IDLE_SECONDS
        await until(lambda: time.monotonic() > end, "the time is over")
        assert not any(ear.told for ear in ears)
        return wake_ups(process) - before, sum(process.cpu_times()[:2]) - busy


@proves("page:told")
@pytest.mark.long
async def test_ten_pages_cost_nothing_while_nothing_happens(alone: Served, shared: Engine) -> None:
    await start(shared, "wait_for", "told-idle", topic="go")
    await shared.reader.wait(["told-idle"])
    async with visiting(alone) as visitor:
        await visitor.asked("project")  # the engine has its connection
    none, _ = await idle_wake_ups(alone, 0)
    ten, seconds = await idle_wake_ups(alone, 10)
    await shared.cancel(["told-idle"])
    assert ten - none < 6 * IDLE_SECONDS, "one look from time to time for all, and signs of life"
    assert seconds < 0.01 * IDLE_SECONDS, "1 % of a core"


async def test_of_a_page_that_has_gone_nothing_is_left(alone: Served, shared: Engine) -> None:
    async with visiting(alone) as visitor:
        await visitor.asked("project")
        await until(lambda: database_connections(alone, shared) == 1, "the engine's")
        async with (
            listening(visitor, list=1),
            listening(visitor, waits=1),
            listening(visitor, runs="x"),
        ):
            await until(lambda: database_connections(alone, shared) == 2, "all share one")
        await until(lambda: database_connections(alone, shared) == 1, "it has ended")


def database_connections(served: Served, shared: Engine) -> int:
    port = int(shared.connection.url.rpartition(":")[2].partition("/")[0])
    found = psutil.Process(served.process.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port for one in found)


@pytest.mark.long
async def test_a_stream_outlasts_the_database(engine: Engine, folder: Path) -> None:
    copy_flow("messages", folder)
    with serving(Settings(project=folder)) as served:
        async with visiting(served) as visitor, listening(visitor, runs="w") as ear:
            await start(engine, "wait_for", "w", topic="go")
            await engine.reader.wait(["w"])
            await ear.quiet()
            [node] = processes_of(folder, "pglite.mjs")
            node.kill()
            await visitor.done("send", workflow_id="w", topic="go", message=1)
            await ear.next(lambda news: news["runs"] == ["w"], "it goes on", seconds=30)


async def test_a_signal_ends_a_server_whose_page_is_open(shared: Engine) -> None:
    with serving(Settings(project=shared.project)) as served:
        async with visiting(served) as visitor:
            with suppress(httpx2.HTTPError):  # the stream is cut off
                async with visitor.http.stream(
                    "GET", "/api/changes", params={"list": 1}
                ) as response:
                    served.process.terminate()
                    async for _ in response.aiter_bytes():
                        pass
        assert await anyio.to_thread.run_sync(served.process.wait, SECONDS) == 0
        assert served.process.stderr is not None
        assert served.process.stderr.read() == ""

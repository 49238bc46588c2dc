"""Subscriptions: a subscriber hears of changes soon, not too often, and costs nothing after it has gone. In both protocol eras."""

import math
import os
import signal
import time
from pathlib import Path

import anyio
import psutil
import pytest
from mcp.shared.exceptions import MCPError

from durable_workflows.engine import feed
from durable_workflows.engine.engine import Engine
from durable_workflows.mcp import uris
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of, until, until_found
from listening import LIST, Ear, Mode, connected, hearing, subscribe, subscribed
from requirements import long

pytestmark = pytest.mark.anyio


def trace(workflow_id: str) -> str:
    return uris.expand(uris.TRACE, workflow_id=workflow_id)


@pytest.fixture
async def there(shared: Engine) -> Settings:
    """The settings of the shared project."""
    return Settings(project=Path((await shared.reader.status()).project))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks when it is told of a change, and never besides: what is heard of is heard of soon, however busy the machine is."""
    monkeypatch.setattr(feed, "_RECHECK_SECONDS", 3600.0)


async def start(engine: Engine, name: str, workflow_id: str, **args: object) -> None:
    request = StartRequest.model_validate({"name": name, "args": args, "workflow_id": workflow_id})
    await engine.start(request)


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


async def heard_of_line(ear: Ear, what: str, file: Path) -> None:
    """What changed with the newest line of a file is heard of, or was while the test looked elsewhere."""
    written = (await anyio.Path(file).stat()).st_mtime
    await until(lambda: ear.heard_since(what, written), "the line is heard of")


async def silence(ear: Ear) -> None:
    """At last, for the time of two looks, nothing is heard."""

    async def is_silent() -> bool:
        heard = len(ear.heard)
        with anyio.move_on_after(1.2):
            await until(lambda: len(ear.heard) > heard, "something is heard")
        return len(ear.heard) == heard

    await until_found(is_silent, f"nothing is heard where nothing changes: {ear.heard}")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["auto", *long("legacy")])
async def test_the_end_of_each_step_is_heard_of_soon(
    shared: Engine, there: Settings, mode: Mode, tmp_path: Path, told: None
) -> None:
    file, run = tmp_path / "lines", f"steps-{mode}"
    markdown, json = trace(run), uris.expand(uris.TRACE_JSON, workflow_id=run)
    async with hearing(build_server(there), mode, [markdown, json]) as (_, ear):
        await start(shared, "ten_steps", run, file=str(file), seconds=1.2, steps=3)
        for number in range(1, 4):
            await until(lambda number=number: lines(file) >= number, f"step {number} has ended")
            await heard_of_line(ear, markdown, file)
        await shared.reader.wait([run])
        await until(lambda: ear.count(json) == ear.count(markdown), "both are heard of as often")


async def test_a_waiting_run_is_heard_of_and_so_is_its_end(
    shared: Engine, there: Settings, mode: Mode, told: None
) -> None:
    run = f"waits-{mode}"
    async with hearing(build_server(there), mode, [trace(run)]) as (client, ear):
        await start(shared, "wait_for", run, topic="go")
        await shared.reader.wait([run])
        before = ear.count(trace(run))
        await shared.send(run, "go", True)
        await ear.next(trace(run), before)
        await shared.reader.wait([run])
        shown = str((await client.read_resource(trace(run))).contents[0])
        assert "SUCCESS" in shown
        await silence(ear)


@pytest.mark.parametrize("mode", ["auto", *long("legacy")])
async def test_short_steps_are_heard_of_twice_a_second(
    shared: Engine, there: Settings, mode: Mode, tmp_path: Path
) -> None:
    run, file = f"short-{mode}", tmp_path / "lines"
    async with hearing(build_server(there), mode, [trace(run)]) as (_, ear):
        began = time.monotonic()
        await start(shared, "ten_steps", run, file=str(file), seconds=0.1, steps=60)
        await shared.reader.wait([run])
        during = len(ear.heard)
        await heard_of_line(ear, trace(run), file)
        seconds = time.monotonic() - began
    assert lines(file) == 60
    assert during >= 4, "6 s of steps that nothing announces"
    assert len(ear.heard) <= math.ceil(2 * seconds) + 1


async def test_new_runs_are_heard_of_by_who_cares_for_the_list(
    shared: Engine, there: Settings, mode: Mode, told: None
) -> None:
    await start(shared, "noisy", f"old-{mode}")
    async with hearing(build_server(there), mode, [uris.RUNS], lists=True) as (client, ear):
        await ear.next(LIST, 0)  # of the runs that are there
        before, runs = ear.count(LIST), ear.count(uris.RUNS)
        await start(shared, "noisy", f"new-{mode}")
        await ear.next(LIST, before)
        await ear.next(uris.RUNS, runs)
        listed = await client.list_resources()
    assert trace(f"new-{mode}") in [one.uri for one in listed.resources]


async def test_all_subscriptions_of_a_server_share_a_connection_which_ends_with_them(
    shared: Engine, there: Settings, mode: Mode
) -> None:
    def connections() -> int:
        port = int(shared.connection.url.rpartition(":")[2].partition("/")[0])
        return sum(
            bool(one.raddr) and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED
            for one in psutil.Process().net_connections("tcp")
        )

    before = connections()
    async with connected(build_server(there), mode) as (client, ear):
        await client.call_tool("list_workflows", {})
        async with subscribed(client, ear, [trace("a")]):
            async with subscribed(client, ear, [trace("b"), trace("c")], lists=True):
                await until(lambda: connections() >= before + 2, "there is a connection")
                during = connections()
            assert during == before + 2, "the engine's, and that of the subscriptions"
        if mode == "auto":
            await until(lambda: connections() == before + 1, "the subscriptions' has ended")
    await until(lambda: connections() == before, "all connections have ended")


@pytest.mark.long
async def test_a_subscription_outlasts_the_database_and_starts_nothing_that_was_shut_down(
    settings: Settings, folder: Path
) -> None:
    copy_flow("messages", folder)
    async with hearing(build_server(settings), "legacy", [trace("w")]) as (client, ear):
        await ear.next(trace("w"), 0, seconds=60)  # what it did before it could be looked at
        args = {"name": "wait_for", "args": {"topic": "go"}, "workflow_id": "w"}
        await client.call_tool("start_workflow", {**args, "wait_seconds": 60})
        await ear.next(trace("w"), 1)
        [node] = processes_of(folder, "pglite.mjs")
        os.kill(node.pid, signal.SIGKILL)
        before = ear.count(trace("w"))
        message = {"workflow_id": "w", "topic": "go", "message": 1}
        result = await client.call_tool("send_message", message)
        assert not result.is_error, result.content
        await ear.next(trace("w"), before)
        await lifecycle.shut_down(settings)
        await silence(ear)
        assert not processes_of(folder, "supervisor")


async def test_earlier_clients_are_told_that_they_may_subscribe(nowhere: Settings) -> None:
    async with connected(build_server(nowhere), "legacy") as (client, _):
        resources, tools = client.server_capabilities.resources, client.server_capabilities.tools
    assert resources is not None
    assert tools is not None
    assert (resources.subscribe, resources.list_changed) == (True, True)
    assert not tools.list_changed, "the tools never change"


async def test_newer_clients_are_told_that_they_may_listen(nowhere: Settings) -> None:
    async with connected(build_server(nowhere), "auto") as (client, _):
        resources = client.server_capabilities.resources
    assert resources is not None
    assert (resources.subscribe, resources.list_changed) == (True, True)


async def test_what_never_changes_cannot_be_subscribed_to(nowhere: Settings) -> None:
    template = uris.expand(uris.TEMPLATE, name="basic_workflow")
    async with connected(build_server(nowhere), "legacy") as (client, _):
        with pytest.raises(MCPError, match="does not change") as refused:
            await subscribe(client, template)
    assert refused.value.error.code == -32602
    async with (
        connected(build_server(nowhere), "auto") as (client, _),
        client.listen(resource_subscriptions=[template, trace("w")]) as events,
    ):
        assert events.honored.resource_subscriptions == [trace("w")]

"""What `inspect` says first: why a run is where it is, and the next call. Each cause is brought about with real processes.

The runs of `CAUSES` are all there at once, in one project; what comes after it stops and kills what runs them, and is in its order.
`test_traces.py` has the same causes of runs that are made by hand.
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from mcp.types import TextContent

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places, state
from helpers import insert_lost_run, processes_of, until, until_found
from hints import alternatives, calls
from mcp import Client
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long]

Json = dict[str, Any]
FLOWS = '''
import os
import signal
import time

from dbos import DBOS

from durable_workflows import ask_human, receive


@DBOS.workflow()
def queues() -> None:
    """Register queues with all kinds of limits."""
    DBOS.register_queue("narrow", concurrency=1)
    DBOS.register_queue("alone", worker_concurrency=1)
    DBOS.register_queue("slow", limiter={"limit": 1, "period": 3600})


@DBOS.workflow()
def waits(timeout: float | None = None) -> object:
    """Wait for a message."""
    return receive("go", prompt="How many?", timeout=timeout)


@DBOS.workflow()
def asks() -> object:
    """Ask a person."""
    return ask_human("Deploy?", schema=bool, topic="deploy")


@DBOS.workflow()
def sleeps() -> None:
    """Sleep."""
    DBOS.sleep(600)


@DBOS.step()
def work(seconds: float = 0) -> str:
    time.sleep(seconds)
    return "x" * 1000


@DBOS.workflow()
def works() -> None:
    """One long step."""
    work(600)


@DBOS.workflow()
def computes() -> None:
    """A long computation outside of a step."""
    work()
    time.sleep(600)


@DBOS.step(retries_allowed=True, interval_seconds=300, max_attempts=4)
def fetch() -> None:
    raise ConnectionError("no route to the shop")


@DBOS.workflow()
def retries() -> None:
    """A step that is tried again later."""
    fetch()


@DBOS.step(retries_allowed=True, interval_seconds=0.01, max_attempts=2)
def fetch_soon() -> None:
    raise ConnectionError("no route to the shop")


@DBOS.workflow()
def gives_up() -> None:
    """A step that has failed in all its attempts."""
    fetch_soon()


@DBOS.workflow()
def has_child() -> None:
    """Wait for a child."""
    DBOS.start_workflow(sleeps).get_result()


@DBOS.step()
def charge() -> None:
    raise ValueError("no such card")


@DBOS.workflow()
def fails() -> None:
    """Fail in the second step."""
    work()
    charge()


@DBOS.workflow()
def stumbles() -> None:
    """Fail outside of a step."""
    work()
    print([][0])


@DBOS.workflow()
def fails_with_child() -> None:
    """Fail because a child does."""
    DBOS.start_workflow(fails).get_result()


@DBOS.workflow()
def succeeds() -> str:
    """Return something long."""
    return work()


@DBOS.step()
def end_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@DBOS.workflow(max_recovery_attempts=1)
def ends_worker() -> None:
    """End the process that runs it, again and again."""
    work()
    end_worker()
'''
FICKLE = '''
import os
import time
from pathlib import Path

from dbos import DBOS

from durable_workflows import receive

if Path("unloadable").exists():
    raise ImportError("the library is gone")
if Path("deadly").exists():
    os._exit(7)
while Path("held").exists():
    time.sleep(0.02)


@DBOS.workflow()
def fickle() -> None:
    """Wait for a message, in a file that loads today."""
    receive("go")
'''


@dataclass(frozen=True)
class Cause:
    """A run, and what is said of it. `TIME`, `SPAN` and `VERSION` stand for what differs; the run's workflow_id is `ID`."""

    what: str
    workflow: str
    why: str
    next: str
    options: Json = field(default_factory=dict[str, Any])

    @property
    def workflow_id(self) -> str:
        return self.what.replace(" ", "-")


WAIT = 'wait_for_workflows(workflow_ids=["ID"])'
# fmt: off
CAUSES = [
    Cause("waits for a message", "waits",
        "waits for a message on topic 'go' · since TIME (SPAN) · without a deadline · asks: How many?",
        'send_message(workflow_id="ID", topic="go", message=…)'),
    Cause("waits until a deadline", "waits",
        "waits for a message on topic 'go' · since TIME (SPAN) · until TIME · asks: How many?",
        'send_message(workflow_id="ID", topic="go", message=…)',
        {"args": {"timeout": 300}}),
    Cause("waits for a person", "asks",
        "waits for a message on topic 'person:deploy' · since TIME (SPAN) · without a deadline · asks: Deploy?",
        'answer_in_person(workflow_id="ID", topic="person:deploy"): the person at this client answers.'),
    Cause("sleeps", "sleeps",
        "sleeping until TIME (for another SPAN).", f"nothing before then; {WAIT}"),
    Cause("is in a step", "works",
        "running step 1 work since TIME (SPAN)", WAIT),
    Cause("is in its own code", "computes",
        "running its own code after step 1.", WAIT),
    Cause("is between two attempts", "retries",
        "will retry step 1 fetch at TIME (in SPAN): attempt 1 of 4 failed: ConnectionError: no route to the shop",
        f'{WAIT}; or repair the code, then cancel(workflow_ids=["ID"]) and fork(workflow_id="ID", from_step=1)'),
    Cause("waits for a child", "has_child",
        "waits for child runs, or runs alongside them: ID-1 (PENDING)",
        'inspect(workflow_id="ID-1")'),
    Cause("is delayed", "waits",
        "delayed until TIME (in SPAN).", WAIT,
        {"delay_seconds": 600}),
    Cause("has the place in a queue", "waits",
        "waits for a message on topic 'go' · since TIME (SPAN) · without a deadline · asks: How many?",
        'send_message(workflow_id="ID", topic="go", message=…)',
        {"queue": "narrow"}),
    Cause("is queued where it is full", "waits",
        "queued in narrow, which is full: 1 of 1 run at once (has-the-place-in-a-queue).",
        'inspect(workflow_id="has-the-place-in-a-queue")',
        {"queue": "narrow"}),
    Cause("is queued behind another", "waits",
        "queued in narrow, which is full: 1 of 1 run at once (has-the-place-in-a-queue); 1 queued before it.",
        'inspect(workflow_id="has-the-place-in-a-queue")',
        {"queue": "narrow"}),
    Cause("has the place in a worker", "waits",
        "waits for a message on topic 'go' · since TIME (SPAN) · without a deadline · asks: How many?",
        'send_message(workflow_id="ID", topic="go", message=…)',
        {"queue": "alone"}),
    Cause("is queued where the worker is full", "waits",
        "queued in alone, which is full: 1 of 1 run at once per worker (has-the-place-in-a-worker).",
        'inspect(workflow_id="has-the-place-in-a-worker")',
        {"queue": "alone"}),
    Cause("was just in time", "queues",
        "it has finished; its output is below.",
        "nothing: this run is done.",
        {"queue": "slow"}),
    Cause("is queued where the rate is low", "queues",
        "queued in slow, which starts at most 1 run in SPAN: the next one at TIME (in SPAN).", WAIT,
        {"queue": "slow"}),
    Cause("failed in a step", "fails",
        "failed in step 2 charge: ValueError: no such card",
        'inspect(workflow_id="ID", step=2) for the whole error; repair the cause, then fork(workflow_id="ID", from_step=2)'),
    Cause("failed in all attempts", "gives_up",
        "failed in step 1 fetch_soon: DBOSMaxStepRetriesExceeded: DBOS Error 7: Step fetch_soon has exceeded its maximum of 2 retries; the last attempt: ConnectionError: no route to the shop",
        'inspect(workflow_id="ID", step=1) for the whole error; repair the cause, then fork(workflow_id="ID", from_step=1)'),
    Cause("failed in its own code", "stumbles",
        "failed in the workflow's own code after step 1: IndexError: list index out of range",
        'repair the code (inspect(workflow_id="ID", detail="source")), then fork(workflow_id="ID", from_step=2)'),
    Cause("failed with its child", "fails_with_child",
        "its child run ID-1 failed (step 2 DBOS.getResult): ValueError: no such card",
        'inspect(workflow_id="ID-1") for the reason; repair the cause, then fork(workflow_id="ID", from_step=1), which starts the child again'),
    Cause("ran out of time", "sleeps",
        "cancelled: its timeout passed at TIME.",
        'start_workflow(name="sleeps", args=…) with a larger timeout_seconds, or resume(workflow_ids=["ID"]) to go on after its last finished step.',
        {"timeout_seconds": 0.5}),
    Cause("has ended", "queues",
        "it has finished; its output is below.",
        "nothing: this run is done."),
    Cause("has ended with much to say", "succeeds",
        "it has finished.",
        'inspect(workflow_id="ID", step=0) for its output.'),
]
# fmt: on


class Agent:
    """Looks at the runs of one project."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, **arguments: Any) -> str:
        """The answer of a tool, even if it is an error."""
        result = await self._client.call_tool(tool, arguments)
        [content] = result.content
        assert isinstance(content, TextContent)
        return content.text

    async def why(self, workflow_id: str) -> tuple[str, str]:
        """The cause and the next call, with names for what differs from one time to another."""
        text = await self.call("inspect", workflow_id=workflow_id)
        assert text.startswith(f"# {workflow_id}: "), text
        lines = text.splitlines()
        cause, following = lines[1].removeprefix("**Why:** "), lines[2].removeprefix("**Next:** ")
        return plain(cause, workflow_id), plain(following, workflow_id)

    async def told(self, workflow_id: str, why: str) -> str:
        """The next call, once that is the cause; the last cause if it never is."""
        said = ("", "")

        async def is_told() -> bool:
            nonlocal said
            said = await self.why(workflow_id)
            return said[0] == why

        with suppress(AssertionError):
            await until_found(is_told, "that is the cause", seconds=60)
        assert said[0] == why
        return said[1]


def plain(text: str, workflow_id: str = "") -> str:
    if workflow_id:
        text = re.sub(rf"{re.escape(workflow_id)}(?=[-\" ])", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", text)
    text = re.sub(r"\bversion [0-9a-f]{12}\b", "version VERSION", text)
    return re.sub(r"\b[\d.]+ (ms|s|min|h)( \d+ (s|min))?(?=[):.])", "SPAN", text)


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = (tmp_path_factory.mktemp("causes") / "project").resolve()
    (folder / "workflows").mkdir(parents=True)
    (folder / "workflows" / "flows.py").write_text(FLOWS, encoding="utf-8")
    (folder / "workflows" / "fickle.py").write_text(FICKLE, encoding="utf-8")
    project = Project(Settings(project=folder, old_workers=1, park_after_seconds=0))
    engine = await project.engine()
    await engine.start(StartRequest(name="queues", workflow_id="queues"))
    await engine.reader.wait(["queues"], timeout_seconds=30)
    yield engine
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    assert not processes_of(folder)


@pytest.fixture(scope="module")
async def runs(engine: Engine) -> None:
    """All runs of the table. One after the other, so that they come into their queues in this order."""
    for cause in CAUSES:
        options = {"name": cause.workflow, "workflow_id": cause.workflow_id, **cause.options}
        await engine.start(StartRequest.model_validate(options))


@pytest.fixture(scope="module")
async def agent(engine: Engine) -> AsyncIterator[Agent]:
    server = build_server(Settings(project=engine.project, old_workers=1, park_after_seconds=0))
    async with Client(server) as client:
        yield Agent(client)


async def a_waiting_run(engine: Engine, name: str, workflow_id: str) -> str:
    """The version of a run that waits for a message."""
    started = await engine.start(StartRequest(name=name, workflow_id=workflow_id))
    await engine.reader.wait([workflow_id], until="any", timeout_seconds=30)
    return str(started.version)


def kill(engine: Engine, role: str) -> None:
    for process in processes_of(engine.project, role):
        with suppress(psutil.NoSuchProcess):
            process.kill()


# Runs that are where they belong


@proves("wait:visible")
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.what)
async def test_inspect_says_why_a_run_is_where_it_is(
    cause: Cause, agent: Agent, runs: None
) -> None:
    assert await agent.told(cause.workflow_id, cause.why) == cause.next


async def test_a_step_that_runs_cannot_be_read_yet(agent: Agent, runs: None) -> None:
    assert await agent.call("inspect", workflow_id="is-in-a-step", step=1) == (
        "Step 1 of is-in-a-step has not finished: it runs (work)."
        " Call inspect to see the run's steps and their numbers."
    )


async def test_a_cancelled_run_says_so(engine: Engine, agent: Agent) -> None:
    await a_waiting_run(engine, "waits", "unwanted")
    await agent.call("cancel", workflow_ids=["unwanted"])
    following = await agent.told("unwanted", "cancelled.")
    assert following == 'resume(workflow_ids=["ID"]) to go on after its last finished step.'


async def test_a_run_of_a_workflow_that_its_version_does_not_have_says_so(
    engine: Engine, agent: Agent
) -> None:
    await insert_lost_run(engine, queue="workflows")
    following = await agent.told(
        "lost",
        "its version VERSION has no such workflow: there is no workflow 'removed' in this version.",
    )
    assert following == (
        'cancel(workflow_ids=["ID"]), and delete the schedule that starts it;'
        ' or restore the workflow, then fork(workflow_id="ID", from_step=1) and cancel(workflow_ids=["ID"])'
    )
    await agent.call("cancel", workflow_ids=["lost"])


# Runs whose worker is away


SERVER_STATUS = "server_status() for the workers and their problems; the run goes on automatically once one is running."


async def test_a_run_whose_worker_was_killed_says_what_becomes_of_it(
    engine: Engine, agent: Agent
) -> None:
    await engine.cancel([cause.workflow_id for cause in CAUSES])  # none of them shall go on
    await a_waiting_run(engine, "waits", "bereft")
    held = engine.project / "held"  # the next worker is not up before this has gone
    held.touch()
    kill(engine, "worker")
    following = await agent.told(
        "bereft",
        "interrupted: no worker of its version VERSION is running (it is being started); it was waiting on topic 'go'.",
    )
    held.unlink()
    assert following == SERVER_STATUS
    await agent.told(
        "bereft",
        "waits for a message on topic 'go' · since TIME (SPAN) · without a deadline · asks: How many?",
    )


@asynccontextmanager
async def supervisor_held(engine: Engine, reported: str) -> AsyncGenerator[None]:
    """The supervisor stopped where it reports this of a worker. It would be over before an answer of a busy machine is there."""
    settings = Settings(project=engine.project)
    supervisor = psutil.Process(engine.connection.pid)

    def is_reported() -> bool:
        return any(reported in text for text in state.read_report(settings).values())

    def is_held() -> bool:
        if is_reported():
            supervisor.suspend()
            if is_reported():
                return True
            supervisor.resume()
        return False

    try:
        await until(is_held, reported)
        yield
    finally:
        supervisor.resume()


async def test_a_run_that_ends_its_worker_again_and_again_says_so(
    engine: Engine, agent: Agent
) -> None:
    await engine.start(StartRequest(name="ends_worker", workflow_id="deadly"))
    async with supervisor_held(engine, "ended with status -9; starting again"):
        following = await agent.told(
            "deadly",
            "interrupted: no worker of its version VERSION is running (the last one ended with status -9; starting again).",
        )
    assert following == SERVER_STATUS
    following = await agent.told(
        "deadly",
        "dead-lettered: it was running when its worker ended 2 times (killed by SIGKILL), after step 1.",
    )
    assert following == (
        'repair the code (inspect(workflow_id="ID", detail="source")), then fork(workflow_id="ID", from_step=2); or, if the cause is gone, resume(workflow_ids=["ID"])'
    )


async def test_a_run_whose_file_does_not_load_any_more_says_why(
    engine: Engine, agent: Agent
) -> None:
    await a_waiting_run(engine, "fickle", "unloaded")
    flag = engine.project / "unloadable"
    flag.touch()
    kill(engine, "worker")
    following = await agent.told(
        "unloaded",
        "its file does not load in version VERSION: ImportError: the library is gone",
    )
    assert following == (
        'inspect(workflow_id="ID", detail="source"); repair the file, then fork(workflow_id="ID", from_step=1) and cancel(workflow_ids=["ID"])'
    )
    source, fork, cancel = calls(following.replace("ID", "unloaded"))
    assert "the library is gone" in await agent.call(source[0], **source[1])
    source_file = engine.project / "workflows" / "fickle.py"
    source_file.write_text(FICKLE.replace("if Path", "if False and Path", 1), encoding="utf-8")
    forked = json.loads(await agent.call(fork[0], **fork[1]))["workflow_id"]
    await agent.call(cancel[0], **cancel[1])
    assert (await engine.reader.run("unloaded")).status == "CANCELLED"
    flag.unlink()
    await engine.reader.wait([forked], until="any", timeout_seconds=60)
    await engine.send(forked, "go", "on")
    assert (await engine.reader.wait([forked], timeout_seconds=60)).done[0].status == "SUCCESS"


async def test_a_run_whose_version_waits_for_a_worker_says_so(engine: Engine, agent: Agent) -> None:
    await a_waiting_run(engine, "waits", "holds-the-place")
    flows = ""
    for number in (1, 2):
        flows += FICKLE.replace("fickle", f"fickle_{number}")
        (engine.project / "workflows" / "newer.py").write_text(flows, encoding="utf-8")
        await a_waiting_run(engine, f"fickle_{number}", f"newer-{number}")
    following = await agent.told(
        "newer-1",
        "interrupted: no worker of its version VERSION, which is not the newest, is running"
        " (other older versions use all the workers that --old-workers allows); it was waiting on topic 'go'.",
    )
    assert following == (
        "server_status() shows which versions have unfinished runs; this run goes on automatically once those of an older version have ended"
        ' (list_workflows(status="PENDING")); or fork(workflow_id="ID", from_step=1) and cancel(workflow_ids=["ID"]) to go on with the newest code'
    )
    ended, (fork, _cancel) = alternatives(following.replace("ID", "newer-1"))
    assert '"versions_with_unfinished_runs":{' in await agent.call("server_status")
    forked = json.loads(await agent.call(fork[0], **fork[1]))["workflow_id"]
    waits = "waits for a message on topic 'go' · since TIME (SPAN) · without a deadline"
    await agent.told(forked, waits)
    [_, listed] = ended
    found = json.loads(await agent.call(listed[0], **listed[1]))["workflows"]
    newest = ("newer-1", "newer-2", forked)
    await engine.cancel([one["workflow_id"] for one in found if one["workflow_id"] not in newest])
    await agent.told("newer-1", waits)
    await engine.cancel([forked, "newer-1"])


async def test_a_run_whose_worker_does_not_come_up_says_so_and_so_does_a_start(
    engine: Engine, agent: Agent
) -> None:
    (engine.project / "deadly").touch()
    kill(engine, "worker")
    following = await agent.told(
        "newer-2",
        "interrupted: no worker of its version VERSION is running (the last one ended with status 7; starting again);"
        " it was waiting on topic 'go'.",
    )
    assert following == SERVER_STATUS
    flows = FICKLE.replace("fickle", "fickle_3")
    (engine.project / "workflows" / "newer.py").write_text(flows, encoding="utf-8")
    refused = plain(await agent.call("start_workflow", name="waits"))
    assert refused.startswith("No worker could load version VERSION of the code:\n")
    assert refused.endswith("\nCall server_status for the folder of the logs. Nothing was started.")
    assert '"logs":' in await agent.call("server_status")
    (engine.project / "deadly").unlink()
    (engine.project / "workflows" / "newer.py").write_text(flows + "\n", encoding="utf-8")
    assert "error" not in json.loads(await agent.call("start_workflow", name="fickle_3"))
    await agent.told(
        "newer-2", "waits for a message on topic 'go' · since TIME (SPAN) · without a deadline"
    )


# Nothing is there


async def database_away(engine: Engine) -> locks.Lock:
    """End the database, and hold its lock, without which the supervisor, which has noticed its end, cannot start it again."""
    settings = Settings(project=engine.project)
    lock, supervisor = places.database_lock(settings), psutil.Process(engine.connection.pid)

    def said() -> str:
        return state.read_report(settings).get("database", "")

    def is_away() -> bool:
        if said() == "up":
            kill(engine, "pglite.mjs")
        supervisor.suspend()  # its pause before the next start may be shorter than ours
        if said().endswith("it is restarting") and locks.is_free_within(lock, 0):
            return True
        supervisor.resume()
        return False

    try:
        await until(is_away, "the end of the database is noticed")
        return locks.held_lock(lock)
    finally:
        supervisor.resume()


async def test_a_run_cannot_be_seen_while_the_database_is_away_and_inspect_says_why(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_workflows.engine.rows._PATIENCE_SECONDS", 1.0)
    settings = Settings(project=engine.project, old_workers=1, park_after_seconds=0)
    async with Client(build_server(settings)) as client:
        agent = Agent(client)
        assert "has-ended: queues SUCCESS" in await agent.call("inspect", workflow_id="has-ended")
        with await database_away(engine):
            said = await agent.call("inspect", workflow_id="has-ended")
    assert said == (
        "The database ended with status -9; it is restarting."
        " Call again in a few seconds: nothing is lost. `durable-workflows status` shows its state."
    )

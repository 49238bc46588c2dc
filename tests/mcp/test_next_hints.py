"""What `inspect` says after **Next:** is followed to the letter, by an agent that knows nothing else, and the run goes on or is seen to its end.

The code is "repaired" by a file `healed`. What needs a dead worker is in `test_causes.py` and `test_crashing.py`.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult, TextContent

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import insert_lost_run, processes_of, until_found
from hints import alternatives, calls
from mcp import Client
from requirements import proves

pytestmark = [pytest.mark.anyio, pytest.mark.long]

Json = dict[str, Any]
FLOWS = '''
import time
from pathlib import Path
from typing import Annotated

from dbos import DBOS, SetWorkflowID
from pydantic import AfterValidator

from durable_workflows import ask_human, receive

HEALED = Path("HEALED_PATH")


@DBOS.workflow()
def queues() -> None:
    """Register queues with limits."""
    DBOS.register_queue("narrow", concurrency=1)
    DBOS.register_queue("alone", worker_concurrency=1)
    DBOS.register_queue("slow", limiter={"limit": 1, "period": 15})


@DBOS.workflow()
def waits() -> object:
    """Wait for a message, of which the schema has an example."""
    return receive("go", prompt="Go on?", schema={"type": "string", "enum": ["yes"]})


@DBOS.workflow()
def sleeps(seconds: float) -> str:
    """Sleep."""
    DBOS.sleep(seconds)
    return "slept"


@DBOS.step()
def work(seconds: float = 0) -> str:
    time.sleep(seconds)
    return "x" * 1000


@DBOS.workflow()
def works(seconds: float) -> str:
    """One step."""
    return work(seconds)[:3]


@DBOS.step(retries_allowed=True, interval_seconds=15, max_attempts=2)
def fetch() -> None:
    if DBOS.step_status.current_attempt == 0:
        raise ConnectionError("no route to the shop")


@DBOS.workflow()
def retries() -> None:
    """A step that is tried again."""
    fetch()


@DBOS.workflow()
def has_child() -> object:
    """Wait for a run that waits."""
    return DBOS.start_workflow(waits).get_result()


@DBOS.step()
def charge() -> None:
    if not HEALED.exists():
        raise ValueError("no such card")


@DBOS.workflow()
def fails() -> str:
    """Fail in the second step."""
    work()
    charge()
    return "paid"


@DBOS.workflow()
def stumbles() -> str:
    """Fail outside of a step."""
    work()
    if not HEALED.exists():
        raise IndexError("too few")
    return "paid"


@DBOS.step()
def odd() -> object:
    return "well" if HEALED.exists() else iter("a")


@DBOS.workflow()
def returns_odd() -> object:
    """Return what cannot be recorded."""
    work()
    return odd()


@DBOS.workflow()
def fails_with_child() -> str:
    """Fail because a child does."""
    work()
    return DBOS.start_workflow(fails).get_result()


@DBOS.workflow()
def fails_with_named_child() -> str:
    """Fail because a child of a fixed name does."""
    with SetWorkflowID("the-other-child" if HEALED.exists() else "the-one-child"):
        child = DBOS.start_workflow(fails)
    return child.get_result()


@DBOS.workflow()
def fails_with_another(other: str) -> str:
    """Fail because a run does that it did not start."""
    return DBOS.retrieve_workflow(other, existing_workflow=False).get_result()


@DBOS.workflow()
def asks() -> object:
    """Ask a person."""
    return ask_human("Deploy?", schema=bool, topic="deploy")


@DBOS.workflow()
def has_asking_child() -> object:
    """Wait for a run that asks a person."""
    return DBOS.start_workflow(asks).get_result()


@DBOS.workflow()
def computes(seconds: float) -> str:
    """A computation outside of a step."""
    work()
    time.sleep(seconds)
    return "computed"


@DBOS.workflow()
def says_much() -> str:
    """Return something long."""
    return "x" * 5000


@DBOS.step(retries_allowed=True, interval_seconds=600, max_attempts=3)
def fetch_later() -> str:
    if not HEALED.exists():
        raise ConnectionError("no route to the shop")
    return "paid"


@DBOS.workflow()
def retries_later() -> str:
    """A step that is tried again much later."""
    return fetch_later()


def even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


@DBOS.workflow()
def takes_even(number: Annotated[int, AfterValidator(even)]) -> str:
    """Take what the schema of its arguments does not say."""
    return "paid"
'''
BACK = '''from dbos import DBOS


@DBOS.workflow()
def removed() -> str:
    """Be back."""
    return "paid"
'''


@dataclass(frozen=True)
class Case:
    """A run, how its cause begins, and which calls lead to its end, without those that only look or wait."""

    what: str
    workflow: str
    why: str
    calls: list[str]
    options: Json = field(default_factory=dict[str, Any])
    cancel: bool = False

    @property
    def workflow_id(self) -> str:
        return self.what.replace(" ", "-")


WAIT = "wait_for_workflows"
# fmt: off
ENDING = [
    Case("is in a step", "works", "running step", [], {"args": {"seconds": 12}}),
    Case("is between attempts", "retries", "will retry step", []),
    Case("sleeps", "sleeps", "sleeping", [], {"args": {"seconds": 12}}),
    Case("is delayed", "sleeps", "delayed", [], {"args": {"seconds": 0}, "delay_seconds": 12}),
    Case("is rationed", "queues", "queued in slow, which starts at most 1 run", [], {"queue": "slow"}),
    Case("is out of time", "sleeps", "cancelled: its timeout passed", ["resume"], {"args": {"seconds": 6}, "timeout_seconds": 0.5}),
    Case("waits for a message", "waits", "waits for a message", ["send_message"]),
    Case("waits for a child", "has_child", "waits for child runs", ["send_message"]),
    Case("waits for a person", "asks", "waits for a message on topic 'person:deploy'", ["answer_in_person"]),
    Case("waits for the question of a child", "has_asking_child", "waits for child runs", ["answer_in_person"]),
    Case("computes", "computes", "running its own code after step 1", [], {"args": {"seconds": 12}}),
    Case("says much", "says_much", "it has finished.", []),
    Case("is queued behind another", "waits", "queued in narrow, which is full", ["send_message", "send_message"], {"queue": "narrow"}),
    Case("is queued in a full worker", "waits", "queued in alone, which is full", ["send_message", "send_message"], {"queue": "alone"}),
    Case("is cancelled", "sleeps", "cancelled", ["resume"], {"args": {"seconds": 0}, "delay_seconds": 600}, cancel=True),
    Case("is cancelled with its child", "has_child", "cancelled; 1 run", ["resume", "send_message"], cancel=True),
]
FORKED = [
    Case("failed in a step", "fails", "failed in step 2", ["inspect", "fork"]),
    Case("failed in its own code", "stumbles", "failed in the workflow's own code", ["inspect", "fork"]),
    Case("failed with what it returned", "returns_odd", "failed", ["inspect", "fork"]),
    Case("failed with its child", "fails_with_child", "its child run", ["inspect", "fork"]),
]
# fmt: on


class Agent:
    """Calls the tools that it is told to call."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, arguments: Json) -> Json:
        result = await self._client.call_tool(tool, arguments)
        [content] = result.content
        assert isinstance(content, TextContent)
        assert not result.is_error, (tool, arguments, content.text)
        return result.structured_content or {"text": content.text}

    async def told(self, workflow_id: str, why: str) -> str:
        """The text after **Next:**, when the cause begins like that."""
        said = ""

        async def next_hint() -> str | None:
            nonlocal said
            said = (await self.call("inspect", {"workflow_id": workflow_id}))["text"]
            _title, cause, following = said.splitlines()[:3]
            is_told = cause.removeprefix("**Why:** ").startswith(why)
            return following.removeprefix("**Next:** ") if is_told else None

        try:
            return await until_found(next_hint, why, seconds=20)
        except AssertionError:
            pytest.fail(f"{workflow_id} is not said to be {why!r}:\n{said}")

    async def output(self, workflow_id: str) -> object:
        """The output of the run."""
        found = await self.call(WAIT, {"workflow_ids": [workflow_id], "timeout_seconds": 30})
        assert found["done"], (found, await self.call("inspect", {"workflow_id": workflow_id}))
        [ended] = found["done"]
        assert ended["status"] == "SUCCESS", ended
        return ended["output"]

    async def follow(self, hint: str) -> list[str]:
        """Make the first call that the hint names with all its arguments.

        If that shows another run, make the call named there. Return the changing calls.
        """
        whole = [one for one in calls(hint) if one[0] != "start_workflow"]
        for tool, arguments in whole[:1]:
            answer = await self.call(tool, arguments)
            if tool == "inspect":
                return await self.follow(answer["text"].splitlines()[2])
            if tool in ("send_message", "answer_in_person"):
                given = {"workflow_ids": [arguments["workflow_id"]], "timeout_seconds": 5}
                await self.call(WAIT, {**given, "until": "change"})
            return [] if tool == WAIT else [tool]
        return []

    async def lead(self, workflow_id: str, hint: str) -> list[str]:
        """Follow the hint, and what is said of the run then, until it has ended. Return the calls that changed something."""
        made = await self.follow(hint)

        async def has_ended() -> bool:
            following = await self.told(workflow_id, "")
            made.extend(await self.follow(following))
            return following.startswith("nothing: this run") or "for its output" in following

        await until_found(has_ended, f"{workflow_id} ends by what is said of it", seconds=60)
        return made


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = (tmp_path_factory.mktemp("hints") / "project").resolve()
    (folder / "workflows").mkdir(parents=True)
    flows = FLOWS.replace("HEALED_PATH", str(healed(folder)))
    (folder / "workflows" / "flows.py").write_text(flows, encoding="utf-8")
    settings = Settings(project=folder, park_after_seconds=0)  # who waits keeps its place
    project = Project(settings)
    engine = await project.engine()
    await engine.start(StartRequest(name="queues", workflow_id="queues"))
    await engine.reader.wait(["queues"], timeout_seconds=30)
    yield engine
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    assert not processes_of(folder)


@pytest.fixture(scope="module")
async def agent(engine: Engine) -> AsyncIterator[Agent]:
    server = build_server(Settings(project=engine.project, park_after_seconds=0))
    async with Client(server, elicitation_callback=says_yes) as client:
        yield Agent(client)


async def says_yes(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """The person at the client."""
    return ElicitResult(action="accept", content={"answer": True})


def healed(folder: Path) -> Path:
    return folder.parent / "healed"


async def begun(engine: Engine, case: Case) -> None:
    options = {"name": case.workflow, "workflow_id": case.workflow_id, **case.options}
    await engine.start(StartRequest.model_validate(options))
    if case.cancel:
        if "child" in case.what:
            await engine.reader.wait([case.workflow_id], timeout_seconds=30)
        await engine.cancel([case.workflow_id], children=True)


@pytest.fixture(scope="module")
async def hints(engine: Engine, agent: Agent) -> dict[str, str]:
    """What is said of all runs of the table, which are there at once. They come into their queues in this order."""
    for name, queue in (
        ("waits", "narrow"),
        ("waits", "alone"),
        ("queues", "slow"),
    ):  # they have the places
        await engine.start(StartRequest(name=name, queue=queue, workflow_id=f"first-in-{queue}"))
    found: dict[str, str] = {}
    for case in ENDING:  # one after the other: some causes are there for a dozen seconds
        await begun(engine, case)
        found[case.what] = await agent.told(case.workflow_id, case.why)
    return found


@proves("hints:lead")
@pytest.mark.parametrize("case", ENDING, ids=lambda case: case.what)
async def test_the_calls_that_are_named_lead_a_run_to_its_end(
    case: Case, agent: Agent, hints: dict[str, str]
) -> None:
    assert await agent.lead(case.workflow_id, hints[case.what]) == case.calls
    found = await agent.call(WAIT, {"workflow_ids": [case.workflow_id]})
    assert found["done"][0]["status"] == "SUCCESS"


async def test_a_run_of_a_workflow_that_is_gone_is_cancelled_or_goes_on_once_it_is_back(
    engine: Engine, agent: Agent
) -> None:
    for workflow_id in ("lost", "lost-too"):
        await insert_lost_run(engine, workflow_id)
    ways = {one: alternatives(await agent.told(one, "its version")) for one in ("lost", "lost-too")}
    [(tool, arguments)] = ways["lost"][0]
    assert tool == "cancel"
    await agent.call(tool, arguments)
    assert (await engine.reader.run("lost")).status == "CANCELLED"
    (engine.project / "workflows" / "back.py").write_text(BACK, encoding="utf-8")
    assert await forked(agent, ways["lost-too"][1]) == "paid"
    assert (await engine.reader.run("lost-too")).status == "CANCELLED"


async def forked(agent: Agent, named: list[tuple[str, Json]]) -> object:
    """Make all calls of a way, and return what came of the fork among them."""
    answers = {tool: await agent.call(tool, arguments) for tool, arguments in named}
    return await agent.output(answers["fork"]["workflow_id"])


async def test_the_fork_that_is_named_ends_once_the_code_is_repaired(
    engine: Engine, agent: Agent
) -> None:
    healed(engine.project).unlink(missing_ok=True)
    for case in FORKED:
        await begun(engine, case)
    hints = {case.what: await agent.told(case.workflow_id, case.why) for case in FORKED}
    healed(engine.project).touch()
    for case in FORKED:
        named = dict(reversed(calls(hints[case.what])))
        assert list(named) == list(reversed(case.calls)), hints[case.what]
        assert "text" in await agent.call("inspect", named["inspect"])
        assert named["fork"]["workflow_id"] == case.workflow_id
        fork = await agent.call("fork", named["fork"])
        assert await agent.output(fork["workflow_id"]) in ("paid", "well")
        since = await agent.told(case.workflow_id, case.why)
        assert dict(calls(since)) == {"inspect": {"workflow_id": fork["workflow_id"]}}


async def test_a_child_of_a_fixed_name_gets_another_name_and_another_run_is_named_anew(
    engine: Engine, agent: Agent
) -> None:
    healed(engine.project).unlink(missing_ok=True)
    named = Case("failed with a named child", "fails_with_named_child", "its child run", [])
    await begun(engine, named)
    hint = await agent.told(named.workflow_id, named.why)
    options = {"args": {"other": "the-one-child"}}
    other = Case("failed with another run", "fails_with_another", "its child run", [], options)
    await begun(engine, other)
    again = await agent.told(other.workflow_id, other.why)
    healed(engine.project).touch()
    looked, *changed = calls(hint)
    assert looked == ("inspect", {"workflow_id": "the-one-child"})
    assert await forked(agent, changed) == "paid"
    assert [tool for tool, _ in calls(again)] == ["inspect", "start_workflow", "fork"]
    child = calls(await agent.told("the-one-child", "failed in step 2"))
    fork = await agent.call(*child[-1])
    start = {**calls(again)[1][1], "args": {"other": fork["workflow_id"]}}
    assert await agent.output((await agent.call("start_workflow", start))["workflow_id"]) == "paid"


async def test_a_step_between_attempts_is_repaired_as_the_other_way_says(
    engine: Engine, agent: Agent
) -> None:
    healed(engine.project).unlink(missing_ok=True)
    case = Case("is to be tried much later", "retries_later", "will retry step 1", [])
    await begun(engine, case)
    waiting, repaired = alternatives(await agent.told(case.workflow_id, case.why))
    healed(engine.project).touch()
    assert [tool for tool, _ in waiting] == [WAIT]
    assert [tool for tool, _ in repaired] == ["cancel", "fork"]
    assert await forked(agent, repaired) == "paid"
    since = await agent.told(case.workflow_id, "cancelled.")
    assert [tool for tool, _ in calls(since)] == ["inspect"]


# fmt: off
STARTED_ANEW = [
    Case("takes longer than it may", "sleeps", "cancelled: its timeout passed", [], {"args": {"seconds": 30}, "timeout_seconds": 0.2}),
    Case("was started wrongly", "takes_even", "failed", [], {"args": {"number": 3}}),
    Case("says that it is not ok", "run_commands", "it has finished, but its output says that it did not succeed", [], {"args": {"commands": [{"name": "nap", "run": "sleep 60", "timeout_seconds": 0.1}]}}),
    Case("is over its budget", "agent_task", "failed", [], {"args": {"task": "x", "command": ["sleep", "60"], "timeout_seconds": 0.1}}),
]
RIGHT: dict[str, Json] = {
    "sleeps": {"args": {"seconds": 1}, "timeout_seconds": 60},
    "takes_even": {"args": {"number": 4}},
    "run_commands": {"args": {"commands": [{"name": "nap", "run": "sleep 1", "timeout_seconds": 60}]}},
    "agent_task": {"args": {"task": "x", "command": ["sleep", "1"], "timeout_seconds": 60}},
}
# fmt: on


async def test_a_start_that_is_named_brings_what_the_first_one_did_not(
    engine: Engine, agent: Agent
) -> None:
    for case in STARTED_ANEW:
        await begun(engine, case)
    anew: list[str] = []
    for case in STARTED_ANEW:
        hint = await agent.told(case.workflow_id, case.why)
        [start] = [arguments for tool, arguments in calls(hint) if tool == "start_workflow"]
        assert start == {"name": case.workflow}
        assert "timeout_seconds" not in RIGHT[case.workflow].get("args", {}) or (
            "with a larger timeout_seconds" in hint
        )
        started = await agent.call("start_workflow", {**start, **RIGHT[case.workflow]})
        anew.append(started["workflow_id"])
    for workflow_id in anew:
        output = await agent.output(workflow_id)
        assert '"ok": false' not in json.dumps(output)


async def test_a_run_that_others_left_is_resumed_or_forked_as_named(
    engine: Engine, agent: Agent
) -> None:
    """A dead-lettered run that is not a suspect, and a run whose status comes from a later release."""
    rows = {"dead-lettered": "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "of-the-future": "PAUSED"}
    for workflow_id, status in rows.items():
        options = {"args": {"seconds": 0}, "delay_seconds": 600}
        await begun(engine, Case(workflow_id, "sleeps", "", [], options, cancel=True))
        async with await tables.connect(engine.connection.database, role="test") as connection:
            await connection.execute(
                "update dbos.workflow_status set status = %s where workflow_uuid = %s",
                [status, workflow_id],
            )
    looked, resumed = calls(await agent.told("dead-lettered", "dead-lettered after"))
    assert (await agent.call(*looked))["logs"]
    assert resumed[0] == "resume"
    await agent.call(*resumed)
    assert await agent.output("dead-lettered") == "slept"
    _, fork = alternatives(await agent.told("of-the-future", "its status PAUSED is unknown"))
    assert await forked(agent, fork) == "slept"

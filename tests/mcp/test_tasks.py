# pyright: reportPrivateUsage=false
"""Runs as tasks, for clients that declare the extension; for others nothing is different."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import pytest

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UnknownWorkflowId
from durable_workflows.mcp import begun, tasks
from durable_workflows.mcp.apps import APPS
from durable_workflows.mcp.begun import Begun, Kind
from durable_workflows.models import StartRequest
from helpers import until_found
from requirements import proves
from transports import envelope

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
Launch = Callable[..., AbstractContextManager[Any]]

TASKS = "io.modelcontextprotocol/tasks"
NOTE = "durable-workflows/note"
# A busy machine may need more than the two seconds for a run that takes none.
PATIENT = "from durable_workflows.mcp import tasks; tasks._PLAIN_SECONDS = 30.0"


class Caller:
    """A client of the newer protocol, which can show forms to its person."""

    def __init__(self, server: Any, *, asks: bool = True) -> None:
        self._server = server
        self._elicitation: Json = {"elicitation": {"form": {}}} if asks else {}

    def ask(self, method: str, *extensions: str, **params: Any) -> Json:
        declared = dict.fromkeys(extensions, Json())
        meta = envelope(extensions=declared, **self._elicitation)
        return self._server.request(method, {**params, "_meta": meta})

    def call(self, tool: str, *extensions: str, **arguments: Any) -> Json:
        return self.ask("tools/call", *extensions, name=tool, arguments=arguments)["result"]

    def start(self, *extensions: str, **arguments: Any) -> Json:
        return self.call("start_workflow", *extensions, **arguments)

    def get(self, task: str) -> Json:
        return self.ask("tasks/get", TASKS, taskId=task)["result"]

    def respond(self, task: str, key: str, action: str = "accept", **content: Any) -> Json:
        response = {"action": action, **({"content": content} if content else {})}
        update = self.ask("tasks/update", TASKS, taskId=task, inputResponses={key: response})
        assert update["result"]["resultType"] == "complete"
        return update["result"]

    async def until(self, task: str, *statuses: str) -> Json:
        async def get() -> Json | None:
            found = self.get(task)
            return found if found["status"] in statuses else None

        return await until_found(get, f"{task} is {statuses}")

    async def ended(self, task: str) -> Json:
        return await self.until(task, "completed", "cancelled")

    async def asked(self, task: str, number: int = 1) -> Json:
        """The forms that the task shows, once there are so many."""

        async def get() -> Json | None:
            found = self.get(task)
            requests = found.get("inputRequests", {})
            return requests if len(requests) == number else None

        return await until_found(get, f"{task} asks {number} questions")


@pytest.fixture(scope="module")
async def project(shared: Engine) -> Path:
    return Path((await shared.reader.status()).project)


@pytest.fixture
async def caller(project: Path, launch: Launch) -> AsyncGenerator[Caller]:
    with launch(project) as server:
        yield Caller(server)


async def test_a_start_is_a_task_whose_result_is_what_the_tool_would_have_answered(
    caller: Caller, shared: Engine
) -> None:
    found = caller.ask("server/discover")["result"]["capabilities"]["extensions"]
    assert found == {TASKS: {}, APPS: {}}
    args = {"name": "wait_for", "args": {"topic": "go"}}
    task = caller.start(TASKS, **args, workflow_id="task-1")
    assert (task["resultType"], task["taskId"], task["status"]) == ("task", "task-1", "working")
    assert task["ttlMs"] is None
    await shared.reader.wait(["task-1"])
    waiting = caller.get("task-1")
    assert waiting["statusMessage"].startswith("waits for a message on topic 'go'")
    assert (waiting["resultType"], waiting["status"]) == ("complete", "working")
    await shared.send("task-1", "go", {"yes": 1})
    ended = await caller.ended("task-1")
    assert ended["status"] == "completed"
    tool = caller.start(**args, workflow_id="task-1", wait_seconds=20)
    again = {name: tool["structuredContent"].pop(name) for name in ("existing", "note")}
    assert again["existing"]
    assert ended["result"]["structuredContent"] == tool["structuredContent"]
    assert json.loads(ended["result"]["content"][0]["text"]) == tool["structuredContent"]
    assert tool["structuredContent"]["output"] == {"yes": 1}


@pytest.mark.long
async def test_a_run_that_fails_is_a_task_that_is_completed(caller: Caller) -> None:
    caller.start(TASKS, name="wait_for", args={"topic": "go"}, workflow_id="task-2")
    fork = caller.call("fork", TASKS, workflow_id="task-2", from_step=1)
    caller.ask("tasks/cancel", TASKS, taskId=fork["taskId"])
    assert (await caller.ended(fork["taskId"]))["status"] == "cancelled"
    slow = {"name": "fails", "args": {"message": "no card"}, "delay_seconds": 3}
    caller.start(TASKS, **slow, workflow_id="task-2-slow")
    ended = await caller.ended("task-2-slow")
    assert ended["status"] == "completed"
    assert ended["result"]["structuredContent"]["error"] == "ValueError: no card"


@pytest.mark.long
async def test_a_task_is_cancelled(caller: Caller, shared: Engine) -> None:
    caller.start(TASKS, name="wait_for", args={"topic": "go"}, workflow_id="task-3")
    await shared.reader.wait(["task-3"])
    caller.ask("tasks/cancel", TASKS, taskId="task-3")
    ended = await caller.ended("task-3")
    assert ended["status"] == "cancelled"
    assert "result" not in ended
    assert (await shared.reader.run("task-3")).status == "CANCELLED"


@proves("tasks:plain")
async def test_a_call_whose_runs_end_within_two_seconds_is_answered_plainly(
    project: Path, launch: Launch, shared: Engine
) -> None:
    args: Mapping[str, Any] = {"name": "noisy"}
    assert tasks._PLAIN_SECONDS == 2.0
    with launch(project, extra=PATIENT) as server:
        caller = Caller(server)
        ended = caller.start(TASKS, **args, workflow_id="task-5")
        assert ended["resultType"] == "complete"
        assert ended["structuredContent"]["status"] == "SUCCESS"
        again = caller.start(TASKS, **args, workflow_id="task-5")["structuredContent"]
        assert again["existing"]
        batch = caller.start(TASKS, batch=[args, args])["structuredContent"]
        assert [one["status"] for one in batch["workflows"]] == ["SUCCESS"] * 2
        fork = caller.call("fork", TASKS, workflow_id="task-5", from_step=1)["structuredContent"]
        assert (fork["forked_from"], fork["status"]) == ("task-5", "SUCCESS")
        failed = caller.start(TASKS, name="fails", args={"message": "no card"})
        assert failed["structuredContent"]["error"] == "ValueError: no card"


@pytest.mark.long
async def test_who_declares_no_tasks_is_answered_as_ever(caller: Caller) -> None:
    args: Mapping[str, Any] = {"name": "noisy"}
    assert caller.start(**args, workflow_id="task-4")["resultType"] == "complete"
    batch = caller.start(batch=[args, args])
    assert len(batch["structuredContent"]["workflows"]) == 2
    assert caller.start(TASKS, name="nois")["isError"]


@proves("tasks:calls")
async def test_a_fork_is_a_task(caller: Caller, shared: Engine) -> None:
    caller.start(name="wait_for", args={"topic": "go"}, workflow_id="task-6")
    await shared.reader.wait(["task-6"])
    task = caller.call("fork", TASKS, workflow_id="task-6", from_step=2)
    assert task["taskId"].startswith("fork.")
    fork = task["taskId"].removeprefix("fork.")
    await shared.send(fork, "go", "now")
    ended = (await caller.ended(task["taskId"]))["result"]["structuredContent"]
    about = {name: ended[name] for name in ("workflow_id", "forked_from", "from_step", "output")}
    assert about == {"workflow_id": fork, "forked_from": "task-6", "from_step": 2, "output": "now"}
    await shared.cancel(["task-6"])


@proves("tasks:calls")
async def test_a_resume_of_one_run_is_a_task(caller: Caller, shared: Engine) -> None:
    caller.start(name="wait_for", args={"topic": "go"}, workflow_id="task-7")
    await shared.reader.wait(["task-7"])
    await shared.cancel(["task-7"])
    task = caller.call("resume", TASKS, workflow_ids=["task-7"])
    assert (task["resultType"], task["taskId"]) == ("task", "resume.task-7")
    await shared.send("task-7", "go", "on")
    ended = (await caller.ended("resume.task-7"))["result"]["structuredContent"]
    assert ended["workflows"][0]["changed"]
    assert ended["done"] == [{"workflow_id": "task-7", "status": "SUCCESS", "output": "on"}]


@pytest.mark.long
@proves("tasks:calls")
async def test_a_batch_is_one_task_that_tells_how_far_it_is(caller: Caller, shared: Engine) -> None:
    ids = ["task-8", "task-9"]
    args = {"name": "wait_for", "args": {"topic": "go"}}
    given = [{**args, "workflow_id": one} for one in ids]
    task = caller.start(TASKS, batch=given)
    assert task["taskId"].startswith("batch.")
    await shared.send("task-9", "go", 9)
    await shared.reader.wait(["task-9"], until="any")

    async def told() -> Json | None:
        found = caller.get(task["taskId"])
        parts = ("1 of 2 runs ended", "task-8 waits on 'go'")
        return found if all(part in found["statusMessage"] for part in parts) else None

    await until_found(told, "one has ended, and the other waits")
    await shared.send("task-8", "go", 8)
    ended = (await caller.ended(task["taskId"]))["result"]["structuredContent"]
    found = [(one["workflow_id"], one["output"]) for one in ended["workflows"]]
    assert found == [("task-8", 8), ("task-9", 9)]


@pytest.mark.long
@proves("tasks:calls")
async def test_a_batch_of_one_is_a_task_and_cancelled_as_one(caller: Caller) -> None:
    task = caller.start(TASKS, batch=[{"name": "wait_for", "args": {"topic": "go"}}])
    caller.ask("tasks/cancel", TASKS, taskId=task["taskId"])
    assert (await caller.ended(task["taskId"]))["status"] == "cancelled"


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("start", ("plain",)),
        ("start", ("fork.of-mine",)),
        ("start", ("batch.",)),
        ("start", ("a.b",)),
        ("fork", ("x",)),
        ("resume", ("fork.x",)),
        ("batch", ("one",)),
        ("batch", tuple(f"ä {number}" for number in range(100))),
    ],
)
def test_the_id_of_a_task_says_of_what_it_is(kind: Kind, ids: tuple[str, ...]) -> None:
    made = Begun(kind, ids)
    assert begun.read(made.task_id) == made


@pytest.mark.parametrize("text", ["", "x", "eJyLjgUAARUAuQ==", "ä", "eJyLVkpUigUABHcBjg", "===="])
def test_an_id_that_is_of_no_batch_is_refused(text: str) -> None:
    with pytest.raises(UnknownWorkflowId):
        begun.read(f"batch.{text}")


# Questions


@pytest.mark.long
@proves("tasks:ask")
async def test_a_person_answers_a_run_through_its_task_although_the_server_was_killed_meanwhile(
    project: Path, launch: Launch, shared: Engine
) -> None:
    with launch(project) as server:
        caller = Caller(server)
        caller.start(TASKS, name="ask_order", args={"timeout": 600}, workflow_id="asks-1")
        first = await caller.asked("asks-1")
        server.process.kill()
    [(key, request)] = first.items()
    assert request["method"] == "elicitation/create"
    assert request["params"]["message"].endswith("\n\n> What shall be ordered?")
    assert request["params"]["requestedSchema"]["required"] == ["amount"]
    with launch(project) as server:
        caller = Caller(server)
        assert await caller.asked("asks-1") == first
        assert NOTE not in caller.respond("asks-1", key, amount=3, unit="t")["_meta"]
        ended = await caller.ended("asks-1")
    output = ended["result"]["structuredContent"]["output"]
    assert output == {"amount": 3, "unit": "t", "express": False}
    [noted] = (await shared.reader.run("asks-1")).answers
    assert (noted.who, noted.how) == ("the person at test 1", "elicitation")
    assert noted.shown.endswith("\n\n> What shall be ordered?")


@pytest.mark.long
@proves("tasks:ask")
async def test_the_run_works_again_until_its_next_question(caller: Caller) -> None:
    caller.start(TASKS, name="ask_twice", workflow_id="asks-2")
    first = await caller.asked("asks-2")
    caller.respond("asks-2", next(iter(first)), answer=True)

    async def another() -> Json | None:
        found = caller.get("asks-2").get("inputRequests", {})
        return found if found and found != first else None

    second = await until_found(another, "the second question")
    assert not first.keys() & second.keys()
    caller.respond("asks-2", next(iter(second)), answer=False)
    ended = await caller.ended("asks-2")
    assert ended["result"]["structuredContent"]["output"] == [True, False]


@proves("tasks:ask")
@pytest.mark.long
async def test_questions_of_several_children_have_keys_of_their_own(
    caller: Caller, shared: Engine
) -> None:
    args: Json = {"workflow": "ask_anything", "items": [{}, {}]}
    caller.start(TASKS, name="fan_out", args=args, workflow_id="asks-3")
    both = await caller.asked("asks-3", 2)
    of = {
        child: key
        for key, one in both.items()
        for child in ("asks-3-0", "asks-3-1")
        if child in one["params"]["message"]
    }
    caller.respond("asks-3", of["asks-3-1"], answer="a crab")
    assert list(await caller.asked("asks-3")) == [of["asks-3-0"]]
    caller.respond("asks-3", of["asks-3-0"], answer="a whale")
    results = (await caller.ended("asks-3"))["result"]["structuredContent"]["output"]["results"]
    assert [one["output"] for one in results] == ["a whale", "a crab"]
    [noted] = (await shared.reader.run("asks-3-0")).answers
    assert noted.who == "the person at test 1"
    assert noted.shown == both[of["asks-3-0"]]["params"]["message"]


@proves("tasks:ask")
@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.long
async def test_who_closes_a_question_is_not_asked_again_and_the_run_keeps_waiting(
    project: Path, launch: Launch, shared: Engine, action: Literal["decline", "cancel"]
) -> None:
    task = f"asks-{action}"
    with launch(project) as server:
        caller = Caller(server)
        caller.start(TASKS, name="ask_anything", workflow_id=task)
        [key] = await caller.asked(task)
        caller.respond(task, key, action)
        server.process.kill()
    with launch(project) as server:
        found = Caller(server).get(task)
        assert (found["status"], "inputRequests" in found) == ("working", False)
        said = f"the person at test 1 said {action}; the run keeps waiting. answer_in_person("
        assert found["statusMessage"].startswith(said)
        [wait] = await shared.reader.waits(task)
        await shared.answer(wait, "a whale", who="ann", how="terminal")
        ended = await Caller(server).ended(task)
    assert ended["result"]["structuredContent"]["output"] == "a whale"


@pytest.mark.long
@proves("tasks:ask")
async def test_an_answer_that_does_not_fit_is_asked_for_again_under_another_key(
    caller: Caller,
) -> None:
    caller.start(TASKS, name="ask_parts", workflow_id="asks-4")
    [first] = await caller.asked("asks-4")
    caller.respond("asks-4", first, answer='["nuts", 1]')
    found = await caller.asked("asks-4")
    [(second, request)] = found.items()
    assert second != first
    assert request["params"]["message"].startswith("The last answer was not taken: ")
    assert "1 is not of type 'string'" in caller.get("asks-4")["statusMessage"]
    assert "not taken" in caller.respond("asks-4", first, answer='["old"]')["_meta"][NOTE]
    caller.respond("asks-4", second, answer='["nuts", "bolts"]')
    ended = await caller.ended("asks-4")
    assert ended["result"]["structuredContent"]["output"] == ["nuts", "bolts"]


@proves("tasks:ask")
async def test_late_and_unknown_answers_change_nothing_and_say_so(
    project: Path, launch: Launch, shared: Engine
) -> None:
    with launch(project) as one, launch(project) as other:
        first, second = Caller(one), Caller(other)
        first.start(TASKS, name="ask_twice", workflow_id="asks-5")
        [key] = await first.asked("asks-5")
        assert list(await second.asked("asks-5")) == [key]
        assert (
            "no open question" in second.respond("asks-5", "x.1.asks-5", answer=True)["_meta"][NOTE]
        )
        nonsense = {key: {"action": "maybe"}}
        update = second.ask("tasks/update", TASKS, taskId="asks-5", inputResponses=nonsense)
        assert "is no answer" in update["result"]["_meta"][NOTE]
        first.respond("asks-5", key, answer=True)
        late = second.respond("asks-5", key, answer=False)["_meta"][NOTE]
        assert late.startswith("the person at test 1 already answered this at ")
        assert second.get("asks-5")["statusMessage"].startswith(late)
        [noted] = (await shared.reader.run("asks-5")).answers
        assert noted.answer.text == "true"
        await shared.cancel(["asks-5"])


@proves("tasks:ask")
async def test_a_key_counts_for_its_run_only(caller: Caller, shared: Engine) -> None:
    for task in ("asks-6", "asks-7"):
        caller.start(TASKS, name="ask_anything", workflow_id=task)
    [key] = await caller.asked("asks-6")
    await caller.asked("asks-7")
    caller.respond("asks-7", key, answer="a whale")
    assert len(await shared.reader.waits("asks-6")) == len(await shared.reader.waits("asks-7")) == 1
    await shared.cancel(["asks-6", "asks-7"])


@proves("tasks:ask")
async def test_an_answer_that_was_noted_and_not_sent_is_sent_by_whoever_looks_next(
    caller: Caller, shared: Engine
) -> None:
    """Its process was killed between the two."""
    caller.start(TASKS, name="ask_anything", workflow_id="asks-8")
    await caller.asked("asks-8")
    async with await tables.connect(shared.connection.database, role="test") as connection:
        await connection.execute(
            "insert into durable_workflows.answers (workflow_id, function_id, topic, who, how, shown, answer)"
            """ select workflow_id, function_id, topic, 'ann', 'terminal', '{}', '"a whale"' from durable_workflows.waits where workflow_id = 'asks-8'"""
        )
    ended = await caller.ended("asks-8")
    assert ended["result"]["structuredContent"]["output"] == "a whale"


async def test_a_client_that_shows_no_forms_is_told_the_command(
    project: Path, launch: Launch, shared: Engine
) -> None:
    await shared.start(StartRequest(name="ask_anything", workflow_id="asks-9"))
    await shared.reader.wait(["asks-9"])
    with launch(project) as server:
        found = Caller(server, asks=False).get("asks-9")
    assert found["status"] == "working"
    assert "approve asks-9" in found["statusMessage"]
    await shared.cancel(["asks-9"])


async def test_wrong_requests_are_refused(caller: Caller) -> None:
    for method in ("get", "update", "cancel"):
        for task in ("nobody", "fork.nobody", Begun("batch", ("nobody",)).task_id):
            unknown = caller.ask(f"tasks/{method}", TASKS, taskId=task)["error"]
            assert unknown["code"] == -32602
            assert "There is no run 'nobody'" in unknown["message"]
        undeclared = caller.ask(f"tasks/{method}", taskId="nobody")["error"]
        assert undeclared["code"] == -32021
    listen = {"notifications": {"taskIds": ["task-1"]}}
    assert caller.ask("subscriptions/listen", **listen)["error"]["code"] == -32021


async def test_earlier_clients_know_no_tasks(project: Path, launch: Launch) -> None:
    with launch(project) as server:
        server.initialize()
        assert server.request("tasks/get", {"taskId": "task-1"})["error"]["code"] == -32601

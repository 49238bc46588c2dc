"""Runs as tasks, for clients that declare the extension; for others nothing is different."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from durable_workflows.engine.engine import Engine
from helpers import until_found
from transports import envelope

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
Launch = Callable[..., AbstractContextManager[Any]]

TASKS = "io.modelcontextprotocol/tasks"


def declaring(*extensions: str) -> Json:
    return envelope(extensions=dict.fromkeys(extensions, Json()))


class Caller:
    """A client of the newer protocol."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def ask(self, method: str, *extensions: str, **params: Any) -> Json:
        return self._server.request(method, {**params, "_meta": declaring(*extensions)})

    def start(self, *extensions: str, **arguments: Any) -> Json:
        params = {"name": "start_workflow", "arguments": arguments}
        return self.ask("tools/call", *extensions, **params)["result"]

    async def ended(self, task: str) -> Json:
        async def get() -> Json | None:
            found = self.ask("tasks/get", TASKS, taskId=task)["result"]
            return found if found["status"] != "working" else None

        return await until_found(get, f"{task} has ended")


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
    assert found == {TASKS: {}}
    args = {"name": "wait_for", "args": {"topic": "go"}}
    task = caller.start(TASKS, **args, workflow_id="task-1")
    assert (task["resultType"], task["taskId"], task["status"]) == ("task", "task-1", "working")
    assert task["ttlMs"] is None
    await shared.reader.wait(["task-1"])
    waiting = caller.ask("tasks/get", TASKS, taskId="task-1")["result"]
    assert waiting["statusMessage"].startswith("waits for a message on topic 'go'")
    assert waiting["resultType"] == "complete"
    answered = caller.ask("tasks/update", TASKS, taskId="task-1", inputResponses={"x": {}})
    assert answered["result"]["resultType"] == "complete"
    await shared.send("task-1", "go", {"yes": 1})
    ended = await caller.ended("task-1")
    assert ended["status"] == "completed"
    tool = caller.start(**args, workflow_id="task-1", wait_seconds=20)
    again = {name: tool["structuredContent"].pop(name) for name in ("existing", "note")}
    assert again["existing"]
    assert ended["result"]["structuredContent"] == tool["structuredContent"]
    assert json.loads(ended["result"]["content"][0]["text"]) == tool["structuredContent"]
    assert tool["structuredContent"]["output"] == {"yes": 1}


async def test_a_run_that_fails_is_a_task_that_is_completed(caller: Caller) -> None:
    caller.start(TASKS, name="fails", args={"message": "no card"}, workflow_id="task-2")
    ended = await caller.ended("task-2")
    assert ended["status"] == "completed"
    assert ended["result"]["structuredContent"]["error"] == "ValueError: no card"


async def test_a_task_is_cancelled(caller: Caller, shared: Engine) -> None:
    caller.start(TASKS, name="wait_for", args={"topic": "go"}, workflow_id="task-3")
    await shared.reader.wait(["task-3"])
    caller.ask("tasks/cancel", TASKS, taskId="task-3")
    ended = await caller.ended("task-3")
    assert ended["status"] == "cancelled"
    assert "result" not in ended
    assert (await shared.reader.run("task-3")).status == "CANCELLED"


async def test_all_else_is_answered_as_ever(caller: Caller) -> None:
    args: Mapping[str, Any] = {"name": "noisy"}
    assert caller.start(**args, workflow_id="task-4")["resultType"] == "complete"
    ended = caller.start(TASKS, **args, workflow_id="task-5", wait_seconds=30)
    assert ended["structuredContent"]["status"] == "SUCCESS"
    batch = caller.start(TASKS, batch=[args, args])
    assert len(batch["structuredContent"]["workflows"]) == 2
    assert caller.start(TASKS, name="nois")["isError"]


async def test_wrong_requests_are_refused(caller: Caller) -> None:
    for method in ("get", "update", "cancel"):
        unknown = caller.ask(f"tasks/{method}", TASKS, taskId="nobody")["error"]
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

"""Tasks for agents: command lines that print what claude and codex print, and model endpoints on the loopback interface."""

import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import psutil
import pytest

from durable_workflows.errors import InvalidArguments
from durable_workflows.system import processes
from helpers import until

from .home import Home, a_home

pytestmark = pytest.mark.anyio

Args = dict[str, Any]
SECRET = "sk-0123456789abcdef"
OTHER_SECRET = "short"  # in a variable that is not named like a secret
# An agent's command line. Its task says what it does: a list of [what, …], one after the other.
AGENT = """#!{python}
import json, os, subprocess, sys, time
given = sys.stdin.read() or sys.argv[-1]
about = {{name: os.environ.get(name) for name in (
    "DURABLE_WORKFLOWS_WORKFLOW_ID", "DURABLE_WORKFLOWS_STEP", "CLAUDECODE")}}
about |= {{"argv": sys.argv[1:], "cwd": os.getcwd(), "given": given, "pid": os.getpid()}}
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(about) + "\\n")
for what, *rest in json.loads(given):
    if what == "say":
        print(rest[0], flush=True)
    elif what == "event":
        print(json.dumps(rest[0]), flush=True)
    elif what == "complain":
        print(rest[0], file=sys.stderr, flush=True)
    elif what == "secret":
        print(os.environ["AGENT_API_KEY"], flush=True)
        print(os.environ["AGENT_API_KEY"], file=sys.stderr, flush=True)
    elif what == "exit":
        sys.exit(rest[0])
    elif what == "sleep":
        subprocess.Popen(["sleep", "100"])
        time.sleep(100)
"""


class Model(BaseHTTPRequestHandler):
    """A model server. The name of the model says what it answers: statuses, one after the other, then the answer."""

    requests: ClassVar[list[Args]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name: str = body["model"]
        earlier = sum(request["body"]["model"] == name for request in Model.requests)
        about = {"path": self.path, "headers": dict(self.headers.items()), "body": body}
        Model.requests.append(about | {"at": time.monotonic()})
        answers = name.split("-")[1:]
        answer = answers[min(earlier, len(answers) - 1)]
        if answer == "drop":
            self.connection.close()
        elif answer == "hang":
            threading.Event().wait(5)
        else:
            self.reply(int(answer), ANSWERS[name.split("-")[0]])

    def reply(self, status: int, answer: Any) -> None:
        sent = {"error": f"no: {self.headers.get('authorization')}"} if status >= 400 else answer
        data = json.dumps(sent).encode()
        self.send_response(status)
        self.send_header("retry-after", "1" if status == 429 else "0")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


ANSWERS: dict[str, Any] = {
    "openai": {
        "id": "chatcmpl-1",
        "choices": [
            {"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 10},
        },
    },
    "cut": {
        "choices": [{"message": {"content": "Hel"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 30},
    },
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "content": [{"type": "thinking", "thinking": "…"}, {"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 2, "cache_read_input_tokens": 10, "output_tokens": 3},
    },
    "empty": {"choices": [{"message": {"content": None, "refusal": "I must not."}}]},
    "list": ["no", "object"],
    "odd": {"content": "no", "choices": [1]},
}


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    folder = tmp_path_factory.mktemp("agents")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENT_API_KEY", SECRET)
        patch.setenv("PLAIN_NAME", OTHER_SECRET)
        patch.setenv("CLAUDECODE", "1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        async with a_home(folder / "project", "") as home:
            for name in ("claude", "codex", "other"):
                path = home.folder / name
                path.write_text(
                    AGENT.format(python=sys.executable, calls=str(home.folder / "calls")),
                    encoding="utf-8",
                )
                path.chmod(0o755)
            yield home


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
async def exhausted(home: Home, server: str) -> str:
    """A run that asks a server which is always busy: it takes its time, beside the other tests."""
    endpoint: Args = {"base_url": server, "model": "openai-503"}
    return await home.start("agent_task", {"task": "Hi", "endpoint": endpoint})


async def give(home: Home, name: str, *doings: list[Any], **fields: Any) -> Args:
    """Give one of the agents what it shall do, and return the result."""
    return await home.run("agent_task", task(home, name, *doings, **fields))


def task(home: Home, name: str, *doings: list[Any], **fields: Any) -> Args:
    return {"task": json.dumps(doings), "command": [str(home.folder / name)], **fields}


async def failure(home: Home, args: Args) -> str:
    """The class and the message of the error with which a task ends."""
    return await home.problem("agent_task", args)


def calls(home: Home) -> list[Args]:
    return [json.loads(line) for line in home.lines("calls")]


async def record(home: Home, workflow_id: str) -> Any:
    """The record of a task's step."""
    (step,) = await home.client.list_workflow_steps_async(workflow_id)
    return step["output"]


# --- claude


def claude_says(number: int, read: int, wrote: int, text: str = "Well.") -> list[Any]:
    usage = {"input_tokens": read, "cache_read_input_tokens": 1000, "output_tokens": wrote}
    content = [{"type": "text", "text": text}]
    message = {"id": f"msg_{number}", "role": "assistant", "content": content, "usage": usage}
    event = {
        "type": "assistant",
        "message": message,
        "session_id": "5e55",
        "parent_tool_use_id": None,
    }
    return ["event", event]


def claude_ends(**fields: Any) -> list[Any]:
    usage = {
        "input_tokens": 4,
        "cache_creation_input_tokens": 6,
        "cache_read_input_tokens": 2000,
        "output_tokens": 50,
    }
    event: Args = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "num_turns": 2,
        "result": "All done.",
        "session_id": "5e55",
        "total_cost_usd": 0.25,
        "usage": usage,
        "permission_denials": [],
    }
    return ["event", event | fields]


INIT: list[Any] = ["event", {"type": "system", "subtype": "init", "session_id": "5e55"}]


async def test_claude_is_asked_for_events_and_its_result_is_read(home: Home) -> None:
    doings = [INIT, ["say", "no event"], claude_says(1, 2, 1), claude_says(1, 2, 20), claude_ends()]
    result = await give(home, "claude", *doings, max_turns=5, max_tokens=100)
    assert result.pop("seconds") < 20
    assert result == {
        "answer": "All done.",
        "truncated": False,
        "over_budget": False,
        "turns": 2,
        "tokens": {"input": 2010, "cached": 2000, "output": 50},
        "cost_usd": 0.25,
        "session": "5e55",
    }
    expected = ["-p", "--output-format", "stream-json", "--max-turns", "5", "--verbose"]
    call = calls(home)[-1]
    assert call["argv"] == expected
    assert json.loads(call["given"]) == doings
    assert call["CLAUDECODE"] is None  # by that it would think that it runs inside of a session
    assert call["cwd"] == str(home.folder)


@pytest.mark.parametrize(
    ("event", "status", "said"),
    [
        (
            {"is_error": True, "result": "Invalid API key"},
            1,
            "exit status 1: success: Invalid API key",
        ),
        ({"subtype": "error_max_turns", "is_error": True, "result": None}, 1, "error_max_turns"),
        (
            {"subtype": "error_during_execution", "result": None, "errors": ["it broke"]},
            0,
            "claude: error_during_execution: it broke",
        ),
    ],
)
async def test_an_error_of_claude_is_an_error(
    home: Home, event: Args, status: int, said: str
) -> None:
    doings = [claude_says(1, 2, 20, "So far."), claude_ends(**event), ["exit", status]]
    workflow_id = await home.start("agent_task", task(home, "claude", *doings))
    run = await home.ended(workflow_id)
    assert run.status == "ERROR"
    assert "AgentFailed" in getattr(run.error, "name", "")
    assert said in str(run.error)
    recorded = await record(home, workflow_id)
    assert (recorded["exit_status"], recorded["turns"]) == (status, 2)
    assert recorded["answer"] in ("So far.", event["result"])


async def test_claude_without_a_result_has_failed(home: Home) -> None:
    assert "claude: it ended without a result" in await failure(home, task(home, "claude", INIT))


async def test_claude_is_ended_once_its_tokens_are_used_up(home: Home) -> None:
    doings = [claude_says(1, 10, 1), claude_says(1, 10, 40), claude_says(2, 11, 40), ["sleep"]]
    args = task(home, "claude", *doings, max_tokens=100)
    problem = await failure(home, args)
    assert "it has used 101 tokens of the 100 that it may; it was ended" in problem
    await until_gone(home)


async def test_a_finished_task_over_its_budget_is_not_lost(home: Home) -> None:
    result = await give(home, "claude", claude_ends(), max_tokens=59)
    assert (result["answer"], result["over_budget"]) == ("All done.", True)


async def until_gone(home: Home) -> None:
    """All that the last command started is gone."""
    group = calls(home)[-1]["pid"]

    def alive() -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if in_group(process, group)]

    await until(lambda: not alive(), "the end of the process group", seconds=10)


def in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.Error):
        return False


# --- codex


def codex_acts(number: int, kind: str = "command_execution", **fields: Any) -> list[list[Any]]:
    item = {"id": f"item_{number}", "type": kind, **fields}
    return [["event", {"type": f"item.{what}", "item": item}] for what in ("started", "completed")]


def codex_says(number: int, text: str) -> list[Any]:
    item = {"id": f"item_{number}", "type": "agent_message", "text": text}
    return ["event", {"type": "item.completed", "item": item}]


THREAD: list[Any] = ["event", {"type": "thread.started", "thread_id": "67e5"}]
USAGE = {"input_tokens": 1200, "cached_input_tokens": 200, "output_tokens": 345}
CODEX_ENDS: list[Any] = ["event", {"type": "turn.completed", "usage": USAGE}]


async def test_codex_is_asked_for_events_and_its_result_is_read(home: Home) -> None:
    reconnecting = ["event", {"type": "error", "message": "Reconnecting... 1/5"}]
    doings = [THREAD, codex_says(0, "I look."), *codex_acts(1), *codex_acts(2, "file_change")]
    doings += [["event", {"type": "item.completed", "item": {"id": "i", "type": "reasoning"}}]]
    doings += [reconnecting, codex_says(3, "Done."), CODEX_ENDS]
    command = [str(home.folder / "codex"), "--sandbox", "read-only"]
    result = await give(home, "codex", *doings, command=command, max_turns=2, max_tokens=1000)
    assert (result["answer"], result["turns"], result["session"]) == ("Done.", 2, "67e5")
    assert result["tokens"] == {"input": 1200, "cached": 200, "output": 345}
    assert result["over_budget"] is True
    assert calls(home)[-1]["argv"] == ["exec", "--sandbox", "read-only", "--json", "-"]


async def test_codex_is_ended_when_it_begins_one_action_too_many(home: Home) -> None:
    doings = [*codex_acts(1), *codex_acts(2), codex_acts(3)[0], ["sleep"]]
    problem = await failure(home, task(home, "codex", *doings, max_turns=2))
    assert "codex: it began a turn more than the 2 that it may take; it was ended" in problem
    await until_gone(home)


async def test_a_turn_of_codex_that_failed_is_an_error(home: Home) -> None:
    failed = ["event", {"type": "turn.failed", "error": {"message": "usage limit"}}]
    assert "codex: usage limit" in await failure(home, task(home, "codex", THREAD, failed))


# --- Any command


async def test_any_other_command_answers_with_what_it_writes(home: Home) -> None:
    doings = [["say", "Hello,"], ["complain", "a warning"], ["say", "world."]]
    workflow_id = await home.start("agent_task", task(home, "other", *doings))
    result = await home.output(workflow_id)
    assert result["answer"] == "Hello,\nworld.\n"
    assert (result["turns"], result["tokens"], result["truncated"]) == (None, None, False)
    assert (await record(home, workflow_id))["log"] == "a warning\n"


async def test_a_long_answer_is_cut_at_its_beginning(home: Home) -> None:
    args: Args = {"task": "-", "command": f"{sys.executable} -c \"print('ä' * 150_000 + 'end')\""}
    result = await home.run("agent_task", args)
    assert result["answer"] == "ä" * (100_000 - 4) + "end\n"
    assert result["truncated"] is True


async def test_a_task_may_be_an_argument_even_if_it_looks_like_an_option(home: Home) -> None:
    await give(home, "other", prompt="argument")
    assert calls(home)[-1]["argv"] == ["[]"]
    await give(home, "claude", claude_ends(), prompt="argument")
    assert calls(home)[-1]["argv"][-3:-1] == ["--verbose", "--"]


async def test_a_command_need_not_read_its_task(home: Home) -> None:
    args: Args = {"task": "x" * 500_000, "command": ["echo", "no need"]}
    assert (await home.run("agent_task", args))["answer"] == "no need\n"


async def test_how_a_command_failed_is_said(home: Home) -> None:
    doings = [["complain", "no credentials"], ["exit", 3]]
    assert "other: exit status 3: no credentials" in await failure(
        home, task(home, "other", *doings)
    )
    args: Args = {"task": "-", "command": "no-such-agent"}
    assert "no-such-agent: it could not be started" in await failure(home, args)


async def test_at_its_time_out_everything_that_it_started_is_ended(home: Home) -> None:
    problem = await failure(home, task(home, "other", ["sleep"], timeout_seconds=0.5))
    assert "other: it did not end within 0.5 seconds; it was ended" in problem
    await until_gone(home)


async def test_cancelling_the_run_ends_the_agent(home: Home) -> None:
    before = len(calls(home))
    workflow_id = await home.start("agent_task", task(home, "other", ["sleep"]))
    await until(lambda: len(calls(home)) > before, "the agent has begun")
    await home.engine.cancel([workflow_id])
    await until_gone(home)


async def test_secrets_of_the_environment_are_not_recorded(home: Home) -> None:
    workflow_id = await home.start("agent_task", task(home, "other", ["secret"], ["exit", 1]))
    run = await home.ended(workflow_id)
    recorded = await record(home, workflow_id)
    assert "[AGENT_API_KEY]" in str(run.error)
    assert recorded["answer"] == recorded["log"] == "[AGENT_API_KEY]\n"
    assert SECRET not in f"{run.error} {recorded}"


@pytest.mark.long
async def test_after_a_crash_the_agent_gets_its_task_again_and_can_notice(home: Home) -> None:
    before = len(calls(home))
    workflow_id = await home.start("agent_task", task(home, "other", ["sleep"]))
    await until(lambda: len(calls(home)) > before, "the agent has begun")
    await home.kill_worker()
    await until(lambda: len(calls(home)) > before + 1, "it has its task again")
    await home.engine.cancel([workflow_id])
    await until_gone(home)
    first, second = calls(home)[before:]
    assert first["DURABLE_WORKFLOWS_WORKFLOW_ID"] == workflow_id
    assert second["DURABLE_WORKFLOWS_WORKFLOW_ID"] == workflow_id
    assert (first["DURABLE_WORKFLOWS_STEP"], second["DURABLE_WORKFLOWS_STEP"]) == ("1", "1")
    assert not processes.is_alive(first["pid"])


# --- Endpoints


def ask(server: str, model: str, **fields: Any) -> Args:
    endpoint = {"base_url": server, "model": model, "key_variable": "AGENT_API_KEY"}
    return {"task": "Say hello.", "endpoint": endpoint | fields}


def asked(model: str) -> list[Args]:
    return [request for request in Model.requests if request["body"]["model"] == model]


async def test_an_openai_endpoint_is_asked(home: Home, server: str, exhausted: str) -> None:
    args = ask(server, "openai-200", system="Be kind.", options={"temperature": 0, "stream": True})
    result = await home.run("agent_task", args | {"max_tokens": 50})
    assert (result["answer"], result["turns"], result["session"]) == ("Hello.", 1, "chatcmpl-1")
    assert result["tokens"] == {"input": 12, "cached": 10, "output": 3}
    (request,) = asked("openai-200")
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {SECRET}"
    assert request["body"] == {
        "model": "openai-200",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Say hello."},
        ],
        "max_tokens": 50,
        "temperature": 0,
        "stream": False,
    }


async def test_an_anthropic_endpoint_is_asked(home: Home, server: str) -> None:
    args = ask(server, "anthropic-200", api="anthropic", system="Be kind.")
    result = await home.run("agent_task", args)
    assert result["answer"] == "Hello."
    assert result["tokens"] == {"input": 12, "cached": 10, "output": 3}
    (request,) = asked("anthropic-200")
    assert request["path"] == "/v1/messages"
    assert request["headers"]["x-api-key"] == SECRET
    assert request["headers"]["anthropic-version"] == "2023-06-01"
    assert (request["body"]["system"], request["body"]["max_tokens"]) == ("Be kind.", 4096)


async def test_an_answer_that_the_budget_cut_says_so(home: Home, server: str) -> None:
    result = await home.run("agent_task", ask(server, "cut-200") | {"max_tokens": 30})
    assert (result["answer"], result["truncated"], result["over_budget"]) == ("Hel", True, True)


@pytest.mark.parametrize("model", ["openai-429-drop-200", "openai-500-200"])
async def test_a_server_that_is_busy_or_lost_is_asked_again(
    home: Home, server: str, model: str
) -> None:
    assert (await home.run("agent_task", ask(server, model)))["answer"] == "Hello."
    requests = asked(model)
    assert len(requests) == len(model.split("-")) - 1
    if "429" in model:  # then the server asks for a second, beside the one that is waited anyway
        assert requests[1]["at"] - requests[0]["at"] > 1.8


@pytest.mark.parametrize("variable", ["AGENT_API_KEY", "PLAIN_NAME"])
async def test_any_other_error_is_final_and_shows_no_key(
    home: Home, server: str, variable: str
) -> None:
    model = f"openai-401-{len(variable)}"
    problem = await failure(home, ask(server, model, key_variable=variable))
    assert "status 401" in problem
    assert f"no: Bearer [{variable}]" in problem  # the server's answer had the key in it
    assert len(asked(model)) == 1


async def test_replies_that_are_no_answers_are_errors(home: Home, server: str) -> None:
    assert "I must not." in await failure(home, ask(server, "empty-200"))
    assert "status 200" in await failure(home, ask(server, "list-200"))
    assert "status 200" in await failure(home, ask(server, "odd-200", api="anthropic"))


async def test_a_model_that_does_not_answer_in_time_is_an_error(home: Home, server: str) -> None:
    problem = await failure(home, ask(server, "openai-hang") | {"timeout_seconds": 0.3})
    assert "openai-hang did not answer within 0.3 seconds" in problem
    assert len(asked("openai-hang")) == 1


async def test_a_key_that_is_not_there_is_named(home: Home, server: str) -> None:
    problem = await failure(home, ask(server, "openai-200", key_variable="MISSING_KEY"))
    assert "The worker's environment has no MISSING_KEY" in problem


# --- Before anything starts


async def test_what_cannot_be_is_refused(home: Home, server: str) -> None:
    wrong: list[tuple[Args, str]] = [
        ({"task": "Hi"}, "Give either `command` or `endpoint`."),
        (ask(server, "m") | {"command": "claude"}, "Give either `command` or `endpoint`."),
        (
            {"task": "Hi", "command": "other", "max_turns": 1},
            "other tells neither turns nor tokens",
        ),
        ({"task": "Hi", "command": "say 'so"}, "command: No closing quotation."),
        ({"task": "Hi", "command": []}, "command: it names no program."),
        ({"task": "Hi", "command": "true", "cwd": ".."}, "cwd '..' is outside the project"),
    ]
    for args, problem in wrong:
        assert problem in await failure(home, args), args


async def test_the_tool_refuses_what_the_schema_forbids(home: Home) -> None:
    for wrong in (
        {"endpoint": {"base_url": "http://me:secret@host", "model": "m"}},
        {"endpoint": {"base_url": "http://host", "model": "m", "key": "sk-1"}},
        {"command": "true", "max_turns": 0},
        {"command": "true", "timeout_seconds": 0},
    ):
        with pytest.raises(InvalidArguments):
            await home.start("agent_task", {"task": "Hi", **wrong})


async def test_the_catalog_tells_a_model_all_it_needs(home: Home) -> None:
    (entry,) = (await home.engine.catalog("agent_task")).workflows
    assert entry.error is None
    assert entry.summary.startswith("Give an agent")
    properties = entry.args_schema["properties"]
    assert all("description" in properties[name] for name in properties)


@pytest.mark.long
async def test_a_server_that_stays_busy_is_given_up(home: Home, exhausted: str) -> None:
    run = await home.ended(exhausted)
    assert "status 503" in str(run.error)
    assert "(tried 5 times)" in str(run.error)
    assert len(asked("openai-503")) == 5

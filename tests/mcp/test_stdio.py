"""The server as a process: it answers at once, speaks nothing but the protocol, and goes when it shall."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from durable_workflows.mcp.tools import TOOLS
from durable_workflows.settings import Settings
from durable_workflows.system import locks, places
from requirements import proves
from transports import envelope

Launch = Callable[..., AbstractContextManager[Any]]

# Speaks as soon as the transport has taken standard output: through Python, past it, and from a child.
NOISE = """
import os, subprocess, threading, time
def speak():
    while not os.path.sameopenfile(1, 2):
        time.sleep(0.005)
    print("noise", flush=True)
    os.write(1, b"noise\\n")
    subprocess.run(["echo", "noise"], check=True)
    sys.__stdout__.write("noise, not flushed")
    Path(sys.argv[1] + ".spoken").touch()
threading.Thread(target=speak).start()
"""

ENVELOPE = {"_meta": envelope()}


def test_the_first_message_is_answered_before_anything_has_started(
    nowhere: Settings, launch: Launch, held_supervisor_lock: None
) -> None:
    with launch(nowhere.project) as server:
        answer = server.initialize()
    assert answer["result"]["serverInfo"]["name"] == "durable-workflows"


def test_the_first_answer_waits_for_no_import_that_it_does_not_need(nowhere: Settings) -> None:
    code = (
        "import sys; from pathlib import Path; from durable_workflows.mcp import server; from durable_workflows.settings import Settings; "
        "server.log_plainly(); server.build_server(Settings(project=Path(sys.argv[1]))); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(nowhere.project)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    slow = {"dbos", "psycopg", "rich", "sqlalchemy"}
    ours = {f"durable_workflows.{name}" for name in ("telling", "code.catalog", "engine.engine")}
    assert not (slow | ours) & set(done.stdout.split())


def test_a_modern_client_is_served_as_well(nowhere: Settings, launch: Launch) -> None:
    with launch(nowhere.project) as server:
        found = server.request("server/discover", ENVELOPE)
        assert "2026-07-28" in found["result"]["supportedVersions"]
        tools = server.request("tools/list", ENVELOPE)["result"]["tools"]
        called = {"name": "list_workflows", "arguments": {}, **ENVELOPE}
        result = server.request("tools/call", called)["result"]
    assert len(tools) == len(TOOLS)
    assert result["isError"]
    assert "is not a directory" in result["content"][0]["text"]


def test_a_legacy_client_is_told_by_the_tool_what_cannot_start(
    nowhere: Settings, launch: Launch
) -> None:
    with launch(nowhere.project) as server:
        server.initialize()
        result = server.request("tools/call", {"name": "list_workflows", "arguments": {}})["result"]
    assert result["isError"]
    assert "is not a directory" in result["content"][0]["text"]


@proves("client:does-not-read")
def test_what_is_no_message_is_answered_with_an_error(nowhere: Settings, launch: Launch) -> None:
    deep = "[" * 300 + "]" * 300
    with launch(nowhere.project) as server:
        server.initialize()
        for line, code, number in (
            ("{not json", -32700, None),
            (f'{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{"a":{deep}}}}}', -32700, 7),
            ('{"jsonrpc":"2.0","id":"x","method":5}', -32600, "x"),
            ("[1]", -32600, None),
        ):
            server.write(line)
            answer = server.read()
            assert (answer["error"]["code"], answer["id"]) == (code, number), line
        server.write("")
        assert server.request("ping")["result"] == {}


@proves("client:does-not-read")
@pytest.mark.long
def test_of_a_client_that_does_not_read_no_more_is_taken_until_it_does(
    nowhere: Settings, launch: Launch
) -> None:
    sent = 0
    with launch(nowhere.project) as server:
        server.initialize()
        ping = b'{"jsonrpc":"2.0","id":%06d,"method":"ping"}\n'
        pipe = server.process.stdin
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        moved = time.monotonic()
        while time.monotonic() - moved < 3.0:  # so long nothing is taken
            assert sent < 20_000, "all of it was taken"
            try:  # a write of this length is whole or not at all
                sent += os.write(pipe.fileno(), ping % (100_000 + sent)) > 0
                moved = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        answered = {server.read()["id"] for _ in range(sent)}
    assert answered == {100_000 + number for number in range(sent)}


def test_nothing_but_the_protocol_reaches_the_client(nowhere: Settings, launch: Launch) -> None:
    with launch(nowhere.project, extra=NOISE) as server:
        server.initialize()
        spoken = Path(f"{nowhere.project}.spoken")
        answered = 0
        while not (answered and spoken.exists()):
            assert len(server.request("tools/list")["result"]["tools"]) == len(TOOLS)
            server.request("tools/call", {"name": "list_workflows", "arguments": {}})
            answered += 1
        server.close_input()
        rest = server.rest_of_output()
    assert [line for line in rest if "jsonrpc" not in json.loads(line)] == []


def test_a_malformed_line_does_not_end_the_connection(nowhere: Settings, launch: Launch) -> None:
    with launch(nowhere.project) as server:
        server.initialize()
        server.write("{this is no JSON")
        server.write("[]")
        assert server.request("ping")["result"] == {}


def test_the_server_ends_when_the_client_closes_its_end(nowhere: Settings, launch: Launch) -> None:
    with launch(nowhere.project) as server:
        server.initialize()
        server.close_input()
        assert server.seconds_to_exit() < 3
        assert server.process.returncode == 0


def test_what_was_asked_before_the_client_closed_its_end_is_answered(
    nowhere: Settings, launch: Launch
) -> None:
    with launch(nowhere.project) as server:
        server.initialize()
        asked = server.send("tools/list")
        assert server.answer(asked)["result"]["tools"]
        server.close_input()
        assert server.rest_of_output() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server(
    nowhere: Settings, launch: Launch, number: signal.Signals
) -> None:
    with launch(nowhere.project) as server:
        server.initialize()
        server.process.send_signal(number)
        assert server.seconds_to_exit() < 3
        assert server.process.returncode == 0


@pytest.mark.parametrize("how", ["end of input", "signal"])
def test_a_start_that_hangs_keeps_the_server_from_nothing(
    nowhere: Settings, launch: Launch, held_supervisor_lock: None, how: str
) -> None:
    with launch(nowhere.project) as server:
        server.initialize()
        server.send("tools/call", {"name": "list_workflows", "arguments": {}})
        assert server.request("ping")["result"] == {}
        if how == "signal":
            server.process.terminate()
        else:
            server.close_input()
        assert server.seconds_to_exit() < 3
        assert server.process.returncode == 0


@pytest.mark.long
def test_a_waiting_call_hears_how_the_start_goes(
    nowhere: Settings, launch: Launch, held_supervisor_lock: None
) -> None:
    call = {"name": "list_workflows", "arguments": {}, "_meta": {"progressToken": "p"}}
    with launch(nowhere.project) as server:
        server.initialize()
        server.send("tools/call", call)
        progress = server.read()
    assert progress["method"] == "notifications/progress"
    assert progress["params"]["message"] == "Starting the workflow engine"


def test_a_server_without_a_supervisor_holds_no_lock_after_it_went(
    nowhere: Settings, launch: Launch, held_supervisor_lock: None
) -> None:
    with launch(nowhere.project) as server:
        server.initialize()
        server.close_input()
        server.seconds_to_exit()
    assert not locks.is_held(places.clients_lock(nowhere), even_shared=True)

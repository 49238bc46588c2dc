"""The commands, with a project that runs."""

import json
import re
import shlex
import uuid
from pathlib import Path
from typing import Any

import pytest

from durable_workflows.cli import command_words
from helpers import copy_flow, processes_of
from requirements import proves

from .command import begin, on_terminal, run, succeed

LONG_ID = "nightly-report-of-the-shop-in-the-old-town-2026-11-23"


def read(*arguments: str, folder: Path) -> Any:
    """The JSON that a command prints."""
    return json.loads(succeed(*arguments, "--json", folder=folder))


def start(folder: Path, name: str, args: dict[str, object], workflow_id: str = "") -> str:
    """Start a run; return its id."""
    own = ["--id", workflow_id] if workflow_id else []
    started = read("start", name, "--args", json.dumps(args), *own, folder=folder)
    return started["workflow_id"]


def finish(folder: Path, name: str, args: dict[str, object]) -> str:
    """Start a run and wait for its end, which must be a good one; return its id."""
    workflow_id = uuid.uuid4().hex
    given = ["--args", json.dumps(args), "--id", workflow_id]
    succeed("start", name, *given, "--wait", folder=folder)
    return workflow_id


def test_bootstrap_says_what_is_ready_and_changes_nothing_the_second_time(running: Path) -> None:
    before = read("status", folder=running)
    output = succeed("bootstrap", folder=running)
    assert f"Ready: durable workflows in {running}" in output
    assert re.search(r"^database +embedded Postgres at 127\.0\.0\.1:\d+$", output, re.MULTILINE)
    assert re.search(r"^workflows .*\bten_steps\b", output, re.MULTILINE)
    assert (running / ".dbos" / "password").read_text(encoding="utf-8") not in output
    assert read("status", folder=running)["supervisor_pid"] == before["supervisor_pid"]


def test_status_names_the_processes_and_the_workflows(running: Path) -> None:
    output = succeed("status", folder=running)
    found = read("status", folder=running)
    assert found["running"] is True
    assert f"process {found['supervisor_pid']}" in output
    assert any(one.pid == found["supervisor_pid"] for one in processes_of(running, "supervisor"))
    assert "ten_steps" in output
    assert str(running / ".dbos" / "logs") in output
    assert found["problems"] == []
    assert "problem" not in output


def test_start_prints_the_id_and_the_same_id_again_is_the_same_run(running: Path) -> None:
    own = ["--args", '{"topic": "t"}', "--id", "again"]
    assert "started as again" in succeed("start", "wait_for", *own, folder=running)
    succeed("start", "wait_for", *own, folder=running)
    runs = read("list", "--name", "wait_for", folder=running)["workflows"]
    assert [one["workflow_id"] for one in runs].count("again") == 1
    succeed("cancel", "again", folder=running)


def test_start_with_wait_prints_the_output(running: Path) -> None:
    output = succeed("start", "noisy", "--wait", folder=running)
    assert json.loads(output) == "said"
    whole = read("start", "noisy", "--wait", folder=running)
    assert (whole["status"], whole["output"]) == ("SUCCESS", "said")


def test_start_with_wait_fails_when_the_run_does(running: Path) -> None:
    own = ["--id", "bad-luck", "--args", '{"message": "out of luck"}']
    result = run("start", "fails", *own, "--wait", folder=running)
    assert result.status == 1
    assert result.output == ""
    assert "bad-luck ended with ERROR: ValueError: out of luck" in result.errors
    assert "durable-workflows inspect bad-luck" in result.errors


def test_start_with_wait_says_what_the_run_waits_for_and_goes_on_waiting(running: Path) -> None:
    own = ["--id", "patient", "--args", '{"topic": "go ahead"}']
    command = begin("start", "wait_for", *own, "--wait", folder=running)
    assert command.stderr is not None
    hint = next(line for line in command.stderr if "waits" in line)
    assert "durable-workflows send --id patient --topic 'go ahead' --message" in hint
    assert command.poll() is None
    send = ["send", "--id", "patient", "--topic", "go ahead", "--message", '{"ok": true}']
    assert "was sent to patient" in succeed(*send, folder=running)
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 0
    assert json.loads(output) == {"ok": True}


@pytest.mark.long
def test_a_list_in_a_pipe_has_a_line_for_each_run_and_cuts_nothing(running: Path) -> None:
    start(running, "wait_for", {"topic": "the topic of a message that has a long name"}, LONG_ID)
    succeed("wait", LONG_ID, "--until", "any", folder=running)
    succeed("start", "noisy", "--wait", folder=running)
    output = succeed("list", folder=running)
    found = read("list", folder=running)["workflows"]
    head, *lines = output.splitlines()
    assert head.split() == ["ID", "NAME", "STATUS", "AGE", "NOTE"]
    assert [line.split()[:3] for line in lines] == [
        [one["workflow_id"], one["name"], one["status"]] for one in found
    ]
    assert "waits: the topic of a message that has a long name" in output
    succeed("cancel", LONG_ID, folder=running)


def test_a_list_on_a_terminal_of_80_columns_keeps_each_run_in_its_line(running: Path) -> None:
    message = "a long message about what went wrong " * 5
    for _ in range(2):
        run("start", "fails", "--args", json.dumps({"message": message}), "--wait", folder=running)
    found = read("list", "--name", "fails", "--limit", "2", folder=running)["workflows"]
    narrow = ["list", "--name", "fails", "--limit", "2"]
    head, *lines = on_terminal(*narrow, folder=running, columns=80)
    assert head.split() == ["ID", "NAME", "STATUS", "AGE", "NOTE"]
    assert max(map(len, lines)) == 80
    for line, one in zip(lines, found, strict=True):
        assert line.split()[:3] == [one["workflow_id"], "fails", "ERROR"]
        assert line.endswith("…")


@pytest.mark.long
def test_a_list_goes_on_where_the_one_before_ended(running: Path) -> None:
    for _ in range(3):
        finish(running, "noisy", {})
    first = read("list", "--limit", "2", folder=running)
    second = read("list", "--limit", "2", "--cursor", first["next_cursor"], folder=running)
    ids = [one["workflow_id"] for page in (first, second) for one in page["workflows"]]
    assert len(set(ids)) == 4


@pytest.mark.long
def test_a_list_can_be_narrowed(running: Path) -> None:
    waits = start(running, "wait_for", {"topic": "narrow"})
    finish(running, "noisy", {})
    begin_and_wait = begin(
        "start",
        "wait_for",
        "--id",
        waits,
        "--wait",
        "--args",
        '{"topic": "narrow"}',
        folder=running,
    )
    assert begin_and_wait.stderr is not None
    next(line for line in begin_and_wait.stderr if "waits" in line)
    waiting = read("list", "--waiting", folder=running)["workflows"]
    assert [one["waiting_on"] for one in waiting if one["workflow_id"] == waits] == ["narrow"]
    good = read("list", "--status", "success", "--name", "noisy", folder=running)["workflows"]
    assert {(one["status"], one["name"]) for one in good} == {("SUCCESS", "noisy")}
    succeed("cancel", waits, folder=running)
    begin_and_wait.communicate(timeout=60)
    assert begin_and_wait.returncode == 1


@pytest.mark.long
def test_inspect_shows_the_trace_as_markdown_and_a_step_as_a_whole(running: Path) -> None:
    workflow_id = finish(running, "large_outputs", {"steps": 2, "size": 100_000})
    trace = succeed("inspect", workflow_id, folder=running)
    assert trace.startswith(f"# {workflow_id}")
    assert len(trace) < 8000
    step = succeed("inspect", workflow_id, "--step", "1", folder=running)
    assert json.loads(step) == "x" * 100_000
    assert read("inspect", workflow_id, folder=running)["total_steps"] == 2
    assert (
        read("inspect", workflow_id, "--step", "2", folder=running)["output"]["length"] == 100_002
    )


@proves("hints:commands")
@pytest.mark.long
def test_what_inspect_says_to_do_next_works_as_it_is_written(running: Path) -> None:
    given = ["--args", '{"message": "call fork(workflow_id=\\"x\\", from_step=1)"}']
    run("start", "fails", *given, "--id", "to be repaired", "--wait", folder=running)
    trace = succeed("inspect", "to be repaired", folder=running)
    assert 'call fork(workflow_id="x", from_step=1)' in trace  # as the run recorded it
    following = next(line for line in trace.splitlines() if line.startswith("**Next:** "))
    commands = re.findall("`durable-workflows (.*?)`", following)
    assert [command.split()[0] for command in commands][-1] == "fork", following
    printed = [succeed(*shlex.split(command), folder=running) for command in commands]
    assert "was forked from step" in printed[-1]
    error = succeed("inspect", "--step", "0", "to be repaired", folder=running)
    assert json.loads(error)["message"].startswith("call fork(")
    source = succeed("inspect", "--detail", "source", "to be repaired", folder=running)
    assert "def fails(" in source


def test_inspect_on_a_terminal_shows_recorded_data_as_they_are(running: Path) -> None:
    workflow_id = "__init__"
    given = ["--args", '{"message": "<b> **not** [bold] __main__.py"}', "--id", workflow_id]
    run("start", "fails", *given, "--wait", folder=running)
    lines = on_terminal("inspect", workflow_id, folder=running, columns=80)
    assert lines[0].startswith("__init__: fails ERROR")
    assert lines[1].startswith("Why:")
    assert "<b> **not** [bold] __main__.py" in "\n".join(lines)


@pytest.mark.long
def test_a_message_with_an_idempotency_key_arrives_once(running: Path) -> None:
    workflow_id = start(running, "collect", {"topic": "t", "count": 2})
    send = ["send", "--id", workflow_id, "--topic", "t", "--message"]
    for _ in range(3):
        succeed(*send, '"one"', "--idempotency-key", "k", folder=running)
    succeed(*send, '"two"', folder=running)
    given = ["--id", workflow_id, "--args", '{"topic": "t", "count": 2}']
    assert json.loads(succeed("start", "collect", *given, "--wait", folder=running)) == [
        "one",
        "two",
    ]


def test_a_fork_runs_the_steps_from_there_on(running: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    original = finish(running, "ten_steps", {"file": str(lines)})
    forked = read("fork", original, "8", folder=running)["workflow_id"]
    given = ["--id", forked, "--args", json.dumps({"file": str(lines)})]
    succeed("start", "ten_steps", *given, "--wait", folder=running)
    written = lines.read_text(encoding="utf-8").split()
    assert written == [str(one) for one in [*range(1, 11), 8, 9, 10]]
    text = succeed("fork", original, "10", "--same-version", folder=running)
    assert text.startswith(f"{original} was forked from step 10 as ")


@pytest.mark.long
def test_ended_runs_can_be_deleted_and_pruned(running: Path) -> None:
    going_on = start(running, "wait_for", {"topic": "t"})
    ids = [read("start", "noisy", "--wait", folder=running)["workflow_id"] for _ in range(3)]
    assert succeed("delete", ids[0], folder=running) == f"{ids[0]}  SUCCESS  deleted\n"
    kept = run("delete", going_on, folder=running)
    assert (kept.status, kept.output) == (
        1,
        f"{going_on}  PENDING  {going_on} has not ended: cancel it first, or wait until it has\n",
    )
    choice = ["--older-than", "0m", "--name", "noisy", "--keep-last", "1"]
    assert succeed("prune", *choice, "--dry-run", folder=running).startswith("Would delete ")
    assert succeed("prune", *choice, folder=running).startswith("Deleted ")
    left = read("list", "--name", "noisy", folder=running)["workflows"]
    assert [one["workflow_id"] for one in left] == [ids[2]]
    assert (
        "'a month' is not an age" in run("prune", "--older-than", "a month", folder=running).errors
    )
    succeed("cancel", going_on, folder=running)


@pytest.mark.long
def test_cancelled_runs_can_be_resumed(running: Path) -> None:
    ids = [start(running, "wait_for", {"topic": "t"}) for _ in range(2)]
    text = succeed("cancel", *ids, folder=running)
    assert [line.split() for line in text.splitlines()] == [
        [one, "CANCELLED", "cancelled"] for one in ids
    ]
    assert "resumed" in succeed("resume", ids[0], folder=running)
    changed = read("resume", ids[0], folder=running)["workflows"]
    assert [one["changed"] for one in changed] == [False]
    succeed("cancel", ids[0], folder=running)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "noise"], "There is no workflow 'noise'. Did you mean 'noisy'"),
        (["start", "wait_for"], "'topic'"),
        (["start", "wait_for", "--args", '{"topik": "t"}'], "'topik'"),
        (["start", "noisy", "--queue", "none"], "There is no queue 'none'"),
        (["inspect", "not-there"], "There is no run 'not-there'"),
        (["send", "--id", "not-there", "--message", "1"], "There is no run 'not-there'"),
        (["fork", "not-there", "1"], "There is no run 'not-there'"),
        (["move-to-version", "not-there"], "There is no run 'not-there'"),
        (["move-to-version"], "Give either workflow_ids or filter"),
        (["cancel", "not-there"], "There is no run 'not-there'"),
        (["resume", "not-there"], "There is no run 'not-there'"),
        (["list", "--cursor", "page-2"], "'page-2' is not a cursor"),
    ],
)
@proves("request:refused")
def test_what_cannot_be_done_is_said_with_a_hint_and_exits_with_1(
    arguments: list[str], said: str, running: Path
) -> None:
    result = run(*arguments, folder=running)
    assert result.status == 1
    assert result.output == ""
    first, hint = result.errors.splitlines()
    assert first.startswith("Error: ")
    assert said in first
    assert hint
    tools = [name for name in command_words.FORMS if "_" in name]
    assert not [name for name in tools if name in hint]


@pytest.mark.long
def test_a_workflow_file_that_does_not_load_is_a_problem_that_status_names(folder: Path) -> None:
    copy_flow("odd", folder)
    broken = folder / "workflows" / "broken.py"
    broken.write_text(
        "from dbos import DBOS\n\nmissing_name\n\n\n@DBOS.workflow()\ndef sad() -> None: ...\n",
        encoding="utf-8",
    )
    output = succeed("bootstrap", folder=folder)
    assert "noisy" in output
    problem = next(line for line in output.splitlines() if line.startswith("problem"))
    assert "sad in workflows/broken.py does not load" in problem
    assert "missing_name" in problem


@proves("shutdown:nothing-left")
@pytest.mark.long
def test_after_shutdown_nothing_runs_and_what_was_recorded_is_there(folder: Path) -> None:
    copy_flow("odd", folder)
    workflow_id = finish(folder, "noisy", {})
    assert {"supervisor", "worker", "pglite.mjs"} == {
        role for role in ("supervisor", "worker", "pglite.mjs") if processes_of(folder, role)
    }
    assert "have ended" in succeed("shutdown", folder=folder)
    assert processes_of(folder) == []
    assert "Nothing was running" in succeed("shutdown", folder=folder)
    stopped = succeed("status", folder=folder)
    assert "Nothing is running" in stopped
    assert "problem" not in stopped
    assert processes_of(folder) == []
    listed = read("list", folder=folder)["workflows"]
    assert [one["workflow_id"] for one in listed] == [workflow_id]

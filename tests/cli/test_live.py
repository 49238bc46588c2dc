"""Commands that show what goes on while it does: run, wait, dashboard; and approve, by which a person takes part."""

import json
import os
import pwd
import re
import shlex
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import anyio
import pytest
from pydantic import JsonValue

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import processes
from helpers import copy_flow, processes_of, until_found
from requirements import proves

from .command import Terminal, begin, on_own_terminal, run, succeed, terminal

pytestmark = pytest.mark.anyio

PACED = "workflows/paced.py"


def read(*arguments: str, folder: Path) -> Any:
    """The JSON that a command prints."""
    return json.loads(succeed(*arguments, "--json", folder=folder))


def seen(lines: Iterator[str], text: str) -> list[str]:
    """The lines up to the one that has the text."""
    found: list[str] = []
    for line in lines:
        found.append(line.rstrip("\n"))
        if text in line:
            return found
    raise AssertionError(f"{text!r} did not come:\n" + "\n".join(found))


def errors_of(command: Popen[str]) -> Iterator[str]:
    assert command.stderr is not None
    return iter(command.stderr)


async def begun(runs: Engine, name: str, own: str, /, **args: JsonValue) -> None:
    """Start a run, and wait until it waits or has ended."""
    await runs.start(StartRequest(name=name, args=args, workflow_id=own))
    result = await runs.reader.wait([own])
    assert not result.timed_out


async def finished(command: Popen[str], runs: Engine, own: str) -> tuple[str, str]:
    """Give a paced run its message, and the command its end."""
    await runs.send(own, "go", 1)
    return command.communicate(timeout=60)


# run


async def test_run_shows_steps_prints_and_waits_as_they_come_and_prints_the_output(
    running: Path, runs: Engine
) -> None:
    given = ["--args", '{"name": "tea"}', "--id", "tea"]
    command = begin("run", PACED, *given, folder=running)
    lines = errors_of(command)
    assert seen(lines, "was started")[-1] == "in_its_own_time was started as tea"
    before = seen(lines, "waits")
    assert "  | preparing tea" in before
    assert "  | tea is not tidy" in before
    assert any(re.fullmatch(r"step 1  prepare  [\d.]+ m?s", line) for line in before)
    assert 'event prepared: "TEA"' in before
    assert before[-1] == (
        "tea waits for a message on 'go': durable-workflows send --id tea --topic go --message JSON"
    )
    assert command.poll() is None
    output, after = await finished(command, runs, "tea")
    assert command.returncode == 0
    assert json.loads(output) == "TEA"
    assert re.search(r"^step \d+  finish  [\d.]+ m?s$", after, re.MULTILINE)
    everything = "\n".join(before) + after
    assert [everything.count(f"  {name}  ") for name in ("prepare", "finish")] == [1, 1]


async def test_run_fails_as_the_run_does(running: Path, runs: Engine) -> None:
    given = ["--args", '{"name": "broken"}', "--id", "broken", "--json"]
    command = begin("run", PACED, *given, folder=running)
    seen(errors_of(command), "waits")
    output, errors = await finished(command, runs, "broken")
    assert command.returncode == 1
    assert (json.loads(output)["status"], json.loads(output)["output"]) == ("ERROR", None)
    assert re.search(r"finish  .*failed: ValueError: it broke", errors)
    assert "durable-workflows inspect broken" in errors


async def test_an_interrupted_run_goes_on_and_can_be_found_again(
    running: Path, runs: Engine, tmp_path: Path
) -> None:
    lines, go_on = tmp_path / "lines", tmp_path / "lines.go"
    given = ["--args", json.dumps({"file": str(lines)}), "--id", "on-and-on"]
    command = begin("run", "workflows/held.py", *given, folder=running)
    seen(errors_of(command), "step 1")
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=60)
    assert (command.returncode, output) == (1, "")
    assert "The run goes on." in errors
    assert "`durable-workflows wait on-and-on`" in errors
    assert "`durable-workflows inspect on-and-on`" in errors
    go_on.touch()
    again = run("run", "workflows/held.py", *given, folder=running)
    assert again.status == 0, "the same id is the same run"
    assert lines.read_text(encoding="utf-8").split() == ["before", "after"]
    steps = [line.split()[1] for line in again.errors.splitlines() if line.startswith("step")]
    assert steps == ["1", "2", "3"]


@pytest.mark.long
async def test_of_a_long_run_every_step_is_shown_once(running: Path, runs: Engine) -> None:
    await begun(runs, "ten_steps", "long", file=os.devnull, steps=1300)
    args = json.dumps({"file": os.devnull, "steps": 1300})
    given = ["--args", args, "--id", "long"]
    result = run("run", "workflows/ten_steps.py", *given, folder=running)
    steps = [line.split()[1] for line in result.errors.splitlines() if line.startswith("step")]
    assert steps == [str(one) for one in range(1, 1301)]


def test_run_on_a_terminal_shows_the_step_that_runs(running: Path, tmp_path: Path) -> None:
    args = json.dumps({"file": str(tmp_path / "lines")})
    command = on_own_terminal("run", "workflows/held.py", "--args", args)
    with terminal(command, folder=running) as person:
        person.sees("step 2 hold since")
        (tmp_path / "lines.go").touch()
        person.sees("step 2  hold  ")
        assert person.leaves() == 0


@proves("request:refused")
@pytest.mark.parametrize(
    ("file", "said", "fix"),
    [
        ("workflows/nothing.py", "There is no file workflows/nothing.py.", "durable-workflows new"),
        ("outside.py", "is not in the project's workflow folder", "Move it there"),
        ("workflows/helper.py", "workflows/helper.py defines no workflow.", "@DBOS.workflow()"),
        (
            "workflows/messages.py",
            "defines several workflows: collect, wait_for.",
            "durable-workflows start collect --wait",
        ),
    ],
)
def test_a_file_that_cannot_be_run_is_said_with_the_fix(
    file: str, said: str, fix: str, running: Path
) -> None:
    (running / "outside.py").write_text("x = 1\n", encoding="utf-8")
    result = run("run", file, folder=running)
    assert (result.status, result.output) == (1, "")
    first, hint = result.errors.splitlines()
    assert said in first
    assert fix in hint


@pytest.mark.parametrize("absolute", [False, True])
def test_run_takes_a_file_from_anywhere_and_checks_its_arguments(
    absolute: bool, running: Path, tmp_path: Path
) -> None:
    file = str(running / PACED) if absolute else PACED
    given = ["--project", str(running), "--args", '{"nme": "x"}']
    result = run("run", file, *given, folder=tmp_path)
    assert result.status == 1
    assert "'nme' is not an argument (did you mean 'name'?)" in result.errors


# wait


@pytest.mark.long
async def test_wait_tells_a_script_whether_it_may_go_on(running: Path, runs: Engine) -> None:
    for own in ("first", "second"):
        await begun(runs, "in_its_own_time", own, name=own)
    waiting = run("wait", "first", "second", folder=running)
    assert waiting.status == 1
    assert [line.split()[:2] for line in waiting.output.splitlines()] == [
        ["first", "waits"],
        ["second", "waits"],
    ]
    assert "Waiting for an answer: first, second." in waiting.errors
    assert (
        "Answer with `durable-workflows send --id first --topic go --message JSON`"
        in waiting.errors
    )
    over = run("wait", "first", "--until", "ended", "--timeout", "0.5", folder=running)
    assert over.status == 1
    assert "The time is up." in over.errors
    command = begin("wait", "first", "second", "--until", "ended", folder=running)
    seen(errors_of(command), "first waits")
    await runs.send("first", "go", 1)
    assert command.poll() is None
    output, _ = await finished(command, runs, "second")
    assert command.returncode == 0
    assert output.splitlines() == ['first  SUCCESS  "FIRST"', 'second  SUCCESS  "SECOND"']
    found = read("wait", "first", "second", "--until", "any", folder=running)
    assert [one["output"] for one in found["done"]] == ["FIRST", "SECOND"]


async def test_wait_fails_with_a_run_that_did_not_succeed(running: Path, runs: Engine) -> None:
    await begun(runs, "fails", "sad", message="out of luck")
    result = run("wait", "sad", folder=running)
    assert result.status == 1
    assert result.output == "sad  ERROR  ValueError: out of luck\n"
    assert "Run `durable-workflows inspect sad` to see what happened." in result.errors


# inspect --log


async def test_inspect_shows_what_a_run_printed_and_logged(running: Path, runs: Engine) -> None:
    await begun(runs, "talk", "talker", lines=3)
    await until_found(lambda: last_line(runs), "the end of the log")
    lines = succeed("inspect", "talker", "--log", folder=running).splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  ", line) for line in lines)
    rest = [line[25:].split(maxsplit=3) for line in lines]
    assert ["workflow", "out", "from", "the workflow"] in rest
    assert ["step", "1", "out", "line 2"] in rest
    assert ["step", "1", "WARNING", "a warning of the step"] in rest
    newest = read("inspect", "talker", "--log", "--lines", "1", folder=running)
    assert [one["text"] for one in newest] == ["no line feed"]


async def last_line(runs: Engine) -> bool:
    return "no line feed" in [line.text for line in await runs.reader.log("talker")]


# dashboard


@pytest.mark.long
async def test_the_dashboard_shows_runs_waits_queues_and_workers_in_a_pipe(
    running: Path, runs: Engine
) -> None:
    own = f"wait-{uuid.uuid4()}"
    await begun(runs, "wait_for", own, topic="news")
    output = succeed("dashboard", folder=running)
    found = read("dashboard", folder=running)
    assert found["counts"]["PENDING"] >= 1
    assert [one["topic"] for one in found["waiting"] if one["workflow_id"] == own] == ["news"]
    assert "workflows" in [one["name"] for one in found["queues"]]
    assert [one["alive"] for one in found["workers"]] == [True]
    [worker] = [one["version"] for one in found["workers"]]
    for line in (
        r"RUNS\n.*\d+ PENDING.*",
        rf"{own} +wait_for +PENDING +\d+ s +waits: news",
        rf"{own} +news +\d+ s +in .*",
        r"workflows +\d+ +0 +500 per worker",
        rf"{worker} +\d+ .* ready .*",
    ):
        assert re.search(rf"^{line}$", output, re.MULTILINE), output
    await runs.cancel([own])


async def test_the_dashboard_on_a_terminal_of_80_columns_keeps_its_lines_and_lives(
    running: Path, runs: Engine
) -> None:
    own = f"{uuid.uuid4()}-with-a-long-end-that-does-not-fit-into-any-line-of-eighty-columns"
    topic = "a topic whose name is long enough to be cut"
    with terminal(on_own_terminal("dashboard", "--watch"), folder=running) as person:
        person.sees("NEWEST RUNS")
        await begun(runs, "wait_for", own, topic=topic)
        person.sees(own[:12])
        person.sees("a topic ")
        person.interrupts()
        assert person.leaves() == 0
        assert max(map(len, person.screen.splitlines())) <= 80
    with terminal(on_own_terminal("dashboard"), folder=running) as person:
        assert person.leaves() == 0
        pictured = [line for line in person.screen.splitlines() if own[:12] in line]
        assert len(pictured) == 2, "among the runs, and among those that wait"
        assert max(map(len, person.screen.splitlines())) <= 80
    await runs.cancel([own])


async def test_a_watched_dashboard_in_a_pipe_is_a_line_of_json_at_each_change(
    running: Path, runs: Engine
) -> None:
    command = begin("dashboard", "--watch", "--json", folder=running)
    assert command.stdout is not None
    shown = json.loads(command.stdout.readline())
    await begun(runs, "in_its_own_time", "watched", name="watched")
    # The log is read after the runs: it may have the line of a run that is not among them yet.
    while "preparing watched" not in [one["text"] for one in shown["log"]] or "watched" not in [
        one["workflow_id"] for one in shown["newest"]
    ]:
        before, shown = shown, json.loads(command.stdout.readline())
        assert shown != before
    assert shown["newest"][0]["workflow_id"] == "watched"
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=30)
    assert (command.returncode, errors) == (0, "")
    await runs.cancel(["watched"])


@pytest.mark.long
def test_a_watched_dashboard_ends_with_the_project_and_does_not_start_it_again(
    folder: Path,
) -> None:
    copy_flow("odd", folder)
    command = begin("dashboard", "--watch", folder=folder)
    assert command.stdout is not None
    seen(iter(command.stdout), "WORKER")
    anyio.run(lifecycle.shut_down, Settings(project=folder))
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 0
    assert f"Nothing is running for {folder} any more" in errors
    assert processes_of(folder) == []


# approve


ANSWERS = {
    "  1  approve\n  2  reject\nverdict: ": "approve",
    "amount (in euros) (a number): ": "2.5",
    "copies (a whole number) [1]: ": "",
    "note [none]: ": "with care",
}


@pytest.fixture
async def asking(runs: Engine) -> AsyncIterator[str]:
    """A run that asks a person."""
    own = f"ask-{uuid.uuid4().hex[:8]}"
    await begun(runs, "in_its_own_time", own, name="cake", question=True)
    yield own
    await runs.cancel([own])


def fill_in(person: Terminal) -> None:
    """Answer what `Decision` asks, in whichever order."""
    open_questions = dict(ANSWERS)
    while open_questions:
        question = person.sees_one_of(open_questions)
        person.types(open_questions.pop(question))
    person.sees("Send it? [y/N]: ")


async def test_a_person_sees_what_is_asked_answers_and_confirms(
    asking: str, running: Path, runs: Engine
) -> None:
    # The name in the environment is not believed.
    command = on_own_terminal("approve", asking)
    with terminal(command, folder=running, LOGNAME="mallory", USER="mallory") as person:
        shown = person.sees("Finish cake?")
        assert re.search(rf"^run +{asking}, in_its_own_time$", shown, re.MULTILINE)
        assert re.search(r'^arguments +{"name": "cake", "question": true}$', shown, re.MULTILINE)
        assert re.search(r"^topic +verdict$", shown, re.MULTILINE)
        assert re.search(r"^waits +since .* UTC, until .* UTC \(in 59 min", shown, re.MULTILINE)
        fill_in(person)
        sent = person.screen.split("This will be sent: ")[1].splitlines()[0]
        assert json.loads(sent) == {
            "verdict": "approve",
            "amount": 2.5,
            "copies": 1,
            "note": "with care",
        }
        person.types("y")
        person.sees(f"The answer was sent to {asking}.")
        assert person.leaves() == 0
    result = await runs.reader.wait([asking])
    assert result.done[0].output == "CAKE approve 2.5 1 with care"
    database = Settings(project=running).database(runs.connection.url)
    async with await tables.connect(database, role="test") as connection:
        cursor = await connection.execute(
            "select who, how, shown from durable_workflows.answers where workflow_id = %s",
            [asking],
        )
        [noted] = await cursor.fetchall()
    assert noted["who"] == pwd.getpwuid(os.getuid()).pw_name != "mallory"
    assert noted["how"] == "terminal"
    assert noted["shown"]["prompt"] == "Finish cake?"
    assert noted["shown"]["text"] in person.screen
    assert '"name": "cake"' in noted["shown"]["text"]


async def test_without_a_confirmation_nothing_is_sent(
    asking: str, running: Path, runs: Engine
) -> None:
    with terminal(on_own_terminal("approve", asking), folder=running) as person:
        fill_in(person)
        person.types("")
        person.sees("Nothing was sent.")
        assert person.leaves() == 1
    with terminal(on_own_terminal("approve", asking), folder=running) as person:
        person.sees_one_of(ANSWERS)
        person.interrupts()
        assert person.leaves() == 1
    assert (await runs.reader.waits(asking))[0].topic == "person:verdict"
    assert await runs.reader.messages(asking) == []


async def test_what_was_answered_meanwhile_is_not_answered_again(
    asking: str, running: Path, runs: Engine
) -> None:
    with terminal(on_own_terminal("approve", asking), folder=running) as slow:
        fill_in(slow)
        [wait] = await runs.reader.waits(asking)
        await runs.answer(wait, {"verdict": "reject", "amount": 1}, who="somebody", how="test")
        await runs.reader.wait([asking])
        slow.types("y")
        slow.sees("Error: ")
        assert slow.leaves() == 1
    result = await runs.reader.wait([asking])
    assert result.done[0].output == "CAKE reject 1.0 1 None"


async def test_a_plain_wait_is_answered_with_json_or_a_text(running: Path, runs: Engine) -> None:
    own = f"plain-{uuid.uuid4().hex[:8]}"
    await begun(runs, "wait_for", own, topic="t")
    with terminal(on_own_terminal("approve", own, "--topic", "t"), folder=running) as person:
        person.sees("The run waits for a message.")
        person.sees("Answer (JSON or text): ")
        person.types("go ahead")
        person.sees('This will be sent: "go ahead"')
        person.types("y")
        assert person.leaves() == 0
    assert (await runs.reader.wait([own])).done[0].output == "go ahead"


async def test_of_several_waits_the_person_chooses(running: Path, runs: Engine) -> None:
    own = f"both-{uuid.uuid4().hex[:8]}"
    await begun(runs, "wait_for_both", own)
    await until_found(lambda: two_waits(runs, own), "both waits")
    with terminal(on_own_terminal("approve", own), folder=running) as person:
        person.sees("  1  left · Which?\n  2  right\nWhich: ")
        person.types("2")
        person.sees("topic      right")
        person.types('"to the right"')
        person.types("y")
        assert person.leaves() == 0
    with terminal(on_own_terminal("approve", own), folder=running) as person:
        person.sees("topic      left")
        person.types("true")
        person.types("y")
        assert person.leaves() == 0
    assert (await runs.reader.wait([own])).done[0].output == [True, "to the right"]


async def two_waits(runs: Engine, own: str) -> bool:
    return len(await runs.reader.waits(own)) == 2


async def test_approve_says_when_there_is_nothing_to_answer(
    asking: str, running: Path, runs: Engine
) -> None:
    await begun(runs, "noisy", "over")
    for arguments, said in (
        (["over"], "over is not waiting for anything now; its status is SUCCESS."),
        (["nobody"], "There is no run 'nobody'."),
        ([asking, "--topic", "other"], f"{asking} waits on 'verdict', not on 'other'."),
    ):
        with terminal(on_own_terminal("approve", *arguments), folder=running) as person:
            person.sees(f"Error: {said}"[:79])
            assert person.leaves() == 1


async def test_approve_insists_on_a_terminal_at_both_ends(
    asking: str, running: Path, runs: Engine
) -> None:
    result = run("approve", asking, folder=running)
    assert (result.status, result.output) == (1, "")
    assert "for people only" in result.errors
    assert "durable-workflows send" in result.errors
    for one_end in ("< /dev/null", "> /dev/null"):
        command = f"{shlex.join(on_own_terminal('approve', asking))} {one_end}"
        with terminal(["sh", "-c", command], folder=running) as person:
            person.sees("for people only")
            assert person.leaves() == 1
    assert await runs.reader.messages(asking) == []


@proves("person:asked-by-child")
@pytest.mark.long
async def test_approve_finds_what_the_runs_ask_that_a_run_started(
    running: Path, runs: Engine
) -> None:
    own = f"all-{uuid.uuid4().hex[:8]}"
    items: list[JsonValue] = [{"name": name, "question": True} for name in ("cake", "tea")]
    await begun(runs, "fan_out", own, workflow="in_its_own_time", items=items)

    async def both_ask() -> bool:
        return len(await runs.reader.questions(own)) == 2

    await until_found(both_ask, "both children ask")
    with terminal(on_own_terminal("approve", own), folder=running, columns=200) as person:
        listed = person.sees("Which: ").splitlines()
        place = next(line.split()[0] for line in listed if "Finish tea?" in line)
        assert all(f"{own}-" in line for line in listed if "Finish" in line)
        person.types(place)
        person.sees(f"started by {own}")
        fill_in(person)
        person.types("y")
        person.sees("The answer was sent to ")
        assert person.leaves() == 0
    with terminal(on_own_terminal("approve", own), folder=running) as person:
        assert "Which" not in person.sees("Finish cake?")
        fill_in(person)
        person.types("y")
        assert person.leaves() == 0
    assert (await runs.reader.wait([own], timeout_seconds=30)).done[0].status == "SUCCESS"


@proves("person:only")
async def test_approve_refuses_to_run_where_a_step_of_a_run_has_started_it(
    asking: str, running: Path, runs: Engine
) -> None:
    marker = {processes.MARKER: "a worker's id"}
    command = on_own_terminal("approve", asking)
    without = shlex.join(["env", "-u", processes.MARKER, *command])
    for words in (command, ["sh", "-c", f"{without}; exit $?"]):
        with terminal(words, folder=running, columns=200, **marker) as person:
            person.sees("Error: A step of a run started this process")
            assert person.leaves() == 1
            assert "Finish cake?" not in person.screen
    assert await runs.reader.messages(asking) == []


# Completion


def complete(line: str, folder: Path) -> list[str]:
    """The words that a shell offers after the line."""
    words = line.split(" ")
    output = succeed(
        folder=folder,
        _DURABLE_WORKFLOWS_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
    )
    return output.split()


@pytest.mark.long
async def test_a_shell_completes_ids_topics_names_and_templates(
    asking: str, running: Path, runs: Engine
) -> None:
    await begun(runs, "noisy", "completed-one")
    assert complete("durable-workflows inspect completed-", running) == ["completed-one"]
    assert complete("durable-workflows send --id completed-", running) == ["completed-one"]
    assert complete("durable-workflows start in_its", running) == ["in_its_own_time"]
    assert complete(f"durable-workflows approve {asking} --topic ver", running) == ["verdict"]
    assert "basic_workflow" in complete("durable-workflows new bas", running)
    assert complete("durable-workflows move-to-version --version la", running) == ["latest"]
    assert "approve" in complete("durable-workflows appr", running)


def test_completion_starts_nothing(tmp_path: Path) -> None:
    copy_flow("odd", tmp_path)
    assert complete("durable-workflows inspect ", tmp_path) == []
    assert complete("durable-workflows start nois", tmp_path) == ["noisy"]
    assert complete("durable-workflows inspect --project /nowhere ", tmp_path) == []
    assert not (tmp_path / ".dbos").exists()

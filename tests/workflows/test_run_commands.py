"""The workflow `run_commands`, in a real host: order, failures, processes, and what a crash leaves."""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, TypedDict, cast

import psutil
import pytest
from pydantic import TypeAdapter

from .host import Host, load, wait_until


class Command(TypedDict, total=False):
    """As in the workflow, for the tests' own commands."""

    name: str
    run: str | list[str]
    needs: list[str]
    cwd: str
    timeout_seconds: float
    retries: int
    env: dict[str, str]
    allow_failure: bool


def run(host: Host, *commands: Command, **arguments: object) -> dict[str, Any]:
    return host.result(host.begin("run_commands", {"commands": list(commands), **arguments}))


def run_one(host: Host, text: str | list[str], **fields: Any) -> dict[str, Any]:
    """The outcome of one command."""
    command = cast(Command, {"name": "one", "run": text, **fields})
    return run(host, command)["commands"]["one"]


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {name: outcome["status"] for name, outcome in report["commands"].items()}


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.exists() else []


# --- Order


def test_independent_commands_run_at_the_same_time(host: Host, tmp_path: Path) -> None:
    def meet(mine: str, other: str) -> Command:
        text = f"touch {mine}; until [ -e {other} ]; do sleep 0.02; done"
        return {"name": mine, "run": f"cd {tmp_path}; {text}", "timeout_seconds": 20}

    report = run(host, meet("left", "right"), meet("right", "left"))
    assert report["ok"] is True


def test_no_more_run_at_once_than_parallel_allows(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = f"echo begin >> {log}; sleep 0.1; echo end >> {log}"
    commands: list[Command] = [{"name": f"c{number}", "run": text} for number in range(4)]
    run(host, *commands, parallel=1)
    assert lines(log) == ["begin", "end"] * 4


def test_a_command_starts_when_all_that_it_needs_has_succeeded(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "log"
    report = run(
        host,
        {"name": "last", "run": f"echo last >> {log}", "needs": ["slow", "quick"]},
        {"name": "slow", "run": f"until [ -s {log} ]; do sleep 0.02; done; echo slow >> {log}"},
        {"name": "quick", "run": f"echo quick >> {log}"},
    )
    assert statuses(report) == {"last": "ok", "slow": "ok", "quick": "ok"}
    assert lines(log) == ["quick", "slow", "last"]


def test_each_command_is_a_step_with_its_name_at_its_place_in_the_list(host: Host) -> None:
    workflow_id = host.begin(
        "run_commands",
        {
            "commands": [
                {"name": "third to run", "run": "true", "needs": ["second to run"]},
                {"name": "second to run", "run": "true", "needs": ["first to run"]},
                {"name": "first to run", "run": "true"},
            ]
        },
    )
    report = host.result(workflow_id)
    assert host.steps(workflow_id) == {1: "third to run", 2: "second to run", 3: "first to run"}
    step = host.client.list_workflow_steps(workflow_id)[0]
    outcome = report["commands"]["third to run"]
    assert outcome.pop("status") == "ok"
    assert step["output"] == outcome


# --- Failures


def test_a_failure_skips_what_needs_it_and_nothing_else(host: Host) -> None:
    report = run(
        host,
        {"name": "compile", "run": "echo no; exit 3"},
        {"name": "test", "run": "true", "needs": ["docs", "compile"]},
        {"name": "publish", "run": "true", "needs": ["test"]},
        {"name": "docs", "run": "true"},
    )
    assert (report["ok"], report["failed"]) == (False, ["compile"])
    assert report["skipped"] == ["test", "publish"]
    assert report["commands"]["test"] == {"status": "skipped", "because": ["compile"]}
    assert report["commands"]["publish"] == {"status": "skipped", "because": ["test"]}
    assert report["commands"]["docs"]["status"] == "ok"
    compile_ = report["commands"]["compile"]
    assert compile_.pop("seconds") >= 0
    assert compile_ == {
        "status": "failed",
        "exit_code": 3,
        "output": "no\n",
        "truncated": False,
        "attempts": 1,
        "timed_out": False,
    }


def test_an_allowed_failure_stops_nothing(host: Host) -> None:
    report = run(
        host,
        {"name": "lint", "run": "exit 1", "allow_failure": True},
        {"name": "test", "run": "true", "needs": ["lint"], "allow_failure": True},
    )
    assert (report["ok"], report["failed"], report["skipped"]) == (True, [], [])
    assert report["commands"]["lint"]["status"] == "failed"
    assert report["commands"]["lint"]["allowed"] is True
    assert "allowed" not in report["commands"]["test"]


def test_a_failed_command_is_tried_again_as_often_as_retries_says(
    host: Host, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    text = f"echo try >> {log}; [ $(wc -l < {log}) = 2 ]"
    report = run(
        host,
        {"name": "second", "run": text, "retries": 5},
        {"name": "never", "run": "exit 9", "retries": 1},
    )
    attempts = {name: outcome["attempts"] for name, outcome in report["commands"].items()}
    assert attempts == {"second": 2, "never": 2}
    assert statuses(report) == {"second": "ok", "never": "failed"}
    assert lines(log) == ["try"] * 2


def test_a_command_that_cannot_be_started_has_failed(host: Host) -> None:
    outcome = run_one(host, ["no-such-program"])
    assert (outcome["status"], outcome["exit_code"]) == ("failed", 127)
    assert "could not be started" in outcome["output"]
    assert "no-such-program" in outcome["output"]
    assert run_one(host, ["echo", "\0"])["exit_code"] == 127


def test_the_signal_that_ended_a_command_is_its_negative_exit_code(host: Host) -> None:
    outcome = run_one(host, "kill -9 $$")
    assert (outcome["status"], outcome["exit_code"]) == ("failed", -9)


# --- Processes


def test_a_list_is_run_without_a_shell(host: Host) -> None:
    assert run_one(host, ["echo", "$HOME; `id`"])["output"] == "$HOME; `id`\n"


def test_stdin_is_empty_and_both_outputs_are_kept(host: Host) -> None:
    assert run_one(host, "cat; echo out; echo err >&2")["output"] == "out\nerr\n"


def test_the_environment_is_inherited_and_extended(host: Host) -> None:
    outcome = run_one(host, "echo $COLOUR $WORKFLOW_TESTS_MARK", env={"COLOUR": "blue"})
    assert outcome["output"] == f"blue {host.mark}\n"


@pytest.mark.long
def test_a_time_out_ends_the_whole_group_and_what_defies_sigterm_too(host: Host) -> None:
    text = "trap '' TERM; echo begun; sleep 300 & sleep 300"
    outcome = run_one(host, text, timeout_seconds=3)
    assert (outcome["status"], outcome["timed_out"]) == ("timed_out", True)
    assert (outcome["exit_code"], outcome["output"]) == (-9, "begun\n")
    assert 3 + 5 <= outcome["seconds"] < 60
    wait_until(lambda: not host.strays(), "the end of the whole group")


def test_at_a_time_out_a_command_may_tidy_up(host: Host) -> None:
    text = "trap 'sleep 0.3; echo tidy; exit 0' TERM; while true; do sleep 0.05; done"
    outcome = run_one(host, text, timeout_seconds=3)
    assert (outcome["status"], outcome["exit_code"]) == ("timed_out", 0)
    assert outcome["output"].endswith("tidy\n")
    assert outcome["seconds"] < 3 + 5, "it has left before it is killed"


def test_a_process_in_the_background_neither_holds_up_the_step_nor_ends(host: Host) -> None:
    outcome = run_one(host, "sleep 300 & echo started", timeout_seconds=20)
    assert (outcome["status"], outcome["output"]) == ("ok", "started\n")
    # Until it is another program it has the name of the shell.
    wait_until(lambda: [one.name() for one in host.strays()] == ["sleep"], "what it has started")
    host.end_strays()


# --- Output


def test_the_end_of_a_long_output_is_kept_in_bounded_memory(host: Host, tmp_path: Path) -> None:
    memory = psutil.Process(host.process.pid).memory_info
    before = memory().rss
    write = "head -c 200000000 /dev/zero | tr '\\0' x; echo; echo the end"
    wait = f"touch {tmp_path}/written; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    command: Command = {"name": "one", "run": f"{write}; {wait}"}
    workflow_id = host.begin("run_commands", {"commands": [command]})
    wait_until((tmp_path / "written").exists, "the end of the writing")
    grown = memory().rss - before
    (tmp_path / "go").touch()
    outcome = host.result(workflow_id)["commands"]["one"]
    assert outcome["truncated"] is True
    assert len(outcome["output"]) == 4000
    assert outcome["output"].endswith("x\nthe end\n")
    assert grown < 50_000_000


def test_output_that_comes_just_after_the_end_of_the_shell_is_kept(host: Host) -> None:
    assert run_one(host, "(sleep 0.2; echo late) & echo early")["output"] == "early\nlate\n"


@pytest.mark.parametrize("character", ["e", "é", "😀"])
@pytest.mark.parametrize(("count", "truncated"), [(4000, False), (4001, True), (9001, True)])
def test_the_bound_of_the_output_counts_characters(
    host: Host, tmp_path: Path, character: str, count: int, truncated: bool
) -> None:
    file = tmp_path / "file"
    file.write_text(character * count, encoding="utf-8")
    outcome = run_one(host, ["cat", str(file)])
    assert (outcome["output"], outcome["truncated"]) == (character * 4000, truncated)


def test_output_that_is_no_text_becomes_text(host: Host) -> None:
    assert run_one(host, r"printf 'a\0b\377c'")["output"] == "a\ufffdb\ufffdc"


# --- Directories


def test_cwd_is_relative_to_the_project(host: Host) -> None:
    (host.project / "sub").mkdir()
    assert run_one(host, "pwd", cwd="sub")["output"] == f"{host.project / 'sub'}\n"
    assert run_one(host, "pwd", cwd=str(host.project / "sub"))["output"].endswith("/sub\n")
    assert run_one(host, "pwd")["output"] == f"{host.project}\n"


def test_a_cwd_may_be_made_by_an_earlier_command(host: Host) -> None:
    report = run(
        host,
        {"name": "make", "run": "mkdir fresh"},
        {"name": "use", "run": "pwd", "cwd": "fresh", "needs": ["make"]},
    )
    assert report["commands"]["use"]["output"].endswith("/fresh\n")


@pytest.mark.parametrize("cwd", ["..", "/", "way-out", "way-out/deeper"])
def test_a_cwd_outside_of_the_project_is_refused_before_anything_starts(
    host: Host, tmp_path: Path, cwd: str
) -> None:
    way_out = host.project / "way-out"
    way_out.unlink(missing_ok=True)
    way_out.symlink_to(tmp_path)
    commands: list[Command] = [
        {"name": "first", "run": f"touch {tmp_path}/ran"},
        {"name": "second", "run": "true", "cwd": cwd},
    ]
    workflow_id = host.begin("run_commands", {"commands": commands})
    problem = host.problem(workflow_id)
    assert f"command \"second\": cwd '{cwd}' is outside the project" in problem
    assert host.steps(workflow_id) == {1: "check_directories"}
    assert not (tmp_path / "ran").exists()


def test_a_way_out_that_an_earlier_command_makes_is_refused_too(host: Host) -> None:
    report = run(
        host,
        {"name": "link", "run": "ln -s / made-later"},
        {"name": "use", "run": "pwd", "cwd": "made-later", "needs": ["link"]},
    )
    assert statuses(report) == {"link": "ok", "use": "failed"}
    assert "outside the project" in report["commands"]["use"]["output"]


def test_a_replay_keeps_the_verdict_on_directories_though_links_have_changed(host: Host) -> None:
    link = host.project / "changing"
    link.symlink_to(host.project)
    commands: list[Command] = [
        {"name": "in it", "run": "true", "cwd": "changing"},
        {"name": "then", "run": "true", "needs": ["in it"]},
    ]
    workflow_id = host.begin("run_commands", {"commands": commands})
    host.result(workflow_id)
    link.unlink()
    link.symlink_to("/")
    fork = host.client.fork_workflow(workflow_id, 3)
    assert statuses(host.result(fork.workflow_id)) == {"in it": "ok", "then": "ok"}


# --- Arguments


WRONG: list[tuple[object, str]] = [
    ([], "commands must be a list with at least one command"),
    ("true", "commands must be a list with at least one command"),
    (["true"], "commands[0] must be an object with name and run, not 'true'"),
    ([{"run": "true"}], "commands[0]: name is missing"),
    ([{"name": "a"}], 'commands[0] "a": run is missing'),
    ([{"name": "", "run": "true"}], "commands[0]: name must be a line of 1 to 100"),
    ([{"name": "DBOS.recv", "run": "true"}], "commands[0]: name must be"),
    ([{"name": "a\nb", "run": "true"}], "commands[0]: name must be"),
    ([{"name": "a", "run": ""}], 'commands[0] "a": run must be a text for the shell, or'),
    ([{"name": "a", "run": []}], 'commands[0] "a": run must be a text for the shell, or'),
    ([{"name": "a", "run": ["b", 1]}], 'commands[0] "a": run must be'),
    ([{"name": "a", "run": "b", "needs": "c"}], "needs must be a list of names, not 'c'"),
    ([{"name": "a", "run": "b", "cwd": 1}], "cwd must be a directory inside of the project"),
    ([{"name": "a", "run": "b", "timeout_seconds": 0}], "timeout_seconds must be a number"),
    ([{"name": "a", "run": "b", "timeout_seconds": True}], "timeout_seconds must be a number"),
    ([{"name": "a", "run": "b", "retries": -1}], "retries must be a whole number, 0 or more"),
    ([{"name": "a", "run": "b", "retries": 1.5}], "retries must be a whole number"),
    ([{"name": "a", "run": "b", "env": {"X": 1}}], "env must be an object whose values"),
    ([{"name": "a", "run": "b", "allow_failure": 1}], "allow_failure must be true or false"),
    ([{"name": "a", "run": "b", "need": []}], "unknown field 'need'; known are name, run,"),
    ([{"name": "a", "run": "b"}] * 2, 'two commands have the name "a"'),
    ([{"name": "a", "run": "b", "needs": ["z"]}], '"a" needs "z", and no command has that'),
    ([{"name": "a", "run": "b", "needs": ["a"]}], "in a circle: a → a"),
]


@pytest.mark.parametrize(("commands", "problem"), WRONG)
def test_arguments_that_do_not_fit_are_named_and_nothing_starts(
    host: Host, commands: object, problem: str
) -> None:
    workflow_id = host.begin("run_commands", {"commands": commands})
    assert problem in host.problem(workflow_id)
    assert not host.steps(workflow_id)


def test_a_circle_is_named_in_the_order_of_needs(host: Host) -> None:
    needs = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}
    commands = [{"name": name, "run": "true", "needs": need} for name, need in needs.items()]
    problem = host.problem(host.begin("run_commands", {"commands": commands}))
    assert any(circle in problem for circle in ("a → b → c → a", "b → c → a → b", "c → a → b → c"))


@pytest.mark.parametrize("parallel", [0, "2", True, 1.5])
def test_parallel_must_be_a_whole_number_above_0(host: Host, parallel: object) -> None:
    arguments = {"commands": [{"name": "a", "run": "true"}], "parallel": parallel}
    problem = host.problem(host.begin("run_commands", arguments))
    assert "parallel must be a whole number, 1 or more" in problem


def test_the_type_hints_make_a_schema_that_describes_the_fields() -> None:
    schema = TypeAdapter(
        load("run_commands").run_commands.__annotations__["commands"]
    ).json_schema()
    command = schema["$defs"]["Command"]
    assert command["required"] == ["name", "run"]
    assert all(f"{field}: " in command["description"] for field in command["properties"])


# --- Cancellation and shutdown


def begin_slow(host: Host, folder: Path) -> str:
    """Two commands that run until the file `go` is there, one before and one after them."""
    tidy = f"sleep 0.3; touch {folder}/tidy; exit"
    wait = f"until [ -e {folder}/go ]; do sleep 0.05; done"
    commands: list[Command] = [
        {"name": "quick", "run": f"echo quick >> {folder}/log"},
        {
            "name": "slow",
            "run": f"echo slow >> {folder}/log; touch {folder}/slow; ({wait}); true",
            "needs": ["quick"],
        },
        {"name": "other", "run": f"trap '{tidy}' TERM; touch {folder}/other; {wait}"},
        {"name": "last", "run": f"echo last >> {folder}/log", "needs": ["slow", "other"]},
    ]
    workflow_id = host.begin("run_commands", {"commands": commands})
    wait_until((folder / "slow").exists, "the start of slow")
    wait_until((folder / "other").exists, "the start of other")
    return workflow_id


def test_cancelling_the_workflow_ends_its_commands_and_a_resume_goes_on(
    host: Host, tmp_path: Path
) -> None:
    workflow_id = begin_slow(host, tmp_path)
    host.client.cancel_workflow(workflow_id)
    wait_until(lambda: not host.strays(), "the end of the commands", within=15)
    assert (tmp_path / "tidy").exists()
    assert host.steps(workflow_id) == {1: "quick"}
    (tmp_path / "go").touch()
    host.client.resume_workflow(workflow_id)
    assert host.result(workflow_id)["ok"] is True
    assert lines(tmp_path / "log") == ["quick", "slow", "slow", "last"]


def test_a_noisy_command_holds_up_no_other_workflow(host: Host, tmp_path: Path) -> None:
    noisy: Command = {"name": "noisy", "run": "yes", "timeout_seconds": 60}
    workflow_id = host.begin("run_commands", {"commands": [noisy]})
    wait_until(host.strays, "the noisy command")
    begun = time.monotonic()
    run_one(host, "true")
    assert time.monotonic() - begun < 10
    host.client.cancel_workflow(workflow_id)
    wait_until(lambda: not host.strays(), "the end of the noisy command", within=15)


def test_a_second_cancellation_does_not_cut_the_grace_short(tmp_path: Path) -> None:
    # When its event loop shuts down, DBOS cancels a step twice.
    trap = f": > {tmp_path}/asked; sleep 0.5; : > {tmp_path}/tidy; exit"  # no process: a busy machine is slow to start one
    text = f"trap '{trap}' TERM; touch {tmp_path}/begun; while true; do sleep 0.02; done"

    async def cancel_twice() -> None:
        step = load("run_commands")._run_with_retries({"name": "one", "run": text})
        task = asyncio.create_task(step)
        await asyncio.to_thread(wait_until, (tmp_path / "begun").exists, "the start")
        task.cancel()
        await asyncio.to_thread(wait_until, (tmp_path / "asked").exists, "SIGTERM")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_twice())
    assert (tmp_path / "tidy").exists()


def test_a_command_that_is_cancelled_while_it_starts_ends_as_any_other(tmp_path: Path) -> None:
    trap = f": > {tmp_path}/asked; exit"
    text = f"trap '{trap}' TERM; sleep 300 & echo $! > {tmp_path}/begun; while true; do sleep 0.02; done"

    async def cancel_early() -> None:
        step = load("run_commands")._run_with_retries({"name": "one", "run": text})
        before = psutil.Process().children()
        task = asyncio.create_task(step)
        while psutil.Process().children() == before:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        # The event loop hears of its start after it has begun, as on a busy machine.
        wait_until(lambda: lines(tmp_path / "begun"), "the start")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_early())
    assert (tmp_path / "asked").exists()
    left = int(lines(tmp_path / "begun")[0])
    wait_until(lambda: not psutil.pid_exists(left), "the end of what it had started")


def test_if_one_task_raises_the_others_end_before_the_workflow_does() -> None:
    async def fail() -> None:
        raise OSError("the database is gone")

    async def raise_and_look() -> bool:
        failing, waiting = asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(60))
        with pytest.raises(OSError, match="gone"):
            await load("run_commands")._all([failing, waiting])
        return waiting.cancelled()

    assert asyncio.run(raise_and_look())


# --- Crashes

KILLS = 10
NEEDS = {
    "a": "", "b": "", "c": "", "d": "a", "e": "ab", "f": "c", "g": "de", "h": "f",
    "i": "", "j": "gi", "k": "hi", "l": "jk",
}  # fmt: skip


def graph(log: Path, chance: random.Random) -> list[Command]:
    """Twelve commands, each of a random duration; each notes its start. One of them fails."""
    return [
        {
            "name": name,
            "run": f"echo {name} >> {log}; sleep {chance.uniform(0.02, 0.5):.2f}; [ {name} != f ]",
            "needs": list(needs),
            "allow_failure": name == "f",
        }
        for name, needs in NEEDS.items()
    ]


def kill_while_it_runs(host: Host, workflow_id: str, log: Path, moment: float) -> bool:
    """Kill the host, if the workflow has not ended before; check what the next one does again."""
    deadline = time.monotonic() + moment
    while time.monotonic() < deadline:
        if host.look(workflow_id).status == "SUCCESS":
            return False
        time.sleep(0.01)
    host.kill()
    host.end_strays()
    finished = set(host.steps(workflow_id).values())
    starts = lines(log)
    host.start()
    wait_until(lambda: len(lines(log)) > len(starts) or done(host, workflow_id), "a new start")
    assert not finished & set(lines(log)[len(starts) :])
    return True


def done(host: Host, workflow_id: str) -> bool:
    return host.look(workflow_id).status not in ("PENDING", "ENQUEUED")


@pytest.mark.long
def test_a_crash_at_any_moment_repeats_only_what_was_running(
    own_host: Host, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    sys.stdout.write(f"seed {seed}\n")  # shown if the test fails
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        kills += survive(own_host, tmp_path / f"log-{runs}", chance, KILLS - kills)
    assert "DBOSUnexpectedStepError" not in own_host.log.read_text(encoding="utf-8")


def survive(host: Host, log: Path, chance: random.Random, most: int) -> int:
    """One run of the graph with crashes on its way; how many there were."""
    commands = graph(log, chance)
    workflow_id = host.begin("run_commands", {"commands": commands, "parallel": 3})
    kills = 0
    while kills < most and kill_while_it_runs(host, workflow_id, log, chance.uniform(0.05, 0.9)):
        kills += 1
    report = host.result(workflow_id)
    assert (report["ok"], report["skipped"]) == (True, []), json.dumps(report)
    assert list(host.steps(workflow_id).values()) == list(NEEDS)
    starts = lines(log)
    assert set(starts) == set(NEEDS)
    # Three at a time at most were running at each crash, and only those may have started again.
    assert len(starts) <= len(NEEDS) + 3 * kills
    return kills

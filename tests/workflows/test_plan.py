"""Graphs of workflows: order, references, conditions, approvals, failures, crashes; all checked before anything starts."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable_workflows.errors import InvalidArguments, PeopleOnly
from durable_workflows.models import OpenWait, StartRequest
from helpers import until, until_found

from .home import Home, a_home

pytestmark = pytest.mark.anyio

FLOWS = '''
import time
from pathlib import Path
from typing import Any
from dbos import DBOS

@DBOS.step()
def work(file: str, line: str, seconds: float) -> None:
    with Path(file).open("a") as lines:
        lines.write(f"begin {line}\\n")
    time.sleep(seconds)
    with Path(file).open("a") as lines:
        lines.write(f"end {line}\\n")

@DBOS.workflow()
def note(line: str, file: str = "noise", seconds: float = 0.0) -> dict[str, Any]:
    """Write a line."""
    work(file, line, seconds)
    return {"line": line, "list": [1, {"deep": line.upper()}], "ok": True}

@DBOS.workflow()
def add(numbers: list[int], more: int = 0) -> int:
    """Add numbers."""
    return sum(numbers) + more

@DBOS.workflow()
def echo(value: Any) -> Any:
    """Return what it is given."""
    return value

@DBOS.step()
def count(file: str) -> int:
    with Path(file).open("a") as lines:
        lines.write("try\\n")
    return len(Path(file).read_text().splitlines())

@DBOS.workflow()
def fails(file: str = "tries", successful: int = 99) -> int:
    """Fail until so many runs have tried."""
    number = count(file)
    if number < successful:
        raise ValueError(f"try {number}")
    return number

@DBOS.workflow()
def edition() -> str:
    """Tell from which edition of the file it is."""
    return "first"

@DBOS.workflow()
def waits() -> None:
    """Wait for a message."""
    DBOS.recv("go", timeout_seconds=300)
'''
Args = dict[str, Any]


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    async with a_home(tmp_path_factory.mktemp("plan") / "project", FLOWS, concurrency=2) as home:
        yield home


def node(name: str, workflow: str = "note", **fields: Any) -> Args:
    """A node; a note writes the id of its node, if nothing else is said."""
    if workflow == "note":
        fields = {"args": {"line": name}} | fields
    return {"id": name, "workflow": workflow, **fields}


def value(name: str, *path: str | int, **fields: Any) -> Args:
    """A reference, or with an operator a condition."""
    return {"$from": name, "path": list(path), **fields}


async def plan(home: Home, *nodes: Args, workflow_id: str | None = None, **fields: Any) -> Args:
    return await home.run("plan", {"nodes": list(nodes), **fields}, workflow_id)


def statuses(report: Args) -> dict[str, str]:
    return {one["id"]: one["status"] for one in report["nodes"]}


def outputs(report: Args) -> Args:
    return {one["id"]: one.get("output") for one in report["nodes"]}


def because(report: Args) -> dict[str, str]:
    return {one["id"]: one["because"] for one in report["nodes"] if "because" in one}


# --- Order and references


async def test_each_node_gets_the_results_of_those_before_it(home: Home) -> None:
    report = await plan(
        home,
        node(
            "sum", "add", args={"numbers": [value("one"), value("two"), 10], "more": value("two")}
        ),
        node("one", "add", args={"numbers": [1]}),
        node("two", "add", args={"numbers": [2]}),
        node("text", "echo", args={"value": {"in": [value("write", "list", 1, "deep")]}}),
        node("write"),
        workflow_id="results",
    )
    assert report["ok"] is True
    assert (report["failed"], report["skipped"]) == ([], [])
    assert [one["id"] for one in report["nodes"]] == ["sum", "one", "two", "text", "write"]
    assert outputs(report)["sum"] == 15
    assert outputs(report)["text"] == {"in": ["WRITE"]}
    assert report["nodes"][1] == {
        "id": "one",
        "status": "SUCCESS",
        "workflow_id": "results-one",
        "output": 1,
    }
    children = await home.children("results")
    assert set(children) == {f"results-{name}" for name in ("sum", "one", "two", "text", "write")}
    version = (await home.look("results")).app_version
    assert {child.app_version for child in children.values()} == {version}


async def test_needs_and_after_make_an_order(home: Home) -> None:
    file = {"file": "order"}
    await plan(
        home,
        node("c", args={"line": "c", **file}, after=["b"]),
        node("b", args={"line": "b", **file}, needs=["a"]),
        node("a", args={"line": "a", "seconds": 0.2, **file}),
    )
    assert home.lines("order") == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


async def test_no_more_run_at_once_than_is_allowed(home: Home) -> None:
    nodes = [
        node(f"n{i}", args={"line": str(i), "file": "limit", "seconds": 0.3}) for i in range(4)
    ]
    await plan(home, *nodes, concurrency=2)
    now = most = 0
    for line in home.lines("limit"):
        now += 1 if line.startswith("begin") else -1
        most = max(most, now)
    assert most == 2


async def test_a_literal_stays_as_it_is_and_a_default_stands_in(home: Home) -> None:
    inner = {
        "nodes": [
            node("x", "echo", args={"value": 7}),
            node("y", "echo", args={"value": value("x")}),
        ]
    }
    report = await plan(
        home,
        node("inner", "plan", args={"nodes": {"$literal": inner["nodes"]}}),
        node("bad", "fails"),
        node(
            "uses",
            "echo",
            args={"value": [value("bad", default="none"), value("inner", "no", default=None)]},
        ),
    )
    assert statuses(report) == {"inner": "SUCCESS", "bad": "ERROR", "uses": "SUCCESS"}
    assert outputs(outputs(report)["inner"]) == {"x": 7, "y": 7}
    assert outputs(report)["uses"] == ["none", None]


async def test_a_reference_to_what_is_not_there_fails_its_node(home: Home) -> None:
    report = await plan(
        home,
        node("a"),
        node("b", "echo", args={"value": value("a", "list", 7)}),
        node("c", needs=["b"]),
    )
    failed = report["nodes"][1]
    assert (failed["status"], "workflow_id" in failed) == ("ERROR", False)
    assert failed["error"]["message"] == "the output of a has nothing at ['list', 7]"
    assert because(report) == {"c": "it needs b (ERROR)"}


async def test_arguments_that_turn_out_not_to_fit_fail_their_node(home: Home) -> None:
    report = await plan(home, node("a"), node("b", "add", args={"numbers": [value("a", "line")]}))
    assert report["nodes"][1]["error"]["name"] == "InvalidArguments"
    assert "numbers[0]: 'a' is not of type 'integer'" in report["nodes"][1]["error"]["message"]


async def test_a_long_output_is_cut_in_the_result_and_whole_in_references(home: Home) -> None:
    report = await plan(
        home,
        node("long", "echo", args={"value": "x" * 300_000}),
        node("same", "echo", args={"value": value("long")}),
        node("short", "echo", args={"value": 1}),
        node("there", "echo", args={"value": 2}, when=value("same", equals="x" * 300_000)),
        workflow_id="long",
    )
    assert "output" not in report["nodes"][0]
    assert report["nodes"][0]["output_characters"] == 300_002
    assert statuses(report)["there"] == "SUCCESS"
    assert (await home.look("long-same")).output == "x" * 300_000


async def test_arguments_that_become_too_large_fail_their_node(home: Home) -> None:
    report = await plan(
        home,
        node("long", "echo", args={"value": "x" * 600_000}),
        node("twice", "echo", args={"value": [value("long"), value("long")]}),
    )
    assert report["nodes"][1]["error"]["name"] == "MessageTooLarge"


# --- Conditions


HOLDS: list[tuple[Args, bool]] = [
    ({"path": ["line"], "equals": "a"}, True),
    ({"path": ["line"], "equals": "b"}, False),
    ({"path": ["list", 0], "equals": True}, False),
    ({"path": ["line"], "not_equals": "b"}, True),
    ({"path": ["line"], "in": ["a", "b"]}, True),
    ({"path": ["line"], "in": []}, False),
    ({"path": ["list", 0], "greater": 0.5}, True),
    ({"path": ["list", 0], "greater": 1}, False),
    ({"path": ["list", 0], "less": 2}, True),
    ({"path": ["line"], "less": "b"}, True),
    ({"path": ["ok"], "exists": True}, True),
    ({"path": ["none"], "exists": True}, False),
    ({"path": ["none"], "exists": False}, True),
    ({"path": ["none"], "not_equals": 1}, False),
]


async def test_a_node_whose_condition_does_not_hold_is_skipped(home: Home) -> None:
    conditional = [
        node(f"n{i}", "echo", args={"value": i}, when={"$from": "a", **condition})
        for i, (condition, _) in enumerate(HOLDS)
    ]
    report = await plan(home, node("a"), *conditional)
    found = statuses(report)
    for i, (condition, holds) in enumerate(HOLDS):
        assert found[f"n{i}"] == ("SUCCESS" if holds else "SKIPPED"), condition
    assert report["ok"] is True
    assert because(report)["n1"] == 'a condition does not hold: a["line"] equals "b"'


async def test_all_conditions_must_hold_and_what_cannot_be_compared_is_an_error(home: Home) -> None:
    holds, fails = value("a", "ok", equals=True), value("a", "ok", equals=False)
    report = await plan(
        home,
        node("a"),
        node("both", when=[holds, holds]),
        node("one", when=[holds, fails]),
        node("then", needs=["one"]),
        node("odd", when=value("a", "line", greater=3)),
    )
    found = {"a": "SUCCESS", "both": "SUCCESS", "one": "SKIPPED", "then": "SKIPPED", "odd": "ERROR"}
    assert statuses(report) == found
    assert because(report)["then"] == "it needs one (SKIPPED)"
    assert report["nodes"][4]["error"]["message"] == '3.0 and "a" cannot be compared'


# --- Failures


async def test_what_needs_a_failed_node_is_skipped_and_the_rest_runs(home: Home) -> None:
    report = await plan(
        home,
        node("bad", "fails", args={"file": "failing"}),
        node("needs", needs=["bad"]),
        node("indirect", needs=["needs"]),
        node("cleanup", after=["indirect", "bad"]),
        node("instead", when=value("bad", exists=False)),
        node("other"),
        node("refers", "echo", args={"value": value("bad")}),
    )
    assert (report["ok"], report["failed"]) == (False, ["bad"])
    assert report["nodes"][0]["error"] == {"name": "ValueError", "message": "try 1"}
    assert because(report) == {
        "needs": "it needs bad (ERROR)",
        "indirect": "it needs needs (SKIPPED)",
        "refers": "it needs bad (ERROR)",
    }
    assert report["skipped"] == list(because(report))


async def test_a_node_that_returns_ok_false_has_failed(home: Home) -> None:
    commands = [{"name": "no", "run": "exit 3"}]
    report = await plan(
        home,
        node("build", "run_commands", args={"commands": commands}),
        node("deploy", needs=["build"]),
        node("tell", "echo", args={"value": value("build", "failed", default=[])}, after=["build"]),
    )
    assert statuses(report) == {"build": "NOT_OK", "deploy": "SKIPPED", "tell": "SUCCESS"}
    assert report["failed"] == ["build"]
    assert outputs(report)["tell"] == ["no"]


async def test_a_failure_may_stop_the_plan_and_what_runs_goes_on_to_its_end(home: Home) -> None:
    report = await plan(
        home,
        node("bad", "fails", on_failure="stop"),
        node("slow", args={"line": "slow", "seconds": 1.0}),
        approval("ask"),
        node("later", needs=["slow"]),
        workflow_id="stopping",
    )
    expected = {"bad": "ERROR", "slow": "SUCCESS", "ask": "SKIPPED", "later": "SKIPPED"}
    assert statuses(report) == expected
    assert because(report)["later"] == "bad failed, and the plan stops then"
    assert (await home.look("stopping-ask")).status == "CANCELLED"


async def test_a_node_is_tried_as_often_as_it_may(home: Home) -> None:
    report = await plan(
        home,
        node("second", "fails", args={"file": "second", "successful": 2}, attempts=9),
        node("never", "fails", args={"file": "never"}, attempts=2),
        node("next", "echo", args={"value": value("second")}),
        workflow_id="tries",
    )
    second, never, after = report["nodes"]
    assert (second["status"], second["attempts"]) == ("SUCCESS", 2)
    assert second["workflow_id"] == "tries-second.2"
    assert (never["status"], never["attempts"], never["error"]["message"]) == ("ERROR", 2, "try 2")
    assert after["output"] == 2


async def test_a_node_that_takes_too_long_is_cancelled(home: Home) -> None:
    report = await plan(
        home, node("slow", "waits", timeout_seconds=0.5), node("next", needs=["slow"])
    )
    assert statuses(report) == {"slow": "CANCELLED", "next": "SKIPPED"}


# --- Approvals


def approval(name: str, **fields: Any) -> Args:
    about = {
        key: fields.pop(key) for key in ("by", "show", "timeout_seconds", "topic") if key in fields
    }
    return {"id": name, "approval": {"prompt": f"{name}?", **about}, **fields}


async def asked(home: Home, workflow_id: str) -> OpenWait:
    """The question that a run asks, once it does."""

    async def wait() -> OpenWait | None:
        if not await home.client.list_workflows_async(workflow_ids=[workflow_id]):
            return None
        return next(iter(await home.engine.reader.waits(workflow_id)), None)

    return await until_found(wait, f"{workflow_id} asks")


async def test_only_a_person_can_answer_and_sees_what_it_is_about(home: Home) -> None:
    nodes = [
        node("build"),
        approval("release", show={"built": value("build", "line")}),
        node("yes", needs=["release"]),
        node("comment", "echo", args={"value": value("release", "comment")}),
    ]
    workflow_id = await home.start("plan", {"nodes": nodes})
    wait = await asked(home, f"{workflow_id}-release")
    assert wait.person_only
    assert wait.prompt == 'release?\n{\n  "built": "build"\n}'
    with pytest.raises(PeopleOnly):
        await home.engine.send(wait.workflow_id, wait.topic, {"approved": True})

    async def is_shown() -> bool:  # the child may ask before the plan says that it has started it
        progress: Any = await home.event(workflow_id, "progress")
        return progress["asking"] == [wait.workflow_id]

    await until_found(is_shown, "the plan shows who asks")
    answer: Args = {"approved": True, "comment": "fine"}
    await home.engine.answer(wait, answer, who="Ada", how="terminal")
    report = await home.output(workflow_id)
    assert report["ok"] is True
    assert outputs(report)["comment"] == "fine"


async def test_an_approval_by_anyone_takes_a_message_that_fits(home: Home) -> None:
    nodes = [
        approval("go", by="anyone", topic="decide"),
        node("yes", needs=["go"]),
        node("no", when=value("go", "approved", equals=False)),
    ]
    workflow_id = await home.start("plan", {"nodes": nodes})
    wait = await asked(home, f"{workflow_id}-go")
    assert wait.topic == "decide"
    with pytest.raises(InvalidArguments):
        await home.engine.send(wait.workflow_id, "decide", "yes")
    await home.engine.send(wait.workflow_id, "decide", {"approved": False, "comment": "too early"})
    report = await home.output(workflow_id)
    assert statuses(report) == {"go": "REJECTED", "yes": "SKIPPED", "no": "SUCCESS"}
    assert report["failed"] == ["go"]
    assert report["nodes"][0]["error"]["message"] == "too early"


async def test_an_approval_that_nobody_gives_times_out(home: Home) -> None:
    report = await plan(home, approval("go", timeout_seconds=0.3), node("next", needs=["go"]))
    assert statuses(report) == {"go": "TIMED_OUT", "next": "SKIPPED"}
    assert outputs(report)["go"] == {"approved": False, "timed_out": True, "comment": None}


# --- Before anything starts


WRONG: list[tuple[list[Args], str]] = [
    ([node("a"), node("a")], "a: two nodes have this id."),
    ([node("a", approval={"prompt": "?"})], "a: give either `workflow` or `approval`."),
    ([approval("a", attempts=2)], "a: an approval has no `args`, `attempts`"),
    (
        [node("a", "noet", args={})],
        "UnknownWorkflow: a: there is no workflow 'noet'. Did you mean 'note'?",
    ),
    ([node("a", needs=["b"])], "a: there is no node 'b'."),
    (
        [node("build"), node("b", after=["biuld"])],
        "b: there is no node 'biuld'. Did you mean 'build'?",
    ),
    ([node("a", "echo", args={"value": [value("z")]})], "a: there is no node 'z'."),
    ([node("a", when=value("z", exists=True))], "a: there is no node 'z'."),
    ([node("a", needs=["a"])], "in a circle: a -> a (each for the next)"),
    ([node("a", when={"$from": "b"}), node("b")], "a: a condition has exactly one of equals,"),
    (
        [node("a"), node("b", when=value("a", equals=1, less=2))],
        "b: a condition has exactly one of equals,",
    ),
    (
        [node("a"), node("b", "echo", args={"value": {"$from": "a", "pth": []}})],
        'b: {"$from": "a", "pth": []} must be',
    ),
    ([node("a"), node("b", "echo", args={"value": {"$from": 1}})], 'b: {"$from": 1} must be'),
    ([node("a", "echo", args={"value": {"$literal": 1, "b": 2}})], "must be"),
    ([node("a", "add", args={"numbers": "1"})], "a: The arguments of add are wrong: numbers:"),
    ([node("a", "add", args={})], "a: The arguments of add are wrong: 'numbers' is a required"),
    (
        [node("a"), node("b", "add", args={"numbers": [value("a")], "mroe": value("a")})],
        "'mroe' is not an argument (did you mean 'more'?)",
    ),
    (
        [node("a"), node("b", "add", args={"numbers": value("a", "list"), "more": "x"})],
        "b: The arguments of add are wrong: more:",
    ),
]


@pytest.mark.parametrize(("nodes", "problem"), WRONG)
async def test_what_is_wrong_is_named_and_nothing_starts(
    home: Home, nodes: list[Args], problem: str
) -> None:
    assert problem in await home.problem("plan", {"nodes": nodes})


async def test_a_node_without_work_is_refused_at_the_start(home: Home) -> None:
    request = StartRequest(name="plan", args={"nodes": [{"id": "a"}]})
    with pytest.raises(InvalidArguments) as refused:
        await home.engine.start(request)
    assert "nodes[0]: 'workflow' or 'approval' must be given" in refused.value.message
    assert '{"id": "ask", "needs": ["a"], "approval": {"prompt": "Deploy?"}}' in refused.value.hint


async def test_a_circle_is_named_in_the_order_in_which_its_nodes_wait(home: Home) -> None:
    nodes = [node("a", needs=["b"]), node("b", after=["c"]), node("d", needs=["a"])]
    nodes.append(node("c", "echo", args={"value": value("a", default=None)}))
    problem = await home.problem("plan", {"nodes": nodes})
    circles = ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c")
    assert any(circle in problem for circle in circles), problem


async def test_a_run_that_has_the_id_already_is_not_taken_for_a_result(home: Home) -> None:
    await home.run("echo", {"value": 1}, "taken-a")
    workflow_id = await home.start("plan", {"nodes": [node("a")]}, "taken")
    assert "taken-a is already in use" in str((await home.ended(workflow_id)).error)


async def test_several_problems_are_named_at_once(home: Home) -> None:
    nodes = [node("a", needs=["x"]), node("b", needs=["y"])]
    problem = await home.problem("plan", {"nodes": nodes})
    assert "a: there is no node 'x'. b: there is no node 'y'." in problem


async def test_the_tool_refuses_what_the_schema_forbids(home: Home) -> None:
    wrong: list[tuple[Args, str]] = [
        ({"nodes": []}, "nodes"),
        ({"nodes": [{"id": "a b", "workflow": "note"}]}, "a b"),
        ({"nodes": [node("a", need=["b"])]}, "need"),
        ({"nodes": [node("a", on_failure="ignore")]}, "ignore"),
        ({"nodes": [approval("a", by="nobody")]}, "nobody"),
        ({"nodes": [node("a")], "concurrency": 0}, "concurrency"),
    ]
    for args, said in wrong:
        with pytest.raises(InvalidArguments, match=said):
            await home.start("plan", args)


async def test_the_catalog_tells_a_model_all_it_needs(home: Home) -> None:
    found = {e.name: e for e in (await home.engine.catalog("plan")).workflows}
    assert found["plan"].summary.startswith("Run workflows that build on each other's results")
    schema = found["plan"].args_schema
    fields = schema["$defs"]["Node"]["properties"]
    assert fields["on_failure"]["enum"] == ["continue", "stop"]
    assert all("description" in fields[name] for name in fields if name != "id")
    assert "$from" in schema["$defs"]["Condition"]["properties"]
    assert found["plan_approval"].summary.startswith("Ask for an approval")


# --- Crashes, forks, nesting


async def test_plans_in_plans_never_wait_for_each_others_places(home: Home) -> None:
    innermost: Args = {"nodes": [node("x", "echo", args={"value": 1})]}
    inner: Args = {"nodes": [node(f"i{i}", "plan", args=innermost) for i in range(2)]}
    outer: Args = {"nodes": [node(f"o{i}", "plan", args=inner) for i in range(2)]}
    started = [await home.start("plan", outer) for _ in range(2)]
    for workflow_id in started:
        assert (await home.output(workflow_id))["ok"] is True


async def test_a_fork_takes_the_earlier_results_and_runs_the_rest_again(home: Home) -> None:
    file = {"file": "forked"}
    nodes = [
        node("a", args={"line": "a", **file}),
        node("b", args={"line": value("a", "line"), **file}),
        node("c", args={"line": "c", **file}, needs=["b"]),
    ]
    await plan(home, *nodes, workflow_id="original")
    steps = {name: step for step, name in (await home.steps("original")).items()}
    fork = await home.engine.fork("original", steps["prepare b"])
    report = await home.output(fork.workflow_id)
    assert outputs(report)["b"]["line"] == "a"
    ids = [one["workflow_id"] for one in report["nodes"]]
    assert ids == ["original-a", f"{fork.workflow_id}-b", f"{fork.workflow_id}-c"]
    began = Counter(line for line in home.lines("forked") if line.startswith("begin"))
    assert began == {"begin a": 3, "begin c": 2}  # the line of b is that of a


@pytest.mark.long
async def test_after_a_crash_nothing_is_started_twice_and_the_result_is_right(home: Home) -> None:
    needs = {"a": "", "b": "", "c": "ab", "d": "a", "e": "cd", "f": "e", "g": "b", "h": "fg"}
    nodes = [approval("ask", by="anyone", needs=["h"]), node("last", "edition", needs=["ask"])]
    for name, above in needs.items():
        fields: Args = {"args": {"line": name, "file": "crash", "seconds": 0.4}}
        if above:
            fields |= {"needs": list(above[1:]), "when": value(above[0], "line", equals=above[0])}
        nodes.append(node(name, **fields))
    workflow_id = await home.start("plan", {"nodes": nodes})
    await until(lambda: len(home.lines("crash")) > 5, "the middle of the plan")
    await home.kill_worker()
    wait = await asked(home, f"{workflow_id}-ask")
    await home.kill_worker()
    await edit(home)
    await home.engine.send(wait.workflow_id, wait.topic, {"approved": True})
    report = await home.output(workflow_id)
    assert set(statuses(report).values()) == {"SUCCESS"}
    assert outputs(report)["last"] == "first"  # on the version on which the plan began
    expected = {f"{workflow_id}-{name}" for name in [*needs, "ask", "last"]}
    assert set(await home.children(workflow_id)) == expected
    began = Counter(line for line in home.lines("crash") if line.startswith("begin"))
    assert set(began) == {f"begin {name}" for name in needs}
    # Three at most were in the middle of their step at the first crash.
    assert sum(began.values()) <= len(needs) + 3, began


async def edit(home: Home) -> None:
    """Make a new version of the code."""
    flows = home.folder / "workflows" / "flows.py"
    flows.write_text(FLOWS.replace('"first"', '"second"'), encoding="utf-8")
    assert await home.run("edition", {}) == "second"

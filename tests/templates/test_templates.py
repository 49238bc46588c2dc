"""Each template runs as copied, and does what its first lines say."""

import ast
import json
from collections.abc import Iterator
from threading import Event

import pytest

from durable_workflows import content
from durable_workflows.code import catalog
from durable_workflows.code.templates import template_entries
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import RunningStep
from helpers import until_found

from .projects import ALONE, STEMS, Running, site

pytestmark = pytest.mark.anyio

FACTORS = [
    *[None, None, 2, 3, 2, 5, 2, 7, 2, 3, 2, 11, 2, 13, 2, 3, 2, 17, 2, 19, 2, 3, 2, 23, 2],
    *[5, 2, 3, 2, 29, 2, 31, 2, 3, 2, 5, 2, 37, 2, 3, 2, 41, 2, 43, 2, 3, 2, 47, 2, 7],
]


def test_the_templates_are_the_eight_and_each_says_when_to_use_it() -> None:
    assert STEMS == [
        "agent_workflow",
        "basic_workflow",
        "human_in_the_loop",
        "openai_sdk_agent",
        "orchestrator_pattern",
        "pydantic_ai_agent",
        "queue_parallel",
        "transactional_steps",
    ]
    for template in template_entries():
        assert template.use_when.startswith("Use when ")
        assert len(template.use_when) < 130


@pytest.mark.parametrize("stem", STEMS)
def test_every_workflow_of_a_template_has_a_name_that_begins_with_the_templates(stem: str) -> None:
    source = (content.folder("templates") / f"{stem}.py").read_text(encoding="utf-8")
    names = catalog.declared_names(source)
    assert stem in names
    assert all(name.startswith(stem) for name in names)


@pytest.mark.parametrize("stem", STEMS)
def test_nothing_is_ever_evaluated_or_given_to_a_shell(stem: str) -> None:
    source = (content.folder("templates") / f"{stem}.py").read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(source)))
    called = {
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile", "__import__"}
    assert "shell" not in {node.arg for node in nodes if isinstance(node, ast.keyword)}


@pytest.mark.long
async def test_every_template_and_a_copy_of_each_load_side_by_side_and_need_no_arguments(
    templates: Running,
) -> None:
    entries = {entry.name: entry for entry in (await templates.engine.catalog()).workflows}
    assert not [entry.error for entry in entries.values() if entry.error]
    for stem in ALONE:
        for name in (stem, f"my_{stem.split('_')[0]}"):
            assert entries[name].summary.endswith(".")
            assert entries[name].args_schema["required"] == []
            assert entries[name].source == f"workflows/{name}.py"


# --- basic_workflow


@pytest.mark.parametrize("name", ["basic_workflow", "my_basic"])
async def test_the_basic_one_writes_its_report_and_shows_its_progress(
    templates: Running, name: str
) -> None:
    workflow_id = await templates.start(name)
    summaries = [
        {"name": "north", "rows": 2, "total": 7.5},
        {"name": "south", "rows": 1, "total": 10.0},
    ]
    assert await templates.output(workflow_id) == summaries
    steps = [step for step, _ in await templates.step_outputs(workflow_id)]
    assert [step for step in steps if step != "DBOS.setEvent"] == ["fetch", "fetch", "write_report"]
    report = templates.folder / f"{name}.json"
    assert json.loads(report.read_text(encoding="utf-8")) == summaries
    assert templates.events(workflow_id, "progress") == [
        {"done": 0, "of": 2, "now": "fetching north"},
        {"done": 1, "of": 2, "now": "fetching south"},
        {"done": 2, "of": 2, "now": f"wrote {name}.json"},
    ]


async def test_a_step_that_fails_for_a_while_is_tried_again_and_each_attempt_can_be_seen(
    templates: Running,
) -> None:
    seen = Event()

    def busy() -> Iterator[str | int]:
        yield 503
        seen.wait(25)  # the second attempt lasts until it was seen
        yield 503
        yield "item,amount\na,1\n"

    with site(busy=busy()) as server:
        sources = [{"name": "busy", "url": server.url("/busy")}]
        workflow_id = await templates.start("basic_workflow", sources=sources)

        async def second_attempt() -> RunningStep | None:
            running = (await templates.engine.reader.run(workflow_id)).running
            return next((step for step in running if step.attempt == 2), None)

        step = await until_found(second_attempt, "the second attempt")
        seen.set()
        assert (step.name, step.max_attempts) == ("fetch", 4)
        assert await templates.output(workflow_id) == [{"name": "busy", "rows": 1, "total": 1.0}]
        assert server.asked == ["/busy"] * 3


async def test_a_step_whose_request_is_wrong_is_not_tried_again(templates: Running) -> None:
    with site(gone=404) as server:
        sources = [{"name": "gone", "url": server.url("/gone")}]
        done = await templates.ended(await templates.start("basic_workflow", sources=sources))
        assert done.status == "ERROR"
        assert "404" in (done.error or "")
        assert server.asked == ["/gone"]


async def test_arguments_that_do_not_fit_the_types_are_refused_at_the_start(
    templates: Running,
) -> None:
    with pytest.raises(InvalidArguments, match="sources"):
        await templates.start("basic_workflow", sources=[{"name": "a"}])
    with pytest.raises(InvalidArguments, match="max_turns"):
        await templates.start("agent_workflow", max_turns=0)


# --- orchestrator_pattern


@pytest.mark.parametrize("name", ["orchestrator_pattern", "my_orchestrator"])
async def test_the_orchestrator_survives_a_child_that_fails_and_says_so(
    templates: Running, name: str
) -> None:
    workflow_id = await templates.start(name)
    report = await templates.output(workflow_id)
    children = {
        child.workflow_id: child for child in await templates.engine.reader.tree(workflow_id)
    }
    results = [
        {**one, "workflow_id": children[one["workflow_id"]].status} for one in report["results"]
    ]
    assert results == [
        {"name": "proverb", "workflow_id": "SUCCESS", "words": 5, "error": None},
        {"name": "rule", "workflow_id": "SUCCESS", "words": 11, "error": None},
        {
            "name": "empty",
            "workflow_id": "ERROR",
            "words": None,
            "error": "ValueError: there is no text to count",
        },
    ]
    assert report["failed"] == ["empty"]
    assert report["review"] == "2 of 3 tasks succeeded; the longest text is rule."
    kinds = sorted(child.name for child in children.values())
    assert kinds == [f"{name}_review", *[f"{name}_task"] * 3]


async def test_the_orchestrator_shows_its_progress_and_sends_the_review_the_results(
    templates: Running,
) -> None:
    workflow_id = await templates.start("orchestrator_pattern")
    report = await templates.output(workflow_id)
    progress = templates.events(workflow_id, "progress")
    assert progress[-1] == {"total": 3, "succeeded": 2, "failed": 1, "running": 0}
    children = await templates.engine.reader.tree(workflow_id)
    (review,) = [one.workflow_id for one in children if one.name.endswith("review")]
    messages = await templates.engine.reader.messages(review)
    assert [(message.topic, message.consumed_by_step) for message in messages] == [("results", 1)]
    assert [one["words"] for one in report["results"]] == [5, 11, None]


async def test_the_orchestrator_may_have_nothing_to_do(templates: Running) -> None:
    report = await templates.run("orchestrator_pattern", tasks=[])
    assert (report["results"], report["failed"]) == ([], [])


# --- human_in_the_loop


@pytest.mark.parametrize("name", ["human_in_the_loop", "my_human"])
async def test_what_a_human_approves_is_published(templates: Running, name: str) -> None:
    workflow_id = await templates.start(name, text="approved text")
    assert await templates.waits(workflow_id) == (f"May {name}.md.draft be published as {name}.md?")
    assert not (templates.folder / f"{name}.md").exists()
    with pytest.raises(InvalidArguments, match="approved"):
        await templates.engine.send(workflow_id, "decision", {"approved": "perhaps"})
    with pytest.raises(InvalidArguments, match="aproved"):
        await templates.engine.send(workflow_id, "decision", {"approved": True, "aproved": True})
    assert await templates.waits(workflow_id)
    await templates.engine.send(workflow_id, "decision", {"approved": True, "comment": "fine"})
    assert await templates.output(workflow_id) == {
        "outcome": "published",
        "path": f"{name}.md",
        "comment": "fine",
    }
    steps = [step for step, _ in await templates.step_outputs(workflow_id)]
    assert [step for step in steps if not step.startswith("DBOS.")] == [
        *("write_draft", "publish", "remove"),
    ]
    assert (templates.folder / f"{name}.md").read_text(encoding="utf-8") == "approved text"
    assert not list(templates.folder.glob(f"{name}.md.*"))


async def test_what_a_human_rejects_is_undone(templates: Running) -> None:
    workflow_id = await templates.start("human_in_the_loop", path="rejected.md")
    await templates.waits(workflow_id)
    assert (templates.folder / "rejected.md.draft").exists()
    await templates.engine.send(workflow_id, "decision", {"approved": False, "comment": "no"})
    result = await templates.output(workflow_id)
    assert result == {"outcome": "withdrawn", "path": "rejected.md", "comment": "no"}
    assert not list(templates.folder.glob("rejected.md*"))


async def test_what_nobody_answers_is_escalated_and_then_given_up(templates: Running) -> None:
    args = {"path": "late.md", "timeout_seconds": 0.3}
    workflow_id = await templates.start("human_in_the_loop", escalation_seconds=0.3, **args)
    result = await templates.output(workflow_id)
    assert result == {"outcome": "expired", "path": "late.md", "comment": ""}
    assert templates.events(workflow_id, "escalated") == [
        {"path": "late.md", "draft": "late.md.draft"}
    ]
    assert [path.name for path in templates.folder.glob("late.md*")] == ["late.md.draft"]


async def test_an_answer_after_the_escalation_counts(templates: Running) -> None:
    args = {"path": "overdue.md", "timeout_seconds": 0.1}
    workflow_id = await templates.start("human_in_the_loop", **args)

    async def overdue() -> bool:
        return (await templates.waits(workflow_id) or "").startswith("Overdue: ")

    await until_found(overdue, "the second question")
    await templates.engine.send(workflow_id, "decision", {"approved": True})
    assert (await templates.output(workflow_id))["outcome"] == "published"


# --- queue_parallel


async def test_the_queue_gives_results_in_order_and_holds_its_limits(templates: Running) -> None:
    workflow_id = await templates.start("queue_parallel")
    summary = await templates.output(workflow_id)
    assert summary["results"] == FACTORS
    assert summary["succeeded"] == 48
    assert summary["failures"] == [
        {
            "item": item,
            "workflow_id": f"{workflow_id}-{item}",
            "error": f"ValueError: {item} has no prime factor",
        }
        for item in (0, 1)
    ]
    assert templates.events(workflow_id, "progress")[-1] == {"done": 50, "of": 50}
    times = templates.query(
        "select started_at_epoch_ms, completed_at from dbos.workflow_status where queue_name = 'queue_parallel_items'"
    )
    assert len(times) == 50
    assert 1 < most_at_once(times) <= 5
    assert most_within(1000, [began for began, _ in times]) <= 25


async def test_a_copy_has_a_queue_of_its_own_with_the_same_limits(templates: Running) -> None:
    assert (await templates.run("my_queue", items=[49, 1, 35]))["results"] == [7, None, 5]
    await templates.run("queue_parallel", items=[])
    queues = templates.query(
        "select name, concurrency, rate_limit_max, rate_limit_period_sec from dbos.queues where name like %s order by name",
        "%items",
    )
    assert queues == [("my_queue_items", 5, 25, 1.0), ("queue_parallel_items", 5, 25, 1.0)]


def most_at_once(times: list[tuple[int, int]]) -> int:
    """How many of these spans overlap at most; one that ends when another begins does not overlap it."""
    changes = sorted([(began, 1) for began, _ in times] + [(ended, -1) for _, ended in times])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def most_within(milliseconds: int, moments: list[int]) -> int:
    """How many moments are within a window of that length at most."""
    return max(
        sum(first <= moment < first + milliseconds for moment in moments) for first in moments
    )


# --- agent_workflow, with its scripted model


@pytest.mark.parametrize("name", ["agent_workflow", "my_agent"])
async def test_without_a_model_the_agent_plays_a_script_that_uses_the_tools_for_real(
    templates: Running, name: str
) -> None:
    workflow_id = await templates.start(name, task="Look around.")
    result = await templates.output(workflow_id)
    assert (result["stopped"], result["turns"]) == ("answered", 3)
    assert result["model"] == "scripted_model: no language model"
    assert "No language model was asked" in result["answer"]
    assert 0 < result["tokens"] < 100_000
    steps = await templates.step_outputs(workflow_id)
    assert [step for step, _ in steps if step != "DBOS.setEvent"] == [
        *("choose_model", "ask_model", "search_tree", "run_command"),
        *("ask_model", "read_file", "ask_model"),
    ]
    outputs = dict(steps)
    assert "workflows/basic_workflow.py" in outputs["search_tree"]
    assert outputs["run_command"].startswith("exit status 0")
    first = outputs["search_tree"].split(":")[0]
    source = (templates.folder / first).read_text(encoding="utf-8")
    assert outputs["read_file"].startswith(source[:1000])
    turns = [event["turns"] for event in templates.events(workflow_id, "progress")]
    assert turns == [1, 2, 3]


# --- transactional_steps


@pytest.mark.parametrize("name", ["transactional_steps", "my_transactional"])
async def test_the_transactional_one_books_what_the_accounts_hold_and_nothing_of_the_rest(
    templates: Running, name: str
) -> None:
    result = await templates.run(name)
    assert result == {
        "balances": {"anna": 7_500, "ben": 12_500, "carl": 10_000},
        "refused": ["ben has less than 90000"],
    }
    table = f"public.{name}_accounts"
    assert templates.query(f"select sum(cents) from {table}") == [(30_000,)]


async def test_transfers_of_several_runs_at_once_are_all_booked(templates: Running) -> None:
    transfers = [{"source": "x", "target": "y", "cents": 10}]
    started = [await templates.start("transactional_steps", transfers=transfers) for _ in range(10)]
    for workflow_id in started:
        assert (await templates.output(workflow_id))["refused"] == []
    about = "select name, cents from public.transactional_steps_accounts where name in ('x', 'y') order by name"
    assert templates.query(about) == [("x", 9_900), ("y", 10_100)]

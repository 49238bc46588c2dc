"""Two runs side by side: steps aligned by name and occurrence, the first difference, and what has changed."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cli.command import run, succeed
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UnknownWorkflowId
from durable_workflows.models import (
    MOST_COMPARED,
    MOST_VALUES,
    Compared,
    ComparedStep,
    Preview,
    StartRequest,
)
from durable_workflows.settings import Settings
from durable_workflows.telling import differences
from helpers import running_project, until_found
from requirements import proves

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
LONG = 6000  # steps of the longest runs


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    settings = Settings(project=(tmp_path_factory.mktemp("comparing") / "project").resolve())
    async with running_project(settings, ["comparing"]) as engine:
        runs: dict[str, Json] = {
            "first": {"prices": {"nuts": 3, "bolts": 4, "parts": -5}},
            "again": {"prices": {"nuts": 3, "bolts": 4, "parts": -5}},
            "dearer": {"prices": {"nuts": 3, "bolts": 7, "parts": -5}},
            "rounded": {"prices": {"nuts": 3, "bolts": 4, "parts": -5}, "rounded": True},
            "late": {"prices": {"nuts": 3, "nails": 0}},
            "early": {"prices": {"nuts": 3, "nails": 0}, "early": True},
            "priced": {"prices": {"nuts": 3, "nails": 2}},
            "waits": {"prices": {"nuts": 3, "bolts": 4, "parts": -5}, "then": "go"},
        }
        await engine.start_all(
            [StartRequest(name="sum_up", args=args, workflow_id=own) for own, args in runs.items()]
        )
        await engine.reader.wait(list(runs))
        await insert_long_runs(engine)
        yield engine
        await engine.cancel(["waits"])


async def insert_long_runs(engine: Engine) -> None:
    """Two runs with many steps, each of which differs, the later ones with long outputs."""
    async with await tables.connect(engine.connection.database, role="test") as connection:
        for own in ("long-a", "long-b"):
            await connection.execute(
                "insert into dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, serialization,"
                " application_name) values (%s, 'SUCCESS', 'long', 0, 0, 'portable_json', 'durable-workflows')",
                [own],
            )
            await connection.execute(
                "insert into dbos.operation_outputs (workflow_uuid, function_id, function_name, output, started_at_epoch_ms,"
                " completed_at_epoch_ms, serialization) select %s, n, 'work', to_json(%s || n || repeat('x', n))::text,"
                " 0, case when n = 7 and %s = 'long-b' then 5000 else 1000 end, 'portable_json' from generate_series(1, %s) as n",
                [own, own, own, LONG],
            )


def places(found: Compared) -> list[tuple[str, int | None, int | None, str]]:
    """Name and numbers of the steps, and in what they differ."""
    return [
        (one.name, one.a and one.a.step, one.b and one.b.step, " ".join(one.differs))
        for one in found.steps
    ]


def first(found: Compared) -> ComparedStep:
    assert found.first_difference is not None
    return found.steps[found.first_difference]


def texts(change: Any) -> tuple[str, str | None, str | None]:
    return change.path, change.a and change.a.text, change.b and change.b.text


@proves("compare:aligned")
async def test_runs_that_did_the_same_do_not_differ_whatever_their_ids_times_and_children(
    engine: Engine,
) -> None:
    found = await engine.reader.compare("first", "again")
    assert (found.differs, found.first_difference) == ([], None)
    assert found.input.same
    assert found.output.same
    children = [one.a.child_workflow_id for one in found.steps if one.a]
    assert any(children)
    assert children != [one.b.child_workflow_id for one in found.steps if one.b]
    assert "DBOS.sleep" in [one.name for one in found.steps]


@proves("compare:aligned")
async def test_changed_inputs_and_outputs_are_named_with_their_places(engine: Engine) -> None:
    found = await engine.reader.compare("first", "dearer")
    assert found.differs == ["input", "output", "steps"]
    assert [texts(one) for one in found.input.changes] == [("prices.bolts", "4", "7")]
    assert [texts(one) for one in found.output.changes] == [("total", "12", "15")]
    step = first(found)
    assert (step.name, step.occurrence, step.differs) == ("look_up", 2, ["output"])
    assert [texts(one) for one in step.changes] == [("price", "4", "7")]


@proves("compare:aligned")
async def test_steps_that_only_one_run_has_stand_at_their_place_and_move_no_others(
    engine: Engine,
) -> None:
    found = await engine.reader.compare("first", "rounded")
    only = [place for place in places(found) if place[3]]
    assert [place[0] for place in only] == ["round_up"] * 3
    assert all(place[1] is None and place[3] == "missing" for place in only)
    names = [place[0] for place in places(found)]
    assert names[:5] == ["DBOS.sleep", "look_up", "round_up", "look_up", "round_up"]
    numbers = [one.b.step for one in found.steps if one.b]
    assert numbers == sorted(numbers)
    assert (first(found).b or found.steps[0].b).output == Preview(text="10", length=2)  # type: ignore[union-attr]
    # The other way round it is the other run that has them.
    back = await engine.reader.compare("rounded", "first")
    assert [place[:3] for place in places(back)] == [(n, b, a) for n, a, b, _ in places(found)]


async def test_an_error_differs_by_what_it_says_and_not_by_its_line_of_code(engine: Engine) -> None:
    found = await engine.reader.compare("late", "early")
    assert found.error.same
    assert found.differs == ["input"]
    failed = await engine.reader.compare("late", "priced")
    assert failed.differs == ["status", "input", "output", "error", "steps"]
    page = await engine.pages.comparison("late", "priced", cursor=None)
    assert "- a: ValueError: no price for nails" in page
    assert "- b: none" in page
    assert "refuse · only in a" in page
    assert "FAILED ValueError: no price for nails" in page


async def test_of_a_fork_it_is_said_what_it_took_over(engine: Engine) -> None:
    last = await engine.reader.last_step("late")
    fork = await engine.fork("late", last)
    await engine.reader.wait([fork.workflow_id])
    found = await engine.reader.compare("late", fork.workflow_id)
    assert found.taken_over is not None
    assert found.taken_over.model_dump() == {"fork": "b", "from_step": last, "steps": last - 1}
    assert [one.taken_over for one in found.steps] == [True] * (last - 1) + [False]
    assert found.differs == []
    back = await engine.reader.compare(fork.workflow_id, "late")
    assert back.taken_over is not None
    assert back.taken_over.fork == "a"
    page = await engine.pages.comparison(fork.workflow_id, "late", cursor=None)
    assert f"a is a fork of b at step {last}: it took over {last - 1} steps" in page
    unrelated = await engine.reader.compare("first", "again")
    assert unrelated.taken_over is None
    assert not any(one.taken_over for one in unrelated.steps)


async def test_a_run_that_goes_on_is_compared_as_far_as_it_is(engine: Engine) -> None:
    await until_found(lambda: engine.reader.waits("waits"), "it waits")
    page = await engine.pages.comparison("waits", "first", cursor=None)
    assert "has not ended" in page
    found = await engine.reader.compare("waits", "rounded")
    assert "status" in found.differs
    page = await engine.pages.comparison("waits", "rounded", cursor=None)
    assert "only in b, and a has not ended" in page


@proves("payload:bounded")
@pytest.mark.long
async def test_a_comparison_of_long_runs_has_pages_of_an_answer_that_lead_through_all(
    engine: Engine,
) -> None:
    found = await engine.reader.compare("long-a", "long-b")
    assert len(found.steps) == MOST_COMPARED
    assert found.left_out == 2 * (LONG - MOST_COMPARED)
    with_values = [one.a.output is not None for one in found.steps if one.a]
    assert with_values == [True] * MOST_VALUES + [False] * (MOST_COMPARED - MOST_VALUES)
    cursor, seen = 0, list[int]()
    while True:
        page = await engine.pages.comparison("long-a", "long-b", cursor=str(cursor))
        assert len(page) < 8000
        lines = [line for line in page.splitlines() if line.startswith("- step ")]
        seen += [int(line.split()[2]) for line in lines]
        assert "nothing" not in page
        following = f'Next: compare(workflow_id="long-a", other="long-b", cursor="{len(seen)}")'
        if following not in page:
            break
        cursor = len(seen)
        if cursor > 1000:  # enough: the others are alike
            cursor = MOST_COMPARED - 10
            seen = [*range(1, cursor + 1)]
    assert seen == [*range(1, MOST_COMPARED + 1)]
    assert page.endswith("All steps that differ are shown.")
    start = await engine.pages.comparison("long-a", "long-b", cursor=None)
    assert "2,000 steps above number 5,000 not compared" in start
    assert "Other durations: step 7 work #7 1 s → 5 s" in start


async def test_a_run_that_there_is_not_is_named(engine: Engine) -> None:
    for pair in (("first", "agein"), ("agein", "first")):
        with pytest.raises(UnknownWorkflowId, match=r"no run 'agein'\. Did"):
            await engine.reader.compare(*pair)


@pytest.mark.long
async def test_the_command_shows_the_same(engine: Engine) -> None:
    shown = succeed("compare", "first", "dearer", folder=engine.project)
    assert "First difference: the input; among the steps step" in shown.replace("*", "")
    assert "prices.bolts: 4 → 7" in shown
    assert "durable-workflows inspect --step N first" in shown
    found = json.loads(succeed("compare", "first", "dearer", "--json", folder=engine.project))
    assert Compared.model_validate(found) == await engine.reader.compare("first", "dearer")
    assert run("compare", "first", folder=engine.project).status == 2


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": 1}, {"x": 1}, []),
        ({"x": 1}, {"x": True}, [("x", "1", "true")]),
        ({"x": None}, {}, [("x", "null", None)]),
        ({}, {"x y": "é"}, [('["x y"]', None, '"é"')]),
        ([1, 2], [1, 3, 4], [("[1]", "2", "3"), ("[2]", None, "4")]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [("a[0].b", "1", "2")]),
        ({"a": [1]}, {"a": {"b": 1}}, [("a", "[1]", '{"b":1}')]),
        ("one", "two", [("", '"one"', '"two"')]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
    ],
)
def test_the_places_where_values_differ_are_named(a: Any, b: Any, expected: Any) -> None:
    one, other = (Preview(text=json.dumps(v), length=len(json.dumps(v))) for v in (a, b))
    assert [texts(change) for change in differences.changes(one, other, most=9)] == expected


def test_of_values_that_are_not_whole_no_places_are_named() -> None:
    whole, cut = Preview(text="[1]", length=3), Preview(text="[1", length=9)
    deep = Preview(text="[" * 100_000 + "]" * 100_000, length=200_000)
    for a, b in ((whole, cut), (cut, whole), (whole, None), (deep, whole)):
        assert differences.changes(a, b, most=9) == []
    many = Preview(text=json.dumps([*range(100)]), length=len(json.dumps([*range(100)])))
    assert len(differences.changes(whole, many, most=9)) == 9

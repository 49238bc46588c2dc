"""Structured answers keep within what a model is given, whatever the data, and say what they left out."""

import json
import random
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, JsonValue

from documents import bundled
from durable_workflows.mcp import answers
from durable_workflows.models import (
    Catalog,
    CatalogEntry,
    Changed,
    ChangedList,
    Ended,
    Running,
    ServerStatus,
    Started,
    TemplateEntry,
    Waiting,
    WaitResult,
)

LIMIT = 8000


def length(answer: BaseModel) -> int:
    return len(answer.model_dump_json(exclude_defaults=True))


def outputs(choice: random.Random, count: int) -> list[Ended]:
    values: list[JsonValue] = [
        None,
        1,
        {"a": [1, None]},
        "x" * 4000,
        '"\\\n' * 1300,
        "é漢" * 2000,
        {"words": "y " * 2000},
    ]
    return [
        Ended(
            workflow_id=f"run-{number}-{'i' * choice.choice([0, 30, 200])}",
            status="SUCCESS",
            output=choice.choice(values),
        )
        for number in range(count)
    ]


def failed(number: int) -> Ended:
    return Ended(workflow_id=f"bad-{number}", status="ERROR", error="ValueError: " + "no " * 1500)


@pytest.mark.parametrize("seed", range(60))
def test_an_answer_about_any_number_of_runs_keeps_within_the_limit(seed: int) -> None:
    choice = random.Random(seed)
    size = choice.choice([1, 3, 20, 100])
    waiting = [
        Waiting(workflow_id=f"w-{n}", topic="t" * choice.randint(0, 3000), prompt="p" * 3000)
        for n in range(choice.choice([0, 2, 100]))
    ]
    running = [
        Running(
            workflow_id=f"r-{n}", status="PENDING", step="step 1 " + "s" * choice.randint(0, 500)
        )
        for n in range(choice.choice([0, 2, 100]))
    ]
    done = [*outputs(choice, size), failed(1), failed(2)]
    choice.shuffle(done)
    answer = answers.fit_waited(
        WaitResult(done=done, waiting=waiting, running=running, timed_out=True)
    )
    assert length(answer) < LIMIT
    complete = (len(done), len(waiting), len(running))
    shown = (len(answer.done), len(answer.waiting), len(answer.running))
    assert ("Left out for length" in (answer.note or "")) == (shown != complete)


def test_small_outputs_stay_whole_beside_large_ones() -> None:
    large = [Ended(workflow_id=f"l-{n}", status="SUCCESS", output="x" * 4000) for n in range(5)]
    small = Ended(workflow_id="s", status="SUCCESS", output={"pages": 3, "none": None})
    answer = answers.fit_waited(
        WaitResult(done=[*large, small], waiting=[], running=[], timed_out=False)
    )
    assert answer.done[-1].output == {"pages": 3, "none": None}
    for one in answer.done[:-1]:
        assert isinstance(one.output, str)
        assert len(one.output) > 1000
        assert one.output.endswith("… (cut)")
    assert answer.note == "inspect(workflow_id, step=0) shows what is cut or missing."


def test_failed_runs_are_shown_before_successful_ones() -> None:
    many = [Ended(workflow_id=f"run-{n:030}", status="SUCCESS", output=1) for n in range(200)]
    result = WaitResult(done=[*many, failed(1)], waiting=[], running=[], timed_out=False)
    answer = answers.fit_waited(result)
    assert answer.done[-1].workflow_id == "bad-1"
    assert answer.done[0].workflow_id == many[0].workflow_id
    left = len(result.done) - len(answer.done)
    assert answer.note == (
        f"Left out for length: {left} done; wait for fewer workflow_ids at once, or use list_workflows."
        " inspect(workflow_id, step=0) shows what is cut or missing."
    )


def test_where_there_is_room_for_few_payloads_they_are_the_errors() -> None:
    many = [Ended(workflow_id=f"run-{n:030}", status="SUCCESS", output="x" * 99) for n in range(90)]
    result = WaitResult(done=[failed(1), *many], waiting=[], running=[], timed_out=False)
    answer = answers.fit_waited(result)
    assert len(answer.done) == 91
    assert (answer.done[0].error or "").startswith("ValueError: no no")
    assert [one.output for one in answer.done[1:]] == [None] * 90
    assert answer.note == "inspect(workflow_id, step=0) shows what is cut or missing."


def test_a_short_answer_is_left_as_it_is() -> None:
    result = WaitResult(
        done=[Ended(workflow_id="a", status="SUCCESS", output="x" * 3000)],
        waiting=[Waiting(workflow_id="b", topic="go")],
        running=[Running(workflow_id="c", status="PENDING", step="step 2 fetch")],
        timed_out=False,
    )
    assert answers.fit_waited(result).model_dump(exclude={"note"}) == result.model_dump()


@pytest.mark.parametrize("count", [1, 2, 30, 100])
def test_a_batch_that_was_waited_for_keeps_within_the_limit(count: int) -> None:
    started = [
        Started(workflow_id=f"{n:036}", status="SUCCESS", version="v1", output='"' * 4000)
        for n in range(count)
    ]
    answer = answers.fit_started(started, None, single=False)
    assert length(answer) < LIMIT
    assert answer.workflows is not None
    assert [one.workflow_id for one in answer.workflows] == [one.workflow_id for one in started]
    assert answer.version == "v1"


def test_a_start_that_ended_waiting_says_for_what() -> None:
    started = Started(workflow_id="a", status="PENDING", version="v1")
    wait = Waiting(workflow_id="a", topic="go", prompt="Shall I?")
    result = WaitResult(done=[], waiting=[wait], running=[], timed_out=False)
    answer = answers.fit_started([started], result, single=True)
    assert answer.workflow_id == "a"
    assert answer.workflows is None
    assert answer.note == "a waits for a message on topic 'go': send_message. It asks: Shall I?"


def test_of_many_changed_runs_those_left_as_they_were_come_first() -> None:
    changes = [
        Changed(workflow_id=f"{n:036}", changed=n != 900, status="CANCELLED", note="cancelled")
        for n in range(1000)
    ]
    answer = answers.fit_changed(ChangedList(workflows=changes))
    assert length(answer) < LIMIT
    assert answer.workflows[0] == changes[900]
    left = 1000 - len(answer.workflows)
    assert (
        answer.note
        == f"{left} more are not shown: {left} changed, 0 unchanged. list_workflows shows their status."
    )


def test_a_large_catalog_loses_schemas_before_names() -> None:
    schema = {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(15)}}
    entries = [
        CatalogEntry(
            name=f"flow_{n}", summary="Does it.", args_schema=schema, source="workflows/a.py"
        )
        for n in range(25)
    ]
    answer = answers.fit_catalog(Catalog(workflows=entries, templates=[], version="v1"))
    assert length(answer) < LIMIT
    assert [one.name for one in answer.workflows] == [one.name for one in entries]
    assert answer.workflows[0].args_schema == schema
    assert answer.workflows[-1].args_schema == {
        "description": 'Left out for length: workflow_catalog(query="flow_24") shows it, or read workflows/a.py.'
    }


@pytest.mark.parametrize("name", sorted(bundled.entries()))
def test_a_whole_name_brings_all_that_the_catalog_knows_of_a_workflow(name: str) -> None:
    entries = [one for key, one in bundled.entries().items() if name in key]
    answer = answers.fit_catalog(Catalog(workflows=entries, templates=[], version="v1"), name)
    assert length(answer) < LIMIT
    assert answer.workflows[0] == bundled.entries()[name]


def test_a_list_of_workflows_has_their_arguments_without_the_rest_of_their_docstrings() -> None:
    entries = list(bundled.entries().values())
    answer = answers.fit_catalog(Catalog(workflows=entries, templates=[], version="v1"))
    assert all("description" not in one.args_schema for one in answer.workflows[:2])
    assert "properties" in answer.workflows[0].args_schema


def test_the_catalog_names_steps_that_happen_at_most_once_as_far_as_there_is_room() -> None:
    few = CatalogEntry(name="few", summary="", args_schema={}, source="a.py", once=["pay", "mail"])
    many = few.model_copy(update={"name": "many", "once": [f"pay_{n:04}" for n in range(1000)]})
    catalog = Catalog(workflows=[few, many], templates=[], version="v1")
    for query in ("few", "many", None):
        shown = {one.name: one.once for one in answers.fit_catalog(catalog, query).workflows}
        assert shown["few"] == ["pay", "mail"]
        assert shown["many"][:2] == ["pay_0000", "pay_0001"]
        assert shown["many"][-1] == f"… and {1000 - len(shown['many']) + 1} more"


@pytest.mark.parametrize("count", [1, 20, 3000])
def test_a_catalog_of_any_size_keeps_within_the_limit(count: int) -> None:
    entries = [
        CatalogEntry(
            name=f"flow_{n}",
            summary="word " * 500,
            args_schema={"description": "x" * 20_000},
            source="workflows/a.py",
            once=["step" * 100] * 20,
            error="Traceback " * 500 + "SyntaxError: at the end",
        )
        for n in range(count)
    ]
    templates = [TemplateEntry(name=f"t_{n}", use_when="when " * 200) for n in range(count)]
    answer = answers.fit_catalog(Catalog(workflows=entries, templates=templates, version="v1"))
    assert length(answer) < LIMIT
    error = answer.workflows[0].error
    assert error is not None
    assert error.endswith("SyntaxError: at the end")
    assert (answer.note is None) == (count == 1)


def test_a_status_of_any_size_keeps_within_the_limit() -> None:
    status = ServerStatus.model_validate(
        {
            "project": "/p",
            "mode": "embedded",
            "database": "up",
            "supervisor_pid": 1,
            "version": "v1",
            "workers": [
                {
                    "version": f"v{n}",
                    "pid": n,
                    "host": "here",
                    "state": "ready",
                    "started_at": datetime(2026, 11, 23, tzinfo=UTC),
                    "seen_at": datetime(2026, 11, 23, tzinfo=UTC),
                    "alive": True,
                }
                for n in range(50)
            ],
            "versions_with_unfinished_runs": {f"version-{n}": n for n in range(500)},
            "counts": {"PENDING": 3},
            "database_bytes": 1,
            "logs": "/p/.dbos/logs",
            "problems": ["it is wrong " * 500] * 50,
        }
    )
    answer = answers.fit_status(status)
    assert length(answer) < LIMIT
    assert sum(answer.versions_with_unfinished_runs.values()) == sum(range(500))
    assert json.loads(answer.model_dump_json())["counts"] == {"PENDING": 3}

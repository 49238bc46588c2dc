"""The names that workflow code imports from us: waits that show their question, and questions that only people answer."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import (
    AlreadyAnswered,
    InvalidArguments,
    NotWaiting,
    PeopleOnly,
    WorkflowFinished,
)
from durable_workflows.models import Ended, OpenWait, StartRequest
from durable_workflows.telling import pages, traces
from helpers import copy_flow, kill_worker, until_found
from requirements import proves

pytestmark = pytest.mark.anyio


WRONG_SCHEMAS: list[JsonValue] = [
    {"type": "nonsense"},
    {"properties": 5},
    {"type": "string", "pattern": "("},
    {"$ref": "#/$defs/none"},
    {"$ref": "#"},
    {"$id": 5},
    [1],
]


async def started(engine: Engine, name: str, **args: JsonValue) -> str:
    return (await engine.start(StartRequest(name=name, args=args))).workflow_id


async def delayed(engine: Engine, name: str, **args: JsonValue) -> str:
    """A run that does not begin before `let_go`."""
    return (await engine.start(StartRequest(name=name, args=args, delay_seconds=600))).workflow_id


async def let_go(engine: Engine, workflow_id: str) -> None:
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await connection.execute(
            "update dbos.workflow_status set status = 'ENQUEUED', delay_until_epoch_ms = null"
            " where workflow_uuid = %s",
            [workflow_id],
        )


async def open_wait(engine: Engine, workflow_id: str, *, after_step: int = 0) -> OpenWait:
    """What the run waits for, once it waits after that step."""

    async def found() -> OpenWait | None:
        waits = await engine.reader.waits(workflow_id)
        return next((one for one in waits if one.step > after_step), None)

    return await until_found(found, "the run waits")


async def output(engine: Engine, workflow_id: str) -> JsonValue:
    async def ended() -> Ended | None:
        done = (await engine.reader.wait([workflow_id], until="change", timeout_seconds=5)).done
        return done[0] if done else None

    found = await until_found(ended, "the run has ended", seconds=60)
    assert found.status == "SUCCESS", found.error
    return found.output


@proves("wait:visible")
async def test_a_wait_shows_its_prompt_its_schema_and_no_deadline(shared: Engine) -> None:
    workflow_id = await started(shared, "wait_for_amount")
    wait = await open_wait(shared, workflow_id)
    assert (wait.topic, wait.prompt, wait.deadline) == ("amount", "How much?", None)
    assert wait.message_schema is not None
    assert wait.message_schema["required"] == ["value"]
    assert not wait.person_only
    assert (await shared.reader.run(workflow_id)).waiting[0].prompt == "How much?"
    await shared.send(workflow_id, "amount", {"value": 3, "unit": "t"})
    assert await output(shared, workflow_id) == "3 t"


async def test_a_wait_whose_schema_is_wrong_itself_takes_any_message(shared: Engine) -> None:
    workflow_id = await started(shared, "collect", topic="t", count=len(WRONG_SCHEMAS))
    for number, schema in enumerate(WRONG_SCHEMAS):
        wait = await open_wait(shared, workflow_id, after_step=2 * number)
        async with await tables.connect(shared.connection.database, role="test") as connection:
            await connection.execute(
                "update durable_workflows.waits set schema = %s where workflow_id = %s and function_id = %s",
                [json.dumps(schema), workflow_id, wait.step],
            )
        assert (await shared.reader.run(workflow_id)).waiting
        assert (await shared.reader.wait([workflow_id], until="any", timeout_seconds=0)).waiting
        assert (await shared.send(workflow_id, "t", str(number))).delivered
    assert await output(shared, workflow_id) == [
        str(number) for number in range(len(WRONG_SCHEMAS))
    ]


@proves("message:fits")
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"value": "much"}, "value: 'much' is not of type 'integer'"),
        ({"value": 1, "unit": "lb"}, "unit: 'lb' is not one of ['kg', 't']"),
        (None, "None is not of type 'object'"),
    ],
)
async def test_a_message_that_does_not_fit_is_refused_at_its_sender_and_the_wait_goes_on(
    shared: Engine, message: JsonValue, reason: str
) -> None:
    workflow_id = await started(shared, "wait_for_amount")
    await open_wait(shared, workflow_id)
    with pytest.raises(InvalidArguments) as refused:
        await shared.send(workflow_id, "amount", message)
    assert reason in refused.value.message
    assert "the run keeps waiting" in refused.value.message
    assert '"required": ["value"]' in refused.value.hint
    assert await shared.reader.messages(workflow_id) == []
    await shared.send(workflow_id, "amount", {"value": 2})
    assert await output(shared, workflow_id) == "2 kg"


@proves("message:fits")
async def test_a_message_that_came_too_early_to_be_refused_is_skipped_and_noted(
    shared: Engine,
) -> None:
    workflow_id = await delayed(shared, "wait_for_choice")
    await shared.send(workflow_id, "way", "up")
    await shared.send(workflow_id, "way", "left")
    await let_go(shared, workflow_id)
    assert await output(shared, workflow_id) == "left"

    async def noted() -> bool:
        lines = await shared.reader.log(workflow_id)
        return any("'way' does not fit and was skipped: 'up'" in line.text for line in lines)

    await until_found(noted, "the skipped message is in the log")


async def test_a_message_that_takes_for_ever_to_check_is_taken_and_no_other_run_is_held_up(
    shared: Engine,
) -> None:
    workflow_id = await started(shared, "wait_for_a_slow_pattern")
    other = await started(shared, "wait_for_choice")
    for run in (workflow_id, other):
        await open_wait(shared, run)
    endless = "a" * 60 + "!"
    await shared.send(workflow_id, "text", endless)
    await shared.send(other, "way", "left")
    assert await output(shared, other) == "left"
    assert await output(shared, workflow_id) == endless


async def test_a_wait_with_a_time_out_ends_in_time_though_a_wrong_message_came(
    shared: Engine,
) -> None:
    workflow_id = await delayed(shared, "wait_for_amount", timeout=2.5)
    await shared.send(workflow_id, "amount", "wrong")
    began = time.monotonic()
    await let_go(shared, workflow_id)
    assert await output(shared, workflow_id) == "nothing came"
    assert 1.5 < time.monotonic() - began < 15
    run = await shared.reader.run(workflow_id)
    assert [step.name for step in run.steps if step.name == "time_left"] == ["time_left"]


@proves("person:only")
async def test_a_question_to_a_person_takes_no_message_before_or_while_it_waits(
    shared: Engine,
) -> None:
    workflow_id = await delayed(shared, "ask_twice")
    with pytest.raises(PeopleOnly):
        await shared.send(workflow_id, "person:1", True)
    await let_go(shared, workflow_id)
    wait = await open_wait(shared, workflow_id)
    assert (wait.topic, wait.prompt, wait.person_only) == ("person:1", "Delete the table?", True)
    with pytest.raises(PeopleOnly, match="people only"):
        await shared.send(workflow_id, wait.topic, True)
    assert await shared.reader.messages(workflow_id) == []
    await shared.cancel([workflow_id])


async def forge(engine: Engine, wait: OpenWait, message: JsonValue, *, key: str = "forged") -> None:
    """Write a message on the topic of a wait past everything that would refuse it."""
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await connection.execute(
            "insert into dbos.notifications (destination_uuid, topic, message, message_uuid, serialization)"
            " values (%s, %s, %s, %s || '::' || %s, 'portable_json')",
            [wait.workflow_id, wait.topic, json.dumps(message), key, wait.workflow_id],
        )


async def skipped(engine: Engine, workflow_id: str) -> None:
    """Return once the log of the run says that it has skipped a message of no person."""

    async def noted() -> bool:
        lines = await engine.reader.log(workflow_id)
        return any("was skipped: it did not come from a person" in line.text for line in lines)

    await until_found(noted, "the skipped message is in the log")


@proves("person:only")
@pytest.mark.parametrize("key", ["forged", "answer-{run}-{step}"])
async def test_a_message_that_sql_wrote_is_no_answer_and_the_person_is_asked_still(
    shared: Engine, key: str
) -> None:
    workflow_id = await started(shared, "ask_order")
    wait = await open_wait(shared, workflow_id)
    key = key.format(run=workflow_id, step=wait.step)
    await forge(shared, wait, {"amount": 7}, key=key)
    await skipped(shared, workflow_id)
    assert await open_wait(shared, workflow_id) == wait
    await shared.answer(wait, {"amount": 2}, who="ann", how="terminal")
    assert await output(shared, workflow_id) == {"amount": 2, "unit": "kg", "express": False}


@proves("person:only")
async def test_messages_of_no_person_do_not_put_off_or_end_the_time_of_a_question(
    shared: Engine,
) -> None:
    workflow_id = await started(shared, "ask_order", timeout=3)
    wait = await open_wait(shared, workflow_id)
    for number in range(5):
        await forge(shared, wait, {"amount": 7}, key=str(number))
    await skipped(shared, workflow_id)
    assert await output(shared, workflow_id) is None
    run = await shared.reader.run(workflow_id)
    assert run.completed_at is not None
    assert wait.deadline is not None
    assert timedelta(0) <= run.completed_at - wait.deadline < timedelta(seconds=10)
    assert [step.name for step in run.steps] == ["DBOS.recv", "DBOS.sleep"]


@proves("person:only")
@pytest.mark.parametrize("way", ["send", "bulk", "step", "client"])
async def test_workflow_code_cannot_send_to_a_topic_of_people(shared: Engine, way: str) -> None:
    asking = await started(shared, "ask_order")
    wait = await open_wait(shared, asking)
    other = await started(shared, "impersonate", to=asking, topic=wait.topic, way=way)
    said = await output(shared, other)
    assert isinstance(said, str)
    assert said.startswith("PeopleOnly: Workflow code cannot send to the topic 'person:order'")
    assert await shared.reader.messages(asking) == []
    await shared.cancel([asking])


@proves("person:only")
async def test_workflow_code_cannot_note_an_answer_by_our_own_engine(shared: Engine) -> None:
    asking = await started(shared, "ask_order")
    await open_wait(shared, asking)
    other = await started(shared, "impersonate", to=asking, topic="", way="engine")
    said = await output(shared, other)
    assert str(said).startswith("PeopleOnly: A step of a run started this process")
    assert (await shared.reader.run(asking)).answers == []
    await shared.cancel([asking])


@proves("person:only")
async def test_a_run_that_sends_to_a_topic_of_people_fails_with_the_reason(shared: Engine) -> None:
    asking = await started(shared, "ask_order")
    other = await started(shared, "impersonate_async", to=asking, topic="person:order")
    [ended] = (await shared.reader.wait([other], timeout_seconds=30)).done
    assert ended.status == "ERROR"
    assert str(ended.error).startswith("durable_workflows.errors.PeopleOnly: ")
    await shared.cancel([asking])


@proves("person:only")
async def test_a_send_that_a_release_before_recorded_is_replayed_and_answers_nothing(
    shared: Engine,
) -> None:
    workflow_id = await delayed(shared, "send_and_ask", to="any", topic="person:2")
    async with await tables.connect(shared.connection.database, role="test") as connection:
        await connection.execute(
            "insert into dbos.operation_outputs (workflow_uuid, function_id, function_name)"
            " values (%s, 1, 'DBOS.send')",
            [workflow_id],
        )
    await let_go(shared, workflow_id)
    wait = await open_wait(shared, workflow_id)
    await forge(shared, wait, "a machine says so")
    await skipped(shared, workflow_id)
    await shared.answer(wait, "ann says so", who="ann", how="terminal")
    assert await output(shared, workflow_id) == "ann says so"


@proves("person:noted")
async def test_a_fork_that_takes_an_answer_over_says_so_and_one_from_the_question_asks_again(
    shared: Engine,
) -> None:
    workflow_id = await started(shared, "ask_twice")
    first = await open_wait(shared, workflow_id)
    await shared.answer(first, True, who="ann", how="terminal", shown="Look:\nDelete the table?")
    second = await open_wait(shared, workflow_id, after_step=first.step)
    fork = await shared.fork(workflow_id, second.step)
    assert "takes over what ann answered at step 1 ('Look: Delete the table?': true)" in str(
        fork.note
    )
    assert "a fork from step 1 asks again" in str(fork.note)
    assert (await open_wait(shared, fork.workflow_id)).prompt == "Really?"
    [taken] = (await shared.reader.run(fork.workflow_id)).answers
    assert (taken.who, taken.taken_from) == ("ann", workflow_id)
    again = await shared.fork(fork.workflow_id, 1)
    assert "ann" not in str(again.note)
    assert (await open_wait(shared, again.workflow_id)).prompt == "Delete the table?"
    assert (await shared.reader.run(again.workflow_id)).answers == []
    second_fork = await shared.fork(fork.workflow_id, second.step)  # over two generations
    [taken] = (await shared.reader.run(second_fork.workflow_id)).answers
    assert taken.taken_from == workflow_id
    for one in (workflow_id, fork.workflow_id, again.workflow_id, second_fork.workflow_id):
        await shared.cancel([one])


@proves("person:noted")
async def test_what_a_person_answered_is_in_the_trace_with_who_when_how_and_what_was_shown(
    shared: Engine,
) -> None:
    workflow_id = await started(shared, "ask_order")
    wait = await open_wait(shared, workflow_id)
    await forge(shared, wait, {"amount": 7})
    await skipped(shared, workflow_id)
    shown = "run        …\n\nWhat shall be ordered?"
    await shared.answer(wait, {"amount": 2}, who="ann", how="terminal", shown=shown)
    await output(shared, workflow_id)
    run = await shared.reader.run(workflow_id, preview=20_000)
    [answer] = run.answers
    assert (answer.step, answer.topic, answer.answer.text) == (1, "person:order", '{"amount": 2}')
    assert (answer.shown, answer.taken_from) == (shown, None)
    text = traces.markdown(run)
    told = next(line for line in text.splitlines() if line.startswith("- step 1: "))
    assert told.startswith('- step 1: {"amount": 2} · by ann (in a terminal) · 20')
    assert "shown: 'run … What shall be ordered?'" in told
    assert 'cursor="answers:0"' in text
    assert shown in pages.payload(run, which="answers")
    listed = pages.messages(workflow_id, await shared.reader.messages(workflow_id))
    assert 'skipped by step 1: not given by a person: {"amount": 7}' in listed
    assert 'received by step 1: {"amount":2}' in listed


@proves("person:once")
async def test_the_first_answer_counts_and_the_next_question_is_another_one(
    shared: Engine,
) -> None:
    workflow_id = await started(shared, "ask_twice")
    first = await open_wait(shared, workflow_id)
    await shared.answer(first, True, who="ann", how="terminal")
    await shared.answer(first, True, who="ann", how="terminal")  # repeated: nothing more happens
    with pytest.raises(AlreadyAnswered, match="ann already answered this at"):
        await shared.answer(first, False, who="bob", how="terminal")
    second = await open_wait(shared, workflow_id, after_step=first.step)
    assert second.prompt == "Really?"
    await shared.answer(second, False, who="bob", how="terminal")
    assert await output(shared, workflow_id) == [True, False]
    assert len(await shared.reader.messages(workflow_id)) == 2
    with pytest.raises(WorkflowFinished):
        await shared.answer(second, True, who="ann", how="terminal")


@proves("person:once")
async def test_two_people_who_answer_at_once_give_one_answer(shared: Engine) -> None:
    workflow_id = await started(shared, "ask_twice")
    wait = await open_wait(shared, workflow_id)
    refused: list[str] = []

    async def answer(who: str) -> None:
        try:
            await shared.answer(wait, who == "ann", who=who, how="terminal")
        except AlreadyAnswered:
            refused.append(who)

    async with anyio.create_task_group() as group:
        group.start_soon(answer, "ann")
        group.start_soon(answer, "bob")
    assert len(refused) == 1
    assert len(await shared.reader.messages(workflow_id)) == 1
    await shared.cancel([workflow_id])


@proves("person:once")
async def test_an_answer_that_does_not_fit_or_comes_for_another_step_is_refused(
    shared: Engine,
) -> None:
    workflow_id = await started(shared, "ask_twice")
    wait = await open_wait(shared, workflow_id)
    with pytest.raises(InvalidArguments, match="'maybe' is not of type 'boolean'"):
        await shared.answer(wait, "maybe", who="ann", how="terminal")
    other = wait.model_copy(update={"step": 7})
    with pytest.raises(NotWaiting):
        await shared.answer(other, True, who="ann", how="terminal")
    assert await shared.reader.messages(workflow_id) == []
    await shared.cancel([workflow_id])


@pytest.mark.long
@proves("recovery:worker-killed", "wait:visible")
async def test_after_a_killed_worker_the_same_question_waits_until_the_same_deadline(
    engine: Engine, folder: Path
) -> None:
    copy_flow("asking", folder)
    workflow_id = await started(engine, "wait_for_amount", timeout=600)
    before = await open_wait(engine, workflow_id)
    assert before.deadline is not None
    assert timedelta(0) < before.deadline - datetime.now(UTC) < timedelta(seconds=601)
    async with await tables.connect(engine.connection.database, role="test") as connection:
        published = "select xmin::text from durable_workflows.waits where workflow_id = %s"

        async def row() -> str | None:
            found = await (await connection.execute(published, [workflow_id])).fetchone()
            return None if found is None else found["xmin"]

        first = await row()
        kill_worker(folder)

        async def again() -> bool:
            assert await engine.reader.waits(workflow_id) == [before]
            with pytest.raises(InvalidArguments):
                await engine.send(workflow_id, "amount", "wrong")
            return await row() != first

        await until_found(again, "the next worker has said what the run waits for")
    assert await engine.reader.waits(workflow_id) == [before]
    await engine.send(workflow_id, "amount", {"value": 1})
    assert await output(engine, workflow_id) == "1 kg"

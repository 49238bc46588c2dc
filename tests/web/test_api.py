"""The page's API: each call, on real runs, in the engine's words."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from documents import typescript
from durable_workflows import content
from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from durable_workflows.system import users
from durable_workflows.web.calls import GETS, POSTS, Call
from requirements import proves
from transports import serving
from visiting import Visitor, visiting

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
QUERIES: dict[str, Json] = {"step": {"step": 1}, "value": {"of": "output"}}  # beside the id


async def start(
    engine: Engine, name: str, workflow_id: str, *, ends: bool = True, **args: object
) -> str:
    request = StartRequest.model_validate({"name": name, "args": args, "workflow_id": workflow_id})
    await engine.start(request)
    if ends:
        await engine.reader.wait([workflow_id])
    return workflow_id


async def refusal(
    visitor: Visitor, status: int, path: str, body: Json | None = None, **query: Any
) -> Json:
    """The error of a call that is refused."""
    path = f"/api/{path}"
    answer = await (visitor.get(path, **query) if body is None else visitor.post(path, body))
    assert answer.status_code == status, answer.text
    return answer.json()


def words(parts: list[Json]) -> str:
    return "".join(part["text"] for part in parts)


# Looking


@pytest.fixture(scope="module")
async def whole(shared: Engine) -> str:
    """A run that has all that a run can have."""
    return await start(shared, "deleted_leaf", "page-whole", text="all")


@pytest.mark.parametrize("call", GETS, ids=lambda call: call.path)
async def test_every_answer_is_what_its_type_says(visitor: Visitor, whole: str, call: Call) -> None:
    takes = call.takes.model_fields
    query = {name: whole for name in ("id", "a", "b") if name in takes} | QUERIES.get(call.path, {})
    answer = await visitor.asked(call.path, **query)
    TypeAdapter(call.answers).validate_python(answer)


async def test_the_project_is_told(visitor: Visitor, shared: Engine) -> None:
    found = await visitor.asked("project")
    assert found == {
        "project": str(shared.project),
        "application": "project",
        "mode": "embedded",
        "version": (await shared.catalog()).version,
        "release": content.package_version(),
        "user": users.login(),
    }


async def test_runs_are_listed_as_they_are_asked_for(visitor: Visitor, shared: Engine) -> None:
    await start(shared, "fails", "listed-1", message="listed, a")
    await start(shared, "fails", "listed-2", message="listed, b")
    wanted = {"name": "fails", "text": "listed, ", "limit": 1}  # others failed before
    failed = await visitor.asked("runs", status="ERROR", **wanted)
    assert [one["workflow_id"] for one in failed["workflows"]] == ["listed-2"]
    assert failed["counts"]["ERROR"] >= 2
    rest = await visitor.asked("runs", status="ERROR", cursor=failed["next_cursor"], **wanted)
    assert [one["workflow_id"] for one in rest["workflows"]] == ["listed-1"]
    oldest = await visitor.asked("runs", oldest_first=1, status="", **wanted)
    assert oldest["workflows"][0]["workflow_id"] == "listed-1"


async def test_runs_are_found_by_what_started_them_and_by_a_text(visitor: Visitor) -> None:
    body: Json = {"name": "fails", "args": {"message": "Rarely said"}, "workflow_id": "found-1"}
    await visitor.done("start", **body)
    found = await visitor.asked("runs", started_by="page", text="rarely", name="fails")
    assert [one["workflow_id"] for one in found["workflows"]] == ["found-1"]
    version = (await visitor.asked("project"))["version"]
    assert (await visitor.asked("runs", version=version, text="rarely"))["workflows"]
    assert not (await visitor.asked("runs", version="other", text="rarely"))["workflows"]


async def test_two_runs_are_compared(visitor: Visitor, shared: Engine) -> None:
    one = await start(shared, "fails", "page-one", message="x")
    other = await start(shared, "fails", "page-other", message="y")
    found = await visitor.asked("compare", a=one, b=other)
    assert (found["a"]["workflow_id"], found["b"]["workflow_id"]) == (one, other)
    assert found["steps"][found["first_difference"]]["differs"] == ["error"]
    assert (await refusal(visitor, 404, "compare", a=one, b="page-nobody"))["hint"]


async def test_a_schedule_is_paused_resumed_and_run_now(visitor: Visitor, shared: Engine) -> None:
    await start(shared, "schedule_greetings", "page-schedule", cron="0 0 1 1 *")
    assert (await visitor.done("schedule", name="greetings", do="pause"))["status"] == "PAUSED"
    [listed] = (await visitor.asked("status"))["schedules"]
    assert (listed["name"], listed["status"]) == ("greetings", "PAUSED")
    assert (await visitor.done("schedule", name="greetings", do="resume"))["status"] == "ACTIVE"
    started = await visitor.done("schedule", name="greetings", do="run")
    [ended] = (await shared.reader.wait([started["workflow_id"]])).done
    assert ended.status == "SUCCESS"
    await visitor.done("schedule", name="greetings", do="pause")


async def test_a_schedule_is_made_without_code_and_deleted(visitor: Visitor) -> None:
    body: Json = {
        "name": "page-made",
        "workflow": "fails",
        "cron": "0 3 * * *",
        "args": {"message": "no"},
    }
    made = await visitor.done("create_schedule", **body)
    assert (made["existing"], made["schedules"][0]["args"]) == (False, '{"message": "no"}')
    assert (await visitor.done("create_schedule", **body))["existing"]
    other = {**body, "cron": "0 4 * * *"}
    assert "already a schedule" in (await refusal(visitor, 400, "create_schedule", other))["error"]
    listed = (await visitor.asked("status"))["schedules"]
    assert "page-made" in [one["name"] for one in listed]
    await visitor.done("schedule", name="page-made", do="delete")
    listed = (await visitor.asked("status"))["schedules"]
    assert "page-made" not in [one["name"] for one in listed]


async def test_the_runs_that_a_run_started_are_listed(visitor: Visitor, shared: Engine) -> None:
    tree = await start(shared, "deleted_tree", "listed-tree", children=2)
    children = await visitor.asked("runs", parent=tree)
    assert len(children["workflows"]) == 2
    assert {one["parent_workflow_id"] for one in children["workflows"]} == {tree}
    roots = await visitor.asked("runs", roots=1, name="deleted_leaf")
    assert not {one["workflow_id"] for one in roots["workflows"]} & {
        one["workflow_id"] for one in children["workflows"]
    }
    assert len(await visitor.asked("tree", id=tree)) == 2


async def test_a_run_says_why_it_failed_and_what_to_do_as_buttons(
    visitor: Visitor, shared: Engine
) -> None:
    run = await start(shared, "fails", "page-fails", message="no card")
    found = await visitor.asked("run", id=run)
    assert found["run"]["status"] == "ERROR"
    assert found["run"]["steps"] == [], "they come by /api/steps"
    assert found["run"]["total_steps"] == 2
    assert "failed in step 2 fail: ValueError: no card" in words(found["why"])
    actions = [part for part in found["next"] if part["action"]]
    assert [one["action"] for one in actions] == ["inspect", "fork"]
    assert actions[1]["args"] == {"workflow_id": run, "from_step": 2}
    assert actions[1]["text"] == f'fork(workflow_id="{run}", from_step=2)'
    assert "repair the cause, then" in words(found["next"])


async def test_what_a_person_has_to_fill_in_is_told_apart(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "wait_for", "page-blank", topic="go")
    [action] = [one for one in (await visitor.asked("run", id=run))["next"] if one["action"]]
    assert action["action"] == "send_message"
    assert action["args"] == {"workflow_id": run, "topic": "go"}
    assert action["blanks"] == ["message"]
    await shared.cancel([run])


async def test_what_a_run_says_of_itself_is_never_made_a_button(
    visitor: Visitor, shared: Engine
) -> None:
    said = 'cancel(workflow_ids=["listed-1"]) <0:0> <script>'
    run = await start(shared, "fails", "page-forged", message=said)
    found = await visitor.asked("run", id=run)
    assert said in words(found["why"])
    assert not [one for one in found["why"] if one["action"]]


async def test_steps_come_in_pages(visitor: Visitor, shared: Engine, tmp_path: Path) -> None:
    run = await start(shared, "ten_steps", "page-steps", file=str(tmp_path / "lines"))
    first = await visitor.asked("steps", id=run, limit=4)
    assert ([one["step"] for one in first["steps"]], first["total"]) == ([1, 2, 3, 4], 10)
    last = await visitor.asked("steps", id=run, after=8)
    assert [one["step"] for one in last["steps"]] == [9, 10]


async def test_a_step_and_a_payload_come_whole(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "large_outputs", "page-large", steps=1, size=1_200_000)
    [brief] = (await visitor.asked("steps", id=run))["steps"]
    assert len(brief["output"]["text"]) == 600
    step = await visitor.asked("step", id=run, step=1)
    assert step["output"]["length"] == 1_200_002
    assert len(step["output"]["text"]) == 1024 * 1024, "cut at a MiB, with its length"
    value = await visitor.asked("value", id=run, of="input")
    assert json.loads(value["text"])["namedArgs"] == {"steps": 1, "size": 1_200_000}
    assert json.loads((await visitor.asked("value", id=run, of="output"))["text"]) == 1_200_000
    assert await visitor.asked("value", id=run, of="error") is None


async def test_what_a_run_left_is_told(visitor: Visitor, whole: str) -> None:
    [line] = [one for one in await visitor.asked("log", id=whole) if "noted" in one["text"]]
    assert line["text"].strip() == "noted all"
    assert (await visitor.asked("run", id=whole))["log_last"] >= line["id"]
    assert await visitor.asked("log", id=whole, after=line["id"] + 1000) == []
    [stream] = await visitor.asked("streams", id=whole)
    assert (stream["key"], stream["length"], stream["closed"]) == ("texts", 1, True)
    assert [one["value"]["text"] for one in stream["values"]] == ['"all"']
    source = await visitor.asked("source", id=whole)
    assert source["path"].endswith("deleting.py")
    assert "def deleted_leaf" in source["text"]


async def test_messages_are_told(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "wait_for", "page-messages", topic="go")
    await visitor.done("send", workflow_id=run, topic="go", message={"a": 1})
    await shared.reader.wait([run])
    [message] = await visitor.asked("messages", id=run)
    assert (message["topic"], message["message"]["text"]) == ("go", '{"a":1}')


async def test_the_inbox_has_who_waits_with_what_it_asks_and_for_whom(
    visitor: Visitor, shared: Engine
) -> None:
    await start(shared, "ask_order", "inbox-person")
    await start(shared, "wait_for", "inbox-message", topic="go")
    family = await start(shared, "starts_one_that_asks", "inbox-family", prompt="Which?")
    ours = [
        one for one in await visitor.asked("waits") if one["root_workflow_id"].startswith("inbox-")
    ]
    found = {one["wait"]["workflow_id"]: one for one in ours}
    since = [datetime.fromisoformat(one["wait"]["since"]) for one in ours]
    assert since == sorted(since), "oldest first"
    asked = {one: found[one]["asked"] for one in found}
    assert asked == {
        "inbox-person": "person",
        "inbox-message": "message",
        f"{family}-child": "message",
    }
    assert found[f"{family}-child"]["root_workflow_id"] == family
    assert found["inbox-person"]["root_workflow_id"] == "inbox-person"
    assert found["inbox-person"]["wait"]["prompt"] == "What shall be ordered?"
    assert "amount" in found["inbox-person"]["wait"]["message_schema"]["properties"]
    assert '"topic":"go"' in found["inbox-message"]["input"]["text"].replace(" ", "")
    await shared.cancel(["inbox-person", "inbox-message", family], children=True)


async def test_the_catalog_and_the_status_are_told(visitor: Visitor, shared: Engine) -> None:
    names = [one["name"] for one in (await visitor.asked("catalog"))["workflows"]]
    assert "ten_steps" in names
    status = await visitor.asked("status")
    assert (status["database"], status["problems"]) == (
        "up",
        (await shared.reader.status()).problems,
    )
    assert "workflows" in [one["name"] for one in status["queues"]]


async def test_a_run_is_downloaded_whole(visitor: Visitor, shared: Engine, tmp_path: Path) -> None:
    file = str(tmp_path / "lines")
    run = await start(shared, "ten_steps", "page/../whole é", file=file, steps=50)
    answer = await visitor.get("/api/download", id=run)
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="page-..-whole.json"'
    whole = answer.json()
    assert whole["workflow_id"] == run
    assert [one["step"] for one in whole["steps"]] == [*range(1, 51)]
    assert {"input", "output", "messages", "log", "streams", "answers"} <= whole.keys()


@pytest.mark.parametrize(
    "call", [one for one in GETS if "id" in one.takes.model_fields], ids=lambda call: call.path
)
async def test_of_a_run_that_is_not_there_that_is_told(visitor: Visitor, call: Call) -> None:
    said = await refusal(visitor, 404, call.path, id="page-nobody", **QUERIES.get(call.path, {}))
    assert said["error"].startswith("There is no run 'page-nobody'.")
    assert said["hint"]


async def test_a_step_that_is_not_there_is_told(visitor: Visitor, whole: str) -> None:
    assert (
        "no finished step 99" in (await refusal(visitor, 404, "step", id=whole, step=99))["error"]
    )
    assert (await refusal(visitor, 404, "download", id="page-nobody"))["hint"]


# Acting


async def test_a_run_is_started_once_by_the_page(visitor: Visitor, shared: Engine) -> None:
    body: Json = {"name": "wait_for", "args": {"topic": "go"}, "workflow_id": "page-started"}
    started = await visitor.done("start", **body)
    assert (started["workflow_id"], started["existing"]) == ("page-started", False)
    assert (await visitor.done("start", **body))["existing"]
    assert (await shared.reader.run("page-started")).started_by == "page"
    [listed] = (await visitor.asked("runs", name="wait_for", limit=1))["workflows"]
    assert listed["started_by"] == "page"
    await shared.cancel(["page-started"])


async def test_a_start_that_does_not_fit_says_so(visitor: Visitor) -> None:
    said = await refusal(visitor, 400, "start", {"name": "wait_for", "args": {"topik": "go"}})
    assert "topik" in said["error"]
    assert said["hint"].startswith("Pass arguments like this")
    said = await refusal(visitor, 404, "start", {"name": "wait_fore"})
    assert "wait_for" in said["error"]


async def test_a_run_is_forked(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "fails", "page-forked", message="x")
    forked = await visitor.done("fork", workflow_id=run, from_step=2)
    assert (forked["forked_from"], forked["from_step"]) == (run, 2)
    [listed] = [
        one.forks
        for one in (await shared.reader.runs(name="fails")).workflows
        if one.workflow_id == run
    ]
    assert [one.workflow_id for one in listed] == [forked["workflow_id"]]
    said = await refusal(visitor, 404, "fork", {"workflow_id": run, "from_step": 9})
    assert "has no step 9" in said["error"]


async def test_a_move_only_looks_unless_it_is_told_to_and_says_why_a_run_stays(
    visitor: Visitor, shared: Engine
) -> None:
    run = await start(shared, "fails", "page-not-moved", message="x")
    found = await visitor.done("move", workflow_ids=[run])
    assert (found["dry_run"], found["note"]) == (True, "0 runs can be moved, 1 stays.")
    [said] = found["workflows"]
    assert (said["verdict"], said["note"]) == ("stays", "it has ended")
    neither = await refusal(visitor, 400, "move", {})
    assert "Give either workflow_ids or filter" in neither["error"]
    unknown = await refusal(visitor, 400, "move", {"workflow_ids": [run], "version": "none"})
    assert "There is no version 'none'" in unknown["error"]
    wrong = await refusal(visitor, 400, "move", {"filter": {"names": "fails"}})
    assert wrong["error"].startswith("filter.names: ")


async def test_a_run_is_rehearsed_on_the_newest_code(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "fails", "page-rehearsed", message="x")
    found = await visitor.asked("rehearsal", id=run)
    assert (found["workflow_id"], found["verdict"], found["steps"]) == (run, "safe", 2)
    assert (await refusal(visitor, 404, "rehearsal", id="page-nobody"))["hint"]


async def test_runs_are_cancelled_resumed_and_deleted_together(
    visitor: Visitor, shared: Engine
) -> None:
    runs = [await start(shared, "wait_for", f"page-many-{n}", topic="go") for n in range(3)]
    cancelled = await visitor.done("cancel", workflow_ids=runs, children=False)
    assert [one["changed"] for one in cancelled["workflows"]] == [True] * 3
    resumed = await visitor.done("resume", workflow_ids=runs[:1])
    assert resumed["workflows"][0]["changed"]
    kept = await visitor.done("delete", workflow_ids=runs)
    assert {one["workflow_id"]: one["changed"] for one in kept["workflows"]} == {
        runs[0]: False,
        runs[1]: True,
        runs[2]: True,
    }
    assert "has not ended" in str(kept)
    await shared.cancel(runs[:1])


@proves("person:noted")
async def test_the_answer_of_a_person_counts_and_is_noted_as_given_on_the_page(
    visitor: Visitor, shared: Engine
) -> None:
    run = await start(shared, "ask_order", "page-asks")
    [wait] = [
        one["wait"] for one in await visitor.asked("waits") if one["wait"]["workflow_id"] == run
    ]
    refused = await visitor.post(
        "/api/answer", {"workflow_id": run, "step": wait["step"], "value": {"amount": "much"}}
    )
    assert refused.status_code == 400
    value = {"amount": 3, "unit": "t", "express": False}
    body: Json = {"workflow_id": run, "step": wait["step"], "value": value}
    assert (await visitor.done("answer", **body))["delivered"]
    await shared.reader.wait([run])
    [answer] = await visitor.asked("answers", id=run)
    assert (answer["who"], answer["how"]) == (users.login(), "page")
    assert answer["shown"] == "What shall be ordered?"
    output = (await shared.reader.run(run)).output
    assert output is not None
    assert json.loads(output.text) == value


@proves("person:once")
async def test_of_two_pages_the_first_answer_counts(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "ask_order", "page-asks-two")
    [wait] = await shared.reader.waits(run)
    await shared.answer(
        wait, {"amount": 1, "unit": "kg", "express": False}, who="ann", how="terminal"
    )
    body: Json = {"workflow_id": run, "step": wait.step, "value": {"amount": 2}}
    said = await refusal(visitor, 400, "answer", body)
    assert "ann already answered this" in said["error"]
    never = await refusal(visitor, 400, "answer", {**body, "step": 77})
    assert "does not wait at step 77" in never["error"]


async def test_a_person_topic_takes_no_message(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "ask_order", "page-asks-message")
    body: Json = {"workflow_id": run, "topic": "person:order", "message": {"amount": 2}}
    assert "people only" in (await refusal(visitor, 400, "send", body))["error"]
    await shared.cancel([run])


async def test_a_message_with_a_key_arrives_once(visitor: Visitor, shared: Engine) -> None:
    run = await start(shared, "wait_for", "page-key", topic="go")
    body: Json = {"workflow_id": run, "topic": "go", "message": 1, "idempotency_key": "k"}
    assert (await visitor.done("send", **body))["note"] is None
    assert "already sent" in (await visitor.done("send", **body))["note"]
    [done] = (await shared.reader.wait([run])).done
    assert done.output == 1
    assert len(await shared.reader.messages(run)) == 1


@pytest.mark.parametrize("call", POSTS, ids=lambda call: call.path)
async def test_what_concerns_a_run_that_is_not_there_changes_nothing(
    visitor: Visitor, shared: Engine, call: Call
) -> None:
    values: Json = {
        "name": "nobody",
        "workflow": "nobody",
        "cron": "0 3 * * *",
        "workflow_id": "page-nobody",
        "workflow_ids": ["page-nobody"],
        "from_step": 1,
        "to_step": 1,
        "step": 1,
        "value": 1,
        "topic": "go",
        "message": 1,
        "do": "pause",
    }
    before = sum((await shared.reader.counts()).values())  # runs of other tests may still end
    fields = call.takes.model_fields.items()
    needed = [name for name, field in fields if field.is_required() or name == "workflow_ids"]
    body = {name: values[name] for name in needed}
    said = await refusal(visitor, 404, call.path, body)
    assert "nobody" in said["error"]
    assert said["hint"]
    assert sum((await shared.reader.counts()).values()) == before


# What the page knows of it


def test_the_types_of_the_page_are_those_of_the_models() -> None:
    assert typescript.FILE.read_text(encoding="utf-8") == typescript.text(), "run `make docs`"


# Where something is broken


async def test_what_cannot_start_is_told_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    wrong = {"DBOS_DATABASE_URL": "mysql://secret@nowhere/db"}
    with serving(Settings(project=tmp_path / "empty"), environment=wrong) as served:
        async with visiting(served) as visitor:
            said = await refusal(visitor, 500, "project")
            status = await visitor.asked("status")
    assert "Write it as postgresql://" in said["hint"]
    assert "Write it as postgresql://" in str(status["problems"])
    assert "secret" not in str(said) + str(status)

"""Answers to a model stay short whatever the data, say what they left out, and name the call that brings it: through a client, with runs as large as they come."""

import ast
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from mcp.types import Implementation, TextContent, TextResourceContents

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.mcp import uris
from durable_workflows.mcp.server import build_server
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.models import ScheduleRequest, StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of, until_found
from mcp import Client

pytestmark = [pytest.mark.anyio, pytest.mark.long]
Json = dict[str, Any]

LIMIT = 8000
STEPS = 1000
RUNS = 10_000
WAITING = 500
CHILDREN = 1200
VERSIONS = 60
MEGABYTE = 1_000_000
EVENTS = 'inspect(workflow_id="tells", step=0, cursor="events:0")'
LONGEST_PAGE = 30_000  # characters of the list of runs as a resource
LONGEST_TRACE = 3_000_000  # characters of a trace as JSON, which no model reads
PROMPT = "".join(f"Shall we do {number}? " for number in range(5000))
CALL = re.compile(r"\w+\((?:\w+=(?:\"(?:[^\"\\]|\\.)*\"|\d+)(?:, )?)*\)")

FLOWS = '''
"""Runs with much of everything."""

from typing import Any

from dbos import DBOS

from durable_workflows import receive


@DBOS.step()
def work(number: int, failing: list[int]) -> dict[str, Any]:
    if number in failing:
        raise ValueError(f"no card for customer {number}")
    return {"number": number, "text": "word " * 20}


@DBOS.workflow()
def many_steps(count: int, failing: list[int]) -> int:
    """Many steps; only a failure of the last one is not caught."""
    done = 0
    for number in range(1, count + 1):
        try:
            done += work(number, failing)["number"]
        except ValueError:
            if number == count:
                raise
    return done


@DBOS.workflow()
def echo(value: Any) -> Any:
    """Return what was given."""
    return value


@DBOS.step()
def explode(text: str, times: int) -> None:
    raise ValueError(text * times)


@DBOS.workflow()
def breaks(text: str, times: int) -> None:
    """Fail with a long message."""
    explode(text, times)


@DBOS.workflow()
def asks(prompt: str) -> Any:
    """Ask a long question."""
    return receive("answer", prompt=prompt)


@DBOS.workflow()
def chooses(size: int) -> Any:
    """Ask for a long text."""
    return receive("choice", schema={"enum": ["x" * size]})


@DBOS.workflow()
def tells(size: int) -> None:
    """Say much of itself."""
    for number in range(120):
        DBOS.set_event(f"event {number}", number)
    for done in (1, 2):
        DBOS.set_event("progress", {"done": done})
    DBOS.set_event("draft", "é" * size)


@DBOS.workflow()
def prints(lines: int) -> None:
    """Print much."""
    for number in range(lines):
        print(f"line {number} " + "x" * (number % 500))
'''
MANY = '''
"""More workflows than a catalog can show."""

from dbos import DBOS
from pydantic import BaseModel, create_model

Wide: type[BaseModel] = create_model("Wide", **{{f"field_{{n}}": (str, ...) for n in range({fields})}})


'''
ONE_OF_MANY = '''
@DBOS.workflow()
def {name}(wide: Wide{arguments}) -> None:
    """Do the work of {name}: {words}"""
'''

DOUBLES = "from dbos import DBOS\n" + 200 * (
    "\n\n@DBOS.workflow()\ndef same() -> None:\n    pass\n"
)


def catalog_files() -> dict[str, str]:
    """200 workflows with long descriptions and large schemas, and one whose schema alone is more than an answer holds."""
    words = "and what else is to be said of it " * 20
    one_of = [ONE_OF_MANY.format(name=f"flow_{n}", words=words, arguments="") for n in range(200)]
    broad = "".join(f", argument_{n}: str = 'a default value that is long'" for n in range(150))
    return {
        "large_runs.py": FLOWS,
        "many_a.py": MANY.format(fields=20) + "\n".join(one_of),
        "many_b.py": MANY.format(fields=1)
        + ONE_OF_MANY.format(name="broad_one", words="as flow_7 does it", arguments=broad),
    }


class Agent:
    """Calls tools, and reads what a model would read of their answers: never much."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def text(self, tool: str, /, *, error: bool = False, **arguments: Any) -> str:
        result = await self._client.call_tool(tool, arguments)
        [content] = result.content
        assert isinstance(content, TextContent)
        assert result.is_error == error, content.text
        structured = json.dumps(
            result.structured_content, ensure_ascii=False, separators=(",", ":")
        )
        assert max(len(content.text), len(structured)) < LIMIT, f"{tool}: {content.text[:500]}"
        return content.text

    async def call(self, tool: str, /, **arguments: Any) -> Json:
        return json.loads(await self.text(tool, **arguments))

    async def inspect(self, workflow_id: str, **arguments: Any) -> str:
        return await self.text("inspect", workflow_id=workflow_id, **arguments)

    async def follow(self, named: str) -> str:
        """Make a call that an answer names."""
        [expression] = ast.parse(named).body
        assert isinstance(expression, ast.Expr)
        call = expression.value
        assert isinstance(call, ast.Call)
        given = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        return await self.text(ast.unparse(call.func), **given)

    async def pages(self, first: str) -> AsyncIterator[str]:
        """The answer to a call, and those to which each names the next."""
        page = await self.follow(first)
        yield page
        while following := re.search(rf"^Next(?: part)?: ({CALL.pattern})$", page, re.MULTILINE):
            page = await self.follow(following[1])
            yield page

    async def whole(self, first: str) -> str:
        """A payload that is shown in parts."""
        parts: list[str] = []
        async for page in self.pages(first):
            part = re.search(r"\n```\w*\n(.*)\n```\n", page, re.DOTALL)
            assert part is not None, page
            parts.append(part[1])
        return "".join(parts)

    async def read(self, uri: str) -> str:
        [found] = (await self._client.read_resource(uri)).contents
        assert isinstance(found, TextResourceContents)
        return found.text

    async def listed(self) -> list[str]:
        """The names of all resources, over all pages."""
        names: list[str] = []
        cursor: str | None = None
        while cursor or not names:
            page = await self._client.list_resources(cursor=cursor)
            names += [one.name for one in page.resources]
            cursor = page.next_cursor
        return names


def calls(text: str) -> list[str]:
    return CALL.findall(text)


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Engine]:
    """The engine of a project that has much of everything."""
    folder = (tmp_path_factory.mktemp("large") / "project").resolve()
    (folder / "workflows").mkdir(parents=True)
    (folder / ".env").write_text(
        "".join(f"A_SETTING_OF_THE_PROJECT_{n}=1\n" for n in range(300)), encoding="utf-8"
    )
    copy_flow("messages", folder)
    for name, text in catalog_files().items():
        (folder / "workflows" / name).write_text(text, encoding="utf-8")
    project = Project(Settings(project=folder))
    engine = await project.engine()
    await start_large_runs(engine)
    await make_schedules(engine)
    async with await tables.connect(engine.connection.database, role="test") as connection:
        await fill(connection)
    yield engine
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    left = processes_of(folder)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="module")
async def agent(engine: Engine) -> AsyncGenerator[Agent]:
    server = build_server(Settings(project=engine.project))
    named = Implementation(name="a client with a long name " * 40, version="1" * 1000)
    async with Client(server, client_info=named) as client:
        await client.call_tool("server_status", {})  # the engine is there
        yield Agent(client)


async def make_schedules(engine: Engine) -> None:
    for number in range(60):
        request = ScheduleRequest(
            name=f"{number} {'é' * 90}",
            workflow="echo",
            cron="0 0 1 1 *",
            args={"value": "é" * 9000},
            timezone="America/Argentina/ComodRivadavia",
        )
        await engine.create_schedule(request)


async def start_large_runs(engine: Engine) -> None:
    large = "é" * (MEGABYTE // 2 - 100)
    runs: dict[str, tuple[str, Json]] = {
        "steps": ("many_steps", {"count": STEPS, "failing": [STEPS // 2, STEPS]}),
        "echoes": ("echo", {"value": large}),
        "broken": ("breaks", {"text": "no card ", "times": MEGABYTE // 8}),
        "asks": ("asks", {"prompt": PROMPT}),
        "chooses": ("chooses", {"size": 100_000}),
        "gets": ("collect", {"topic": "t", "count": 30}),
        "prints": ("prints", {"lines": 2500}),
        "tells": ("tells", {"size": MEGABYTE // 10}),
    }
    for workflow_id, (name, args) in runs.items():
        await engine.start(StartRequest(name=name, args=args, workflow_id=workflow_id))
    for number in range(20):
        text = f"{number} " + "m" * (MEGABYTE - 10 if number == 7 else 10_000)
        await engine.send("gets", "t", text)
        await engine.send("gets", "other", text)
    ended = ["steps", "echoes", "broken", "asks", "chooses", "prints", "tells"]
    result = await engine.reader.wait(ended, timeout_seconds=150)
    assert not result.running

    async def has_received_all() -> bool:
        sent = [one for one in await engine.reader.messages("gets") if one.topic == "t"]
        return all(one.consumed_by_step is not None for one in sent)

    await until_found(has_received_all, "each message has been received", seconds=60)


async def fill(connection: tables.Connection) -> None:
    """Runs that would take long to run: copies of rows, which no worker executes."""
    await copies(connection, "run-", RUNS, "SUCCESS")
    await connection.execute(
        "insert into dbos.workflow_output (workflow_uuid, output)"
        """ select 'run-' || n, '"' || repeat('x', 5000) || '"' from generate_series(1, 100) as n"""
    )
    await copies(connection, "wait-", WAITING, "PENDING", version="gone")
    await connection.execute(
        "insert into durable_workflows.waits (workflow_id, function_id, executor_id, topic, since, prompt)"
        " select 'wait-' || n, 1, 'nobody', 'go', now(), %s from generate_series(1, %s) as n",
        [PROMPT, WAITING],
    )
    await copies(connection, "child-", CHILDREN, "PENDING", version="gone", parent="parent-1")
    await copies(connection, "parent-", 1, "PENDING", version="gone")
    await connection.execute(
        "update dbos.workflow_status set status = 'ERROR' where workflow_uuid = 'child-900'"
    )
    for number in range(VERSIONS):
        version = f"version-{number}"
        await copies(connection, f"of-{version}-", 1, "PENDING", version=version)
    await copies(connection, "huge-", 1, "SUCCESS")
    large_outputs = """
        insert into dbos.operation_outputs
            (workflow_uuid, function_id, function_name, output, started_at_epoch_ms, completed_at_epoch_ms, serialization)
        select 'huge-1', n, 'work', (select output from dbos.workflow_output where workflow_uuid = 'echoes'), n, n + 1000, 'portable_json'
        from generate_series(1, %s) as n
    """
    await connection.execute(large_outputs, [STEPS])


async def copies(
    connection: tables.Connection,
    prefix: str,
    count: int,
    status: str,
    *,
    version: str | None = None,
    parent: str | None = None,
) -> None:
    """Runs like `steps`, older than it."""
    statement = """
        insert into dbos.workflow_status
            (workflow_uuid, status, name, executor_id, created_at, updated_at, application_version,
            queue_name, serialization, application_name, recovery_attempts, parent_workflow_id)
        select %s || n, %s, name, 'nobody', created_at - n, updated_at - n, coalesce(%s, application_version),
            queue_name, serialization, application_name, 1, %s
        from dbos.workflow_status, generate_series(1, %s) as n where workflow_uuid = 'steps'
    """
    await connection.execute(statement, [prefix, status, version, parent, count])


# Steps


async def test_of_a_thousand_steps_the_summary_has_those_that_failed_and_the_calls_for_the_others(
    agent: Agent,
) -> None:
    summary = await agent.inspect("steps")
    assert (
        f"**Why:** failed in step {STEPS} work: ValueError: no card for customer {STEPS}" in summary
    )
    assert f'fork(workflow_id="steps", from_step={STEPS})' in summary
    assert "\n500. work · " in summary
    assert "FAILED ValueError: no card for customer 500" in summary
    shown = {int(number) for number in re.findall(r"^(\d+)\. ", summary, re.MULTILINE)}
    left = re.findall(
        rf"^… left out before (\d+) \(work ×\d+\): ({CALL.pattern})$", summary, re.MULTILINE
    )
    assert left
    for before, named in left:
        found = re.findall(r"^## (\d+)\. ", await agent.follow(named), re.MULTILINE)
        assert int(found[0]) not in shown
        assert int(found[0]) < int(before)


async def test_all_pages_together_have_each_of_a_thousand_steps_once(agent: Agent) -> None:
    found: list[str] = []
    async for page in agent.pages('inspect(workflow_id="steps", detail="full")'):
        found += re.findall(r"^## (\d+)\. work · ", page, re.MULTILINE)
    assert found == [str(number) for number in range(1, STEPS + 1)]


async def test_a_run_with_a_gigabyte_of_outputs_is_shown_as_soon_as_any_other(agent: Agent) -> None:
    summary = await agent.inspect("huge-1")
    assert "(999,802 bytes)" in summary
    assert "… left out before " in summary
    full = await agent.inspect("huge-1", detail="full")
    [page] = [one for one in calls(full) if "step=2" in one]
    assert "characters 0 to 6," in await agent.follow(page)


# Payloads


async def test_a_large_payload_is_named_and_comes_in_parts_that_make_the_whole(
    agent: Agent,
) -> None:
    summary = await agent.inspect("echoes")
    assert "Why:** it has finished." in summary
    given = [one for one in calls(summary) if "cursor" in one]
    assert given == [
        'inspect(workflow_id="echoes", step=0, cursor="input:0")',
        'inspect(workflow_id="echoes", step=0, cursor="output:0")',
    ]
    assert json.loads(await agent.whole(given[1])) == "é" * (MEGABYTE // 2 - 100)
    last = await agent.inspect("echoes", step=0, cursor="input:499900")
    assert "This is the end." in last


async def test_a_large_error_is_told_by_its_beginning_and_can_be_read_to_its_traceback(
    agent: Agent,
) -> None:
    summary = await agent.inspect("broken")
    assert "**Why:** failed in step 1 explode: ValueError: no card no card" in summary
    assert 'fork(workflow_id="broken", from_step=1)' in summary
    [whole] = re.findall(rf"The whole error: ({CALL.pattern})", summary)
    page = await agent.follow(whole)
    [length] = re.findall(r"characters 0 to [\d,]+ of ([\d,]+)", page)
    end = int(length.replace(",", "")) - 5000
    assert "in explode" in await agent.inspect("broken", step=0, cursor=f"error:{end}")
    assert "in explode" in await agent.inspect("broken", step=1, cursor=str(end))


async def test_a_long_question_is_cut_and_the_call_that_brings_it_brings_all_of_it(
    agent: Agent,
) -> None:
    whole = 'inspect(workflow_id="asks", step=0, cursor="prompt:0")'
    again = await agent.call(
        "start_workflow", name="asks", args={"prompt": ""}, workflow_id="asks", wait_seconds=20
    )
    waited = await agent.call("wait_for_workflows", workflow_ids=["asks"])
    assert waited["waiting"][0]["topic"] == "answer"
    for note in (again["note"], waited["note"]):
        assert 'inspect(workflow_id, step=0, cursor="prompt:0") shows a whole prompt.' in note
    summary = await agent.inspect("asks")
    assert "**Why:** waits for a message on topic 'answer'" in summary
    assert whole in calls(summary)
    assert await agent.whole(whole) == f"Topic 'answer': {PROMPT}"


async def test_the_newest_value_of_each_event_is_shown_and_can_be_had_whole(agent: Agent) -> None:
    summary = await agent.inspect("tells")
    _, _, shown = summary.partition("Events, the newest 100:\n")
    lines = shown.splitlines()
    assert re.fullmatch('- draft: "é{150,200}…', lines[0])
    assert lines[1:4] == ['- progress: {"done":2}', "- event 119: 119", "- event 118: 118"]
    assert lines[6:8] == ["- … 94 more", f"All: {EVENTS}"]
    first, second, *_, last = (await agent.whole(EVENTS)).split("\n\n")
    assert first == f'draft: "{"é" * (MEGABYTE // 10)}"'
    assert (second, last) == ('progress: {"done":2}', "event 22: 22")


async def test_an_example_that_is_too_long_is_left_out_and_not_what_is_waited_for(
    agent: Agent,
) -> None:
    waited = await agent.call("wait_for_workflows", workflow_ids=["chooses", "asks"])
    topics = {one["workflow_id"]: one["topic"] for one in waited["waiting"]}
    assert topics == {"chooses": "choice", "asks": "answer"}
    assert "A long example was left out; inspect(workflow_id)" in waited["note"]
    assert "message=…)" in await agent.inspect("chooses")
    wrong = {"workflow_id": "chooses", "topic": "choice", "message": "y"}
    assert "'y' is not one of ['xxx" in await agent.text("send_message", error=True, **wrong)


async def test_a_client_that_cannot_ask_is_shown_the_beginning_of_a_long_question(
    agent: Agent,
) -> None:
    told = await agent.text("answer_in_person", error=True, workflow_id="asks")
    assert "Shall we do 0?" in told
    assert "durable-workflows approve asks" in told


async def test_large_messages_are_all_there_once_and_those_received_can_be_had_whole(
    agent: Agent,
) -> None:
    lines: list[str] = []
    async for page in agent.pages('inspect(workflow_id="gets", detail="messages")'):
        lines += re.findall(r"^\d+\. topic .*$", page, re.MULTILINE)
    assert [one.partition(".")[0] for one in lines] == [str(n) for n in range(1, 41)]
    received = [one for one in lines if "received by step" in one]
    assert len(received) == 20
    [named] = calls(received[7])
    assert '"7 mmm' in await agent.follow(named)


async def test_a_long_log_is_read_backwards_without_a_gap(agent: Agent) -> None:
    found: list[int] = []
    page = await agent.inspect("prints", detail="log")
    while True:
        numbers = [int(one) for one in re.findall(r" out: line (\d+)", page)]
        found = numbers + found
        older = re.search(rf"older ones: ({CALL.pattern})", page)
        if older is None:
            break
        page = await agent.follow(older[1])
    assert found[-1] == 2499
    assert found == list(range(found[0], 2500))
    assert len(found) > 1900


# Many runs


async def test_a_list_of_ten_thousand_runs_is_a_page_with_all_counts(agent: Agent) -> None:
    for limit in (20, 100):
        page = await agent.call("list_workflows", limit=limit)
        assert page["counts"]["SUCCESS"] > RUNS
        ids = [one["workflow_id"] for one in page["workflows"]]
        following = await agent.call("list_workflows", limit=limit, cursor=page["next_cursor"])
        assert not {one["workflow_id"] for one in following["workflows"]} & set(ids)


async def test_the_pages_of_a_list_have_each_run_once(agent: Agent) -> None:
    found: list[str] = []
    page = await agent.call("list_workflows", waiting=True, limit=100)
    found += [one["workflow_id"] for one in page["workflows"]]
    while "next_cursor" in page:
        cursor = page["next_cursor"]
        page = await agent.call("list_workflows", waiting=True, limit=100, cursor=cursor)
        found += [one["workflow_id"] for one in page["workflows"]]
    waits = {f"wait-{n}" for n in range(1, WAITING + 1)}
    assert len(found) == len(set(found))
    assert waits <= set(found)


async def test_the_pages_of_the_resource_follow_each_other_without_a_gap(agent: Agent) -> None:
    found: list[str] = []
    uri = uris.RUNS
    for _ in range(20):
        text = await agent.read(uri)
        assert len(text) < LONGEST_PAGE
        page = json.loads(text)
        found += [one["workflow_id"] for one in page["workflows"]]
        uri = f"{uris.RUNS}?cursor={page['next_cursor']}"
    assert len(found) == len(set(found)) == 1000
    copies = [one for one in found if one.startswith("run-")]
    assert copies == [f"run-{n}" for n in range(1, len(copies) + 1)]
    assert len([one for one in await agent.listed() if one in found]) == 200


async def test_a_hundred_runs_that_wait_are_told_of_in_one_answer(agent: Agent) -> None:
    ids = [f"wait-{n}" for n in range(1, 101)]
    answer = await agent.call("wait_for_workflows", workflow_ids=ids)
    shown = [one["workflow_id"] for one in answer["waiting"]]
    assert all(one["topic"] == "go" for one in answer["waiting"])
    assert f"Left out for length: {100 - len(shown)} waiting; wait for fewer" in answer["note"]
    rest = await agent.call("wait_for_workflows", workflow_ids=ids[len(shown) :])
    assert [one["workflow_id"] for one in rest["waiting"]] == ids[len(shown) :]


async def test_a_hundred_runs_with_large_outputs_are_all_told_of(agent: Agent) -> None:
    ids = ["broken", *(f"run-{n}" for n in range(1, 100))]
    answer = await agent.call("wait_for_workflows", workflow_ids=ids)
    assert [one["workflow_id"] for one in answer["done"]] == ids
    assert answer["done"][0]["error"].startswith("ValueError: no card")
    assert "inspect(workflow_id, step=0) shows what is cut or missing." in answer["note"]
    assert "x" * 4000 in await agent.inspect("run-1", step=0)
    alone = await agent.call("wait_for_workflows", workflow_ids=["broken"])
    assert "(cut" in alone["done"][0]["error"][-60:]


async def test_a_batch_of_a_hundred_that_was_waited_for_is_one_answer(agent: Agent) -> None:
    batch = [
        {"name": "echo", "args": {"value": "v" * 20_000}, "workflow_id": f"b-{n}"}
        for n in range(100)
    ]
    answer = await agent.call("start_workflow", batch=batch, wait_seconds=40)
    assert [one["workflow_id"] for one in answer["workflows"]] == [f"b-{n}" for n in range(100)]
    assert {one["status"] for one in answer["workflows"]} == {"SUCCESS"}
    assert "inspect(workflow_id, step=0) shows" in answer["note"]


async def test_the_children_that_failed_are_told_of_first(agent: Agent) -> None:
    summary = await agent.inspect("parent-1")
    assert "Children:\n- child-900 many_steps ERROR\n" in summary
    [tree] = [one for one in calls(summary) if 'detail="tree"' in one]
    found: list[str] = []
    async for page in agent.pages(tree):
        assert "the first 1,000" in page
        found += re.findall(r"^- (child-\d+) ", page, re.MULTILINE)
    assert len(found) == len(set(found)) == 1000


async def test_what_became_of_hundreds_of_children_is_told_in_numbers(agent: Agent) -> None:
    ids = ["parent-1", "run-1", *(f"wait-{n}" for n in range(401, 499))]
    for tool, changed in (("cancel", CHILDREN + 98), ("resume", CHILDREN + 98)):
        answer = await agent.call(tool, workflow_ids=ids, children=True)
        shown = answer["workflows"]
        unchanged = [one["workflow_id"] for one in shown if not one.get("changed")]
        assert unchanged == ["run-1"]
        assert "1 run that these started" in answer["note"]  # child-900, which had ended
        [more, of_them] = [
            int(one.replace(",", ""))
            for one in re.findall(r"([\d,]+) (?:more are|changed)", answer["note"])
        ]
        assert more + len(shown) == len(ids) + CHILDREN - 1
        assert of_them + len(shown) - len(unchanged) == changed


# The catalog, the status, files


async def test_a_catalog_of_two_hundred_has_all_names_and_how_to_get_the_rest(
    agent: Agent,
) -> None:
    answer = await agent.call("workflow_catalog")
    assert "workflow_catalog(query=NAME) shows one" in answer["note"]
    for number in range(200):
        assert re.search(rf"\bflow_{number}\b", json.dumps(answer))
    assert "many_steps" in json.dumps(answer)
    for name in ("flow_7", "flow_1"):  # which are parts of other names, too
        one = await agent.call("workflow_catalog", query=name)
        assert one["workflows"][0]["name"] == name
        assert "field_19" in str(one["workflows"][0]["args_schema"])


async def test_of_a_schema_that_is_longer_than_an_answer_the_fields_are_told(agent: Agent) -> None:
    answer = await agent.call("workflow_catalog", query="broad_one")
    [entry] = answer["workflows"]
    assert entry["args_schema"]["required"] == ["wide"]
    assert entry["args_schema"]["properties"]["argument_1"] == {"type": "string"}
    assert "read workflows/many_b.py for the rest" in entry["args_schema"]["description"]


async def test_a_status_with_much_of_everything_says_what_it_left_out(agent: Agent) -> None:
    answer = await agent.call("server_status")
    assert answer["database"] == "up"
    assert "270 dotenv" in answer["note"]
    assert "`durable-workflows status`" in answer["note"]
    assert answer["versions_with_unfinished_runs"]["others"] >= VERSIONS - 20
    assert answer["sessions"][0]["client"].startswith("a client with a long name")


async def test_a_text_that_is_too_long_is_refused(agent: Agent) -> None:
    told = await agent.text("write_workflow", error=True, name="long", source="#" * 500_000)
    assert "source: String should have at most 200000 characters" in told


async def test_searches_of_any_length_are_answered(agent: Agent) -> None:
    assert "No passage contains a word of" in await agent.text("search_docs", query="x")
    assert "# Passages for" in await agent.text("search_docs", query="fork step " * 100)
    refused = await agent.text("search_docs", error=True, query="fork step " * 200)
    assert "at most 1000 characters" in refused


# Mistakes


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("start_workflow", {"name": "many_steps", "args": {"count": "9" * 900_000, "failing": []}}, "is not of type 'integer'"),
        ("start_workflow", {"name": "x" * 100_000}, "There is no workflow 'xxx"),
        ("start_workflow", {"name": "echo", "args": {"y" * 100_000: 1}}, "is not an argument"),
        ("start_workflow", {"name": "echo", "args": {"value": "x" * 2 * MEGABYTE}}, "the limit is 1,000,000"),
        ("start_workflow", {"name": "echo", "args": {"value": 1}, "workflow_id": "i" * 100_000}, "workflow_id must have 1 to 256"),
        ("start_workflow", {"batch": [{"nam": "x" * 1000} for _ in range(100)]}, "195 more"),
        ("start_workflow", {"batch": [{"name": "echo"}] * 101}, "at most 100 items"),
        ("inspect", {"workflow_id": "i" * 100_000}, "at most 1024 characters"),
        ("inspect", {"workflow_id": "i" * 1000}, "There is no run 'iii"),
        ("inspect", {"workflow_id": "steps", "z" * 100_000: 1}, "Its arguments are workflow_id"),
        ("inspect", {"workflow_id": "steps", "cursor": "9" * 100_000}, "is not a cursor"),
        ("list_workflows", {"cursor": "9" * 100_000}, "is not a cursor"),
        ("wait_for_workflows", {"workflow_ids": ["i" * 1000] * 500}, "at most 100 items"),
        ("cancel", {"workflow_ids": [f"{n}" for n in range(500)]}, "at most 100 items"),
        ("resume", {"workflow_ids": ["steps", "nobody"]}, "There is no run 'nobody'"),
        ("send_message", {"workflow_id": "asks", "topic": "t" * 100_000, "message": 1}, "at most 256 characters"),
        ("send_message", {"workflow_id": "asks", "topic": "answer", "message": "m" * 2 * MEGABYTE}, "the limit is 1,000,000"),
        ("fork", {"workflow_id": "steps", "from_step": 10**9}, "give one from 1 to 1001"),
        ("write_workflow", {"name": "x" * 100_000, "source": "x = 1"}, "at most 256 characters"),
        ("write_workflow", {"name": "doubles", "source": DOUBLES}, "workflows/doubles.py:10"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_mistake_is_told_in_a_few_words_however_large_it_is(
    agent: Agent, tool: str, arguments: Json, told: str
) -> None:
    assert told in await agent.text(tool, error=True, **arguments)


async def test_of_hundreds_of_warnings_about_a_written_file_the_first_are_told(
    agent: Agent,
) -> None:
    head = "from dbos import DBOS\nimport time\n\n@DBOS.workflow()\ndef faulty() -> None:\n"
    source = head + "    time.time()\n" * 200
    written = await agent.call("write_workflow", name="faulty", source=source)
    assert [one["name"] for one in written["workflows"]] == ["faulty"]
    assert "workflows/faulty.py:6" in written["warnings"][0]
    assert "192 more: `durable-workflows check workflows/faulty.py`" in written["warnings"][-1]


async def test_a_trace_for_programs_is_no_book_either(agent: Agent) -> None:
    trace = await agent.read(uris.expand(uris.TRACE_JSON, workflow_id="huge-1"))
    assert len(trace) < LONGEST_TRACE
    whole = json.loads(trace)
    assert [one["step"] for one in whole["steps"]] == list(range(1, STEPS + 1))
    [left_out] = [one for one in whole["left_out"] if one["what"] == "steps' outputs"]
    assert (left_out["count"], left_out["steps"]) == (STEPS, f"1-{STEPS}")
    assert "characters 0 to 6," in await agent.follow(left_out["get"])


async def test_no_view_of_any_run_is_long_or_slow(agent: Agent) -> None:
    for workflow_id in (
        "steps",
        "huge-1",
        "echoes",
        "broken",
        "asks",
        "gets",
        "prints",
        "tells",
        "parent-1",
    ):
        for detail in ("summary", "full", "tree", "messages", "log"):
            await agent.inspect(workflow_id, detail=detail)
        summary = await agent.inspect(workflow_id)
        trace = await agent.read(uris.expand(uris.TRACE, workflow_id=workflow_id))
        assert trace.splitlines()[0] == summary.splitlines()[0]
        assert len(trace) < LIMIT
        await agent.inspect(workflow_id, step=0)


WAITING_IDS = [f"wait-{number}" for number in range(1, 100)]
# For each tool, what makes its answer as long as it can be here, and whether that is an error.
LONGEST: dict[str, tuple[Json, bool]] = {
    "workflow_catalog": ({}, False),
    "start_workflow": (
        {"batch": [{"name": "echo", "args": {"value": "é" * 9000}}] * 100, "wait_seconds": 40},
        False,
    ),
    "list_workflows": ({"limit": 100}, False),
    "wait_for_workflows": (
        {"workflow_ids": ["echoes", "broken", *WAITING_IDS[:98]], "timeout_seconds": 0},
        False,
    ),
    "inspect": ({"workflow_id": "huge-1", "detail": "full"}, False),
    "compare": ({"workflow_id": "huge-1", "other": "steps"}, False),
    "send_message": (
        {"workflow_id": "gets", "topic": "u" * 256, "message": "é" * 1000},
        False,
    ),
    "resolve_step": ({"workflow_id": "asks", "step": 1, "happened": True}, True),
    "fork": ({"workflow_id": "huge-1", "from_step": STEPS}, False),
    "fork_failed": ({"workflow_ids": ["broken", *WAITING_IDS[:99]]}, False),
    "rewind": ({"workflow_id": "steps", "to_step": STEPS}, False),
    "schedule": ({"action": "list"}, False),
    "move_to_version": ({"workflow_ids": WAITING_IDS}, False),
    "cancel": ({"workflow_ids": WAITING_IDS}, False),
    "resume": ({"workflow_ids": WAITING_IDS}, False),
    "delete_workflows": ({"workflow_ids": WAITING_IDS}, False),
    "answer_in_person": ({"workflow_id": "asks"}, True),
    "write_workflow": (
        {"name": "long_one", "source": "import time\n" + "time.time()\n" * 9000},
        True,
    ),
    "search_docs": ({"query": "workflow step queue fork version message " * 24}, False),
    "server_status": ({}, False),
}
RESOURCES = {
    uris.RUNS_PAGE: (uris.RUNS, LONGEST_PAGE),
    uris.TRACE: (uris.expand(uris.TRACE, workflow_id="huge-1"), LIMIT),
    uris.TRACE_JSON: (uris.expand(uris.TRACE_JSON, workflow_id="huge-1"), LONGEST_TRACE),
}
FILES = {uris.TEMPLATE, uris.REFERENCE}  # of this installation: as long as they are


@pytest.mark.parametrize("name", [spec.function.__name__ for spec in TOOLS])
async def test_every_tool_keeps_to_the_limit_in_a_project_with_much_of_everything(
    agent: Agent, name: str
) -> None:
    arguments, error = LONGEST[name]
    await agent.text(name, error=error, **arguments)


@pytest.mark.parametrize("template", sorted({*uris.ALL} - FILES))
async def test_every_resource_about_runs_keeps_to_its_limit(agent: Agent, template: str) -> None:
    uri, limit = RESOURCES[template]
    assert len(await agent.read(uri)) < limit

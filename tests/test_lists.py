"""Lists of runs, over many: each page has what its filters say, in its order, and reads little more than what it shows."""

import functools
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import pytest
from mcp.types import TextContent

from cli.command import begin, run, succeed
from durable_workflows.database import tables
from durable_workflows.engine import details
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.records import milliseconds
from durable_workflows.errors import InvalidArguments
from durable_workflows.mcp.server import build_server
from durable_workflows.models import Run, Wanted
from durable_workflows.settings import APPLICATION, Settings
from durable_workflows.system import processes
from helpers import running_project
from mcp import Client
from requirements import proves

pytestmark = pytest.mark.anyio

DONE = 30_000
WAITING = 3_000
SLEEPING = 2_000
UNFINISHED = WAITING + SLEEPING
CHILDREN = 5_000
AT = 1_700_000_000_000
PAGE = 20
LOOKED = 2_000  # runs that are looked through for one page with a text
DEEP = 2_000

# The runs that wait are the oldest ones, those that sleep the newest; what is rare, and all but three runs that no other started, lies behind most others.
_RUNS: LiteralString = """
insert into dbos.workflow_status (
    workflow_uuid, name, status, created_at, parent_workflow_id, updated_at, executor_id, application_version, application_name, queue_name, serialization,
    recovery_attempts, attributes
)
select id, name, status, %(at)s + age, parent, %(at)s, 'parked', case when name = 'rare' then 'older' else %(version)s end, %(application)s, 'workflows',
    'portable_json', 0, case when name = 'rare' then '{"session": "once"}' when id like '%%7' then '{"session": "often"}' end::jsonb
from (
    select 'wait-' || n as id, 'asks' as name, 'PENDING' as status, n as age, 'asking' as parent from generate_series(1, %(waiting)s) as n
    union all
    select 'root-' || n, 'rare', case when n > 5 then 'SUCCESS' else 'CANCELLED' end, 10000 + n, null from generate_series(1, 10) as n
    union all
    select 'done-' || n, 'common', case when n %% 50 = 0 then 'ERROR' else 'SUCCESS' end, 20000 + n / 2,
        case when n between 10001 and 10000 + %(children)s then 'mother' else 'root-1' end
    from generate_series(1, %(done)s) as n
    union all
    select 'sleep-' || n, 'sleeps', 'PENDING', 50000 + n, 'root-2' from generate_series(1, %(sleeping)s) as n
    union all
    select id, 'mothers', 'PENDING', 0, null from unnest(array['mother', 'asking']) as id
) as run
"""
_PARKED: LiteralString = """
insert into durable_workflows.parked (workflow_id, version, owner, muted_below)
select workflow_uuid, application_version, 'somebody', 1 from dbos.workflow_status where status = 'PENDING'
"""
_WAITS: LiteralString = """
insert into durable_workflows.waits (workflow_id, function_id, executor_id, topic, since, prompt)
select 'wait-' || n, 1, 'parked', 'go', now(), case when n %% 2 = 0 then 'Shall we?' end from generate_series(1, %(waiting)s) as n
"""
_PARKED_ON: LiteralString = """
insert into durable_workflows.parked_on (workflow_id, kind, target, key)
select 'wait-' || n, 'message', 'wait-' || n, 'go' from generate_series(1, %(waiting)s) as n
"""
_RECORDED: LiteralString = """
with given as (
    insert into dbos.workflow_input (workflow_uuid, inputs)
    select workflow_uuid, '{"positionalArgs":[],"namedArgs":{"id":"' || workflow_uuid || case when workflow_uuid = any(%(inputs)s) then ' Say \\"Néedle\\"' else '' end || '"}}'
    from dbos.workflow_status
)
insert into dbos.workflow_output (workflow_uuid, output, error)
select workflow_uuid, case when workflow_uuid = 'done-3' then '["needle","Say \\"Néedle\\""]' else '"nothing"' end,
    case when workflow_uuid = 'root-2' then '{"name":"ValueError","message":"SAY \\"NéEDLE\\""}' end
from dbos.workflow_status where status <> 'PENDING'
"""
NEEDLE = 'say "néedle"'  # in the inputs of these, in an output and in an error
INPUTS = ["done-29999", "done-29998", "done-15000", "wait-1"]
WITH_NEEDLE = {*INPUTS, "done-3", "root-2"}
_CREATED = datetime.fromtimestamp((AT + 30_000) / 1000, UTC)

FILTERS: Mapping[str, Wanted] = {
    "all": {},
    "SUCCESS": {"status": "SUCCESS"},
    "ERROR": {"status": "ERROR"},
    "PENDING": {"status": "PENDING"},
    "CANCELLED": {"status": "CANCELLED"},
    "ENQUEUED": {"status": "ENQUEUED"},
    "a common name": {"name": "common"},
    "a rare name": {"name": "rare"},
    "no such name": {"name": "nothing"},
    "since": {"since": _CREATED},
    "roots": {"roots": True},
    "a parent": {"parent": "mother"},
    "the parent of most": {"parent": "root-1"},
    "waiting": {"waiting": True},
    "not waiting": {"waiting": False},
    "waiting children": {"parent": "asking", "waiting": True},
    "waiting roots": {"roots": True, "waiting": True},
    "rare, and failed": {"name": "rare", "status": "CANCELLED"},
    "failed children": {"parent": "mother", "status": "ERROR"},
    "sleeping, but not waiting": {"name": "sleeps", "waiting": False},
    "a version of few": {"version": "older"},
    "no such version": {"version": "never"},
    "a session of few": {"started_by": "once"},
    "a session of many": {"started_by": "often"},
    "no such session": {"started_by": "never"},
    "a session of few, and failed": {"started_by": "once", "status": "CANCELLED"},
    "a version of few, since then": {"version": "older", "since": _CREATED},
}
ALL = (
    "select workflow_uuid, name, status, created_at, coalesce(parent_workflow_id, '') as parent, application_version as version,"
    " attributes ->> 'session' as session from dbos.workflow_status"
)


@pytest.fixture(scope="module")
async def many(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project with many runs that no worker executes."""
    settings = Settings(project=(tmp_path_factory.mktemp("lists") / "project").resolve())
    async with running_project(settings, []) as engine:
        values = {
            "at": AT,
            "version": (await engine.catalog()).version,
            "application": APPLICATION,
            "done": DONE,
            "waiting": WAITING,
            "sleeping": SLEEPING,
            "children": CHILDREN,
            "inputs": INPUTS,
        }
        async with await tables.connect(engine.connection.database, role="test") as connection:
            for statement in (_RUNS, _PARKED, _WAITS, _PARKED_ON, _RECORDED):
                await connection.execute(statement, values)
            for table in ("dbos.workflow_status", "durable_workflows.parked", "durable_workflows.waits"):  # fmt: skip
                await connection.execute(f"vacuum analyze {table}")
        yield engine


@pytest.fixture(scope="module")
async def rows(many: Engine) -> list[tables.Row]:
    """All runs, newest first."""
    async with await tables.connect(many.connection.database, role="test") as connection:
        found = await (await connection.execute(ALL)).fetchall()
    return sorted(found, key=lambda row: (row["created_at"], row["workflow_uuid"]), reverse=True)


@pytest.fixture(scope="module")
async def client(many: Engine) -> AsyncIterator[Client]:
    async with Client(build_server(Settings(project=many.project))) as client:
        await client.call_tool("server_status", {})  # the engine is there
        yield client


def expected(rows: Sequence[tables.Row], wanted: Wanted) -> list[tables.Row]:
    """The runs of a list, as they would be found by reading all."""
    since = milliseconds(wanted.get("since")) or 0
    parent = "" if wanted.get("roots") else wanted.get("parent")
    found = [
        row
        for row in rows
        if wanted.get("status", row["status"]) == row["status"]
        and wanted.get("name", row["name"]) == row["name"]
        and wanted.get("version", row["version"]) == row["version"]
        and wanted.get("started_by", row["session"]) == row["session"]
        and (parent is None or parent == row["parent"])
        and wanted.get("waiting", row["name"] == "asks") == (row["name"] == "asks")
        and row["created_at"] >= since
    ]
    return found[::-1] if wanted.get("oldest_first") else found


def both_orders(cases: Mapping[str, Wanted]) -> list[Any]:
    return [
        pytest.param({**wanted, **order}, id=name + (", oldest first" if order else ""))
        for name, wanted in cases.items()
        for order in (Wanted(), Wanted(oldest_first=True))
    ]


@pytest.mark.parametrize("wanted", both_orders(FILTERS))
async def test_a_list_has_what_is_wanted_in_its_order_on_each_page(
    many: Engine, rows: list[tables.Row], wanted: Wanted
) -> None:
    ids = [row["workflow_uuid"] for row in expected(rows, wanted)]
    first = await many.reader.runs(limit=PAGE, **wanted)
    assert [run.workflow_id for run in first.workflows] == ids[:PAGE]
    assert (first.next_cursor is None) == (len(ids) <= PAGE)
    assert (sum(first.counts.values()), first.waiting) == (len(rows), WAITING)
    cursor = (await many.reader.page(limit=DEEP, **wanted)).next_cursor
    if cursor is None:
        return
    deep = await many.reader.page(limit=PAGE, cursor=cursor, **wanted)
    assert [run.workflow_id for run in deep.runs] == ids[DEEP:][:PAGE]


@pytest.mark.parametrize("wanted", both_orders(FILTERS))
async def test_a_page_reads_little_more_than_what_it_shows(
    many: Engine, rows: list[tables.Row], wanted: Wanted
) -> None:
    found = expected(rows, wanted)
    edges = [(None, None), *((row["created_at"], row["workflow_uuid"]) for row in found[DEEP:][:1])]
    for edge, edge_id in edges:
        read = await rows_read(many, "list_runs", values_of(wanted, edge, edge_id))
        # Which runs wait is not in their table, and no index has those that succeeded: the others may all have to be passed over.
        passed_over = UNFINISHED if wanted.keys() & {"waiting", "status"} else 0
        assert read < 5 * PAGE + passed_over


def values_of(wanted: Wanted, edge: int | None, edge_id: str | None) -> dict[str, object]:
    """The values of `list_runs`."""
    return {
        "application": APPLICATION,
        "status": wanted.get("status"),
        "name": wanted.get("name"),
        "version": wanted.get("version"),
        "started_by": wanted.get("started_by"),
        "parent": "" if wanted.get("roots") else wanted.get("parent"),
        "waiting": wanted.get("waiting"),
        "since": milliseconds(wanted.get("since")),
        "edge": edge,
        "edge_id": edge_id,
        "oldest_first": wanted.get("oldest_first", False),
        "limit": PAGE + 1,
        "workflow_ids": [],
    }


@pytest.mark.parametrize("order", [Wanted(), Wanted(oldest_first=True)], ids=["newest", "oldest"])
async def test_runs_with_a_text_are_found_page_by_page_each_of_which_looks_through_some_runs(
    many: Engine, rows: list[tables.Row], order: Wanted
) -> None:
    ids = [row["workflow_uuid"] for row in expected(rows, order)]
    found, looked, cursor = list[str](), 0, None
    while True:
        page = await many.reader.runs(limit=PAGE, cursor=cursor, **{**order, "text": NEEDLE})
        found += [run.workflow_id for run in page.workflows]
        assert page.looked_through is not None
        assert 0 < page.looked_through <= LOOKED
        looked += page.looked_through
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [one for one in ids if one in WITH_NEEDLE]
    assert looked == len(ids)


async def test_a_page_with_a_text_that_is_full_goes_on_after_its_last_run(many: Engine) -> None:
    first = await many.reader.page(limit=1, text=NEEDLE, name="common")
    assert [run.workflow_id for run in first.runs] == ["done-29999"]
    second = await many.reader.page(limit=1, text=NEEDLE, name="common", cursor=first.next_cursor)
    assert [run.workflow_id for run in second.runs] == ["done-29998"]
    assert second.looked_through == 1


async def test_a_text_is_looked_for_among_the_runs_that_the_other_filters_allow(
    many: Engine,
) -> None:
    filters = [Wanted(status="CANCELLED"), Wanted(started_by="once"), Wanted(version="older")]
    for wanted in filters:
        page = await many.reader.page(limit=PAGE, **{**wanted, "text": NEEDLE})
        assert [run.workflow_id for run in page.runs] == ["root-2"]
        assert page.next_cursor is None
    nothing = await many.reader.page(limit=PAGE, text=NEEDLE, name="nothing")
    assert (nothing.runs, nothing.next_cursor, nothing.looked_through) == ([], None, 0)
    as_json = await many.reader.page(limit=PAGE, text='["needle"', oldest_first=True, name="common")
    assert [run.workflow_id for run in as_json.runs] == ["done-3"]


async def test_a_page_with_a_text_reads_no_more_than_it_looks_through(many: Engine) -> None:
    values = {
        **values_of({}, None, None),
        "text": "nowhere",
        "escaped": "nowhere",
        "limit": PAGE,
        "most": 100,
        "most_bytes": 1_000_000,
    }
    assert await rows_read(many, "runs_with_text", values) < 100 + 5 * PAGE
    async with await tables.connect(many.connection.database, role="test") as connection:
        for most_bytes, looked in ((1_000_000, 100), (300, 5), (0, 1)):
            bounded = values | {"most_bytes": most_bytes}
            [last] = await tables.fetch(connection, "runs_with_text", **bounded)
            assert (last["place"], last["goes_on"], last["matches"]) == (looked, True, False)


QUESTIONS: Mapping[str, tuple[Mapping[str, object], int]] = {
    "needed_versions": ({"application": APPLICATION, "current": ""}, 20),
    "next_due": ({"application": APPLICATION}, 20),
    "workers_apart": ({"identity": processes.new_identity()}, 20),
    "count_waiting": ({}, 20),
    "all_waits": ({"limit": 10}, 20),
    "open_topics": ({"workflow_id": None, "limit": 10}, 20),
    "orphans": ({}, UNFINISHED + 20),
    "unfinished_versions": ({"application": APPLICATION}, UNFINISHED + 20),
    "queues": ({}, UNFINISHED + 20),
    "count_runs": ({"application": APPLICATION}, UNFINISHED + 20),
    "asking_descendants": ({"workflow_ids": ["wait-1", "root-1"], "limit": 100, "count": 10}, UNFINISHED + 20),
    "run_states": ({"workflow_ids": ["mother"], "limit": 100, "progress": 100}, CHILDREN + 20),
    "descendants_in": ({"workflow_ids": ["mother"], "statuses": ["ERROR"]}, CHILDREN + 20),
    "run_descendants": ({"workflow_id": "mother"}, 2_020),
    "strange_executors": ({"version": "", "identity": ""}, 20),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_question_about_some_runs_does_not_read_all(many: Engine, name: str) -> None:
    values, most = QUESTIONS[name]
    assert await rows_read(many, name, values) <= most


async def test_a_run_is_shown_without_reading_all_that_it_started(many: Engine) -> None:
    async with await tables.connect(many.connection.database, role="test") as connection:
        fetch = functools.partial(tables.fetch, connection)

        async def shown() -> Run | None:
            return await details.read(fetch, {}, "mother", preview=100, after_step=0)

        async with connection.transaction():
            before = await read_so_far(connection)
            found = await shown()
            read = await read_so_far(connection) - before
    assert found is not None
    assert [child.workflow_id for child in found.children[:2]] == ["done-10001", "done-10002"]
    assert len(found.children) == 1_000
    assert read < 2_100


async def rows_read(engine: Engine, name: str, values: Mapping[str, object]) -> int:
    """How many runs a statement reads."""
    async with (
        await tables.connect(engine.connection.database, role="test") as connection,
        connection.transaction(),
    ):
        # All clients of PGlite share its plans, which may be of the time when the tables were small.
        await connection.execute("set local plan_cache_mode = force_custom_plan")
        before = await read_so_far(connection)
        await tables.fetch(connection, name, **values)
        return await read_so_far(connection) - before


async def read_so_far(connection: tables.Connection) -> int:
    """How many runs were read, as far as this session has not reported it yet."""
    cursor = await connection.execute(
        "select seq_tup_read + idx_tup_fetch as number from pg_stat_xact_user_tables where schemaname = 'dbos' and relname = 'workflow_status'"
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["number"]


COMES: Mapping[str, tuple[LiteralString, int]] = {
    "its message": (
        "insert into dbos.notifications (destination_uuid, topic, message) values ('wait-1', 'go', '1')",
        0,
    ),
    "something else": (
        "insert into durable_workflows.woken (workflow_id, version) values ('wait-1', '')",
        1,
    ),
}


@pytest.mark.parametrize("what", COMES)
async def test_a_parked_run_waits_until_its_message_is_there(many: Engine, what: str) -> None:
    statement, waits = COMES[what]
    async with (
        await tables.connect(many.connection.database, role="test") as connection,
        connection.transaction(force_rollback=True),
    ):
        await connection.execute(statement)
        found = await tables.fetch(connection, "run_waits", workflow_id="wait-1")
        [counted] = await tables.fetch(connection, "count_waiting")
        assert (len(found), counted["runs"]) == (waits, WAITING - 1 + waits)


# The tool and the command


async def listed(client: Client, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool("list_workflows", arguments)
    [content] = result.content
    assert isinstance(content, TextContent)
    assert not result.is_error, content.text
    return json.loads(content.text)


async def refused(client: Client, **arguments: Any) -> str:
    result = await client.call_tool("list_workflows", arguments)
    [content] = result.content
    assert isinstance(content, TextContent)
    assert result.is_error
    return content.text


def ids_of(found: Mapping[str, Any]) -> list[str]:
    return [one["workflow_id"] for one in found["workflows"]]


ROOTS = [*(f"root-{number}" for number in range(10, 0, -1)), "mother", "asking"]


async def test_the_tool_lists_by_who_started_a_run_and_from_either_end(client: Client) -> None:
    assert ids_of(await listed(client, roots=True)) == ROOTS
    assert ids_of(await listed(client, roots=True, oldest_first=True)) == ROOTS[::-1]
    children = await listed(client, parent="mother", oldest_first=True, limit=3)
    assert ids_of(children) == ["done-10001", "done-10002", "done-10003"]
    following = await listed(
        client, parent="mother", oldest_first=True, limit=2, cursor=children["next_cursor"]
    )
    assert ids_of(following) == ["done-10004", "done-10005"]
    assert ids_of(await listed(client, parent="wait-1")) == []


async def test_the_tool_lists_by_version_by_session_and_by_text(client: Client) -> None:
    assert ids_of(await listed(client, version="older")) == ROOTS[:10]
    assert ids_of(await listed(client, started_by="once", limit=2)) == ROOTS[:2]
    found = await listed(client, text=NEEDLE, started_by="once")
    assert (ids_of(found), found["looked_through"]) == (["root-2"], 10)
    first = await listed(client, text="nowhere")
    assert (ids_of(first), first["looked_through"]) == ([], LOOKED)
    assert first["next_cursor"]


async def test_a_page_that_was_cut_to_the_length_of_an_answer_goes_on_where_it_ended(
    client: Client,
) -> None:
    first = await listed(client, oldest_first=True, limit=100)
    assert 20 < len(first["workflows"]) < 100
    second = await listed(client, oldest_first=True, limit=1, cursor=first["next_cursor"])
    ages = [int(re.sub(r"\D", "", one)) for one in ids_of(first)[2:] + ids_of(second)]
    assert ages == list(range(1, len(ages) + 1))


async def test_a_list_that_cannot_be_is_refused_with_what_to_do(client: Client) -> None:
    assert "There is no run 'nobody'" in await refused(client, parent="nobody")
    assert "Pass one of them" in await refused(client, parent="mother", roots=True)
    newest = (await listed(client, limit=1))["next_cursor"]
    oldest = (await listed(client, limit=1, oldest_first=True))["next_cursor"]
    said = await refused(client, cursor=newest, oldest_first=True)
    assert "begins with the newest runs. Pass it without oldest_first" in said
    said = await refused(client, cursor=oldest)
    assert "begins with the oldest runs. Pass it with oldest_first" in said


async def test_a_cursor_of_an_earlier_release_is_one_of_a_list_that_begins_with_the_newest_runs(
    many: Engine,
) -> None:
    cursor = "WzE3MDAwMDAwNTIwMDAsICJzbGVlcC0yMDAwIl0="  # [1700000052000, "sleep-2000"]
    page = await many.reader.page(limit=1, cursor=cursor)
    assert [one.workflow_id for one in page.runs] == ["sleep-1999"]
    with pytest.raises(InvalidArguments, match="newest runs"):
        await many.reader.page(limit=1, cursor=cursor, oldest_first=True)


@pytest.mark.long
async def test_the_command_lists_in_the_same_words(many: Engine) -> None:
    def found(*arguments: str) -> list[str]:
        return ids_of(json.loads(succeed("list", "--json", *arguments, folder=many.project)))

    assert found("--roots") == ROOTS
    assert found("--parent", "mother", "--oldest-first", "--limit", "1") == ["done-10001"]
    assert found("--version", "older", "--limit", "1") == ROOTS[:1]
    assert found("--started-by", "once", "--text", NEEDLE) == ["root-2"]
    assert found("--roots", "--since", "2023-11-14T22:13:30.008Z") == ROOTS[:3]
    result = run("list", "--since", "yesterday", folder=many.project)
    assert result.status == 2
    assert "'yesterday' is not an ISO 8601 time" in result.errors


@pytest.mark.long
async def test_a_list_of_all_has_each_run_once_and_as_json_each_in_a_line(
    many: Engine, rows: list[tables.Row]
) -> None:
    lines = succeed("list", "--all", "--json", folder=many.project).splitlines()
    assert [json.loads(line)["workflow_id"] for line in lines] == [
        row["workflow_uuid"] for row in rows
    ]
    head, *lines = succeed("list", "--all", "--roots", folder=many.project).splitlines()
    assert head.split() == ["ID", "NAME", "STATUS", "AGE", "NOTE"]
    assert [line.split()[0] for line in lines] == ROOTS
    lines = succeed("list", "--all", "--text", NEEDLE, folder=many.project).splitlines()
    assert {line.split()[0] for line in lines[1:]} == WITH_NEEDLE
    some = succeed("list", "--text", "nowhere", folder=many.project)
    assert some.startswith("None of the first 2,000 runs matches; more: --cursor ")
    assert succeed("list", "--all", "--text", "nowhere", folder=many.project) == "No runs match.\n"
    assert succeed("list", "--all", "--name", "no", folder=many.project) == "No runs match.\n"
    assert succeed("list", "--all", "--name", "no", "--json", folder=many.project) == ""
    refused = run("list", "--all", "--limit", "5", folder=many.project)
    assert (refused.status, "omit --limit and --cursor" in refused.errors) == (2, True)


@pytest.mark.long
@proves("list:streams")
async def test_a_list_of_all_is_read_page_by_page_as_it_is_taken(many: Engine) -> None:
    with begin("list", "--all", folder=many.project) as command:
        assert command.stdout is not None
        assert command.stdout.readline().startswith("ID")
        # A pipe holds some hundred lines: those that come last are read later than this.
        async with await tables.connect(many.connection.database, role="test") as connection:
            rename = "update dbos.workflow_status set name = %s where workflow_uuid = 'mother'"
            await connection.execute(rename, ["renamed"])
            try:
                lines = command.stdout.read().splitlines()
            finally:
                await connection.execute(rename, ["mothers"])
    assert command.wait() == 0
    assert [line.split()[:2] for line in lines if line.startswith("mother")] == [
        ["mother", "renamed"]
    ]
    assert len(lines) == DONE + UNFINISHED + 12


@proves("list:streams")
async def test_a_list_of_all_ends_without_a_word_when_nobody_reads_on(many: Engine) -> None:
    with begin("list", "--all", folder=many.project) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        assert command.stderr.read() == ""
        assert command.wait(60) != 0

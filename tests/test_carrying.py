"""A run leaves its project as a file, and goes on in another one."""

import gzip
import hashlib
import json
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from psycopg import sql
from pydantic import JsonValue

from durable_workflows.database import copying, run_files, tables
from durable_workflows.engine.carrying import Unfinished
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import (
    ExportDamaged,
    NoSpaceLeft,
    SetupError,
    UnknownWorkflowId,
    UsageError,
    WorkflowIdTaken,
)
from durable_workflows.models import Ended, Imported, Resolution, StartRequest
from durable_workflows.settings import Settings
from helpers import dbos_client_of, running_project, until, until_found, until_parked, value
from requirements import proves

pytestmark = pytest.mark.anyio

FLOWS = ("deleting", "effects", "parking", "retrying", "values")
# Columns that say in which project's process a run was, and what follows from that.
OF_PROCESSES = ("executor_id", "owner_xid", "creator_xid")
# What a finished run can have besides, for all of which a run of its own would take its time.
LEFT_BEHIND = (
    "insert into dbos.datasource_outputs (workflow_id, step_id, output) values ('tree', 2, '1')",
    "insert into dbos.notifications (destination_uuid, topic, message, message_uuid, serialization, consumed, consumed_by_function_id, created_at_epoch_ms)"
    " values ('tree', 'go', '\"read\"', 'm-1', 'portable_json', true, 2, 1), ('tree', 'go', '\"unread\"', 'm-2', 'portable_json', false, null, 1)",
    "insert into durable_workflows.effects (workflow_id, function_id, name, attempt, person_only, decisions)"
    " values ('tree', 2, 'pay', 'token', false, '[{\"who\": \"me\"}]')",
    "insert into durable_workflows.attempts (workflow_id, function_id, attempt, attempts, name, began_at, error)"
    " values ('tree', 3, 1, 2, 'try', '2026-01-01T12:00:00.123456Z', 'E')",
    "insert into durable_workflows.labels (workflow_id, function_id, scope, name) values ('tree', 2, 'a/b', 'c')",
    "insert into durable_workflows.callbacks (workflow_id, function_id, id, topic, schema, answer) values ('tree', 3, 'k-1', 'callback:3:go', '{\"type\": \"object\"}', '{\"result\": 1}')",
    "insert into durable_workflows.answers (workflow_id, function_id, topic, who, how, shown, answer)"
    """ values ('tree', 4, 'person:go', 'me', 'terminal', '{"b": 1, "a": "\\u00e4\\n"}', '12345678901234567890.5')""",
    "insert into durable_workflows.unanswered (workflow_id, function_id, attempt, action, who, how) values ('tree', 4, 1, 'cancel', 'me', 'x')",
    "insert into durable_workflows.notified (workflow_id, fact) values ('tree', 'ended') on conflict do nothing",
    "insert into durable_workflows.suspects (workflow_id, after_step, ends, ends_here, status) values ('tree', 1, 2, 1, -9)",
)
# Stands still in the middle of the import, until it is killed.
IMPORTER = """
import signal
import sys
from pathlib import Path
import anyio
from durable_workflows.engine.project import Project
from durable_workflows.settings import Settings

def say(text: str) -> None:
    print(text, flush=True)
    if text.startswith("Importing: 2,"):
        signal.pause()

async def load() -> None:
    project = Project(Settings(project=Path(sys.argv[1])), say)
    await (await project.engine()).import_run(Path(sys.argv[2]))

anyio.run(load)
"""


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The project in which the runs begin. They are parked soon."""
    folder = (tmp_path_factory.mktemp("home") / "project").resolve()
    async with running_project(Settings(project=folder, park_after_seconds=0.2), FLOWS) as engine:
        yield engine


@pytest.fixture(scope="module")
async def away(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """A project without any of their code."""
    async with running_project(
        Settings(
            project=(tmp_path_factory.mktemp("away") / "project").resolve(), park_after_seconds=0.2
        ),
        [],
    ) as engine:
        yield engine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.gz"


async def start(engine: Engine, name: str, workflow_id: str, **args: JsonValue) -> str:
    request = StartRequest(name=name, args=args, workflow_id=workflow_id)
    return (await engine.start(request)).workflow_id


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done

    return (await until_found(done, f"{workflow_id} has ended", seconds=60))[0]


async def status(engine: Engine, workflow_id: str) -> str:
    return (await engine.reader.run(workflow_id)).status


async def carry(
    home: Engine, away: Engine, file: Path, workflow_id: str, unfinished: Unfinished | None = None
) -> Imported:
    await home.export(workflow_id, file, unfinished)
    return await away.import_run(file)


async def rows_of(engine: Engine, *workflow_ids: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of these runs, by table, without what a database numbers itself."""
    found: dict[str, list[dict[str, Any]]] = {}
    async with await tables.connect(engine.connection.database, role="test") as connection:
        for (of_dbos, name), table in (await copying.tables_of(connection)).items():
            parts = [one for one in run_files.PARTS if (one.of_dbos, one.name) == (of_dbos, name)]
            for part in parts:
                if part.keyed_by == "run":
                    statement = sql.SQL("select * from {} where {} = any(%s) order by ctid").format(
                        table.identifier, sql.Identifier(part.key)
                    )
                    cursor = await connection.execute(statement, [list(workflow_ids)])
                    found[name] = [
                        {key: row[key] for key in row if key not in (table.numbered or ())}
                        for row in await cursor.fetchall()
                    ]
    return found


async def is_empty(engine: Engine, workflow_id: str) -> bool:
    return not any((await rows_of(engine, workflow_id)).values())


# Nothing is forgotten


async def test_each_table_with_rows_of_runs_is_exported_or_left_out_for_a_reason(
    home: Engine,
) -> None:
    async with await tables.connect(home.connection.database, role="test") as connection:
        known = await copying.tables_of(connection)
    with_runs = {
        table.name
        for table in known.values()
        if {"workflow_id", "workflow_uuid", "destination_uuid"} & set(table.columns)
    }
    exported = {part.name for part in run_files.PARTS if part.keyed_by == "run"}
    assert with_runs == exported | run_files.LEFT_OUT
    assert not exported & run_files.LEFT_OUT


@proves("carry:goes-on")
async def test_a_finished_tree_arrives_row_by_row_with_all_that_it_left(
    home: Engine, away: Engine, file: Path
) -> None:
    await start(home, "deleted_tree", "tree", children=2)
    tree = ["tree", "tree-1", "tree-2"]
    logged = "select count(*) = 2 from durable_workflows.logs where workflow_id = any(%s)"
    assert (await ended(home, "tree")).output == ["child 0", "child 1"]
    await until_found(lambda: value(home, logged, tree), "what they printed is in their logs")
    for statement in LEFT_BEHIND:
        await value(home, f"with made as ({statement} returning 1) select count(*) from made")
    assert (await carry(home, away, file, "tree")).runs == 3
    before: dict[str, list[dict[str, Any]]] = {}
    for workflow_id in tree:
        theirs, ours = await rows_of(home, workflow_id), await rows_of(away, workflow_id)
        for row in (*theirs["workflow_status"], *ours["workflow_status"]):
            for column in OF_PROCESSES:
                row.pop(column)
        assert ours == theirs
        before |= {name: rows for name, rows in theirs.items() if rows}
    of_waits = {"waits", "parked", "parked_on", "woken"}
    assert (
        before.keys() == {one.name for one in run_files.PARTS if one.keyed_by == "run"} - of_waits
    )
    assert (await ended(away, "tree")).output == ["child 0", "child 1"]


@proves("carry:goes-on")
async def test_a_failed_run_arrives_with_its_error_and_its_attempts(
    home: Engine, away: Engine, file: Path
) -> None:
    await start(home, "retries_quickly", "fails", file=str(home.project / "fails"), fails=9)
    assert (await ended(home, "fails")).status == "ERROR"
    assert (await carry(home, away, file, "fails")).status == "ERROR"
    assert (await ended(away, "fails")).error == (await ended(home, "fails")).error
    assert len((await rows_of(away, "fails"))["attempts"]) == 3


# What has not ended goes on


@proves("carry:goes-on", "carry:not-twice")
async def test_a_waiting_run_goes_on_where_it_was_imported_and_only_there(
    home: Engine, away: Engine, file: Path
) -> None:
    lines = home.project / "moves"
    await start(home, "parked_starts", "moves", file=str(lines))
    await until_parked(home, "moves", "moves-2")
    [exported] = [await home.export("moves", file, "cancel")]
    assert (exported.unfinished, exported.cancelled) == (2, True)
    assert [await status(home, one) for one in ("moves", "moves-2")] == ["CANCELLED"] * 2
    imported = await away.import_run(file)
    assert (imported.runs, imported.unfinished, imported.status) == (2, 2, "PENDING")
    await until_parked(away, "moves", "moves-2")
    await away.send("moves-2", "go", "went")
    assert (await ended(away, "moves")).output == "child: went"
    assert lines.read_text(encoding="utf-8").split("\n")[:-1] == [
        "caller", "a", "went", "child: went",
    ]  # fmt: skip


@proves("carry:goes-on")
async def test_a_wait_keeps_its_deadline_and_a_sleep_its_end(
    home: Engine, away: Engine, file: Path
) -> None:
    due = "select due_at from durable_workflows.parked where workflow_id = %s"
    for name in ("times_out", "sleeps"):
        await start(home, f"parked_{name}", name, file=str(home.project / name))
        await until_parked(home, name)
        await carry(home, away, file.with_name(name), name, "copy")
        assert await value(away, due, name) == await value(home, due, name)
    [wait] = await away.reader.waits("times_out")
    assert wait.deadline == (await home.reader.waits("times_out"))[0].deadline
    await away.send("times_out", "go", "went")
    assert (await ended(away, "times_out")).output == "went"
    await home.cancel(["times_out", "sleeps"])
    assert (await away.cancel(["sleeps"])).workflows[0].changed


@pytest.mark.long
@proves("carry:goes-on")
async def test_a_sleep_ends_where_it_was_imported(home: Engine, away: Engine, file: Path) -> None:
    lines = home.project / "sleeps-for"
    await start(home, "parked_sleeps_for", "sleeps-for", file=str(lines), seconds=4)
    slept = "select count(*) from dbos.operation_outputs where workflow_uuid = 'sleeps-for' and function_name = 'DBOS.sleep'"
    await until_found(lambda: value(home, slept), "it sleeps")
    await carry(home, away, file, "sleeps-for", "cancel")
    assert (await ended(away, "sleeps-for")).output == "slept"
    assert lines.read_text(encoding="utf-8") == "a\nslept\n"


@pytest.mark.long
@proves("carry:goes-on")
async def test_a_message_for_which_no_worker_had_woken_the_run_is_received_there(
    home: Engine, away: Engine, file: Path
) -> None:
    await start(home, "deleted_asker", "told")
    await until_parked(home, "told")
    await home.export("told", file, "cancel")
    lines = lines_of(file)
    [version] = {
        one["row"]["version"] for one in map(json.loads, lines[1:]) if one["table"] == "parked"
    }
    message = {
        "destination_uuid": "told", "topic": "go", "message": '"came"', "message_uuid": "m", "serialization": "portable_json",
        "consumed": False, "created_at_epoch_ms": 1,
    }  # fmt: skip
    at = next(place for place, line in enumerate(lines) if '"operation_outputs"' in line)
    lines.insert(at, json.dumps({"table": "notifications", "row": message}))
    woken = {"workflow_id": "told", "version": version, "at": "2026-01-01T00:00:00Z"}
    pack(file, [*lines, json.dumps({"table": "woken", "row": woken})])
    await away.import_run(file)
    assert (await ended(away, "told")).output == "came"


@proves("carry:goes-on")
async def test_values_are_of_the_same_types_there(home: Engine, away: Engine, file: Path) -> None:
    await start(home, "all_values", "values", seeds=[1, 2, 3])
    await until_parked(home, "values")
    await carry(home, away, file, "values", "cancel")
    await away.send("values", "go", None)
    assert (await ended(away, "values")).output == []


@pytest.mark.long
@proves("carry:goes-on")
async def test_a_queued_and_a_delayed_run_begin_there(
    home: Engine, away: Engine, file: Path
) -> None:
    request = StartRequest(
        name="deleted_leaf", args={"text": "later"}, workflow_id="delayed", delay_seconds=600
    )
    await home.start(request)
    assert await status(home, "delayed") == "DELAYED"
    await carry(home, away, file, "delayed", "cancel")
    assert await status(away, "delayed") == "DELAYED"
    over = (
        "update dbos.workflow_status set delay_until_epoch_ms = 1 where workflow_uuid = 'delayed'"
    )
    await value(away, over)
    assert (await ended(away, "delayed")).output == "later"
    assert not (await rows_of(home, "delayed"))["operation_outputs"]


@proves("carry:goes-on")
async def test_a_copied_run_under_way_does_its_unfinished_step_in_both_projects(
    home: Engine, away: Engine, file: Path
) -> None:
    lines, go = home.project / "works", home.project / "works.go"
    await start(home, "parked_works", "works", file=str(lines), until=str(go))
    running = "select count(*) from durable_workflows.running_steps where workflow_id = 'works' and function_id = 2"
    await until_found(lambda: value(home, running), "it is in its second step")
    exported = await home.export("works", file, "copy")
    assert (exported.unfinished, exported.cancelled) == (1, False)
    await away.import_run(file)
    assert await status(home, "works") == "PENDING"
    await until_found(lambda: value(away, running), "it does that step here as well")
    go.touch()
    for engine in (home, away):
        assert (await ended(engine, "works")).output == "worked"
    assert lines.read_text(encoding="utf-8") == "works\n", "a finished step is not repeated"


@proves("carry:goes-on", "carry:not-twice")
async def test_a_step_that_happens_once_is_in_doubt_there_if_it_was_under_way(
    home: Engine, away: Engine, file: Path
) -> None:
    lines, hold = home.project / "pays", home.project / "pays.hold-after"
    hold.touch()
    await start(home, "effects_pays", "pays", file=str(lines))
    await until(lines.exists, "it has paid")
    await carry(home, away, file, "pays", "cancel")
    [wait] = await until_found(lambda: away.reader.waits("pays"), "it is in doubt")
    assert wait.step == 2
    hold.unlink()
    said = Resolution(happened=True, result={"receipt": "seen"})
    await away.resolve_step("pays", 2, said, who="somebody", how="terminal")
    assert (await ended(away, "pays")).output == {"receipt": "seen"}
    assert lines.read_text(encoding="utf-8") == "paid\n"


@pytest.mark.long
@proves("carry:goes-on")
async def test_attempts_are_counted_on_and_the_time_of_the_next_one_is_kept(
    home: Engine, away: Engine, file: Path
) -> None:
    await start(home, "retries_much_later", "retries", file=str(home.project / "retries"))
    await until_parked(home, "retries")
    await carry(home, away, file, "retries", "cancel")
    before, after = [(await rows_of(one, "retries"))["attempts"] for one in (home, away)]
    assert after == before
    assert (after[0]["attempt"], after[0]["next_at"] is not None) == (1, True)
    assert await status(away, "retries") == "PENDING"
    soon = "update durable_workflows.parked set due_at = clock_timestamp() where workflow_id = 'retries'"
    past = "update durable_workflows.attempts set next_at = clock_timestamp() where workflow_id = 'retries'"
    await value(away, past)
    await value(away, soon)
    assert (await ended(away, "retries")).output == 2


@proves("carry:goes-on")
async def test_new_runs_begin_on_the_code_of_the_project_and_not_on_that_of_a_file(
    home: Engine, away: Engine, file: Path
) -> None:
    newest = await away.reader.newest_version()
    await start(home, "deleted_leaf", "of-other-code", text="x")
    await ended(home, "of-other-code")
    await carry(home, away, file, "of-other-code")
    assert await away.reader.newest_version() == newest
    assert "deleted_leaf" not in {one.name for one in (await away.catalog()).workflows}


# Nothing is done twice, or half


@proves("carry:not-twice")
async def test_what_has_not_ended_is_exported_only_with_a_word_on_what_becomes_of_it(
    home: Engine, file: Path
) -> None:
    await start(home, "deleted_parent", "ended-parent", child_id="asks-on")
    await ended(home, "ended-parent")
    with pytest.raises(UsageError, match=r"asks-on has not ended: .* would run twice"):
        await home.export("ended-parent", file)
    assert list(file.parent.iterdir()) == []
    assert (await home.export("ended-parent", file, "cancel")).unfinished == 1
    assert await status(home, "asks-on") == "CANCELLED"
    assert await status(home, "ended-parent") == "SUCCESS"


async def test_a_run_that_waits_for_one_outside_of_the_file_stays(home: Engine, file: Path) -> None:
    lines = str(home.project / "gets")
    await start(home, "parked_gets", "gets", file=lines, of="not-there-yet")
    await until_parked(home, "gets")
    with pytest.raises(UsageError, match="gets waits for not-there-yet, which would not be in"):
        await home.export("gets", file, "cancel")
    assert list(file.parent.iterdir()) == []
    assert await status(home, "gets") == "PENDING"
    await home.cancel(["gets"])


@proves("carry:not-twice")
async def test_an_export_cancels_as_dbos_does(home: Engine, file: Path) -> None:
    for one in ("cancelled-by-us", "cancelled-by-dbos"):
        await start(home, "deleted_asker", one)
        await until_parked(home, one)
    await home.export("cancelled-by-us", file, "cancel")
    with dbos_client_of(home) as client:
        client.cancel_workflow("cancelled-by-dbos")
    ours, theirs = [await rows_of(home, one) for one in ("cancelled-by-us", "cancelled-by-dbos")]
    times = {"created_at", "updated_at", "completed_at", "workflow_uuid", "creator_xid"}
    [our_row], [their_row] = ours.pop("workflow_status"), theirs.pop("workflow_status")
    assert our_row["completed_at"] == our_row["updated_at"]
    assert {key: our_row[key] for key in our_row if key not in times} == {
        key: their_row[key] for key in their_row if key not in times
    }
    assert {name: len(rows) for name, rows in ours.items()} == {
        name: len(rows) for name, rows in theirs.items()
    }


async def test_no_file_is_replaced(home: Engine, file: Path) -> None:
    await start(home, "deleted_leaf", "leaf", text="x")
    await ended(home, "leaf")
    part = file.with_name("run.gz.part")
    for one in (file, part):
        one.write_text("mine", encoding="utf-8")
        with pytest.raises(UsageError, match=f"{one.name} is there already"):
            await home.export("leaf", file)
        assert one.read_text(encoding="utf-8") == "mine"
        one.unlink()
    with pytest.raises(UnknownWorkflowId, match="Did you mean 'leaf'"):
        await home.export("leav", file)
    assert list(file.parent.iterdir()) == []


async def test_only_the_user_can_read_the_file_and_any_gzip_unpacks_it(
    home: Engine, file: Path
) -> None:
    await start(home, "deleted_leaf", "secret", text="x")
    await ended(home, "secret")
    exported = await home.export("secret", file)
    facts = await anyio.Path(file).stat()
    assert (facts.st_mode & 0o777, facts.st_size) == (0o600, exported.bytes)
    unpacked = (await anyio.run_process(["gzip", "-dc", str(file)])).stdout
    assert json.loads(unpacked.splitlines()[0])["workflow_id"] == "secret"


@proves("carry:whole")
async def test_a_file_is_imported_once(home: Engine, away: Engine, file: Path) -> None:
    await start(home, "deleted_leaf", "once", text="x")
    await ended(home, "once")
    assert not (await carry(home, away, file, "once")).existing
    before = await rows_of(away, "once")
    again = await away.import_run(file)
    assert (again.existing, again.status) == (True, "SUCCESS")
    assert await rows_of(away, "once") == before
    assert (await home.import_run(file)).existing, "also where it comes from"


@proves("carry:whole")
async def test_of_two_imports_at_once_one_counts(home: Engine, away: Engine, file: Path) -> None:
    await start(home, "deleted_leaf", "at-once", text="x")
    await ended(home, "at-once")
    await home.export("at-once", file)
    other = Project(Settings(project=away.project, park_after_seconds=0.2))
    found: list[bool] = []

    async def load(engine: Engine) -> None:
        found.append((await engine.import_run(file)).existing)

    engine = await other.engine()
    async with anyio.create_task_group() as group:
        group.start_soon(load, away)
        group.start_soon(load, engine)
    await other.aclose()
    assert sorted(found) == [False, True]
    assert len((await rows_of(away, "at-once"))["workflow_status"]) == 1


@pytest.mark.long
@proves("carry:whole")
async def test_a_run_whose_id_another_run_has_is_refused(
    home: Engine, away: Engine, file: Path
) -> None:
    await start(home, "deleted_tree", "taken", children=1)
    await ended(home, "taken")
    await home.export("taken", file)
    await start(away, "run_commands", "taken-1", commands=[{"name": "a", "run": "true"}])
    await ended(away, "taken-1")
    with pytest.raises(WorkflowIdTaken, match="taken-1"):
        await away.import_run(file)
    assert await is_empty(away, "taken")
    await start(away, "run_commands", "taken", commands=[{"name": "a", "run": "true"}])
    with pytest.raises(WorkflowIdTaken, match="Another run here has the workflow_id 'taken'"):
        await away.import_run(file)


# Files that are not as they were written


def lines_of(file: Path) -> list[str]:
    """The lines of a file without its digest."""
    return gzip.decompress(file.read_bytes()).decode().splitlines()[:-1]


def pack(file: Path, lines: Sequence[str]) -> None:
    """Write lines with their digest, as somebody could who means harm."""
    text = "".join(f"{line}\n" for line in lines)
    digest = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest()})
    file.write_bytes(gzip.compress(f"{text}{digest}\n".encode()))


@pytest.fixture(scope="module")
async def whole(home: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run `damaged`."""
    file = tmp_path_factory.mktemp("whole") / "run.gz"
    await start(home, "deleted_tree", "damaged", children=2)
    await ended(home, "damaged")
    await home.export("damaged", file)
    return file


def damaged(whole: Path) -> list[bytes]:
    """The file with damage in its header, all over its middle, and at its end; cut, and continued."""
    data = whole.read_bytes()
    # All of gzip's header but its time, its level and its system, which mean nothing here.
    places = [0, 1, 2, 3, *range(10, len(data), len(data) // 60), *range(len(data) - 9, len(data))]
    flipped = [data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :] for at in places]
    cut = [data[:end] for end in (0, 1, 9, 20, len(data) // 2, len(data) - 8, len(data) - 1)]
    unpacked = "".join(f"{line}\n" for line in lines_of(whole)).encode()
    others = [data + b"more", data + data, gzip.compress(unpacked), b"not packed"]
    return flipped + cut + others


@proves("carry:whole")
async def test_a_damaged_file_is_refused_wherever_the_damage_is(
    away: Engine, whole: Path, file: Path
) -> None:
    all_bad = damaged(whole)
    for bad in all_bad:
        await anyio.Path(file).write_bytes(bad)
        with pytest.raises(ExportDamaged, match="damaged, or no export"):
            run_files.look(file)
    for bad in (all_bad[0], all_bad[40], all_bad[-1]):
        await anyio.Path(file).write_bytes(bad)
        with pytest.raises(ExportDamaged):
            await away.import_run(file)
    assert await is_empty(away, "damaged")


Change = Callable[[list[dict[str, Any]]], None]


def of_table(lines: list[dict[str, Any]], table: str) -> dict[str, Any]:
    """The first row of a table."""
    return next(one["row"] for one in lines[1:] if one["table"] == table)


def foreign_table(lines: list[dict[str, Any]]) -> None:
    lines.append({"table": "workers", "row": {"workflow_id": "damaged"}})


def foreign_column(lines: list[dict[str, Any]]) -> None:
    of_table(lines, "workflow_status")["no such"] = 1


def row_of_another_run(lines: list[dict[str, Any]]) -> None:
    row = {"workflow_uuid": "another", "function_id": 1, "function_name": "step"}
    lines.append({"table": "operation_outputs", "row": row})


def other_content(lines: list[dict[str, Any]]) -> None:
    of_table(lines, "files")["content"] = "\\x00"


def no_content(lines: list[dict[str, Any]]) -> None:
    of_table(lines, "files")["content"] = "text"


def path_outside(lines: list[dict[str, Any]]) -> None:
    of_table(lines, "version_files")["path"] = "workflows/../../outside.py"


def absolute_path(lines: list[dict[str, Any]]) -> None:
    of_table(lines, "version_files")["path"] = "/tmp/outside.py"


def odd_version(lines: list[dict[str, Any]]) -> None:
    for one in lines[1:]:
        if "version" in one["row"]:
            one["row"]["version"] = "../../outside"


def code_of_no_version(lines: list[dict[str, Any]]) -> None:
    of_table(lines, "version_files")["version"] = "0123456789ab"


def a_number_for_a_text(lines: list[dict[str, Any]]) -> None:
    of_table(lines, "workflow_status")["created_at"] = "yesterday"


def a_run_less(lines: list[dict[str, Any]]) -> None:
    lines[0]["runs"] -= 1


def no_root(lines: list[dict[str, Any]]) -> None:
    lines[0]["workflow_id"] = "damaged-3"


def no_header(lines: list[dict[str, Any]]) -> None:
    del lines[0]


def newer_format(lines: list[dict[str, Any]]) -> None:
    lines[0] = {"format": 2}


def newer_migration(lines: list[dict[str, Any]]) -> None:
    lines[0]["migration"] = "9999_later.sql"


def newer_dbos(lines: list[dict[str, Any]]) -> None:
    lines[0]["dbos_migration"] = 9999


@proves("carry:whole")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (foreign_table, SetupError),
        (foreign_column, SetupError),
        (row_of_another_run, ExportDamaged),
        (other_content, ExportDamaged),
        (no_content, ExportDamaged),
        (path_outside, ExportDamaged),
        (absolute_path, ExportDamaged),
        (odd_version, ExportDamaged),
        (code_of_no_version, ExportDamaged),
        (a_number_for_a_text, ExportDamaged),
        (a_run_less, ExportDamaged),
        (no_root, ExportDamaged),
        (no_header, ExportDamaged),
        (newer_format, SetupError),
        (newer_migration, SetupError),
        (newer_dbos, SetupError),
    ],
)
async def test_a_file_that_this_release_would_not_write_is_refused_as_a_whole(
    away: Engine, whole: Path, file: Path, change: Change, error: type[Exception]
) -> None:
    lines = [json.loads(line) for line in lines_of(whole)]
    change(lines)
    pack(file, [json.dumps(line) for line in lines])
    with pytest.raises(error, match=r"Nothing was imported\.$"):
        await away.import_run(file)
    assert await is_empty(away, "damaged")


@proves("carry:whole")
async def test_a_file_cannot_change_a_version_that_is_here(
    home: Engine, away: Engine, whole: Path, file: Path
) -> None:
    await start(home, "deleted_leaf", "known-code", text="x")
    await ended(home, "known-code")
    await carry(home, away, file.with_name("known.gz"), "known-code")
    lines = [json.loads(line) for line in lines_of(whole)]
    more = {**of_table(lines, "version_files"), "path": "workflows/more.py"}
    at = next(at for at, one in enumerate(lines[1:], 1) if one["table"] == "workflow_status")
    lines.insert(at, {"table": "version_files", "row": more})
    pack(file, [json.dumps(line) for line in lines])
    with pytest.raises(WorkflowIdTaken, match="A version of the code has the same name here"):
        await away.import_run(file)
    extra = "select count(*) from durable_workflows.version_files where path = 'workflows/more.py'"
    assert await value(away, extra) == 0


def killed_within(project: Path, file: Path) -> int:
    """The status of a process that was killed while it imported a file."""
    command = [sys.executable, "-c", IMPORTER, project, file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Importing: 2,"):
                process.kill()
    return process.returncode


@proves("carry:whole")
@pytest.mark.long
async def test_a_killed_import_leaves_nothing(home: Engine, away: Engine, file: Path) -> None:
    await start(home, "deleted_leaf", "killed", text="x")
    await ended(home, "killed")
    await add_steps(home, "killed", 4000, characters=3000)
    await home.export("killed", file)
    assert await anyio.to_thread.run_sync(killed_within, away.project, file) == -9
    assert await is_empty(away, "killed")
    assert not (await away.import_run(file)).existing


@proves("carry:whole")
@pytest.mark.long
async def test_an_export_onto_a_full_disk_leaves_no_file_and_cancels_nothing(
    home: Engine, tmp_path: Path
) -> None:
    disk = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if (await anyio.run_process(disk, check=False)).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        await start(home, "deleted_asker", "large")
        await until_parked(home, "large")
        await add_steps(home, "large", 200, characters=3000)
        with pytest.raises(NoSpaceLeft, match="No space is left on the device"):
            await home.export("large", tmp_path / "run.gz", "cancel")
        assert [one async for one in anyio.Path(tmp_path).iterdir()] == []
        assert await status(home, "large") == "PENDING"
    finally:
        await anyio.run_process(["umount", str(tmp_path)])
        await home.cancel(["large"])


@proves("carry:goes-on")
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_many_steps_are_never_in_memory_at_once(
    home: Engine, away: Engine, file: Path
) -> None:
    await start(home, "deleted_leaf", "many", text="x")
    await ended(home, "many")
    await add_steps(home, "many", 6_000, characters=3000)
    tracemalloc.start()
    await home.export("many", file)
    imported = await away.import_run(file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert imported.rows > 6_000
    assert most < 12_000_000, f"{most:,} bytes for 18 MB of steps"
    digest = "select md5(string_agg(output, '' order by function_id)) from dbos.operation_outputs where workflow_uuid = 'many'"
    assert await value(away, digest) == await value(home, digest)


async def add_steps(engine: Engine, workflow_id: str, number: int, *, characters: int) -> None:
    """Give an ended run many steps, with outputs that cannot be compressed well."""
    statement = (
        "with made as (insert into dbos.operation_outputs (workflow_uuid, function_id, function_name, output, serialization)"
        " select %s, n, 'step', (select to_json(string_agg(md5(concat(n, ' ', part)), '')) from generate_series(1, %s) as part), 'portable_json'"
        " from generate_series(10, 9 + %s) as n returning 1) select count(*) from made"
    )
    assert await value(engine, statement, workflow_id, characters // 32, number) == number

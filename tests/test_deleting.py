"""Runs that have ended can be deleted, with all that they started, and with nothing that anything else needs."""

import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from psycopg import sql

from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import DatabaseUnavailable, UnknownWorkflowId
from durable_workflows.models import Pruned, StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import (
    command_of,
    copy_flow,
    dbos_client_of,
    parking_project,
    processes_of,
    until,
    until_found,
    value,
)
from requirements import proves

pytestmark = pytest.mark.anyio
NO_AGE = timedelta(0)


@pytest.fixture(scope="module")
async def deleting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project whose runs are parked soon."""
    async with parking_project(tmp_path_factory, "deleting") as engine:
        yield engine


async def start(engine: Engine, name: str, **args: Any) -> str:
    request = StartRequest(name=f"deleted_{name}", args=args, workflow_id=str(uuid.uuid4()))
    return (await engine.start(request)).workflow_id


async def ended(engine: Engine, name: str, **args: Any) -> str:
    """The id of a run that has ended."""
    workflow_id = await start(engine, name, **args)
    result = await engine.reader.wait([workflow_id], timeout_seconds=30)
    assert [one.status for one in result.done] == ["SUCCESS"], result
    return workflow_id


async def rows_of(engine: Engine, *workflow_ids: str) -> dict[str, int]:
    """How many rows of each table have one of these ids in one of their columns."""
    database = engine.connection.database
    found: dict[str, int] = {}
    async with await tables.connect(database, role="test") as connection:
        columns = await connection.execute(
            "select table_schema, table_name, column_name from information_schema.columns where table_schema in (%s, %s)"
            " and (column_name like '%%uuid' or column_name like '%%workflow_id')",
            (database.schema, database.dbos_schema),
        )
        for row in await columns.fetchall():
            counted = sql.SQL("select count(*) as number from {} where {} = any(%s)").format(
                sql.Identifier(row["table_schema"], row["table_name"]),
                sql.Identifier(row["column_name"]),
            )
            cursor = await connection.execute(counted, [list(workflow_ids)])
            [number] = await cursor.fetchall()
            if number["number"]:
                name = f"{row['table_name']}.{row['column_name']}"
                found[name] = number["number"]
    return found


async def notes(engine: Engine, *workflow_ids: str, children: bool = False) -> list[str]:
    """The notes on runs that are not deleted."""
    changed = await engine.delete(workflow_ids, children=children)
    assert not any(one.changed for one in changed.workflows), changed
    return [one.note for one in changed.workflows]


async def is_there(engine: Engine, workflow_id: str) -> bool:
    count = "select count(*) from dbos.workflow_status where workflow_uuid = %s"
    return await value(engine, count, workflow_id) == 1


async def logged(engine: Engine, workflow_id: str) -> bool:
    return bool(await engine.reader.log(workflow_id))


@proves("delete:whole")
async def test_nothing_is_left_of_a_deleted_run(deleting: Engine) -> None:
    leaf = await ended(deleting, "leaf", text="a")
    await until_found(lambda: logged(deleting, leaf), "what it printed is in its log")
    assert {name.split(".")[0] for name in await rows_of(deleting, leaf)} >= {
        "workflow_status",
        "workflow_input",
        "workflow_output",
        "operation_outputs",
        "workflow_events",
        "workflow_events_history",
        "streams",
        "logs",
    }
    [changed] = (await deleting.delete([leaf])).workflows
    assert (changed.changed, changed.note) == (True, "deleted")
    assert await rows_of(deleting, leaf) == {}
    with pytest.raises(UnknownWorkflowId):
        await deleting.reader.run(leaf)


@proves("delete:whole")
async def test_it_deletes_of_a_run_what_dbos_would_delete(
    deleting: Engine,
) -> None:
    ours, theirs = [await ended(deleting, "tree", children=2) for _ in range(2)]
    tree = [ours, *(one.workflow_id for one in await deleting.reader.tree(ours))]
    other = [theirs, *(one.workflow_id for one in await deleting.reader.tree(theirs))]
    own = ("logs.workflow_id",)
    assert (await rows_of(deleting, *tree)).keys() - own == (
        await rows_of(deleting, *other)
    ).keys() - own
    await deleting.delete([ours], children=True)
    with dbos_client_of(deleting) as client:
        client.delete_workflows([theirs], delete_children=True)
    assert await rows_of(deleting, *tree) == {}
    assert not (await rows_of(deleting, *other)).keys() - own


@proves("delete:whole")
async def test_what_a_run_started_goes_with_it_or_keeps_it(deleting: Engine) -> None:
    tree = await ended(deleting, "tree", children=2)
    children = [one.workflow_id for one in await deleting.reader.tree(tree)]
    assert await notes(deleting, tree) == ["it started 2 runs: children=true deletes them with it"]
    assert await notes(deleting, children[0]) == [
        f"{tree}, which started it, is kept: delete that with children=true"
    ]
    changed = await deleting.delete([tree], children=True)
    assert changed.note == "3 runs deleted, with those that they had started."
    assert await rows_of(deleting, tree, *children) == {}


@proves("delete:needed-stays")
async def test_a_run_stays_that_has_not_ended_or_started_one_that_has_not(
    deleting: Engine,
) -> None:
    child = str(uuid.uuid4())
    parent = await ended(deleting, "parent", child_id=child)
    assert await notes(deleting, parent, children=True) == [
        f"{child} has not ended: cancel it first, or wait until it has"
    ]
    await deleting.cancel([child])
    assert all(one.changed for one in (await deleting.delete([parent], children=True)).workflows)
    assert not await is_there(deleting, child)


@proves("delete:needed-stays")
async def test_a_run_stays_from_which_an_unfinished_one_was_forked(deleting: Engine) -> None:
    asker = await start(deleting, "asker")
    await deleting.reader.wait([asker], until="any")
    fork = (await deleting.fork(asker, 1)).workflow_id
    await deleting.cancel([asker])
    assert await notes(deleting, asker) == [
        f"{fork} has not ended, and was forked from it or from a run that it started"
    ]
    await deleting.cancel([fork])
    assert all(one.changed for one in (await deleting.delete([asker])).workflows)
    assert await is_there(deleting, fork)


@proves("delete:needed-stays")
@pytest.mark.long
async def test_a_run_stays_whose_result_another_one_has_among_its_steps(deleting: Engine) -> None:
    leaf = await ended(deleting, "leaf", text="a")
    reader = await start(deleting, "reader", other=leaf)
    await deleting.reader.wait([reader], until="any")
    assert await notes(deleting, leaf) == [
        f"{reader} has it, or a run that it started, among its steps: delete both in one call"
    ]
    await deleting.cancel([reader])
    changed = await deleting.delete([leaf, reader])
    assert [one.note for one in changed.workflows] == ["deleted", "deleted"]


@proves("delete:needed-stays")
async def test_a_run_stays_for_whose_end_a_parked_run_waits(deleting: Engine) -> None:
    """As it is between the end of a run and the moment in which a worker takes up what waited for it."""
    leaf = await ended(deleting, "leaf", text="a")
    asker = await start(deleting, "asker")

    async def is_parked() -> bool:
        count = "select count(*) from durable_workflows.parked where workflow_id = %s"
        return await value(deleting, count, asker) == 1

    await until_found(is_parked, "the other one waits")
    waits = "insert into durable_workflows.parked_on values (%s, 'end', %s, '')"
    await value(deleting, waits, asker, leaf)
    assert await notes(deleting, leaf) == [f"{asker} waits for it, or for a run that it started"]


async def test_an_unknown_id_deletes_nothing(deleting: Engine) -> None:
    leaf = await ended(deleting, "leaf", text="a")
    with pytest.raises(UnknownWorkflowId):
        await deleting.delete([leaf, "nobody"])
    assert await is_there(deleting, leaf)


@pytest.mark.long
async def test_a_wait_for_runs_of_which_one_is_deleted_says_so(deleting: Engine) -> None:
    leaf = await ended(deleting, "leaf", text="a")
    asker = await start(deleting, "asker")
    errors: list[str] = []

    async def wait() -> None:
        with pytest.raises(UnknownWorkflowId) as caught:
            await deleting.reader.wait([leaf, asker], until="change", timeout_seconds=60)
        errors.append(str(caught.value))

    await deleting.reader.wait([asker], until="any")
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await deleting.delete([leaf])
        await deleting.send(asker, "go", "on")
    assert f"{leaf}" in errors[0]


@proves("delete:whole")
async def test_a_large_tree_is_deleted_in_parts(deleting: Engine) -> None:
    tree = await ended(deleting, "tree", children=1)
    more = """insert into dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, parent_workflow_id)
        select run.workflow_uuid || number, status, name, created_at, updated_at, run.workflow_uuid
        from dbos.workflow_status as run, generate_series(1, 1100) as number where run.workflow_uuid = %s"""
    await value(deleting, more, tree)
    changed = await deleting.delete([tree], children=True)
    assert changed.note == "1,102 runs deleted, with those that they had started."
    left = "select count(*) from dbos.workflow_status where starts_with(workflow_uuid, %s)"
    assert await value(deleting, left, tree) == 0


@proves("delete:whole")
async def test_a_large_tree_is_deleted_after_many_small_ones(deleting: Engine) -> None:
    """Postgres plans a statement once for all if it was called some times. Planned for small tables, this one would take minutes."""
    tree = """insert into dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, parent_workflow_id)
        select tree || number, 'SUCCESS', 'tree', 1, 1, case when number > 0 then tree || 0 end
        from (select %s::text as tree) as given, generate_series(0, %s) as number"""
    await ended(deleting, "leaf", text="a")  # now all tables are there
    for number in range(12):
        await value(deleting, tree, f"small-{number}-", 2)
        await deleting.delete([f"small-{number}-0"], children=True)
    await value(deleting, "analyze")
    await value(deleting, tree, "large-", 3000)
    changed = await deleting.delete(["large-0"], children=True)
    assert changed.note == "3,001 runs deleted, with those that they had started."


@proves("prune:choice")
async def test_a_large_tree_is_pruned_as_one(deleting: Engine) -> None:
    await make_old(deleting, 1)
    more = """insert into dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, parent_workflow_id)
        select 'old-1-' || number, status, name, created_at, updated_at, workflow_uuid
        from dbos.workflow_status, generate_series(3, 1000) as number where workflow_uuid = 'old-1'"""
    await value(deleting, more)
    would = await deleting.prune(timedelta(days=9), dry_run=True)
    pruned = await deleting.prune(timedelta(days=9))
    assert (would.runs, would.trees) == (pruned.runs, pruned.trees) == (1001, 1)


async def test_an_id_can_be_used_again_once_its_run_is_deleted(deleting: Engine) -> None:
    leaf = await ended(deleting, "leaf", text="a")
    await deleting.delete([leaf])
    request = StartRequest(name="deleted_leaf", args={"text": "b"}, workflow_id=leaf)
    again = await deleting.start(request)
    assert not again.existing
    [one] = (await deleting.reader.wait([leaf], timeout_seconds=30)).done
    assert one.output == "b"


@proves("prune:choice")
async def test_pruning_deletes_the_trees_of_a_choice_and_says_before_what_it_would_delete(
    deleting: Engine,
) -> None:
    trees = [await ended(deleting, "tree", children=2) for _ in range(4)]
    asker = await start(deleting, "asker")
    about: dict[str, Any] = {"name": "deleted_tree", "keep_last": 1}
    assert (await deleting.prune(timedelta(hours=1), **about)).runs == 0
    assert (await deleting.prune(NO_AGE, status="ERROR", **about)).runs == 0
    would = await deleting.prune(NO_AGE, dry_run=True, **about)
    assert (would.runs, would.trees, would.kept, would.dry_run) == (9, 3, [], True)
    assert [await is_there(deleting, one) for one in trees] == [True] * 4
    pruned = await deleting.prune(NO_AGE, **about)
    assert (pruned.runs, pruned.trees, pruned.kept, pruned.dry_run) == (9, 3, [], False)
    assert [await is_there(deleting, one) for one in trees] == [False] * 3 + [True]
    assert await is_there(deleting, asker)


@proves("prune:choice")
async def test_pruning_says_what_it_keeps_and_why(deleting: Engine) -> None:
    child = str(uuid.uuid4())
    parent = await ended(deleting, "parent", child_id=child)

    async def rests() -> object:  # before, a worker may change its row: then it is kept as busy
        return (await deleting.reader.run(child)).rest

    await until_found(rests, "the child is parked")
    pruned = await deleting.prune(NO_AGE, name="deleted_parent")
    assert (pruned.runs, [one.reason for one in pruned.kept]) == (0, ["unfinished"])
    assert (pruned.kept[0].workflow_id, pruned.kept[0].about) == (parent, child)
    await deleting.cancel([child])


@proves("prune:choice")
@pytest.mark.long
async def test_a_tree_goes_once_what_named_it_has_gone(deleting: Engine) -> None:
    """The older run is looked at first: it can only go after the newer one."""
    leaf = await ended(deleting, "leaf", text="named")
    reader = await start(deleting, "reader", other=leaf)
    await deleting.reader.wait([reader], until="any")
    await deleting.cancel([reader])
    await deleting.prune(NO_AGE)
    assert not await is_there(deleting, leaf)
    assert not await is_there(deleting, reader)


OLD_TREES = """
    insert into dbos.workflow_status (
        workflow_uuid, status, name, application_version, application_name, created_at, updated_at, completed_at, parent_workflow_id, serialization
    )
    select 'old-' || tree || case when child = 0 then '' else '-' || child end, 'SUCCESS', 'deleted_tree', '0', 'durable-workflows', at, at, at,
        case when child > 0 then 'old-' || tree end, 'portable_json'
    from generate_series(1, {trees}) as tree, generate_series(0, 2) as child,
        lateral (select ((extract(epoch from clock_timestamp()) - 864000) * 1000)::bigint as at) as moment
"""
OLD_STEPS = """
    insert into dbos.operation_outputs (workflow_uuid, function_id, function_name, output, child_workflow_id)
    select workflow_uuid, step, 'note', repeat('x', 200), case when parent_workflow_id is null and step < 3 then workflow_uuid || '-' || step end
    from dbos.workflow_status, generate_series(1, 3) as step where starts_with(workflow_uuid, 'old-')
"""
OLD_INPUTS = "insert into dbos.workflow_input (workflow_uuid, inputs) select workflow_uuid, '{}' from dbos.workflow_status where starts_with(workflow_uuid, 'old-')"
STRAY = """
    select (select count(*) from dbos.operation_outputs as step where not exists (select from dbos.workflow_status as run where run.workflow_uuid = step.workflow_uuid))
        + (select count(*) from dbos.workflow_input as given where not exists (select from dbos.workflow_status as run where run.workflow_uuid = given.workflow_uuid))
        + (select count(*) from dbos.workflow_status as run where starts_with(run.workflow_uuid, 'old-')
            and (select count(*) from dbos.operation_outputs as step where step.workflow_uuid = run.workflow_uuid) <> 3)
        + (select count(*) from dbos.workflow_status as run where parent_workflow_id is not null
            and not exists (select from dbos.workflow_status as parent where parent.workflow_uuid = run.parent_workflow_id))
"""


async def make_old(engine: Engine, trees: int) -> None:
    """Write trees of three runs that ended ten days ago: `old-1`, `old-1-1`, `old-1-2` and so on."""
    for statement in (OLD_TREES.format(trees=trees), OLD_STEPS, OLD_INPUTS):
        await value(engine, statement)


async def bytes_of(engine: Engine) -> int:
    return (await engine.reader.status()).database_bytes


async def test_the_size_of_the_database_is_what_postgres_says(engine: Engine) -> None:
    async def is_equal() -> bool:  # a worker may have written between the two
        return await bytes_of(engine) == await value(
            engine, "select pg_database_size(current_database())"
        )

    await until_found(is_equal, "both sizes are equal")


@proves("prune:choice")
@pytest.mark.parametrize(
    "touch",
    [
        "update dbos.workflow_status set updated_at = 4000000000000 where workflow_uuid = 'old-1-2'",
        "insert into dbos.notifications (destination_uuid, message) values ('old-1-2', 'null')",
    ],
    ids=["a change", "a message"],
)
async def test_a_tree_of_which_a_run_changed_lately_is_not_pruned(
    deleting: Engine, touch: str
) -> None:
    await make_old(deleting, 1)
    await value(deleting, touch)
    pruned = await deleting.prune(timedelta(days=9))
    [kept] = pruned.kept
    assert (kept.reason, kept.workflow_id, kept.about) == ("recent", "old-1", "old-1-2")
    assert all(one.changed for one in (await deleting.delete(["old-1"], children=True)).workflows)


@proves("prune:space")
@pytest.mark.long
async def test_after_pruning_the_database_is_smaller_and_runs_went_on_meanwhile(
    engine: Engine, folder: Path
) -> None:
    copy_flow("deleting", folder)
    await ended(engine, "leaf", text="first")
    empty = await bytes_of(engine)
    await make_old(engine, 10_000)
    full = await bytes_of(engine)
    status = (await engine.reader.status()).storage
    assert (status.older_runs, status.keep_days) == (0, None)  # they ended ten days ago
    done = anyio.Event()
    outputs: list[str] = []

    async def start_runs() -> None:
        while not done.is_set():
            outputs.append(await ended(engine, "leaf", text="meanwhile"))

    pruned = Pruned(dry_run=True, trees=0, runs=0, kept=[])
    async with anyio.create_task_group() as group:
        group.start_soon(start_runs)
        pruned = await engine.prune(timedelta(days=9))
        done.set()
    assert (pruned.runs, pruned.trees, pruned.kept) == (30_000, 10_000, [])
    assert pruned.freed_bytes > (full - empty) * 0.8
    assert len(outputs) > 3


# More rows of one run than are written anew while runs may go on, and twice as many of another.
LARGE = """
insert into durable_workflows.logs (workflow_id, at, stream, text)
select case when n % 3 = 0 then 'kept' else %s end, now(), 'out', repeat(md5(n::text), 30) from generate_series(1, 60000) as n
"""


@proves("prune:space")
@pytest.mark.long
async def test_also_a_large_table_is_smaller_once_no_worker_is_there(
    engine: Engine, folder: Path
) -> None:
    copy_flow("deleting", folder)
    run = await ended(engine, "leaf", text="first")
    await value(engine, LARGE.replace("%", "%%").replace("%%s", "%s"), run)
    await engine.delete([run])
    full = await bytes_of(engine)

    async def is_smaller() -> bool:
        return await bytes_of(engine) < full * 0.6

    await until_found(is_smaller, "the space is given back", seconds=150)
    left = "select count(*) from durable_workflows.logs where workflow_id = 'kept'"
    assert await value(engine, left) == 20_000


@proves("prune:keep-days")
@pytest.mark.long
async def test_old_runs_are_deleted_by_themselves_if_it_is_said_for_how_long_they_are_kept(
    engine: Engine, folder: Path
) -> None:
    copy_flow("deleting", folder)
    leaf = await ended(engine, "leaf", text="new")
    await make_old(engine, 20)
    project = Project(Settings(project=folder, keep_days=9))
    storage = (await (await project.engine()).reader.status()).storage
    assert (storage.keep_days, storage.older_runs) == (9, 60)
    assert storage.older_bytes > 0
    await lifecycle.shut_down(project.settings)  # the supervisor that keeps all of them
    engine = await project.engine()
    old = "select count(*) from dbos.workflow_status where starts_with(workflow_uuid, 'old-')"

    async def all_gone() -> bool:
        return await value(engine, old) == 0

    await until_found(all_gone, "the old runs are deleted", seconds=90)
    assert await is_there(engine, leaf)
    await project.aclose()


@pytest.mark.long
async def test_versions_of_the_code_go_once_no_run_has_them(engine: Engine, folder: Path) -> None:
    copy_flow("deleting", folder)
    leaf = await ended(engine, "leaf", text="old code")
    old = (await engine.reader.run(leaf)).version
    with (folder / "workflows" / "deleting.py").open("a", encoding="utf-8") as file:
        file.write("\n# edited\n")
    await ended(engine, "leaf", text="new code")
    workers = processes_of(folder, "worker")
    for worker in workers:
        worker.terminate()
    await until(lambda: not any(map(command_of, workers)), "they have ended")
    about = "select count(*) from durable_workflows.version_files where version = %s"
    long_ago = (
        "update durable_workflows.versions set used_at = clock_timestamp() - interval '2 days'"
    )
    await value(engine, long_ago)
    await value(engine, "delete from durable_workflows.workers")
    await engine.prune(timedelta(days=1))
    assert await value(engine, about, old) > 0
    await engine.delete([leaf])
    await engine.prune(timedelta(days=1))
    assert await value(engine, about, old) == 0
    files = "select count(*) from durable_workflows.files where digest not in (select digest from durable_workflows.version_files)"
    assert await value(engine, files) == 0
    await ended(engine, "leaf", text="new code again")


@proves("delete:whole")
@pytest.mark.long
async def test_a_killed_database_leaves_whole_trees(engine: Engine, folder: Path) -> None:
    copy_flow("deleting", folder)
    await ended(engine, "leaf", text="first")
    await make_old(engine, 4_000)
    old = "select count(*) from dbos.workflow_status where starts_with(workflow_uuid, 'old-')"
    left = 12_000
    while left:
        async with anyio.create_task_group() as group:
            group.start_soon(prune_as_far_as_it_goes, engine)

            async def some_are_gone(before: int = left) -> bool:
                return await value(engine, old) < before

            await until_found(some_are_gone, "some are deleted")
            for node in processes_of(folder, "pglite.mjs"):
                node.kill()
        assert await value(engine, STRAY) == 0
        left = await value(engine, old)


async def prune_as_far_as_it_goes(engine: Engine) -> None:
    with suppress(DatabaseUnavailable):
        await engine.prune(timedelta(days=9))


@pytest.mark.long
async def test_a_refusal_of_the_database_stops_pruning_and_nothing_else(
    engine: Engine, project: Project, folder: Path
) -> None:
    copy_flow("deleting", folder)
    await ended(engine, "leaf", text="first")
    await value(engine, "alter table durable_workflows.sessions rename to other_sessions")
    await lifecycle.shut_down(project.settings)
    engine = await project.engine()  # a supervisor prunes once soon after its start
    log = folder / ".dbos" / "logs" / "supervisor.log"
    await until(
        lambda: "Pruning stopped" in log.read_text(encoding="utf-8"), "it is said", seconds=60
    )
    await value(engine, "alter table durable_workflows.other_sessions rename to sessions")
    await ended(engine, "leaf", text="second")
    assert [one.pid for one in processes_of(folder, "supervisor")] == [engine.connection.pid]

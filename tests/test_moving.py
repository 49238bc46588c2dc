# pyright: reportPrivateUsage=false
"""Unfinished runs go on with other code: what is moved keeps what it has, does no step twice, and loses nothing that comes meanwhile."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from durable_workflows.cli import printing
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import InvalidArguments, UnknownWorkflowId
from durable_workflows.models import Ended, Moved, MovedList, MoveFilter, Resolution, StartRequest
from durable_workflows.settings import Settings
from helpers import kill_worker, running_project, until_found, value
from requirements import proves

pytestmark = pytest.mark.anyio

FLOW = """
import os
import signal
import time
from pathlib import Path

from dbos import DBOS

from durable_workflows import ask_human, step
from durable_workflows.authoring import does_not_park


def write(file: str, text: str) -> str:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{text}\\n")
    return text


@DBOS.step()
def note(file: str, text: str) -> str:
    return write(file, text)


@step(effect="once")
def pay(file: str) -> str:
    write(file, "pay")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@DBOS.workflow()
def moves(file: str, timeout: float = 3600) -> str:
    note(file, "begun")
    message = DBOS.recv("go", timeout_seconds=timeout)
    return note(file, f"VERSION {message}")


@DBOS.workflow()
def moves_asks(file: str) -> str:
    note(file, "begun")
    return note(file, f"VERSION {ask_human('Go with VERSION?', schema=str)}")


@DBOS.workflow()
def moves_sleeps(file: str) -> str:
    note(file, "begun")
    DBOS.sleep(3600)
    return note(file, "VERSION")


@DBOS.workflow()
def moves_parent(file: str) -> str:
    child = DBOS.start_workflow(moves, file)
    return note(file, f"VERSION of {child.get_result()}")


@DBOS.step()
def hold(file: str) -> None:
    while Path(f"{file}.hold").exists():
        time.sleep(0.02)


@DBOS.workflow()
def moves_holds(file: str) -> str:
    hold(file)
    return note(file, "VERSION")


@DBOS.workflow()
@does_not_park
def moves_stays(file: str) -> str:
    DBOS.recv("go", timeout_seconds=3600)
    return note(file, "VERSION")


@DBOS.workflow()
def moves_pays(file: str) -> str:
    return note(file, f"VERSION {pay(file)}")
"""


@pytest.fixture(scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project in which runs are parked soon."""
    folder = (tmp_path_factory.mktemp("moving") / "project").resolve()
    async with running_project(Settings(project=folder, park_after_seconds=0.2), []) as engine:
        (folder / "workflows").mkdir()
        yield engine


@pytest.fixture
async def old(project: Engine) -> str:
    """The version of runs that begin now."""
    return await edit(project, "old")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "notes"


async def edit(engine: Engine, word: str) -> str:
    """Give the file another word; return the version that it has then."""
    path = engine.project / "workflows" / "moves.py"
    path.write_text(FLOW.replace("VERSION", word), encoding="utf-8")
    return (await engine.catalog()).version


async def start(engine: Engine, name: str, file: Path, **more: JsonValue) -> str:
    args: dict[str, JsonValue] = {"file": str(file), **more}
    return (await engine.start(StartRequest(name=name, args=args))).workflow_id


async def parked(engine: Engine, *workflow_ids: str) -> None:
    """Return once these runs are parked."""

    async def all_are() -> bool:
        select = "select count(*) from durable_workflows.parked where workflow_id = any(%s)"
        return await value(engine, select, list(workflow_ids)) == len(workflow_ids)

    await until_found(all_are, f"{workflow_ids} are parked")


async def rehearsed(engine: Engine, *workflow_ids: str) -> list[dict[str, object]]:
    """What a move of these runs depends on, as it is now."""
    rows = await engine._rows.fetch("movable_runs", workflow_ids=list(workflow_ids))
    names = {"run_id": "workflow_id", "version": "version", "steps": "steps", "last": "last"}
    return [
        {name: row[one] for name, one in names.items()}
        for row in rows
        if row["workflow_id"] in workflow_ids
    ]


async def move(engine: Engine, version: str, *given: dict[str, object]) -> dict[str, str]:
    """Move runs without a rehearsal; return the verdicts."""
    rows = await engine._rows.fetch("move_runs", runs=json.dumps(given), version=version)
    return {row["workflow_id"]: row["verdict"] for row in rows}


async def forced(engine: Engine, version: str, *workflow_ids: str) -> set[str]:
    """The verdicts of a move without a rehearsal."""
    given = await rehearsed(engine, *workflow_ids)
    return set((await move(engine, version, *given)).values())


async def ended(engine: Engine, workflow_id: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([workflow_id], timeout_seconds=30)).done

    return (await until_found(done, f"{workflow_id} has ended", seconds=60))[0]


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


@proves("moved:goes-on")
async def test_a_moved_run_goes_on_with_the_new_code_and_does_no_step_twice(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    new = await edit(project, "new")
    assert await forced(project, new, run) == {"moved"}
    assert (await project.reader.run(run)).version == new
    await project.send(run, "go", "went")
    assert (await ended(project, run)).output == "new went"
    assert lines_of(file) == ["begun", "new went"]
    assert await value(project, "select count(*) from dbos.workflow_status where application_version = %s and status = 'PENDING'", old) == 0  # fmt: skip


@pytest.mark.long
@proves("moved:keeps")
async def test_a_moved_run_keeps_its_deadline_and_the_message_that_has_come(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    sleep = "select output from dbos.operation_outputs where workflow_uuid = %s and function_name = 'DBOS.sleep'"
    due = "select extract(epoch from due_at)::float from durable_workflows.parked where workflow_id = %s"
    before, due_before = await value(project, sleep, run), await value(project, due, run)
    new = await edit(project, "new")
    parked_at = "select parked_at from durable_workflows.parked where workflow_id = %s"
    first = await value(project, parked_at, run)
    assert await forced(project, new, run) == {"moved"}

    async def waits_anew() -> bool:
        return await value(project, parked_at, run) not in (None, first)

    await until_found(waits_anew, "it waits on the new code")
    assert await value(project, sleep, run) == before
    assert await value(project, due, run) == pytest.approx(due_before, rel=0, abs=1)
    newer = await edit(project, "newer")
    await parked(project, run)
    await project.send(run, "go", "went")
    marks = await rehearsed(project, run)
    verdict = (await move(project, newer, *marks))[run]
    assert verdict in ("moved", "held", "changed", "ended", "busy")
    which = "newer" if verdict == "moved" else "new"
    assert (await ended(project, run)).output == f"{which} went"
    assert lines_of(file) == ["begun", f"{which} went"]


async def test_a_question_is_asked_anew_by_the_new_code(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves_asks", file)
    await parked(project, run)
    new = await edit(project, "new")
    assert await forced(project, new, run) == {"moved"}

    async def asked() -> bool:
        return [one.prompt for one in await project.reader.waits(run)] == ["Go with new?"]

    await until_found(asked, "the question of the new code is shown")
    [wait] = await project.reader.waits(run)
    await project.answer(wait, "yes", who="somebody", how="terminal")
    assert (await ended(project, run)).output == "new yes"


async def test_a_run_that_sleeps_is_moved_and_wakes_when_it_would_have(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves_sleeps", file)
    await parked(project, run)
    new = await edit(project, "new")
    past = "update dbos.operation_outputs set output = '1' where workflow_uuid = %s and function_name = 'DBOS.sleep'"
    await value(project, past, run)
    assert await forced(project, new, run) == {"moved"}
    assert (await ended(project, run)).output == "new"
    assert lines_of(file) == ["begun", "new"]


@pytest.mark.long
@proves("moved:keeps")
async def test_a_delayed_run_begins_on_the_new_code_at_its_time(
    project: Engine, old: str, file: Path
) -> None:
    args: dict[str, JsonValue] = {"file": str(file), "timeout": 0}
    request = StartRequest(name="moves", args=args, delay_seconds=600, timeout_seconds=600)
    run = (await project.start(request)).workflow_id
    kept = "select to_jsonb(run) - 'application_version' - 'updated_at' from dbos.workflow_status as run where workflow_uuid = %s"
    before = await value(project, kept, run)
    new = await edit(project, "new")
    assert await forced(project, new, run) == {"moved"}
    assert await value(project, kept, run) == before
    past = "update dbos.workflow_status set delay_until_epoch_ms = 1 where workflow_uuid = %s"
    await value(project, past, run)
    notify = "select pg_notify('durable_workflows_runs', concat_ws(E'\\t', status, queue_name, workflow_uuid)) from dbos.workflow_status where workflow_uuid = %s"
    await value(project, notify, run)
    assert (await ended(project, run)).output == "new None"
    assert lines_of(file) == ["begun", "new None"]


@proves("moved:alone")
async def test_of_several_moves_at_once_each_run_takes_one(
    project: Engine, old: str, file: Path
) -> None:
    runs = [await start(project, "moves", file) for _ in range(4)]
    await parked(project, *runs)
    new = await edit(project, "new")
    marks = await rehearsed(project, *runs)
    verdicts: list[str] = []

    async def once() -> None:
        verdicts.extend((await move(project, new, *marks)).values())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(once)
    assert verdicts.count("moved") == len(runs)
    for run in runs:
        await project.send(run, "go", run)
        assert (await ended(project, run)).output == f"new {run}"
    assert len(lines_of(file)) == 2 * len(runs)


@proves("moved:alone")
async def test_a_run_that_is_not_as_it_was_rehearsed_stays(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    new = await edit(project, "new")
    [marks] = await rehearsed(project, run)
    for wrong in ({"steps": 1}, {"last": 7}, {"version": new}):
        assert await move(project, new, {**marks, **wrong}) == {run: "changed"}
    assert await move(project, old, marks) == {run: "there"}
    assert await move(project, new, {**marks, "run_id": "not-there"}) == {"not-there": "busy"}
    await project.cancel([run])
    assert await move(project, new, marks) == {run: "ended"}
    assert (await project.reader.run(run)).version == old


async def test_a_run_that_a_process_executes_stays(project: Engine, old: str, file: Path) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    new = await edit(project, "new")
    [marks] = await rehearsed(project, run)
    took = "update dbos.workflow_status set executor_id = 'somebody' where workflow_uuid = %s"
    await value(project, took, run)
    assert await move(project, new, marks) == {run: "held"}
    await value(project, took.replace("somebody", "parked"), run)
    assert await move(project, new, marks) == {run: "moved"}


@proves("moved:alone")
async def test_no_worker_of_the_old_version_takes_up_a_moved_run(
    project: Engine, old: str, file: Path
) -> None:
    """Also one whose statement has begun before: what has woken the run may have been told the old version."""
    run = await start(project, "moves", file)
    await parked(project, run)
    nowhere = "update durable_workflows.parked set version = 'nowhere' where workflow_id = %s"
    await value(project, nowhere, run)
    insert = "insert into durable_workflows.woken (workflow_id, version) values (%s, %s)"
    await value(project, insert, run, old)
    claim = (
        "select count(*) from durable_workflows.claim_parked(%s, 'test', 'test', null, 10, '{}')"
    )
    assert await value(project, claim, old) == 0
    await value(project, nowhere.replace("'nowhere'", f"'{old}'"), run)
    await project.send(run, "go", "went")
    assert (await ended(project, run)).output == "old went"


@pytest.mark.long
@proves("moved:alone")
async def test_nothing_is_lost_that_comes_while_runs_are_moved(
    project: Engine, old: str, tmp_path: Path
) -> None:
    number = 30
    files = [tmp_path / f"notes-{one}" for one in range(number)]
    runs = [await start(project, "moves", file) for file in files]
    await parked(project, *runs)
    new = await edit(project, "new")
    marks = {str(one["run_id"]): one for one in await rehearsed(project, *runs)}
    verdicts: dict[str, str] = {}

    async def send() -> None:
        for run in runs:
            await project.send(run, "go", "went")

    async def move_each() -> None:
        for run in runs:
            verdicts.update(await move(project, new, marks[run]))

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        group.start_soon(move_each)
    for run, file in zip(runs, files, strict=True):
        which = "new" if verdicts[run] == "moved" else "old"
        assert (await ended(project, run)).output == f"{which} went"
        assert lines_of(file) == ["begun", f"{which} went"]
    assert "moved" in verdicts.values()


@pytest.mark.long
@proves("moved:goes-on", "recovery:worker-killed")
async def test_a_worker_that_is_killed_right_after_a_move_costs_nothing(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    new = await edit(project, "new")
    assert await forced(project, new, run) == {"moved"}
    assert kill_worker(project.project)
    await project.send(run, "go", "went")
    kill_worker(project.project)  # the next one, if it is there already
    assert (await ended(project, run)).output == "new went"
    assert lines_of(file) == ["begun", "new went"]


async def test_a_parent_and_its_child_may_have_two_versions(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves_parent", file)
    child = f"{run}-1"
    await parked(project, run, child)
    new = await edit(project, "new")
    assert await forced(project, new, run) == {"moved"}
    assert (await project.reader.run(child)).version == old
    await project.send(child, "go", "went")
    assert (await ended(project, run)).output == "new of old went"
    assert lines_of(file) == ["begun", "old went", "new of old went"]


@pytest.mark.long
@proves("moved:keeps")
async def test_a_doubt_stays_one_and_is_resolved_on_the_new_code(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves_pays", file)

    async def in_doubt() -> bool:
        select = (
            "select doubt_since is not null from durable_workflows.effects where workflow_id = %s"
        )
        return bool(await value(project, select, run))

    await until_found(in_doubt, "the step is in doubt", seconds=60)
    await parked(project, run)
    new = await edit(project, "new")
    assert await forced(project, new, run) == {"moved"}
    parked_at = "select count(*) from durable_workflows.parked as parked where workflow_id = %s and version = %s and not exists (select from durable_workflows.woken where woken.workflow_id = parked.workflow_id)"

    async def waits_anew() -> bool:
        return bool(await value(project, parked_at, run, new))

    await until_found(waits_anew, "it waits on the new code", seconds=60)
    said = await project.reader.run(run)
    assert said.status == "PENDING"
    await project.resolve_step(
        run, 1, Resolution(happened=True, result="paid"), who="me", how="test"
    )
    assert (await ended(project, run)).output == "new paid"
    assert lines_of(file) == ["pay", "new paid"]


# With the rehearsal


@proves("moved:goes-on", "moved:verdict")
async def test_runs_are_looked_at_before_they_are_moved(
    project: Engine, old: str, file: Path
) -> None:
    runs = [await start(project, "moves", file) for _ in range(3)]
    await parked(project, *runs)
    done = lines_of(file)
    new = await edit(project, "new")
    looked = await project.move_to_version(chosen=MoveFilter(name="moves", version=old))
    assert (looked.dry_run, looked.version, looked.note) == (True, new, "3 runs can be moved.")
    assert [one.workflow_id for one in looked.workflows] == runs
    assert {one.verdict for one in looked.workflows} == {"safe"}
    assert {(await project.reader.run(run)).version for run in runs} == {old}
    moved = await project.move_to_version(runs, dry_run=False)
    assert moved.note == "3 runs moved."
    assert {(one.verdict, one.version) for one in moved.workflows} == {("moved", new)}
    assert lines_of(file) == done
    again = await project.move_to_version(runs, dry_run=False)
    assert {one.note for one in again.workflows} == {"it has this version already"}
    for run in runs:
        await project.send(run, "go", "went")
        assert (await ended(project, run)).output == "new went"
    assert sorted(lines_of(file)) == ["begun"] * 3 + ["new went"] * 3


@proves("moved:verdict")
async def test_a_run_whose_steps_do_not_fit_stays_and_the_fork_is_named(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    path = project.project / "workflows" / "moves.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('note(file, "begun")', "print(file)", 1), encoding="utf-8")
    answer = await project.move_to_version([run], dry_run=False)
    [said] = answer.workflows
    assert (said.verdict, said.step, said.version) == ("differs", 1, old), said
    assert (said.recorded, said.called) == ("note", "DBOS.recv")
    assert (
        said.note
        == f'it stays; to go on with the new code: fork(workflow_id="{run}", from_step=1, cancel_original=true)'
    )
    assert answer.note == "0 runs moved, 1 stays."
    await project.send(run, "go", "went")
    assert (await ended(project, run)).output == "old went"


@proves("moved:goes-on")
async def test_what_a_run_has_started_is_moved_with_it(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves_parent", file)
    child = f"{run}-1"
    await parked(project, run, child)
    await edit(project, "new")
    moved = await project.move_to_version([run], dry_run=False)
    assert [(one.workflow_id, one.verdict) for one in moved.workflows] == [
        (run, "moved"),
        (child, "moved"),
    ]
    await project.send(child, "go", "went")
    assert (await ended(project, run)).output == "new of new went"


async def test_a_run_within_a_step_stays_and_says_so(project: Engine, old: str, file: Path) -> None:
    held = anyio.Path(f"{file}.hold")
    await held.touch()
    run = await start(project, "moves_holds", file)

    async def is_in_step() -> bool:
        return bool(await project.reader.steps_under_way([run]))

    await until_found(is_in_step, "the step runs")
    await edit(project, "new")
    [said] = (await project.move_to_version([run], dry_run=False)).workflows
    assert (said.verdict, said.note) == (
        "stays",
        "step 1 hold runs now: call again once it has returned",
    )
    await held.unlink()
    assert (await ended(project, run)).output == "old"


@pytest.mark.long
async def test_a_run_that_is_never_parked_stays_and_says_why(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves_stays", file)
    await project.reader.wait([run], until="any")
    await edit(project, "new")
    [said] = (await project.move_to_version([run])).workflows
    assert said.verdict == "safe"
    [said] = (await project.move_to_version([run], dry_run=False)).workflows
    assert said.verdict == "stays"
    assert "is never parked" in (said.note or "")
    await project.send(run, "go", "went")
    assert (await ended(project, run)).output == "old"


@pytest.mark.long
async def test_a_run_in_memory_is_waited_for_until_it_is_parked(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves", file)
    await project.reader.wait([run], until="any")
    await edit(project, "new")
    [said] = (await project.move_to_version([run], dry_run=False)).workflows
    assert said.verdict == "moved", said
    await project.send(run, "go", "went")
    assert (await ended(project, run)).output == "new went"


@pytest.mark.long
async def test_a_run_is_moved_back_to_the_version_that_it_had(
    project: Engine, old: str, file: Path
) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    await edit(project, "new")
    await project.move_to_version([run], dry_run=False)
    [said] = (await project.move_to_version([run], version=old, dry_run=False)).workflows
    assert (said.verdict, said.version) == ("moved", old)
    await project.send(run, "go", "went")
    assert (await ended(project, run)).output == "old went"
    assert lines_of(file) == ["begun", "old went"]


@pytest.mark.long
async def test_a_run_whose_workflow_is_gone_stays(project: Engine, old: str, file: Path) -> None:
    run = await start(project, "moves", file)
    await parked(project, run)
    path = project.project / "workflows" / "moves.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("def moves(", "def moves_else(").replace("(moves,", "(moves_else,"),
        encoding="utf-8",
    )
    [said] = (await project.move_to_version([run], dry_run=False)).workflows
    assert (said.verdict, said.version) == ("stays", old)
    assert said.note
    await project.send(run, "go", "went")
    assert (await ended(project, run)).output == "old went"


async def test_either_runs_or_a_filter_and_a_version_that_is_there(project: Engine) -> None:
    for workflow_ids, chosen in ((None, None), (["a"], MoveFilter())):
        with pytest.raises(InvalidArguments, match="either workflow_ids or filter"):
            await project.move_to_version(workflow_ids, chosen)
    with pytest.raises(InvalidArguments, match="no version 'nowhere'"):
        await project.move_to_version(chosen=MoveFilter(), version="nowhere")
    with pytest.raises(UnknownWorkflowId):
        await project.move_to_version(["not-there"])
    found = await project.move_to_version(chosen=MoveFilter(name="not_there"))
    assert found.note == "No unfinished run has another version."


@proves("moved:verdict")
def test_a_command_says_where_a_run_and_the_code_part_and_what_to_do() -> None:
    differs = Moved(
        workflow_id="a",
        name="flow",
        verdict="differs",
        version="1",
        step=2,
        recorded="price",
        called="reserve",
        note="it stays",
    )
    safe = Moved(workflow_id="b", name="flow", verdict="safe", version="1")
    looked = MovedList(
        version="2", dry_run=True, workflows=[differs, safe], note="1 run can be moved, 1 stays."
    )
    assert printing.moved_text(looked).splitlines() == [
        "a  differs at step 2: recorded price, the code calls reserve · it stays",
        "b  safe",
        "1 run can be moved, 1 stays. Run it again with --apply to move what is safe.",
    ]

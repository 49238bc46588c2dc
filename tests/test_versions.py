"""A run finishes on the code with which it began; a start uses the newest."""

import random
import string
from pathlib import Path

import anyio
import psutil
import pytest

from durable_workflows.code import catalog
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import UnknownWorkflow, WorkflowUnavailable
from durable_workflows.models import Started, StartRequest
from durable_workflows.processes import problems
from durable_workflows.settings import Settings
from helpers import (
    copy_flow,
    insert_lost_run,
    processes_of,
    run_without_rights,
    until,
    until_found,
    value,
)
from requirements import long, proves

pytestmark = pytest.mark.anyio

FLOW = '''
from dbos import DBOS


@DBOS.step()
def answer() -> str:
    return "{answer}"


@DBOS.workflow()
def flow() -> str:
    """Wait, then answer."""
    DBOS.recv("go", timeout_seconds=600)
    return answer()
'''


def write_flow(folder: Path, answer: str, name: str = "flow") -> Path:
    path = folder / "workflows" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(FLOW.format(answer=answer).replace("def flow", f"def {name}"), encoding="utf-8")
    return path


@pytest.mark.long
@proves("version:old-code", "version:new-code")
async def test_an_edit_changes_later_starts_and_not_the_runs_under_way(
    engine: Engine, folder: Path
) -> None:
    write_flow(folder, "old")
    before = await engine.start(StartRequest(name="flow"))
    await engine.reader.wait([before.workflow_id], until="any")
    write_flow(folder, "new")
    after = await engine.start(StartRequest(name="flow"))
    assert before.version != after.version
    for one in (before, after):
        await engine.send(one.workflow_id, "go", None)
    result = await engine.reader.wait([before.workflow_id, after.workflow_id], timeout_seconds=30)
    assert [one.output for one in result.done] == ["old", "new"]
    write_flow(folder, "old")
    assert (await engine.start(StartRequest(name="flow"))).version == before.version
    newest = "select version from durable_workflows.versions where state = 'ready' order by saved_at desc limit 1"
    assert await value(engine, newest) == before.version


@pytest.mark.long
@proves("version:old-code", "recovery:worker-killed")
async def test_after_a_kill_a_run_still_finishes_on_its_own_code(
    engine: Engine, folder: Path
) -> None:
    write_flow(folder, "old")
    started = await engine.start(StartRequest(name="flow"))
    await engine.reader.wait([started.workflow_id], until="any")
    write_flow(folder, "new")
    await engine.catalog()
    for worker in processes_of(folder, "worker"):
        worker.kill()
    await engine.send(started.workflow_id, "go", None)
    result = await engine.reader.wait([started.workflow_id], timeout_seconds=60)
    assert result.done[0].output == "old"


@proves("version:broken-file")
@pytest.mark.long
async def test_a_syntax_error_makes_only_its_own_workflows_unavailable(
    engine: Engine, folder: Path
) -> None:
    flow = write_flow(folder, "fine")
    write_flow(folder, "other", name="other")
    running = await engine.start(StartRequest(name="flow"))
    flow.write_text(flow.read_text(encoding="utf-8") + "\ndef broken(:\n", encoding="utf-8")
    with pytest.raises(WorkflowUnavailable, match="SyntaxError"):
        await engine.start(StartRequest(name="flow"))
    entries = {entry.name: entry for entry in (await engine.catalog()).workflows}
    assert "SyntaxError" in (entries["flow"].error or "")
    assert entries["other"].error is None
    other = await engine.start(StartRequest(name="other"))
    for one in (running, other):
        await engine.send(one.workflow_id, "go", None)
    result = await engine.reader.wait([running.workflow_id, other.workflow_id], timeout_seconds=30)
    assert [one.output for one in result.done] == ["fine", "other"]


@proves("version:broken-file")
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        *long(
            ("import nothing_of_that_name", "ModuleNotFoundError"), ("1 / 0", "ZeroDivisionError")
        ),
    ],
)
async def test_a_file_that_fails_on_import_is_in_the_catalog_with_its_traceback(
    code: str, reason: str, engine: Engine, folder: Path
) -> None:
    flow = write_flow(folder, "fine")
    flow.write_text(f"{flow.read_text(encoding='utf-8')}\n{code}\n", encoding="utf-8")
    entries = {entry.name: entry for entry in (await engine.catalog()).workflows}
    assert reason in (entries["flow"].error or "")
    assert entries["run_commands"].error is None


@pytest.mark.long
@proves("version:repair")
async def test_a_failed_run_is_repaired_by_an_edit_and_a_fork(engine: Engine, folder: Path) -> None:
    flow = copy_flow("odd", folder)
    failed = await engine.start(StartRequest(name="fails", args={"message": "no"}))
    await engine.reader.wait([failed.workflow_id])
    text = flow.read_text(encoding="utf-8")
    flow.write_text(text.replace("raise ValueError(message)", "pass"), encoding="utf-8")
    forked = await engine.fork(failed.workflow_id, 2)
    result = await engine.reader.wait([forked.workflow_id], timeout_seconds=30)
    assert result.done[0].status == "SUCCESS"
    original, repaired = (
        await engine.reader.run(failed.workflow_id),
        await engine.reader.run(forked.workflow_id),
    )
    assert original.status == "ERROR"
    assert repaired.steps[0].completed_at == original.steps[0].completed_at  # copied, not run again
    assert repaired.version != original.version


async def test_a_folder_that_belongs_to_something_else_is_left_alone(
    engine: Engine, folder: Path
) -> None:
    other = folder / "workflows" / "deploy.py"
    other.parent.mkdir()
    other.write_text(f"open({str(folder / 'touched')!r}, 'w')\n", encoding="utf-8")
    assert {entry.source.split("/")[0] for entry in (await engine.catalog()).workflows} == {
        "_bundled"
    }
    assert not (folder / "touched").exists()


@pytest.mark.long
async def test_a_workflow_file_can_import_its_neighbours(engine: Engine, folder: Path) -> None:
    write_flow(folder, "unused")
    (folder / "workflows" / "phrases.py").write_text("GREETING = 'hello'\n", encoding="utf-8")
    text = FLOW.format(answer="x").replace('return "x"', "return GREETING")
    (folder / "workflows" / "flow.py").write_text(
        text.replace("from dbos", "from phrases import GREETING\nfrom dbos", 1), encoding="utf-8"
    )
    started = await engine.start(StartRequest(name="flow"))
    await engine.send(started.workflow_id, "go", None)
    result = await engine.reader.wait([started.workflow_id])
    assert result.done[0].output == "hello"


@pytest.mark.long
async def test_an_old_versions_worker_leaves_when_its_last_run_has_ended(
    engine: Engine, folder: Path
) -> None:
    write_flow(folder, "old")
    started = await engine.start(StartRequest(name="flow"))

    version = started.version
    assert version is not None

    def old_workers() -> list[psutil.Process]:
        return processes_of(folder, "worker", version)

    await until(lambda: len(old_workers()) == 1, "a worker for the old version")
    write_flow(folder, "new")
    await engine.catalog()
    await engine.send(started.workflow_id, "go", None)
    await engine.reader.wait([started.workflow_id])
    await until(lambda: not old_workers(), "the old worker is gone", seconds=90)


def waiting_versions(settings: Settings) -> set[str]:
    said = " ".join(problems.of_processes(settings, running=True))
    return set(said.split()) if "wait for a worker" in said else set()


@pytest.mark.long
@proves("version:old-code")
async def test_versions_beyond_the_allowed_workers_wait_their_turn_and_say_so(folder: Path) -> None:
    project = Project(Settings(project=folder, old_workers=1, park_after_seconds=0))
    engine = await project.engine()
    started: list[Started] = []
    for answer in ("first", "second", "third"):
        write_flow(folder, answer)
        started.append(await engine.start(StartRequest(name="flow")))
    older = [str(one.version) for one in started[:2]]
    await until(
        lambda: waiting_versions(project.settings) & set(older), "it is said that one waits"
    )
    await until(lambda: len(processes_of(folder, "worker")) == 2, "one old worker and the newest")
    for one in started:
        await engine.send(one.workflow_id, "go", None)
    result = await engine.reader.wait([one.workflow_id for one in started], timeout_seconds=60)
    assert [one.output for one in result.done] == ["first", "second", "third"]
    await project.aclose()


@proves("request:refused")
@pytest.mark.long
async def test_a_workflow_that_was_removed_is_unknown(engine: Engine, folder: Path) -> None:
    flow = write_flow(folder, "old")
    await engine.start(StartRequest(name="flow"))
    flow.unlink()
    with pytest.raises(UnknownWorkflow):
        await engine.start(StartRequest(name="flow"))


@pytest.mark.long
async def test_of_two_files_with_the_same_workflow_name_the_first_one_counts(
    engine: Engine, folder: Path
) -> None:
    path = write_flow(folder, "first")
    (folder / "workflows" / "other.py").write_text(
        path.read_text(encoding="utf-8").replace("first", "second"), encoding="utf-8"
    )
    entries = {entry.name: entry for entry in (await engine.catalog()).workflows}
    assert entries["flow"].error is None
    assert entries["flow"].source == "workflows/flow.py"
    clash = entries["workflows/other.py"]
    assert clash.error == "The name 'flow' is already used in workflows/flow.py."
    started = await engine.start(StartRequest(name="flow"))
    await engine.send(started.workflow_id, "go", None)
    assert (await engine.reader.wait([started.workflow_id])).done[0].output == "first"


ONCE = """
from dbos import DBOS
from durable_workflows import step
import more
from steps import pay as pay_it, read


@step(effect="once", name="to all")
def mail() -> None: ...


@step(effect="repeatable")
def note() -> None: ...


class Shop:
    @staticmethod
    @step(effect="once")
    def order() -> None: ...


@DBOS.workflow()
def sells() -> None: ...
"""
STEPS = """
from durable_workflows import step


@step(effect="once")
def {0}() -> None: ...


@step()
def read() -> None: ...
"""


@proves("effect:catalog")
async def test_the_catalog_names_the_steps_of_a_file_that_happen_at_most_once(
    engine: Engine, folder: Path
) -> None:
    write_flow(folder, "plain")
    texts = {"shop": ONCE, "steps": STEPS.format("pay"), "more": STEPS.format("deploy")}
    for name, text in texts.items():
        (folder / "workflows" / f"{name}.py").write_text(text, encoding="utf-8")
    entries = {entry.name: entry for entry in (await engine.catalog()).workflows}
    assert entries["sells"].error is None
    assert set(entries["sells"].once) == {"to all", "Shop.order", "pay", "deploy"}
    assert entries["flow"].once == []


@pytest.mark.long
async def test_an_edit_that_was_taken_back_is_the_newest_again_for_schedules_too(
    engine: Engine, folder: Path
) -> None:
    write_flow(folder, "one")
    first = (await engine.catalog()).version
    write_flow(folder, "two")
    assert (await engine.catalog()).version != first
    write_flow(folder, "one")
    assert (await engine.catalog()).version == first

    async def latest_for_dbos() -> bool:
        async with await tables.connect(engine.connection.database, role="test") as connection:
            cursor = await connection.execute(
                "select version_name from dbos.application_versions order by version_timestamp desc limit 1"
            )
            row = await cursor.fetchone()
        status = await engine.reader.status()
        return row is not None and row["version_name"] == first == status.version

    await until_found(latest_for_dbos, "the first version is the latest again", seconds=60)


@pytest.mark.long
async def test_a_file_whose_import_hangs_is_named_until_it_ends(
    engine: Engine, folder: Path
) -> None:
    flag = folder / "flag"
    flag.touch()
    head = f"import pathlib, time\nwhile not pathlib.Path({str(flag)!r}).exists():\n    time.sleep(0.05)\n"
    flow = write_flow(folder, "here")
    flow.write_text(head + flow.read_text(encoding="utf-8"), encoding="utf-8")
    interrupted = await engine.start(StartRequest(name="flow"))
    await until_found(lambda: engine.reader.waits(interrupted.workflow_id), "it waits")
    flag.unlink()
    for worker in processes_of(folder, "worker"):
        worker.kill()
    said = "The import of workflows/flow.py is taking more than 5 s. What is at the top of a file runs at import: put it into a step."

    async def named() -> bool:
        run = await engine.reader.run(interrupted.workflow_id)
        return run.absence == f"it is being started: {said}"

    await until_found(named, "the run names it")
    write_flow(folder, "there", name="other")  # a new version, with the same file
    found: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(engine.start, StartRequest(name="other", workflow_id="started"))

        async def both() -> bool:
            found[:] = (await engine.reader.status()).problems
            return len(found) == 2

        await until_found(both, "status names it for both versions")
        flag.touch()
    versions = [
        (await engine.reader.run(one)).version for one in (interrupted.workflow_id, "started")
    ]
    assert found == [f"Version {version} is being loaded: {said}" for version in versions]

    async def all_is_well() -> bool:  # the other worker needs its own time to see the flag
        return not (await engine.reader.status()).problems

    await until_found(all_is_well, "nothing is wrong any more")
    for workflow_id in (interrupted.workflow_id, "started"):
        await engine.send(workflow_id, "go", None)
    result = await engine.reader.wait([interrupted.workflow_id, "started"], timeout_seconds=30)
    assert [one.output for one in result.done] == ["here", "there"]


@pytest.mark.long
async def test_a_run_of_a_workflow_that_its_version_does_not_have_is_said(
    engine: Engine, folder: Path
) -> None:
    write_flow(folder, "one")
    await insert_lost_run(engine, "lost-1")
    run = await engine.reader.run("lost-1")
    assert run.unavailable == "there is no workflow 'removed' in this version"
    [problem] = [one for one in (await engine.reader.status()).problems if "'removed'" in one]
    assert "cancel it" in problem


@pytest.mark.long
@proves("version:broken-file")
async def test_names_and_paths_beyond_any_index_make_only_their_own_file_unavailable(
    engine: Engine, folder: Path
) -> None:
    long = "".join(random.Random(1).choices(string.ascii_letters, k=5000))
    workflows = folder / "workflows"
    deep = workflows.joinpath(*(long[place : place + 200] for place in range(0, 2200, 200)))
    deep.mkdir(parents=True)
    flow = "from dbos import DBOS\n\n@DBOS.workflow()\ndef {name}() -> int:\n    return 1\n"
    for path, name in [("fine", "fine"), ("long", long), (f"{deep}/deep", "deep")]:
        (workflows / f"{path}.py").write_text(flow.format(name=name), encoding="utf-8")
    started = await engine.start(StartRequest(name="fine"))
    assert (await engine.reader.wait([started.workflow_id], timeout_seconds=60)).done[0].output == 1
    (failed,) = [one for one in (await engine.catalog()).workflows if one.error]
    assert failed.name == "workflows/long.py"
    assert "has 5,000 characters; the limit is 500" in str(failed.error)
    (why,) = catalog.snapshot(Settings(project=folder)).left_out.values()
    assert why == "its path has more than 2,000 bytes"


@pytest.mark.long
@proves("version:broken-file")
async def test_a_workflow_folder_that_cannot_be_read_is_said_and_leaves_the_newest_version(
    engine: Engine, folder: Path, settings: Settings
) -> None:
    """By a link that leads to itself: root can read everything else."""
    write_flow(folder, "first")
    started = await engine.start(StartRequest(name="flow"))
    before = (await engine.catalog()).version
    workflows = folder / "workflows"
    workflows.rename(folder / "away")
    workflows.symlink_to(workflows)
    with pytest.raises(WorkflowUnavailable, match=f"{workflows} cannot be read: Too many levels"):
        await engine.start(StartRequest(name="flow"))
    said = f"files: The workflow folder {workflows} cannot be read"
    await until(lambda: said in str(problems.of_processes(settings, running=True)), "it is said")
    await engine.send(started.workflow_id, "go", None)
    assert (await engine.reader.wait([started.workflow_id])).done[0].output == "first"
    workflows.unlink()
    (folder / "away").rename(workflows)
    assert (await engine.catalog()).version == before
    await until(lambda: not problems.of_processes(settings, running=True), "it is well again")


_WITHOUT_RIGHTS = """
import sys
from pathlib import Path
from durable_workflows.code import catalog
from durable_workflows.errors import WorkflowUnavailable
from durable_workflows.settings import Settings
settings = Settings(project=Path(sys.argv[1]))
folder = catalog.Folder(settings)
workflows = settings.workflow_folder
said = {"workflows/sub": "this user may not read it", "workflows/own.py": "this user may not read it"}
assert folder.snapshot().left_out == said
for one in ("sub", "own.py"):
    (workflows / one).chmod(0o700)
found = folder.snapshot()
assert not found.left_out and {"workflows/own.py", "workflows/sub/helper.py"} <= {*found.files}
workflows.chmod(0)
try:
    folder.snapshot()
except WorkflowUnavailable as error:
    assert "cannot be read: Permission denied." in error.message
else:
    raise AssertionError
workflows.chmod(0o700)
assert folder.snapshot() == found
"""


@proves("version:broken-file")
def test_files_and_folders_that_this_user_may_not_read_are_named(tmp_path: Path) -> None:
    path = write_flow(tmp_path, "own", "own")
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "helper.py").touch()
    for one in (path, path.parent / "sub"):
        one.chmod(0)
    run_without_rights(_WITHOUT_RIGHTS, str(tmp_path))

"""Forty edits of workflows over runs that wait: what a move says of each is what happens to a run that is moved all the same."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.errors import WorkflowFinished
from durable_workflows.models import Moved, StartRequest
from durable_workflows.settings import Settings
from helpers import running_project, until_found, value
from requirements import proves
from test_moving import forced, parked

pytestmark = pytest.mark.anyio

HEAD = """
import asyncio
from pathlib import Path

from dbos import DBOS


def write(file: str, text: str) -> str:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{text}\\n")
    return text


@DBOS.step()
def first(file: str, more: str = "") -> str:
    return write(file, "first")


@DBOS.step()
def second(file: str, number: int = 0) -> str:
    return write(file, f"second {number}")


@DBOS.step()
def third(file: str) -> str:
    return write(file, "third")


@DBOS.step()
def other(file: str) -> str:
    return write(file, "other")


@DBOS.step()
async def first_async(file: str) -> str:
    return write(file, "first")


@DBOS.step()
async def second_async(file: str) -> str:
    return write(file, "second")


@DBOS.workflow(name="EDIT_child")
def child(file: str, number: int = 0) -> str:
    return str(DBOS.recv("go", timeout_seconds=3600))


@DBOS.workflow(name="EDIT_other_child")
def other_child(file: str) -> str:
    return str(DBOS.recv("go", timeout_seconds=3600))

"""
STEPS = """
@DBOS.workflow(name="EDIT")
def flow(file: str, number: int = 1) -> str:
    first(file)
    second(file)
    DBOS.recv("go", timeout_seconds=3600)
    return third(file)
"""
LOOP = """
@DBOS.workflow(name="EDIT")
def flow(file: str, number: int = 1) -> str:
    for one in range(3):
        second(file, one)
    DBOS.recv("go", timeout_seconds=3600)
    return third(file)
"""
PARENT = """
@DBOS.workflow(name="EDIT")
def flow(file: str, number: int = 1) -> str:
    handle = DBOS.start_workflow(child, file)
    second(file)
    handle.get_result()
    return third(file)
"""
ASYNC = """
@DBOS.workflow(name="EDIT")
async def flow(file: str, number: int = 1) -> str:
    await first_async(file)
    await second_async(file)
    await DBOS.recv_async("go", timeout_seconds=3600)
    return await first_async(file)
"""
SLEEP = """
@DBOS.workflow(name="EDIT")
def flow(file: str, number: int = 1) -> str:
    first(file)
    DBOS.sleep(3600)
    return third(file)
"""
FIRST, SECOND, THIRD = "    first(file)\n", "    second(file)\n", "    return third(file)\n"
WAIT = '    DBOS.recv("go", timeout_seconds=3600)\n'
START = "    handle = DBOS.start_workflow(child, file)\n"
LOOPED = "    for one in range(3):\n        second(file, one)\n"


@dataclass(frozen=True)
class Edit:
    """An edit of one workflow: each old text becomes a new one. `differs` is the step where the record and the new code part; None: they do not."""

    name: str
    code: str
    changes: Mapping[str, str]
    differs: int | None = None

    @property
    def whole(self) -> str:
        """The file's text before the edit."""
        return self.code if self.code.startswith(HEAD) else HEAD + self.code


EDITS = (
    # Steps
    Edit("comment", STEPS, {FIRST: "    # the first\n" + FIRST}),
    Edit("body_of_a_step", HEAD + STEPS, {'"first")': '"FIRST")'}),
    Edit("insert_first", STEPS, {FIRST: "    other(file)\n" + FIRST}, 1),
    Edit("insert_second", STEPS, {SECOND: "    other(file)\n" + SECOND}, 2),
    Edit("insert_before_the_wait", STEPS, {WAIT: "    other(file)\n" + WAIT}, 3),
    Edit("insert_after_the_wait", STEPS, {WAIT: WAIT + "    other(file)\n"}),
    Edit("insert_the_same_again", STEPS, {SECOND: SECOND + SECOND}, 3),
    Edit("delete_first", STEPS, {FIRST: ""}, 1),
    Edit("delete_second", STEPS, {SECOND: ""}, 2),
    Edit("delete_third", STEPS, {THIRD: '    return "nothing"\n'}),
    Edit("delete_both", STEPS, {FIRST: "", SECOND: ""}, 1),
    Edit("reorder", STEPS, {FIRST + SECOND: SECOND + FIRST}, 1),
    Edit("rename_first", HEAD + STEPS, {"first(": "premiere("}, 1),
    Edit("rename_third", HEAD + STEPS, {"third(": "last("}),
    Edit("rename_but_in_the_record", HEAD + STEPS, {"first(": "premiere(", "@DBOS.step()\ndef premiere": '@DBOS.step(name="first")\ndef premiere'}),
    Edit("replace_second", STEPS, {SECOND: "    other(file)\n"}, 2),
    Edit("guard_second", STEPS, {SECOND: "    if number > 1:\n        second(file)\n"}, 2),
    Edit("guard_that_holds", STEPS, {SECOND: "    if number < 2:\n        second(file)\n"}),
    Edit("end_early", STEPS, {SECOND: '    return "early"\n'}, 2),
    Edit("fail_early", STEPS, {SECOND: '    raise ValueError("early")\n'}, 2),
    # Arguments
    Edit("argument_of_a_step", STEPS, {FIRST: '    first(file, "more")\n'}),
    Edit("new_argument", STEPS, {"number: int = 1": "number: int = 1, more: str = ''"}),
    Edit("new_argument_required", STEPS, {"number: int = 1": "more: str"}, 1),
    Edit("rename_argument", STEPS, {"(file: str, number: int = 1) -> str:\n": "(path: str, number: int = 1) -> str:\n    file = path\n"}, 1),
    # Waits
    Edit("wait_moved_up", STEPS, {SECOND + WAIT: WAIT + SECOND}, 2),
    Edit("wait_for_another_topic", STEPS, {'"go"': '"also"'}, 3),
    Edit("wait_longer", STEPS, {"3600": "7200"}),
    Edit("wait_twice", STEPS, {WAIT: WAIT + '    DBOS.recv("also", timeout_seconds=3600)\n'}),
    Edit("sleep_longer", SLEEP, {"3600": "7200"}),
    Edit("sleep_becomes_a_step", SLEEP, {"    DBOS.sleep(3600)\n": "    other(file)\n"}, 2),
    # Loops
    Edit("loop_shorter", LOOP, {"range(3)": "range(2)"}, 3),
    Edit("loop_longer", LOOP, {"range(3)": "range(4)"}, 4),
    Edit("loop_written_out", LOOP, {LOOPED: "    second(file, 0)\n    second(file, 1)\n    second(file, 2)\n"}),
    Edit("loop_the_other_way", LOOP, {"range(3)": "(2, 1, 0)"}),
    Edit("loop_with_more_in_it", LOOP, {"        second(file, one)\n": "        second(file, one)\n        first(file)\n"}, 2),
    # Children
    Edit("another_child", PARENT, {"start_workflow(child": "start_workflow(other_child"}, 1),
    Edit("child_becomes_a_step", PARENT, {START: "    first(file)\n", "    handle.get_result()\n": ""}, 1),
    Edit("argument_of_a_child", PARENT, {"(child, file)": "(child, file, 7)"}),
    Edit("another_child_before", PARENT, {START: "    DBOS.start_workflow(other_child, file)\n" + START}, 1),
    # Async
    Edit("async_insert", ASYNC, {"    await second_async": "    await first_async(file)\n    await second_async"}, 2),
    Edit("async_gather", ASYNC, {"    await first_async(file)\n    await second_async(file)\n": "    await asyncio.gather(first_async(file), second_async(file))\n"}),
    Edit("async_gather_reordered", ASYNC, {"    await first_async(file)\n    await second_async(file)\n": "    await asyncio.gather(second_async(file), first_async(file))\n"}, 1),
)  # fmt: skip
QUICK = ("comment", "insert_first", "delete_second", "end_early", "wait_longer")
_ERROR = re.compile(r"step (\d+), function (\S+) was recorded when (\S+) was expected")


def source(edit: Edit, *, changed: bool) -> str:
    """The file of an edit, before or after it. Changes are made in `code`, which may be all of the file."""
    text = edit.code
    for old, new in edit.changes.items() if changed else ():
        assert old in text, (edit.name, old)
        text = text.replace(old, new)
    whole = edit.whole.removesuffix(edit.code) + text
    return whole.replace("EDIT", edit.name)


@pytest.fixture(scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project in which runs are parked soon."""
    folder = (tmp_path_factory.mktemp("edits") / "project").resolve()
    async with running_project(Settings(project=folder, park_after_seconds=0.2), []) as engine:
        (folder / "workflows").mkdir()
        yield engine


def write(engine: Engine, edits: Sequence[Edit], *, changed: bool) -> None:
    for one in edits:
        path = engine.project / "workflows" / f"{one.name}.py"
        path.write_text(source(one, changed=changed), encoding="utf-8")


async def begin(engine: Engine, edits: Sequence[Edit], folder: Path) -> dict[str, Edit]:
    """Start a run of each edit on the code before it; return them once they wait."""
    write(engine, edits, changed=False)
    started: dict[str, Edit] = {}
    for one in edits:
        args: dict[str, JsonValue] = {"file": str(folder / one.name)}
        run = await engine.start(StartRequest(name=one.name, args=args))
        started[run.workflow_id] = one
    await parked(engine, *started)
    return started


def effects(folder: Path) -> dict[str, str]:
    """What the steps have done."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


async def steps_of(engine: Engine, workflow_id: str) -> int:
    select = "select count(*) from dbos.operation_outputs where workflow_uuid = %s"
    return int(await value(engine, select, workflow_id))


async def what_happens(engine: Engine, workflow_id: str, before: int) -> str | None:
    """Where a moved run and its record part; None: they do not.

    dbos finds out, or the run ends early, or it no longer waits for what it was sent.
    """

    async def stopped() -> str | None:
        if await engine.reader.has_ended(workflow_id):
            return "ended"
        waits = await engine.reader.waits(workflow_id)
        return next((str(one.step) for one in waits if one.topic != "go"), None)

    stop = await until_found(stopped, f"{workflow_id} has ended", seconds=60)
    if stop != "ended":
        return stop
    run = await engine.reader.run(workflow_id)
    found = _ERROR.search(run.error.text if run.error else "")
    if found:
        return found[1]
    return "the end" if await steps_of(engine, workflow_id) == before else None


async def bring(engine: Engine, workflow_id: str, *topics: str) -> None:
    """Send what a run, and those that it started, wait for. Each may end at any time."""
    tree = await engine.reader.tree(workflow_id)
    for run in [workflow_id, *(child.workflow_id for child in tree)]:
        with suppress(WorkflowFinished):
            for topic in topics:
                await engine.send(run, topic, "went")


async def check(engine: Engine, edits: Sequence[Edit], folder: Path) -> None:
    started = await begin(engine, edits, folder)
    write(engine, edits, changed=True)
    done = effects(folder)
    before = {one: await steps_of(engine, one) for one in started}
    answer = await engine.move_to_version(list(started))
    assert answer.dry_run
    said = {one.workflow_id: one for one in answer.workflows}
    verdicts = {edit.name: (said[run].verdict, said[run].step) for run, edit in started.items()}
    assert verdicts == {
        one.name: ("safe", None) if one.differs is None else ("differs", one.differs)
        for one in edits
    }
    assert effects(folder) == done
    asleep = [run for run, edit in started.items() if edit.code == SLEEP]
    past = "update dbos.operation_outputs set output = '1' where workflow_uuid = any(%s) and function_name = 'DBOS.sleep'"
    await value(engine, past, asleep)
    assert await forced(engine, answer.version, *started) == {"moved"}
    for run in started:
        await bring(engine, run, *(("go", "also") if said[run].verdict == "safe" else ("go",)))
    for run, edit in started.items():
        happened = await what_happens(engine, run, before[run])
        assert _agrees(said[run], happened), (edit.name, said[run], happened)


def _agrees(said: Moved, happened: str | None) -> bool:
    if said.verdict == "safe" or happened is None:
        return said.verdict == "safe" and happened is None
    if happened == "the end":
        return "end" in (said.called or "")
    # A step that is called where the run waits is done, before the record of the wait's own deadline, at the next number, does not fit.
    return int(happened) - int(said.step or 0) in (0, 1)


@pytest.mark.long
@proves("moved:verdict")
async def test_some_edits_are_judged_as_what_happens(project: Engine, tmp_path: Path) -> None:
    await check(project, [one for one in EDITS if one.name in QUICK], tmp_path)


@pytest.mark.long
@proves("moved:verdict")
async def test_forty_edits_are_judged_as_what_happens(project: Engine, tmp_path: Path) -> None:
    assert len(EDITS) >= 40
    await check(project, EDITS, tmp_path)

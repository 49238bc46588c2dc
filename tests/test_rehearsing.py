"""Rehearsals: what a recorded run does on other code is known before anything happens, and nothing happens."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from cli import command
from durable_workflows.database import tables
from durable_workflows.engine import authoring_files
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import UnknownWorkflowId
from durable_workflows.models import Rehearsal, StartRequest
from durable_workflows.settings import Settings
from durable_workflows.telling import rehearsals
from helpers import parking_project, processes_of, running_project, until_found, value
from requirements import proves

pytestmark = pytest.mark.anyio


class Edit(NamedTuple):
    """What becomes of a run by an edit: where the rehearsal says that it differs (None: it is safe), what is said of it, and whether a fork really fails."""

    name: str
    step: int | None = None
    recorded: str | None = None
    called: str | None = None
    really_fails: bool = False


EDITS = [
    Edit("as_it_was"),
    Edit("the_same"),
    Edit("child_by_handle"),
    Edit("step_inserted", 2, "also_noted", "noted", True),
    Edit("same_step_inserted_in_a_loop", 5, "fails", "noted", True),
    Edit("loop_shorter", 4, "noted", "fails", True),
    Edit("step_deleted", 2, "also_noted", "noted", True),
    Edit("reordered", 1, "noted", "also_noted", True),
    Edit("renamed", 1, "noted", "noted_too", True),
    Edit("error_not_caught", 6, "DBOS.sleep", "the end of the workflow, with ValueError: no", True),
    Edit("without_sleep", 6, "DBOS.sleep", "DBOS.setEvent", True),
    Edit("receives_in_place_of_sleep", 6, "DBOS.sleep", "DBOS.recv", True),
    Edit("other_child", 9, "little_one", "other_little_one", True),
    Edit("child_started_only", 10, "DBOS.getResult", "the end of the workflow"),
    Edit("event_and_stream_swapped", 7, "DBOS.setEvent", "DBOS.writeStream", True),
    Edit("ends_early", 2, "also_noted", "the end of the workflow"),
    Edit("goes_on_longer", 11, "the end of the workflow", "noted"),
    Edit(
        "fails_at_the_end",
        11,
        "the end of the workflow",
        "the end of the workflow, with ZeroDivisionError: division by zero",
        True,
    ),
    Edit("catches_everything", 2, "also_noted", "noted", True),
    Edit("asynchronous", 9, "little_one", "little_one_async", True),
]


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    settings = Settings(project=(tmp_path_factory.mktemp("rehearsing") / "project").resolve())
    async with running_project(settings, ["rehearsing"]) as engine:
        yield engine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "effects"


@pytest.mark.long
@proves("rehearsal:verdict", "rehearsal:nothing-happens")
async def test_a_rehearsal_says_what_an_edit_does_to_a_run_and_does_nothing(
    engine: Engine, file: Path
) -> None:
    names = {f"run of {edit.name}": edit.name for edit in EDITS}
    await run_as(engine, "as_it_was", names, file)
    runs = list(names)
    before = await all_of(engine, file)
    found = await engine.rehearse(runs)
    assert await all_of(engine, file) == before
    told = [(one.name, one.step, one.recorded, one.called) for one in found]
    assert told == [(edit.name, edit.step, edit.recorded, edit.called) for edit in EDITS]
    verdicts = [one.verdict for one in found]
    assert verdicts == ["safe" if edit.step is None else "differs" for edit in EDITS]
    await see_what_really_happens(engine, runs)


async def see_what_really_happens(engine: Engine, runs: Sequence[str]) -> None:
    """Fork the runs with all of their steps: dbos replays them on the code of the edits."""
    forks = [(await engine.fork(run, 11)).workflow_id for run in runs]
    ended = await engine.reader.wait(forks, timeout_seconds=60)
    by_id = {one.workflow_id: one for one in ended.done}
    failed = [by_id[fork].status == "ERROR" for fork in forks]
    assert failed == [edit.really_fails for edit in EDITS]


async def all_of(engine: Engine, file: Path) -> list[object]:
    """What has happened: the lines in the file, and how many rows the tables have which a run could change."""
    names = (
        "workflow_status workflow_input workflow_output operation_outputs notifications"
        " workflow_events workflow_events_history streams datasource_outputs"
    )
    counts = [await value(engine, f"select count(*) from dbos.{name}") for name in names.split()]
    return [await anyio.Path(file).read_text(encoding="utf-8"), *counts]


@pytest.fixture(scope="module")
async def parking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with parking_project(tmp_path_factory, "rehearsing_kinds") as engine:
        yield engine


@pytest.mark.parametrize("name", ["kinds", pytest.param("kinds_async", marks=pytest.mark.long)])
@proves("rehearsal:nothing-happens", "rehearsal:verdict")
async def test_no_kind_of_operation_happens_in_a_rehearsal(
    parking: Engine, name: str, file: Path
) -> None:
    request = StartRequest(name=name, args={"file": str(file)}, workflow_id=name)
    await parking.start(request)
    (ended,) = (await parking.reader.wait([name], timeout_seconds=60)).done
    assert ended.status == "SUCCESS", ended.error
    before = await all_of(parking, file)
    (found,) = await parking.rehearse([name])
    assert (found.verdict, found.step, found.note) == ("safe", None, None)
    assert found.steps == await value(
        parking, "select count(*) from dbos.operation_outputs where workflow_uuid = %s", name
    )
    assert await all_of(parking, file) == before


class Waits(NamedTuple):
    """What code does in place of a wait: what is recorded there, and what the code calls (None: it is safe)."""

    of: str
    on: str
    recorded: str | None = None
    called: str | None = None


GO = "DBOS.recv on the topic 'go'"
WAITS = [
    Waits("waits_for_go", "waits_for_go"),
    Waits("waits_for_go", "waits_for_go_and_ends"),
    Waits("waits_for_go", "waits_for_other_topic", GO, "DBOS.recv on the topic 'another'"),
    Waits("waits_for_go", "step_before_wait", GO, "kind_step"),
    Waits("waits_for_go", "patch_before_wait", GO, "DBOS.patch-new"),
    Waits("waits_for_go", "waits_for_event", GO, "DBOS.getEvent"),
    Waits("waits_for_go", "waits_no_longer", GO, "the end of the workflow"),
    Waits("waits_for_go", "sleeps_instead", GO, "DBOS.sleep"),
    Waits("waits_for_event", "waits_for_event"),
    Waits("waits_for_event", "waits_for_go", "DBOS.getEvent of 'go'", GO),
    Waits("sleeps_instead", "sleeps_instead"),
    Waits("sleeps_instead", "step_before_wait", "DBOS.sleep", "kind_step"),
    Waits("kinds_wait_for_child", "kinds_wait_for_child"),
    Waits("waits_at_once", "waits_at_once"),
]


@proves("rehearsal:waits")
async def test_a_rehearsal_knows_what_a_parked_run_waits_for(parking: Engine, file: Path) -> None:
    runs = [f"{one.of} on {one.on}" for one in WAITS]
    for run, one in zip(runs, WAITS, strict=True):
        await parking.start(StartRequest(name=one.of, args={"file": str(file)}, workflow_id=run))
    await until_parked(parking, runs)
    async with await tables.connect(parking.connection.database, role="test") as connection:
        for run, one in zip(runs, WAITS, strict=True):
            await connection.execute(
                "update dbos.workflow_status set name = %s where workflow_uuid = %s", [one.on, run]
            )
    before = await all_of(parking, file)
    found = await parking.rehearse(runs)
    assert await all_of(parking, file) == before
    told = [(one.workflow_id, one.recorded, one.called) for one in found]
    assert told == [(run, one.recorded, one.called) for run, one in zip(runs, WAITS, strict=True)]
    assert [one.verdict for one in found] == ["differs" if one.called else "safe" for one in WAITS]


async def until_parked(engine: Engine, runs: Sequence[str]) -> None:
    async def parked() -> bool:
        statement = "select count(*) from durable_workflows.parked where workflow_id = any(%s)"
        return bool(await value(engine, statement, list(runs)) == len(runs))

    await until_found(parked, "the runs are parked")


@pytest.mark.long
@proves("rehearsal:bounded", "rehearsal:nothing-happens")
async def test_code_that_cannot_be_rehearsed_says_why(engine: Engine, file: Path) -> None:
    names = ["writes_outside_of_steps", "gone", "has_other_arguments", "as_it_was"]
    runs = [f"refused {name}" for name in names]
    await run_as(engine, "as_it_was", dict(zip(runs, names, strict=True)), file)
    before = await all_of(engine, file)
    writes, gone, other_arguments, fine = await engine.rehearse(runs)
    assert await all_of(engine, file) == before
    assert (writes.verdict, gone.verdict) == ("unknown", "unknown")
    assert "writes a file" in (writes.note or "")
    assert "no workflow 'gone'" in (gone.note or "")
    assert (other_arguments.verdict, other_arguments.step) == ("differs", 1)
    assert "missing" in (other_arguments.called or "")
    assert fine.verdict == "safe"
    with pytest.raises(UnknownWorkflowId):
        await engine.rehearse(["nobody"])


@pytest.mark.long
@proves("rehearsal:bounded")
async def test_code_that_does_not_end_keeps_no_other_run_from_its_rehearsal(
    engine: Engine, file: Path
) -> None:
    names = ["does_not_end", "ends_the_process", "as_it_was"]
    runs = [f"bounded {name}" for name in names]
    await run_as(engine, "as_it_was", dict(zip(runs, names, strict=True)), file)
    endless, ended, fine = await engine.rehearse(runs, seconds=1)
    assert (endless.verdict, ended.verdict, fine.verdict) == ("unknown", "unknown", "safe")
    assert "took more than 1 s" in (endless.note or "")
    assert "process of the rehearsal ended" in (ended.note or "")
    assert not processes_of(engine.project, "rehearsal")


async def run_as(engine: Engine, real: str, names: Mapping[str, str], file: Path) -> None:
    """Finished runs, by their ids, of a workflow that count as runs of these others."""
    args = {"file": str(file)}
    await engine.start_all([StartRequest(name=real, args=args, workflow_id=run) for run in names])
    ended = await engine.reader.wait(list(names), timeout_seconds=60)
    assert {one.status for one in ended.done} == {"SUCCESS"}
    async with await tables.connect(engine.connection.database, role="test") as connection:
        for run, name in names.items():
            await connection.execute(
                "update dbos.workflow_status set name = %s where workflow_uuid = %s", [name, run]
            )


SHAKY = """
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from dbos import DBOS
from dice import roll

def noted(name: str) -> None:
    DBOS.run_step({"name": name}, str)

@DBOS.workflow()
def shaky_dice() -> None:
    noted("even" if roll() % 2 == 0 else "odd")

@DBOS.workflow()
def shaky_set() -> None:
    noted(next(iter({f"word {number}" for number in range(100)})))

@DBOS.workflow()
def shaky_clock() -> None:
    then = DBOS.run_step({"name": "then"}, time.time)
    hours = abs(datetime.now(UTC).timestamp() - then) / 3600
    noted("soon" if hours < 6 and abs(time.time() - then) / 3600 < 6 else "late")

@DBOS.workflow()
def shaky_folder() -> None:
    noted("there" if Path("workflows").exists() else "not there")

@DBOS.workflow()
def shaky_environment() -> None:
    noted(os.environ["REHEARSED_IN"])

@DBOS.workflow()
def steady() -> None:
    noted("this")
    DBOS.set_event("now", DBOS.run_step({"name": "now"}, lambda: str(datetime.now())))
    noted("that")
"""
DICE = "import random\n\ndef roll() -> int:\n    return random.randrange(6)\n"
SHAKEN = {
    "shaky_clock": "another clock",
    "shaky_folder": "another working directory",
    "shaky_environment": "other environment variables",
}


@proves("rehearsal:conditions")
def test_a_process_with_another_clock_sees_another_time_everywhere() -> None:
    code = """
from datetime import UTC, date, datetime, timedelta
import time
from durable_workflows.host.conditions import shift_clock
before, seconds = datetime.now(), time.time()
shift_clock(86400 * 40)
class Own(datetime): pass
for now in (datetime.now(), datetime.today(), datetime.now(UTC).astimezone().replace(tzinfo=None), Own.now()):
    assert timedelta(days=39) < now - before < timedelta(days=41), now
    assert type(now) in (datetime, Own)
assert abs(datetime.utcnow() - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)
assert date.today() == datetime.now().date()
assert 86400 * 39 < time.time() - seconds < 86400 * 41
assert 86400 * 39 < time.time_ns() / 1e9 - seconds < 86400 * 41
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.long
@proves("rehearsal:conditions")
async def test_code_that_depends_on_its_conditions_is_found_by_replays_under_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REHEARSED_IN", "a test")
    settings.workflow_folder.mkdir()
    (settings.workflow_folder / "shaky.py").write_text(SHAKY, encoding="utf-8")
    (settings.workflow_folder / "dice.py").write_text(DICE, encoding="utf-8")
    project = Project(settings)
    engine = await project.engine()
    names = ["shaky_dice", "shaky_set", "steady", *SHAKEN]
    await engine.start_all([StartRequest(name=name, args={}, workflow_id=name) for name in names])
    await engine.reader.wait(names, timeout_seconds=60)
    dice, words, steady, *others = await engine.rehearse(names, shaken=True)
    await project.aclose()
    assert {dice.called, dice.recorded} == {"even", "odd"}  # perhaps at the first rehearsal
    assert words.verdict == "differs"
    assert (steady.verdict, steady.steps) == ("safe", 4)
    assert [one.verdict for one in others] == ["differs"] * len(SHAKEN)
    for one in others:
        assert SHAKEN[one.name] in (one.note or "")


EDITED = """
from dbos import DBOS

@DBOS.step()
def fetch() -> int:
    return 1

@DBOS.workflow()
def edited_flow() -> int:
    return fetch()
"""


@proves("rehearsal:edit")
def test_runs_of_an_edited_file_are_told_by_workflow() -> None:
    fine = [Rehearsal(workflow_id=run, name="fine", verdict="safe", steps=2) for run in "ab"]
    other = Rehearsal(
        workflow_id="c", name="other", verdict="differs", step=4, recorded="load", called="store"
    )
    unknown = Rehearsal(workflow_id="d", name="other", verdict="unknown", note="It has gone.")
    assert rehearsals.of_edit(fine) == ["The last 2 runs of fine replay on this code."]
    assert rehearsals.of_edit([other, *fine, unknown]) == [
        "The last 2 runs of fine replay on this code.",
        "c (other): differs at step 4: recorded is load, the code calls store.",
        "d (other): unknown. It has gone.",
        "Unfinished runs stay on their version; new runs and forks use this code.",
    ]


@pytest.mark.long
@proves("rehearsal:edit")
async def test_who_edits_a_file_is_told_what_its_last_runs_would_do_on_the_new_code(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authoring_files, "_REPLAYS_SECONDS", 60.0)
    first = await engine.write("edited_flow", EDITED, None, overwrite=True)
    assert first.replays == []
    run = (await engine.start(StartRequest(name="edited_flow", args={}))).workflow_id
    await engine.reader.wait([run], timeout_seconds=60)
    same = await engine.write("edited_flow", f"{EDITED}\n# the same", None, overwrite=True)
    assert same.replays == ["The last run of edited_flow replays on this code."]
    other = EDITED.replace("def fetch", "def load").replace("return fetch()", "return load()")
    differs = await engine.write("edited_flow", other, None, overwrite=True)
    assert differs.replays == [
        f"{run} (edited_flow): differs at step 1: recorded is fetch, the code calls load.",
        "Unfinished runs stay on their version; new runs and forks use this code.",
    ]
    monkeypatch.setattr(authoring_files, "_REPLAYS_SECONDS", 0.0)
    (late,) = (await engine.write("edited_flow", other, None, overwrite=True)).replays
    assert "were not replayed" in late


@pytest.mark.long
@proves("rehearsal:edit")
async def test_the_command_replays_runs_and_fails_unless_all_are_safe(
    engine: Engine, file: Path
) -> None:
    runs = {"checked run": "the_same", "checked other": "renamed"}
    await run_as(engine, "as_it_was", runs, file)
    safe = command.run("check", "--replay", "checked run", folder=engine.project)
    assert safe.output == "checked run (the_same): safe: 10 recorded steps replayed.\n"
    assert safe.status == 0
    given = ["--replay", "checked run", "--replay", "checked other", "--json"]
    both = command.run("check", *given, folder=engine.project)
    assert [one["verdict"] for one in json.loads(both.output)] == ["safe", "differs"]
    assert both.status == 1
    wrong = command.run("check", "workflows", "--replay-last", "1", folder=engine.project)
    assert (wrong.status, wrong.output) == (2, "")

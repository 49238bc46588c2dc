"""Steps that happen at most once: what a run knows, and does not know, after the end of its process."""

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from durable_workflows.authoring import step
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import (
    AlreadyAnswered,
    InvalidArguments,
    NotInDoubt,
    PeopleOnly,
    UsageError,
    WouldRepeat,
)
from durable_workflows.models import Ended, ForkOptions, Resolution, Run, StartRequest
from durable_workflows.telling.causes import cause
from durable_workflows.telling.traces import markdown
from helpers import kill_worker, parking_project, until, until_found, value
from requirements import proves

pytestmark = pytest.mark.anyio

OWN_PROCESS = """
import sys
from dbos import DBOS
from durable_workflows import step

DBOS(config={"name": "own", "system_database_url": f"sqlite:///{sys.argv[1]}"})

@step(effect="once")
def pay() -> None:
    print("done")

@DBOS.workflow()
def pays() -> None:
    pay()

DBOS.launch()
try:
    pays()
finally:
    DBOS.destroy()
"""
STEP = 2  # the one with the effect
HAPPENED = Resolution(happened=True, result={"receipt": "seen"})
NOT_HAPPENED = Resolution(happened=False)
Held = Mapping[str, tuple[str, str]]
# The runs whose worker is killed while they are held: the workflow and the moment.
HELD: Held = {
    "resolved": ("pays", "after"),
    "repeated": ("pays", "before"),
    "resolved-async": ("pays_async", "after"),
    "repeated-async": ("pays_async", "before"),
    "found": ("pays_found", "after"),
    "not-found": ("pays_found", "before"),
    "found-async": ("pays_found_async", "after"),
    "not-found-async": ("pays_found_async", "before"),
    "look-fails": ("pays_found", "after"),
    "in-person": ("pays_in_person", "after"),
    "cancelled": ("pays", "after"),
    "quick": ("pays", "after"),
    "forked": ("pays", "after"),
    "family": ("family", "after"),
    "keys": ("keys", "after"),
}


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project whose worker was killed within the steps of the runs in `HELD`."""
    async with parking_project(tmp_path_factory, "effects") as engine:
        await hold_all(engine)
        yield engine


async def hold_all(engine: Engine) -> None:
    """Do with the runs in `HELD` what their tests begin with."""
    file_of(engine, "look-fails.broken").touch()
    await hold_and_kill(engine, HELD)


async def hold_and_kill(engine: Engine, runs: Held) -> None:
    """Start runs, and kill the worker while they are held."""
    for name, (workflow, moment) in runs.items():
        hold(engine, name, moment)
        await start(engine, name, workflow)
    for name in runs:
        await until_held(engine, name)
    kill_worker(engine.project)
    for name, (_, moment) in runs.items():
        file_of(engine, f"{name}.hold-{moment}").unlink()
        file_of(engine, f"{name}.held").unlink()


def hold(engine: Engine, name: str, moment: str) -> None:
    file_of(engine, f"{name}.hold-{moment}").touch()


async def until_held(engine: Engine, name: str) -> None:
    await until(file_of(engine, f"{name}.held").exists, f"{name} is held")


def file_of(engine: Engine, name: str) -> Path:
    return engine.project / name


def effects_of(engine: Engine, name: str) -> list[str]:
    file = file_of(engine, name)
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


async def start(engine: Engine, name: str, workflow: str) -> str:
    args: dict[str, JsonValue] = {"file": str(file_of(engine, name))}
    request = StartRequest(name=f"effects_{workflow}", args=args, workflow_id=name)
    return (await engine.start(request)).workflow_id


async def in_doubt(engine: Engine, name: str) -> Run:
    """The run, once one of its steps is in doubt and shown so."""

    async def found() -> Run | None:
        run = await engine.reader.run(name)
        return run if run.waiting and any(one.doubt_since for one in run.effects) else None

    return await until_found(found, f"{name} is in doubt")


async def ended(engine: Engine, name: str) -> Ended:
    async def done() -> list[Ended]:
        return (await engine.reader.wait([name], timeout_seconds=30)).done

    return (await until_found(done, f"{name} has ended"))[0]


async def resolve(engine: Engine, name: str, said: Resolution, *, how: str = "tool") -> None:
    await engine.resolve_step(name, STEP, said, who="a client", how=how)


@proves("effect:once")
@pytest.mark.parametrize("name", ["resolved", "resolved-async"])
async def test_what_has_happened_does_not_happen_again_and_has_the_result_that_was_said(
    engine: Engine, name: str
) -> None:
    await in_doubt(engine, name)
    await resolve(engine, name, HAPPENED)
    assert (await ended(engine, name)).output == {"receipt": "seen"}
    assert effects_of(engine, name) == ["paid"]
    [effect] = (await engine.reader.run(name)).effects
    assert (effect.step, effect.doubt_since) == (STEP, None)
    [said] = effect.decisions
    assert (said.who, said.how, said.happened) == ("a client", "tool", True)


@proves("effect:once")
@pytest.mark.parametrize("name", ["repeated", "repeated-async"])
async def test_what_has_not_happened_happens_once_it_was_said(engine: Engine, name: str) -> None:
    await in_doubt(engine, name)
    assert effects_of(engine, name) == []
    await resolve(engine, name, NOT_HAPPENED)
    assert (await ended(engine, name)).output == {"receipt": 1}
    assert effects_of(engine, name) == ["paid"]


@proves("effect:find")
@pytest.mark.parametrize("name", ["found", "found-async"])
async def test_a_step_that_finds_its_effect_takes_its_result(engine: Engine, name: str) -> None:
    assert (await ended(engine, name)).output == {"receipt": "found"}
    assert effects_of(engine, name) == ["paid"]


@proves("effect:find")
@pytest.mark.parametrize("name", ["not-found", "not-found-async"])
async def test_a_step_that_does_not_find_its_effect_has_it_now(engine: Engine, name: str) -> None:
    assert (await ended(engine, name)).output == {"receipt": 1}
    assert effects_of(engine, name) == ["paid"]


async def test_a_step_whose_look_up_fails_stays_in_doubt_and_looks_again(engine: Engine) -> None:
    run = await in_doubt(engine, "look-fails")
    [effect] = run.effects
    assert effect.problem == "ConnectionError: the bank does not answer"
    assert "Its look-up failed: ConnectionError" in str(run.waiting[0].prompt)
    assert not file_of(engine, "look-fails.looked").exists()
    rest = await until_found(lambda: rest_of(engine, "look-fails"), "it is parked")
    assert rest.until is not None
    file_of(engine, "look-fails.broken").unlink()
    await value(engine, "select durable_workflows.wake('doubt', 'look-fails', '2')")
    assert (await ended(engine, "look-fails")).output == {"receipt": "found"}
    assert effects_of(engine, "look-fails") == ["paid"]


async def rest_of(engine: Engine, name: str) -> Any:
    return (await engine.reader.run(name)).rest


@proves("effect:person")
async def test_only_a_person_resolves_a_doubt_that_is_for_people(engine: Engine) -> None:
    await in_doubt(engine, "in-person")
    with pytest.raises(PeopleOnly, match="Only a person may say whether step 2 has happened"):
        await resolve(engine, "in-person", HAPPENED)
    [wait] = await engine.reader.waits("in-person")
    assert wait.person_only
    value: JsonValue = {"happened": True, "result": {"receipt": "by hand"}}
    await engine.answer(wait, value, who="somebody", how="terminal")
    assert (await ended(engine, "in-person")).output == {"receipt": "by hand"}
    run = await engine.reader.run("in-person")
    assert "somebody said at" in markdown(run)
    assert "(in a terminal) that it has happened" in markdown(run)


async def test_a_run_in_doubt_says_so_wherever_it_is_seen(engine: Engine) -> None:
    run = await in_doubt(engine, "quick")
    why = cause(run, run.updated_at)
    assert why.text.startswith("waits for what is said of step 2, which is in doubt,")
    assert why.next == 'resolve_step(workflow_id="quick", step=2, happened=…)'
    [line] = [
        one
        for one in (await engine.reader.status()).problems
        if one.startswith("Step 2 (effect_pay) of quick")
    ]
    assert line.endswith(why.next)
    with pytest.raises(UsageError, match="No message resolves a doubt about step 2") as refused:
        await engine.send("quick", "doubt:2", {"happened": True})
    assert why.next in refused.value.hint
    with pytest.raises(InvalidArguments, match="has no result"):
        await resolve(engine, "quick", Resolution(happened=False, result=1))
    await resolve(engine, "quick", HAPPENED)
    with pytest.raises((AlreadyAnswered, NotInDoubt)):  # it may have gone on already
        await resolve(engine, "quick", HAPPENED)
    await ended(engine, "quick")
    with pytest.raises(NotInDoubt, match="Step 2 of quick is not in doubt"):
        await resolve(engine, "quick", HAPPENED)


@proves("effect:parks")
async def test_a_run_in_doubt_takes_no_place_and_goes_on_after_a_cancel(engine: Engine) -> None:
    await in_doubt(engine, "cancelled")
    await until_found(lambda: rest_of(engine, "cancelled"), "it is parked")
    await engine.cancel(["cancelled"])
    assert (await ended(engine, "cancelled")).status == "CANCELLED"
    await engine.resume(["cancelled"])
    await in_doubt(engine, "cancelled")
    await resolve(engine, "cancelled", HAPPENED)
    assert (await ended(engine, "cancelled")).output == {"receipt": "seen"}
    assert effects_of(engine, "cancelled") == ["paid"]


@proves("effect:fork")
async def test_a_fork_that_would_repeat_what_may_have_happened_is_refused(engine: Engine) -> None:
    await in_doubt(engine, "forked")
    with pytest.raises(WouldRepeat, match="step 2 effect_pay, which is in doubt") as refused:
        await engine.fork("forked", 1)
    assert 'fork(workflow_id="forked", from_step=1, repeat=[2])' in refused.value.hint
    await resolve(engine, "forked", HAPPENED)
    await ended(engine, "forked")
    for from_step in (1, 2):
        with pytest.raises(WouldRepeat, match="step 2 effect_pay, which has happened"):
            await engine.fork("forked", from_step)
    later = await engine.fork("forked", 3)
    assert (await ended(engine, later.workflow_id)).output == {"receipt": "seen"}
    with pytest.raises(WouldRepeat, match="step 2 effect_pay, which has happened"):
        await engine.fork(later.workflow_id, 1)
    assert effects_of(engine, "forked") == ["paid"]
    again = await engine.fork("forked", 1, options=ForkOptions(repeat=(2,)))
    assert (await ended(engine, again.workflow_id)).output == {"receipt": 1}
    assert effects_of(engine, "forked") == ["paid", "paid"]


@proves("effect:fork")
async def test_a_fork_that_would_start_a_child_again_names_the_childs_step(engine: Engine) -> None:
    await in_doubt(engine, "family-2")
    await resolve(engine, "family-2", HAPPENED)
    await ended(engine, "family")
    with pytest.raises(WouldRepeat, match="step 2, whose run family-2 has step 2 effect_pay"):
        await engine.fork("family", 1)
    assert effects_of(engine, "family") == ["paid"]
    again = await engine.fork("family", 2, options=ForkOptions(repeat=(2,)))
    assert (await ended(engine, again.workflow_id)).output == {"receipt": 1}


async def test_a_step_that_failed_may_have_happened_and_one_that_was_denied_has_not(
    engine: Engine,
) -> None:
    await start(engine, "failed", "fails")
    assert (await ended(engine, "failed")).status == "ERROR"
    with pytest.raises(
        WouldRepeat, match="step 1 effect_fail, which failed, and may have happened"
    ):
        await engine.fork("failed", 1)
    await engine.fork("failed", 1, options=ForkOptions(repeat=(1,)))
    await until(lambda: effects_of(engine, "failed") == ["tried"] * 2, "it was tried again")


@proves("effect:key")
async def test_a_step_has_one_idempotency_key_however_often_it_runs(engine: Engine) -> None:
    keys = (await ended(engine, "keys")).output
    assert isinstance(keys, list)
    assert effects_of(engine, "keys") == [keys[0], keys[0], keys[1]]
    assert keys[0] != keys[1]
    fork = await engine.fork("keys", 2)
    forked = (await ended(engine, fork.workflow_id)).output
    assert isinstance(forked, list)
    assert forked[0] == keys[0]
    assert forked[1] not in keys


async def test_an_effect_within_a_step_is_refused(engine: Engine) -> None:
    await start(engine, "nested", "nests")
    found = await ended(engine, "nested")
    assert "was called from another step" in str(found.error)
    assert effects_of(engine, "nested") == []


async def test_a_key_outside_of_a_step_is_refused(engine: Engine) -> None:
    request = StartRequest(name="effects_key_outside", workflow_id="outside")
    await engine.start(request)
    assert "outside of a step" in str((await ended(engine, "outside")).error)


def test_what_a_step_cannot_be_is_refused_where_it_is_written() -> None:
    async def find_later() -> object: ...

    with pytest.raises(UsageError, match="must not happen twice"):
        step(find=len)
    with pytest.raises(UsageError, match="must not happen twice"):
        step(person=True)
    with pytest.raises(UsageError, match="is sync, and its `find` is async"):
        step(effect="once", find=find_later)(len)


def test_in_a_process_of_the_author_nothing_keeps_the_intent(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", OWN_PROCESS, str(tmp_path / "own.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert 'A step with effect="once" needs a worker of durable-workflows.' in ran.stderr
    assert "done" not in ran.stdout


async def test_a_deleted_run_leaves_nothing_of_its_effects(engine: Engine) -> None:
    await start(engine, "deleted", "pays")
    await ended(engine, "deleted")
    count = "select count(*) from durable_workflows.effects where workflow_id = 'deleted'"
    assert await value(engine, count) == 1
    await engine.delete(["deleted"])
    assert await value(engine, count) == 0

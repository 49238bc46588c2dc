"""Doubts about steps that happen at most once: who is heard, and what becomes of them when processes end again."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import AlreadyAnswered, NotInDoubt
from durable_workflows.models import Resolution
from durable_workflows.settings import Settings
from helpers import (
    copy_flow,
    is_taken_up_again,
    kill_worker,
    parking_project,
    processes_of,
    until_found,
    value,
)
from requirements import proves
from test_effects import (
    HAPPENED,
    NOT_HAPPENED,
    Held,
    effects_of,
    ended,
    file_of,
    hold,
    hold_and_kill,
    in_doubt,
    resolve,
    start,
    until_held,
)

pytestmark = [pytest.mark.anyio, pytest.mark.long]

HELD_IN_DOUBT: Held = {
    "many-say": ("pays", "after"),
    "stays": ("pays_and_stays", "before"),
    "stays-async": ("pays_and_stays_async", "before"),
    "looks-long": ("pays_found", "before"),
    "ends-again": ("pays", "before"),
    "ends-in-doubt": ("pays_and_stays", "after"),
    "stops": ("pays_and_stays", "after"),
    "stops-async": ("pays_and_stays_async", "after"),
}


@pytest.fixture(scope="module")
async def doubting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project whose worker was killed within the steps of the runs in `HELD_IN_DOUBT`."""
    async with parking_project(tmp_path_factory, "effects") as engine:
        await hold_all(engine)
        yield engine


async def hold_all(engine: Engine) -> None:
    """Do with the runs in `HELD_IN_DOUBT` what their tests begin with."""
    hold(engine, "looks-long", "look")
    await hold_and_kill(engine, HELD_IN_DOUBT)


@proves("effect:once")
async def test_of_many_who_say_at_the_same_moment_what_has_happened_one_is_heard(
    doubting: Engine,
) -> None:
    await in_doubt(doubting, "many-say")
    heard: list[int] = []

    async def say(number: int) -> None:
        try:
            await resolve(doubting, "many-say", Resolution(happened=True, result=number))
        except (AlreadyAnswered, NotInDoubt):
            return
        heard.append(number)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(say, number)
    assert [(await ended(doubting, "many-say")).output] == heard
    [effect] = (await doubting.reader.run("many-say")).effects
    assert len(effect.decisions) == 1


@proves("effect:once")
@pytest.mark.parametrize("name", ["stays", "stays-async"])
async def test_a_run_in_doubt_that_is_not_parked_goes_on_and_does_not_wait_any_more(
    doubting: Engine, name: str
) -> None:
    run = await in_doubt(doubting, name)
    assert run.rest is None
    hold(doubting, name, "before")
    await resolve(doubting, name, NOT_HAPPENED)
    await until_held(doubting, name)
    await until_found(lambda: running_step(doubting, name), "its step is shown")
    run = await doubting.reader.run(name)
    assert (run.waiting, [one.doubt_since for one in run.effects]) == ([], [None])
    file_of(doubting, f"{name}.hold-before").unlink()
    assert (await ended(doubting, name)).output == {"receipt": 1}
    assert effects_of(doubting, name) == ["paid"]


@proves("effect:parks", "resume:not-twice-at-once")
@pytest.mark.parametrize("name", ["stops", "stops-async"])
async def test_a_run_in_doubt_that_is_cancelled_and_resumed_is_in_doubt(
    doubting: Engine, name: str
) -> None:
    await in_doubt(doubting, name)
    await doubting.cancel([name])
    assert (await ended(doubting, name)).status == "CANCELLED"
    await doubting.resume([name])
    await in_doubt(doubting, name)
    await resolve(doubting, name, HAPPENED)
    assert (await ended(doubting, name)).output == {"receipt": "seen"}
    assert effects_of(doubting, name) == ["paid"]


@proves("effect:find")
async def test_what_was_said_counts_more_than_what_a_look_up_does_not_find(
    doubting: Engine,
) -> None:
    await until_held(doubting, "looks-long")
    await resolve(doubting, "looks-long", HAPPENED)
    file_of(doubting, "looks-long.hold-look").unlink()
    assert (await ended(doubting, "looks-long")).output == {"receipt": "seen"}
    assert effects_of(doubting, "looks-long") == []


@proves("effect:once")
async def test_who_has_said_that_a_step_has_not_happened_says_so_again_after_another_end(
    doubting: Engine,
) -> None:
    await in_doubt(doubting, "ends-again")
    hold(doubting, "ends-again", "after")
    await resolve(doubting, "ends-again", NOT_HAPPENED)
    await until_held(doubting, "ends-again")
    kill_worker(doubting.project)
    file_of(doubting, "ends-again.hold-after").unlink()
    await in_doubt(doubting, "ends-again")
    await resolve(doubting, "ends-again", HAPPENED)
    assert (await ended(doubting, "ends-again")).output == {"receipt": "seen"}
    [effect] = (await doubting.reader.run("ends-again")).effects
    assert [one.happened for one in effect.decisions] == [False, True]
    assert effects_of(doubting, "ends-again") == ["paid"]


@proves("effect:once", "crash:innocent")
@pytest.mark.long
async def test_a_run_whose_worker_ends_again_and_again_while_it_is_in_doubt_is_in_the_same_doubt(
    doubting: Engine,
) -> None:
    run = await in_doubt(doubting, "ends-in-doubt")
    before = run.effects[0].doubt_since, run.suspect and run.suspect.ends
    for _ in range(2):
        killed = kill_worker(doubting.project)
        await until_found(lambda: taken_up(doubting, "ends-in-doubt", killed), "it is taken up")  # noqa: B023
        run = await in_doubt(doubting, "ends-in-doubt")
        assert (run.effects[0].doubt_since, run.suspect and run.suspect.ends) == before
    [supervisor] = processes_of(doubting.project, "supervisor")
    supervisor.suspend()
    try:
        kill_worker(doubting.project)
        await resolve(doubting, "ends-in-doubt", HAPPENED)  # the next worker hears it
    finally:
        supervisor.resume()
    assert (await ended(doubting, "ends-in-doubt")).output == {"receipt": "seen"}
    assert effects_of(doubting, "ends-in-doubt") == ["paid"]


@proves("effect:once")
async def test_who_has_lost_a_run_begins_nothing_of_it(doubting: Engine) -> None:
    hold(doubting, "lost", "before")
    await start(doubting, "lost", "pays")
    await until_held(doubting, "lost")
    begin = "select verdict from durable_workflows.begin_effect('lost', 9, 'another', %s, 'token', false, false, null)"
    count = "select count(*) from durable_workflows.effects where workflow_id = 'lost'"
    for owner in (None, "an earlier execution"):
        assert await value(doubting, begin, owner) == "lost"
    assert await value(doubting, count) == 1
    await doubting.cancel(["lost"])
    owner = await value(
        doubting, "select owner_xid from dbos.workflow_status where workflow_uuid = 'lost'"
    )
    assert await value(doubting, begin, owner) == "cancelled"
    assert await value(doubting, count) == 1
    file_of(doubting, "lost.hold-before").unlink()


@proves("cancel:keeps-step")
async def test_a_run_that_is_cancelled_and_resumed_within_its_step_is_not_in_doubt(
    shared: Engine,
) -> None:
    hold(shared, "within", "after")
    await start(shared, "within", "pays")
    await until_held(shared, "within")
    await shared.cancel(["within"])
    [resumed] = (await shared.resume(["within"])).workflows
    assert resumed.changed
    file_of(shared, "within.hold-after").unlink()
    assert (await ended(shared, "within")).output == {"receipt": 1}
    assert effects_of(shared, "within") == ["paid"]
    [effect] = (await shared.reader.run("within")).effects
    assert effect.doubt_since is None


async def test_a_sync_effect_in_an_async_workflow_is_refused(doubting: Engine) -> None:
    """In doubt it would keep all other async runs from running."""
    await start(doubting, "in-loop", "pays_in_its_loop")
    assert "was called in an async workflow" in str((await ended(doubting, "in-loop")).error)
    assert effects_of(doubting, "in-loop") == []


@proves("effect:once")
@pytest.mark.long
async def test_a_run_in_doubt_goes_on_in_a_project_that_parks_no_run(folder: Path) -> None:
    copy_flow("effects", folder)
    project = Project(Settings(project=folder, park_after_seconds=0))
    engine = await project.engine()
    for name, workflow in (("sync", "pays"), ("async", "pays_async")):
        hold(engine, name, "after")
        await start(engine, name, workflow)
    for name in ("sync", "async"):
        await until_held(engine, name)
    kill_worker(folder)
    for name in ("sync", "async"):
        await in_doubt(engine, name)
        await resolve(engine, name, HAPPENED)
        assert (await ended(engine, name)).output == {"receipt": "seen"}
        assert effects_of(engine, name) == ["paid"]
    await project.aclose()


async def running_step(engine: Engine, name: str) -> Any:
    return (await engine.reader.run(name)).running


async def taken_up(engine: Engine, name: str, killed: Collection[int]) -> bool:
    return is_taken_up_again(await engine.reader.run(name), killed)

"""A schedule can be paused, resumed, and run now, by its name alone."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from cli.command import run, succeed
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import UnknownSchedule
from durable_workflows.models import ScheduleInfo, StartRequest
from durable_workflows.settings import Settings
from helpers import running_project, until_found

pytestmark = pytest.mark.anyio
EVERY_SECOND = "* * * * * *"
ONCE_A_YEAR = "0 0 1 1 *"


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    settings = Settings(project=(tmp_path_factory.mktemp("schedules") / "project").resolve())
    async with running_project(settings, ["schedules"]) as engine:
        yield engine


async def scheduled(engine: Engine, cron: str) -> None:
    """Have the schedule begin anew, with these times."""
    started = await engine.start(StartRequest(name="schedule_greetings", args={"cron": cron}))
    result = await engine.reader.wait([started.workflow_id])
    assert result.done[0].status == "SUCCESS"


async def the_schedule(engine: Engine) -> ScheduleInfo:
    [found] = (await engine.reader.status()).schedules
    return found


async def has_started_lately(engine: Engine, seconds: float) -> bool:
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    return bool((await engine.reader.runs(name="scheduled_greeting", since=since)).workflows)


@pytest.mark.long
async def test_a_paused_schedule_starts_nothing_until_it_is_resumed(engine: Engine) -> None:
    await scheduled(engine, EVERY_SECOND)
    await until_found(lambda: has_started_lately(engine, 2), "it starts runs")
    for _ in range(2):  # again, it stays so
        assert (await engine.pause_schedule("greetings")).status == "PAUSED"
    assert (await the_schedule(engine)).status == "PAUSED"

    async def rests() -> bool:
        return not await has_started_lately(engine, 3)

    await until_found(rests, "for three seconds it has started nothing", seconds=60)
    assert (await engine.resume_schedule("greetings")).status == "ACTIVE"
    await until_found(lambda: has_started_lately(engine, 2), "it starts runs again", seconds=60)


async def test_what_a_paused_schedule_starts_is_run_now_once_with_its_context(
    engine: Engine,
) -> None:
    await scheduled(engine, ONCE_A_YEAR)
    await engine.pause_schedule("greetings")
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # a recorded time has no smaller part
    started = await engine.run_schedule("greetings")
    assert started.workflow_id.startswith("sched-greetings-trigger-")
    assert not started.existing
    [ended] = (await engine.reader.wait([started.workflow_id])).done
    assert ended.status == "SUCCESS", ended
    greeting, _, at = str(ended.output).partition(" at ")
    assert greeting == "Hello"
    assert before <= datetime.fromisoformat(at) <= datetime.now(UTC)
    found = await engine.reader.runs(name="scheduled_greeting", since=before)
    # Of the times before, a worker may hear later that they do not count any more.
    run_now = [one.workflow_id for one in found.workflows if "-trigger-" in one.workflow_id]
    assert run_now == [started.workflow_id]
    assert (await the_schedule(engine)).status == "PAUSED"


async def test_what_a_schedule_starts_now_runs_on_the_code_as_it_is_now(engine: Engine) -> None:
    """Also when an edit was taken back a moment ago: by DBOS's clock the edited code is the later one."""
    await scheduled(engine, ONCE_A_YEAR)
    file = engine.project / "workflows" / "schedules.py"
    text = file.read_text(encoding="utf-8")
    for edited, begins in ((text.replace("return f", "return 'Edited: ' + f"), "Edited: "), (text, "Hello")):  # fmt: skip
        file.write_text(edited, encoding="utf-8")
        started = await engine.run_schedule("greetings")
        [ended] = (await engine.reader.wait([started.workflow_id])).done
        assert str(ended.output).startswith(begins)
        assert started.version == (await engine.catalog()).version


async def test_a_schedule_that_there_is_not_is_refused_with_the_closest_name(
    engine: Engine,
) -> None:
    await scheduled(engine, ONCE_A_YEAR)
    for call in (engine.pause_schedule, engine.resume_schedule, engine.run_schedule):
        with pytest.raises(UnknownSchedule, match=r"no schedule 'greeting'\. Did"):
            await call("greeting")


@pytest.mark.long
async def test_the_command_does_the_same(engine: Engine) -> None:
    await scheduled(engine, ONCE_A_YEAR)

    def schedule(*words: str) -> str:
        return succeed("schedule", *words, folder=engine.project)

    assert schedule("pause", "greetings") == "greetings is paused.\n"
    assert (await the_schedule(engine)).status == "PAUSED"
    assert (
        json.loads(schedule("resume", "greetings", "--json"))["schedules"][0]["status"] == "ACTIVE"
    )
    assert "greetings has started sched-greetings-trigger-" in schedule("run", "greetings")
    started = json.loads(schedule("run", "greetings", "--json"))
    [ended] = (await engine.reader.wait([started["workflow_id"]])).done
    assert ended.status == "SUCCESS"
    refused = run("schedule", "run", "nightly", folder=engine.project)
    assert refused.status == 1
    assert refused.errors.splitlines()[-2:] == [
        "Error: There is no schedule 'nightly'.",
        "Run `durable-workflows schedule` to see the schedules.",
    ]

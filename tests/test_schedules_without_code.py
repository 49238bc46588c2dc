"""A schedule without code starts any workflow with arguments of its own: one run at each time, whatever ends meanwhile."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dbos import DBOSClient, DBOSPortableJSONSerializer
from psycopg import sql
from pydantic import JsonValue

from cli.command import run, succeed
from durable_workflows.database import tables
from durable_workflows.database.addresses import own_url
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import (
    InvalidArguments,
    ScheduleTaken,
    UnknownSchedule,
    UnknownWorkflow,
    UsageError,
)
from durable_workflows.models import RunSummary, ScheduleInfo, ScheduleRequest, StartRequest
from durable_workflows.seam import cron, planned
from durable_workflows.seam.patches import connections, values
from durable_workflows.settings import APPLICATION, QUEUE, Settings
from helpers import kill_worker, running_project, until_found
from requirements import proves

pytestmark = pytest.mark.anyio
EVERY_SECOND = "* * * * * *"
ONCE_A_YEAR = "0 0 1 1 *"
WORD: dict[str, JsonValue] = {"word": "é 'x' %s", "times": 2}


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    settings = Settings(project=(tmp_path_factory.mktemp("planned") / "project").resolve())
    async with running_project(settings, ["planned", "schedules"]) as engine:
        yield engine


@pytest.fixture(autouse=True)
async def no_schedules(engine: Engine) -> AsyncIterator[None]:
    """So that the schedules of one test start nothing in the next."""
    yield
    for one in (await engine.schedule("list", None, {})).schedules:
        await engine.delete_schedule(one.name)


def request(name: str, **changes: Any) -> ScheduleRequest:
    about = {"name": name, "workflow": "planned_words", "cron": ONCE_A_YEAR, "args": WORD}
    return ScheduleRequest.model_validate(about | changes)


async def the_schedule(engine: Engine, name: str) -> ScheduleInfo:
    [found] = (await engine.schedule("list", name, {})).schedules
    return found


async def runs_of(engine: Engine, schedule: str) -> list[RunSummary]:
    """The runs that a schedule started at its times."""
    found = await engine.reader.runs(name="planned_words", limit=1000)
    return [one for one in found.workflows if one.workflow_id.startswith(f"sched-{schedule}-2")]


async def at_least(engine: Engine, schedule: str, number: int) -> list[RunSummary]:
    async def found() -> list[RunSummary] | None:
        runs = await runs_of(engine, schedule)
        return runs if len(runs) >= number else None

    return await until_found(found, f"{schedule} has started {number} runs", seconds=90)


def times_of(runs: Sequence[RunSummary], schedule: str) -> list[datetime]:
    """The times for which runs were started: their ids tell."""
    ids = [one.workflow_id.removeprefix(f"sched-{schedule}-") for one in runs]
    return sorted(map(datetime.fromisoformat, ids))


def each_second(times: Sequence[datetime]) -> list[datetime]:
    seconds = round((times[-1] - times[0]).total_seconds())
    return [times[0] + timedelta(seconds=number) for number in range(seconds + 1)]


async def execute(engine: Engine, statement: str, *given: object) -> list[dict[str, Any]]:
    """What a statement on dbos's table of schedules returns."""
    database = engine.connection.database
    async with await tables.connect(database, role="test") as connection:
        table = sql.Identifier(database.dbos_schema, "workflow_schedules")
        composed = sql.SQL(statement).format(table=table)  # pyright: ignore[reportArgumentType]
        cursor = await connection.execute(composed, given)
        return await cursor.fetchall() if cursor.description else []


@proves("schedule:each-time-once")
async def test_each_time_starts_a_run_with_the_arguments_of_the_schedule(engine: Engine) -> None:
    made = await engine.create_schedule(request("words", cron=EVERY_SECOND))
    assert not made.existing
    runs = await at_least(engine, "words", 3)
    assert times_of(runs, "words") == each_second(times_of(runs, "words"))
    result = await engine.reader.wait([one.workflow_id for one in runs])
    assert {one.status for one in result.done} == {"SUCCESS"}
    assert {str(one.output) for one in result.done} == {"é 'x' %s é 'x' %s"}

    async def fired() -> ScheduleInfo | None:
        found = await the_schedule(engine, "words")
        return found if found.last_status == "SUCCESS" else None

    shown = await until_found(fired, "its last run is shown")
    assert shown.last_workflow_id == f"sched-words-{shown.last_fired_at}"
    run = await engine.reader.run(runs[0].workflow_id)
    assert run.version == (await engine.catalog()).version


@pytest.mark.long
@proves("schedule:each-time-once")
async def test_a_killed_worker_loses_no_time_and_starts_none_twice(engine: Engine) -> None:
    await engine.create_schedule(request("killed", cron=EVERY_SECOND))
    for kills in range(1, 9):
        await at_least(engine, "killed", 4 * kills)
        assert kill_worker(engine.project)

    async def caught_up() -> list[RunSummary] | None:
        runs = await runs_of(engine, "killed")
        times = times_of(runs, "killed")
        return runs if len(times) > 36 and times == each_second(times) else None

    runs = await until_found(caught_up, "each second has its run", seconds=90)
    await engine.pause_schedule("killed")
    result = await engine.reader.wait([one.workflow_id for one in runs], timeout_seconds=60)
    assert len(result.done) == len(runs)


@pytest.mark.long
@proves("schedule:each-time-once")
async def test_two_workers_start_one_run_for_each_time_on_the_newest_code(engine: Engine) -> None:
    waiting = await engine.start(StartRequest(name="planned_wait"))
    await until_found(lambda: engine.reader.waits(waiting.workflow_id), "it waits")
    file = engine.project / "workflows" / "planned.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "# Another version.\n", encoding="utf-8")
    newest = (await engine.catalog()).version
    await engine.create_schedule(request("twice", cron=EVERY_SECOND))
    runs = await at_least(engine, "twice", 8)
    assert len((await engine.reader.status()).workers) == 2
    times = times_of(runs, "twice")
    assert times == each_second(times)
    assert {(await engine.reader.run(one.workflow_id)).version for one in runs} == {newest}
    await engine.cancel([waiting.workflow_id])


@pytest.mark.long
@proves("schedule:missed")
@pytest.mark.parametrize(("missed", "started"), [("skip", 0), ("last", 1), ("all", 5)])
async def test_times_that_no_worker_saw_are_started_as_the_schedule_says(
    engine: Engine, missed: str, started: int
) -> None:
    """Its row is as if it had been made five hours ago, and no worker had run since. Its time in each hour is half an hour away: none is recent."""
    name = f"missed-{missed}"
    minute = (datetime.now(UTC) + timedelta(minutes=30)).minute
    await engine.create_schedule(request(name, cron=f"{minute} * * * *", missed=missed))
    since = datetime.now(UTC) - timedelta(hours=5)
    plan = planned.Plan(WORD, missed, since)  # pyright: ignore[reportArgumentType]
    await execute(
        engine,
        "update {table} set context = %s where schedule_name = %s",
        plan.context(),
        name,
    )
    await engine.create_schedule(request(f"witness-{missed}", cron=EVERY_SECOND))
    await at_least(engine, f"witness-{missed}", 3)  # then all schedules have been looked at
    runs = await runs_of(engine, name)
    assert len(runs) == started
    now = datetime.now(UTC)
    passed = [now - time for time in times_of(runs, name)]
    assert all(ago > timedelta(minutes=20) for ago in passed)
    if started == 1:
        assert passed[0] < timedelta(minutes=40)


@pytest.mark.long
@proves("schedule:missed", "schedule:each-time-once")
async def test_a_worker_that_is_killed_while_it_catches_up_loses_no_time(engine: Engine) -> None:
    """Also if a time of the present has been started meanwhile, and the next worker looks minutes later at times that are older than a minute."""
    await engine.create_schedule(request("behind", cron=EVERY_SECOND, missed="all"))
    await engine.pause_schedule("behind")
    began = datetime.now(UTC)
    plan = planned.Plan(WORD, "all", began - timedelta(seconds=450))
    await execute(
        engine,
        "update {table} set context = %s, last_fired_at = null, status = 'ACTIVE' where schedule_name = %s",
        plan.context(),
        "behind",
    )

    async def starts_the_present() -> bool:
        return times_of(await runs_of(engine, "behind"), "behind")[-1:] > [began]

    await until_found(starts_the_present, "a time of the present has its run", seconds=30)
    assert kill_worker(engine.project)
    assert len(await runs_of(engine, "behind")) < 400, "it was still catching up"

    async def caught_up() -> bool:
        times = times_of(await runs_of(engine, "behind"), "behind")
        return len(times) > 450 and times == each_second(times)

    await until_found(caught_up, "each second has its run", seconds=120)
    await engine.pause_schedule("behind")


@proves("schedule:missed")
async def test_what_passed_during_a_pause_was_not_missed(engine: Engine) -> None:
    await engine.create_schedule(request("paused", missed="all"))
    assert (await engine.schedule("pause", "paused", {})).schedules[0].status == "PAUSED"
    assert (await the_schedule(engine, "paused")).next_times == []
    before = datetime.now(UTC)
    assert (await engine.schedule("resume", "paused", {})).schedules[0].status == "ACTIVE"
    select = "select context from {table} where schedule_name = 'paused'"
    first = planned.plan_in_text((await execute(engine, select))[0]["context"])
    assert first is not None
    assert first.since >= before
    await engine.resume_schedule("paused")  # again: what was missed since stays so
    assert planned.plan_in_text((await execute(engine, select))[0]["context"]) == first


@proves("schedule:same-again")
async def test_the_same_schedule_again_changes_nothing_and_another_one_is_refused(
    engine: Engine,
) -> None:
    first = await engine.create_schedule(request("same", timezone="Europe/Berlin", priority=3))
    again = await engine.create_schedule(request("same", timezone="Europe/Berlin", priority=3))
    assert (first.existing, again.existing) == (False, True)
    assert again.schedules == first.schedules
    other = request("same", args={"word": "no"}, cron="0 3 * * *", queue=QUEUE)
    with pytest.raises(ScheduleTaken) as refused:
        await engine.create_schedule(other)
    assert refused.value.message == (
        'There is already a schedule \'same\': its cron is "0 0 1 1 *", not "0 3 * * *";'
        ' its timezone is "Europe/Berlin", not "UTC";'
        ' its args is {"word": "é \'x\' %s", "times": 2}, not {"word": "no"};'
        " its priority is 3, not null. Nothing was done."
    )
    assert await the_schedule(engine, "same") == first.schedules[0]
    await engine.pause_schedule("same")
    replaced = await engine.create_schedule(other.model_copy(update={"replace": True}))
    [shown] = replaced.schedules
    assert (shown.cron, shown.args, shown.status) == ("0 3 * * *", '{"word": "no"}', "PAUSED")


async def test_a_schedule_of_workflow_code_is_not_taken_over(engine: Engine) -> None:
    started = await engine.start(
        StartRequest(name="schedule_greetings", args={"cron": ONCE_A_YEAR})
    )
    await engine.reader.wait([started.workflow_id])
    for replace in (False, True):
        with pytest.raises(ScheduleTaken, match="Workflow code made the schedule 'greetings'"):
            await engine.create_schedule(request("greetings", replace=replace))
    shown = await the_schedule(engine, "greetings")
    assert (shown.from_code, shown.args, shown.problem) == (True, None, None)
    assert len(shown.next_times) == 3


async def test_its_row_is_as_dbos_writes_it(engine: Engine) -> None:
    await engine.create_schedule(request("ours", timezone="Asia/Tokyo"))
    values.refuse_pickle()
    connections.connect_alone()
    database = engine.connection.database
    client = DBOSClient(
        system_database_url=own_url(database),
        dbos_system_schema=database.dbos_schema,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        lazy=True,
    )
    try:
        ours = client.get_schedule("ours")
        assert ours is not None
        client.create_schedule(
            schedule_name="theirs",
            workflow_name="planned_words",
            schedule=ONCE_A_YEAR,
            context=ours["context"],
            cron_timezone="Asia/Tokyo",
            queue_name=QUEUE,
        )
    finally:
        client.destroy()
    own, other = await execute(engine, "select * from {table} order by schedule_name")
    assert own.pop("schedule_id") != other.pop("schedule_id")
    assert (own.pop("schedule_name"), other.pop("schedule_name")) == ("ours", "theirs")
    assert own == other


async def test_what_is_run_now_gets_the_arguments_even_while_it_is_paused(engine: Engine) -> None:
    await engine.create_schedule(request("now", priority=2))
    await engine.pause_schedule("now")
    result = await engine.schedule("run", "now", {})
    assert result.workflow_id is not None
    [ended] = (await engine.reader.wait([result.workflow_id])).done
    assert ended.output == "é 'x' %s é 'x' %s"
    assert result.schedules[0].status == "PAUSED"


@pytest.mark.long
@proves("schedule:others-go-on")
async def test_a_schedule_that_cannot_start_is_shown_and_keeps_no_other_from_it(
    engine: Engine,
) -> None:
    gone = engine.project / "workflows" / "gone.py"
    gone.write_text(
        "from dbos import DBOS\n\n@DBOS.workflow()\ndef gone_soon() -> None:\n    pass\n",
        encoding="utf-8",
    )
    changing = engine.project / "workflows" / "changing.py"
    source = "from dbos import DBOS\n\n@DBOS.workflow()\ndef changing(a: int) -> None:\n    pass\n"
    changing.write_text(source, encoding="utf-8")
    await engine.create_schedule(request("gone", workflow="gone_soon", args={}, cron=EVERY_SECOND))
    await engine.create_schedule(request("changed", workflow="changing", args={"a": 1}))
    await engine.create_schedule(request("nowhere"))
    await execute(
        engine, "update {table} set cron_timezone = 'No/Where' where schedule_name = 'nowhere'"
    )
    gone.unlink()
    changing.write_text(source.replace("a: int", "b: int"), encoding="utf-8")
    await engine.create_schedule(request("well", cron=EVERY_SECOND))
    with pytest.raises(UnknownWorkflow):
        await engine.run_schedule("gone")
    before = datetime.now(UTC)

    async def fired() -> bool:
        last = (await the_schedule(engine, "gone")).last_fired_at
        return last is not None and datetime.fromisoformat(last) > before

    await until_found(fired, "its time came", seconds=60)
    await at_least(engine, "well", 2)
    status = await engine.reader.status()
    assert {one.name: one.problem for one in status.schedules} == {
        "changed": "Its arguments do not fit 'changing' any more: 'b' is a required property. Make it again with other arguments and `replace`.",
        "gone": "It starts nothing: there is no workflow 'gone_soon' any more. Restore the workflow, or delete the schedule.",
        "nowhere": "It starts nothing: no time fits '0 0 1 1 *' in the time zone 'No/Where'. Delete the schedule, and make another one.",
        "well": None,
    }
    assert f"Schedule gone: {status.schedules[1].problem}" in status.problems
    later = await engine.reader.runs(name="gone_soon", since=before)
    assert not later.workflows  # which no worker would ever take up
    changing.unlink()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"cron": "0 25 * * *"}, InvalidArguments, "Field 2 of the cron expression '0 25 * * *', the hour, is wrong: '25'. Nothing was done."),
        ({"cron": "61 * * * * *"}, InvalidArguments, "Field 1 of the cron expression '61 * * * * *', the second, is wrong: '61'. Nothing was done."),
        ({"cron": "r * * * *"}, InvalidArguments, "Field 1 of the cron expression 'r * * * *', the minute, is wrong: 'r'. Nothing was done."),
        ({"cron": "0 0 31 2 *"}, InvalidArguments, "No time fits the cron expression '0 0 31 2 *'. Nothing was done."),
        ({"cron": "daily"}, InvalidArguments, "The cron expression 'daily' has 1 field. Nothing was done."),
        ({"cron": "* * *"}, InvalidArguments, "The cron expression '* * *' has 3 fields. Nothing was done."),
        ({"timezone": "Europe/Berln"}, InvalidArguments, "There is no time zone 'Europe/Berln'. Did you mean 'Europe/Berlin'"),
        ({"workflow": "planned_word"}, UnknownWorkflow, "There is no workflow 'planned_word'. Did you mean 'planned_words'"),
        ({"args": {"wort": "x"}}, InvalidArguments, "The arguments of planned_words are wrong: 'word' is a required property;"),
        ({"args": {"word": "x" * 10_000}}, InvalidArguments, "The arguments of a schedule may have 10,000 characters of JSON at most."),
        ({"queue": "workflow"}, InvalidArguments, "There is no queue 'workflow'. Did you mean 'workflows'?"),
        ({"priority": 0}, InvalidArguments, "priority is 0; it must be from 1 (first)"),
        ({"name": " "}, InvalidArguments, "The name of a schedule must have 1 to 100 characters"),
        ({"name": "x" * 101}, InvalidArguments, "The name of a schedule must have 1 to 100 characters"),
    ],
)  # fmt: skip
async def test_a_schedule_that_could_not_work_is_refused_with_what_is_wrong(
    engine: Engine, changes: dict[str, Any], error: type[UsageError], said: str
) -> None:
    with pytest.raises(error) as refused:
        await engine.create_schedule(request("wrong").model_copy(update=changes))
    assert refused.value.message.startswith(said)
    assert (await engine.schedule("list", None, {})).schedules == []


async def test_an_action_says_what_it_needs_and_what_it_does_not_take(engine: Engine) -> None:
    with pytest.raises(InvalidArguments, match="The action create needs workflow and cron"):
        await engine.schedule("create", "half", {})
    with pytest.raises(InvalidArguments, match="The action pause needs the name of a schedule"):
        await engine.schedule("pause", None, {})
    with pytest.raises(InvalidArguments, match="cron: only for the action create"):
        await engine.schedule("run", "half", {"cron": EVERY_SECOND})
    with pytest.raises(UnknownSchedule):
        await engine.schedule("delete", "half", {})


async def test_the_next_times_are_those_of_the_zone_with_its_summer_time() -> None:
    times = cron.next_times("30 2 * * *", "Europe/Berlin", 3)
    assert [time.strftime("%H:%M") for time in times] == ["02:30"] * 3
    assert times[0] > datetime.now(UTC)
    assert times[0].utcoffset() == times[0].astimezone(ZoneInfo("Europe/Berlin")).utcoffset()
    assert cron.next_times("* * * * *", "No/Where", 3) == []
    for known in ("@daily", "0 0 * * mon#2", "*/15 9-17 * * mon-fri"):
        cron.check(known)


@pytest.mark.long
async def test_the_command_makes_lists_and_deletes_schedules(engine: Engine) -> None:
    def schedule(*words: str) -> str:
        return succeed("schedule", *words, folder=engine.project)

    assert schedule("list") == "There are no schedules.\n"
    options = ("--args", '{"word": "hi"}', "--timezone", "Europe/Berlin", "--missed", "last")
    made = schedule("create", "typed", "planned_words", ONCE_A_YEAR, *options)
    assert made.startswith("typed is made.\n")
    again = schedule("create", "typed", "planned_words", ONCE_A_YEAR, *options)
    assert again.startswith("typed was there already.\n")
    listed = schedule()
    year = datetime.now(ZoneInfo("Europe/Berlin")).year
    assert listed == (
        "typed\n"
        '  starts  planned_words {"word": "hi"}\n'
        "  when    0 0 1 1 * Europe/Berlin\n"
        f"  next    {year + 1}-01-01 00:00:00+01:00, {year + 2}-01-01 00:00:00+01:00, {year + 3}-01-01 00:00:00+01:00\n"
        "  last    never\n"
        "  missed  last\n"
    )
    words = ("schedule", "create", "typed", "planned_words", "0 3 * * *", *options)
    refused = run(*words, folder=engine.project)
    assert refused.status == 1
    assert "There is already a schedule 'typed'" in refused.errors
    found = json.loads(schedule("delete", "typed", "--json"))
    assert found["schedules"][0]["name"] == "typed"
    assert schedule("list") == "There are no schedules.\n"

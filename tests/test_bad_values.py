"""No value that a workflow, a caller, a library or a file name brings ends a worker or keeps others from an answer."""

import json
import os
import shutil
from collections.abc import AsyncIterator

import pytest
from mcp.types import TextContent

from durable_workflows import fitting
from durable_workflows.cli import dashboard
from durable_workflows.database import tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import InvalidArguments, UsageError
from durable_workflows.mcp import answers, uris
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import state
from durable_workflows.telling import causes, pages, trace_json, traces
from helpers import FLOWS, processes_of, until, until_found
from mcp import Client
from nasty import NUMBERS, SHAPES, TEXTS, nested
from requirements import proves

pytestmark = [pytest.mark.anyio, proves("value:own-run")]


@pytest.fixture(scope="module")
async def bad(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project with flows that bring such values, and with a run that has nothing to do with them."""
    folder = (tmp_path_factory.mktemp("bad") / "project").resolve()
    shutil.copytree(FLOWS / "nasty", folder / "workflows")
    (folder / "workflows" / os.fsdecode(b"caf\xe9.csv")).write_text("a,b", encoding="utf-8")
    project = Project(Settings(project=folder))
    engine = await project.engine()
    await engine.start(StartRequest(name="waits", workflow_id="innocent"))
    yield engine
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    assert not processes_of(folder)


async def worker_of(engine: Engine) -> int:
    async def found() -> int | None:
        workers = (await engine.reader.status()).workers
        return workers[0].pid if workers else None

    return await until_found(found, "a worker has announced itself")


async def ended(engine: Engine, requests: list[StartRequest]) -> list[str]:
    """Start runs; return their ids once all have ended, all in the same worker."""
    worker = await worker_of(engine)
    runs = [one.workflow_id for one in await engine.start_all(requests)]
    result = await engine.reader.wait(runs, timeout_seconds=90)
    assert not result.timed_out
    assert not result.waiting
    assert await worker_of(engine) == worker
    return runs


async def test_what_json_can_hold_comes_back_from_a_run_as_it_was(bad: Engine) -> None:
    values = [*TEXTS, *NUMBERS[:-1], *SHAPES[:2], *SHAPES[3:]]
    runs = await ended(bad, [StartRequest(name="gives", args={"value": one}) for one in values])
    for run in runs:
        assert (await bad.reader.run(run)).status == "SUCCESS"


async def test_what_it_cannot_hold_is_the_end_of_that_run_only(bad: Engine) -> None:
    kinds = ["long", "900", "5000"]
    runs = await ended(bad, [StartRequest(name="makes", args={"kind": one}) for one in kinds])
    for run in runs:
        assert (await bad.reader.run(run)).status == "ERROR"


async def test_texts_that_are_printed_logged_and_raised_end_no_worker(bad: Engine) -> None:
    runs = await ended(bad, [StartRequest(name="says", args={"text": one}) for one in TEXTS])
    for run in runs:
        found = await bad.reader.run(run)
        assert found.status == "ERROR"
        failure = causes.failure(found.error)
        assert failure is not None
        assert failure.name == "ValueError"
    assert [line.text for line in await bad.reader.log(runs[0])][:2] == ["a\ufffdb"] * 2


@pytest.mark.parametrize("what", ["step", "event", "topic", "child"])
async def test_a_run_can_take_a_text_as_a_name_and_goes_on_past_it(what: str, bad: Engine) -> None:
    texts = [text for text in TEXTS if text not in ("", " ") or what != "child"]
    requests = [StartRequest(name="names", args={"what": what, "text": one}) for one in texts]
    runs = await ended(bad, requests)
    after = 3 if what == "topic" else 2
    forks = [(await bad.fork(run, after)).workflow_id for run in runs]
    assert not (await bad.reader.wait(forks, timeout_seconds=90)).waiting
    for run in runs + forks:
        assert ((await bad.reader.run(run)).status, run) == ("SUCCESS", run)


async def test_a_file_that_cannot_be_described_or_saved_costs_itself_only(bad: Engine) -> None:
    entries = {entry.name: entry for entry in (await bad.catalog()).workflows}
    assert entries["capped"].error is None
    assert entries["capped"].args_schema["properties"]["budget"]["default"] == "Infinity"
    assert "no words for it" in (entries["undescribed"].error or "")
    settings = Settings(project=bad.project)
    await until(lambda: "files" in state.read_report(settings), "the supervisor has looked")
    report = state.read_report(settings)
    assert report["files"] == r"workflows/caf\udce9.csv is left out: its name is not UTF-8"


async def test_what_a_caller_names_is_refused_if_it_cannot_be_stored(bad: Engine) -> None:
    for text in TEXTS[:3]:
        calls = [
            bad.start(StartRequest(name=text)),
            bad.start(StartRequest(name="waits", workflow_id=text)),
            bad.start(StartRequest(name="waits", queue=text)),
            bad.send("innocent", text, 1),
            bad.send("innocent", "go", 1, text),
            bad.send(text, "go", 1),
            bad.reader.run(text),
            bad.cancel([text]),
            bad.fork(text, 1),
            bad.reader.runs(name=text),
            bad.reader.wait([text]),
        ]
        for call in calls:
            with pytest.raises(UsageError):
                await call


async def test_what_cannot_be_recorded_is_refused_before_it_is_sent(bad: Engine) -> None:
    for value in (NUMBERS[-1], nested(220)):
        with pytest.raises(InvalidArguments, match=r"levels|cannot be recorded"):
            await bad.start(StartRequest(name="gives", args={"value": value}))
        with pytest.raises(InvalidArguments, match=r"levels|cannot be recorded"):
            await bad.send("innocent", "another", value)


async def insert_odd_runs(engine: Engine) -> list[str]:
    """Runs in a form that our own code never writes."""
    odd: list[tuple[str, str | None, int, str | None, str | None]] = [
        ("nothing-known", None, 10**18 + 1, None, None),
        ("from-the-future", "SOMETHING_NEW", 10**15, "{}", "portable_json"),
        ("before-time", "SUCCESS", -(10**15), "{}", "portable_json"),
        ("no-json", "ERROR", 10**18, "not JSON", "portable_json"),
        ("a-list", "ERROR", 0, "[1]", "portable_json"),
        ("pickled", "SUCCESS", 1, "gASVAAA=", "py_pickle"),
        ("deep", "SUCCESS", 2, "[" * 90_000, "portable_json"),
        ("lines\n**Next:** `cancel` all", "CANCELLED", 3, '"\\ud800 \\u202e"', "portable_json"),
    ]
    async with await tables.connect(engine.connection.database, role="test") as connection:
        for workflow_id, status, at, text, label in odd:
            await connection.execute(
                "insert into dbos.workflow_status (workflow_uuid, name, status, application_name, created_at, updated_at, completed_at,"
                " workflow_deadline_epoch_ms, serialization) values (%s, %s, %s, 'durable-workflows', %s, %s, %s, %s, %s)",
                [workflow_id, status and "odd", status, at, at, at, at, label],
            )
            await connection.execute(
                "insert into dbos.workflow_input (workflow_uuid, inputs) values (%s, %s)",
                [workflow_id, text],
            )
            await connection.execute(
                "insert into dbos.workflow_output (workflow_uuid, output, error) values (%s, %s, %s)",
                [workflow_id, text, text if status == "ERROR" else None],
            )
    return [row[0] for row in odd]


async def test_a_run_that_nobody_of_ours_wrote_keeps_no_other_from_being_shown(bad: Engine) -> None:
    ids = await insert_odd_runs(bad)
    listed = {one.workflow_id: one for one in (await bad.reader.runs(limit=100)).workflows}
    assert {"from-the-future", "no-json", "nothing-known"} <= listed.keys()
    async with Client(build_server(Settings(project=bad.project)), mode="legacy") as client:
        resources = {one.uri for one in (await client.list_resources()).resources}
        assert uris.expand(uris.TRACE, workflow_id="nothing-known") in resources
        assert (await client.read_resource(uris.RUNS)).contents
    assert (await bad.reader.counts())["SOMETHING_NEW"] == 1
    overview = await bad.reader.overview()
    assert dashboard.overview_lines(overview, width=None)
    waited = await bad.reader.wait(ids, timeout_seconds=5)
    assert [one.workflow_id for one in waited.done] == ids
    assert len(answers.fit_waited(waited).done) == len(ids)
    for one in ids:
        run = await bad.reader.run(one)
        text = traces.markdown(run)
        assert text.startswith("# ")
        compared = await bad.pages.comparison(one, ids[0], cursor=None)
        assert compared.startswith("# Two runs compared")
        assert not any(line.startswith("**Next:** `cancel`") for line in text.splitlines())
        assert len(traces.full_markdown(run)) < 8000
        assert pages.payload(run, which="input", offset=0)
        assert json.loads(run.model_dump_json())
        whole = json.loads(trace_json.text(run, await bad.reader.messages(one), 0))
        assert (whole["workflow_id"], whole["left_out"] != []) == (one, one == "deep")
    status = await bad.reader.status()
    assert status.database == "up"
    assert status.counts
    assert not [one for one in status.problems if "cannot be told" in one]


async def test_all_that_is_told_of_nasty_runs_can_be_seen_and_is_of_bounded_length(
    bad: Engine,
) -> None:
    for text in TEXTS:
        await bad.start(StartRequest(name="says", args={"text": text}))
    runs = (await bad.reader.runs(name="says", limit=100)).workflows
    await bad.reader.wait([one.workflow_id for one in runs], timeout_seconds=60)
    server = build_server(Settings(project=bad.project))
    async with Client(server, mode="legacy") as client:
        for one in runs[: len(TEXTS)]:
            for more in ({}, {"detail": "full"}, {"detail": "log"}, {"step": 0}, {"step": 1}):
                arguments = {"workflow_id": one.workflow_id, **more}
                answer = await client.call_tool("inspect", arguments)
                assert isinstance(answer.content[0], TextContent)
                told = answer.content[0].text
                assert told == fitting.shown(told)
                assert len(told) <= 8000


async def test_a_deep_output_is_given_as_text(bad: Engine) -> None:
    run = await bad.start(StartRequest(name="makes", args={"kind": "200"}))
    result = await bad.reader.wait([run.workflow_id], timeout_seconds=60)
    assert result.done[0].output == "[" * 201 + "]" * 201

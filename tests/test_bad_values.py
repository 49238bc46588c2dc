"""No value that a workflow, a caller, a library or a file name brings ends a worker or keeps others from an answer."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest

from durable_workflows import lifecycle, state
from durable_workflows.engine import Engine
from durable_workflows.errors import InvalidArguments, UsageError
from durable_workflows.models import StartRequest
from durable_workflows.project import Project
from durable_workflows.settings import Settings
from helpers import FLOWS, processes_of, until_found
from nasty import NUMBERS, SHAPES, TEXTS, nested

pytestmark = pytest.mark.anyio


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
        workers = (await engine.status()).workers
        return workers[0].pid if workers else None

    return await until_found(found, "a worker has announced itself")


async def ended(engine: Engine, requests: list[StartRequest]) -> list[str]:
    """Start runs; return their ids once all have ended, all in the same worker."""
    worker = await worker_of(engine)
    runs = [one.workflow_id for one in await engine.start_all(requests)]
    result = await engine.wait(runs, timeout_seconds=90)
    assert not result.timed_out
    assert not result.waiting
    assert await worker_of(engine) == worker
    return runs


async def test_what_json_can_hold_comes_back_from_a_run_as_it_was(bad: Engine) -> None:
    values = [*TEXTS, *NUMBERS[:-1], *SHAPES[:2], *SHAPES[3:]]
    runs = await ended(bad, [StartRequest(name="gives", args={"value": one}) for one in values])
    for run in runs:
        assert (await bad.run(run)).status == "SUCCESS"


async def test_what_it_cannot_hold_is_the_end_of_that_run_only(bad: Engine) -> None:
    kinds = ["long", "bytes", "keys", "900", "5000"]
    runs = await ended(bad, [StartRequest(name="makes", args={"kind": one}) for one in kinds])
    for run in runs:
        assert (await bad.run(run)).status == "ERROR"


async def test_texts_that_are_printed_logged_and_raised_end_no_worker(bad: Engine) -> None:
    runs = await ended(bad, [StartRequest(name="says", args={"text": one}) for one in TEXTS])
    for run in runs:
        assert (await bad.run(run)).status == "ERROR"
    assert [line.text for line in await bad.log(runs[0])][:2] == ["a\ufffdb"] * 2


@pytest.mark.parametrize("what", ["step", "event", "topic", "child"])
async def test_a_run_that_takes_a_text_as_a_name_ends(what: str, bad: Engine) -> None:
    texts = [text for text in TEXTS if text not in ("", " ") or what != "child"]
    requests = [StartRequest(name="names", args={"what": what, "text": one}) for one in texts]
    await ended(bad, requests)


async def test_a_file_that_cannot_be_described_or_saved_costs_itself_only(bad: Engine) -> None:
    entries = {entry.name: entry for entry in (await bad.catalog()).workflows}
    assert entries["capped"].error is None
    assert entries["capped"].args_schema["properties"]["budget"]["default"] == "Infinity"
    assert "no words for it" in (entries["undescribed"].error or "")
    report = state.read_report(Settings(project=bad.project))
    assert report["files"] == "workflows/caf\udce9.csv is left out: its name is not UTF-8"


async def test_what_a_caller_names_is_refused_if_it_cannot_be_stored(bad: Engine) -> None:
    for text in TEXTS[:3]:
        calls = [
            bad.start(StartRequest(name=text)),
            bad.start(StartRequest(name="waits", workflow_id=text)),
            bad.start(StartRequest(name="waits", queue=text)),
            bad.send("innocent", text, 1),
            bad.send("innocent", "go", 1, text),
            bad.send(text, "go", 1),
            bad.run(text),
            bad.cancel([text]),
            bad.fork(text, 1),
            bad.runs(name=text),
            bad.wait([text]),
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

"""Runs of templates whose worker is killed in their midst."""

from collections.abc import AsyncIterator, Iterator
from threading import Event

import psutil
import pytest

from helpers import processes_of, until, until_found

from .projects import Running, copy_template, new_folder, running, site
from .test_templates import FACTORS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = new_folder(tmp_path_factory)
    for stem in ("basic_workflow", "queue_parallel", "human_in_the_loop"):
        copy_template(stem, folder)
    async with running(folder, {}) as project:
        yield project


def kill_worker(project: Running) -> None:
    workers = processes_of(project.folder, "worker")
    assert workers
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=10)


@pytest.mark.long
async def test_only_the_step_that_was_interrupted_is_repeated(project: Running) -> None:
    table = "item,amount\na,1\n"
    hold = Event()

    def slow() -> Iterator[str]:
        hold.wait(30)
        yield table
        yield table

    with site(first=table, slow=slow(), last=table) as server:
        names = ["first", "slow", "last"]
        sources = [{"name": name, "url": server.url(f"/{name}")} for name in names]
        workflow_id = await project.start("basic_workflow", sources=sources)
        await until(lambda: server.asked == ["/first", "/slow"], "the second table is asked for")
        kill_worker(project)
        hold.set()
        result = await project.output(workflow_id)
        assert result == [{"name": name, "rows": 1, "total": 1.0} for name in names]
        assert server.asked == ["/first", "/slow", "/slow", "/last"]


@pytest.mark.long
async def test_the_items_of_a_queue_are_all_done_once_and_in_their_order(project: Running) -> None:
    workflow_id = await project.start("queue_parallel")

    async def some_done() -> bool:
        return len(project.events(workflow_id, "progress")) >= 3

    await until_found(some_done, "some items are done")
    kill_worker(project)
    summary = await project.output(workflow_id)
    assert summary["results"] == FACTORS
    assert [failure["item"] for failure in summary["failures"]] == [0, 1]
    children = await project.engine.reader.tree(workflow_id)
    assert len(children) == 50
    finished = project.query(
        "select count(*), count(distinct workflow_uuid) from dbos.operation_outputs where function_name = 'work'"
    )
    assert finished == [(50, 50)]


@pytest.mark.long
async def test_a_question_to_a_human_outlives_the_worker(project: Running) -> None:
    workflow_id = await project.start("human_in_the_loop", text="kept")
    await project.waits(workflow_id)
    kill_worker(project)
    await project.engine.send(workflow_id, "decision", {"approved": True})
    assert (await project.output(workflow_id))["outcome"] == "published"
    assert (project.folder / "human_in_the_loop.md").read_text(encoding="utf-8") == "kept"

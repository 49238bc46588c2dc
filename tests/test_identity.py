"""The processes and runs of a state directory: its identity, and that no other process is taken for it."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import processes, state
from helpers import copy_flow, processes_of
from namespaces import run_isolated
from requirements import proves

pytestmark = pytest.mark.anyio

OURS = "0123456789abcdef"
DAMAGED = [
    b"",
    b"\n",
    b"\xff\xfe\x00garbage",
    b"01234567",  # as it was once
    b"0123456789abcdef",
    b"0123456789abcdef 1:1\n",  # of another directory
    b" 1:1\n",
]


@contextmanager
def sleeping(marker: str | None) -> Generator[int]:
    """A process with that marker, which is not a child of the test for long."""
    environment = processes.without_marker(dict(os.environ))
    if marker is not None:
        environment[processes.MARKER] = marker
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@proves("process:only-ours")
def test_only_a_whole_marker_of_the_same_identity_matches() -> None:
    strangers = [None, "", OURS, f"{OURS}-", f"{OURS}0-abc", f"x{OURS}-abc", "-abc", OURS[:8]]
    with ExitStack() as stack:
        ours = {stack.enter_context(sleeping(f"{OURS}-{version}")) for version in ("ab", "cd")}
        for marker in strangers:
            stack.enter_context(sleeping(marker))
        assert {process.pid for process in processes.marked(OURS)} == ours
        assert len(processes.of_executor(f"{OURS}-ab")) == 1


@proves("process:only-ours")
@pytest.mark.parametrize("identity", ["", "0", OURS[:-1], f"{OURS} ", f"{OURS}-ab"])
def test_what_is_no_identity_matches_nothing_and_is_refused(identity: str) -> None:
    with pytest.raises(ValueError, match="not the identity"):
        processes.marked(identity)


@pytest.mark.parametrize("executor_id", ["", "-", OURS, f"{OURS}-"])
def test_what_is_no_executor_id_is_refused(executor_id: str) -> None:
    with pytest.raises(ValueError, match="not an executor id"):
        processes.of_executor(executor_id)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_id_is_never_used_and_is_made_anew(content: bytes, settings: Settings) -> None:
    state.prepare(settings)
    assert state.identity(settings) is None
    (settings.state / "id").write_bytes(content)
    assert state.identity(settings) is None
    claimed = state.claim_identity(settings)
    assert state.identity(settings) == claimed == state.claim_identity(settings)
    assert not processes.marked(claimed)


@proves("process:only-ours")
def test_an_id_goes_with_its_directory_and_not_with_a_copy(tmp_path: Path) -> None:
    first = Settings(project=tmp_path / "first")
    first.project.mkdir()
    state.prepare(first)
    identity = state.claim_identity(first)
    copy = Settings(project=Path(shutil.copytree(first.project, tmp_path / "copy")))
    assert state.identity(copy) is None
    assert state.claim_identity(copy) != identity
    moved = Settings(project=first.project.rename(tmp_path / "moved"))
    assert state.identity(moved) == identity


SHUTDOWN = """
import subprocess, sys
from pathlib import Path
state = Path(sys.argv[1], ".dbos")
state.mkdir()
with subprocess.Popen(["sleep", "60"]) as decoy:
    for content in [b"", b"\\n", b"0", b"\\xff"]:
        (state / "id").write_bytes(content)
        for command in ("status", "shutdown"):
            subprocess.run([sys.executable, "-m", "durable_workflows", command, "--project", sys.argv[1]], check=True)
        assert decoy.poll() is None, f"ended by {command} with the id {content!r}"
    decoy.kill()
"""


@pytest.mark.long
@proves("process:only-ours")
def test_a_shutdown_with_a_damaged_id_ends_no_process_of_others(tmp_path: Path) -> None:
    run_isolated(SHUTDOWN, str(tmp_path))


@proves("process:only-ours", "recovery:whoever-holds-it")
@pytest.mark.long
async def test_a_copy_and_its_original_leave_each_other_alone_and_both_go_on_with_the_runs(
    engine: Engine, project: Project, folder: Path, tmp_path: Path
) -> None:
    copy_flow("messages", folder)
    started = await engine.start(StartRequest(name="wait_for", args={"topic": "t"}))
    await engine.reader.wait([started.workflow_id], until="any")
    await lifecycle.shut_down(project.settings)
    copy = Settings(project=Path(shutil.copytree(folder, tmp_path / "copy")))
    engine = await project.engine()
    await engine.catalog()
    other = Project(copy)
    try:
        there = await other.engine()
        await there.catalog()
        assert len(processes_of(folder)) == len(processes_of(copy.project)) == 3
        await there.send(started.workflow_id, "t", "in the copy")
        found = await there.reader.wait([started.workflow_id], timeout_seconds=60)
        assert found.done[0].output == "in the copy"
    finally:
        await other.aclose()
        await lifecycle.shut_down(copy)
    assert not processes_of(copy.project)
    assert len(processes_of(folder)) == 3
    await engine.send(started.workflow_id, "t", "at home")
    found = await engine.reader.wait([started.workflow_id], timeout_seconds=60)
    assert found.done[0].output == "at home"

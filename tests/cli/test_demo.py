"""The demo, as the README's first command runs it."""

import signal
from pathlib import Path

import pytest

from helpers import processes_of

from .command import begin, run, succeed


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory with something to read."""
    folder = (tmp_path / "shop").resolve()
    for part in ("carts", "prices", "users", "web"):
        (folder / part).mkdir(parents=True)
        for number in range(7):
            (folder / part / f"{number}.txt").write_text("one line\n" * number, encoding="utf-8")
    return folder


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo makes its project."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.mark.long
def test_the_demo_comes_true_and_leaves_nothing(shop: Path, temporary: Path) -> None:
    before = sorted(shop.rglob("*"))
    output = succeed("demo", str(shop), folder=temporary, TMPDIR=str(temporary))
    assert "✗" not in output
    for said in (
        "start_workflow: survey runs as",
        "SIGKILL to the worker",
        "none ran again",
        "waits for a message on the topic 'approval'",
        "send_message: survey finished. ",
        "fork: from step 3",
        "shutdown: no process is left",
    ):
        assert said in output
    assert "find_parts" in output  # the trace
    assert sorted(shop.rglob("*")) == before
    assert list(temporary.iterdir()) == []


@pytest.mark.long
def test_a_demo_that_fails_says_why_in_a_line_and_leaves_its_project_but_no_process(
    tmp_path: Path, temporary: Path
) -> None:
    folder = tmp_path / "no-text"
    (folder / "empty").mkdir(parents=True)
    result = run("demo", str(folder), folder=temporary, TMPDIR=str(temporary))
    assert result.status == 1
    failed = [line for line in result.output.splitlines() if line.startswith("✗")]
    assert len(failed) == 1
    assert "There are no text files in" in failed[0]
    [project] = temporary.iterdir()
    assert str(project) in result.output
    assert processes_of(project) == []


@pytest.mark.long
def test_an_interrupted_demo_leaves_no_process(shop: Path, temporary: Path) -> None:
    command = begin("demo", str(shop), folder=temporary, TMPDIR=str(temporary))
    assert command.stdout is not None
    next(line for line in command.stdout if "started 3 sub-workflows" in line)
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=60)
    assert command.returncode != 0
    assert "shutdown: no process is left" in output
    assert "Traceback" not in errors
    [project] = temporary.iterdir()
    assert processes_of(project) == []

"""What the plugin for Claude Code tells a session, by a hook at its beginning and a monitor.

Both are shell scripts that start nothing and never fail.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import copy_flow, until
from requirements import proves

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
QUICK_SECONDS = 0.3
# Stands in for uvx, which would build this checkout: `--from … --constraints … durable-workflows`, and what follows.
_UVX = """#!/bin/sh
shift 5
exec {python} -P -m durable_workflows "$@"
"""


def hooks() -> list[str]:
    found = json.loads((ROOT / "hooks" / "hooks.json").read_text(encoding="utf-8"))["hooks"]
    return [one["command"] for group in found["SessionStart"] for one in group["hooks"]]


def monitors() -> list[str]:
    found = json.loads((ROOT / "monitors" / "monitors.json").read_text(encoding="utf-8"))
    return [one["command"] for one in found]


@pytest.fixture
def environment(folder: Path, tmp_path: Path) -> Mapping[str, str]:
    """As Claude Code gives it to hooks, with a stand-in for uvx."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "uvx").write_text(_UVX.format(python=sys.executable), encoding="utf-8")
    (programs / "uvx").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE")}
    return {
        **kept,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CLAUDE_PLUGIN_ROOT": str(ROOT),
        "CLAUDE_PROJECT_DIR": str(folder),
    }


def session_starts(environment: Mapping[str, str]) -> str:
    """The output of the hook, which must succeed and print nothing else."""
    [command] = hooks()
    done = subprocess.run(
        command, shell=True, env=dict(environment), capture_output=True, timeout=60, check=True
    )
    assert done.stderr == b""
    return done.stdout.decode()


def monitored(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """The monitor, which writes to a pipe."""
    [command] = monitors()
    return subprocess.Popen(
        command, shell=True, env=dict(environment), stdout=subprocess.PIPE, encoding="utf-8"
    )


@proves("news:come-back")
def test_the_hook_says_nothing_and_is_quick_where_nothing_runs(
    folder: Path, environment: Mapping[str, str]
) -> None:
    took: list[float] = []
    for _ in range(5):  # the quickest counts: others use this machine too
        began = time.monotonic()
        assert session_starts(environment) == ""
        took.append(time.monotonic() - began)
    assert min(took) < QUICK_SECONDS
    assert not (folder / ".dbos").exists()


def test_the_hook_says_nothing_of_a_supervisor_that_was_killed(
    folder: Path, environment: Mapping[str, str]
) -> None:
    (folder / ".dbos").mkdir()
    connection = '{\n  "url": "postgresql://x",\n  "pid": 4194304,\n  "versions": {}\n}'
    (folder / ".dbos" / "connection.json").write_text(connection, encoding="utf-8")
    assert session_starts(environment) == ""


@proves("news:come-back")
def test_the_hook_tells_what_was_left_while_nothing_runs(
    folder: Path, environment: Mapping[str, str]
) -> None:
    news = folder / ".dbos" / "news"
    news.mkdir(parents=True)
    (news / "anyone").write_text("Durable workflows here: 1 run unfinished.\n", encoding="utf-8")
    assert session_starts(environment).startswith("Durable workflows here: 1")
    own = "Durable workflows here: 2 runs unfinished.\n"
    (news / "claude-code").write_text(own, encoding="utf-8")
    assert session_starts(environment).startswith("Durable workflows here: 2")


def test_the_hook_does_not_fail_without_uvx(folder: Path, environment: Mapping[str, str]) -> None:
    (folder / ".dbos").mkdir()
    connection = f'{{\n  "pid": {os.getpid()}\n}}'
    (folder / ".dbos" / "connection.json").write_text(connection, encoding="utf-8")
    without = {**environment, "PATH": str(Path(shutil.which("sh") or "/bin/sh").parent)}
    assert session_starts(without) == ""


@pytest.fixture
def settings(folder: Path) -> Settings:
    for flow in ("people", "odd"):
        copy_flow(flow, folder)
    return Settings(project=folder)


@proves("news:come-back", "news:watch")
@pytest.mark.long
async def test_a_session_is_told_by_the_hook_and_then_by_the_monitor(
    engine: Engine, environment: Mapping[str, str]
) -> None:
    await engine.start(StartRequest(name="ask_anything", workflow_id="old"))
    await engine.reader.wait(["old"])
    assert '- old (ask_anything) asks a person: "What is it?".' in session_starts(environment)
    with monitored(environment) as monitor:
        await until(lambda: is_connected(monitor.pid), "it watches")
        await engine.start(StartRequest(name="noisy", workflow_id="new"))
        assert monitor.stdout is not None
        assert monitor.stdout.readline().startswith("new (noisy) has finished. inspect(")
        monitor.stdout.close()
    assert monitor.returncode == 0


def is_connected(pid: int) -> bool:
    """Whether a process, or one that it started, has a connection."""
    own = psutil.Process(pid)
    return any(one.net_connections("tcp") for one in [own, *own.children(recursive=True)])

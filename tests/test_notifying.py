"""DURABLE_WORKFLOWS_NOTIFY: a command of the user's that is told what happens to runs."""

import json
import os
import shlex
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from documents import blocks
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from durable_workflows.system import places
from helpers import copy_flow, processes_of, until
from requirements import long, proves

pytestmark = pytest.mark.anyio
Json = dict[str, Any]

_EXPORT = "export DURABLE_WORKFLOWS_NOTIFY="
_STAND_IN = """#!{python}
import json, sys
with open({notes!r}, "a") as notes:
    notes.write(json.dumps([{name!r}, sys.argv[1:], sys.stdin.read() if {reads} else ""]) + "\\n")
"""


@asynccontextmanager
async def told_by(folder: Path, command: str) -> AsyncGenerator[Engine]:
    """The engine of a project with that command."""
    for flow in ("people", "odd", "family"):
        copy_flow(flow, folder)
    project = Project(Settings(project=folder, notify=command))
    try:
        yield await project.engine()
    finally:
        await project.aclose()


def appending(notes: Path) -> str:
    return f"cat >> {shlex.quote(os.fspath(notes))}"


def told(notes: Path) -> list[Json]:
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    return [json.loads(line) for line in lines]


async def until_told(notes: Path, *expected: tuple[str, str]) -> list[Json]:
    """Return what was told once it is this, in any order."""

    def found() -> list[tuple[str, str]]:
        return sorted((one["event"], one["workflow_id"]) for one in told(notes))

    await until(lambda: len(found()) >= len(expected), f"{expected} are told")
    assert found() == sorted(expected)
    return told(notes)


def kill_supervisor(folder: Path) -> None:
    for process in processes_of(folder, "supervisor"):
        process.kill()
        process.wait(10)


async def start(engine: Engine, name: str, own: str, **args: Any) -> None:
    await engine.start(StartRequest(name=name, args=args, workflow_id=own))


@proves("notify:once")
@pytest.mark.long
async def test_ends_failures_and_questions_are_told_once_also_over_restarts(
    folder: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    expected = [("ended", "one"), ("failed", "two"), ("asks", "three"), ("asks", "four")]
    async with told_by(folder, appending(notes)) as engine:
        await engine.catalog()
        await start(engine, "asks", "silent", prompt="What?")  # a message, which is nobody's affair
        await start(engine, "noisy", "one")
        await start(engine, "fails", "two", message="no card")
        await start(engine, "ask_order", "three", timeout=600)
        await start(engine, "fan_out", "four", workflow="ask_anything", items=[{}])
        found = {one["workflow_id"]: one for one in await until_told(notes, *expected)}
    assert found["two"]["error"] == "ValueError: no card"
    assert found["two"]["text"] == 'two (fails) failed: "ValueError: no card".'
    asks = found["three"]
    assert (asks["prompt"], asks["asked_by"]) == ("What shall be ordered?", "three")
    assert asks["answer"] == f"durable-workflows approve three --project {folder}"
    assert found["four"]["asked_by"] == "four-0"
    kill_supervisor(folder)
    async with told_by(folder, appending(notes)) as engine:
        await engine.cancel(["three"])
        expected.append(("ended", "three"))
        found = await until_told(notes, *expected)
        assert [one["status"] for one in found if one["event"] == "ended"] == [
            "SUCCESS",
            "CANCELLED",
        ]


@proves("notify:bounded")
@pytest.mark.long
async def test_a_command_that_fails_is_logged_and_not_repeated(
    folder: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    failing = f'{appending(notes)}; echo "no network for $1"; exit 3'
    async with told_by(folder, failing) as engine:
        await start(engine, "noisy", "one")
        await until_told(notes, ("ended", "one"))
        await start(engine, "noisy", "two")
        await until_told(notes, ("ended", "one"), ("ended", "two"))
        log = places.log_file(engine.reader._settings, "supervisor")  # pyright: ignore[reportPrivateUsage]
        said = "The command of DURABLE_WORKFLOWS_NOTIFY ended with status 3"
        await until(lambda: log.read_text(encoding="utf-8").count(said) == 2, "both are logged")
    logged = (folder / ".dbos" / "logs" / "notify.log").read_text(encoding="utf-8")
    assert "no network for one (noisy) has finished." in logged


@pytest.mark.long
@proves("notify:bounded")
async def test_a_command_that_hangs_is_ended_with_what_it_started(
    folder: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    async with told_by(folder, f"{appending(notes)}; sleep 1000 & sleep 1000 & wait") as engine:
        await start(engine, "noisy", "one")
        await until_told(notes, ("ended", "one"))
        await start(engine, "noisy", "two")
        await until_told(notes, ("ended", "one"), ("ended", "two"))


@proves("notify:once")
@pytest.mark.long
async def test_what_happened_before_the_command_was_set_is_not_told(
    folder: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    async with told_by(folder, "") as engine:
        await start(engine, "noisy", "before")
        await engine.reader.wait(["before"])
    kill_supervisor(folder)
    async with told_by(folder, appending(notes)) as engine:
        await engine.catalog()
        log = folder / ".dbos" / "logs" / "supervisor.log"
        assert log.exists()
        await start(engine, "noisy", "after")
        await until_told(notes, ("ended", "after"))


def examples() -> Sequence[str]:
    """The commands that the references give."""
    text = "\n".join(block.text for block in blocks.blocks("sh"))
    lines = [line for line in text.splitlines() if line.startswith(_EXPORT)]
    return [shlex.split(line)[1].partition("=")[2] for line in lines]


def test_there_are_examples() -> None:
    assert [shlex.split(one)[0] for one in examples()] == ["notify-send", "curl", "mail"]


@pytest.mark.parametrize("example", long(*examples()))
async def test_an_example_of_the_references_gets_what_happened_to_its_program(
    folder: Path, tmp_path: Path, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = shlex.split(example)[0]
    notes, programs = tmp_path / "notes", tmp_path / "bin"
    programs.mkdir()
    script = _STAND_IN.format(
        python=sys.executable, notes=os.fspath(notes), name=name, reads=name != "notify-send"
    )
    (programs / name).write_text(script, encoding="utf-8")
    (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CHAT_WEBHOOK", "http://127.0.0.1:9/hook")
    async with told_by(folder, example) as engine:
        await start(engine, "noisy", "one")
        await until(notes.exists, "the program was run")
        await until(lambda: notes.read_text(encoding="utf-8").endswith("\n"), "it is done")
    _, arguments, read = json.loads(notes.read_text(encoding="utf-8"))
    text = "one (noisy) has finished."
    assert text in arguments or json.loads(read)["text"] == text

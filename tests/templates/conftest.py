"""One project with all templates, for tests that kill nothing, and one whose agent is a command of the test's."""

import sys
from collections.abc import AsyncIterator

import pytest

from .projects import ALONE, Running, copy_template, new_folder, running

# The task is a list of replies, as JSON: one to the task itself, one to the first result, and so on.
_AGENT = """
import json, pathlib, sys
failure = pathlib.Path("fail-once")
if failure.exists():
    failure.unlink()
    sys.exit("out of order")
prompt = sys.stdin.read()
replies, _ = json.JSONDecoder().raw_decode(prompt.split("Task: ", 1)[1])
reply = replies[prompt.count("\\n\\nResult: ")]
print(reply if isinstance(reply, str) else json.dumps(reply))
"""


@pytest.fixture(scope="session")
async def templates(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Each template that needs no other libraries as it is, and beside it a copy with another name, `my_<template's first word>`; no model is set up."""
    folder = new_folder(tmp_path_factory)
    for stem in ALONE:
        copy_template(stem, folder)
        copy_template(stem, folder, f"my_{stem.split('_')[0]}")
    async with running(folder, {}) as project:
        yield project


@pytest.fixture(scope="session")
async def agent(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A project in which `agent_workflow` asks a command that replies as the task says."""
    folder = new_folder(tmp_path_factory)
    copy_template("agent_workflow", folder)
    script = folder / "agent.py"
    script.write_text(_AGENT, encoding="utf-8")
    async with running(folder, {"AGENT_COMMAND": f"{sys.executable} {script}"}) as project:
        yield project

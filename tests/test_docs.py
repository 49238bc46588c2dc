"""The documents are true: the README names what exists, its examples run, and the tables of the references match the code."""

import base64
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from urllib.parse import unquote

import anyio
import pytest

from documents import bundled, tables
from durable_workflows import content, errors
from durable_workflows.cli import app, clients
from durable_workflows.code.templates import template_entries
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.mcp import tools
from durable_workflows.models import RunSummary
from durable_workflows.settings import Settings
from helpers import until_found
from web import pictures

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DECISIONS = ROOT / "docs" / "decisions"
PAGES = [*sorted(DECISIONS.glob("*.md")), ROOT / "SECURITY.md"]  # that name files of the repository
PARTS = ["Context", "Decision", "What it costs", "What would change our mind"]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


def test_the_readme_names_only_tools_and_commands_that_there_are() -> None:
    kinds = {
        "Tools": {tool.function.__name__ for tool in tools.TOOLS},
        "Commands": {command.name for command in app.commands()},
        "Bundled workflows": set(bundled.entries()),
    }
    for kind, known in kinds.items():
        text = section("What you get").split(f"- **{kind}**")[1].split("\n- **")[0]
        named = {words.split()[0] for words in re.findall(r"`([^`]+)`", text)}
        assert named, kind
        assert named <= known, kind


def test_every_template_is_in_the_readme_and_nothing_else() -> None:
    rows = [line for line in section("What you get").splitlines() if line.startswith("| `")]
    names = [template.name for template in template_entries()]
    assert sorted(re.findall(r"^\| `(\w+)`", "\n".join(rows), re.MULTILINE)) == names


@pytest.mark.parametrize("document", tables.DOCUMENTS)
def test_the_tables_of_tools_commands_and_settings_are_those_of_the_code(document: str) -> None:
    text = (content.folder("references") / document).read_text(encoding="utf-8")
    assert tables.written(document, text) == text, "make docs"


def test_every_error_says_what_happened_and_what_to_do() -> None:
    tree = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        assert issubclass(kind, errors.DurableWorkflowsError)
        assert kind.__name__ in tree
        assert kind().message
        assert kind().hint


def test_the_readme_shows_all_pictures_that_are_kept_and_no_others() -> None:
    """Each in both themes, with words for who cannot see it, and small enough for a slow line."""
    shown = re.findall(
        r'srcset="([^"]+)-dark\.webp">\n  <img src="([^"]+)-light\.webp" alt="[^"]+">', README
    )
    assert shown
    assert all(dark == light for dark, light in shown)
    files = {f"{name}-{theme}.webp" for name, _ in shown for theme in ("dark", "light")}
    assert files == {str(path.relative_to(ROOT)) for path in pictures.PICTURES.iterdir()}
    for name in files:
        assert (ROOT / name).stat().st_size <= pictures.MOST_BYTES, "make screenshots"


def test_the_entries_of_the_readme_are_those_that_install_writes(tmp_path: Path) -> None:
    """Also those in the links of its buttons."""
    (text,) = blocks("Install", "json")
    shown = json.loads(text)["mcpServers"]["durable-workflows"]
    cursor, vscode = re.findall(r"\]\(https://\S+[?&]config=(\S+)\)", section("Install"))
    found = {
        "claude-code": {"type": "stdio", **shown},
        "cursor": json.loads(base64.b64decode(unquote(cursor))),
        "vscode": json.loads(unquote(vscode)),
    }
    settings = Settings(project=tmp_path)
    for client in clients.CLIENTS:
        if client.name in found:
            plan = clients.plan(client, settings, "durable-workflows", ["durable-workflows"])
            entries = json.loads(plan.text or "")[client.key]
            assert entries["durable-workflows"] == found[client.name], client.name


@pytest.mark.anyio
@pytest.mark.long
async def test_the_transcript_of_the_readme_is_what_happens(project: Project, folder: Path) -> None:
    """But for the time that a step takes: the second one ends with its process, or at once."""
    slow = "sleep(3)"
    (source,) = blocks("What it looks like", "python")
    assert source.count(slow) == 1
    killed = folder / "killed"
    stays = f"path == 'b.txt' and not Path({str(killed)!r}).exists()"
    write_workflow(folder, source.replace(slow, f"sleep(600 if {stays} else 0)"))
    engine = await project.engine()
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(name, encoding="utf-8")
    (transcript,) = blocks("What it looks like", "console")
    _, *parts = re.split(r"^\$ ", transcript, flags=re.MULTILINE)
    for part in parts:
        command, *shown = part.splitlines()
        if command.startswith("kill"):
            await until_found(lambda: second_step(engine), "the second step runs")
            worker = (await engine.reader.status()).workers[0]
            assert re.fullmatch(r"kill -9 \d+", command)
            killed.touch()
            os.kill(worker.pid, signal.SIGKILL)
            continue
        said = (await commanded(folder, command)).splitlines()
        lines = [one for one in map(without_values, said) if one in map(without_values, shown)]
        assert lines == [without_values(one) for one in shown], command


def without_values(line: str) -> str:
    """A line without its times, numbers of processes and versions, and the name of the machine."""
    line = re.sub(r"process \d+ on \S+, version \w+", "process 1 on laptop, version 1", line)
    return re.sub(r"^[-\d]+ [:\d]+ UTC", "now", line)


async def second_step(engine: Engine) -> bool:
    """Whether the log has the line with which the second step begins."""
    return "counting b.txt" in (
        await engine.pages.page("first", step=None, detail="log", cursor=None)
    )


@pytest.mark.anyio
@pytest.mark.long
async def test_the_waiting_workflow_of_the_readme_runs_with_its_commands(
    engine: Engine, folder: Path
) -> None:
    write_workflow(folder, blocks("Write a workflow", "python")[0])
    copying, commands = blocks("Write a workflow", "sh")
    for command in (copying + commands).strip().splitlines():
        if "send" in command:
            await until_found(lambda: waiting(engine), "the run waits")
        await commanded(folder, command)
    result = await engine.reader.wait(["hello"])
    assert result.done[0].output == "Hello, Ada"


def write_workflow(folder: Path, source: str) -> None:
    (folder / "workflows").mkdir()
    (folder / "workflows" / "readme.py").write_text(source, encoding="utf-8")


async def commanded(folder: Path, command: str) -> str:
    """The output of one of our commands."""
    words = [sys.executable, "-m", "durable_workflows", *shlex.split(command)[1:]]
    done = await anyio.run_process([*words, "--project", str(folder)])
    return done.stdout.decode()


async def waiting(engine: Engine) -> list[RunSummary]:
    return (await engine.reader.runs(waiting=True)).workflows


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_file_that_a_page_names_is_in_the_repository(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [
        word for word in re.findall(r"`([^`\s]+/[^`\s]*)`", text) if not word.startswith(".dbos/")
    ]
    linked = re.findall(r"\]\((?!https:)([^)#]+)\)", text)
    assert named or linked
    for path in [*(ROOT / one for one in named), *(page.parent / one for one in linked)]:
        assert path.exists(), path


def test_a_decision_is_in_the_index_and_has_its_four_parts() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    pages = sorted(set(DECISIONS.glob("*.md")) - {DECISIONS / "README.md"})
    assert sorted(re.findall(r"\((\S+\.md)\)", index)) == [page.name for page in pages]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS, page.name
        assert len(text.split()) < 550, page.name

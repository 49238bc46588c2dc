"""The references are true: their examples run, their commands and calls exist. What must be in them says `test_reference_coverage.py`.

A block of Python is a whole workflow file. `run=NAME` (with `args`, `output` where it is always the same, and where it waits `send`, `back` or `answer`) runs and is replayed;
`wrong=NAME` shows its harm when it is replayed (`replay=` an error, or `differs`), in the number of its `steps`, or in
the `lines` of its file after a `fork`; `wrong` alone is compiled. `rule` is what `checking` says of it. A block of JSON may name a tool: it is a call's arguments,
and with `run=ok` that start is made, answered as other blocks say, and must end well.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from documents import blocks, calls, tables
from documents.examples import Example, Played, examples, play, write_files
from durable_workflows.code.checks import checking
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.mcp.strict_tools import strict_tool
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.models import Run, Schema, StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import processes_of, until_found
from requirements import long

ROOT = Path(__file__).parents[1]
LONGEST_SECTION = 2500  # characters: search_docs returns single sections
RIGHT = [example for example in examples() if example.right]
WRONG = [example for example in examples() if not example.right]
STARTS = calls.to_be_made()


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine of a project that has all examples."""
    folder = (tmp_path_factory.mktemp("references") / "project").resolve()
    write_files(folder)
    project = Project(Settings(project=folder))
    yield await project.engine()
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    assert not processes_of(folder)


@pytest.fixture(scope="module")
async def played(engine: Engine) -> dict[str, Played]:
    """The outcomes of all examples."""
    return await play(engine, Path((await engine.reader.status()).project))


# The examples


@pytest.mark.anyio
@pytest.mark.parametrize("example", RIGHT, ids=str)
async def test_a_right_example_ends_as_it_says_and_so_does_its_replay(
    example: Example, played: dict[str, Played]
) -> None:
    found = played[example.name]
    output = example.option("output")
    expected = found.ended.output if output is None else json.loads(output)
    assert (found.ended.status, found.ended.output) == ("SUCCESS", expected), found.ended
    assert (found.replay.status, found.replay.output) == ("SUCCESS", expected), found.replay
    assert_facts(example, found)


@pytest.mark.anyio
@pytest.mark.parametrize("example", WRONG, ids=str)
async def test_a_wrong_example_goes_wrong_as_it_says(
    example: Example, played: dict[str, Played]
) -> None:
    found = played[example.name]
    assert found.ended.status == "SUCCESS", found.ended
    harm = example.option("replay")
    if harm == "differs":
        assert found.replay.status == "SUCCESS"
        assert found.replay.output != found.ended.output
    elif harm is not None:
        assert found.replay.status == "ERROR"
        assert harm in (found.replay.error or "")
    assert_facts(example, found)


@pytest.mark.anyio
async def test_a_schedule_starts_runs_at_its_times(
    engine: Engine, played: dict[str, Played]
) -> None:
    assert played["apply_schedules"].ended.output == ["nightly"]
    run = await until_found(lambda: a_scheduled_run(engine), "the schedule has started a run")
    assert run.workflow_id.startswith("sched-nightly-")
    reports = [step.output.text for step in run.steps if step.output is not None]
    assert [report.startswith('"a short report for ') for report in reports] == [True]
    shown = [(one.name, one.workflow) for one in (await engine.reader.status()).schedules]
    assert shown == [("nightly", "nightly_report")]
    removed = await engine.start(StartRequest(name="remove_schedules", args={"names": ["nightly"]}))
    assert (await engine.reader.wait([removed.workflow_id])).done[0].status == "SUCCESS"


async def a_scheduled_run(engine: Engine) -> Run | None:
    runs = (await engine.reader.runs(name="nightly_report", status="SUCCESS")).workflows
    return await engine.reader.run(runs[0].workflow_id) if runs else None


@pytest.mark.anyio
@pytest.mark.parametrize("block", [STARTS[0], *long(*STARTS[1:])], ids=str)
async def test_a_start_ends_well_when_it_is_answered_as_the_references_say(
    block: blocks.Block, engine: Engine
) -> None:
    ended = await calls.make(engine, block)
    assert ended.status == "SUCCESS", ended
    assert isinstance(ended.output, dict)
    assert ended.output.get("ok", True) is True, ended
    assert not ended.output.get("skipped"), ended


def assert_facts(example: Example, found: Played) -> None:
    """The further facts in an info string."""
    facts = {"steps": found.run.total_steps, "lines": found.file.count("\n")}
    for name, fact in facts.items():
        said = example.option(name)
        assert said is None or int(said) == fact, (name, said, fact)


def test_a_wrong_example_shows_its_harm_or_is_only_compiled() -> None:
    for example in WRONG:
        assert example.block.options.keys() & {"replay", "steps", "lines"}, example.block


@pytest.mark.parametrize("block", blocks.blocks("python"), ids=str)
def test_python_compiles_and_says_whether_it_is_right(block: blocks.Block) -> None:
    compile(block.text, str(block), "exec")
    assert {"run", "wrong"} & {*block.options, *block.words}


@pytest.mark.parametrize("block", blocks.blocks("python"), ids=str)
def test_what_looks_at_workflow_files_finds_what_is_wrong_and_nothing_else(
    block: blocks.Block,
) -> None:
    found = {finding.rule for finding in checking.check("workflows/example.py", block.text)}
    said = block.options.get("rule")
    assert found == ({said} if said else set())


def test_the_examples_are_as_well_written_as_our_own_code(tmp_path: Path) -> None:
    for number, block in enumerate(blocks.blocks("python")):
        (tmp_path / f"example_{number}.py").write_text(block.text, encoding="utf-8")
    rules = ["--isolated", "--select", "E,F,W,I,UP,B,SIM,ASYNC", "--ignore", "E501"]
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", *rules, tmp_path], check=True)
    subprocess.run(
        [*ruff, "format", "--isolated", "--check", "--line-length=100", tmp_path], check=True
    )


# Commands and calls


def command_lines() -> list[list[str]]:
    """Our commands in the blocks of shell code, as words without the first."""
    text = "\n".join(block.text.replace("\\\n", " ") for block in blocks.blocks("sh"))
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["durable-workflows"]]


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_a_command_line_is_one_of_ours(words: list[str]) -> None:
    command = tables.all_commands()[words[0]]
    command.make_context(words[0], words[1:])  # parses, and runs nothing


def schema(tool: str) -> Schema:
    return strict_tool(next(spec for spec in TOOLS if spec.function.__name__ == tool)).parameters


@pytest.mark.parametrize("block", blocks.blocks("json"), ids=str)
def test_json_can_be_read_and_fits_the_tool_that_it_is_for(block: blocks.Block) -> None:
    arguments = json.loads(block.text)
    for tool in block.words:
        Draft202012Validator(schema(tool)).validate(arguments)  # pyright: ignore[reportUnknownMemberType]


# The form of the documents


@pytest.mark.parametrize("document", blocks.DOCUMENTS, ids=lambda path: path.name)
def test_a_document_is_made_of_sections_that_stand_alone(document: Path) -> None:
    found = blocks.sections(document)
    titles = [section.title for section in found]
    assert len(titles) == len(set(titles))
    for section in found:
        assert len(section.text) < LONGEST_SECTION, section.title


@pytest.mark.parametrize("document", blocks.DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        linked = document.parent / name if name else document
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(document: Path) -> set[str]:
    """The anchors of a document's sections, as Markdown viewers make them."""
    titles = [section.title.lower().replace(" ", "-") for section in blocks.sections(document)]
    return {re.sub(r"[^\w-]", "", title) for title in titles}


def test_every_language_of_a_block_is_checked() -> None:
    found = {block.language for path in blocks.DOCUMENTS for block in blocks.blocks_of(path)}
    assert found <= {"python", "sh", "json", "toml", "yaml", "text"}


@pytest.mark.parametrize("block", blocks.blocks("yaml"), ids=str)
def test_the_hook_for_pre_commit_lets_helpers_pass_and_stops_what_is_wrong(
    block: blocks.Block, tmp_path: Path
) -> None:
    [repository] = yaml.safe_load(block.text)["repos"]
    [hook] = repository["hooks"]
    if repository["repo"] != "local":  # then its other fields are in the repository
        [offered] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
        assert hook == {"id": offered["id"]}
        hook = offered
    command = [str(Path(sys.executable).with_name("durable-workflows")), *hook["entry"].split()[1:]]
    (tmp_path / "workflows").mkdir()
    texts = {
        "helper.py": "def double(value: int) -> int:\n    return 2 * value\n",
        "hasty.py": "import time\nfrom dbos import DBOS\n@DBOS.workflow()\ndef hasty() -> float:\n    return time.time()\n",
    }
    outcomes: dict[str, int] = {}
    for name, text in texts.items():
        path = Path("workflows", name)
        (tmp_path / path).write_text(text, encoding="utf-8")
        assert re.search(hook["files"], str(path))
        done = subprocess.run([*command, path], cwd=tmp_path, capture_output=True, check=False)
        outcomes[name] = done.returncode
    assert outcomes == {"helper.py": 0, "hasty.py": 1}

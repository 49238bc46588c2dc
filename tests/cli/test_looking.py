"""Commands that show runs and workflows, and commands that do many things at once."""

import json
import re
import shlex
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from durable_workflows.cli import dashboard
from durable_workflows.engine.engine import Engine
from durable_workflows.models import LogLine, Overview, RunLine, StartRequest
from helpers import log_of, until_found

from .command import begin, run, succeed

pytestmark = pytest.mark.anyio


def read(*arguments: str, folder: Path) -> Any:
    """The JSON that a command prints."""
    return json.loads(succeed(*arguments, "--json", folder=folder))


async def begun(runs: Engine, name: str, /, **args: Any) -> str:
    """Start a run; return its id."""
    started = await runs.start(StartRequest(name=name, args=args))
    return started.workflow_id


# logs


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.long
async def test_the_log_of_a_run_is_followed_until_it_has_ended(
    running: Path, runs: Engine, as_json: bool
) -> None:
    own = await begun(runs, "in_its_own_time", name="soup")
    flags = ["--json"] if as_json else []
    with begin("logs", own, "-f", *flags, folder=running) as command:
        assert command.stdout is not None
        first = next(line for line in command.stdout if "preparing soup" in line)
        assert not as_json or json.loads(first)["text"] == "preparing soup"
        assert command.poll() is None
        await runs.send(own, "go", 1)
        rest = command.stdout.read()
    assert command.wait() == 0
    assert "preparing soup" not in rest, "each line once"
    assert len(read("logs", own, folder=running)) == len([first, *rest.splitlines()])


async def test_a_log_has_its_newest_lines(running: Path, runs: Engine) -> None:
    own = await begun(runs, "chatters", lines=30)
    await runs.reader.wait([own])
    await log_of(runs, own, count=30)
    followed = succeed("logs", own, "--follow", "--lines", "2", folder=running).splitlines()
    assert [line.split()[-1] for line in followed] == ["28", "29"]
    shown = succeed("logs", own, "--lines", "1", folder=running)
    assert re.fullmatch(r"[-\d]+ [:\d]+ UTC  workflow  out     chatter 29\n", shown)


# inspect


@pytest.mark.long
async def test_inspect_shows_one_thing_of_a_run_also_as_json(running: Path, runs: Engine) -> None:
    own = await begun(runs, "collect", topic="t", count=1)
    await runs.send(own, "t", {"a": 1})
    await runs.reader.wait([own])
    assert "# Runs started by" in succeed("inspect", own, "--tree", folder=running)
    assert read("inspect", own, "--tree", folder=running) == []
    assert "1. topic 't'" in succeed("inspect", own, "--messages", folder=running)
    [message] = read("inspect", own, "--messages", folder=running)
    assert message["message"]["text"] == '{"a":1}'
    assert "def collect(" in succeed("inspect", own, "--source", folder=running)
    assert read("inspect", own, "--source", folder=running)["path"] == "workflows/messages.py"
    assert read("inspect", own, "--detail", "log", folder=running) == []
    both = run("inspect", own, "--tree", "--source", folder=running)
    assert (both.status, "Give one of --detail, --tree" in both.errors) == (2, True)


# wait, start


async def test_wait_prints_what_came_of_runs(running: Path, runs: Engine) -> None:
    long, short = await begun(runs, "chatters", lines=0), await begun(runs, "noisy")
    assert succeed("wait", short, folder=running) == f'{short}  SUCCESS  "said"\n'
    lines = succeed("wait", long, short, folder=running).splitlines()
    assert lines == [f"{long}  SUCCESS  null", f'{short}  SUCCESS  "said"']


@pytest.mark.long
async def test_a_batch_is_started_as_a_whole_or_not_at_all(running: Path, tmp_path: Path) -> None:
    file = tmp_path / "batch.json"
    ids = [uuid.uuid4().hex for _ in range(3)]
    starts = [{"name": "noisy", "workflow_id": own} for own in ids]
    file.write_text(json.dumps(starts), encoding="utf-8")
    shown = succeed("start", "--batch", str(file), "--wait", folder=running)
    assert shown.splitlines() == [f'{own}  SUCCESS  "said"' for own in ids]
    again = read("start", "--batch", str(file), folder=running)
    assert [(one["workflow_id"], one["existing"]) for one in again] == [(own, True) for own in ids]
    file.write_text(json.dumps([{"name": "noisy"}, {"name": "nosy"}]), encoding="utf-8")
    refused = run("start", "--batch", str(file), folder=running)
    assert refused.status == 1
    assert "batch[1]: There is no workflow 'nosy'" in refused.errors


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("[{]", [], "is no list of starts"),
        ('[{"nam": "noisy"}]', [], "is no list of starts: 0.name: Field required."),
        ("[]", ["noisy"], "With --batch, all else stands in its file."),
        ("[]", ["--id", "x"], "With --batch, all else stands in its file."),
        (None, [], "cannot be read"),
    ],
)
def test_a_batch_that_is_none_is_wrong_usage(
    text: str | None, arguments: list[str], said: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "batch.json").write_text(text, encoding="utf-8")
    result = run("start", "--batch", "batch.json", *arguments, folder=tmp_path)
    assert (result.status, result.output) == (2, "")
    assert said in result.errors.splitlines()[-1]


# catalog, write


@pytest.mark.long
def test_the_catalog_lists_what_can_be_started_and_shows_one_with_its_arguments(
    running: Path,
) -> None:
    whole = succeed("catalog", folder=running)
    assert re.search(r"^in_its_own_time +Prepare, perhaps ask a person, finish\.$", whole, re.M)
    assert "ask_twice" in succeed("catalog", "ask_", folder=running)
    result = run("catalog", "wait_for", folder=running)
    assert '"topic"' in result.output
    assert re.search("^file +workflows/messages.py$", result.output, re.M)
    [command] = re.findall("Start it: (durable-workflows start .*)", result.errors)
    assert shlex.split(command)[2:] == ["wait_for", "--args", '{"topic": "…"}']
    assert not re.search("^once", result.output, re.M)
    once = succeed("catalog", "effects_pays", folder=running)
    assert re.search("^once +effect_pay, effect_pay_async, ", once, re.M)
    found = read("catalog", "wait_for", folder=running)
    assert "wait_for" in [one["name"] for one in found["workflows"]]
    assert succeed("catalog", "no such thing", folder=running) == "No workflows match.\n"


@pytest.mark.long
def test_a_file_is_written_checked_and_loaded(running: Path, tmp_path: Path) -> None:
    draft = tmp_path / "draft.py"
    draft.write_text(
        "from dbos import DBOS\nimport time\n\n\n@DBOS.workflow()\ndef drafted() -> float:\n    return time.time()\n",
        encoding="utf-8",
    )
    shown = succeed("write", "drafted_flow", str(draft), folder=running)
    assert shown.splitlines()[0] == "workflows/drafted_flow.py"
    assert "time.time()" in shown
    assert shown.endswith("Can be started: drafted\n")
    again = run("write", "drafted_flow", str(draft), folder=running)
    assert (again.status, "already exists" in again.errors) == (1, True)
    draft.write_text("import no_such_library\nfrom dbos import DBOS\n\n\n@DBOS.workflow()\ndef drafted() -> None: ...\n", encoding="utf-8")  # fmt: skip
    broken = run("write", "drafted_flow", str(draft), "--overwrite", folder=running)
    assert broken.status == 1
    assert "No module named 'no_such_library'" in broken.output
    catalog = succeed("catalog", "drafted", folder=running)
    assert "It cannot be started" in catalog
    (running / "workflows" / "drafted_flow.py").unlink()


# The dashboard


async def test_the_dashboard_says_when_a_run_goes_on_that_retries_or_sleeps(
    running: Path, runs: Engine
) -> None:
    tries, sleeps = await begun(runs, "tries_again"), await begun(runs, "sleeps_long")

    async def both() -> bool:
        doing = (await runs.reader.overview()).doing
        return "attempt 1 of 3 failed" in doing.get(tries, "") and sleeps in doing

    await until_found(both, "one waits for its next attempt, the other sleeps")
    lines = succeed("dashboard", folder=running).splitlines()
    [of_tries] = [line for line in lines if line.startswith(tries)]
    assert re.search(
        r"step 1 never_works \(attempt 1 of 3 failed, the next at .* UTC: .*the shop is closed",
        of_tries,
    )
    [of_sleeps] = [line for line in lines if line.startswith(sleeps)]
    assert re.search(r"sleeps until [-\d]+ [:\d]+ UTC$", of_sleeps)
    await runs.cancel([tries, sleeps])


async def test_the_newest_lines_are_of_all_runs_that_print_however_much_one_does(
    running: Path, runs: Engine
) -> None:
    quiet = await begun(runs, "noisy")
    await runs.reader.wait([quiet])
    loud = await begun(runs, "chatters", lines=600)
    await runs.reader.wait([loud])

    async def said() -> list[str]:
        lines = await runs.reader.newest_lines(limit=1000, of_one=20)
        return [one.workflow_id for one in lines]

    async def twenty() -> bool:
        return (await said()).count(loud) == 20

    await until_found(twenty, "the last lines of the run are there")
    assert quiet in await said()


def test_the_log_of_the_dashboard_shares_its_room_among_runs() -> None:
    now = datetime.now(UTC)
    said = [
        RunLine(
            workflow_id=own,
            line=LogLine(id=place, at=now, step=None, stream="out", text=f"{own} {place}"),
        )
        for place, own in enumerate(["quiet", "shy", *["loud"] * 50, "quiet"])
    ]
    overview = Overview(counts={}, newest=[], waiting=[], queues=[], workers=[])
    lines = dashboard.overview_lines(overview, said, width=80, height=10)
    texts = [line.text.split("  ")[1] for line in lines[4:]]
    assert texts == ["quiet 0", "shy 1", "loud 49", "loud 50", "loud 51", "quiet 52"]
    assert len(dashboard.overview_lines(overview, said, width=None)) == 4 + len(said)

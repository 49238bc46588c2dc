"""`export` and `import`: what they ask, say and refuse."""

import json
import stat
from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from requirements import proves

from .command import run, succeed

pytestmark = pytest.mark.anyio


@pytest.mark.long
@proves("carry:not-twice")
async def test_a_run_that_has_not_ended_is_exported_with_cancel_or_copy_only(
    running: Path, runs: Engine, tmp_path: Path
) -> None:
    await runs.start(StartRequest(name="wait_for", args={"topic": "t"}, workflow_id="taken"))
    file = tmp_path / "run.gz"
    refused = run("export", "taken", str(file), folder=running)
    assert (refused.status, refused.output) == (1, "")
    assert (
        "taken has not ended: it would go on here and where the file is imported" in refused.errors
    )
    assert "--cancel" in refused.errors
    both = run("export", "taken", str(file), "--cancel", "--copy", folder=running)
    assert both.status == 2
    copied = succeed("export", "taken", str(file), "--copy", folder=running)
    assert "1 run that had not ended goes on here, and will go on where it is imported." in copied
    moved = succeed("export", "taken", f"{file}-2", "--cancel", "--json", folder=running)
    told = json.loads(moved)
    assert (told["runs"], told["unfinished"], told["cancelled"]) == (1, 1, True)
    assert (await runs.reader.run("taken")).status == "CANCELLED"
    asked = run("import", str(file), "--yes", folder=running)
    assert "its remaining steps run in both projects" in asked.errors
    assert "taken is already here (CANCELLED): nothing was imported." in asked.output


@pytest.mark.long
@proves("carry:whole")
async def test_an_import_says_what_is_in_the_file_and_asks_first(
    running: Path, runs: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "run.gz"
    await runs.start(StartRequest(name="talk", args={"lines": 2}, workflow_id="back"))
    await runs.reader.wait(["back"], timeout_seconds=30)
    assert "Exported 1 run to" in succeed("export", "back", str(file), folder=running)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await runs.delete(["back"])
    unasked = run("import", str(file), folder=running)
    assert unasked.status == 2
    assert "back (talk): 1 run, 0 of them unfinished, with" in unasked.errors
    assert "The code in the file will run as you." in unasked.errors
    assert "With --yes it does not ask." in unasked.errors
    assert "Imported back: 1 run." in succeed("import", str(file), "--yes", folder=running)
    assert (await runs.reader.run("back")).status == "SUCCESS"


@pytest.mark.long
def test_what_is_no_export_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    result = run("import", "notes.txt", "--yes", folder=tmp_path)
    assert result.status == 1
    assert "notes.txt is damaged, or no export of a run." in result.errors
    assert not (tmp_path / ".dbos").exists()
    none = run("import", "none.gz", folder=tmp_path)
    assert none.status == 1
    assert "There is no file" in none.errors

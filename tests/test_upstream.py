"""The patches that are offered to dbos fit the installed version, and do what our own code for the same does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dbos
import pytest

ROOT = Path(__file__).parents[1]
PATCH = ROOT / "docs" / "upstream" / "one-statement-per-step.patch"


@pytest.mark.long
def test_a_step_is_two_statements_in_a_patched_dbos_too(tmp_path: Path) -> None:
    shutil.copytree(Path(dbos.__file__).parent, tmp_path / "dbos")
    subprocess.run(["git", "apply", str(PATCH)], cwd=tmp_path, check=True)
    comparison = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/test_step_statements.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert comparison.returncode == 0, comparison.stdout

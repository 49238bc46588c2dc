"""How our processes begin."""

import subprocess
import sys
from pathlib import Path

_MODULE = """
import gc
import sys
at_import = gc.isenabled()
def main():
    print(at_import, gc.isenabled(), gc.get_freeze_count() > 1000, sys.argv[1:])
"""


def test_a_process_is_not_disturbed_by_the_garbage_collector_while_it_imports(
    tmp_path: Path,
) -> None:
    (tmp_path / "begun.py").write_text(_MODULE, encoding="utf-8")
    command = [sys.executable, "-m", "durable_workflows.entry", "begun", "--first", "second"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False True True ['--first', 'second']"

"""A process namespace of one's own, for tests of what may end processes: whatever goes wrong there, it can end no others."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_ISOLATED = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@cache
def _why_not() -> str:
    try:
        tried = subprocess.run([*_ISOLATED, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no unshare here"
    return tried.stderr.strip() if tried.returncode else ""


def run_isolated(source: str, *arguments: str, seconds: float = 60.0) -> str:
    """Run Python source in a process namespace of its own and return what it printed; all its processes end with it."""
    if reason := _why_not():
        pytest.skip(f"no process namespace can be made: {reason}")
    found = f"import sys; sys.path.insert(0, {str(_TESTS)!r})\n"  # what the tests share
    done = subprocess.run(
        [*_ISOLATED, sys.executable, "-c", found + source, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

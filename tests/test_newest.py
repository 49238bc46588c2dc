"""`make try-newest` says what breaks, and ends with a plain message where nothing can be fetched."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "newest.py"
NOWHERE = "http://127.0.0.1:9/"  # nothing listens there
REPORT = """<testsuites><testsuite>
  <testcase classname="tests.test_one" name="test_passes@/tmp/x/tests/test_one.py"/>
  <testcase classname="tests.test_one" name="test_breaks[a]@/tmp/x/tests/test_one.py"><failure message="AssertionError: gone&#10;more"/></testcase>
  <testcase classname="tests.test_one" name="test_is_skipped"><skipped/></testcase>
  <testcase classname="" name="tests.test_two"><error message="collection failure"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def newest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("newest", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["newest"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_each_broken_test_is_a_line_with_its_message(newest: ModuleType) -> None:
    found = newest.outcome(REPORT)
    assert found.passed == 1
    assert found.broken == [
        "tests.test_one::test_breaks[a]: AssertionError: gone",
        "::tests.test_two: collection failure",
    ]


def test_the_list_says_which_version_was_tried(newest: ModuleType) -> None:
    before = {"dbos": "3.4.0", "httpx2": "2.16.0", "rich": "14.0"}
    after = {"dbos": "3.5.1", "httpx2": "2.17.0", "rich": "14.0"}
    assert newest.moves("dbos", before, after) == "dbos 3.4.0 → 3.5.1"
    assert newest.moves("dbos", before, before) == "dbos 3.4.0, still the newest"
    assert newest.moves("others", before, after) == "httpx2 2.16.0 → 2.17.0"
    assert newest.moves("others", before, before) == "nothing newer"


def test_the_tests_that_are_tried_are_there(newest: ModuleType) -> None:
    named = [path for subject in newest.SUBJECTS.values() for path in subject.tests]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.long
def test_without_a_network_it_ends_with_a_plain_message() -> None:
    environment = os.environ | {"npm_config_registry": NOWHERE}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--only", "pglite"],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
    )
    assert done.returncode == 2
    assert done.stdout.startswith("The newest versions were not tried: `")
    assert "is there a network?" in done.stdout
    assert done.stderr == ""

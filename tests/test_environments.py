"""Environments of workflow code: made by uv from wheels of this test's own, without a network."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from durable_workflows.code.environments import Prepared, check_interpreter, prepare
from durable_workflows.code.needs import Need, needs
from durable_workflows.content import package_version
from durable_workflows.errors import SetupError
from durable_workflows.settings import Settings
from durable_workflows.system.locks import is_held
from helpers import until_found
from wheels import make_wheel

pytestmark = pytest.mark.anyio

WORKFLOW = "from dbos import DBOS\n\n\n@DBOS.workflow()\ndef flow() -> None: ...\n"
PREPARE = """
import sys
from pathlib import Path
from durable_workflows.code.environments import prepare
from durable_workflows.settings import Settings
project = Path(sys.argv[1])
files = {"workflows/flow.py": (project / "flow.py").read_bytes()}
prepared = prepare(Settings(project=project, cache=project / "cache"), files, lambda line: print(line, flush=True))
print(prepared.python)
"""


def workflow(*dependencies: str, requires_python: str | None = None) -> bytes:
    lines = [f"dependencies = {json.dumps(dependencies)}"]
    if requires_python is not None:
        lines.append(f"requires-python = {json.dumps(requires_python)}")
    return script(*lines)


def script(*lines: str) -> bytes:
    block = "".join(f"# {line}\n" for line in lines)
    return f"# /// script\n{block}# ///\n{WORKFLOW}".encode()


@dataclass
class Site:
    """A project with a cache of its own, and what the preparations for it said."""

    project: Path
    said: list[str] = field(default_factory=list[str])

    @property
    def settings(self) -> Settings:
        return Settings(project=self.project, cache=self.project / "cache")

    @property
    def environments(self) -> list[Path]:
        return sorted(self.project.glob("cache/environments/*/"))

    def prepare(self, **files: bytes) -> Prepared:
        self.said.clear()
        named = {f"workflows/{name}.py": data for name, data in files.items()}
        return prepare(self.settings, named, self.said.append)

    def process(self, content: bytes) -> "subprocess.Popen[str]":
        """Another process that prepares for a file of this content, and prints its progress and the interpreter."""
        (self.project / "flow.py").write_bytes(content)
        command = [sys.executable, "-P", "-c", PREPARE, str(self.project)]
        return subprocess.Popen(
            command,
            env=self.settings.as_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A project for which uv finds some wheels in a folder, and no network."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "tiny", "1.0")
    make_wheel(wheels, "tiny", "2.0")
    make_wheel(wheels, "small")
    make_wheel(wheels, "modern", requires=["tiny>=2"])
    make_wheel(wheels, "ancient", requires=["dbos<3"])
    make_wheel(wheels, "plugin", requires=["durable-workflows", "small"])
    make_wheel(wheels, "hiding", module="dbos")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    project = tmp_path / "project"
    project.mkdir()
    return Site(project)


@pytest.fixture
def silent_index() -> Iterator[str]:
    """An index that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple"


def output(prepared: Prepared, *command: str) -> str:
    done = subprocess.run(
        command, env=prepared.environment, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_metadata_of_workflow_files_says_what_they_need() -> None:
    files = {
        "workflows/with.py": workflow("tiny>=1", "small", requires_python=">=3.11"),
        "workflows/windows.py": workflow("tiny").replace(b"\n", b"\r\n"),
        "workflows/without.py": WORKFLOW.encode(),
        "workflows/other.py": b'# /// other\n# dependencies = ["no"]\n# ///\n' + WORKFLOW.encode(),
        "workflows/helper.py": workflow("tiny").replace(b"@DBOS.workflow()", b""),
        "_bundled/bundled.py": script('[tool.uv]\n# index-url = "ignored"'),
    }
    found, errors = needs(files)
    assert found == [
        Need("workflows/windows.py", None, ("tiny",)),
        Need("workflows/with.py", ">=3.11", ("tiny>=1", "small")),
        Need("_bundled/bundled.py", None, ()),
    ]
    assert not errors


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (script("dependencies = ["), "Invalid value"),
        (script('dependencies = "httpx"'), "dependencies: Input should be a valid"),
        (script("dependencies = [1]"), "dependencies.0: Input should be a valid string"),
        (script('dependencies = ["httpx >>1"]'), "'httpx >>1' is not a requirement"),
        (script('requires-python = "three"'), "Invalid specifier: 'three'"),
        (workflow() + workflow(), "more than one `# /// script` block"),
    ],
)
def test_malformed_metadata_is_an_error_of_its_file_only(content: bytes, complaint: str) -> None:
    found, errors = needs({"workflows/bad.py": content, "workflows/good.py": workflow("tiny")})
    assert [need.path for need in found] == ["workflows/good.py"]
    assert list(errors) == ["workflows/bad.py"]
    assert complaint in errors["workflows/bad.py"]
    assert "\n" not in errors["workflows/bad.py"]


def test_without_needs_and_where_all_are_met_here_nothing_is_made(place: Site) -> None:
    met = workflow(
        "DBOS>=3",
        "psycopg[binary]",
        "durable_workflows",
        "durable-workflows @ git+https://example.org/x",
        "nowhere; sys_platform == 'never'",
    )
    expected = Prepared(Path(sys.executable), place.settings.as_environment(), {})
    assert place.prepare() == expected
    assert place.prepare(plain=WORKFLOW.encode()) == expected
    assert place.prepare(met=met) == expected
    assert not place.said
    assert not (place.project / "cache").exists()


@pytest.mark.parametrize("requirement", ["pydantic[email]", "pytest>=1000"])
def test_what_is_installed_without_the_extra_or_in_another_version_does_not_count(
    place: Site, requirement: str
) -> None:
    errors = place.prepare(flow=workflow(requirement)).errors
    assert f"you require {requirement}" in errors["workflows/flow.py"]


@pytest.mark.long
def test_an_environment_has_what_is_required_beside_what_the_worker_needs(place: Site) -> None:
    prepared = place.prepare(flow=workflow("tiny<2", "plugin", "dbos"))
    assert not prepared.errors
    code = (
        "import durable_workflows.host.worker, dbos, psycopg, tiny, small; from importlib.metadata import version;"
        "print(tiny.VERSION, version('dbos'), version('durable-workflows'))"
    )
    expected = f"1.0 {version('dbos')} {package_version()}"
    assert output(prepared, str(prepared.python), "-P", "-c", code) == expected
    assert output(prepared, "tiny") == "1.0"
    where = output(prepared, "python", "-c", "import sys; print(sys.executable)")
    assert where == str(prepared.python)
    assert "for workflows/flow.py" in place.said[0]
    assert "(plugin, tiny)" in place.said[0]
    assert any(line.startswith("Resolved") for line in place.said)
    assert place.said[-1].startswith("The environment is ready after")


def test_an_environment_is_made_once_and_then_found(place: Site) -> None:
    first = place.prepare(flow=workflow("tiny"))
    again = place.prepare(renamed=workflow("tiny"), plain=WORKFLOW.encode())
    assert first == again
    assert not place.said
    other = place.prepare(flow=workflow("tiny<2"))
    assert other.python != first.python


def test_two_processes_make_an_environment_once(place: Site) -> None:
    both = [place.process(workflow("tiny")) for _ in range(2)]
    printed = [process.communicate()[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(lines[0].split()[0] for lines in printed if len(lines) > 1) == ["Installing"]
    assert len({lines[-1] for lines in printed}) == 1
    assert Path(printed[0][-1]).is_relative_to(place.project)


@pytest.mark.long
async def test_one_that_a_killed_process_left_half_made_is_made_anew(
    place: Site, silent_index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as slow:
        slow.delenv("UV_OFFLINE")
        slow.setenv("UV_DEFAULT_INDEX", silent_index)
        process = place.process(workflow("tiny"))
    installing = await until_found(partial(installer, process.pid), "uv installs")
    process.kill()
    process.communicate()
    (lock,) = place.project.glob("cache/environments/*.lock")
    assert is_held(lock), "uv still writes to the folder"
    installing.kill()
    prepared = place.prepare(flow=workflow("tiny"))
    assert place.said[0].startswith("Installing")
    assert output(prepared, "tiny") == "2.0"


async def installer(pid: int) -> psutil.Process | None:
    """The uv of that process that installs libraries, once it is there."""
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            if "pip" in child.cmdline():
                return child
    return None


@pytest.mark.long
def test_one_whose_interpreter_is_gone_is_made_anew(place: Site) -> None:
    prepared = place.prepare(flow=workflow("tiny"))
    prepared.python.unlink()
    prepared.python.symlink_to("/nowhere/python3")
    assert place.prepare(flow=workflow("tiny")) == prepared
    assert output(prepared, "tiny") == "2.0"


@pytest.mark.long
def test_of_two_files_in_conflict_the_later_one_gets_the_error(place: Site) -> None:
    prepared = place.prepare(
        a=workflow("small"), b=workflow("tiny<2"), c=workflow("modern"), d=workflow("plugin")
    )
    assert list(prepared.errors) == ["workflows/c.py"]
    error = prepared.errors["workflows/c.py"]
    assert "all versions of modern depend on tiny>=2" in error
    assert "you require tiny<2" in error
    assert error.endswith("share one environment, here with what workflows/b.py requires.")
    code = "import small, tiny, plugin; print(tiny.VERSION)"
    assert output(prepared, str(prepared.python), "-P", "-c", code) == "1.0"


def test_a_file_whose_needs_are_met_here_works_when_another_ones_are_not(place: Site) -> None:
    prepared = place.prepare(a=workflow("nowhere"), b=workflow("pytest"))
    assert prepared.python == Path(sys.executable)
    assert list(prepared.errors) == ["workflows/a.py"]
    error = prepared.errors["workflows/a.py"].splitlines()[0]
    assert error.endswith(": Because nowhere was not found in the cache and you require nowhere.")
    assert "hint:" not in prepared.errors["workflows/a.py"]
    assert place.environments == []


def test_what_only_this_installation_happens_to_have_is_part_of_a_conflict(place: Site) -> None:
    wheels = place.project.parent / "wheels"
    make_wheel(wheels, "iniconfig", "0.1")
    make_wheel(wheels, "behind", requires=["iniconfig<1"])
    prepared = place.prepare(a=workflow("iniconfig>=1"), b=workflow("behind"))
    assert list(prepared.errors) == ["workflows/b.py"]
    assert len(place.said) == 1, "what was refused is not tried again"


def test_what_the_worker_needs_is_not_replaced(place: Site) -> None:
    errors = place.prepare(a=workflow("dbos<3"), b=workflow("ancient")).errors
    ours = f"dbos {version('dbos')}"
    assert f"It requires dbos<3, but the worker itself needs {ours}" in errors["workflows/a.py"]
    assert "ancient depend on dbos<3" in errors["workflows/b.py"]
    assert f"The worker itself runs on {ours}" in errors["workflows/b.py"]


def test_libraries_with_which_the_worker_cannot_start_are_refused(place: Site) -> None:
    prepared = place.prepare(a=workflow("hiding"), b=workflow("small"))
    assert list(prepared.errors) == ["workflows/a.py"]
    assert "worker itself does not start" in prepared.errors["workflows/a.py"]
    assert "cannot import name" in prepared.errors["workflows/a.py"]
    assert len(place.environments) == 1


def test_another_python_than_ours_is_not_to_be_had(place: Site) -> None:
    ours = sys.version.split()[0]
    prepared = place.prepare(
        new=workflow(requires_python=">=3.99"), old=workflow(requires_python=">=3.8")
    )
    assert list(prepared.errors) == ["workflows/new.py"]
    assert f"requires Python >=3.99, but workers run on Python {ours}" in str(prepared.errors)
    assert "--python" in str(prepared.errors)


@pytest.mark.long
def test_an_unreachable_index_is_named_without_its_password(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://elsewhere")
    secret = f"far @ http://me:secret@127.0.0.1:{port}/far-1.0-py3-none-any.whl"
    near = f"tiny @ file://{place.project.parent}/wheels/tiny-1.0-py3-none-any.whl"
    prepared = place.prepare(a=workflow(secret), b=workflow(near))
    assert output(prepared, "tiny") == "1.0"
    assert list(prepared.errors) == ["workflows/a.py"]
    error = prepared.errors["workflows/a.py"]
    assert error.startswith("The package index cannot be reached:")
    assert "HTTPS_PROXY" in error
    assert "set UV_DEFAULT_INDEX" in error
    alone = place.prepare(a=workflow(secret))
    assert "Connection refused" in alone.errors["workflows/a.py"]
    assert "secret" not in f"{prepared.errors} {alone.errors} {place.said}"


def test_passwords_in_the_metadata_are_not_in_its_errors(place: Site) -> None:
    clash = workflow("dbos @ https://me:secret@example.org/dbos.whl")
    malformed = workflow("far @ https://me:secret@example.org/far.whl; never")
    errors = place.prepare(a=clash, b=malformed).errors
    assert len(errors) == 2
    assert "example.org" in errors["workflows/a.py"]
    assert "example.org" in errors["workflows/b.py"]
    assert "secret" not in str(errors)


def test_uv_is_ended_when_its_time_is_over(
    place: Site, silent_index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_workflows.code.environments._LIMIT_SECONDS", 1.5)
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_DEFAULT_INDEX", silent_index)
    began = time.monotonic()
    errors = place.prepare(flow=workflow("nowhere")).errors
    assert "uv was stopped: it took longer than" in errors["workflows/flow.py"]
    assert time.monotonic() - began < 20  # uv itself would wait for minutes
    assert not [child for child in psutil.Process().children() if child.name() == "uv"]


@pytest.mark.long
def test_an_environment_that_nobody_has_used_for_long_is_removed(place: Site) -> None:
    old = place.prepare(flow=workflow("tiny"))
    used = place.prepare(flow=workflow("tiny<2"))
    running = place.prepare(flow=workflow("small"))
    long_ago = time.time() - 61 * 86400
    for marker in place.project.glob("cache/environments/*/ready"):
        os.utime(marker, (long_ago, long_ago))
    place.prepare(flow=workflow("tiny<2"))
    with subprocess.Popen([running.python, "-P", "-c", "input()"], stdin=subprocess.PIPE) as worker:
        new = place.prepare(flow=workflow("plugin"))
        worker.communicate(b"\n")
    kept = [prepared.python.exists() for prepared in (old, used, running, new)]
    assert kept == [False, True, True, True]


def test_our_own_interpreter_can_run_workers() -> None:
    check_interpreter(Path(sys.executable))


def interpreter(folder: Path, text: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_an_interpreter_that_cannot_run_workers_is_refused_with_the_reason(
    tmp_path: Path, place: Site
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place.project], check=True)
    bare = place.project / "bin" / "python"
    complaints: Mapping[Path, tuple[str, str]] = {
        tmp_path / "nowhere": ("cannot be run as a Python interpreter", "Name another"),
        bare: ("No module named 'durable_workflows'", f"{bare} -m pip install "),
    }
    for python, (message, hint) in complaints.items():
        with pytest.raises(SetupError, match=message) as caught:
            check_interpreter(python)
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("prints", "message"),
    [
        ("echo 3.10.13", r"is Python 3\.10\.13, but workers need 3\.11 or newer"),
        ("echo Welcome", "is not a Python interpreter"),
        ('test "$1" = -c && echo 3.12.1 || echo 0.0.1', r"has durable-workflows 0\.0\.1, but"),
    ],
)
def test_an_interpreter_with_other_versions_is_refused(
    tmp_path: Path, prints: str, message: str
) -> None:
    with pytest.raises(SetupError, match=message):
        check_interpreter(interpreter(tmp_path, prints))

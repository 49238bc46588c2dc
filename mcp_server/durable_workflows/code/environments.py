"""The environment in which a version of workflow code runs: with the libraries that its files name in their script metadata (PEP 723).

All files of a version share one environment, beside which the libraries of this installation stay visible. If these suffice,
no environment is made. Otherwise uv makes one, once per user and set of requirements, and the worker runs with its interpreter.
The libraries of the worker itself are never replaced by another version. A file whose requirements cannot be met gets an error, and the
others work.

Of the metadata only `dependencies` and `requires-python` count; `[tool.uv]` and the project's pyproject.toml do not: a version is its
files. uv's own settings (UV_* variables, its user configuration) count, since they say where libraries come from. A requirement that
leaves the version open gets the version that was newest when the environment was made.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Timer

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from durable_workflows import content, wording
from durable_workflows.code.needs import OURS, Need, applicable, fits, needs, own_libraries, unmet
from durable_workflows.errors import PythonUnusable
from durable_workflows.settings import Settings
from durable_workflows.system.locks import Lock, LockHeld, held_lock
from durable_workflows.system.trees import sync_tree

_OLDEST_PYTHON = (3, 11)
_LIMIT_SECONDS = 600.0  # for all that uv does for one version
_PROBE_SECONDS = 60.0
_UNUSED_SECONDS = 60 * 86400.0
_HEAD_CHARACTERS = 400  # of uv's output when it fails: a failed build prints thousands of lines
_TAIL_CHARACTERS = 800
_NAMES_SHOWN = 4
_COLUMNS = "10000"  # uv wraps its sentences to the width of a terminal

_TELLING = re.compile(r"Resolved|Downloading|Building|Prepared|Installed")
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@")
_UNREACHABLE = ("error sending request", "network was disabled", "Network connectivity is disabled")
_DISTRUSTED = "invalid peer certificate"
_VERSION_PROBE = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
_PROBE = "import durable_workflows.host.worker, durable_workflows.content as c; print(c.package_version())"
_NAME_ANOTHER = "Name another interpreter with --python, or omit the setting."

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """The environment of a version's code: the interpreter, and the variables of its process.

    It also has the reasons, by path, why files cannot run there.
    """

    python: Path
    environment: Mapping[str, str] = field(repr=False)
    errors: Mapping[str, str]


class _Refused(Exception):
    """Requirements cannot be met; the text says why."""

    def __init__(self, text: str, *, unreachable: bool = False) -> None:
        super().__init__(text)
        self.unreachable = unreachable


def prepare(settings: Settings, files: Mapping[str, bytes], progress: Progress) -> Prepared:
    """Find or make the environment for a version's files. It blocks, for minutes if much must be downloaded.

    If there are no requirements, or all are met here, it is the environment of this process.
    """
    asked, errors = needs(files)
    maker = _Maker(settings, lambda line: progress(_without_secrets(line)))
    faults = {need.path: fault for need in asked if (fault := maker.fault(need))}
    python, refused = maker.best([need for need in asked if need.path not in faults])
    errors |= faults | refused
    told = {path: _without_secrets(error) for path, error in errors.items()}
    return Prepared(python, _environment(settings, python), told)


def check_interpreter(python: Path) -> None:
    """Return if workers can run with that interpreter: it is new enough and has our version of this package.

    Raises:
        PythonUnusable: they cannot; the message gives the reason, the hint says what to install.
    """
    found = _output(python, "-c", _VERSION_PROBE)
    if not re.fullmatch(r"\d+\.\d+\.\d+", found):
        raise PythonUnusable(f"{python} is not a Python interpreter.", hint=_NAME_ANOTHER)
    if tuple(int(number) for number in found.split(".")) < _OLDEST_PYTHON:
        wanted = ".".join(map(str, _OLDEST_PYTHON))
        raise PythonUnusable(
            f"{python} is Python {found}, but workers need {wanted} or newer.", hint=_NAME_ANOTHER
        )
    hint = f"Run `{python} -m pip install {_installable()}`, or omit --python."
    theirs = _output(python, "-P", "-c", _PROBE, hint=hint)
    if theirs != content.package_version():
        ours = content.package_version()
        raise PythonUnusable(
            f"{python} has durable-workflows {theirs}, but this is {ours}.", hint=hint
        )


def uv_program() -> str:
    """The program uv.

    Raises:
        FileNotFoundError: it is not in this installation.
    """
    return os.fspath(find_uv_bin())


def unfinished(cache: Path) -> list[Path]:
    """The environments that are not ready: a process makes them now, or was killed while it did."""
    folders = (path for path in (cache / "environments").glob("*") if path.is_dir())
    return sorted(path for path in folders if not _is_ready(path))


class _Maker:
    """Finds and makes environments for one version."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._root = (settings.cache / "environments").absolute()
        self._progress = progress
        self._deadline = time.monotonic() + _LIMIT_SECONDS
        self._given = settings.as_environment()
        self._refused: dict[str, _Refused] = {}

    @cached_property
    def _own(self) -> Mapping[str, str]:
        return own_libraries()

    def fault(self, need: Need) -> str | None:
        """The reason why no environment can meet the need, if it is clear without uv."""
        ours = "{}.{}.{}".format(*sys.version_info[:3])
        wanted = need.requires_python
        if wanted is not None and not SpecifierSet(wanted).contains(ours, prereleases=True):
            return (
                f"It requires Python {wanted}, but workers run on Python {ours} ({sys.executable}). Run durable-workflows with "
                "such a Python, or set one with --python."
            )
        for requirement in applicable(need.dependencies):
            version = self._own.get(canonicalize_name(requirement.name))
            if version is not None and not fits(requirement, version):
                return (
                    f"It requires {requirement}, but the worker itself needs {requirement.name} {version}, which no environment "
                    "replaces. Change the requirement to fit, or remove it."
                )
        return None

    def best(self, asked: Sequence[Need]) -> tuple[Path, dict[str, str]]:
        """The interpreter of an environment for all needs; otherwise for as many as possible, in order, with the errors of the others."""
        try:
            return self._interpreter(asked), {}
        except _Refused as error:
            if len(asked) == 1:
                return Path(sys.executable), {asked[0].path: str(error)}
            if error.unreachable:  # each further attempt would take many seconds
                self._given["UV_HTTP_RETRIES"] = "1"
        python = Path(sys.executable)
        accepted: list[Need] = []
        refused: dict[str, str] = {}
        for need in asked:
            try:
                python = self._interpreter([*accepted, need])
            except _Refused as error:
                refused[need.path] = _beside(accepted, str(error))
            else:
                accepted.append(need)
        return python, refused

    def _interpreter(self, asked: Sequence[Need]) -> Path:
        """The interpreter of the environment for all of them, found or made."""
        requirements = self._to_install(asked)
        if not requirements:
            return Path(sys.executable)
        folder = self._root / self._name(requirements)
        if folder.name in self._refused:
            raise self._refused[folder.name]
        try:
            return self._found_or_made(folder, requirements, asked)
        except _Refused as error:
            self._refused[folder.name] = error
            raise

    def _found_or_made(
        self, folder: Path, requirements: Sequence[str], asked: Sequence[Need]
    ) -> Path:
        try:
            if not _is_ready(folder):
                self._root.mkdir(parents=True, exist_ok=True)
                with held_lock(_lock(folder), wait_seconds=self._seconds_left()) as lock:
                    if not _is_ready(folder):  # no process made it during the wait
                        self._make(folder, requirements, [need.path for need in asked], lock)
            os.utime(folder / "ready")
        except LockHeld as held:
            raise _Refused(
                f"Process {held.holder} is still installing the same libraries."
            ) from held
        except OSError as error:
            raise _Refused(f"No environment can be made in {self._root}: {error}") from error
        return _python(folder)

    def _to_install(self, asked: Iterable[Need]) -> list[str]:
        """The requirements that uv must install; empty if all needs are met here.

        A requirement that the worker's own libraries meet is met in every environment. If only another library of this installation
        meets it, uv must install it: the environment may get another version of that library.
        """
        chosen: set[str] = set()
        all_met = True
        for requirement in applicable(text for need in asked for text in need.dependencies):
            missing = unmet(requirement)
            all_met = all_met and not missing
            name = canonicalize_name(requirement.name)
            if name == OURS:
                chosen |= {str(each) for each in missing}  # of its extras
            elif missing or name not in self._own:
                chosen.add(str(requirement))
        return [] if all_met else sorted(chosen)

    def _name(self, requirements: Sequence[str]) -> str:
        """The name of the environment: another interpreter, installation or requirement is another environment."""
        facts = [sys.executable, os.path.realpath(sys.executable), sys.version]
        described = json.dumps([facts, requirements, self._constraints(), _site_lines()])
        return hashlib.sha256(described.encode()).hexdigest()[:16]

    def _constraints(self) -> list[str]:
        """The worker's own libraries at exactly their versions here."""
        return [f"{name}=={version}" for name, version in sorted(self._own.items()) if name != OURS]

    def _make(
        self, folder: Path, requirements: Sequence[str], paths: Sequence[str], lock: Lock
    ) -> None:
        began = time.monotonic()
        self._progress(f"Installing {_named(requirements)} for {_listed(paths)}.")
        shutil.rmtree(folder, ignore_errors=True)  # left by a killed process
        folder.mkdir(mode=0o700)
        try:
            self._fill(folder, requirements, lock)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_tree(folder)
        (folder / "ready").touch()
        self._progress(f"The environment is ready after {time.monotonic() - began:.1f} s.")
        _remove_unused(self._root)

    def _fill(self, folder: Path, requirements: Sequence[str], lock: Lock) -> None:
        venv, python = folder / "venv", _python(folder)
        self._uv(lock, folder, "venv", "--no-project", "--python", sys.executable, str(venv))
        lists = {
            "--requirements": requirements,
            "--constraints": self._constraints(),
            "--excludes": [OURS],  # it is here already, and need not be in any index
        }
        options = [f"{option}={_write(folder, option, lines)}" for option, lines in lists.items()]
        self._uv(lock, folder, "pip", "install", "--python", str(python), *options)
        # A name that sorts last: our libraries come after all libraries of the environment.
        _link(venv).write_text("\n".join(_site_lines()) + "\n", encoding="utf-8")
        status, said = _run([str(python), "-P", "-c", _PROBE], self._given, folder, _PROBE_SECONDS)
        if status != 0:
            raise _Refused(
                f"The worker itself does not start with these libraries: {_bounded(said)}"
            )

    def _uv(self, lock: Lock, folder: Path, *arguments: str) -> None:
        command = [uv_program(), *arguments, "--color=never", "--no-progress"]
        status, said = self._run_uv(command, lock, folder)
        if status != 0 and _DISTRUSTED in said and "UV_SYSTEM_CERTS" not in self._given:
            # uv has its own list of authorities; behind a company's proxy the system's list is right.
            self._given["UV_SYSTEM_CERTS"] = "true"
            status, said = self._run_uv(command, lock, folder)
        if status != 0:
            raise self._refusal(said, status)

    def _run_uv(self, command: list[str], lock: Lock, folder: Path) -> tuple[int, str]:
        def hear(line: str) -> None:
            if _TELLING.match(line):
                self._progress(line)

        # uv holds the lock too: if this process is killed, no other works on the folder while uv still does.
        return _run(command, self._given, folder, self._seconds_left(), lock.descriptors, hear)

    def _refusal(self, said: str, status: int) -> _Refused:
        if status == -signal.SIGKILL and self._seconds_left() <= 0:
            return _Refused(
                f"uv was stopped: it took longer than {_LIMIT_SECONDS / 60:.0f} minutes."
            )
        unreachable = _is_unreachable(said)
        text = _essence(said)
        if unreachable:
            text = (
                f"The package index cannot be reached: {text}\nCheck the network and its settings (HTTPS_PROXY, SSL_CERT_FILE, "
                "UV_DEFAULT_INDEX), then run `durable-workflows shutdown`: the next command tries again."
            )
        else:
            text = f"The libraries it requires cannot be installed: {text}"
        return _Refused(text + self._remarks(said), unreachable=unreachable)

    def _remarks(self, said: str) -> str:
        """The facts that uv does not know."""
        remarks = ""
        pins = [
            f"{name} {version}"
            for name, version in self._own.items()
            if re.search(rf"\b{re.escape(name)}=={re.escape(version)}(?![\w.])", said)
        ]
        if pins:
            remarks += f"\nThe worker itself runs on {' and '.join(pins)}: no environment has another version."
        missed = "not found in the package registry" in said or _is_unreachable(said)
        if missed and "PIP_INDEX_URL" in self._given and "UV_DEFAULT_INDEX" not in self._given:
            remarks += "\nuv does not read PIP_INDEX_URL; set UV_DEFAULT_INDEX to the same address."
        return remarks

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _beside(accepted: Sequence[Need], error: str) -> str:
    """The error, with the files whose requirements contribute to it."""
    partners = [
        need.path
        for need in accepted
        for requirement in applicable(need.dependencies)
        if re.search(rf"\b{re.escape(canonicalize_name(requirement.name))}\b", error)
    ]
    if not partners:
        return error
    files = ", ".join(dict.fromkeys(partners))
    return f"{error}\nAll workflow files share one environment, here with what {files} requires."


def _is_ready(folder: Path) -> bool:
    return (folder / "ready").exists() and _python(folder).exists()


def _python(folder: Path) -> Path:
    return folder / "venv" / "bin" / "python"


def _lock(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _link(venv: Path) -> Path:
    """The file that makes our libraries visible in an environment."""
    base = {"base": str(venv), "platbase": str(venv)}
    return Path(sysconfig.get_path("purelib", "venv", base), "~durable-workflows.pth")


def _site_lines() -> list[str]:
    """The lines of that file: our directories of libraries with their own such files, and this package, if it is elsewhere."""
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    adding = [f"import site; site.addsitedir({folder!r})" for folder in folders]
    return [*adding, str(Path(content.__file__).parents[1])]


def _environment(settings: Settings, python: Path) -> dict[str, str]:
    """The environment variables of this process; for a made environment as after activating it, so that its commands are found first."""
    given = settings.as_environment()
    if python == Path(sys.executable):
        return given
    path = f"{python.parent}{os.pathsep}{given.get('PATH', os.defpath)}"
    return {**given, "PATH": path, "VIRTUAL_ENV": str(python.parents[1])}


def _remove_unused(root: Path) -> None:
    """Remove the environments that no worker has started with for long, and that no worker uses."""
    for stamp in root.glob("*/ready"):
        folder = stamp.parent
        with suppress(LockHeld, OSError):  # another process is doing it
            if time.time() - stamp.stat().st_mtime > _UNUSED_SECONDS:
                with held_lock(_lock(folder)):
                    if not _is_running(_python(folder)):
                        shutil.rmtree(folder, ignore_errors=True)


def _is_running(python: Path) -> bool:
    commands: list[list[str] | None] = [
        process.info["cmdline"] for process in psutil.process_iter(["cmdline"])
    ]
    return any(command and command[0] == str(python) for command in commands)


def _write(folder: Path, option: str, lines: Sequence[str]) -> Path:
    path = folder / f"{option.strip('-')}.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _run(
    command: list[str],
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
    inherit: Sequence[int] = (),
    hear: Progress = lambda _: None,
) -> tuple[int, str]:
    """Run a command in a session of its own; return its status and output. End the whole session when the time is over or on an error."""
    process = subprocess.Popen(
        command,
        env={**environment, "COLUMNS": _COLUMNS},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=inherit,
        start_new_session=True,
    )
    timer = Timer(seconds, _end, [process])
    timer.start()
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            hear(line.strip())
        return process.wait(), "".join(lines)
    finally:
        timer.cancel()
        _end(process)
        process.communicate()


def _end(process: subprocess.Popen[str]) -> None:
    if process.returncode is None:  # not waited for: no other process has its number yet
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _is_unreachable(said: str) -> bool:
    return any(words in said for words in _UNREACHABLE)


def _essence(said: str) -> str:
    """The core of uv's message, without its advice, which is for people who call uv."""
    text = said.partition("error: ")[2].partition("\nhint:")[0] or said
    text = text.removeprefix("No solution found when resolving dependencies\n")
    text = text.replace(", we can conclude that your requirements are unsatisfiable.", ".")
    return _bounded(re.sub(r"(?m)^\s*(cause: )?", "", text))


def _bounded(text: str) -> str:
    text = text.strip()
    if len(text) <= _HEAD_CHARACTERS + _TAIL_CHARACTERS:
        return text
    return f"{text[:_HEAD_CHARACTERS]}\n…\n{text[-_TAIL_CHARACTERS:]}"


def _without_secrets(text: str) -> str:
    return _CREDENTIALS.sub("***@", text)


def _named(requirements: Sequence[str]) -> str:
    """Their number and the first names: `3 libraries (httpx, polars, rich)`."""
    names = sorted({Requirement(text).name for text in requirements})
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
    return f"{wording.counted(len(names), 'library', 'libraries')} ({shown})"


def _listed(paths: Sequence[str]) -> str:
    rest = len(paths) - 1
    return paths[0] + (f" and {wording.counted(rest, 'more workflow file')}" if rest else "")


def _output(python: Path, *arguments: str, hint: str = _NAME_ANOTHER) -> str:
    """The output of the interpreter."""
    try:
        done = subprocess.run(
            [str(python), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PythonUnusable(
            f"{python} cannot be run as a Python interpreter: {error}", hint=_NAME_ANOTHER
        ) from error
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise PythonUnusable(f"{python} cannot run workers: {reason}", hint=hint)
    return done.stdout.strip()


def _installable() -> str:
    """The text for pip to get this version of this package."""
    checkout = Path(content.__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        return str(checkout)
    return f"{OURS}=={content.package_version()}"

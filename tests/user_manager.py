"""A machine whose user has a systemd of their own: real, in namespaces of its own, beside whatever this machine runs.

What it needs is root's rights, and cgroups that can be written. It changes nothing outside of them.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from durable_workflows.settings import Settings

_SYSTEMD = Path("/lib/systemd/systemd")
_SECONDS = 60
# systemd looks for this directory to see whether it runs the machine.
_BEGIN = """
for directory in "$@"; do echo $$ > "$directory/cgroup.procs"; done
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && "$SYSTEMD" --user
exec sleep infinity
"""


class CannotBoot(Exception):
    """Why no such machine can run here."""


class Machine:
    """A machine that is booted or off. Its user's home directory lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._namespaces: subprocess.Popen[bytes] | None = None
        self._cgroups: list[Path] = []
        self.home = folder / "home"
        self.home.mkdir()

    @property
    def units(self) -> Path:
        return self.home / ".config" / "systemd" / "user"

    def environment(self) -> dict[str, str]:
        """That of a session of the user."""
        left_out = ("DURABLE_WORKFLOWS_", "DBOS_", "XDG_", "DBUS_")
        given = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
        own = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self._folder / "run"),
            "DURABLE_WORKFLOWS_CACHE": str(Settings().cache),
            "DURABLE_WORKFLOWS_PARK_AFTER_SECONDS": "0.2",
        }
        return given | own

    def boot(self) -> None:
        """Start the machine; the user's systemd starts what is enabled.

        Raises:
            CannotBoot: this machine cannot run such a one.
        """
        if not _SYSTEMD.exists() or os.getuid() != 0:
            raise CannotBoot(f"it needs {_SYSTEMD} and root's rights")
        runtime = self._folder / "run"
        shutil.rmtree(runtime, ignore_errors=True)
        runtime.mkdir(mode=0o700)
        self._cgroups = list(_make_cgroups(self._folder.name))
        options = ["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]
        # Not the settings of a session: the service manager does not know them.
        environment = {
            key: value
            for key, value in self.environment().items()
            if not key.startswith("DURABLE_WORKFLOWS_") and key != "PATH"
        }
        with (self._folder / "log").open("ab") as log:
            self._namespaces = subprocess.Popen(
                ["unshare", *options, "sh", "-c", _BEGIN, "sh", *map(str, self._cgroups)],
                env=environment | {"PATH": "/usr/bin:/bin", "SYSTEMD": str(_SYSTEMD)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _SECONDS
        while self.call("systemctl", "--user", "show", "--property=Version").returncode:
            if self._namespaces.poll() is not None or time.monotonic() > deadline:
                raise CannotBoot((self._folder / "log").read_text(errors="replace")[-500:])
            time.sleep(0.05)

    def call(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in a session of the user that does not belong to the service manager."""
        found = psutil.Process(self._running.pid).children()
        inside = ["nsenter", "--pid", "--mount", "--target", str(found[0].pid)] if found else []
        return subprocess.run(
            [*(inside or ["false"]), *command],
            env=self.environment() | environment,
            capture_output=True,
            encoding="utf-8",
            timeout=150,
            check=False,
        )

    def durable_workflows(self, *arguments: str, **environment: str) -> str:
        """Run a command of ours, which must succeed; return its output."""
        words = [sys.executable, "-P", "-m", "durable_workflows", *arguments]
        ended = self.call(*words, **environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def end_session(self) -> None:
        """Log the user out for the last time: their systemd ends in order."""
        [first] = psutil.Process(self._running.pid).children()
        [manager] = [one for one in first.children() if one.name() == "systemd"]
        manager.send_signal(signal.SIGTERM)
        manager.wait(_SECONDS)

    def lose_power(self) -> None:
        """End everything at once."""
        if self._namespaces is not None:
            inside = psutil.Process(self._namespaces.pid).children(recursive=True)
            self._namespaces.kill()
            self._namespaces.wait()
            psutil.wait_procs(inside, timeout=_SECONDS)
            self._namespaces = None
        for cgroup in self._cgroups:
            _remove(cgroup)

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._namespaces is not None, "the machine is off"
        return self._namespaces


@contextmanager
def machine() -> Generator[Machine]:
    """A machine that is off. Its directory has a short name: a socket's is limited."""
    folder = Path(tempfile.mkdtemp(prefix="dw-", dir="/tmp"))
    found = Machine(folder)
    try:
        yield found
    finally:
        found.lose_power()
        shutil.rmtree(folder)


def _make_cgroups(name: str) -> Iterator[Path]:
    """Cgroups beneath those of this process, in each hierarchy that systemd uses."""
    own = dict(
        line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()
    )
    for root in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if not (Path(root) / "cgroup.procs").exists():
            continue
        place = own["name=systemd"] if root.endswith("systemd") else own[""]
        cgroup = Path(root + place) / name
        try:
            cgroup.mkdir(exist_ok=True)
        except OSError as error:
            raise CannotBoot(str(error)) from error
        yield cgroup


def _remove(cgroup: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    for folder, _, _ in os.walk(cgroup, topdown=False):
        while True:
            try:
                os.rmdir(folder)
                break
            except OSError:  # the last of its processes has not quite gone
                assert time.monotonic() < deadline, f"{folder} stays"
                time.sleep(0.02)

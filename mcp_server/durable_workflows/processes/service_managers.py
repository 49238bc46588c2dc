"""The service managers that start a project's supervisor: the user's systemd on Linux, the user's launchd on macOS.

Both read one file for each project.
"""

import hashlib
import json
import os
import plistlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import platformdirs

from durable_workflows import content, fitting
from durable_workflows.errors import AutostartFailed
from durable_workflows.models import Starts
from durable_workflows.settings import Settings
from durable_workflows.system import files

_RETRY_SECONDS = 60  # an external Postgres may not be reachable right after a boot
_LONGEST_SLUG = 30
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"')

# `forking`: the command leaves one child, the supervisor, which systemd takes for the main process. A supervisor that a client has started
# does not belong to it.
# `mixed`: only the main process is asked to end, and it ends the others in order. If a step's own programs got the signal, the step and its
# run would fail.
# `RemainAfterExit`: processes that remain when the supervisor has nothing left to do, such as another project's supervisor started by a
# step, are not ended.
# `:`: systemd replaces no variables in the command.
_UNIT = """\
# Written by `durable-workflows autostart on`; `durable-workflows autostart off` removes it.
[Unit]
Description=Durable workflows of "{project}"

[Service]
Type=forking
ExecStart=:{command}
{environment}KillMode=mixed
RemainAfterExit=yes
TimeoutStartSec=600
Restart=on-failure
RestartSec={retry}

[Install]
WantedBy=default.target
"""


class Systemd:
    """A unit of the user's systemd."""

    at_login = "To start it at boot, and to keep it running after you log out, run `loginctl enable-linger`."

    def __init__(self, settings: Settings) -> None:
        self._project = fitting.shown_line(str(settings.project))
        self._unit = f"{_name(settings)}.service"
        folder = platformdirs.user_config_path() / "systemd" / "user"
        self.file = folder / self._unit
        self._link = folder / "default.target.wants" / self._unit

    def text(self, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """The text of the file."""
        words = [_quoted(f"{name}={value}") for name, value in environment.items()]
        return _UNIT.format(
            project=self._project.replace("%", "%%"),
            command=" ".join(map(_quoted, command)),
            environment="".join(f"Environment={word}\n" for word in words),
            retry=_RETRY_SECONDS,
        )

    def program(self) -> str:
        """The program that the file starts; empty if the file does not say."""
        found = _WORD.match(files.read_text(self.file).partition("\nExecStart=:")[2])
        return json.loads(found[0].replace("%%", "%")) if found else ""

    def silence(self) -> str:
        """The reason why systemd does not answer this user; empty if it answers."""
        return _failure("systemctl", "--user", "show", "--property=Version")

    def load(self) -> str:
        """Make systemd read the file and start the project now; return the reason if it did not."""
        actions = (["daemon-reload"], ["enable", self._unit], ["start", self._unit])
        return next(filter(None, (_failure("systemctl", "--user", *one) for one in actions)), "")

    def unload(self) -> None:
        """Make systemd miss the file at its next start. A reload now would make it forget how to end the supervisor that it may run."""
        self._link.unlink(missing_ok=True)
        state = _run("systemctl", "--user", "is-active", self._unit).stdout.strip()
        if state == "activating":  # it waits for its next attempt
            _run("systemctl", "--user", "stop", self._unit)

    def is_enabled(self) -> bool:
        """Whether systemd will start the project."""
        return not _failure("systemctl", "--user", "is-enabled", self._unit)

    def starts(self) -> Starts | None:
        """When systemd starts it. Without lingering, a user's systemd runs from the first login to the last logout. None: unknown."""
        said = _run("loginctl", "show-user", str(os.getuid()), "--property=Linger").stdout
        found: dict[str, Starts] = {"Linger=yes\n": "boot", "Linger=no\n": "login"}
        return found.get(said)


class Launchd:
    """An agent of the user's launchd."""

    at_login = ""

    def __init__(self, settings: Settings) -> None:
        self._label = _name(settings)
        self._domain = f"gui/{os.getuid()}"
        self._agent = f"{self._domain}/{self._label}"
        self.file = Path.home() / "Library" / "LaunchAgents" / f"{self._label}.plist"

    def text(self, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """The text of the file."""
        agent = {
            "Label": self._label,
            "ProgramArguments": list(command),
            "EnvironmentVariables": dict(environment),
            "RunAtLoad": True,
            "AbandonProcessGroup": True,  # the supervisor outlives the command
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": _RETRY_SECONDS,
        }
        return plistlib.dumps(agent).decode()

    def program(self) -> str:
        """The program that the file starts; empty if the file does not say."""
        try:
            agent: dict[str, Any] = plistlib.loads(files.read_text(self.file).encode())
            return agent["ProgramArguments"][0]
        except (ExpatError, ValueError, LookupError, TypeError):  # overwritten
            return ""

    def silence(self) -> str:
        """The reason why launchd does not answer this user; empty if it answers."""
        return _failure("launchctl", "print", self._domain)

    def load(self) -> str:
        """Make launchd read the file and start the project now; return the reason if it did not."""
        self.unload()  # launchd does not take a file twice
        actions = (["enable", self._agent], ["bootstrap", self._domain, str(self.file)])
        return next(filter(None, (_failure("launchctl", *one) for one in actions)), "")

    def unload(self) -> None:
        """Make launchd forget the file."""
        _run("launchctl", "bootout", self._agent)

    def is_enabled(self) -> bool:
        """Whether launchd will start the project."""
        return not _failure("launchctl", "print", self._agent)

    def starts(self) -> Starts | None:
        """When launchd starts it."""
        return "login"


def manager_of(settings: Settings) -> Systemd | Launchd:
    """The service manager of this system, and its file for the project.

    Raises:
        AutostartFailed: the system has no known service manager.
    """
    match sys.platform:
        case "linux":
            return Systemd(settings)
        case "darwin":
            return Launchd(settings)
        case other:
            raise AutostartFailed(f"Autostart needs systemd or launchd; {other} has neither.")


def _name(settings: Settings) -> str:
    """A readable and unique name for the project."""
    slug = re.sub(r"[^a-z0-9]+", "-", settings.project.name.lower())[:_LONGEST_SLUG].strip("-")
    digest = hashlib.sha256(os.fsencode(settings.project)).hexdigest()
    return f"{content.PACKAGE}-{slug or 'project'}-{digest[:8]}"


def _quoted(word: str) -> str:
    """A word in systemd's form, which has the escapes of JSON. A percent sign would begin a replacement."""
    return json.dumps(word, ensure_ascii=False).replace("%", "%%")


def _failure(*command: str) -> str:
    """The reason why the command failed; empty if it did not."""
    ended = _run(*command)
    if not ended.returncode:
        return ""
    return " ".join(ended.stderr.split()) or f"`{' '.join(command)}` ended with {ended.returncode}"


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not installed.")

"""Autostart: the user's service manager starts a project's supervisor at login or boot.

The service manager runs this module. It starts the supervisor and exits, like `bootstrap`, but it does not wait for the code: a workflow
file that does not load is not a failed start.
"""

import argparse
import logging
import shutil
from pathlib import Path

import anyio
import anyio.to_thread

from durable_workflows import content
from durable_workflows.errors import (
    AutostartFailed,
    DurableWorkflowsError,
    InvalidProject,
    UsageError,
)
from durable_workflows.models import Autostart
from durable_workflows.processes import lifecycle, service_managers
from durable_workflows.settings import Settings
from durable_workflows.system import files, processes

_AGAIN = "run `durable-workflows autostart on` again."

logger = logging.getLogger(__name__)


async def switch_on(
    settings: Settings, progress: lifecycle.Progress = lifecycle.no_progress
) -> None:
    """Switch autostart on for the project, with the settings and the PATH of this process, and start the project now. May be repeated.

    Raises:
        InvalidProject: the project directory is not a directory.
        UsageError: its name, or a setting, cannot be written down.
        AutostartFailed: there is no service manager, it does not answer, or it does not start the project.
    """
    if not settings.project.is_dir():
        raise InvalidProject(f"{settings.project} is not a directory.")
    await anyio.to_thread.run_sync(_register, settings)
    # The service manager also counts it as started if it has exited since.
    await lifecycle.ensure_running(settings, progress)


def _register(settings: Settings) -> None:
    """Write the service manager's file, and make it read the file."""
    manager = service_managers.manager_of(settings)
    if why := manager.silence():
        raise AutostartFailed(f"The service manager does not answer this user: {why}")
    command = [*_command(), "--project", str(settings.project)]
    path = settings.as_environment().get("PATH")
    environment = settings.chosen() | ({"PATH": path} if path else {})
    _write(manager.file, manager.text(command, environment))
    if why := manager.load():
        raise AutostartFailed(
            f"The service manager did not start the project: {why}",
            hint="Run `durable-workflows status`, and read .dbos/logs/supervisor.log, for the reason. Autostart stays on; `durable-workflows autostart off` ends that.",
        )


def switch_off(settings: Settings) -> None:
    """Switch autostart off. Running processes continue. May be repeated.

    Raises:
        AutostartFailed: the file cannot be removed, or this system has no service manager.
    """
    manager = service_managers.manager_of(settings)
    try:
        manager.unload()
        manager.file.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(manager.file, error) from error


def look(settings: Settings) -> Autostart:
    """Whether autostart is on, and what is wrong. Changes and starts nothing.

    Raises:
        AutostartFailed: this system has no service manager.
    """
    manager = service_managers.manager_of(settings)
    if not manager.file.exists():
        return Autostart(on=False, file=str(manager.file), enabled=False)
    problems: list[str] = []
    program = manager.program()
    if shutil.which(program) is None:
        problems.append(f"The program that it starts ({program or 'unknown'}) is gone: {_AGAIN}")
    if not settings.project.is_dir():
        problems.append("The project directory is gone: run `durable-workflows autostart off`.")
    why = manager.silence()
    enabled = None if why else manager.is_enabled()
    if why:
        problems.append(f"The service manager does not answer this user: {why}")
    elif not enabled:
        problems.append(f"The service manager will not start it: {_AGAIN}")
    starts = manager.starts()
    return Autostart(
        on=True,
        file=str(manager.file),
        enabled=enabled,
        starts=starts,
        note=manager.at_login if starts == "login" else "",
        problems=problems,
    )


def _command() -> list[str]:
    """The command that runs this module later: with the current interpreter, or with `uvx` if the interpreter is temporary."""
    command = processes.python("processes.autostart")
    if not content.is_temporary():
        return command
    uvx = shutil.which("uvx")
    if uvx is None:
        raise AutostartFailed(
            "The environment of this command does not last, and `uvx` is not on the PATH.",
            hint="Install durable-workflows with `uv tool install` or `pipx install`, and call again.",
        )
    return [str(Path(uvx).absolute()), "--from", content.PACKAGE, "python", *command[1:]]


def _write(path: Path, text: str) -> None:
    """Write the file, readable by this user only: a URL in it may hold a password."""
    try:
        text.encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, text)
    except UnicodeEncodeError as error:
        raise UsageError(
            "The name of the project directory, or a setting, is not UTF-8.",
            hint="Change it, then call again.",
        ) from error
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> AutostartFailed:
    return AutostartFailed(
        f"{path} cannot be changed: {error.strerror or error}.",
        hint="Make it and its folder writable for this user, then call again.",
    )


def main() -> None:
    """The entry for the service manager: `python -m durable_workflows.entry durable_workflows.processes.autostart --project DIR`."""
    parser = argparse.ArgumentParser(prog="autostart")
    parser.add_argument("--project", required=True, type=Path)
    logging.basicConfig(format="%(message)s")
    try:
        anyio.run(lifecycle.ensure_running, Settings(project=parser.parse_args().project))
    except InvalidProject as error:  # after a failure it would try again, every minute
        logger.error("%s", error)
    except DurableWorkflowsError as error:
        logger.error("%s", error)
        raise SystemExit(1) from error

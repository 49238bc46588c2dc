"""The entry of the supervisor's process. It starts the database, if it can, while it imports the rest (`supervising.py`)."""

import argparse
import importlib
import json
import logging
import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import anyio
import anyio.to_thread

from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.processes import early, resting
from durable_workflows.settings import ENGINES, Settings
from durable_workflows.system import locks, places, processes, state
from durable_workflows.system.importing import undisturbed

if TYPE_CHECKING:
    from durable_workflows.processes.supervising import Supervisor

logger = logging.getLogger(__name__)


def main() -> None:
    """The process's entry: `python -m durable_workflows.entry durable_workflows.processes.supervisor --project DIR --lock FD FD --ready FD`.

    `--lock` is the supervisor's lock (its descriptors), taken by the process that starts it. `--ready` is a pipe to that process, for JSON
    lines: `progress`, and
    finally `ready` or `failed`. With `--detach` it leaves the process that started it. With `--lends` it lends its machine to runs that
    others start.
    """
    parser = argparse.ArgumentParser(prog="supervisor")
    parser.add_argument("--project", required=True)
    parser.add_argument("--lock", required=True, type=int, nargs="+")
    parser.add_argument("--ready", required=True, type=int)
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--lends", action="store_true")
    arguments = parser.parse_args()
    if arguments.detach:
        processes.leave_parent()
    settings = Settings(project=Path(arguments.project))
    lock = locks.Lock(places.supervisor_lock(settings), arguments.lock)
    lock.name_holder(os.getpid())
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    due_at = _supervise(settings, lock, _Announcer(arguments.ready), lends=arguments.lends)
    if due_at is not None:
        _rest(settings, lock, due_at)
    # The lock is not released here: it is free when this process is gone.


def _rest(settings: Settings, lock: locks.Lock, until: datetime) -> NoReturn:
    """Become the small process that turns into this supervisor again at that time."""
    project = ["--project", str(settings.project)]
    null = os.open(os.devnull, os.O_WRONLY)  # no process waits for it to be ready
    descriptors = [*lock.descriptors, null]
    again = processes.python("processes.supervisor", *project)
    again += ["--lock", *map(str, lock.descriptors), "--ready", str(null)]
    folder, descriptor = lock.directory
    small = [sys.executable, "-I", "-S", resting.__file__, *project, "supervisor", *project]
    small += [str(until.timestamp()), str(folder), str(descriptor)]
    processes.become([*small, *again], settings.as_environment(), descriptors)


def _supervise(
    settings: Settings, lock: locks.Lock, announcer: "_Announcer", *, lends: bool
) -> datetime | None:
    """The time until which all runs wait, if it has ended because they do."""
    handler = _ProgressHandler(announcer)
    for engine in ENGINES:  # their rooms have their names
        logging.getLogger(f"durable_workflows.{engine}").addHandler(handler)
    try:
        return anyio.run(_run, settings, lock, announcer, lends)
    except* DurableWorkflowsError as group:
        error = _first(group)
        logger.error("%s", error)
        state.note_failed_start(settings, str(error))
        announcer(
            {"failed": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
        )
        raise SystemExit(1) from None
    finally:
        announcer.close()


async def _run(
    settings: Settings, lock: locks.Lock, announcer: "_Announcer", lends: bool
) -> datetime | None:
    async with early.Launch(settings) as launch, anyio.create_task_group() as group:
        group.start_soon(launch.begin)
        supervising = await anyio.to_thread.run_sync(_imported)
        supervisor = supervising(settings, lock, announcer, launch, lends=lends)
        await supervisor.run()
        return supervisor.due_at


def _imported() -> "type[Supervisor]":
    with undisturbed():
        return importlib.import_module("durable_workflows.processes.supervising").Supervisor


class _Announcer:
    """Writes to the process that started this supervisor, while that process listens."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)

    def __call__(self, event: dict[str, object]) -> None:
        if self._pipe.closed:
            return
        with suppress(BrokenPipeError):
            self._pipe.write(json.dumps(event) + "\n")
        if "ready" in event:
            self.close()

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._pipe.close()


class _ProgressHandler(logging.Handler):
    """Passes the log of the database's set-up on to the process that waits for it."""

    def __init__(self, announcer: _Announcer) -> None:
        super().__init__(logging.INFO)
        self._announcer = announcer

    def emit(self, record: logging.LogRecord) -> None:
        self._announcer({"progress": record.getMessage()})


def _first(group: BaseExceptionGroup[DurableWorkflowsError]) -> DurableWorkflowsError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")

"""A process that hosts DBOS with the two bundled workflows, and the handle by which a test drives it.

As a script it is the host: it lives until its stdin ends, so it cannot outlive the tests.
Every process below a host carries a mark in its environment, by which `strays` finds it.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import psutil
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
APP, VERSION, QUEUE = "workflow-tests", "workflow-tests-1", "fast"
MARK = "WORKFLOW_TESTS_MARK"
ENDED = ("SUCCESS", "ERROR", "CANCELLED")
Seen = TypeVar("Seen")


def load(name: str) -> ModuleType:
    """Import a bundled workflow file by its path, as a worker does."""
    spec = importlib.util.spec_from_file_location(f"bundled_{name}", WORKFLOWS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_until(look: Callable[[], Seen], what: str, within: float = 30) -> Seen:
    """Look until there is something to see; fail with `what` when the time is over."""
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)
    return seen


class Host:
    """A host process, its project directory, and a client of its database."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.project.mkdir(parents=True)
        self.log = folder / "host.log"
        self.mark = uuid.uuid4().hex
        self.database = f"sqlite:///{folder / 'dbos.sqlite'}"
        self._process: subprocess.Popen[str] | None = None
        self.start()
        self.client = DBOSClient(
            system_database_url=self.database, serializer=DBOSPortableJSONSerializer()
        )

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self.database],
                cwd=self.project,
                env={**os.environ, MARK: self.mark},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.log.read_text(encoding="utf-8")

    def start_if_dead(self) -> None:
        if self.process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """SIGKILL, as by a crash: nothing is tidied up."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """End as a worker does that has been asked to: DBOS is destroyed."""
        self.process.communicate(timeout=30)

    def close(self) -> None:
        self.client.destroy()
        if self.process.poll() is None:
            self.stop()
        self.end_strays()

    def strays(self) -> list[psutil.Process]:
        """The living processes that carry this host's mark, without the host itself."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != self.process.pid and is_marked(process, self.mark)
        ]

    def end_strays(self) -> None:
        for process in self.strays():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # Not `psutil.wait_procs`: that waits until init has reaped them, which may take seconds.
        wait_until(lambda: not self.strays(), "the end of the strays")

    def begin(self, name: str, arguments: Mapping[str, object]) -> str:
        workflow_id = uuid.uuid4().hex
        self.client.enqueue(
            {
                "workflow_name": name,
                "queue_name": QUEUE,
                "workflow_id": workflow_id,
                "app_version": VERSION,
            },
            **arguments,
        )
        return workflow_id

    def look(self, workflow_id: str) -> WorkflowStatus:
        return self.client.list_workflows(workflow_ids=[workflow_id])[0]

    def ended(self, workflow_id: str, within: float = 30) -> WorkflowStatus:
        def look() -> WorkflowStatus | None:
            seen = self.look(workflow_id)
            return seen if seen.status in ENDED else None

        seen = wait_until(look, f"the end of {workflow_id}", within)
        assert seen is not None
        return seen

    def result(self, workflow_id: str, within: float = 30) -> dict[str, Any]:
        seen = self.ended(workflow_id, within)
        assert seen.status == "SUCCESS", (seen.status, seen.error)
        assert seen.output is not None
        return seen.output

    def problem(self, workflow_id: str) -> str:
        """The message of the error with which a workflow ended."""
        seen = self.ended(workflow_id)
        assert seen.status == "ERROR", seen.output
        return str(seen.error)

    def steps(self, workflow_id: str) -> dict[int, str]:
        steps = self.client.list_workflow_steps(workflow_id)
        return {step["function_id"]: step["function_name"] for step in steps}

    def event(self, workflow_id: str, key: str) -> dict[str, Any] | None:
        return self.client.get_event(workflow_id, key, timeout_seconds=0)


def is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        marked = process.environ().get(MARK) == mark
        return marked and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def main(database: str) -> None:
    load("approval")
    load("run_commands")
    DBOS(
        config={
            "name": APP,
            "system_database_url": database,
            "application_version": VERSION,
            "executor_id": "host",
            "serializer": DBOSPortableJSONSerializer(),
            "notification_listener_polling_interval_sec": 0.05,
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=0.05)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1])

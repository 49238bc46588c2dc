"""What a damaged state directory does to a project. Run as a program, in a process namespace of its own.

`python damage.py PROJECT running|stopped KIND`. PROJECT has a run "waits" that waits for a message on topic "t". While nothing runs, or while everything does, all its files are damaged, and the run
must come to its end all the same, once what an error or `status` names has been moved away. No other process may end.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.processes import lifecycle, problems
from durable_workflows.settings import Settings
from durable_workflows.system import files, locks, places, processes, state
from helpers import processes_of, until, until_found

_GARBAGE = b"\xff\xfe\x00 0 garbage \x80"
_NAMED = re.compile(r"(/[^\s:'\"]*/\.dbos/[^\s:'\"]+)")
_ENDS_SECONDS = 90.0


def _replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


KINDS: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(_GARBAGE),
    "unreadable": _replaced,  # by a directory: root can read everything else
}


def files_of(folder: Path) -> list[Path]:
    """The files of the state directory but those of the database, and copies of code that each start makes anew."""
    found = (path for path in folder.rglob("*") if path.is_file())
    apart = {"pgdata", "code"}
    return sorted(path for path in found if path.relative_to(folder).parts[0] not in apart)


def move_away(texts: Iterable[str]) -> bool:
    """Do what the texts say: remove the directories that they name. Whether there were any."""
    named = {Path(found.rstrip(".")) for text in texts for found in _NAMED.findall(text)}
    there = [path for path in named if path.is_dir()]
    for path in there:
        shutil.rmtree(path)
    return bool(there)


async def start(project: Project) -> None:
    """Start it, and do what each error says."""
    while (said := await refusal(project)) is not None:
        assert move_away([said]), f"not to be acted on: {said}"


async def refusal(project: Project) -> str | None:
    """The error of a start; None if it succeeds."""
    try:
        await project.engine()
    except DurableWorkflowsError as error:
        return str(error)
    return None


async def finish(project: Project) -> None:
    """Bring the run to its end, doing what `status` says."""
    engine = await project.engine()
    await engine.send("waits", "t", "sent")
    with anyio.fail_after(_ENDS_SECONDS):
        while not (waited := await engine.reader.wait(["waits"], timeout_seconds=2)).done:
            move_away(problems.of_processes(project.settings, running=True))
    assert waited.done[0].output == "sent", waited


async def stopped(settings: Settings, kind: str) -> None:
    """Damage everything while nothing runs, then start."""
    for path in files_of(settings.state):
        KINDS[kind](path)
    problems.of_processes(settings, running=False)
    await lifecycle.shut_down(settings)
    project = Project(settings)
    await start(project)
    await finish(project)
    await project.aclose()


async def running(settings: Settings, kind: str) -> None:
    """Damage one file after the other while everything runs; after each a new client comes."""
    project = Project(settings)
    engine = await project.engine()
    await until_found(lambda: is_ready(engine), "the worker is ready")
    ours = {process.pid for process in processes_of(settings.project)}
    for path in files_of(settings.state):
        if path.exists():
            KINDS[kind](path)
        problems.of_processes(settings, running=True)
        client = Project(settings)
        await start(client)
        await client.aclose()
    await until(lambda: whole(settings), "the files are made again")
    assert {process.pid for process in processes_of(settings.project)} == ours
    await finish(project)
    await project.aclose()


async def is_ready(engine: Engine) -> bool:
    """Whether a worker has announced itself; the copied rows name one that is not here."""
    workers = {process.pid for process in processes_of(engine.project, "worker")}
    return any(worker.pid in workers for worker in (await engine.reader.status([])).workers)


def whole(settings: Settings) -> bool:
    """Whether the files are right again, once what is in their place was moved away."""
    move_away(problems.of_processes(settings, running=True))
    holder = locks.named_holder(places.supervisor_lock(settings))
    connection = state.read_connection(settings)
    return (
        connection is not None
        and connection.pid == holder
        and state.identity(settings) is not None
        and state.read_report(settings).get("database") == "up"
        and files.read_text(places.port(settings)) in connection.url
    )


async def main() -> None:
    """Play it, with decoys beside it."""
    settings = Settings(project=Path(sys.argv[1]))
    decoys = sleepers()
    play = {"stopped": stopped, "running": running}[sys.argv[2]]
    await play(settings, sys.argv[3])
    assert [decoy.poll() for decoy in decoys] == [None] * len(decoys)
    KINDS[sys.argv[3]](settings.state / "lock")  # which names the supervisor that is to end
    await lifecycle.shut_down(settings)
    assert {process.pid for process in processes_of(settings.project)} <= {os.getpid()}
    assert [decoy.poll() for decoy in decoys] == [None] * len(decoys)
    for decoy in decoys:
        decoy.kill()


def sleepers() -> "list[subprocess.Popen[bytes]]":
    """Processes of others: without a marker, with damaged ones, and with that of another project."""
    plain = processes.without_marker(dict(os.environ))
    markers = ("", "-", processes.executor_id(processes.new_identity(), "abc"))
    environments = [plain, *(plain | {processes.MARKER: marker} for marker in markers)]
    return [subprocess.Popen(["sleep", "600"], env=one) for one in environments]


if __name__ == "__main__":
    anyio.run(main)

"""One Node process that runs pglite.mjs."""

from dataclasses import dataclass
from pathlib import Path

from durable_workflows.errors import NodeFailed
from durable_workflows.pglite.node import FOLDER, environment, node
from durable_workflows.settings import Settings
from durable_workflows.system import database_process
from durable_workflows.system.database_process import DatabaseProcess, Program
from durable_workflows.system.locks import Lock

NODE_FLAGS: tuple[str, ...] = (
    "--no-warnings",
    "--max-semi-space-size=2",  # more frequent garbage collection: less memory
    "--single-threaded-gc",  # other threads have a lower priority: no statement waits for them
    "--stack-size=6000",  # so that Postgres' own limit is met first, by an error and not a crash
    # Five times V8's default: a start takes a quarter less processor time, and hot code is still optimized.
    "--wasm-tiering-budget=65000000",
)

_READY_SECONDS = 60


@dataclass(frozen=True)
class Launch:
    """The files and settings that a Node process serves."""

    data: Path
    modules: Path
    log: Path
    password: str
    port: int
    idle_transaction_seconds: float
    locks: tuple[
        Lock, ...
    ]  # on `data`, the last on the directory itself: Node keeps them for its life


async def launched(settings: Settings, launch: Launch) -> DatabaseProcess:
    """Start Node and wait until it accepts clients. After an error Node does not run any more.

    Raises:
        PortTaken, NoSpaceLeft, DataDirectoryDamaged, DataDirectoryIncompatible, NodeFailed: as their names say.
    """
    paths = {"project": settings.project, "data": launch.data, "modules": launch.modules}
    named = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    front = [str(node()), *NODE_FLAGS, str(FOLDER / "pglite.mjs"), *named]
    program = Program(
        command=[*front, "--port", str(launch.port)],
        environment=environment(settings),
        data=launch.data,
        log=launch.log,
        password=launch.password,
        locks=launch.locks,
        failed=NodeFailed,
        ready_seconds=_READY_SECONDS,
        configuration={
            "password": launch.password,
            "idle_transaction_seconds": launch.idle_transaction_seconds,
        },
    )
    return await database_process.launched(program)

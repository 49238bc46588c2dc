"""Machines that help: `durable-workflows worker` in a directory of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from durable_workflows.models import Connection
from durable_workflows.settings import Settings
from durable_workflows.system import state

_WORKER = """
import sys
from pathlib import Path
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
lifecycle.lend_machine(Settings(project=Path(sys.argv[1]), application="project"))
"""


@contextmanager
def helping(directory: Path, *, within: Sequence[str] = ()) -> Generator["subprocess.Popen[str]"]:
    """The command in the foreground, as in a terminal of another machine; for the project called `project`.

    `within` is a command that runs another one, for example in a network of its own.
    """
    command = [*within, sys.executable, "-c", _WORKER, str(directory)]
    with subprocess.Popen(
        command, env=dict(os.environ), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def identity(directory: Path) -> str:
    """The beginning of the executor ids of the machine."""
    found = state.identity(Settings(project=directory))
    assert found is not None
    return found


def is_ready(directory: Path) -> bool:
    """Whether the machine's supervisor has found the database."""
    return state.read_connection(Settings(project=directory)) is not None


async def executors(connection: Connection) -> set[str]:
    """The machines' identities that have runs."""
    rows = await query(connection, "select distinct executor_id from {dbos}.workflow_status")
    return {str(row[0]).partition("-")[0] for row in rows if row[0]}


async def workers(connection: Connection) -> set[str]:
    """The machines' identities whose workers are ready."""
    rows = await query(connection, "select executor_id from {ours}.workers")
    return {str(row[0]).partition("-")[0] for row in rows}


async def query(connection: Connection, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement about the project's tables."""
    text = statement.format(ours=connection.schema_name, dbos=connection.dbos_schema)
    async with await psycopg.AsyncConnection.connect(connection.url, autocommit=True) as database:
        cursor = await database.execute(text.encode())
        return await cursor.fetchall() if cursor.description else []

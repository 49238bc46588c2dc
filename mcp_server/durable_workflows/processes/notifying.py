"""The user's command for events of runs (`DURABLE_WORKFLOWS_NOTIFY`): run when a root run ends, or when a run of its tree asks a person.

The command is run at most once for each event, by the first supervisor, even across restarts: the supervisor notes the event before it runs
the command. If the supervisor is killed between the two, or if the command fails, the event is not reported again. Events older than a day
are not reported.
"""

import json
import logging
import os
import shlex
import signal
from contextlib import suppress
from functools import partial

import anyio
import anyio.abc

from durable_workflows.database import facts, tables
from durable_workflows.database.changes import changes
from durable_workflows.models import Fact
from durable_workflows.settings import Database, Settings
from durable_workflows.system import places, processes
from durable_workflows.telling import news

_LOOK_SECONDS = 1.0  # between two looks, whatever happens
_WAIT_SECONDS = 15.0  # the longest pause between looks: a hint may be lost
_COMMAND_SECONDS = 10.0
_LOG = "notify"

logger = logging.getLogger(__name__)


async def follow(settings: Settings, database: Database, identity: str) -> None:
    """Report events until the database is lost. Return if it has no tables yet.

    Raises:
        DatabaseUnavailable, psycopg.Error: the database does not answer.
        OSError: the command cannot be run.
    """
    async with (
        await tables.connect(database, role="notify") as connection,
        changes(database, None) as hints,
    ):
        fetch = partial(tables.fetch, connection)
        if not (await fetch("has_all_of_this_release"))[0]["there"]:
            return  # no worker has made the tables yet
        while True:
            after = (await fetch("notified_since"))[0]["at"]
            for fact in await facts.since(fetch, after):
                if _is_wanted(fact) and await _claim(connection, fact):
                    await _tell(settings, fact, identity)
            await anyio.sleep(_LOOK_SECONDS)
            await hints.next(_WAIT_SECONDS)


def _is_wanted(fact: Fact) -> bool:
    return fact.asking is None or fact.asking.person_only


async def _claim(connection: tables.Connection, fact: Fact) -> bool:
    """Whether this process alone may report the event."""
    about = {"workflow_id": fact.about, "fact": fact.key}
    return await tables.run(connection, "claim_fact", **about) == 1


async def _tell(settings: Settings, fact: Fact, identity: str) -> None:
    answer = None
    if fact.asking is not None:
        project = shlex.quote(os.fspath(settings.project))
        run = shlex.quote(fact.asking.workflow_id)
        answer = f"durable-workflows approve {run} --project {project}"
    about = news.as_data(fact, os.fspath(settings.project), answer)
    text = json.dumps(about, ensure_ascii=False) + "\n"
    command = ["/bin/sh", "-c", settings.notify, _LOG, about["text"]]
    marker = processes.executor_id(identity, "notify", "0")
    status = await _run(settings, command, text.encode(), marker)
    if status != 0:
        ended = "did not end in time" if status is None else f"ended with status {status}"
        logger.warning("The command of DURABLE_WORKFLOWS_NOTIFY %s; see notify.log.", ended)


async def _run(settings: Settings, command: list[str], text: bytes, marker: str) -> int | None:
    """Run the command in the project, and end the processes that it leaves; None: the command itself had to be ended."""
    with places.log_file(settings, _LOG).open("ab") as log:
        process = await anyio.open_process(
            command,
            stdout=log,
            stderr=log,
            cwd=settings.project,
            env={**settings.as_environment(), processes.MARKER: marker},
            start_new_session=True,
        )
    try:
        with anyio.move_on_after(_COMMAND_SECONDS):
            await _feed(process, text)
            return await process.wait()
        return None
    finally:
        with suppress(ProcessLookupError):  # its process group is gone
            os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _feed(process: anyio.abc.Process, text: bytes) -> None:
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):  # it reads none
        await process.stdin.send(text)
        await process.stdin.aclose()

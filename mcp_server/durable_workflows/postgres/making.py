"""A project's data directory of Postgres, and the password in it."""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import anyio

from durable_workflows.errors import PostgresFailed
from durable_workflows.postgres.programs import Owner, environment, program
from durable_workflows.settings import Settings
from durable_workflows.system import files, places, state
from durable_workflows.system.locks import Lock
from durable_workflows.system.trees import appearing

USER = "postgres"  # of the database, as PGlite's
_INITDB = (
    "--no-sync",  # `appearing` does that
    f"--username={USER}",
    "--auth=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # orders as PGlite does, and knows the letters of all languages
)
_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"
_ITERATIONS = 4096
_VERIFIER = re.compile(r"SCRAM-SHA-256\$4096:(?P<salt>[\w+/=]+)\$[\w+/=:]+", re.ASCII)
_KNOWN = "password.scram"  # the verifier of the password that the data directory has
_SECONDS = 120.0
_TAIL_CHARACTERS = 1500  # of a failing program's output, in an error

_logger = getLogger(__name__)


async def data_directory(settings: Settings, owner: Owner, lock: Lock) -> Path:
    """The project's data directory; it is made now if it does not exist.

    Raises:
        DataDirectoryLost, DataDirectoryDamaged, OtherEngine: the project had one.
        PostgresFailed: initdb failed.
    """
    found = state.data_directory(settings)
    if found is None:
        found = places.data(settings)
        _logger.info("Making a database in %s", found)
        with appearing(found) as folder:
            owner.own(folder)
            await _run(settings, owner, [program("initdb"), *_INITDB, "-D", str(folder)], lock)
            (folder / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")
    state.note_database(settings)
    return found


async def set_password(
    settings: Settings, owner: Owner, data: Path, password: str, lock: Lock
) -> None:
    """Give the database this password, if it has another one. No server runs.

    Raises:
        PostgresFailed: Postgres refused it.
    """
    known = data / _KNOWN
    salt = _VERIFIER.fullmatch(files.read_text(known))
    if salt is not None and _verifier(password, base64.b64decode(salt["salt"])) == salt.string:
        return
    verifier = _verifier(password, os.urandom(16))
    single = [program("postgres"), "--single", "-D", str(data), "postgres"]
    # Not the password itself: a statement that fails is logged.
    statement = f"alter role {USER} password '{verifier}'\n"
    await _run(settings, owner, single, lock, statement.encode())
    files.write_atomically(known, verifier)


def _verifier(password: str, salt: bytes) -> str:
    """What Postgres keeps of a password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *parts)


async def _run(
    settings: Settings, owner: Owner, command: Sequence[str], lock: Lock, given: bytes = b""
) -> None:
    said = ""
    with anyio.move_on_after(_SECONDS):
        done = await anyio.run_process(
            owner.command(command),
            input=given,
            check=False,
            cwd=settings.state,
            env=environment(settings),
            start_new_session=True,
            pass_fds=lock.descriptors,
        )
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        # The single session reports an error and goes on to the end of its input.
        if done.returncode == 0 and "ERROR:" not in said:
            return
    what = f"{Path(command[0]).name} failed"
    raise PostgresFailed(f"{PostgresFailed.__doc__} {what}:\n{said[-_TAIL_CHARACTERS:]}")

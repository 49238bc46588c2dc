"""A native Postgres of the bench's own, where its programs are on the machine: a private directory and port, default settings."""

import os
import shutil
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import psycopg
from psycopg import sql

from .children import child

_USER = "postgres"  # Postgres refuses to run as root; its packages make this user
_READY_SECONDS = 30.0


class Cluster:
    """A running server."""

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self._pid = pid

    def url(self, database: str) -> str:
        """The URL of one of its databases. Any password is right, but dbos wants one."""
        return f"postgresql://{_USER}:any@127.0.0.1:{self._port}/{database}"

    async def database(self, name: str) -> str:
        """The URL of a database, which is made if it is not there."""
        async with await psycopg.AsyncConnection.connect(
            self.url("postgres"), autocommit=True
        ) as connection:
            found = await connection.execute("select 1 from pg_database where datname = %s", [name])
            if await found.fetchone() is None:
                await connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self.url(name)

    def processes(self) -> list[psutil.Process]:
        """The server and all its backends."""
        postmaster = psutil.Process(self._pid)
        return [postmaster, *postmaster.children(recursive=True)]


def programs() -> Path | None:
    """The directory of the newest `postgres` on the machine, or None; also None for a root who cannot be another user."""
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    found = shutil.which("postgres")
    newest = sorted(installed, key=lambda path: int(path.parent.name))[-1:]
    directories = newest or ([Path(found).parent] if found else [])
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return None
    return directories[0] if directories else None


@asynccontextmanager
async def cluster(bin_directory: Path, folder: Path) -> AsyncGenerator[Cluster]:
    """Run a fresh server with its files in `folder`."""
    _prepare(folder)
    data = folder / "data"
    initdb = [str(bin_directory / "initdb"), "-A", "trust", "-E", "UTF8", "-U", _USER]
    await anyio.run_process([*_as_user(), *initdb, "-D", str(data)], cwd=folder)
    port = _free_port()
    command = [str(bin_directory / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
    async with child(
        [*_as_user(), *command], log=folder / "log", folder=folder, stop_signal=signal.SIGINT
    ) as postmaster:
        server = Cluster(port, postmaster.pid)
        await _until_ready(server)
        yield server


def _prepare(folder: Path) -> None:
    folder.mkdir()
    if os.getuid() == 0:
        shutil.chown(folder, _USER, _USER)


def _as_user() -> list[str]:
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", "--reset-env"]


async def _until_ready(server: Cluster) -> None:
    with anyio.fail_after(_READY_SECONDS):
        while True:
            try:
                await server.database("postgres")
            except psycopg.OperationalError:
                await anyio.sleep(0.05)
            else:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

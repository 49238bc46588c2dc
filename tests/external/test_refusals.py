"""An unusable DBOS_DATABASE_URL is refused at once, in a sentence without its password."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import native
from durable_workflows.database import tables
from durable_workflows.errors import DatabaseRefused
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Database, Settings
from helpers import command_of, processes_of, until_found
from native import Cluster
from requirements import proves

pytestmark = pytest.mark.anyio

SECRET = "Correct-Horse"
SECONDS = 30.0  # a server that never answers is given up after ten


def no_server(_: Cluster) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"postgresql://user:{SECRET}@127.0.0.1:{free.getsockname()[1]}/shop"


def user_without_rights(postgres: Cluster) -> str:
    user = f"guest_{os.urandom(4).hex()}"
    postgres.execute(f"create role {user} login password '{SECRET}'")
    postgres.database("shop")
    return postgres.url("shop", user=user, password=SECRET)


WRONG: dict[str, tuple[Callable[[Cluster], str], str]] = {
    "wrong password": (
        lambda postgres: postgres.url("shop", password=SECRET),
        "password authentication failed",
    ),
    "no such database": (
        lambda postgres: postgres.url("no-shop"),
        'database "no-shop" does not exist',
    ),
    "no server": (no_server, "Connection refused"),
    "no rights": (user_without_rights, "may not create the schemas durable_workflows_project and"),
    "another scheme": (
        lambda _: f"mysql://user:{SECRET}@127.0.0.1/shop",
        "not the URL of a Postgres",
    ),
    "no URL": (lambda _: f"user:{SECRET}", "not the URL of a Postgres"),
    "nothing but the scheme": (lambda _: "postgresql://", "not the URL of a Postgres"),
    "no database": (
        lambda postgres: postgres.url("", password=SECRET),
        "names no database",
    ),
    "an @ in the password": (
        lambda _: f"postgresql://user:x@{SECRET}@127.0.0.1/shop",
        "not the URL of a Postgres",
    ),
    "a slash in the password": (
        lambda _: f"postgresql://user:{SECRET}/x@127.0.0.1/shop",
        "not the URL of a Postgres",
    ),
    "a percent sign in the password": (
        lambda _: f"postgresql://user:{SECRET}%zz@127.0.0.1/shop",
        "not the URL of a Postgres",
    ),
    "no number for a port": (
        lambda _: f"postgresql://user:x@127.0.0.1:{SECRET}/shop",
        "not the URL of a Postgres",
    ),
}


@proves("request:refused")
@pytest.mark.parametrize("what", list(WRONG))
async def test_a_database_that_cannot_be_used_is_refused_at_once_in_a_sentence(
    what: str, folder: Path, postgres: Cluster
) -> None:
    make, said = WRONG[what]
    began = time.monotonic()
    with pytest.raises(DatabaseRefused) as caught:
        await lifecycle.ensure_running(Settings(project=folder, database_url=make(postgres)))
    assert time.monotonic() - began < SECONDS
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert SECRET not in str(caught.value)
    assert processes_of(folder) == []
    assert_no_secret_in(folder)


def assert_no_secret_in(folder: Path) -> None:
    for path in (folder / ".dbos").rglob("*"):
        if path.is_file() and path.name != "connection.json":
            assert SECRET.encode() not in path.read_bytes(), path


async def test_a_server_that_takes_no_connection_now_is_no_wrong_setting(folder: Path) -> None:
    programs = native.programs()
    assert programs is not None
    with native.cluster(programs) as leaving:
        url = leaving.database("shop")
        async with await tables.connect(Database(url), role="test"):  # it waits for this one
            leaving.processes()[0].terminate()
            with pytest.raises(DatabaseRefused, match="the database system is shutting down") as caught:  # fmt: skip
                await until_found(lambda: refused(Settings(project=folder, database_url=url)), "it leaves")  # fmt: skip
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Call again in a moment.")


async def refused(settings: Settings) -> None:
    await tables.check(settings.database(settings.database_url or ""))


@pytest.mark.long
@proves("request:refused")
async def test_a_server_that_never_answers_is_given_up_soon(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://user:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/shop"
        began = time.monotonic()
        with pytest.raises(DatabaseRefused):
            await tables.check(Settings(project=folder, database_url=url).database(url))
        assert time.monotonic() - began < SECONDS


@proves("request:refused")
async def test_a_postgres_that_is_too_old_is_refused(database_url: str, folder: Path) -> None:
    database = Settings(project=folder).database(database_url)
    with pytest.raises(DatabaseRefused, match="the oldest supported version is 99"):
        await tables.check(database, oldest=99)


@proves("request:refused")
@pytest.mark.parametrize("command", [["list"], ["status"]])
async def test_commands_end_with_the_sentence_and_the_fix(
    command: list[str], folder: Path, postgres: Cluster
) -> None:
    url = postgres.url("shop", password=SECRET)
    done = await run(command, folder, url)
    said = done.stderr.decode()
    if command != ["status"]:  # which starts nothing
        assert done.returncode == 1
        assert "password authentication failed" in said
        assert "Correct DBOS_DATABASE_URL" in said
        assert "Traceback" not in said


async def run(command: list[str], folder: Path, url: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a command, which must not tell the password."""
    done = await anyio.run_process(
        [sys.executable, "-m", "durable_workflows", *command, "--project", str(folder)],
        env={**os.environ, "DBOS_DATABASE_URL": url},
        check=False,
    )
    assert SECRET.encode() not in done.stdout + done.stderr
    return done


@pytest.mark.long
async def test_the_password_of_a_database_in_use_is_in_its_connection_file_only(
    folder: Path, postgres: Cluster
) -> None:
    """Here for a user who may not create schemas, but owns those of the project."""
    url = user_without_rights(postgres)
    user = url.partition("://")[2].partition(":")[0]
    name = f"shop_{user}"
    postgres.database(name)
    schemas = ("durable_workflows_project", "dbos_project")
    postgres.execute(
        *(f"create schema {schema} authorization {user}" for schema in schemas), database=name
    )
    url = url.replace("/shop", f"/{name}")
    for command in (["bootstrap"], ["status", "--json"]):
        assert (await run(command, folder, url)).returncode == 0
    for process in processes_of(folder):
        assert SECRET not in " ".join(command_of(process))
    assert_no_secret_in(folder)
    connection_file = folder / ".dbos" / "connection.json"
    assert SECRET in connection_file.read_text(encoding="utf-8")
    assert connection_file.stat().st_mode & 0o077 == 0

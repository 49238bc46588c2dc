"""A client's messages can end only that client: never the process, and never the state of other clients."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg
import pytest

from database.fronts import (
    CLIENT_HELLO,
    Front,
    bare_socket,
    copy_of_pristine,
    eventually,
    own_front,
    read_to_end,
)
from database.wire import FLUSH, SYNC, bind, logged_in, message, parse, query
from requirements import proves

BAD = "SELEC"


@pytest.fixture(scope="module")
def small(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front of this file's own, which some tests hurt. `front` has seen to it that there is something to copy."""
    data = copy_of_pristine(tmp_path_factory.mktemp("shared-boundary") / "pgdata")
    with own_front(data, max_guests=4, max_message_bytes=1 << 20) as (own, process):
        yield own
        assert process.poll() is None


@proves("database:one-client-cannot-end-it")
@pytest.mark.parametrize(
    "sent",
    [
        message("Q", b"SELECT 1"),
        message("Q", b"SELECT 1\0\0"),
        message("Q"),
        message("P", "name", "SELECT 1"),
        message("P", "", "SELECT $1", 2, b"\0\0\0\x17"),
        message("P", "", "SELECT 1", -1),
        message("B", "", "", 0, 1, struct.pack("!i", 1_000_000), b"short", 0),
        message("B", "", "", 0, 1, struct.pack("!i", -2), 0),
        message("B", "", "", 5),
        message("D", b"X", "name"),
        message("D", b"S"),
        message("C", b"Sname"),
        message("E", "", b"\0"),
        message("E", b"no end"),
        message("S", b"more"),
        message("H", b"more"),
        message("f", b"no end"),
        message("c", b"more"),
        message("p", "password"),
        b"\xff\x00\x00\x00\x04",
        b"Q\xff\xff\xff\xff",
        b"Q\x00\x00\x00\x00",
    ],
)
def test_a_malformed_message_ends_only_the_client_that_sent_it(
    front: Front, db: psycopg.Connection, sent: bytes
) -> None:
    with logged_in(front) as wire:
        wire.send(sent)
        assert b"SFATAL\0VFATAL\0C" in (answer := read_to_end(wire.socket))
        assert b"C08P01" in answer or b"C54000" in answer
    assert db.execute("SELECT 1").fetchone() == (1,)


@proves("database:one-client-cannot-end-it")
@pytest.mark.parametrize(
    "unit",
    [parse(BAD) + FLUSH, parse(BAD) + query("SELECT 1"), parse("SELECT 1") + bind("none") + FLUSH],
)
def test_after_an_error_the_turn_stays_with_its_client_until_the_sync(
    front: Front, unit: bytes
) -> None:
    with logged_in(front) as one, logged_in(front) as two:
        one.send(unit)
        while one.receive().kind != "E":
            pass
        two.send(query("SELECT 'not swallowed'"))
        two.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            two.socket.recv(1, socket.MSG_PEEK)
        two.socket.settimeout(20)
        one.send(query("SELECT 'skipped'"), message("F", b"\0\0\0\1", 0, 0, 0))
        assert one.send(SYNC).kinds() == "Z"
        assert two.kinds() == "TDCZ"
        assert one.send(query("SELECT 1")).kinds() == "TDCZ"


def test_a_client_that_leaves_while_its_messages_are_skipped_gives_the_turn_on(
    front: Front, db: psycopg.Connection
) -> None:
    with logged_in(front) as wire:
        wire.send(parse(BAD), query("SELECT 1"))
        assert wire.receive().kind == "E"
    assert db.execute("SELECT 1").fetchone() == (1,)


@proves("database:one-client-cannot-end-it")
def test_a_client_that_is_put_out_by_what_it_sent_behind_its_unit_gives_the_turn_on(
    front: Front, db: psycopg.Connection
) -> None:
    with logged_in(front) as wire:
        wire.send(parse(BAD) + FLUSH + message("Q", b"no end"))
        read_to_end(wire.socket)
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_a_function_call_within_an_extended_query_ends_its_client(front: Front) -> None:
    with logged_in(front) as wire:
        wire.send(parse("SELECT 1"), message("F", b"\0\0\0\1", 0, 0, 0))
        assert b"C08P01" in read_to_end(wire.socket)


@proves("database:one-client-cannot-end-it")
def test_a_statement_that_ends_the_session_ends_its_client_and_others_keep_what_they_have(
    small: Front,
) -> None:
    with ExitStack() as stack:
        other, listener, culprit = (
            stack.enter_context(psycopg.connect(small.url, autocommit=True)) for _ in range(3)
        )
        other.execute("SET my.own = 'kept'")
        assert other.execute("SELECT %s::int", (1,), prepare=True).fetchone() == (1,)
        listener.execute("LISTEN kept")
        culprit.execute("SET exit_on_error = on")
        with pytest.raises(psycopg.Error):
            culprit.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.OperationalError):
            culprit.execute("SELECT 1")
        assert other.execute("SELECT %s::int", (2,), prepare=True).fetchone() == (2,)
        assert other.execute("SHOW my.own").fetchone() == ("kept",)
        other.execute("NOTIFY kept, 'heard'")
        assert [note.payload for note in listener.notifies(timeout=5, stop_after=1)] == ["heard"]


def test_what_was_not_committed_when_the_session_ended_is_undone_and_the_rest_is_there(
    small: Front,
) -> None:
    with psycopg.connect(small.url) as culprit:
        culprit.execute("CREATE TABLE survives (id int)")
        culprit.execute("INSERT INTO survives VALUES (1)")
        culprit.commit()
        culprit.execute("INSERT INTO survives VALUES (2)")
        culprit.execute("SET exit_on_error = on")
        with pytest.raises(psycopg.Error):
            culprit.execute("SELECT 1 / 0")
    with psycopg.connect(small.url) as other:
        assert other.execute("SELECT id FROM survives").fetchall() == [(1,)]


def test_a_message_that_is_too_large_is_an_error_that_its_client_can_read(small: Front) -> None:
    with (
        psycopg.connect(small.url, autocommit=True) as own,
        pytest.raises(psycopg.errors.ProgramLimitExceeded, match="more than 1048576 bytes"),
    ):
        own.execute("SELECT length(%s)", ("x" * (30 << 20),))


def test_those_who_do_not_log_in_keep_nobody_out(small: Front) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(bare_socket(small)) for _ in range(20)]
        for connection in silent[::2]:
            connection.sendall(CLIENT_HELLO)
        with psycopg.connect(small.url) as own:
            assert own.execute("SELECT 1").fetchone() == (1,)
        assert b"have not logged in" in read_to_end(silent[0])


@pytest.mark.parametrize("version", ["3.2", "latest"])
def test_a_client_that_asks_for_a_newer_protocol_is_told_the_one_that_there_is(
    front: Front, version: str
) -> None:
    hello = struct.pack("!ihh", 41, 3, 2) + CLIENT_HELLO[8:]
    with bare_socket(front) as connection:
        connection.sendall(hello)
        assert connection.recv(13) == b"v" + struct.pack("!iii", 12, 3 << 16, 0)
    if psycopg.pq.version() < 180_000:
        return
    with psycopg.connect(f"{front.url}&max_protocol_version={version}") as own:
        assert own.execute("SELECT 1").fetchone() == (1,)


def answers(front: Front) -> bool:
    try:
        with psycopg.connect(front.url) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


@pytest.mark.skipif(
    not hasattr(psutil.Process, "rlimit"), reason="limits of another process: Linux"
)
def test_connections_that_cannot_be_accepted_stop_nobody_and_do_not_fill_the_log(
    front: Front, tmp_path: Path
) -> None:
    with own_front(copy_of_pristine(tmp_path / "pgdata"), max_guests=1000) as (own, process):
        with psycopg.connect(own.url, autocommit=True) as before, ExitStack() as stack:
            node = psutil.Process(process.pid)
            before.execute("SELECT 1")
            node.rlimit(psutil.RLIMIT_NOFILE, (node.num_fds() + 20, 10_000))
            for _ in range(100):
                stack.enter_context(bare_socket(own))
            assert before.execute("SELECT 1").fetchone() == (1,)
        eventually(lambda: answers(own), "the next client is accepted", seconds=10)
    log = (tmp_path / "pglite.log").read_text(encoding="utf-8")
    assert len(log.splitlines()) < 10, log

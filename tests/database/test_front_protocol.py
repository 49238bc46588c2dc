"""Messages before the first statement, and messages that no ordinary client sends."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from database.fronts import (
    CLIENT_HELLO,
    Front,
    bare_socket,
    copy_of_pristine,
    own_front,
    read_to_end,
)
from database.wire import (
    EXECUTE,
    FLUSH,
    SYNC,
    bind,
    logged_in,
    message,
    parse,
    query,
)


@pytest.fixture(scope="module")
def strict(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front with narrow limits. `front` has seen to it that there is something to copy."""
    data = copy_of_pristine(tmp_path_factory.mktemp("shared-strict") / "pgdata")
    with own_front(
        data,
        max_connections=5,
        max_message_bytes=100_000,
        max_spool_bytes=8 << 20,
    ) as (own, _):
        yield own


@pytest.fixture(scope="module")
def hurried(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front that gives a login too little time, for clients that do not log in."""
    data = copy_of_pristine(tmp_path_factory.mktemp("shared-hurried") / "pgdata")
    with own_front(data, login_seconds=0.5) as (own, _):
        yield own


def test_a_wrong_password_is_refused_with_the_usual_code(front: Front) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(front.url.replace(front.password, "wrong"))


@pytest.mark.parametrize(
    ("part", "wrong", "problem"),
    [("//postgres:", "//nobody:", "role"), ("/postgres?", "/nothing?", "database")],
)
def test_a_user_or_database_that_is_not_there_is_named(
    front: Front, part: str, wrong: str, problem: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match=f'{problem} "no[a-z]+" does not exist'):
        psycopg.connect(front.url.replace(part, wrong))


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 20_000,
        CLIENT_HELLO + query("SELECT 1"),
        CLIENT_HELLO + message("p", "SCRAM-SHA-256", struct.pack("!i", 4), b"junk"),
        CLIENT_HELLO + message("p", "MD5"),
        CLIENT_HELLO + b"p\x00\x00\x00\x00",
    ],
    ids=["http", "zeros", "ones", "query", "junk", "mechanism", "length"],
)
def test_whatever_is_sent_before_the_login_closes_only_that_connection(
    front: Front, db: psycopg.Connection, bytes_sent: bytes
) -> None:
    with bare_socket(front) as connection:
        connection.sendall(bytes_sent)
        answer = read_to_end(connection)
    assert b"AuthenticationOk" not in answer
    assert db.execute("SELECT 1").fetchone() == (1,)


def test_a_login_may_take_so_much_time_and_no_more(hurried: Front) -> None:
    with bare_socket(hurried) as connection:
        assert b"login took too long" in read_to_end(connection)
    with bare_socket(hurried) as connection:
        connection.sendall(CLIENT_HELLO)
        assert b"login took too long" in read_to_end(connection)


def test_encryption_is_declined_and_a_cancel_request_ignored(front: Front) -> None:
    with bare_socket(front) as connection:
        connection.sendall(struct.pack("!ii", 8, 80877103))
        assert connection.recv(1) == b"N"
        connection.sendall(struct.pack("!iiii", 16, 80877102, 1, 2))
        assert read_to_end(connection) == b""


def test_more_connections_than_allowed_are_refused(strict: Front) -> None:
    held = [psycopg.connect(strict.url, autocommit=True) for _ in range(5)]
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            psycopg.connect(strict.url)
        assert held[0].execute("SELECT 1").fetchone() == (1,)
    finally:
        for connection in held:
            connection.close()


def test_a_message_that_is_too_long_closes_its_connection(strict: Front) -> None:
    with logged_in(strict) as wire:
        wire.send(b"Q" + struct.pack("!i", 100_001) + b"x" * 99_997)
        answer = read_to_end(wire.socket)
        assert b"C54000" in answer
    with psycopg.connect(strict.url) as other:
        assert other.execute("SELECT length(%s)", ("x" * 90_000,)).fetchone() == (90_000,)


def test_many_messages_without_a_sync_are_bounded_too(strict: Front) -> None:
    with logged_in(strict) as wire:
        wire.send(*(parse("SELECT 1" + " " * 1000) for _ in range(120)))
        assert b"C54000" in read_to_end(wire.socket)


@pytest.mark.parametrize(
    "sent", [b"!\x00\x00\x00\x04", b"Q\x00\x00\x00\x03", message("P", b"no end") + SYNC]
)
def test_a_malformed_message_closes_only_its_connection(
    front: Front, db: psycopg.Connection, sent: bytes
) -> None:
    with logged_in(front) as wire:
        wire.send(sent)
        assert b"C08P01" in read_to_end(wire.socket)
    assert db.execute("SELECT 1").fetchone() == (1,)


def test_a_function_call_is_refused_and_the_client_goes_on(front: Front) -> None:
    with logged_in(front) as wire:
        assert wire.send(message("F", b"\0\0\0\1", 0, 0, 0)).kinds() == "EZ"
        assert wire.send(query("SELECT 1")).kinds() == "TDCZ"


def test_after_a_flush_the_answer_comes_and_the_turn_is_kept(front: Front) -> None:
    with logged_in(front) as one, logged_in(front) as two:
        one.send(parse("SELECT 1"), bind(), EXECUTE, FLUSH)
        assert [one.receive().kind for _ in range(4)] == ["1", "2", "D", "C"]
        two.send(query("SELECT 2"))
        two.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            two.socket.recv(1, socket.MSG_PEEK)
        assert one.send(SYNC).kinds() == "Z"
        two.socket.settimeout(20)
    with logged_in(front) as three:
        assert three.send(query("SELECT 3")).kinds() == "TDCZ"


def test_work_after_a_flush_is_undone_when_the_client_leaves_before_its_sync(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    with logged_in(front) as wire:
        wire.send(parse(f"INSERT INTO {table} VALUES (1, 'x')"), bind(), EXECUTE, FLUSH)
        assert [wire.receive().kind for _ in range(3)] == ["1", "2", "C"]
    assert db.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)


def test_the_unnamed_statement_of_one_client_is_never_anothers(front: Front) -> None:
    with logged_in(front) as one, logged_in(front) as two:
        assert one.send(parse("SELECT 'one'"), SYNC).kinds() == "1Z"
        assert two.send(parse("SELECT 'two'"), SYNC).kinds() == "1Z"
        answer = one.send(bind(), EXECUTE, SYNC).until_ready()
        assert [part.kind for part in answer if part.kind != "S"] == ["2", "D", "C", "Z"]
        assert next(part.body for part in answer if part.kind == "D").endswith(b"one")
        with logged_in(front) as three:
            assert three.send(bind(), EXECUTE, SYNC).kinds() == "EZ"


def test_a_statement_sent_just_before_the_goodbye_is_carried_out(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    with logged_in(front) as wire:
        wire.send(query(f"INSERT INTO {table} VALUES (1, 'x')"), message("X"))
        read_to_end(wire.socket)
    assert db.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1,)


def test_copy_data_outside_of_a_copy_are_ignored(front: Front) -> None:
    with logged_in(front) as wire:
        assert wire.send(message("d", b"1\t2\n"), message("c"), query("SELECT 1")).kinds() == "TDCZ"


def test_messages_may_come_byte_by_byte(front: Front) -> None:
    with logged_in(front) as wire:
        for byte in parse("SELECT 1") + bind() + EXECUTE + SYNC:
            wire.socket.sendall(bytes([byte]))
        assert wire.kinds() == "12DCZ"


def test_results_that_nobody_reads_are_kept_up_to_a_bound(strict: Front, tmp_path: Path) -> None:
    with logged_in(strict) as wire:
        wire.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 40000)"))
        with psycopg.connect(strict.url) as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
        assert len(read_to_end(wire.socket)) < 40_000_000

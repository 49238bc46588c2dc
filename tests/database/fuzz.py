"""Random clients of the front: valid, damaged and senseless messages, in any order, cut anywhere. `python -m database.fuzz URL SECONDS`."""

import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import psycopg

from database.fronts import CLIENT_HELLO, Front
from database.wire import EXECUTE, FLUSH, SYNC, bind, logged_in, message, parse, query

STATEMENTS = [
    "SELECT 1",
    "SELECT $1::int",
    "SELEC",
    "SELECT 1 / 0",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "INSERT INTO fuzz VALUES (1)",
    "COPY fuzz FROM STDIN",
    "COPY fuzz TO STDOUT",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "LISTEN a",
    "NOTIFY a, 'x'",
    "UNLISTEN *",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "SET work_mem = '5MB'",
    "SET client_encoding = 'LATIN1'",
    "SET SESSION AUTHORIZATION pg_read_all_data",
    "DECLARE c CURSOR FOR SELECT 1",
    "DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$",
    "SELECT repeat('[', 60000)::json",
    "SELECT convert_to('é', 'SJIS')",
    "SELECT 1; SELECT 2; LISTEN b",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "SELECT repeat('x', 100000)",
    "CREATE TEMP TABLE t (id int)",
    "SELECT pg_advisory_lock(1)",
    "",
    ";;",
    "/* 'a",
    "SELECT $$",
]
KINDS = b"BCDEFHPQSXcdfp!\x00\xff"

Client = Callable[[random.Random, Front], None]


def random_message(chance: random.Random) -> bytes:
    """A message as a client might send it."""
    sql = chance.choice(STATEMENTS)
    name = chance.choice(["", "", "a", "b"])
    made: list[bytes] = [
        query(sql),
        parse(sql, name),
        bind(name),
        message("B", "", name, 0, 1, struct.pack("!i", 1), b"7", 0),
        EXECUTE,
        SYNC,
        SYNC,
        FLUSH,
        message("D", b"S", name),
        message("D", b"P", ""),
        message("C", b"S", name),
        message("d", b"1\n"),
        message("c"),
        message("f", "no more"),
        message("F", b"\0\0\0\1", 0, 0, 0),
        message("X"),
    ]
    return chance.choice(made[:-1]) if chance.random() < 0.97 else made[-1]


def damaged(chance: random.Random, sent: bytes) -> bytes:
    """The message with some bytes changed, left out or put in; mostly as long as it says."""
    body = bytearray(sent[5:])
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(body))
        body[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
    kind = sent[:1] if chance.random() < 0.8 else bytes([chance.choice(KINDS)])
    length = len(body) + 4 if chance.random() < 0.8 else chance.randrange(2**32)
    return kind + struct.pack("!I", length) + bytes(body)


def logged_in_client(chance: random.Random, front: Front) -> None:
    """One that knows the password, and then says anything."""
    with logged_in(front) as wire:
        for _ in range(chance.randint(1, 25)):
            sent = random_message(chance)
            if chance.random() < 0.1:
                sent = damaged(chance, sent)
            cut = chance.randint(0, len(sent)) if chance.random() < 0.2 else len(sent)
            wire.socket.sendall(sent[:cut])
            wire.socket.sendall(sent[cut:])
            if chance.random() < 0.2:
                read_some(wire.socket)
        read_some(wire.socket)


def stranger(chance: random.Random, front: Front) -> None:
    """One that does not know the password."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as connection:
        hello = CLIENT_HELLO if chance.random() < 0.7 else damaged_hello(chance)
        connection.sendall(hello)
        if chance.random() < 0.7:
            connection.sendall(damaged(chance, message("p", "SCRAM-SHA-256", b"\0\0\0\1n")))
        read_some(connection)


def damaged_hello(chance: random.Random) -> bytes:
    hello = bytearray(CLIENT_HELLO)
    for _ in range(chance.randint(1, 6)):
        hello[chance.randrange(len(hello))] = chance.randrange(256)
    return bytes(hello)


def read_some(connection: socket.socket) -> None:
    """The bytes that have arrived, without waiting for more: many messages have no answer."""
    connection.settimeout(0.005)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        pass
    finally:
        connection.settimeout(10)


def round_of(seed: int, front: Front) -> None:
    """One client, the same for each seed; then an ordinary one, which must find everything as it should be."""
    chance = random.Random(seed)
    client = logged_in_client if chance.random() < 0.8 else stranger
    with suppress(ConnectionError, AssertionError):  # it may be put out, as it should be
        client(chance, front)
    if seed % 5 == 0:
        look(front)


def look(front: Front) -> None:
    with psycopg.connect(front.url, autocommit=True, connect_timeout=30) as other:
        found = other.execute(
            "SELECT current_user, session_user, current_setting('work_mem'), coalesce(current_setting('a.b', true), ''), %s::int",
            (7,),
        ).fetchone()
    assert found == ("postgres", "postgres", "4MB", "", 7), found


def prepare(front: Front) -> None:
    with psycopg.connect(front.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS fuzz (id int)")


def main() -> None:
    url, seconds, first = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    parts = urlsplit(url)
    assert parts.port is not None
    front = Front(url=url, pid=0, port=parts.port, password=parts.password or "")
    prepare(front)
    end = time.monotonic() + seconds
    seed = first
    while time.monotonic() < end:
        round_of(seed, front)
        seed += 1
    sys.stdout.write(f"{seed - first} clients\n")


if __name__ == "__main__":
    main()

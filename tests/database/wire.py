"""A PostgreSQL client of bare messages, to say things that no library would."""

import base64
import hashlib
import hmac
import secrets
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from database.fronts import CLIENT_HELLO, Front, bare_socket


@dataclass(frozen=True)
class Message:
    kind: str
    body: bytes


class Wire:
    """A logged-in connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._stream = connection.makefile("rb")

    def send(self, *messages: bytes) -> Self:
        self.socket.sendall(b"".join(messages))
        return self

    def receive(self) -> Message:
        kind = self._stream.read(1)
        assert kind, "the front has closed the connection"
        (length,) = struct.unpack("!i", self._stream.read(4))
        return Message(kind.decode(), self._stream.read(length - 4))

    def until_ready(self) -> list[Message]:
        """The messages up to the next ReadyForQuery."""
        messages = [self.receive()]
        while messages[-1].kind != "Z":
            messages.append(self.receive())
        return messages

    def kinds(self) -> str:
        """The letters of the messages up to the next ReadyForQuery, but those that tell parameters."""
        return "".join(message.kind for message in self.until_ready() if message.kind != "S")

    def close(self) -> None:
        self._stream.close()


def message(kind: str, *fields: str | bytes | int) -> bytes:
    body = b"".join(_field(field) for field in fields)
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def _field(field: str | bytes | int) -> bytes:
    if isinstance(field, str):
        return field.encode() + b"\0"
    return struct.pack("!h", field) if isinstance(field, int) else field


def parse(sql: str, name: str = "") -> bytes:
    return message("P", name, sql, 0)


def bind(name: str = "") -> bytes:
    return message("B", "", name, 0, 0, 0)


EXECUTE = message("E", "", b"\0\0\0\0")
SYNC = message("S")
FLUSH = message("H")


def query(sql: str) -> bytes:
    return message("Q", sql)


@contextmanager
def logged_in(front: Front) -> Generator[Wire]:
    """A client of bare messages that has proved itself."""
    with bare_socket(front) as connection:
        connection.sendall(CLIENT_HELLO)
        wire = Wire(connection)
        try:
            _prove(wire, front.password)
            wire.until_ready()
            yield wire
        finally:
            wire.close()


def _prove(wire: Wire, password: str) -> None:
    assert wire.receive().kind == "R"
    first = f"n=,r={secrets.token_hex(9)}"
    wire.send(
        message("p", "SCRAM-SHA-256", struct.pack("!i", len(first) + 3), f"n,,{first}".encode())
    )
    server_first = wire.receive().body[4:].decode()
    nonce, salt, iterations = (part[2:] for part in server_first.split(","))
    salted = hashlib.pbkdf2_hmac(
        "sha256", password.encode(), base64.b64decode(salt), int(iterations)
    )
    final = f"c=biws,r={nonce}"
    covered = f"{first},{server_first},{final}".encode()
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), covered, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    wire.send(message("p", f"{final},p={proof}".encode()))
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    expected = base64.b64encode(hmac.digest(server_key, covered, "sha256")).decode()
    assert wire.receive().body[4:].decode() == f"v={expected}", (
        "the server does not know the password"
    )

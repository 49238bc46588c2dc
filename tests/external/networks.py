"""A network of its own for a machine, whose only way out leads to a port of this machine, and can be cut."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_SECONDS = 20.0
# Listens in the network that it was started in, and connects in that of its parent: sockets stay where they were made.
_RELAY = """
import ctypes, os, socket, sys, threading

def pump(one, other):
    while data := one.recv(65536):
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)

def relay(client, port):
    server = socket.create_connection(("127.0.0.1", port))
    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)

port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", port))
parents = os.open(f"/proc/{os.getppid()}/ns/net", os.O_RDONLY)
assert ctypes.CDLL(None).setns(parents, 0) == 0
print("listening", flush=True)
while True:
    client, _ = listener.accept()
    threading.Thread(target=relay, args=(client, port), daemon=True).start()
"""


@dataclass(frozen=True)
class Network:
    """The network that a process is in."""

    pid: int

    @property
    def within(self) -> Sequence[str]:
        """A command that runs another one in it."""
        return ["nsenter", "--target", str(self.pid), "--net"]

    def cut(self) -> None:
        """Let nothing through any more; no connection is closed."""
        subprocess.run([*self.within, "ip", "link", "set", "lo", "down"], check=True)

    def mend(self) -> None:
        """Let everything through again."""
        subprocess.run([*self.within, "ip", "link", "set", "lo", "up"], check=True)


@cache
def _why_not() -> str:
    try:
        command = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no unshare here"
    return tried.stderr.strip() if tried.returncode else ""


@contextmanager
def network_with(port: int) -> Generator[Network]:
    """A network in which this port leads to the same port of this machine, and nothing else leads anywhere."""
    if reason := _why_not():
        pytest.skip(f"no network namespace can be made: {reason}")
    with _ending(["unshare", "--net", "sleep", "infinity"]) as holder:
        _wait_until_apart(holder.pid)
        network = Network(holder.pid)
        network.mend()
        with _ending([*network.within, sys.executable, "-c", _RELAY, str(port)]) as relay:
            assert relay.stdout is not None
            assert relay.stdout.readline() == b"listening\n"
            yield network


@contextmanager
def _ending(command: Sequence[str]) -> Generator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_until_apart(pid: int) -> None:
    deadline = time.monotonic() + _SECONDS
    ours = os.readlink("/proc/self/ns/net")
    while Path(f"/proc/{pid}/ns/net").readlink() == Path(ours):
        assert time.monotonic() < deadline
        time.sleep(0.01)

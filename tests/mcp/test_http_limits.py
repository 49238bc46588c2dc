"""Who has no token can neither lock out those who have it, nor fill the disk with complaints."""

import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psutil
import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.mcp.http_connections import REQUEST_SECONDS, most_connections
from durable_workflows.settings import Settings
from helpers import until
from transports import Served, serving

pytestmark = pytest.mark.anyio
OUT_OF_THEM = "socket.accept() out of system resource"


@pytest.fixture
async def served(shared: Engine) -> AsyncGenerator[Served]:
    """A server of the shared project, for one test."""
    with serving(Settings(project=shared.project)) as served:
        yield served


@contextmanager
def strangers(served: Served, count: int, text: bytes = b"") -> Generator[list[socket.socket]]:
    """So many connections that have sent the text and no more."""
    where = urlsplit(served.url)
    with ExitStack() as stack:
        found: list[socket.socket] = []
        for _ in range(count):
            one = socket.create_connection((where.hostname, where.port), timeout=10)
            found.append(stack.enter_context(one))
            one.sendall(text)
        yield found


def is_closed(one: socket.socket) -> bool:
    """Whether the server has ended the connection; it may have answered before."""
    one.settimeout(0.01)
    try:
        return one.recv(4096) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.long
async def test_many_idle_connections_lock_nobody_out(served: Served) -> None:
    most = most_connections()
    with strangers(served, most + 100, b"POST /mcp HTTP/1.1\r\n") as idle:
        assert (await served.post()).status_code == 200
        kept = psutil.Process(served.process.pid).net_connections("tcp")
        assert len([one for one in kept if one.raddr and one.status == "ESTABLISHED"]) <= most + 5
        assert is_closed(idle[0])  # the oldest has gone


@pytest.mark.long
async def test_connections_without_a_request_are_ended_in_time(served: Served) -> None:
    head = b"POST /mcp HTTP/1.1\r\nHost: x\r\n"
    answered = b"GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n"
    never_whole = head + b"Content-Length: 100000\r\n\r\n"

    def dripped(slow: socket.socket) -> bool:
        try:
            slow.sendall(b"x")
        except ConnectionError:
            return True
        return is_closed(slow)

    with (
        strangers(served, 1) as [silent],
        strangers(served, 1, head) as [half],
        strangers(served, 1, answered) as [idle],
        strangers(served, 1, never_whole) as [slow],
    ):
        seconds = REQUEST_SECONDS + 10
        for one in (silent, half, idle):
            await until(lambda: is_closed(one), "it is ended", seconds=seconds)  # noqa: B023
        await until(lambda: dripped(slow), "it is ended", seconds=seconds)
    assert (await served.post()).status_code == 200


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_NOFILE"), reason="limits of others: Linux only")
async def test_a_server_without_descriptors_says_so_once_and_goes_on_later(served: Served) -> None:
    assert (await served.post()).status_code == 200
    assert served.process.stderr is not None
    process = psutil.Process(served.process.pid)
    soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), hard))
    with strangers(served, 50):
        said = ""
        while OUT_OF_THEM not in said:  # the engine may be starting, and lack some, too
            said += served.process.stderr.readline()
        process.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
        assert (await served.post()).status_code == 200
    served.process.kill()
    said += served.process.stderr.read()
    assert said.count(OUT_OF_THEM) == 1

"""Restate: https://restate.dev."""

import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from tests.bench.children import child
from tests.bench.contenders import Contender, Kind

from . import npm
from .peer import ROOT, SECONDS, Peer

_NODE = "bench"  # the name of the server's folder
# It has no ports, so only this machine can reach it. Its log goes to standard error, which is kept.
_SERVER = 'RESTATE_DISABLE_TELEMETRY=true exec "$0" --listen-mode unix --node-name "$1" --base-dir "$2" >&2'

_UNLIKE = (
    "a server with a store of its own calls the worker, in Python, for as many runs at once as there are. "
    "It syncs its log to the disk, as Postgres does. A message is a call of another handler, which resolves a durable promise; "
    "the wait for it has no timeout. The server has Unix sockets in place of ports."
)


def restate() -> Kind:
    """Restate's server and a worker."""
    return Kind("restate", "Restate", _restate, _UNLIKE)


class _Restate(Peer):
    def __init__(self, ingress: httpx2.AsyncClient, pids: list[int]) -> None:
        super().__init__(pids)
        self._ingress = ingress

    async def start(self, workflow: str, **arguments: Any) -> str:
        workflow_id = f"{workflow}/{uuid.uuid4()}"
        await _done(self._ingress.post(f"/{workflow_id}/run/send", json=arguments))
        return workflow_id

    async def result(self, workflow_id: str) -> Any:
        answer = await _done(self._ingress.get(f"/restate/workflow/{workflow_id}/attach"))
        return answer.json() if answer.content else None

    async def signal(self, workflow_id: str, number: int, message: str) -> None:
        body = {"number": number, "text": message}
        await _done(self._ingress.post(f"/{workflow_id}/deliver/send", json=body))


@asynccontextmanager
async def _restate(folder: Path) -> AsyncGenerator[Contender]:
    [program] = npm.MODULES.glob("@restatedev/restate-server-*/bin/restate-server")
    server = ["sh", "-c", _SERVER, str(program), _NODE, str(folder)]
    worker = [sys.executable, "-m", f"{__package__}.restate_host"]
    sockets = folder / _NODE
    async with (
        child(worker, log=folder / "host.log", folder=ROOT) as host,
        child(server, log=folder / "server.log", folder=folder, terminate=True) as started,
        _client(sockets / "admin.sock") as admin,
        _client(sockets / "ingress.sock") as ingress,
    ):
        url = (await host.read_line()).strip()
        for client, path in ((admin, "/health"), (ingress, "/restate/health")):
            await _answers(client, path)
        await _done(admin.post("/deployments", json={"uri": url}))
        yield _Restate(ingress, [started.pid, host.pid])


def _client(path: Path) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(uds=str(path))
    return httpx2.AsyncClient(transport=transport, base_url="http://restate", timeout=SECONDS)


async def _answers(client: httpx2.AsyncClient, path: str) -> None:
    with anyio.fail_after(SECONDS):
        while True:
            try:
                if (await client.get(path)).is_success:
                    return
            except httpx2.TransportError:
                pass
            await anyio.sleep(0.02)


async def _done(request: Awaitable[httpx2.Response]) -> httpx2.Response:
    answer = await request
    assert answer.is_success, answer.text
    return answer

"""openworkflow, on a Postgres of its own: https://openworkflow.dev."""

import functools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.bench.children import Child, child
from tests.bench.contenders import Contender, Kind
from tests.native import Cluster

from durable_workflows.pglite.node import node

from . import npm
from .peer import SECONDS, Peer

_UNLIKE = (
    "its worker is in Node, and does ten runs at once: one is its default, ten is what its documentation says to start with. "
    "It looks for runs after 0.05 to 1 s, the later the longer there was none. Its client is one more process of Node: what that uses "
    "is not counted, the way to it is. A message that no run waits for is lost: the client sends it until a run does."
)


def openworkflow(cluster: Cluster) -> Kind:
    """Openworkflow on a native Postgres."""
    return Kind("openworkflow", "openworkflow", functools.partial(_openworkflow, cluster), _UNLIKE)


class _OpenWorkflow(Peer):
    def __init__(self, client: Child, pid: int, cluster: Cluster) -> None:
        super().__init__([pid], cluster)
        self._client = client

    async def start(self, workflow: str, **arguments: Any) -> str:
        return await self._call("start", workflow, arguments)

    async def result(self, workflow_id: str) -> Any:
        return await self._call("result", workflow_id)

    async def signal(self, workflow_id: str, number: int, message: str) -> None:
        await self._call("send", f"{workflow_id}:{number}", message)

    async def _call(self, name: str, *arguments: Any) -> Any:
        await self._client.write_line(json.dumps([name, *arguments]))
        return json.loads(await self._client.read_line(SECONDS))


@asynccontextmanager
async def _openworkflow(cluster: Cluster, folder: Path) -> AsyncGenerator[Contender]:
    command = [str(node()), str(npm.FOLDER / "openworkflow.mjs"), cluster.database(folder.name)]
    async with child([*command, "worker"], log=folder / "worker.log", folder=folder) as worker:
        await worker.read_line()  # it has made its tables
        async with child([*command, "client"], log=folder / "client.log", folder=folder) as client:
            await client.read_line()
            yield _OpenWorkflow(client, worker.pid, cluster)

"""absurd, on a Postgres of its own: https://github.com/earendil-works/absurd."""

import functools
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL  # pyright: ignore[reportMissingTypeStubs]
from tests.bench.children import child
from tests.bench.contenders import Contender, Kind
from tests.native import Cluster

from .peer import ROOT, SECONDS, Peer

_QUEUE = "default"

_UNLIKE = (
    "its worker, in Python, does one run at a time, and looks for the next every 0.25 s when there was none. "
    "A run that waits for a message leaves the worker, and is such a next run when the message is there."
)


def absurd(cluster: Cluster) -> Kind:
    """Absurd on a native Postgres."""
    return Kind("absurd", "absurd", functools.partial(_absurd, cluster), _UNLIKE)


class _Absurd(Peer):
    def __init__(self, client: AsyncAbsurd, pid: int, cluster: Cluster) -> None:
        super().__init__([pid], cluster)
        self._client = client

    async def start(self, workflow: str, **arguments: Any) -> str:
        return str((await self._client.spawn(workflow, arguments, queue=_QUEUE))["task_id"])

    async def result(self, workflow_id: str) -> Any:
        ended = await self._client.await_task_result(workflow_id, timeout=SECONDS)
        assert ended.state == "completed", ended
        return ended.result

    async def signal(self, workflow_id: str, number: int, message: str) -> None:
        await self._client.emit_event(f"{workflow_id}:{number}", message)


@asynccontextmanager
async def _absurd(cluster: Cluster, folder: Path) -> AsyncGenerator[Contender]:
    url = cluster.database(folder.name)
    client = AsyncAbsurd(url)
    try:
        await _prepare(client, cluster, folder)
        command = [sys.executable, "-m", f"{__package__}.absurd_host", url]
        async with child(command, log=folder / "host.log", folder=ROOT) as host:
            await host.read_line()
            yield _Absurd(client, host.pid, cluster)
    finally:
        await client.close()


async def _prepare(client: AsyncAbsurd, cluster: Cluster, folder: Path) -> None:
    """Install its schema at the first start, as its tool `absurdctl init` does."""
    prepared = folder / "prepared"
    if not prepared.exists():
        cluster.execute(BUNDLED_SCHEMA_SQL, database=folder.name)
        await client.create_queue()
        prepared.touch()

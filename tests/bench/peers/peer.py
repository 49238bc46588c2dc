"""What all peers have in common."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from tests.native import Cluster

ROOT = Path(__file__).parents[3]  # from where `tests` can be imported
SECONDS = 120.0  # for any one run


class Peer(ABC):
    """A contender that starts and awaits one run at a time; `pids` are its processes, beside those of its Postgres."""

    def __init__(self, pids: Sequence[int], cluster: Cluster | None = None) -> None:
        self._pids = pids
        self._cluster = cluster
        self._sent: Counter[str] = Counter()

    @abstractmethod
    async def start(self, workflow: str, **arguments: Any) -> str:
        """See Contender."""

    @abstractmethod
    async def result(self, workflow_id: str) -> Any:
        """Wait for a run; return what it returned."""

    @abstractmethod
    async def signal(self, workflow_id: str, number: int, message: str) -> None:
        """Give a run its message of this number. No peer has topics: each message has a name of its own."""

    async def start_many(self, workflow: str, count: int) -> Sequence[str]:
        """See Contender."""
        return [await self.start(workflow) for _ in range(count)]

    async def results(self, workflow_ids: Sequence[str]) -> list[Any]:
        """See Contender."""
        return [await self.result(workflow_id) for workflow_id in workflow_ids]

    async def send(self, workflow_id: str, message: str) -> None:
        """See Contender."""
        number = self._sent[workflow_id]
        self._sent[workflow_id] += 1
        await self.signal(workflow_id, number, message)

    def processes(self) -> list[psutil.Process]:
        """See Contender."""
        server = self._cluster.processes() if self._cluster else []
        return [*map(psutil.Process, self._pids), *server]

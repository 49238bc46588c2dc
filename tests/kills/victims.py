"""Kills what belongs to some projects and to a test's own Postgres, again and again."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

import native
from helpers import processes_of, until
from kills.ledger import Ledger
from kills.traffic import Traffic

logger = logging.getLogger(__name__)
Kill = Callable[[], Awaitable[int]]  # returns how many processes it has killed

_CALL_SECONDS = 1.0  # to wait for a call of the MCP server
_RECOVERY_SECONDS = 6.0  # to wait for something to go on
_PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)  # after that, in seconds


class Killer:
    """Kills at random moments, mostly once what was killed before has recovered."""

    def __init__(
        self,
        directories: Sequence[Path],
        postgres: native.Cluster | None,
        traffic: Traffic,
        ledger: Ledger,
    ) -> None:
        self._directories = directories
        self._postgres = postgres
        self._traffic = traffic
        self._ledger = ledger
        self._chance = traffic.chance("kills")
        self.killed: Counter[str] = Counter()

    async def kill(self, count: int) -> None:
        """Kill so many processes."""
        kinds = self._kinds()
        names = [name for name, (weight, _) in kinds.items() for _ in range(weight)]
        while self.killed.total() < count:
            name = self._chance.choice(names)
            found = await kinds[name][1]()
            self.killed[name] += found
            logger.warning("killed: %s, %s", name, found)
            if found and name != "MCP server":
                await self._until_something_goes_on()
                await anyio.sleep(self._chance.choice(_PAUSES))

    def _kinds(self) -> dict[str, tuple[int, Kill]]:
        """How often each kind is killed, and how."""
        own: dict[str, tuple[int, Kill]] = {
            "worker": (5, lambda: self._kill_one("worker")),
            "supervisor": (1, lambda: self._kill_one("supervisor")),
            "MCP server": (3, self._kill_in_call),
            "all of a machine": (2, self._kill_machine),
        }
        if self._postgres is None:
            return {**own, "database": (2, lambda: self._kill_one("pglite.mjs"))}
        return {**own, "backend": (3, self._kill_backend), "postmaster": (1, self._kill_postmaster)}

    async def _until_something_goes_on(self) -> None:
        size = self._ledger.size()
        with suppress(AssertionError):  # one more kill in mid-recovery, then
            await until(lambda: self._ledger.size() > size, "it goes on", seconds=_RECOVERY_SECONDS)

    async def _kill_one(self, role: str) -> int:
        found = [one for folder in self._directories for one in processes_of(folder, role)]
        return _killed(self._chance.sample(found, min(1, len(found))))

    async def _kill_in_call(self) -> int:
        with anyio.move_on_after(_CALL_SECONDS):
            await self._traffic.calling.wait()
            await anyio.sleep(self._chance.uniform(0, 0.02))
            return await self._kill_one("serve")
        return 0

    async def _kill_machine(self) -> int:
        return _killed(processes_of(self._chance.choice(self._directories)))

    async def _kill_backend(self) -> int:
        """The server ends all the others, and starts again. Without its startup process it ends."""
        assert self._postgres is not None
        _, *backends = self._postgres.processes()
        victims = self._chance.sample(backends, min(1, len(backends)))
        ends = any(map(_recovers, victims))
        count = _killed(victims)
        if ends:
            await self._kill_postmaster()
        return count

    async def _kill_postmaster(self) -> int:
        assert self._postgres is not None
        await anyio.to_thread.run_sync(self._postgres.kill)
        await anyio.sleep(self._chance.choice(_PAUSES))
        await anyio.to_thread.run_sync(self._postgres.start)
        return 1


def _recovers(process: psutil.Process) -> bool:
    """Whether it is the process of a Postgres that recovers the database."""
    with suppress(psutil.NoSuchProcess):
        return any("startup" in word for word in process.cmdline())
    return False


def _killed(victims: Iterable[psutil.Process]) -> int:
    count = 0
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            count += 1
    return count

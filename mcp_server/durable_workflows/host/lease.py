"""The lease of this worker: its signs of life, from a thread and on a connection of their own, so that no busy step or event loop keeps them back.

After each of them it takes over the runs of workers that have given none for too long.
"""

import logging
import threading

import anyio

from durable_workflows.database import leases, tables
from durable_workflows.settings import Database

_ANSWER_SECONDS = 10.0  # for a connection, and for a statement
_AGAIN_SECONDS = 1.0
_MOST_RUNS = 1000  # taken over at a time: the next sign of life must not be late

logger = logging.getLogger(__name__)


class Lease:
    """See `leases.Lease` of the patches. It is held from the first sign of life after `begin`."""

    def __init__(self, database: Database, executor_id: str) -> None:
        self._database = database
        self._executor_id = executor_id
        self._changed = threading.Condition()
        self._written_at: float | None = None  # by the clock of `leases.now`

    def begin(self) -> None:
        """Give signs of life from now on, as long as this process lives. The worker must have announced itself."""
        threading.Thread(target=anyio.run, args=[self.keep], name="lease", daemon=True).start()

    def is_held(self) -> bool:
        """Whether a sign of life was written lately enough: no other worker can take over the runs of this one yet."""
        written_at = self._written_at
        return written_at is not None and leases.now() - written_at < leases.HELD_SECONDS

    def wait_until_held(self) -> None:
        """Return when it is held."""
        with self._changed:
            self._changed.wait_for(self.is_held)

    async def keep(self) -> None:
        """What the thread of `begin` does, forever."""
        while True:
            try:
                await self._keep_on_one_connection()
            except (tables.Error, OSError) as error:  # also of a time limit
                logger.info("No sign of life can be written: %s", error or type(error).__name__)
            await anyio.sleep(_AGAIN_SECONDS)

    async def _keep_on_one_connection(self) -> None:
        with anyio.fail_after(_ANSWER_SECONDS):
            connection = await tables.connect(self._database, role="lease")
        async with connection:
            while True:
                with anyio.fail_after(_ANSWER_SECONDS):
                    await self._renew(connection)
                with anyio.fail_after(_ANSWER_SECONDS):
                    await self._take_over(connection)
                await anyio.sleep(leases.BEAT_SECONDS)

    async def _renew(self, connection: tables.Connection) -> None:
        began = leases.now()  # the sign is at least as young as this
        about = {"executor_id": self._executor_id, "held": leases.HELD_SECONDS}
        if not await tables.run(connection, "renew_lease", **about):
            return  # this worker has given up its place, and is ending
        with self._changed:
            if not self.is_held():
                logger.info("The lease is held; steps may begin.")
            self._written_at = began
            self._changed.notify_all()

    async def _take_over(self, connection: tables.Connection) -> None:
        about = {"executor_id": self._executor_id, "seconds": leases.LOST_SECONDS}
        for row in await tables.fetch(connection, "take_over", **about, most=_MOST_RUNS):
            logger.warning("Took over %s runs of %s.", row["runs"], row["executor"])

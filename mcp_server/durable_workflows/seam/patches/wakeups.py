# pyright: reportPrivateUsage=false
"""Makes dbos's threads look only when there is something to do. In plain dbos each thread looks again and again."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import ParamSpec, TypeVar

import sqlalchemy.exc
from dbos import DBOS, Queue
from dbos import _dbos as dbos_module
from dbos import _queue as dbos_queue
from dbos import _sys_db as dbos_sys_db
from dbos import _workflow_commands as dbos_commands
from dbos._sys_db import SystemDatabase
from dbos._sys_db_postgres import PostgresSystemDatabase

from durable_workflows.seam import statements
from durable_workflows.seam.dbos_calls import instance
from durable_workflows.seam.patches.replacing import replace, replace_in_dbos

P = ParamSpec("P")
T = TypeVar("T")
_MANAGER = "\0"  # in place of a queue's name: the thread that starts the queues' threads
_JOBS = "\0jobs"  # the thread that starts delayed runs and ends runs whose time is over
_RETRIES = "\0retries"  # calls that wait for the database
_QUIET_SECONDS = 15.0  # the longest pause of every thread: a hint may be lost
_SOONEST_SECONDS = 0.1  # the shortest pause before another attempt at work that is due and failed
_DUE = """
SELECT min(at) FROM (
    SELECT min(delay_until_epoch_ms) AS at FROM {schema}.workflow_status WHERE status = 'DELAYED'
    UNION ALL
    SELECT min(workflow_deadline_epoch_ms) FROM {schema}.workflow_status
    WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED') AND workflow_deadline_epoch_ms IS NOT NULL
) AS due
"""


class Doorbell:
    """Wakes threads of dbos, which otherwise sleep for their interval. Each thread listens to a name, that of its queue."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings: Counter[str] = Counter()
        self._rings_for_all = 0
        self._listening: set[str] = set()

    def ring(self, queue: str) -> None:
        """Make the queue look now (again, if it is looking). If it has no thread here yet, another worker has registered it: make one."""
        with self._changed:
            self._rings[queue] += 1
            if queue not in self._listening:
                self._rings[_MANAGER] += 1
            self._changed.notify_all()

    def ring_soon(self, queue: str) -> None:
        """Make the queue look again in a moment."""
        timer = threading.Timer(_SOONEST_SECONDS, self.ring, [queue])
        timer.daemon = True
        timer.start()

    def ring_all(self) -> None:
        """Make every queue look now."""
        with self._changed:
            self._rings_for_all += 1
            self._changed.notify_all()

    def wait(self, queue: str, heard: int, timeout: float) -> int:
        """Sleep until the queue was rung more than `heard` times; return how often it was rung."""
        with self._changed:
            self._listening.add(queue)
            self._changed.wait_for(lambda: self._count(queue) > heard, timeout)
            return self._count(queue)

    def _count(self, queue: str) -> int:
        return self._rings[queue] + self._rings_for_all


class _Stop(threading.Event):
    """Replaces the stop event of a dbos thread, which uses its `is_set` and `wait`: the bell also ends a wait."""

    def __init__(
        self,
        stop: threading.Event,
        bell: Doorbell,
        name: str,
        seconds: Callable[[float], float] = float,
        woken: Callable[[str], object] = str,
    ) -> None:
        """`seconds` gives the length of a wait instead of dbos's; `woken` is called with the name after each wait."""
        super().__init__()
        self._stop = stop
        self._bell = bell
        self._name = name
        self._seconds = seconds
        self._woken = woken
        self._heard = 0

    def is_set(self) -> bool:
        return self._stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        seconds = self._seconds(_QUIET_SECONDS if timeout is None else timeout)
        self._heard = self._bell.wait(self._name, self._heard, seconds)
        self._woken(self._name)
        return self._stop.is_set()


def wake_queues(
    bell: Doorbell, looks: Callable[[str], object], *, internal_polling_seconds: float
) -> None:
    """Let `bell` wake every queue thread, and let each queue that this process registers wake the thread that starts these.

    dbos's internal queue also polls at the given interval. `looks` is called with the name of a queue before its thread looks for runs.
    """
    manage, work = dbos_queue.queue_thread, dbos_queue.queue_worker_thread

    def managed(stop: threading.Event, dbos: DBOS) -> None:
        manage(_Stop(stop, bell, _MANAGER, lambda _: _QUIET_SECONDS), dbos)

    def woken(stop: threading.Event, dbos: DBOS, queue: Queue) -> None:
        work(_Stop(stop, bell, queue.name, woken=looks), dbos, queue)

    def ringing(register: Callable[P, T]) -> Callable[P, T]:
        def registered(*given: P.args, **named: P.kwargs) -> T:
            found = register(*given, **named)
            bell.ring(_MANAGER)
            return found

        return registered

    replace_in_dbos(manage, managed)
    replace(dbos_queue, queue_worker_thread=woken)
    replace(SystemDatabase, upsert_queue=ringing(SystemDatabase.upsert_queue))
    registry = dbos_module._get_or_create_dbos_registry()
    registry.get_internal_queue()._polling_interval_sec = internal_polling_seconds


def look_when_due(bell: Doorbell) -> Callable[[], None]:
    """Start delayed runs, and end runs whose time is over, when the first of them is due.

    While runs are active in this process, look each second. Return a function to call when a run has entered a queue or waits for its time.
    For a
    process whose runs are handled by no other process.
    """
    jobs = dbos_commands.background_jobs_thread
    is_quiet = threading.Event()

    def seconds(wait: float) -> float:
        if wait <= 0:
            return wait
        is_quiet.set()  # before it looks: events during the look wake it
        found = _until_due(wait)
        if found <= wait:
            is_quiet.clear()
        return found

    def due(stop: threading.Event, dbos: DBOS) -> None:
        jobs(_Stop(stop, bell, _JOBS, seconds), dbos)

    def look() -> None:
        if is_quiet.is_set():
            is_quiet.clear()
            bell.ring(_JOBS)

    replace_in_dbos(jobs, due)
    return look


def retry_when_rung(bell: Doorbell) -> None:
    """Make a call that waits for the database try again as soon as the bell rings for all: this process has the database again then.

    dbos tries less and less often: after a longer outage a run would continue up to a minute and a half later.
    """

    def sleep(seconds: float) -> None:
        heard = bell.wait(_RETRIES, -1, 0.0)
        bell.wait(_RETRIES, heard, min(seconds, _QUIET_SECONDS))

    replace(dbos_sys_db, time=SimpleNamespace(**{**vars(time), "sleep": sleep}))


def notify_at_once() -> None:
    """Notify other processes of events and streams when one was written; dbos polls twenty times a second."""
    signal = PostgresSystemDatabase._signal_notification
    flush = PostgresSystemDatabase._flush_notifications
    written = threading.Event()

    def signalled(self: PostgresSystemDatabase, channel: str, payload: str) -> None:
        signal(self, channel, payload)
        written.set()

    def flushed(self: PostgresSystemDatabase) -> None:
        if self._run_background_processes:
            written.wait(_QUIET_SECONDS)
            written.clear()
        flush(self)

    replace(PostgresSystemDatabase, _signal_notification=signalled, _flush_notifications=flushed)


def _until_due(least: float) -> float:
    """How long to wait until a run is due: `least` seconds while runs are active here, since each may get a deadline."""
    dbos = instance()
    if dbos._active_workflows_set.activeList():
        return least
    try:
        [(at,)] = statements.run(dbos._sys_db, _DUE, {})
    except sqlalchemy.exc.DBAPIError:  # the jobs will report the error
        return least
    if at is None:
        return _QUIET_SECONDS
    return min(_QUIET_SECONDS, max(at / 1000 - time.time(), _SOONEST_SECONDS))

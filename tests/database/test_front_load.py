"""The front says when its one session is what clients wait for, and when it no longer is."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg

from database.fronts import copy_of_pristine, own_front
from durable_workflows.processes import crowding
from requirements import proves

WORK = """
do $$
declare until constant timestamptz := clock_timestamp() + make_interval(secs => {});
begin
    while clock_timestamp() < until loop end loop;
end
$$
"""


def work(connection: psycopg.Connection, seconds: float) -> None:
    """Let the database work for so long."""
    connection.execute(WORK.format(seconds).encode())


def said(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next thing that it says."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@proves("rung:suggested")
def test_the_front_says_when_clients_wait_for_its_session_and_not_for_a_short_burst(
    tmp_path: Path,
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    with (
        own_front(data, crowded_seconds=1) as (front, process),
        psycopg.connect(front.url, autocommit=True) as one,
        psycopg.connect(front.url, autocommit=True) as other,
    ):
        work(one, 0.3)
        one.execute("begin")
        one.execute("select 1")  # from here on it has the turn
        waiting = threading.Thread(target=other.execute, args=["select 1"])
        waiting.start()
        crowded = said(process)
        assert crowded["event"] == "crowded"
        assert crowded["blocked"] > 0.5, crowded  # nothing was said of the burst
        assert crowded["busy"] < 0.5, crowded
        one.execute("rollback")
        waiting.join()
        eased = said(process)
        assert (eased["event"], crowding.told(eased)) == ("eased", "")
        told = threading.Event()

        def work_on() -> None:  # a look also counts the pause before a statement
            while not told.is_set():
                work(one, 2.5)

        working = threading.Thread(target=work_on, daemon=True)
        working.start()
        busy = said(process)
        told.set()
        working.join()
        assert (busy["event"], busy["busy"] > 0.9) == ("crowded", True)
        words = crowding.told(busy)
        assert "`durable-workflows move --to postgres`" in words
        assert f"worked {100 * busy['busy']:.0f}% of the time" in words

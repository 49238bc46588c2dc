"""DBOS itself on the front: two processes, pools of ten, LISTEN/NOTIFY, many runs at once."""

from contextlib import ExitStack

import pytest

from database.fronts import Front, line_of, python_client

WORKER = """
import os, sys
from dbos import DBOS
from dbos._sys_db import SystemDatabase
from dbos._sys_db_postgres import PostgresSystemDatabase

# It holds a transaction open at all times, and here there is one session: nobody else would ever have a turn.
PostgresSystemDatabase.background_job_lock = SystemDatabase.background_job_lock

name = sys.argv[2]
DBOS(config={
    "name": "front", "system_database_url": sys.argv[1], "application_version": "1", "executor_id": name,
    "run_admin_server": False, "log_level": "ERROR", "use_listen_notify": True,
    "db_engine_kwargs": {"pool_pre_ping": False, "pool_size": 10, "connect_args": {"application_name": "durable-workflows test"}},
})
@DBOS.step()
def double(number: int) -> int:
    return 2 * number

@DBOS.workflow()
def run(number: int) -> str:
    value = double(double(double(number)))
    return f"{value} {DBOS.recv('go', timeout_seconds=60)}"

DBOS.launch()
queue = DBOS.register_queue("work", worker_concurrency=15, polling_interval_sec=0.05)
print("launched", flush=True)
if name == "starter":
    sys.stdin.readline()
    handles = [queue.enqueue(run, number) for number in range(100)]
    for number, handle in enumerate(handles):
        DBOS.send(handle.get_workflow_id(), f"message {number}", "go")
    results = [handle.get_result() for handle in handles]
    assert results == [f"{8 * number} message {number}" for number in range(100)], results
    steps = sum(len(DBOS.list_workflow_steps(handle.get_workflow_id())) for handle in handles)
    executors = sorted({status.executor_id for status in DBOS.list_workflows()})
    print("all right", executors, flush=True)
sys.stdin.readline()
DBOS.destroy()
"""


@pytest.mark.long
def test_two_processes_of_dbos_carry_out_a_hundred_runs_without_a_mistake(front: Front) -> None:
    with python_client(WORKER, front.url, "starter") as starter, ExitStack() as stack:
        assert line_of(starter) == "launched"  # and has made the tables
        helper = stack.enter_context(python_client(WORKER, front.url, "helper"))
        assert line_of(helper) == "launched"
        assert starter.stdin is not None
        starter.stdin.write("\n")
        starter.stdin.flush()
        assert line_of(starter) == "all right ['helper', 'starter']"
        for worker in (helper, starter):
            worker.communicate("\n", timeout=20)
            assert worker.returncode == 0

"""When the one session of the embedded database is what runs wait for, the status says so, and what to do."""

import threading
from pathlib import Path

import psycopg
import pytest

from durable_workflows.processes import lifecycle, problems
from durable_workflows.settings import Settings
from helpers import until
from requirements import proves

pytestmark = pytest.mark.anyio


@proves("rung:suggested")
@pytest.mark.long
@pytest.mark.timeout(400)
async def test_status_names_a_postgres_in_the_folder_while_clients_wait_for_the_one_session(
    folder: Path,
) -> None:
    """It takes two minutes, of which little is processor time."""
    settings = Settings(project=folder, idle_transaction_seconds=600)
    url = (await lifecycle.ensure_running(settings)).url

    def suggested() -> bool:
        found = problems.of_processes(settings, running=True)
        return any("move --to postgres" in problem for problem in found)

    with (
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url, autocommit=True) as other,
    ):
        assert not suggested()
        one.execute("begin")
        one.execute("select 1")
        waiting = threading.Thread(target=other.execute, args=["select 1"])
        waiting.start()
        await until(suggested, "the problem and the remedy are named", seconds=150)
        one.execute("rollback")
        waiting.join()
        await until(lambda: not suggested(), "it is over", seconds=150)

"""dbos's background jobs on a Postgres: once a second, by any one of the workers, and without a connection that is held for them."""

from collections.abc import Generator
from contextlib import contextmanager

from dbos._sys_db import SystemDatabase
from dbos._sys_db_postgres import PostgresSystemDatabase

from durable_workflows.seam import statements
from durable_workflows.seam.patches.replacing import replace

# A turn that was taken in the future is one of before the server's clock was set back. A row that is not due is not locked.
_TAKE = """
UPDATE {own}.turns SET taken_at = now()
WHERE name = 'background jobs' AND taken_at NOT BETWEEN now() - interval '0.9 seconds' AND now()
RETURNING 1
"""


def install(schema: str) -> None:
    """Change dbos for this process; `schema` has our own tables. Call it once, before `DBOS.launch()`.

    dbos holds a lock, and with it a connection and an open transaction, for as long as the process lives. The jobs are idempotent: what
    must not happen is only that each of many workers does them all the time.
    """
    take = _TAKE.replace("{own}", statements.quoted(schema))

    @contextmanager
    def turn(self: SystemDatabase, _job_name: str) -> Generator[bool]:
        yield bool(statements.run(self, take, {}))

    replace(PostgresSystemDatabase, background_job_lock=turn)
